"""The differences between two runs: their size, their significance, and what may explain them.

Pure functions on loaded runs (``irbench.compare.runs``); nothing is read or written.

Try: ``irbench compare results/photos results/photos``
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from statistics import median

from irbench.compare import inputs
from irbench.compare.runs import CellData, ProfileData, RunData, judged
from irbench.core import metrics, statistics

BETTER, WORSE, NOT_COMPARED = "better", "worse", "not compared"
SHOWN = 3                       # number of images or names that a message lists
SLACK = 1e-9                    # for sums of floats: 0.02 must not count as more than 0.02
UNEXPLAINED = "the result changed, but its inputs did not"
OTHER_IMAGES, REDEFINED = "other images", "another definition"
OTHER_DATA = "other data under the same name"
NO_MEAN = "no mean in"
MAY_BE_INTENDED = (OTHER_IMAGES, OTHER_DATA, NO_MEAN)   # beginnings of reasons
UNKNOWN = "BASE does not record its inputs"
EQUALLED = 80.0                 # dB: fewer than one value in 1500 differs from the target, by 1


@dataclass(frozen=True)
class Image:
    """One image's score on both sides; ``difference`` is NEW minus BASE."""

    name: str
    base: float
    new: float
    difference: float


@dataclass(frozen=True)
class Change:
    """One metric of a cell on both sides.

    Attributes:
        base: the mean over all images of BASE, in the unit of the metric; None if unknown.
        new: the same for NEW.
        paired: mean difference, interval and sign test over the images with a score on both sides;
            None if there are none.
        word: "no change", "not significant", "real" or "not compared".
        direction: "better" or "worse" by the mean difference; "" without a difference.
        images: sorted by difference; the image that lost most is first.
        note: why a side has no mean.
        fallen: the images that equalled their targets in BASE (no number) and do not in NEW.
    """

    name: str
    base: float | None
    new: float | None
    paired: statistics.Paired | None
    word: str
    direction: str
    images: tuple[Image, ...] = ()
    note: str = ""
    fallen: tuple[str, ...] = ()

    @property
    def difference(self) -> float | None:
        """Mean of NEW minus mean of BASE; None if one is unknown."""
        return None if None in (self.base, self.new) else self.new - self.base


@dataclass(frozen=True)
class CellDifference:
    """A cell that both sides have. ``reason`` is why it is not compared, "" if it is compared."""

    key: str
    metrics: tuple[Change, ...] = ()
    reason: str = ""
    changes: tuple[str, ...] = ()       # changed inputs
    remark: str = ""                    # if the result changed and its inputs did not

    @property
    def same(self) -> bool:
        """Whether the cell was compared and no metric changed."""
        return not self.reason and all(m.word == statistics.SAME for m in self.metrics)


@dataclass(frozen=True)
class Latency:
    """Medians in ms, their ratio NEW / BASE, and the p of a Mann-Whitney test on the samples.

    Attributes:
        base, new: the medians.
        factor: the ratio; None if the latencies are not compared.
        p: that of this test alone; None if they are not compared.
        word: "no change", "not significant", "real" or "not compared".
        note: why they are not compared, or how far the test is to be trusted.
        adjusted: ``p`` corrected for all latencies that the runs have in common; decides ``word``.
        busy: cores that other processes kept busy on both sides, 0 if negligible.
    """

    base: float
    new: float
    factor: float | None
    p: float | None
    word: str
    note: str = ""
    adjusted: float | None = 1.0
    busy: tuple[float, float] = (0.0, 0.0)

    @property
    def tested(self) -> bool:
        """Whether chance was tested, so that the comparison counts in its family."""
        return self.word not in (statistics.SAME, NOT_COMPARED)


