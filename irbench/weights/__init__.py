"""Files of weights, ours and others'."""
