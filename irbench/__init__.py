"""irbench: a benchmarking and reproducibility harness for image restoration.

The names below are for programs and notebooks; docs/python.md shows them at work. They are imported
on first use, so that ``import irbench`` needs neither torch nor pandas.

    load_model      a model by name, plugin, file of weights, or a torch module: model(picture)
    restore         restore a picture that has no target
    evaluate        score a model on a dataset under a protocol
    profile         measure the cost of a model: multiply-adds, latency, memory
    psnr ssim lpips score one picture against its target under a protocol
    score           score a folder of results against a folder of targets
    load_run        the results of a run as data frames
    list_models list_protocols list_datasets

Bad input raises ``irbench.UserError``, whose message says what is valid; what is missing on this
machine (weights, data, memory) raises its subclass ``irbench.Unavailable``.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from irbench.api.catalogs import list_datasets, list_models, list_protocols
    from irbench.api.evaluation import Evaluation, evaluate
    from irbench.api.models import LoadedModel, load_model
    from irbench.api.profiling import Profile, profile
    from irbench.api.restoring import restore
    from irbench.api.runs import LoadedRun, load_run
    from irbench.api.scores import FolderScores, lpips, psnr, score, ssim
    from irbench.core.errors import Unavailable, UserError

HOMES = {
    **dict.fromkeys(("list_datasets", "list_models", "list_protocols"), "irbench.api.catalogs"),
    **dict.fromkeys(("Evaluation", "evaluate"), "irbench.api.evaluation"),
    **dict.fromkeys(("LoadedModel", "load_model"), "irbench.api.models"),
    **dict.fromkeys(("Profile", "profile"), "irbench.api.profiling"),
    "restore": "irbench.api.restoring",
    **dict.fromkeys(("LoadedRun", "load_run"), "irbench.api.runs"),
    **dict.fromkeys(("FolderScores", "lpips", "psnr", "score", "ssim"), "irbench.api.scores"),
    **dict.fromkeys(("Unavailable", "UserError"), "irbench.core.errors"),
}
__all__ = ["Evaluation", "FolderScores", "LoadedModel", "LoadedRun", "Profile", "Unavailable",
           "UserError", "evaluate", "list_datasets", "list_models", "list_protocols", "load_model",
           "load_run", "lpips", "profile", "psnr", "restore", "score", "ssim"]


def __getattr__(name: str) -> object:
    """Import and return a public name."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    """Return the public names, for completion."""
    return [*__all__, "__version__"]
