"""The digest of a job's code: a result depends on the code and packages that computed it.

The digest covers the modules that a kind of job runs, the module of its network, everything that
these import inside irbench, and the versions of imported packages that can change a value.
Comments, docstrings and annotations do not count (``irbench.core.code``).

Reads source files without importing them; writes nothing.

Try: ``python -c "from irbench.plan import sources; print(*sources.closure('cell').modules)"``
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path

from irbench.catalog import published
from irbench.catalog.model import MODULE, Model, teacher_of
from irbench.core import code as code_digests
from irbench.core import digests, machine
from irbench.core.code import ROOT, Closure
from irbench.models import registry

# The entry module of each kind of job. A job without a network needs no other.
ENTRIES = {
    "cell": ("irbench.jobs.evaluate",),
    "training": ("irbench.jobs.training",),
    "profile": ("irbench.jobs.profile",),
    "bench": ("irbench.jobs.bench",),
    # images are decoded by datasets, whose imports are not followed
    "leaks": ("irbench.imaging.images", "irbench.jobs.leaks"),
    # it imports its plots by name
    "report": ("irbench.report", *(f"irbench.report.plots.{path.stem}" for path in sorted(
        (ROOT / "report" / "plots").glob("[!_]*.py")))),
}
EXTERNAL = "irbench.weights.external"  # runs third-party weights, through spandrel
# The module that a job without a network measures.
PARTS = {"bench": "irbench.models.attention"}
# Imports of irbench's networks are not followed from the entry modules: they count only for jobs
# whose own network imports them. Other networks do not have what these modules offer.
OF_NETWORKS = ("irbench.models.*", EXTERNAL)
# Modules whose imports are not followed, with the reason. They move, find or name things, and what
# they decide is in the spec or the record.
OUTSIDE = {
    "irbench": "the version, which is in a record's provenance",
    "irbench.catalog.reader": "reads YAML; the values are in a job's spec",
    "irbench.core.code": "names caches by the code that fills them",
    "irbench.data.obtain": "fetches files; a set's digest is in a job's spec",
    "irbench.data.outputs": "finds and pairs result images; their digest is in a job's spec",
    "irbench.data.sets": "finds and pairs files; a set's digest is in a job's spec",
    "irbench.core.errors": "messages",
    "irbench.data.fetch": "moves files; fetched files have a digest in the spec or the record",
    "irbench.data.pins": "keeps the digests of files that were fetched",
    "irbench.plan": "makes a job's spec, which contains its decisions",
    "irbench.plan.sources": "names caches by the code that fills them",
    "irbench.core.messages": "messages",
    "irbench.core.digests": "names values and files",
    "irbench.core.files": "writes",
    "irbench.core.machine": "provenance",
    "irbench.core.records": "writes and reads; a record's form has a version of its own",
    "irbench.core.run_folder": "places and reads files; a record's form has a version of its own",
    "irbench.jobs.result": "carries results to records",
}
# Packages whose next version may change a value -> their distribution. Left out are packages that
# only read, move or show data (yaml, requests, safetensors, matplotlib) or query the machine.
PACKAGES = {
    "PIL": "pillow",                    # decodes images, compresses the input of JPEG protocols
    "accelerate": "accelerate",         # casts, scales and averages gradients
    "cv2": "opencv-python-headless",    # filters of SSIM
    "fvcore": "fvcore",                 # counts MACs
    "numpy": "numpy",
    "pyiqa": "pyiqa",                   # LPIPS
    "scipy": "scipy",                   # intervals of a sweep's fit
    "skimage": "scikit-image",          # the photograph that profiles run on
    "torch": "torch",
    "triton": "triton",
}
# Third-party networks. irbench itself uses this package only to read names in nested files, so it
# counts only for jobs whose own network comes from it.
NETWORKS = {"spandrel": "spandrel", "spandrel_extra_arches": "spandrel_extra_arches"}
DISTRIBUTIONS = frozenset({*PACKAGES.values(), *NETWORKS.values()})


def digest(kind: str, model: Model, plugins: tuple[str, ...]) -> str:
    """Return the digest of a job with a model: the code of its kind and network, and packages.

    The network of a training's teacher counts, too.
    """
    own = _digest(kind, own_module(model, plugins))
    teacher = teacher_of(model.training) if kind == "training" else None
    return digests.fingerprint([own, of_network(teacher, plugins)]) if teacher else own


def of_network(model: Model, plugins: tuple[str, ...]) -> str:
    """Return the digest of a network alone: its code, and the packages that it computes with."""
    code = code_digests.closure([own_module(model, plugins)], OUTSIDE, ROOT)
    return digests.fingerprint([code.digest, machine.versions_of(*sorted(
        {known[name] for known in (PACKAGES, NETWORKS) for name in code.packages & set(known)}))])


def parts(kind: str, model: Model, plugins: tuple[str, ...]) -> dict | None:
    """Return digests of what ``digest`` covers for a network of a user's file; None for others.

    A digest of all says that something changed; these say whether it was the user's code.

    Returns:
        ``irbench``: of the modules that the kind of job runs; ``files``: of the plugin and what it
        imports, by their paths from the plugin's folder (those of irbench begin with ``irbench/``).
    """
    own = own_module(model, plugins)
    if not isinstance(own, Path):
        return None
    common, code = _of_kind(kind), code_digests.closure([own], OUTSIDE, ROOT)
    return {"irbench": common.digest, "files": {
        os.path.relpath(path, ROOT.parent if path.is_relative_to(ROOT) else own.parent):
        code.modules[name] for name, path in code.files.items() if name not in common.files}}


def stage(kind: str) -> str:
    """Return the digest of a job without a model; the report's includes templates and data."""
    code = _digest(kind, PARTS.get(kind))
    return digests.fingerprint([code, _parts_of_the_report()]) if kind == "report" else code


