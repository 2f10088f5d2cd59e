"""The code of a job, as a digest: a result depends on the code and packages that computed it.

Computed, not kept by hand: the modules that a kind of job runs, its own network's among them, all
that these import inside irbench, and the versions of those packages they import that can change a
number. Comments, docstrings and annotations do not count (``irbench.core.code``).

Reads source files without importing them; writes nothing.

Try: ``python -c "from irbench.plan import sources; print(*sources.closure('cell').modules)"``
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

from irbench.catalog import published
from irbench.catalog.model import Model
from irbench.core import code as code_digests
from irbench.core import digests, machine
from irbench.core.code import ROOT, Closure
from irbench.models import registry

# What a kind of job runs first. A job without a network of its own stops here.
ENTRIES = {
    "cell": ("irbench.jobs.evaluate",),
    "training": ("irbench.jobs.training",),
    "profile": ("irbench.jobs.profile",),
    "bench": ("irbench.jobs.bench",),
    # pictures come decoded from datasets, which is not followed
    "leaks": ("irbench.imaging.images", "irbench.jobs.leaks"),
    # which loads its plots by their names
    "report": ("irbench.report", *(f"irbench.report.plots.{path.stem}" for path in sorted(
        (ROOT / "report" / "plots").glob("[!_]*.py")))),
}
EXTERNAL = "irbench.weights.external"  # runs third-party weights, through spandrel
# What a job without a network of its own measures.
PARTS = {"bench": "irbench.models.attention"}
# The code of irbench's networks is not followed from a kind's modules: it counts for the jobs whose
# own network imports it. What the others look for in a network, as its dictionaries, is not there.
OF_NETWORKS = ("irbench.models.*", EXTERNAL)
# Modules that are not followed, with the reason: they move, find or name things, and what they
# decide is known without their code.
OUTSIDE = {
    "irbench": "says the version, which is in a record's provenance",
    "irbench.catalog.reader": "reads YAML; the values are in a job's spec",
    "irbench.core.code": "names caches by the code that fills them",
    "irbench.data.obtain": "fetches files; a set's digest is in a job's spec",
    "irbench.data.sets": "finds and pairs files; a set's digest is in a job's spec",
    "irbench.core.errors": "messages",
    "irbench.data.fetch": "moves files; what is fetched has a digest in the spec or the record",
    "irbench.data.pins": "keeps the digests of files that were fetched",
    "irbench.plan": "makes a job's spec, which says what it decided",
    "irbench.core.messages": "messages",
    "irbench.core.digests": "names values and files",
    "irbench.core.files": "writes",
    "irbench.core.machine": "provenance",
    "irbench.core.records": "writes and reads; a record's form has a version of its own",
    "irbench.core.run_folder": "places and reads files; a record's form has a version of its own",
    "irbench.jobs.result": "carries results to records",
}
# Packages whose next version may change a number -> their distribution. Not among them: those that
# read, move or show (yaml, requests, safetensors, matplotlib), or ask the machine (psutil).
PACKAGES = {
    "PIL": "pillow",                    # decodes images, compresses the input of JPEG protocols
    "accelerate": "accelerate",         # casts, scales and averages gradients
    "cv2": "opencv-python-headless",    # filters of SSIM
    "fvcore": "fvcore",                 # counts MACs
    "lpips": "lpips",                   # learned weights of LPIPS
    "numpy": "numpy",
    "pyiqa": "pyiqa",                   # LPIPS
    "scipy": "scipy",                   # intervals of a sweep's fit
    "skimage": "scikit-image",          # the photograph that profiles run on
    "torch": "torch",
    "torchvision": "torchvision",       # the backbone of LPIPS
    "triton": "triton",
}
# Third-party networks. Irbench's own code only asks it for the names in nested files, so it counts
# where a job's own network comes from it.
NETWORKS = {"spandrel": "spandrel", "spandrel_extra_arches": "spandrel_extra_arches"}
DISTRIBUTIONS = frozenset({*PACKAGES.values(), *NETWORKS.values()})


def digest(kind: str, model: Model, plugins: tuple[str, ...]) -> str:
    """Digest the code of a job with a model: its kind's, its network's, and packages."""
    return _digest(kind, own_module(model, plugins))


def stage(kind: str) -> str:
    """Digest the code of a job without a model; of the report also what it prints and fills in."""
    code = _digest(kind, PARTS.get(kind))
    return digests.fingerprint([code, _parts_of_the_report()]) if kind == "report" else code


def own_module(model: Model, plugins: tuple[str, ...]) -> str | Path:
    """Return the module that holds a model's network: by name, or the path of a plugin's file."""
    if model.external:
        return EXTERNAL
    path = registry.get(model.arch, plugins).path
    return f"{registry.__package__}.{path.stem}" if path.parent == registry.HERE else path


def closure(kind: str, own: str | Path | None = None,
            texts: Mapping[Path, str] | None = None) -> Closure:
    """Return the modules that a kind of job runs, with those of its network (``own_module``).

    ``texts`` are sources that stand for those of some files.
    """
    code = code_digests.closure(ENTRIES[kind], {*OUTSIDE, *OF_NETWORKS}, ROOT, texts)
    return code | code_digests.closure([own], OUTSIDE, ROOT, texts) if own else code


@functools.cache
def _digest(kind: str, own: str | Path | None) -> str:
    code = closure(kind, own)
    names = {PACKAGES[name] for name in code.packages & set(PACKAGES)}
    if own:
        network = code_digests.closure([own], OUTSIDE, ROOT)
        names |= {NETWORKS[name] for name in network.packages & set(NETWORKS)}
    return digests.fingerprint([code.digest, machine.versions_of(*sorted(names))])


@functools.cache
def _parts_of_the_report() -> list:
    """Return what the report takes from files: templates and styles, and the printed figures."""
    assets = [[path.name, digests.file_digest(path)]
              for path in sorted((ROOT / "report").rglob("*"))
              if path.suffix in (".css", ".j2", ".js")]
    return [assets, [dataclasses.astuple(figure) for figure in published.load()]]