@dataclass(frozen=True)
class ProfileDifference:
    """A profile that both sides have.

    Attributes:
        parameters: counts on both sides; None if unknown.
        macs: multiply-accumulates; both None if the input sizes differ.
        latency: None if the conditions differ (see ``apart``).
        memory: peak memory in bytes; both None if not comparable.
        apart: why latency and memory are not compared, "" if they are.
        reason: why nothing is compared, "" if something is.
    """

    key: str
    parameters: tuple[int | None, int | None] = (None, None)
    macs: tuple[int | None, int | None] = (None, None)
    latency: Latency | None = None
    memory: tuple[int | None, int | None] = (None, None)
    apart: str = ""
    reason: str = ""
    changes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether it was compared, the sizes are equal and the latencies do not differ."""
        return (not self.reason and self.parameters[0] == self.parameters[1]
                and self.macs[0] == self.macs[1]
                and (self.latency is None or self.latency.word != statistics.REAL))


@dataclass(frozen=True)
class Comparison:
    """What two runs have in common, and what only one of them has (key -> description)."""

    base: RunData
    new: RunData
    cells: tuple[CellDifference, ...]
    profiles: tuple[ProfileDifference, ...]
    only_base: dict[str, str] = field(default_factory=dict)
    only_new: dict[str, str] = field(default_factory=dict)

    @property
    def compared(self) -> int:
        """The number of cells and profiles that were compared."""
        return sum(not one.reason for one in (*self.cells, *self.profiles))

    @property
    def tests(self) -> int:
        """The number of tested differences of scores, which are one family."""
        return sum(one.paired is not None and one.paired.tested
                   for cell in self.cells for one in cell.metrics)

    @property
    def timings(self) -> int:
        """The number of tested differences of latencies, which are one family."""
        return sum(one.latency is not None and one.latency.tested for one in self.profiles)

    @property
    def disturbed(self) -> int:
        """The number of latencies that are not compared because other work disturbed them."""
        return sum(one.latency is not None and one.latency.word == NOT_COMPARED
                   for one in self.profiles)


def compare(base: RunData, new: RunData) -> Comparison:
    """Compare every cell and profile of the same protocol (with its version), dataset and model.

    The p of all scores are corrected for their number, and so are those of all latencies
    (``statistics.holm``). Values of metrics that a record defines otherwise are not compared.
    """
    base, new = judged(base), judged(new)
    cells = [cell(base.cells[key], new.cells[key])
             for key in sorted({*base.cells} & {*new.cells})]
    profiles = [profile(base.profiles[key], new.profiles[key])
                for key in sorted({*base.profiles} & {*new.profiles})]
    return Comparison(base, new, _corrected(cells), _corrected_timings(profiles),
                      _only(base, new), _only(new, base))


def _corrected(cells: list[CellDifference]) -> tuple[CellDifference, ...]:
    """Return the cells with verdicts that are corrected for the number of all comparisons."""
    verdicts = iter(statistics.corrected([
        one.paired for cell in cells for one in cell.metrics if one.paired]))

    def change(found: Change) -> Change:
        if found.paired is None:
            return found
        paired = next(verdicts)
        return replace(found, paired=paired, word=paired.word)

    return tuple(replace(cell, metrics=tuple(map(change, cell.metrics))) for cell in cells)


def _corrected_timings(profiles: list[ProfileDifference]) -> tuple[ProfileDifference, ...]:
    tested = [one.latency for one in profiles if one.latency and one.latency.tested]
    ps = iter(statistics.holm([one.p for one in tested]))
    return tuple(replace(one, latency=replace(
        one.latency, adjusted=(p := next(ps)), word=_word(p)))
        if one.latency and one.latency.tested else one for one in profiles)


def _word(p: float) -> str:
    return statistics.REAL if p < statistics.LEVEL else statistics.NOISE


def _only(one: RunData, other: RunData) -> dict[str, str]:
    """Return what ``other`` lacks, with a note if it has another version of the protocol."""
    found = {}
    for kind, mine, theirs in (("cell", one.cells, other.cells),
                               ("profile", one.profiles, other.profiles)):
        for key in sorted({*mine} - {*theirs}):
            protocol, _, rest = key.partition("/")
            name = protocol.rpartition("@")[0]
            versions = sorted(k.partition("/")[0] for k in theirs
                              if k.partition("/")[2] == rest
                              and k.partition("/")[0].rpartition("@")[0] == name)
            found[key] = kind + (f"; the other side has {', '.join(versions)}, another version of "
                                 "the protocol, which is not compared" if versions else "")
    return found


# -- a cell ------------------------------------------------------------------------------------

def cell(base: CellData, new: CellData) -> CellDifference:
    """Compare two results of one cell."""
    changes = (tuple(inputs.changes(base.inputs, new.inputs, base.provenance, new.provenance))
               if base.inputs and new.inputs else ())
    if reason := _incomparable(base, new):
        # without a result the inputs explain nothing; with other images they may
        return CellDifference(base.key, (), reason,
                              changes if reason.startswith(OTHER_IMAGES) else ())
    both = tuple(_metric(base, new, name) for name in metrics.METRICS
                 if name in base.means or name in new.means
                 or any(name in scores for scores in base.images.values())
                 or defined_otherwise(base, new, name))
    if both and all(one.word == NOT_COMPARED for one in both):
        return CellDifference(base.key, (), both[0].note, changes)
    found = CellDifference(base.key, both, "", changes)
    if found.same or changes:
        return found
    if not base.inputs or not new.inputs:
        return CellDifference(base.key, both, "", (), UNKNOWN)
    hints = [*inputs.machine(base.provenance, new.provenance),
             *inputs.libraries(base.provenance, new.provenance)]
    return CellDifference(base.key, both, "", (), UNEXPLAINED + (
        f" (differences outside the fingerprint: {', '.join(hints)})" if hints else
        ": it is not reproducible, or a record was edited"))


def _incomparable(base: CellData, new: CellData) -> str:
    for side, one in (("BASE", base), ("NEW", new)):
        if one.status != "ok":
            return f"no result in {side}: {one.status}: {one.reason}"
    if reason := redefined(base, new):
        return reason
    lost, added = ([name for name in one.images if name not in other.images]
                   for one, other in ((base, new), (new, base)))
    if lost or added:
        return f"{OTHER_IMAGES}: " + "; ".join(
            f"{len(names)} only in {side} ({some(names)})"
            for side, names in (("BASE", lost), ("NEW", added)) if names)
    return ""


def redefined(base: CellData, new: CellData) -> str:
    """Return how the definition of a protocol differs under the same id, "" if it does not."""
    if not base.inputs or not new.inputs:
        return ""
    parts = [f"{path} {a} -> {b}" for path, a, b in
             inputs.different(base.inputs["protocol"], new.inputs["protocol"])]
    return f"{REDEFINED} of {base.protocol}: {', '.join(parts)}" if parts else ""


def defined_otherwise(base: CellData, new: CellData, metric: str) -> str:
    """Return how the definitions of a metric differ between two cells, "" if they do not."""
    return next((note for one in (base, new)
                 if (note := one.missing.get(metric, "")).startswith(metrics.REDEFINED)), "")


def some(names: Iterable[str]) -> str:
    """List the first few names, and the number of the others."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _metric(base: CellData, new: CellData, name: str) -> Change:
    images = [Image(image, scores[name], new.images[image][name],
                    new.images[image][name] - scores[name])
              for image, scores in base.images.items()
              if name in scores and name in new.images[image]]
    known = metrics.get(name)
    images.sort(key=lambda image: (known.sign * image.difference, image.name))
    means = base.means.get(name), new.means.get(name)
    notes = [f"{NO_MEAN} {side}: {one.missing.get(name, 'not requested')}"
             for side, one, mean in (("BASE", base, means[0]), ("NEW", new, means[1]))
             if mean is None]
    if defined_otherwise(base, new, name):
        return Change(name, *means, None, NOT_COMPARED, "", (), "; ".join(notes))
    fallen = tuple(image for image, scores in base.images.items() if name == metrics.INFINITE
                   and name not in scores and new.images[image].get(name, EQUALLED) < EQUALLED)
    if fallen:
        notes += [f"{some(fallen)}: identical to the target in BASE, not in NEW"]
        return Change(name, *means, None, NOT_COMPARED, WORSE, (*images,), "; ".join(notes), fallen)
    if not images:
        return Change(name, *means, None, statistics.NOISE, "", (), "; ".join(notes))
    # sums over images in another order differ in the last bits
    paired = statistics.verdict([image.difference for image in images], base.key, name,
                                least=known.noise)
    direction = "" if paired.word == statistics.SAME or not paired.mean else (
        BETTER if known.sign * paired.mean > 0 else WORSE)
    return Change(name, *means, paired, paired.word, direction, tuple(images),
                  "; ".join(notes))


