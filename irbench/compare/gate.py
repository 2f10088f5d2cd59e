"""The gate: is a run worse than its baseline, by more than the tolerances allow?

Beside the tolerances there is one rule: each cell and profile of the baseline that the run's config
asks for must be compared, or the gate fails. So a failed cell, a missing image, a protocol that was
redefined under its old id, or a missing metric is a regression. A cell that the config no longer
asks for only gets a note, unless ``complete`` is set. The gate ignores cells that only the run has.

Scores on other data under the same names are not compared, unless the scores are equal: data that
were only stored again give the same images.

Other weights from a file give other images, so only the scores can judge them. They pass if they
are better, or equal within the tolerances: no mean and no single image may fall further than that.
If a mean is significantly better, a single image may fall further, which is advice: new weights
always trade some images for others. Within the tolerances a cell with other weights is advice, even
if it is significantly worse: a significance test finds .001 dB on enough images. With
``strict_weights`` they must score significantly better, by more than the tolerance. Weights trained
in the run are exempt from advice, because they always differ.

Significance of scores is that of ``irbench compare``, corrected for the number of comparisons. Of a
latency it is the ``p`` of the tolerances, uncorrected: its factor must exceed a tolerance as well.
A latency that other work disturbed, on either side, is only a note.

Pure functions on loaded runs; nothing is read or written.

Try: ``irbench check --baseline photos.json results/photos``
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from irbench.compare import differences, formats, inputs
from irbench.compare.differences import SHOWN, SLACK, CellDifference, Comparison
from irbench.compare.formats import change_text, latency_text, named, verdict_text, worst_text
from irbench.compare.runs import RunData
from irbench.compare.tolerances import Tolerances, limit_text
from irbench.core import metrics, statistics
from irbench.present import plain

REGRESSION, IMPROVEMENT, ADVICE, NOTE = "regression", "improvement", "advice", "note"
SPEED, EXACT, WEIGHTS = "--speed", "--exact", "--strict-weights"
PASSED, FAILED, NOTHING = 0, 1, 3       # exit codes; 2 is a usage error


@dataclass(frozen=True)
class Finding:
    """A finding of the gate on one cell or profile.

    Attributes:
        level: "regression" fails the gate; "improvement", "advice" and "note" do not.
        key: PROTOCOL/DATASET/MODEL or PROTOCOL/MODEL; "" for the whole run.
        message: what happened, a sentence without the key.
        metric: one of ``core.metrics``, parameters, macs, latency, memory; "" if none.
        base: the value of the baseline.
        new: the value of the run.
        tolerance: the tolerance, in the unit of the values, or as a share or factor.
        images: the images that lost most, for a regression of quality.
        changes: changed inputs, in words.
        option: of ``irbench check``: it makes advice a regression.
    """

    level: str
    key: str
    message: str
    metric: str = ""
    base: float | None = None
    new: float | None = None
    tolerance: float | None = None
    images: tuple[differences.Image, ...] = ()
    changes: tuple[str, ...] = ()
    option: str = ""

    @property
    def difference(self) -> float | None:
        """The value of the run minus the value of the baseline; None if one is unknown."""
        return None if None in (self.base, self.new) else self.new - self.base


@dataclass(frozen=True)
class GateResult:
    """The findings of the gate, the keys that it compared, and the keys that passed."""

    base: RunData
    new: RunData
    findings: tuple[Finding, ...]
    compared: tuple[str, ...]
    undecided: str = ""         # how many latencies are not compared, and why

    def findings_of(self, level: str) -> list[Finding]:
        """Return the findings of a level, sorted by cell."""
        return [one for one in self.findings if one.level == level]

    @property
    def failed(self) -> set[str]:
        """The keys with a regression."""
        return {one.key for one in self.findings_of(REGRESSION)}

    @property
    def code(self) -> int:
        """The exit code: 0 no regression, 1 regression, 3 nothing was compared."""
        # profiles in common, but no cell: another run's baseline, with the same networks
        other = self.base.cells and self.new.cells and not self.base.cells.keys() & self.new.cells
        return FAILED if self.failed else NOTHING if other or not self.compared else PASSED


def check(base: RunData, new: RunData, tolerances: Tolerances, *, speed: bool = False,
          exact: bool = False, complete: bool = False,
          strict_weights: bool = False) -> GateResult:
    """Compare a run with its baseline.

    Args:
        base: a loaded baseline file, or a run.
        new: a loaded run.
        tolerances: the tolerances by cell.
        speed: a speed worse than its tolerance is a regression, not advice.
        exact: images that changed although at most the code did are a regression, not advice.
        complete: a cell of the baseline that the run's config does not ask for is a regression.
        strict_weights: other weights that are not significantly better by more than the tolerance
            are a regression, not advice.
    """
    comparison = differences.compare(base, new)
    findings, compared = [*_absent(comparison, complete)], []
    for cell in comparison.cells:
        limits = tolerances.for_key(cell.key)
        if reason := _other_data(cell, comparison):
            cell = replace(cell, reason=reason)
        strict = strict_weights or limits["weights"]["gate"]
        judged = list(_cell(cell, comparison, limits["quality"], complete, strict))
        findings += judged
        real = {metric.name for metric in cell.metrics if metric.word == statistics.REAL}
        if not cell.reason and not any(
                one.level == REGRESSION or (one.level == IMPROVEMENT and one.metric in real)
                for one in judged):
            findings += _unlike(cell, comparison, limits, exact, strict)
        watched = any(m.images and limits["quality"][m.name] is not None for m in cell.metrics)
        if not watched and not cell.reason:
            findings.append(Finding(NOTE, cell.key, "it was not compared with a tolerance: "
                                    "no gated metric has scores on both sides."))
        compared += [cell.key] if watched and not cell.reason else []
    for profile in comparison.profiles:
        protocol, _, model = profile.key.partition("/")
        limits = tolerances.for_key(f"{protocol}/*/{model}")
        findings += _profile(profile, comparison, limits, speed or limits["speed"]["gate"])
        compared += [] if profile.reason else [profile.key]
    # messages of the gate call the sides "the baseline" and "this run"
    findings = [replace(one, message=_sides(one.message), changes=tuple(map(_sides, one.changes)))
                for one in findings]
    keys = [*base.cells, *("/*/".join(key.split("/")) for key in base.profiles)]
    findings += [Finding(NOTE, "", f"the override {pattern!r} matches nothing in the baseline; "
                                   "check its spelling.") for pattern in tolerances.unused(keys)]
    findings += [Finding(NOTE, "", text) for text in tolerances.notes]
    if unwatched := [key for key in comparison.only_new if key in new.cells]:
        findings.append(Finding(NOTE, "", f"{plain.many(len(unwatched), 'cell')} of this run not "
                                f"in the baseline, so the gate does not check them: "
                                f"{differences.some(unwatched)}."))
    findings.sort(key=lambda one: one.key)
    return GateResult(base, new, tuple(findings), tuple(compared), formats.undecided(comparison))


def _other_data(cell: CellDifference, comparison: Comparison) -> str:
    """Return a reason if changed scores come from other data, else ""."""
    if cell.reason or cell.same:
        return ""
    old, new = (side.cells[cell.key].inputs.get("data") for side in (comparison.base,
                                                                     comparison.new))
    return f"{differences.OTHER_DATA}: {old} -> {new}" if old and new and old != new else ""


def _sides(text: str) -> str:
    return re.sub(r"\bBASE\b", "the baseline", re.sub(r"\bNEW\b", "this run", text))


def _absent(comparison: Comparison, complete: bool) -> Iterator[Finding]:
    """Yield the findings on what the baseline has and the run has no record of."""
    base, new = comparison.base, comparison.new
    for key in comparison.only_base:
        if (base.cells.get(key) or base.profiles[key]).status != "ok":
            continue                # the baseline is a run folder and has no result either
        asked = None if new.planned is None else (
            new.planned.cell(*key.split("/")) if key in base.cells
            else new.planned.profile(*key.split("/")))
        if asked:
            yield Finding(REGRESSION, key, "no result: the run's config asks for it, and it was "
                                           "not computed. Run the workflow again.")
        elif asked is None:
            yield Finding(REGRESSION, key, f"no result in {new.where}, and no config.json there "
                                           "to show whether one was requested.")
        else:
            note = comparison.only_base[key].partition("; ")[2]
            yield Finding(REGRESSION if complete else NOTE, key, "not in this run: its config does "
                          f"not ask for it{f' ({note})' if note else ''}.")


# -- quality -----------------------------------------------------------------------------------

def _cell(cell: CellDifference, comparison: Comparison, limits: dict, complete: bool,
          strict: bool) -> Iterator[Finding]:
    changes = cell.changes or tuple(filter(None, [cell.remark]))
    if cell.reason:
        yield _refused(cell, comparison.base.cells[cell.key].status == "ok", changes)
        return
    base, new = comparison.base.cells[cell.key], comparison.new.cells[cell.key]
    for found in cell.metrics:      # in the order of the table
        metric = found.name
        if (limit := limits.get(metric)) is None:
            continue
        other = differences.defined_otherwise(base, new, metric)
        if other or (metric in base.means and metric not in new.means):
            reason = other or new.missing.get(metric)
            yield _without(cell, metric, reason, base.means.get(metric), complete)
        if found.fallen:
            yield Finding(REGRESSION, cell.key, f"{found.note}.", metric, changes=changes)
        yield from _scores(cell, found, limit, changes,
                           trades=not strict and _other_weights(cell, comparison))


def _refused(cell: CellDifference, known: bool, changes: tuple[str, ...]) -> Finding:
    """Return the finding on a cell that cannot be compared; ``known``: ok in the baseline."""
    advice = ("A changed convention needs a new version: raise the number after the @ and update "
              "the baseline." if cell.reason.startswith(differences.REDEFINED) else
              "If this is intended, update the baseline."
              if cell.reason.startswith(differences.MAY_BE_INTENDED)
              else _again(cell.reason).strip()) if known else ""
    return Finding(REGRESSION if known else NOTE, cell.key,
                   f"not compared: {cell.reason.rstrip('.')}.{f' {advice}' if advice else ''}",
                   changes=changes)


def _again(reason: str) -> str:
    """Return what to do, unless the reason states it."""
    return "" if "run again" in reason else " Run the workflow again."


def _without(cell: CellDifference, metric: str, reason: str | None, before: float | None,
             complete: bool) -> Finding:
    """Return the finding on a metric whose mean in this run cannot be compared."""
    name = named(metric)[0]
    if reason is None:
        return Finding(REGRESSION if complete else NOTE, cell.key, f"no {name} in this run: its "
                       "config does not ask for it.", metric, before)
    if "identical to the target" in reason:     # a perfect score
        return Finding(NOTE, cell.key, f"no mean {name}: {reason}. Either the result is perfect, "
                       "or the target reached the output: look at the image.", metric, before)
    return Finding(REGRESSION, cell.key, f"no {name}: {reason.rstrip('.')}. To ignore this metric, "
                   "set its tolerance to null.", metric, before)


def _other_weights(cell: CellDifference, comparison: Comparison) -> bool:
    """Whether both sides of a cell name the weights that they used, and these differ."""
    old, new = (side.cells[cell.key].inputs for side in (comparison.base, comparison.new))
    return bool(old and new) and old["weights"] != new["weights"]


def _scores(cell: CellDifference, found: differences.Change, limit: dict,
            changes: tuple[str, ...], *, trades: bool) -> Iterator[Finding]:
    """Yield the finding on a metric; ``trades``: other weights may lose some images to gain others.
    """
    sign = metrics.get(found.name).sign
    name, unit, _ = named(found.name)
    mean, single = limit.get("mean"), limit.get("image")
    gain = None if found.difference is None else sign * found.difference
    broken = [image for image in found.images
              if single is not None and sign * image.difference < -single - SLACK]
    fell = gain is not None and mean is not None and gain < -mean - SLACK
    figures = (found.name, found.base, found.new)
    lost = tuple(image for image in found.images if sign * image.difference < 0)
    if fell:
        yield Finding(
            REGRESSION, cell.key, f"mean {name} {change_text(found)}, worse by more than {mean:g}"
            f"{unit}{limit_text(found.word, found.paired)}; {worst_text(found.name, lost)}.",
            *figures, mean, lost[:SHOWN], changes)
    elif broken:
        gained = trades and found.word == statistics.REAL and found.direction == differences.BETTER
        yield Finding(
            ADVICE if gained else REGRESSION, cell.key,
            f"{name} of {len(broken)} of {len(found.images)} images is worse by more than "
            f"{single:g}{unit}; {worst_text(found.name, broken)}"
            f"{f'; mean {change_text(found)}' if found.difference is not None else ''}.", *figures,
            single, tuple(broken[:SHOWN]), changes, WEIGHTS)
    elif gain is not None and mean is not None and gain > mean + SLACK:
        yield Finding(IMPROVEMENT, cell.key, f"mean {name} {change_text(found)}, better by more "
                      f"than {mean:g}{unit} ({verdict_text(found)}).", *figures, mean, (), changes)


def _unlike(cell: CellDifference, comparison: Comparison, limits: dict, exact: bool,
            strict: bool) -> Iterator[Finding]:
    """Yield the findings on images that changed within the tolerances of quality."""
    made = [side.cells[cell.key].inputs for side in (comparison.base, comparison.new)]
    if not all(made):
        return
    old, new = made
    if _other_weights(cell, comparison):
        if not (old["training"] or new["training"]):
            yield from _weights(cell, limits["quality"], strict)
        return
    limits = limits["exact"]
    if any(True for part in ("data", "model", "settings", "training")
           for _ in inputs.different(old[part], new[part])):
        return
    for found in cell.metrics:
        limit = limits[found.name]
        if limit is not None and any(abs(i.difference) > limit + SLACK for i in found.images):
            yield Finding(REGRESSION if exact or limits["gate"] else ADVICE, cell.key,
                          f"the images changed: {formats.most_text(found, limit)}. If this is "
                          "intended, update the baseline.", found.name, found.base, found.new,
                          limit, formats.farthest(found)[:SHOWN],
                          cell.changes or tuple(filter(None, [cell.remark])), EXACT)
            return


def _weights(cell: CellDifference, limits: dict, strict: bool) -> Iterator[Finding]:
    """Yield the finding on other weights that changed images, none beyond its tolerance."""
    moved = [one for one in cell.metrics if one.images and one.word != statistics.SAME]
    if not moved:
        return
    # the worst news first: a gated metric that is significantly worse
    worse = [one for one in moved if one.word == statistics.REAL and limits.get(one.name)
             and one.direction == differences.WORSE]
    told = (worse or moved)[0]
    outcome = ("no metric is significantly better by more than its tolerance" if strict else
               f"{named(told.name)[0]} is significantly worse, but within its tolerance" if worse
               else "no metric is significantly worse")
    yield Finding(REGRESSION if strict else ADVICE, cell.key,
                  f"the weights differ from the baseline, and {outcome}: "
                  f"{formats.most_text(told, 0)} ({verdict_text(told)}). If the new weights "
                  "are intended, update the baseline.", told.name, told.base, told.new, 0,
                  formats.farthest(told)[:SHOWN], cell.changes, WEIGHTS)


# -- size and speed ----------------------------------------------------------------------------

def _profile(profile: differences.ProfileDifference, comparison: Comparison, limits: dict,
             gate: bool) -> Iterator[Finding]:
    key, changes = profile.key, profile.changes
    if profile.reason:
        known = comparison.base.profiles[key].status == "ok" and "no result" in profile.reason
        yield Finding(REGRESSION if known else NOTE, key, "not compared: "
                      f"{profile.reason.rstrip('.')}.{_again(profile.reason) if known else ''}",
                      changes=changes)
        return
    for name, (a, b) in (("parameters", profile.parameters), ("macs", profile.macs)):
        title = "MACs" if name == "macs" else name
        if a is not None and b is None:
            yield Finding(REGRESSION, key, f"no count of {title} in this run.", name, a,
                          changes=changes)
        if a is None or b is None or a == b:
            continue
        share, allowed = (b - a) / a if a else float("inf"), limits["size"][name]
        # counts are whole numbers: with a tolerance of 0, one more is a regression
        grown = b > a and share > allowed + (SLACK if allowed else 0)
        yield Finding(REGRESSION if grown else NOTE if b > a else IMPROVEMENT, key,
                      f"{title} {a:,} -> {b:,} ({b - a:+,}"
                      f"{f', {share:+.2%}' if a else ''})"
                      f"{_growth(allowed) if b > a else ''}.",
                      name, a, b, allowed, (), changes)
    old, new = comparison.base.profiles[key], comparison.new.profiles[key]
    if profile.macs == (None, None) and old.macs is not None and new.macs is not None:
        yield Finding(NOTE, key, "MACs not compared: they were counted on inputs of another size.",
                      "macs", old.macs, new.macs)
    yield from _speed(profile, comparison, limits["speed"], gate)


def _growth(allowed: float) -> str:
    return f"; a growth of {allowed:.2%} is allowed" if allowed else "; no growth is allowed"


def _speed(profile: differences.ProfileDifference, comparison: Comparison, limits: dict,
           gate: bool) -> Iterator[Finding]:
    key, found = profile.key, profile.latency
    base, new = comparison.base.profiles[key], comparison.new.profiles[key]
    slow, lost = REGRESSION if gate else ADVICE, bool(base.latency and not new.latency)
    if profile.apart and gate:
        yield Finding(REGRESSION if lost else NOTE, key, f"latency {profile.apart}.", "latency")
    if found and found.word == differences.NOT_COMPARED:
        yield Finding(NOTE, key, f"{latency_text(found)}.", "latency", found.base, found.new)
        found = None
    fewest = min(len(base.latency), len(new.latency))
    if (found and gate and found.factor > limits["latency"]
            and statistics.least_p(len(base.latency), len(new.latency)) >= limits["p"]):
        yield Finding(NOTE, key, f"{latency_text(found)}: {plain.many(fewest, 'sample')} on one "
                      f"side cannot give a p below {limits['p']:g}. Take more.", "latency",
                      found.base, found.new, limits["latency"])
    if found and found.p < limits["p"]:
        words = f"{latency_text(found)[:-1]}, p = {found.p:.2g})"
        if found.factor > limits["latency"]:
            yield Finding(slow, key, f"{words}, slower than x {limits['latency']:g}.", "latency",
                          found.base, found.new, limits["latency"], (), profile.changes, SPEED)
        elif found.factor < 1 / limits["latency"]:
            yield Finding(IMPROVEMENT, key, f"{words}.", "latency", found.base, found.new,
                          limits["latency"], (), profile.changes)
    a, b = profile.memory
    if a and b and b / a > limits["memory"]:
        yield Finding(slow, key, f"peak memory {a / 2**20:.1f} -> {b / 2**20:.1f} MiB "
                      f"(x {b / a:.2f}), more than x {limits['memory']:g}.", "memory", a, b,
                      limits["memory"], (), profile.changes, SPEED)
