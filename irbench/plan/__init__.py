"""From a config to typed jobs: ``load`` a config file, or ``build`` from a checked config.

``read`` reads the plan file of a run, which the workflow writes (``irbench.plan.file``).

Names are imported on first use, so that reading a config does not import the whole package.

Try: ``python -c "from irbench import plan; print(len(plan.load('config.yaml').jobs()))"``
"""

import importlib

HOMES = {"Job": "irbench.plan.job", **dict.fromkeys(
    ("Plan", "build", "load"), "irbench.plan.compose"), "read": "irbench.plan.file"}
__all__ = ["Job", "Plan", "build", "load", "read"]


def __getattr__(name: str) -> object:
    """Import and return a public name of the package."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(HOMES[name]), name)