# -- a profile ---------------------------------------------------------------------------------

def profile(base: ProfileData, new: ProfileData) -> ProfileDifference:
    """Compare two profiles: counts exactly; latency and memory only under the same condition."""
    changes = (tuple(inputs.changes(base.inputs, new.inputs, base.provenance, new.provenance,
                                    "profile")) if base.inputs and new.inputs else ())
    for side, one in (("BASE", base), ("NEW", new)):
        if one.status != "ok":
            return ProfileDifference(base.key,
                                     reason=f"no result in {side}: {one.status}: {one.reason}")
    apart = _apart(base, new)
    sizes = [one.condition.get(k) for k in ("batch", "channels", "height", "width")
             for one in (base, new)]
    one_size = sizes[::2] == sizes[1::2] or None in sizes
    macs = (base.macs, new.macs) if one_size else (None, None)
    latency = None if apart else _latency(base, new)
    why = apart or (latency.note if latency.word == NOT_COMPARED else "")
    if base.parameters is None and (base.macs is None or not one_size) and why:
        return ProfileDifference(base.key, reason=f"nothing to compare: {why}", changes=changes)
    alike = not apart and base.peak_memory_of == new.peak_memory_of
    return ProfileDifference(base.key, (base.parameters, new.parameters), macs,
                   latency,
                   (base.peak_memory, new.peak_memory) if alike else (None, None), apart, "",
                   changes)


