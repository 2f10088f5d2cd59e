"""Files of weights: irbench's own and those of third parties."""
