"""Pixels in numpy: decode, resize, degrade, score."""
