"""What a run will need, from what finished jobs took; ``estimate`` is the entry point."""
