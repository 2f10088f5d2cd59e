"""Tables of a run, and their printing."""
