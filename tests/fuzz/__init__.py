"""Hostile files: whatever people hand over gives a result or a message."""
