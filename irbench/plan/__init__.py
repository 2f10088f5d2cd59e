"""A config becomes typed jobs: ``load`` a config file, or ``build`` from a checked config.

``read`` reads the plan of a run that the workflow has written (``irbench.plan.file``).

The names are loaded when they are first asked for, so that reading a config needs no more than it.

Try: ``python -c "from irbench import plan; print(len(plan.load('config.yaml').jobs()))"``
"""

import importlib

HOMES = {"Job": "irbench.plan.job", **dict.fromkeys(
    ("Plan", "build", "load"), "irbench.plan.compose"), "read": "irbench.plan.file"}
__all__ = ["Job", "Plan", "build", "load", "read"]


def __getattr__(name: str) -> object:
    """Return a name of the package's face."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(HOMES[name]), name)
