"""Score pictures against their targets under a protocol: one pair, or two folders.

The metrics are those of the pipeline (``irbench.imaging.metrics``), prepared as in a cell: colour,
border and luma follow the protocol, and a target is first cropped to a multiple of its scale.

Reads images; writes nothing.

Try: ``python -c "import irbench; print(irbench.psnr('restored.png', 'target.png', 'sr-x2'))"``
"""

from __future__ import annotations

import contextlib
import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from irbench.api.pictures import OVER, check_shape, plain_array
from irbench.catalog import patterns, protocols
from irbench.catalog.datasets import DatasetEntry
from irbench.catalog.protocols import Protocol
from irbench.core import forms, messages
from irbench.core import metrics as table
from irbench.core.errors import Unavailable, UserError
from irbench.core.files import expanded, read_bytes
from irbench.data import folders, tree
from irbench.imaging import containers, degrade, metrics
from irbench.imaging.images import decode, of_pillow, read_image, size_of, to_rgb

if TYPE_CHECKING:
    import pandas as pd

Picture = np.ndarray | Image.Image | str | Path


# -- one pair ----------------------------------------------------------------------------------

def psnr(restored: Picture, target: Picture, protocol: str) -> float:
    """Return the peak signal-to-noise ratio under a protocol, in dB; higher is better.

    Args:
        restored: uint8 (H, W, 3), RGB, or (H, W), gray, in [0, 255]; a Pillow image of 8 bits; or
            the path of a file. EXIF's orientation is applied, also to a Pillow image.
        target: the same. It may be larger than the restored one by less than the protocol's scale:
            it is cropped on the right and bottom to a multiple of the scale, as in a run.
        protocol: such as ``sr-x2`` (the newest version) or ``sr-x2@1``; it fixes colour, luma and
            border.

    Returns:
        The value; ``math.inf`` for identical pictures.

    Raises:
        UserError: pictures of another form or of two sizes, or an unknown protocol.
    """
    found = _one("psnr", restored, target, protocol)
    return math.inf if found is None else found


def ssim(restored: Picture, target: Picture, protocol: str) -> float:
    """Return the structural similarity under a protocol, in [-1, 1]; 1 is identical.

    The variant is the protocol's. Arguments as for ``psnr``.

    Raises UserError as ``psnr``, and for pictures smaller than a window.
    """
    return _one("ssim", restored, target, protocol)


def lpips(restored: Picture, target: Picture, protocol: str) -> float:
    """Return LPIPS 0.1 on AlexNet under a protocol; 0 is identical, lower is better.

    Arguments as for ``psnr``.

    Raises:
        Unavailable: AlexNet's weights are missing; the message says where to put them.
        UserError: as ``psnr``.
    """
    return _one("lpips", restored, target, protocol)


def _one(name: str, restored: Picture, target: Picture, protocol: str) -> float | None:
    chosen = protocols.get(protocol)
    scorer = metrics.Scorer(chosen, (name,))
    if scorer.missing:
        raise Unavailable(scorer.missing[name])
    return _scores(scorer, chosen, _pixels(restored, "restored"), _pixels(target, "target"))[name]


def _pixels(picture: Picture, role: str) -> np.ndarray:
    """Return a picture as uint8 (H, W, 1 or 3). Raises UserError for any other."""
    if isinstance(picture, str | Path):
        return read_image(picture)
    if isinstance(picture, Image.Image):
        if picture.mode not in ("L", "RGB"):
            raise UserError(f"{role}: a Pillow image of mode {picture.mode}. Valid: L (gray) and "
                            "RGB. Convert it first.")
        try:
            return of_pillow(picture)
        except containers.NotPlain as error:
            raise UserError(f"{role}: {error}") from None
        except OSError as error:
            raise UserError(f"{role}: the image is truncated or broken ({error}).") from None
    if not isinstance(picture, np.ndarray):
        raise UserError(f"{role}: a picture of type {type(picture).__name__}. Valid: a numpy "
                        "array, a Pillow image, or the path of an image file.")
    picture = plain_array(picture)
    if picture.dtype != np.uint8:
        raise UserError(f"{role}: an array of {picture.dtype}. Metrics are computed of uint8 in "
                        f"[0, 255]{_how_rounded(picture)}.")
    try:
        check_shape(picture)
    except UserError as error:
        raise UserError(f"{role}: {error}") from None
    return picture[..., None] if picture.ndim == 2 else picture


