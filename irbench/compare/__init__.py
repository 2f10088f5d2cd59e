"""Compare runs: what changed between them, by how much, why, and whether it is significant."""