def _apart(base: ProfileData, new: ProfileData) -> str:
    """Return how the conditions of two measurements differ, "" if they do not."""
    if not base.latency or not new.latency:
        return f"not comparable: no latency in {'BASE' if not base.latency else 'NEW'}"
    parts = [f"{path} {a} -> {b}" for path, a, b in inputs.different(base.condition, new.condition)]
    return f"not comparable: {', '.join(parts)}" if parts else ""


def _latency(base: ProfileData, new: ProfileData) -> Latency:
    a, b = median(base.latency), median(new.latency)
    busy = base.disturbed, new.disturbed
    if any(busy) and base.latency != new.latency:   # equal samples are one measurement
        return Latency(a, b, None, None, NOT_COMPARED, _disturbed(*busy), None, busy)
    p = statistics.mann_whitney(base.latency, new.latency)
    word = statistics.SAME if base.latency == new.latency else _word(p)
    fewest = min(len(base.latency), len(new.latency))
    note = f"{fewest} samples on one side: too few for a test" if fewest < 4 else ""
    return Latency(a, b, b / a if a else float("nan"), p, word, note, p, busy)


def _disturbed(base: float, new: float) -> str:
    """Return the cores that other processes kept busy on either side, in words."""
    sides = [f"{cores:.1f}{' cores busy elsewhere' * first} in {side}" for cores, side, first in (
        (base, "BASE", True), (new, "NEW", not base)) if cores]
    return f"disturbed ({', '.join(sides)})"