def _how_rounded(array: np.ndarray) -> str:
    """Return the code that makes uint8 of an array, by its type and range; "" if unknown."""
    kind, low, high = array.dtype.kind, 0, 0
    if kind in "fiu" and array.size:
        low, high = array.min(), array.max()
    if kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        return ", and this one has NaN or infinite values"
    code = {"b": "array.astype(numpy.uint8) * numpy.uint8(255)",
            "f": "numpy.round(numpy.clip(array, 0, 1) * 255).astype(numpy.uint8)"}.get(kind)
    if kind == "f" and high > OVER:
        code = "numpy.round(numpy.clip(array, 0, 255)).astype(numpy.uint8)"
    elif kind in "iu":
        code = ("array.astype(numpy.uint8)" if low >= 0 and high <= 255 else
                "numpy.round(array / 257).astype(numpy.uint8)" if array.dtype == np.uint16 else
                "numpy.clip(array, 0, 255).astype(numpy.uint8)")
    return f": convert it first, as {code}" if code else ""


def _scores(scorer: metrics.Scorer, protocol: Protocol, restored: np.ndarray,
            target: np.ndarray) -> dict[str, float | None]:
    wanted = degrade.scored_target(target, protocol)
    if restored.shape[:2] != wanted.shape[:2]:
        (h, w), (th, tw) = restored.shape[:2], target.shape[:2]
        rows, columns = wanted.shape[:2]
        if (h, w) == (th, tw) and rows <= h and columns <= w:  # else the target is resized
            raise UserError(f"the restored picture has {h} x {w} pixels (height x width), as its "
                            f"target, but {protocol.id} crops the target to a multiple of the "
                            f"scale: {rows} x {columns}. Crop the restored picture as well: "
                            f"restored[:{rows}, :{columns}].")
        cut = ("" if wanted.shape[:2] == (th, tw) else
               f", which {protocol.id} scores at {rows} x {columns}")
        raise UserError(f"the restored picture has {h} x {w} pixels (height x width), its target "
                        f"{th} x {tw}{cut}. The two must have the same size: check that they "
                        "belong together, and that the scale is the protocol's.")
    if protocol.channels == 1:
        if (restored != restored[..., :1]).any():
            raise UserError(f"the restored picture has colours, and {protocol.id} scores gray "
                            "pictures. Convert it as its method does.")
        restored = restored[..., :1]
    return scorer(restored if protocol.channels == 1 else to_rgb(restored), wanted,
                  gray_file=target.shape[-1] == 1)


# -- two folders -------------------------------------------------------------------------------

@dataclass(frozen=True)
class FolderScores:
    """The result of ``irbench.score``.

    Attributes:
        protocol: the id of the protocol.
        scores: name of a target -> metric -> score in the metric's unit, or None.
        mean: metric -> mean over all targets; None if one has no score, or no result.
        missing: metric -> why it has no mean.
        without_result: names of the targets without a result.
        ignored: names of the results that belong to no target.
        left_out: image files in the two folders that were not looked at: of a type that is not
            read, or in a folder below.
    """

    protocol: str
    scores: dict[str, dict[str, float | None]]
    mean: dict[str, float | None]
    missing: dict[str, str]
    without_result: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def alike(self) -> tuple[str, ...]:
        """Names of targets without a result that differ from a result's only in their encoding.

        A letter with an accent has two forms in Unicode (NFC and NFD), which look the same.
        """
        forms_of = {unicodedata.normalize("NFC", name) for name in self.ignored}
        return tuple(name for name in self.without_result
                     if unicodedata.normalize("NFC", name) in forms_of)

    @property
    def images(self) -> pd.DataFrame:
        """One row per target with a result: index ``name``, a column per metric."""
        import pandas as pd

        return pd.DataFrame.from_dict(self.scores, orient="index", columns=list(
            self.mean)).rename_axis("name")

    def as_dict(self) -> dict:
        """Return all as plain data (JSON)."""
        return {"protocol": self.protocol, "count": len(self.scores), "mean": self.mean,
                "missing": self.missing, "without_result": list(self.without_result),
                "ignored": list(self.ignored), "left_out": list(self.left_out),
                "images": [{"name": name, **scores} for name, scores in self.scores.items()]}


