"""What is done with each image of a cell beside the network: scored, written, made an entry.

Writes the pictures to keep. ``CellImages`` is completed by ``irbench.jobs.evaluate``, for images
that a network restores, and by ``Given``, for images that somebody else restored.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from irbench.catalog.protocols import Protocol
from irbench.core import machine, messages, plugin_files, records
from irbench.core.digests import file_digest
from irbench.core.errors import Damaged, Unrepeatable
from irbench.core.run_folder import INPUT, TARGET, RunFolder, partial_of, partials_of
from irbench.data import sets
from irbench.imaging import metrics
from irbench.imaging.images import put_png, to_rgb, to_uint8
from irbench.jobs.cells import pipeline
from irbench.jobs.cells.items import Item, named
from irbench.jobs.cells.partial import Partial
from irbench.jobs.result import Result, RunSettings, plugins_of, with_plugin_files
from irbench.plan import Job, Plan


@dataclass
class Finished:
    """What is known of an image at the end, and what metrics that must not run in threads need."""

    item: Item
    restored: np.ndarray
    target: np.ndarray
    gray_file: bool
    scores: dict[str, float | None]
    failed: dict[str, str]
    kept: dict[str, str]
    more: dict
    state: dict


@dataclass
class CellImages:
    """How the images of a cell are worked on, in three steps that ``pipeline`` spreads to threads.

    Attributes:
        plan, job, settings: as of ``run``.
        protocol: of the cell.
        dataset: the set's name in messages.
        scorer: scores each image.
        phases: adds up the times.
        resolved: the record's ``resolved``.
        last: the name of the last image that this process works on, once that is known.
        other: an image of the set; if only one is left to work on, another one.
    """

    plan: Plan
    job: Job
    settings: RunSettings
    protocol: Protocol
    dataset: str
    scorer: metrics.Scorer
    phases: records.Phases
    resolved: dict
    last: str = field(init=False, default="")
    other: Item | None = field(init=False, default=None)

    def all(self, items: list[Item], workers: int) -> list[dict]:
        """Return the entries of all images in the record, in order; of a part, those of its images.

        ``workers``: threads that load and score, beside this one that runs the network. Images
        that another process has done are not worked on again (``irbench.jobs.cells.partial``).
        """
        part = self.settings.part
        wanted = part.of(len(items)) if part else range(len(items))
        numbers = {items[number].name: number for number in wanted}
        with contextlib.closing(self._partial()) as partial:
            known = partial.begin(lambda line: numbers.get(line["entry"]["name"])
                                  if self._is_done(line, numbers) else None)
            if known:
                messages.say(f"{self.job.title}: {len(known)} of {len(wanted)} images are done "
                             "already")
            left = [items[number].name for number in wanted if number not in known]
            self.last = left[-1] if left else ""
            self.other = next((item for item in items if [item.name] != left), None)
            entries: list[dict] = []
            try:
                for done, group in itertools.groupby(wanted, known.__contains__):
                    some = list(group)
                    entries += ([self._take_over(known[number]) for number in some] if done else
                                self._rest(items, some, (len(entries), len(wanted)), workers,
                                           partial))
            except Unrepeatable:
                # the next try must not begin behind the images that showed it
                partial.discard()
                raise
            return entries

    def _partial(self) -> Partial:
        """Return the file in which the cell, or the part of it, keeps what it has done."""
        record, how = self.job.record, self.settings
        basis = {"spec": self.job.spec, "resolved": self.resolved, "device": how.device,
                 "threads": how.threads, "machine": machine.basis()}
        if not how.continues or how.limit is not None or how.module is not None:
            return Partial(None, basis)
        return Partial(partial_of(record, how.part or ""), basis, partials_of(record))

    def _take_over(self, line: dict) -> dict:
        """Return the entry of an image that another process has done, and count its effects."""
        self.scorer.note(line["failed"])
        self.continue_from(line["state"])
        self.phases.add(line["seconds"])
        for path, _ in plugins_of(self.plan, self.job, self.settings.source)[:1]:
            plugin_files.recall(path, line["used"])
        return line["entry"]

    def _is_done(self, line: dict, wanted: Container[str]) -> bool:
        """Return whether a line is of one of these images, and its pictures are there."""
        if line["entry"]["name"] not in wanted or plugin_files.changed(line["used"]):
            return False
        kept = line["entry"].get("kept", {})
        if self.settings.keeps(self.job.spec["keep_images"]) != bool(kept):
            return False
        try:
            return all(file_digest(self.plan.folder / path) == digest
                       for path, digest in kept.items())
        except OSError:
            return False

    def _rest(self, items: list[Item], numbers: list[int], progress: tuple[int, int],
              workers: int, partial: Partial) -> list[dict]:
        """Work on the images with these numbers, and return their entries.

        ``progress``: how many images were done before, and of how many.
        """
        steps = pipeline.Steps(self.load, self.restore, self.finish)
        with contextlib.closing(pipeline.in_order(
                [items[number] for number in numbers], steps, workers,
                lambda item: item.pixels(self.protocol))) as results:
            entries = []
            start, total = progress
            shown = (messages.track(results, self.job.title, total, start, [
                messages.Sized(items[number].name, items[number].pixels(self.protocol))
                for number in numbers]) if self.settings.progress else results)
            for number, one in zip(numbers, shown, strict=True):
                entries.append(self.entry(one))
                # what the network has observed of the first image need not stand in each line
                state = one.state | {"observed": None} if number else one.state
                partial.add({"entry": entries[-1], "failed": one.failed, "state": state,
                             "seconds": self.phases.lap(), "used": with_plugin_files(
                                 Result(), self.plan, self.job, self.settings.source).resolved})
            return entries

    def continue_from(self, state: dict) -> None:
        """Take over what an image has changed that another process has done; called in order."""

    def named(self, item: Item) -> contextlib.AbstractContextManager:
        """Add the image's name to every error."""
        return named(item, self.dataset)

    def scored(self, item: Item, degraded: np.ndarray | None, make: Callable[[], np.ndarray],
               target: np.ndarray | None, gray_file: bool, more: dict,
               state: dict | None = None) -> Finished:
        """Score an image, which ``make`` returns, and write its pictures, in any thread.

        ``degraded``: its input; None if no pictures are kept.
        """
        with self.phases("score"):
            restored = make()
            # without a target only metrics that do not look at one are prepared
            against = restored if target is None else target
            scores, failed = self.scorer.score(restored, against, gray_file, [
                name for name in self.scorer.prepared if name in metrics.THREADED])
        kept = {}
        if self.settings.keeps(self.job.spec["keep_images"]):
            with self.phases("write"):
                kept = keep(self.plan.folder, self.job, item.name, degraded, restored, target)
        return Finished(item, restored, against, gray_file, scores, failed, kept, more,
                        state or {})

    def entry(self, one: Finished) -> dict:
        """Compute the other metrics and return the image's entry; called in order."""
        scores = one.scores
        if others := [name for name in self.scorer.prepared if name not in metrics.THREADED]:
            with self.named(one.item), self.phases("score"):
                more, also = self.scorer.score(one.restored, one.target, one.gray_file, others)
            scores, one.failed = scores | more, one.failed | also
        self.scorer.note(one.failed)
        return {"name": one.item.name, "height": one.restored.shape[0],
                "width": one.restored.shape[1],
                **{name: scores.get(name) for name in self.job.spec["metrics"]}, **one.more,
                "file": next(iter(one.kept), None), **({"kept": one.kept} if one.kept else {})}


