"""The images of a teacher: a model with weights restores the training images once, before training.

The restored images lie in DATA_ROOT/teachers, in a folder for each teacher, protocol and version of
its code, one file an image: the SHA-256 of the content, then the pixels in float16. The file is
named after the content of the image's input, so sets and recipes share it. A training that is
stopped or killed meanwhile continues with the next image. A damaged file is made again; all of them
may be deleted at any time.

Reads the weights of the teacher (fetched if needed) and training images; writes these files.

Try: ``training: {recipe: short, teacher: {model: dctlsa, weight: 0.5}}`` for a model under sr-x2
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from irbench.catalog.model import Model, teacher_of
from irbench.catalog.protocols import Protocol
from irbench.core import digests, files, messages
from irbench.core.errors import Paused, Unavailable, UserError
from irbench.imaging.degrade import seed_of
from irbench.imaging.images import to_float
from irbench.jobs.training import decoded
from irbench.models import registry
from irbench.plan import sources
from irbench.weights import loading

if TYPE_CHECKING:
    from irbench.inference.tiling import Tiled
    from irbench.jobs.training.data import Patches
    from irbench.plan import Job, Plan

FORMAT = 1  # version of the files' format
SUFFIX = ".f16"
DIGEST = hashlib.sha256().digest_size


class Taught(Mapping[str, np.ndarray]):
    """A teacher's images by the names of the training images: float16 (H, W, C), mapped files."""

    def __init__(self, places: dict[str, tuple[Path, tuple[int, ...]]]) -> None:
        """Remember the file and the shape of each image."""
        self.places = places
        self._mapped: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        """Return an image, a read-only view of its file."""
        if name not in self._mapped:
            path, shape = self.places[name]
            self._mapped[name] = np.memmap(path, np.float16, "r", DIGEST, shape)
        return self._mapped[name]

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return iter(self.places)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.places)

    def __reduce__(self) -> tuple:
        """Let a process that receives the images map the files itself."""
        return Taught, (self.places,)


def teach(patches: Patches, plan: Plan, job: Job, device: str = "cpu",
          stop: Callable[[], bool] = lambda: False) -> None:
    """Give the samples of a training its teacher's images.

    Images that do not exist yet are restored now.

    Args:
        patches: the samples; their ``taught`` is set.
        plan: the run: the folder of all data, and plugins.
        job: the training, of a recipe with a teacher.
        device: where the teacher runs.
        stop: asked before each image that is to be restored.

    Raises:
        Paused: asked to stop; the images so far are kept.
        Unavailable: the weights are missing, or memory runs out.
        UserError: the weights do not fit the teacher or the protocol, or it returns values that
            are not finite, or images of another size than the targets.
    """
    model, protocol = teacher_of(job.model.training), patches.protocol
    folder = folder_of(plan, model, protocol)
    decoded.sweep(folder, SUFFIX)
    network, places = None, {}
    count = len(patches.images)
    for source, i in messages.track(patches.images, f"teacher {model.title}", count):
        name, (given, target) = source.name(i), source.pair(i)
        content = hashlib.sha256(digests.canonical(list(given.shape)).encode() + given.tobytes())
        path = folder / f"{content.hexdigest()[:32]}{SUFFIX}"
        if not _is_whole(path, target.shape):
            if stop():
                raise Paused(f"{job.title}: stopped after the teacher restored {len(places)} of "
                             f"{count} images; they are kept, the same command continues.")
            network = network or _network(plan, model, protocol, device)
            _write(path, _restored(network, model, given, target.shape, device,
                                   seed_of("teacher", protocol.id, content.hexdigest()), name))
        places[name] = (path, target.shape)
    patches.taught = Taught(places)


def folder_of(plan: Plan, model: Model, protocol: Protocol) -> Path:
    """Return the folder of a teacher's images, named after all that they follow from but inputs."""
    key = {"format": FORMAT, "arch": model.arch, "options": model.options,
           "weights": model.checkpoint.sha256, "key": model.checkpoint.weights_key,
           "inference": model.inference.as_dict(), "protocol": protocol.training_definition(),
           "code": sources.of_network(model, tuple(plan.config["plugins"]))}
    return (Path(plan.config["data_root"]) / "teachers"
            / f"{model.name}-{protocol.id}-{digests.fingerprint(key)[:16]}")


def facts(model: Model, weight: float) -> dict:
    """Return what the record and the header of weights say of the teacher."""
    return {"title": model.title, "sha256": model.checkpoint.sha256, "weight": weight}


def _is_whole(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether a file holds an image of a shape (H, W, C), undamaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return (len(content) == DIGEST + 2 * int(np.prod(shape))
            and hashlib.sha256(memoryview(content)[DIGEST:]).digest() == content[:DIGEST])


def _write(path: Path, image: np.ndarray) -> None:
    content = image.astype(np.float16).tobytes()
    files.write_atomic(path, hashlib.sha256(content).digest() + content)


# -- the network ---------------------------------------------------------------------------------

def _network(plan: Plan, model: Model, protocol: Protocol, device: str) -> Tiled:
    from irbench.inference.prepare import prepare
    from irbench.inference.seeding import seeded
    from irbench.inference.tiling import Tiled

    plugins = tuple(plan.config["plugins"])
    # the run's version of the protocol, which knows the others whose weights serve it
    served = next((one for one in plan.protocols.values() if one.training_id == protocol.id),
                  protocol)
    with seeded(seed_of("teacher", protocol.id, model.arch)):  # of what no file holds
        network, _ = loading.ready(model, served, plan.folder, Path(plan.config["data_root"]),
                                   plugins)
    dtypes = None if model.external else registry.get(model.arch, plugins).dtypes
    return Tiled(prepare(network, model.inference, device, dtypes), model.inference, device)


def _restored(network: Tiled, model: Model, given: np.ndarray, shape: tuple[int, ...], device: str,
              seed: int, name: str) -> np.ndarray:
    """Restore an image: uint8 (h, w, C) to float32 (H, W, C), not clipped."""
    import torch

    from irbench.inference.memory import out_of_memory
    from irbench.inference.seeding import seeded

    x = torch.from_numpy(to_float(np.array(given))).permute(2, 0, 1)[None].to(device)
    try:
        with torch.inference_mode(), seeded(seed):
            image = network(x)[0].permute(1, 2, 0).float().cpu().numpy()
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            raise Unavailable(f"teacher {model.name}: out of memory at {name}, "
                              f"{given.shape[0]}x{given.shape[1]} pixels.") from None
        raise
    if image.shape != tuple(shape):
        raise UserError(f"teacher {model.name}: it makes {' x '.join(map(str, image.shape))} of "
                        f"{name}, whose target is {' x '.join(map(str, shape))}.")
    with np.errstate(over="ignore"):
        whole = np.isfinite(image.astype(np.float16)).all()
    if not whole:
        raise UserError(f"teacher {model.name}: its image of {name} has values that are not finite "
                        "in float16. Choose another teacher.")
    return image
