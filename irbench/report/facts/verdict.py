"""Verdicts: does a measured figure agree with the one printed for the same method?

A cell has a counterpart if its model says under which name its figures are printed
(``published_as``) and is that very method: a variant of ours is none. A printed row with an
asterisk (one model for all levels) is the counterpart of blind weights, one without of weights for
one level. Reads nothing but the collected run and the published figures; ``tables.verdicts`` makes
their table.

All tolerances, with their reasons, are in this file; ``Metric.close`` is of the table of metrics.
Difference = measured - published.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

from irbench.catalog import published
from irbench.catalog.model import Model
from irbench.core import metrics
from irbench.report.facts import kinds
from irbench.report.run import Cell, Run

REPRODUCED, NOISE, DIFFERS = "reproduced", "within noise", "differs"
NOT_COMPARABLE, NOTHING = "not comparable", "nothing published"
# Beyond half of the last printed digit, ``Metric.close``: arithmetic and library versions. Measured
# figures move by about 0.001 dB between machines; published ones were often printed from another
# rounding.
CLOSE_REASON = "half of the last printed digit and 0.01 dB or .0005"


@dataclass(frozen=True)
class Allowance:
    """How far figures may lie from printed ones for a known reason: by metric; {}: not at all."""

    most: dict[str, float]
    reason: str


# Wider tolerances: by how the input is made, for weights that others trained and for no weights ...
BY_INPUT = {
    "matlab_bicubic": Allowance(
        {"psnr": 0.04, "ssim": 0.001},
        "toolkits differ in conventions: on Set5 bicubic x2, Y rounded or not moves "
        "PSNR by 0.033 dB, and enlarging Y alone moves SSIM by up to .0009"),
    "gaussian_noise": Allowance(
        # measured by `python benchmarks/noise.py`
        {"psnr": 0.05, "ssim": 0.002},
        "another draw of the noise: over six draws on Set12 at sigma 25 the standard "
        "deviation is 0.020 dB and .0008 for the noisy input, 0.014 dB and .0004 for DnCNN"),
    "jpeg": Allowance(
        {}, f"one codec makes all inputs, so no more is allowed than {CLOSE_REASON}"),
    "mosaic": Allowance(
        {}, "the mosaic is exact and the filters of the input are fixed, so no more is "
        f"allowed than {CLOSE_REASON}"),
    "paired": Allowance(
        {}, f"input and target come as files, so no more is allowed than {CLOSE_REASON}"),
}
# ... and for weights of which less is known
TRAINED = Allowance(
    {}, "trained here, for as long as the model's row says; how far two seeds of one "
    "training lie apart is unknown here, so nothing is allowed for it")
BUNDLED = Allowance(
    {}, "bundled weights, trained with this pipeline for as long as the table of trainings "
    "says, which is not the papers' training: nothing is allowed for it")
OTHER_WEIGHTS = Allowance(
    {}, "how these weights were trained is unknown here, so nothing is allowed for")
NOTHING_KNOWN = Allowance(
    {}, f"no reason for a difference is known, so no more is allowed than {CLOSE_REASON}")


@dataclass(frozen=True)
class Verdict:
    """One metric of a cell against one printed figure. ``tolerance`` None: not compared."""

    cell: Cell
    metric: str
    figure: published.Figure
    measured: float
    difference: float
    word: str                       # one of the constants above
    tolerance: float | None
    reason: str

    @property
    def said(self) -> str:
        """The verdict as shown: ``differs by -0.31 dB``."""
        if self.word != DIFFERS:
            return self.word
        known = metrics.get(self.metric)
        return (f"differs by {self.difference:+.{known.decimals}f}"
                + (f" {known.unit}" if known.unit else ""))


def is_counterpart(spec: Model, method: str, blind: bool = False) -> bool:
    """Say whether a printed method is the one that a model of the plan is. Case does not matter.

    A variant (changed options or inference) and a reference are no paper's model. ``blind``: the
    model's weights serve a range of levels.
    """
    if not kinds.competes(spec):
        return False
    name = spec.published_as
    itself = spec.in_paper or spec.external or not spec.learned
    return bool(name) and itself and f"{name}{'*' * blind}".lower() == method.lower()


def close(figure: published.Figure) -> float:
    """Return the tolerance of "reproduced": half of the last printed digit, and a little."""
    exponent = Decimal(figure.text).as_tuple().exponent
    return float(Decimal(1).scaleb(exponent) / 2) + metrics.get(figure.metric).close


def wider(spec: Model, protocol: dict) -> Allowance:
    """Return the tolerance of "within noise" for a model under a protocol."""
    known = {"trained": TRAINED, "bundled": BUNDLED}
    if spec.checkpoint.kind in known:
        return known[spec.checkpoint.kind]
    if spec.learned and not spec.external:
        return OTHER_WEIGHTS
    return BY_INPUT.get((protocol.get("degradation") or {}).get("kind"), NOTHING_KNOWN)


def of(run: Run) -> list[Verdict]:
    """Return the verdicts of a run in the order of its cells; none if it shows no figures."""
    found = []
    if run.published == "none":
        return found
    for cell in run.cells:
        if cell.synthetic:
            continue
        spec = run.models[cell.model]
        for row in published.rows(cell.task, {(cell.level, cell.dataset)}):
            if is_counterpart(spec, row.method, run.blind(cell.protocol, cell.model)):
                found += [_verdict(run, cell, row.figures[key])
                          for metric, known in metrics.METRICS.items() if known.close is not None
                          and (key := (cell.level, cell.dataset, metric)) in row.figures
                          and metric in cell.means]
    return found


def _verdict(run: Run, cell: Cell, figure: published.Figure) -> Verdict:
    protocol = run.protocols.get(cell.protocol) or {}
    measured = cell.means[figure.metric]
    difference = measured - figure.value

    def result(word: str, tolerance: float | None, reason: str) -> Verdict:
        return Verdict(cell, figure.metric, figure, measured, difference, word, tolerance, reason)

    caveat = cell.leak or published.caveat(figure, (protocol.get("metric") or {}).get("ssim"))
    if caveat:
        return result(NOT_COMPARABLE, None, caveat)
    least = close(figure)
    if abs(difference) <= least + 1e-9:
        return result(REPRODUCED, least, CLOSE_REASON)
    allowed = wider(run.models[cell.model], protocol)
    most = allowed.most.get(figure.metric)
    if most is not None and abs(difference) <= most + 1e-9:
        return result(NOISE, most, allowed.reason)
    return result(DIFFERS, max(least, most or 0), allowed.reason if most is None
                  else f"more than can be explained: {allowed.reason}")


def by_cell(verdicts: list[Verdict]) -> dict[str, Verdict]:
    """Return the first PSNR verdict of each cell, by the path of its record."""
    found: dict[str, Verdict] = {}
    for verdict in verdicts:
        if verdict.metric == "psnr":
            found.setdefault(verdict.cell.path, verdict)
    return found


def compared(run: Run) -> dict[tuple[str, str], Verdict]:
    """Return the first verdict with a difference of each cell and metric: (record's path, metric).

    One for each figure that a printed figure of the same method stands beside.
    """
    found: dict[tuple[str, str], Verdict] = {}
    for verdict in of(run):
        if verdict.tolerance is not None:
            found.setdefault((verdict.cell.path, verdict.metric), verdict)
    return found


def summary(run: Run, verdicts: list[Verdict]) -> str:
    """Return one sentence: how many figures agree, and how many cells have no counterpart."""
    counts = Counter(verdict.word for verdict in verdicts)
    parts = [f"{counts[word]} {words}" for word, words in (
        (REPRODUCED, "reproduced"), (NOISE, "within noise"), (DIFFERS, "differ"),
        (NOT_COMPARABLE, "not comparable")) if counts[word]]
    with_result = [cell for cell in run.cells if cell.means]
    compared = {verdict.cell.path for verdict in verdicts}
    without = sum(cell.path not in compared for cell in with_result)
    return (f"Of {len(verdicts)} figures with a printed counterpart: {', '.join(parts)}. "
            f"{without} of {len(with_result)} cells with a result have none.")
