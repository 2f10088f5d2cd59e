"""Restoration models. One module a model; see registry.py for how they are found."""
