"""The images of a cell: which files each has, how it becomes input and target, its name in errors.

Reads the files of a dataset; writes nothing.

Try: ``python -c "from irbench.catalog import protocols; from irbench.data import obtain, sets;
from irbench.jobs.cells import items; print(*items.list_items(
obtain.obtain(sets.get('photos'), 'data'), protocols.get('sr-x2')), sep='\\n')"``
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from irbench.catalog.protocols import Protocol
from irbench.core.errors import Damaged, UserError
from irbench.data import sets
from irbench.imaging import degrade
from irbench.imaging.images import as_channels, size_of, to_float
from irbench.inference import allocator

LARGE = 2**24   # values of an image beside which nothing is kept that is not needed


@dataclass(frozen=True)
class Item:
    """The files of one image of a cell. ``source`` is None if the input is made from the target.

    ``target`` is None in a set without targets. The name is that of the input, because several
    inputs may share one target.
    """

    name: str
    target: sets.ImageFile | None
    source: sets.ImageFile | None = None

    def load(self, protocol: Protocol) -> tuple[np.ndarray, np.ndarray | None, bool]:
        """Return the input float32 (h, w, C), the target uint8 (H, W, C), whether its file is gray.

        Without a target the second is None, and the third says whether the input's file is gray.

        Raises Unavailable for a missing file, and Damaged for a broken file or a pair whose images
        do not fit together: these are errors of the data, not of the command.
        """
        if self.target is None:
            given = self.source.load()
            try:
                degraded = to_float(
                    as_channels(given, protocol.color, protocol.gray) if protocol.scale > 1
                    else degrade.scored_target(given, protocol))
            except UserError as error:
                raise Damaged(str(error)) from None
            return degraded, None, given.shape[-1] == 1
        image = self.target.load()
        gray_file, image_size = image.shape[-1] == 1, image.size
        # what decoding and compressing free is too small for what comes, and would count beside it
        def give_back() -> None:
            if image_size > LARGE:
                allocator.release()

        give_back()
        if self.source:
            given = self.source.load()
            try:
                degraded, target = degrade.prepare_pair(given, image, protocol)
            except UserError as error:
                raise Damaged(str(error)) from None
            del image, given
        else:
            target = degrade.prepare_target(image, protocol)
            del image
            degraded = degrade.through_steps(target, protocol, name=self.name)
            give_back()
            degraded = degrade.as_input(degraded)
        give_back()
        return degraded, target, gray_file

    def pixels(self, protocol: Protocol) -> int:
        """Return about how many pixels the result will have, from a file's header; 0 if unknown."""
        pixels = size_of((self.source or self.target).path)
        return round(pixels * protocol.scale**2) if self.source else pixels


def list_items(data: sets.Dataset, protocol: Protocol) -> list[Item]:
    """List the images of a set, sorted by name."""
    if protocol.paired and "hr" not in data.roles:
        return [Item(source.name, None, source) for source in data.role("input")]
    if protocol.paired:
        return [Item(source.name, target, source) for source, target in data.pairs()]
    return [Item(target.name, target) for target in data.role("hr")]


@contextlib.contextmanager
def named(item: Item, dataset: str, output: sets.ImageFile | None = None) -> Iterator[None]:
    """Add the image's name to every error; to the traceback of a bug as a note.

    The message is stored in the cell's record, so absolute paths, which are specific to this
    machine, are replaced by ``DATASET/FOLDER/FILE`` (``DATASET/FILE`` if the folder has its name).
    """
    paths = [file.path for file in (output, item.source, item.target) if file]
    names = {str(path): "/".join(dict.fromkeys((dataset, path.parent.name, path.name)))
             if path.is_absolute() else str(path) for path in paths}
    try:
        yield
    except UserError as error:
        text = str(error)
        if not any(path in text for path in names):
            place = " with ".join(names)    # where a model failed, the image is not at fault
            text = (f"{text} It happened at the image {place}." if text.startswith("model ")
                    else f"{place}: {text}")
        for path, name in names.items():
            text = text.replace(path, name)
        raise type(error)(text) from None
    except Exception as error:
        error.add_note(f"at the image {' with '.join(names)}")
        raise
