"""Images as numpy arrays: decode, resize, degrade and score them."""