def score(results: str | Path, targets: str | Path, protocol: str,
          metrics: str | Iterable[str] | None = None, *, match: Mapping[str, str] | None = None,
          progress: bool = False) -> FolderScores:
    """Score the pictures of a folder against the targets in another, under a protocol.

    Pictures are matched by name without suffix, never by order; those directly in the folders are
    taken. Every target needs its result, otherwise there is no mean.

    Args:
        results: the folder of restored pictures.
        targets: the folder of clean pictures.
        protocol: see ``psnr``.
        metrics: a name or several of metrics; default: those that restoration papers print.
        match: role (``input``: the results, ``hr``: the targets) -> a regular expression of the
            part of a name that is ignored, such as ``{"input": "_x2$"}``.
        progress: report progress on stderr.

    Returns:
        Scores and means; ``images`` is a data frame.

    Raises:
        UserError: an unknown metric or protocol; a folder that is missing or has no picture; two
            pictures of one name; two results for one target; a pair of two sizes.
    """
    chosen, names = protocols.get(protocol), table.ordered(
        _known(forms.listed(metrics or table.main())))
    given, wanted = _listed(results, "results"), _listed(targets, "targets")
    for role, pattern in (match or {}).items():
        if why := patterns.problem(pattern):
            raise UserError(f"match: {role}: {pattern!r} is {why}.")
    pairs, _ = folders.pair(list(given), list(wanted), match or {})
    results_of: dict[str, list[str]] = {}
    for i, j in pairs:
        results_of.setdefault(list(wanted)[j], []).append(list(given)[i])
    for target, several in results_of.items():
        if len(several) > 1:
            raise UserError(f"{results}: {' and '.join(several)} both belong to the target "
                            f"{target}. Keep one of them.")
    scorer = _scorer(chosen, names)
    scores = {}
    todo = [name for name in wanted if name in results_of]
    shown = messages.track(todo, f"score {chosen.id}", len(todo), pictures=[
        messages.Sized(name, size_of(wanted[name])) for name in todo]) if progress else todo
    for name in shown:
        ours, theirs = given[results_of[name][0]], wanted[name]
        try:
            scores[name] = _scores(scorer, chosen, _decoded(ours), _decoded(theirs))
        except UserError as error:
            text = str(error)
            raise type(error)(text if str(ours) in text or str(theirs) in text else
                              f"{ours} with {theirs}: {text}") from None
    lacking = tuple(name for name in wanted if name not in results_of)
    used = {one for several in results_of.values() for one in several}
    return FolderScores(
        chosen.id, scores, _mean(scores, names, lacking), _reasons(scorer, scores, names, lacking),
        lacking, tuple(name for name in given if name not in used),
        (*_left_out(results), *_left_out(targets)))


def _known(names: Iterable[str]) -> tuple[str, ...]:
    names = tuple(names)
    for name in names:
        table.get(name, "metrics")
    return names


def _scorer(protocol: Protocol, names: tuple[str, ...]) -> metrics.Scorer:
    return metrics.Scorer(protocol, names)


def _listed(folder: str | Path, role: str) -> dict[str, Path]:
    """Return name -> path of the pictures directly in a folder, sorted by name."""
    path = expanded(folder)
    if not path.is_dir():
        raise UserError(f"{role} {folder}: not a folder.")
    found = folders.look_up(DatasetEntry(role, role, "test", path, folder=path.absolute()))["hr"]
    if not found:
        raise UserError(f"{role} {folder}: no picture lies directly in this folder.")
    return {one.stem: one for one in sorted(found, key=lambda one: one.stem)}


def _left_out(folder: str | Path) -> list[str]:
    """Return the images of a folder that are not read, and those in the folders directly below."""
    home, found = expanded(folder), []
    with contextlib.suppress(OSError):
        found = tree.left_out(home, [None], ())
        for below in sorted(one for one in home.iterdir()
                            if one.is_dir() and not one.name.startswith(".")):
            with contextlib.suppress(OSError):      # one that may not be read
                found += sorted(tree.images_in(below))
    return [str(path) for path in found]


def _decoded(path: Path) -> np.ndarray:
    try:
        return decode(read_bytes(path), str(path))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}.") from None


def _mean(scores: dict[str, dict], names: tuple[str, ...],
          lacking: tuple[str, ...]) -> dict[str, float | None]:
    return dict.fromkeys(names) if lacking else metrics.mean(list(scores.values()), names)


def _reasons(scorer: metrics.Scorer, scores: dict[str, dict], names: tuple[str, ...],
             lacking: tuple[str, ...]) -> dict[str, str]:
    """Return metric -> why it has no mean."""
    found = {}
    for name in names:
        without = [image for image, values in scores.items() if values[name] is None]
        if name in scorer.missing:
            found[name] = scorer.missing[name]
        elif lacking:
            found[name] = f"targets without a result: {messages.some(lacking)}"
        elif without:
            found[name] = f"{messages.some(without)}: {scorer.reason(name)}"
    return found
