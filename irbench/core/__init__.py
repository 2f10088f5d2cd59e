"""Files, digests, records, locks, messages and statistics; nothing about images or models."""
