"""Files, digests, records, locks, messages, statistics: nothing of images or models."""
