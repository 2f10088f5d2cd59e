"""The images of a cell beside its network: listed, loaded, scored, written, and kept if it stops.

``irbench.jobs.evaluate`` runs the network; ``pipeline`` does the rest in other threads.
"""
