"""What the report knows of a run beside its numbers: kinds, weights, leaks, verdicts, ranks."""
