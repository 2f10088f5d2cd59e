"""Checks of the pipeline: anchors with known figures, and explanations of differences."""
