"""The code a job runs, as a digest: a result is of the code and packages that computed it.

Reads source files without importing them; writes nothing. Not among the code are the modules that
find and pair files: what they decide is in the digest of a dataset.

Try: ``python -c "from irbench.plan import code; print(*code.modules('cell'))"``
"""

from __future__ import annotations

import functools
from pathlib import Path

from irbench.core import digests, machine
from irbench.models import registry

MODEL_CODE = ("irbench.weights.storage", "irbench.weights.loading", "irbench.imaging.degrade",
              "irbench.imaging.images", "irbench.imaging.mosaic", "irbench.imaging.synthetic",
                   "irbench.catalog.recipes")
# a new version of these may change a number
PACKAGES = ("fvcore", "lpips", "numpy", "opencv-python-headless", "pillow", "pyiqa", "torch",
            "triton")
EXTERNAL = digests.PACKAGE / "weights" / "external.py"  # runs third-party weights, through
EXTERNAL_PACKAGES = ("spandrel", "spandrel_extra_arches")
# how a network is run, and how a run is measured
FORWARD = ("irbench.inference.budget", "irbench.inference.options", "irbench.inference.memory",
     "irbench.inference.prepare",
           "irbench.inference.tiling")
MEASURING = ("irbench.inference.allocator", "irbench.inference.memory",
     "irbench.jobs.profiling.profile")
CODE = {
    "cell": ("irbench.jobs.evaluate", "irbench.imaging.metrics", *FORWARD, *MODEL_CODE),
    "training": ("irbench.imaging.metrics", "irbench.jobs.training.curve",
         "irbench.jobs.training.data",
                 "irbench.jobs.training.decoded", "irbench.jobs.training.engine",
                      "irbench.jobs.training.losses",
                 "irbench.jobs.training.loop", "irbench.jobs.training.state",
                 "irbench.jobs.training.validate", *MODEL_CODE),
    "profile": (*MEASURING, *FORWARD, "irbench.jobs.profiling.energy", "irbench.imaging.images",
         "irbench.jobs.profiling.elsewhere",
                "irbench.jobs.profiling.mac_handles", "irbench.jobs.profiling.macs",
                     "irbench.imaging.photograph", "irbench.jobs.profiling.sweep"),
    "bench": (*MEASURING, "irbench.jobs.profiling.attention", "irbench.models.attention"),
    "leaks": ("irbench.data.leaks", "irbench.imaging.images"),
    "report": ("irbench.catalog.published", "irbench.core.statistics", "irbench.present",
               "irbench.report", "catalog/published.csv"),
}


def digest(kind: str, model: dict, plugins: tuple[str, ...]) -> str:
    """Digest what a job runs: the stage's modules, the model's, what models share, packages."""
    card = None if model["arch"] == "external" else registry.get(model["arch"], plugins)
    own = card.path if card else EXTERNAL
    code = digests.code_digest(*modules(kind), *_shared_model_modules(), str(own))
    foreign = card is None or card.reference  # networks of spandrel's
    packages = (*PACKAGES, *EXTERNAL_PACKAGES) if foreign else PACKAGES
    return digests.fingerprint([code, machine.versions_of(*packages)])


def stage(kind: str, *packages: str) -> str:
    """Digest what a job without a model runs: its modules, and packages (default: those of all)."""
    return digests.fingerprint([digests.code_digest(*modules(kind)),
                                machine.versions_of(*(packages or PACKAGES))])


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
            names.append(str(digests.PACKAGE / name))
            continue
        folder = digests.PACKAGE.joinpath(*name.split(".")[1:])
        names += [str(p) for p in sorted(folder.rglob("*"))
                  if p.suffix in (".py", ".j2", ".css", ".js")] if folder.is_dir() else [name]
    return tuple(names)
