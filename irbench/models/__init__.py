"""Restoration models, one module per model; registry.py explains how they are found."""
