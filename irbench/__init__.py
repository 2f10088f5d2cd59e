"""irbench: a benchmarking and reproducibility harness for image restoration."""

__version__ = "0.1.0"
