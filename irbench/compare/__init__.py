"""Compare runs: what moved between two of them, by how much, why, and whether it matters."""