@dataclass
class Given(CellImages):
    """Images that somebody else restored: the file of each by its name."""

    given: dict[str, sets.ImageFile]

    def named(self, item: Item) -> contextlib.AbstractContextManager:
        """Add the image's name to every error."""
        return named(item, self.dataset, self.given[item.name])

    def load(self, item: Item) -> tuple:
        """Return what ``Item.load`` does, and the restored image; in any thread."""
        with self.named(item), self.phases("load"):
            degraded, target, gray_file = item.load(self.protocol)
            size = [round(self.protocol.scale * side) for side in degraded.shape[:2]]
            restored = fitting(self.given[item.name].load(), (*size, degraded.shape[-1]))
        return degraded, restored, target, gray_file

    def restore(self, item: Item, loaded: tuple) -> tuple:
        """Return what was loaded: no network runs."""
        return loaded

    def finish(self, item: Item, found: tuple) -> Finished:
        """Score an image; in any thread."""
        file = self.given[item.name]
        with self.named(item):
            degraded, restored, target, gray_file = found
            return self.scored(item, degraded, lambda: restored, target, gray_file, {
                "output": f"{file.path.parent.name}/{file.path.name}", "sha256": file.sha256})


def fitting(picture: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return a given picture, uint8 (H, W, 1 or 3), in the colours of ``shape`` (H, W, C).

    A gray picture of a colour target has its value in all channels, and a colour file with three
    equal channels is a gray picture. Raises Damaged for another size, or colours without need.
    """
    (h, w), (th, tw) = picture.shape[:2], shape[:2]
    if (h, w) != (th, tw):
        raise Damaged(f"the result image is {h}x{w} pixels (height x width), its target {th}x{tw} "
                      "(cropped as the protocol asks). They must have the same size.")
    if shape[-1] == 3:
        return to_rgb(picture)
    if (picture != picture[..., :1]).any():
        raise Damaged("the result image has colours, but the protocol scores gray images. Give "
                      "the gray results.")
    return np.ascontiguousarray(picture[..., :1])


def keep(folder: Path, job: Job, name: str, degraded: np.ndarray, restored: np.ndarray,
          target: np.ndarray | None) -> dict[str, str]:
    """Write the restored image, the input (rounded) and the target, if there is one.

    Returns their paths, relative to the run folder, with the SHA-256 of each.
    """
    run, place = RunFolder(folder), (job.key["protocol"], job.key["dataset"])
    kept = {}
    # input and target are always compared: the set's files may have changed since an earlier run
    for owner, image in ((job.key["model"], restored), (INPUT, to_uint8(degraded)),
                         (TARGET, target)):
        if image is None:
            continue
        path = run.image(*place, owner, name)
        kept[path.relative_to(folder).as_posix()] = put_png(path, image)
    return kept
