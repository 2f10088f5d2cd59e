"""What a report derives from a run: kinds of models, weights, leaks, verdicts, ranks."""
