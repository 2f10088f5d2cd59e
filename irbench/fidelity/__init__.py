"""Can a value be believed: anchors, and explanations of differences."""
