"""The code a job runs, as a digest: a result is of the code and packages that computed it.

Reads source files without importing them; writes nothing. Not among the code are the modules that
find and pair files: what they decide is in the digest of a dataset.

Try: ``python -c "from irbench import sources; print(*sources.modules('cell'))"``
"""

from __future__ import annotations

import functools
from pathlib import Path

from irbench import records
from irbench.models import registry

MODEL_CODE = ("irbench.checkpoint_files", "irbench.checkpoints", "irbench.degrade",
              "irbench.images", "irbench.mosaic", "irbench.synthetic", "irbench.training.recipe")
# a new version of these may change a number
PACKAGES = ("fvcore", "lpips", "numpy", "opencv-python-headless", "pillow", "pyiqa", "torch",
            "triton")
EXTERNAL = Path(registry.__file__).with_name("external.py")  # runs third-party weights, through
EXTERNAL_PACKAGES = ("spandrel", "spandrel_extra_arches")
# how a network is run, and how a run is measured
FORWARD = ("irbench.budget", "irbench.inference", "irbench.memory", "irbench.prepared",
           "irbench.tiling")
MEASURING = ("irbench.allocator", "irbench.memory", "irbench.profiling")
CODE = {
    "cell": ("irbench.evaluate", "irbench.metrics", *FORWARD, *MODEL_CODE),
    "training": ("irbench.metrics", "irbench.training.curve", "irbench.training.data",
                 "irbench.training.decoded", "irbench.training.engine", "irbench.training.losses",
                 "irbench.training.loop", "irbench.training.state",
                 "irbench.training.validate", *MODEL_CODE),
    "profile": (*MEASURING, *FORWARD, "irbench.energy", "irbench.images", "irbench.load",
                "irbench.mac_handles", "irbench.macs", "irbench.photograph", "irbench.sweep"),
    "bench": (*MEASURING, "irbench.attention_bench", "irbench.models.attention"),
    "leaks": ("irbench.leaks", "irbench.images"),
    "report": ("irbench.load", "irbench.published", "irbench.statistics", "irbench.report",
               "catalog/published.csv"),
}


def digest(kind: str, model: dict, plugins: tuple[str, ...]) -> str:
    """Digest what a job runs: the stage's modules, the model's, what models share, packages."""
    card = None if model["arch"] == "external" else registry.get(model["arch"], plugins)
    own = card.path if card else EXTERNAL
    code = records.code_digest(*modules(kind), *_shared_model_modules(), str(own))
    foreign = card is None or card.reference  # networks of spandrel's
    packages = (*PACKAGES, *EXTERNAL_PACKAGES) if foreign else PACKAGES
    return records.fingerprint([code, records.versions_of(*packages)])


def stage(kind: str, *packages: str) -> str:
    """Digest what a job without a model runs: its modules, and packages (default: those of all)."""
    return records.fingerprint([records.code_digest(*modules(kind)),
                                records.versions_of(*(packages or PACKAGES))])


@functools.cache
def _shared_model_modules() -> tuple[str, ...]:
    """Modules under models/ that hold no card: padding, attention and the like."""
    own = {card.path for card in registry.cards().values()}
    return tuple(str(p) for p in sorted(Path(registry.__file__).parent.rglob("*.py"))
                 if p not in own and p.name not in ("registry.py", EXTERNAL.name))


@functools.cache
def modules(kind: str) -> tuple[str, ...]:
    """Return the modules (by name) and files (by path) that a stage runs, beside the model's."""
    names = []
    for name in CODE[kind]:
        if "/" in name:
            names.append(str(Path(__file__).parent / name))
            continue
        folder = Path(__file__).parent.joinpath(*name.split(".")[1:])
        names += [str(p) for p in sorted(folder.rglob("*"))
                  if p.suffix in (".py", ".j2", ".css", ".js")] if folder.is_dir() else [name]
    return tuple(names)
