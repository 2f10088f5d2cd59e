"""``irbench.load_model``: a model, ready to restore pictures.

Reads weights (a published model is fetched into ``data_root``/checkpoints); writes nothing else.

Try: ``python -c "import irbench; print(irbench.load_model('compacter', 'sr-x2'))"``
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from irbench.api import references
from irbench.api.pictures import restore_picture
from irbench.api.references import ModelReference
from irbench.catalog.protocols import Protocol, name_of
from irbench.core import forms, plugin_files
from irbench.core.digests import fingerprint
from irbench.core.errors import UserError
from irbench.inference.devices import pick_device, using
from irbench.jobs import evaluate
from irbench.jobs.result import Result, with_plugin_files
from irbench.plan import Plan, single
from irbench.plan.job import Job

if TYPE_CHECKING:
    from PIL import Image
    from torch import nn

    from irbench.inference.tiling import Tiled

    Picture = TypeVar("Picture", np.ndarray, Image.Image, str, Path)


class LoadedModel:
    """A model that is ready to restore pictures; ``irbench.load_model`` makes it.

    Attributes:
        name: its name in records and messages.
        protocol: the id of the protocol that it serves, such as ``sr-x2@1``.
        scale: sides of the output / sides of the input.
        channels: of input and output, 1 (gray) or 3 (RGB).
        colour_noise: whether it removes Gaussian noise from RGB, which differs between channels.
        device: where it runs.
        fingerprint: SHA-256 (hex) of all that decides its output: weights, options, how it is run,
            the protocol, and the code.
        settings: the same without the files of the user's Python code (``files_used``).
        reference: what it was loaded from.
    """

    def __init__(self, reference: ModelReference, protocol: Protocol, network: Tiled, device: str,
                 plan: Plan, job: Job, resolved: dict) -> None:
        """Keep the parts; see ``load_model``."""
        self.name = reference.name
        self.protocol = protocol.id
        self.scale = protocol.scale
        self.channels = protocol.channels
        self.colour_noise = protocol.channels == 3 and protocol.kinds == ("gaussian_noise",)
        self.device = device
        self.reference = reference
        self._plan, self._job = plan, job
        self.settings = fingerprint([job.spec, resolved])
        self.fingerprint = fingerprint([self.settings, self.files_used()])
        self._network = network
        self._accepts = {protocol.id, name_of(protocol.id), *protocol.serves}

    def __call__(self, picture: Picture) -> np.ndarray | Image.Image:
        """Restore a picture: the same as ``irbench.restore(picture, model)``."""
        return restore_picture(picture, self)

    def __repr__(self) -> str:
        """Name the model, its protocol and where it runs."""
        return f"<irbench model {self.name} for {self.protocol} on {self.device}>"

    def files_used(self) -> list[dict]:
        """Return the files that the user's Python code of the model has used so far.

        For each ``file`` and ``sha256``, as ``plugin_files.used`` returns them. A forward pass may
        use more of them than loading did.
        """
        found = with_plugin_files(Result(), self._plan, self._job, self.reference.source)
        return found.resolved.get(plugin_files.NOTED, [])

    def check_protocol(self, name: str | None) -> None:
        """Raise UserError if the model was loaded for another protocol; None is any.

        A version of its protocol that the same weights serve is not another one.
        """
        if name is not None and name not in self._accepts:
            raise UserError(f"model {self.name} was loaded for {self.protocol}, not for {name}. "
                            f"Load it for {name} with load_model.")

    def forward(self, image: np.ndarray,
                tile: Callable[[int, int], None] | None = None) -> np.ndarray:
        """Map float32 (h, w, channels) in [0, 1] to float32 (scale h, scale w, channels).

        The output is neither clipped nor rounded. An image that does not fit into memory is
        restored in tiles; ``tile`` is then called after each with the number of finished tiles and
        of all tiles.

        Raises:
            Unavailable: memory runs out even with the smallest tiles.
            UserError: the network refuses the image, or returns something else than an image with
                values in [0, 1].
        """
        from irbench.inference.guard import check_values, range_of

        self._network.done = tile
        try:
            with using(self.device):
                found = evaluate.forward(self._network, image, self.device.partition(":")[0])
        finally:
            self._network.done = None
        check_values(found, self.name, self._network.options.dtype, range_of(image))
        return found


def load_model(model: str | Path | nn.Module, protocol: str | None = None, *,
               weights: str | Path | None = None, options: dict | None = None,
               inference: dict | None = None, device: str = "auto",
               data_root: str | Path = "data",
               catalog_paths: str | Path | Iterable[str | Path] = ()) -> LoadedModel:
    """Load a model for a protocol.

    Args:
        model: one of
            a name (``irbench.list_models()``), with the weights that come with irbench, or those
            of the published model, which are fetched;
            ``FILE.py:NAME``, a model that a plugin file registers (``CARDS``), or a class of a
            network in it, which is called with those of ``task``, ``scale`` and ``channels`` that
            it takes;
            the path of a file of weights, irbench's own or of any architecture that spandrel knows;
            a ``torch.nn.Module`` from float32 (B, channels, H, W) in [0, 1] to (B, channels,
            scale H, scale W). A copy of it is used.
        protocol: what it is to do, such as ``sr-x2`` (the newest version) or ``sr-x2@1``. It may be
            omitted if the weights are for one protocol only.
        weights: a file of weights, for a name or a class.
        options: options of the architecture, by name.
        inference: how the network is run: dtype, channels_last, compile, tile, overlap, memory_gib
            (irbench/inference/options.py).
        device: ``auto`` (a GPU if torch finds one), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``
            (untested).
        data_root: the folder for fetched files.
        catalog_paths: catalogs with protocols of your own.

    Returns:
        The model. Call it with a picture, or give it to ``irbench.restore`` and
        ``irbench.evaluate``.

    Raises:
        Unavailable: the weights are missing, or cannot be fetched.
        UserError: an unknown name, or a model, weights, options or protocol that do not fit
            together; the message says what is valid.
    """
    reference = references.refer(model, weights, options, inference)
    return load(reference, protocol, device, data_root, forms.listed(catalog_paths))


def reference_of(model: object, protocol: str | None = None, weights: str | Path | None = None,
                 options: dict | None = None, inference: dict | None = None) -> ModelReference:
    """Return what a caller means by a model that may be loaded already (``references.refer``).

    Raises UserError if a loaded model is given other weights, options, inference or protocol than
    it was loaded with.
    """
    if not isinstance(model, LoadedModel):
        return references.refer(model, weights, options, inference)
    if weights or options or inference:
        raise UserError(f"model {model.name} is loaded already: give weights, options and "
                        "inference to load_model.")
    model.check_protocol(protocol)
    return model.reference


def load(reference: ModelReference, protocol: str | None, device: str = "auto",
         data_root: str | Path = "data", catalog_paths: tuple[str, ...] = ()) -> LoadedModel:
    """Load what a reference means; see ``load_model``."""
    wanted = reference.protocol(protocol, catalog_paths)
    config = single.settings(data_root=str(data_root), catalog_paths=catalog_paths,
                             plugins=reference.plugins, metrics=("psnr",))  # none is computed
    module = reference.build(wanted) if reference.build else None
    plan, job = (single.model_of(config, reference.name, reference.entry(wanted), wanted)
                 if module is None else
                 single.module_of(config, reference.name, reference.name, wanted,
                                  inference=reference.inference, made_with=reference.options))
    chosen, _ = pick_device(device)
    with using(device):
        network, resolved = evaluate.ready(plan, job, chosen, module, reference.source)
    return LoadedModel(reference, wanted, network, chosen if device == "auto" else device, plan,
                       job, resolved)