def own_module(model: Model, plugins: tuple[str, ...]) -> str | Path | None:
    """Return the module that holds a model's network: by name, or the path of a plugin's file.

    None for a model of which only result images are given, and for a torch module of a Python
    program, whose code is in no file that irbench knows.
    """
    if model.external:
        network = model.checkpoint.network
        return f"irbench.models.peers.{network['architecture']}" if network else EXTERNAL
    if model.given or model.arch == MODULE:
        return None
    card = registry.get(model.arch, plugins)
    return f"{registry.__package__}.{card.path.stem}" if card.builtin else card.path


def closure(kind: str, own: str | Path | None = None,
            texts: Mapping[Path, str] | None = None) -> Closure:
    """Return the modules that a kind of job runs, with those of its network (``own_module``).

    ``texts`` replaces the source of some files (path -> text).
    """
    code = code_digests.closure(ENTRIES[kind], {*OUTSIDE, *OF_NETWORKS}, ROOT, texts)
    return code | code_digests.closure([own], OUTSIDE, ROOT, texts) if own else code


def _digest(kind: str, own: str | Path | None) -> str:
    """Return the digest of a kind of job and its network's code, which is a plugin's if a path."""
    # irbench's own code does not change while it runs; a user edits a plugin in a notebook
    return _computed(kind, own) if isinstance(own, Path) else _known(kind, own)


@functools.cache
def _known(kind: str, own: str | None) -> str:
    return _computed(kind, own)


@functools.cache
def _of_kind(kind: str) -> Closure:
    return closure(kind)


def _computed(kind: str, own: str | Path | None) -> str:
    code = _of_kind(kind)
    if own:
        code |= code_digests.closure([own], OUTSIDE, ROOT)
    names = {PACKAGES[name] for name in code.packages & set(PACKAGES)}
    if own:
        network = code_digests.closure([own], OUTSIDE, ROOT)
        names |= {NETWORKS[name] for name in network.packages & set(NETWORKS)}
    return digests.fingerprint([code.digest, machine.versions_of(*sorted(names))])


@functools.cache
def _parts_of_the_report() -> list:
    """Return the files that the report reads: templates, styles and the published values."""
    assets = [[path.name, digests.file_digest(path)]
              for path in sorted((ROOT / "report").rglob("*"))
              if path.suffix in (".css", ".j2", ".js")]
    return [assets, [dataclasses.astuple(figure) for figure in published.load()]]
