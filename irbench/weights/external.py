"""Third-party weights: any file that ``spandrel`` recognises can be used as a model.

Reads a PyTorch or safetensors file (see ``irbench.weights.storage``); writes nothing. spandrel
finds the architecture from the names and shapes of the tensors. The scale, channels and sizes that
it reports are compared with the protocol. A file that does not fit is refused; the message states
what the file is and what is needed.

Some networks take more input than the image. spandrel gives them a constant (for example a noise
level of 15/255), so that they would silently be scored at the wrong level. Here they get the
protocol's level (``LEVEL``), or are refused. The other architectures in ``CALLS`` only scale values
or return several tensors. A special call that is in neither list is refused, because it has not
been reviewed.

Try: ``irbench list peers``, then three lines of config: ``my-model: {external: PATH}``
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from irbench.catalog.protocols import Protocol
from irbench.core.errors import Unavailable, UserError
from irbench.inference import guard
from irbench.models.padding import Restorer, crop, pad_to_multiple, reflect_index
from irbench.weights import naming, storage

# architectures that take sigma/255 as one more channel of the input
LEVEL = ("DRUNet", "DnCNN")
# architectures whose special call in spandrel was reviewed: it adds no input to the image
CALLS = ("DnCNN", "FBCNN", "IPT", "MMRealSR", "MixDehazeNet", "RetinexFormer")
RANDOM = ("AuraSR",)  # draw random numbers in the forward pass, so figures are not repeatable
EXTRA = "spandrel_extra_arches"
# tensor names of networks that only the extra package knows
EXTRA_KEYS = {"Restormer": ("encoder_level1.0.attn.temperature", "patch_embed.proj.weight")}
MISSING = "Put it there, or correct `external` of the model in the config."


class External(Restorer):
    """A network loaded by spandrel, for images of any size.

    Arguments:
        descriptor: spandrel's description, with the network.
        level: value of the additional channel of a network that takes one (sigma/255), or None.
        about: facts about the file as plain data; kept with the results.
    """

    def __init__(self, descriptor, level: float | None, about: dict) -> None:
        """Wrap the network; see the class."""
        needs = descriptor.size_requirements
        super().__init__(channels=descriptor.input_channels, scale=descriptor.scale,
                         size_multiple=needs.multiple_of)
        self.network = descriptor.model.eval()
        self.minimum, self.square = needs.minimum, needs.square
        self.level = level
        self.about = about
        # the bare call; the descriptor's own would pad in another way and hide errors
        self._call = descriptor._call_fn

    def restore(self, x: Tensor) -> Tensor:
        """Restore (B, C, H, W) whose sides are multiples of ``size_multiple``.

        Raises UserError if the network fails or returns a wrong shape.
        """
        height, width = x.shape[-2:]
        # a copy, because some networks scale their input in place
        y = guard.run(self._restored, self._enlarged(x).clone(), self.about["architecture"],
                      scale=self.scale, channels=self.channels)
        return crop(y, self.scale * height, self.scale * width)

    def _restored(self, x: Tensor) -> object:
        """Call the network, with the noise level if it takes one."""
        if self.level is None:
            return self._call(self.network, x)
        batch, _, height, width = x.shape
        level = x.new_full((batch, 1, height, width), self.level)
        return self.network(torch.cat([x, level], dim=1))

    def _enlarged(self, x: Tensor) -> Tensor:
        """Extend an image that is below the smallest size, or not square where that is needed."""
        sides = [max(side, self.minimum) for side in x.shape[-2:]]
        if self.square:
            sides = [max(sides)] * 2
        for dim, side in zip((-2, -1), sides, strict=True):
            if side != x.shape[dim]:
                x = x.index_select(dim, reflect_index(x.shape[dim], side, x.device))
        return pad_to_multiple(x, self.size_multiple)


def load(path: Path, protocol: Protocol, sha256: str | None = None,
         key: str | None = None) -> tuple[External, str]:
    """Load a third-party file as a model for a protocol.

    Args:
        path: a PyTorch checkpoint or safetensors file.
        protocol: the protocol that the model must serve.
        sha256: the digest that the file must have, None for any.
        key: which set of weights to take from a file that holds several; None: EMA first.

    Returns:
        The network in evaluation mode, and the file's SHA-256.

    Raises:
        Unavailable: the file does not exist, or a package that the architecture needs is missing.
        UserError: the file has another digest, is not a checkpoint, is truncated, contains code,
            has an unknown architecture, or does not fit the protocol. The message names the file
            and what to do.
    """
    path = Path(path)
    data = storage.read(path, MISSING)
    digest = hashlib.sha256(data).hexdigest()
    if sha256 and digest != sha256:
        raise UserError(f"checkpoint {path}: its SHA-256 is {digest}, expected {sha256}: the file "
                        "was altered or is another one. Get the right one, or correct `sha256`.")
    descriptor, label = _descriptor(path, storage.tensors(path, data), key)
    level = _fit(path, descriptor, protocol)
    about = {**_about(descriptor), **label, "level": level}
    return External(descriptor, level, about).eval(), digest


def describe(path: Path) -> dict:
    """Return facts about a file as plain data: architecture, scale, channels, sizes, digest.

    Raises as ``load``, except for errors that depend on a protocol.
    """
    data = storage.read(path, MISSING)
    descriptor, label = _descriptor(path, storage.tensors(path, data))
    return {**_about(descriptor), **label,
            "sha256": hashlib.sha256(data).hexdigest()}


# -- from tensors to a network -----------------------------------------------------------------

def _descriptor(path: Path, found: dict, key: str | None = None) -> tuple[object, dict]:
    """Let spandrel recognise and build the network, from the best set of weights that it knows.

    Returns spandrel's description, and which set was taken (``weights_key``) if the tensors are not
    on top, with the others that would fit (``weights_others``). Raises UserError, Unavailable.
    """
    import spandrel

    registry = spandrel.MAIN_REGISTRY
    extra = _add_extra()
    known = f"the {len(registry)} architectures of spandrel {version('spandrel')}"
    tried, failed = list(naming.variants(found, key, str(path))) or [("", {})], None
    for label, state in tried:
        if odd := [f"{name}: {kind}" for name, value in state.items()
                   if (kind := naming.unusual(value))]:
            raise UserError(f"checkpoint {path}: {naming.few(odd)}.")
        try:
            loaded = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(state))
        except spandrel.UnsupportedModelError:
            continue
        except Exception as error:  # spandrel raises whatever its architectures do
            failed = failed or (state, error)
        else:
            return loaded, naming.beside(label, tried, str(path))
    if failed:
        state, error = failed
        raise UserError(f"checkpoint {path}: taken for {_recognised(registry, state)}, but its "
                        f"tensors do not fit: {type(error).__name__}: "
                        f"{' '.join(str(error).split())[:200]}. It is damaged, or a variant that "
                        "spandrel does not know.") from None
    names = set(spandrel.canonicalize_state_dict(dict(tried[0][1])))
    special = [arch for arch, keys in EXTRA_KEYS.items() if names.issuperset(keys)]
    if special and not extra:
        raise Unavailable(f"checkpoint {path}: it looks like {special[0]}, which needs the "
                          f"package {EXTRA}: pip install {EXTRA} (mind its licence), then "
                          "run again.")
    hint = "" if extra else f" A few more come with the package {EXTRA}."
    raise UserError(f"checkpoint {path}: none of {known} has such weights (first names: "
                    f"{naming.few(sorted(map(str, names)))}).{hint} Write a plugin with the "
                    "network, or give other weights.")


def _add_extra() -> bool:
    """Add the architectures of the optional package; return whether it is installed."""
    try:
        import spandrel_extra_arches
    except ImportError:
        return False
    spandrel_extra_arches.install(ignore_duplicates=True)
    return True


def _recognised(registry, state: dict) -> str:
    import spandrel

    try:
        state = spandrel.canonicalize_state_dict(state)
        return next(support.architecture.name for support in registry.architectures("detection")
                    if support.detect(state))
    except Exception:  # used only in a message; any error of spandrel means: not recognised
        return "no architecture"


def _about(descriptor) -> dict:
    needs = descriptor.size_requirements
    return {"architecture": descriptor.architecture.name, "purpose": descriptor.purpose,
            "tags": list(descriptor.tags), "scale": descriptor.scale,
            "channels": {"in": descriptor.input_channels, "out": descriptor.output_channels},
            "size": {"minimum": needs.minimum, "multiple_of": needs.multiple_of,
                     "square": needs.square},
            "takes_noise_level": _takes_level(descriptor), "spandrel": version("spandrel")}


def _fit(path: Path, descriptor, protocol: Protocol) -> float | None:
    """Compare a network with a protocol; return the noise level that it needs as input, or None.

    Raises UserError, which states what the file is and what the protocol needs.
    """
    import spandrel

    arch = descriptor.architecture
    own, out = descriptor.input_channels, descriptor.output_channels
    is_ = (f"it is {arch.name} ({descriptor.purpose}, x{descriptor.scale}, {own} "
           f"{'channel' if own == 1 else 'channels'} in, {out} out)")
    wants = f"{protocol.id} needs x{protocol.scale} and {protocol.channels} in and out"

    def refuse(reason: str) -> UserError:
        return UserError(f"checkpoint {path} cannot do {protocol.id}: {is_}; {reason}")

    if isinstance(descriptor, spandrel.MaskedImageModelDescriptor):
        raise refuse("it fills holes given by a mask, which no protocol has.")
    if descriptor.purpose == "FaceSR":
        raise refuse("it restores faces only.")
    if arch.id in RANDOM:
        raise refuse("it draws random numbers, so that figures would not be repeatable.")
    if descriptor.scale != protocol.scale or {own, out} != {protocol.channels}:
        raise refuse(f"{wants}. Give weights for it, or another protocol.")
    takes_level = _takes_level(descriptor)
    if takes_level and protocol.degradation["kind"] != "gaussian_noise":
        raise refuse("it needs the noise level as input, and this protocol has none.")
    special = descriptor._call_fn.__module__ != "spandrel.__helpers.model_descriptor"
    if special and not takes_level and arch.id not in CALLS:
        raise refuse("spandrel calls it in a special way that irbench does not know, so a figure "
                     "could belong to other settings than the protocol's.")
    return protocol.degradation["sigma"] / 255 if takes_level else None


def _takes_level(descriptor) -> bool:
    """Whether the network's first layer takes one channel more than the image has."""
    if descriptor.architecture.id not in LEVEL:
        return False
    first = next(m for m in descriptor.model.modules() if isinstance(m, nn.Conv2d))
    return first.in_channels == descriptor.input_channels + 1
