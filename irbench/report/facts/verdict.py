"""Verdicts: does a measured value agree with the one printed for the same method?

A cell has a counterpart if its model names the method under which its values are printed
(``published_as``) and is exactly this method; a variant has no counterpart. A printed row with an
asterisk (one model for all levels) is the counterpart of blind weights; a row without one is the
counterpart of weights for one level. Reads nothing but the collected run and the published values;
``tables.verdicts`` makes the table.

This file holds all tolerances with their reasons, except ``Metric.close`` (table of metrics) and
the ``differs`` of a dataset (its catalog). Difference = measured - published.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

from irbench.catalog import published
from irbench.catalog.model import Model
from irbench.core import metrics, statistics
from irbench.present import text
from irbench.report.facts import kinds
from irbench.report.run import Cell, Run

REPRODUCED, NOISE, DIFFERS = "reproduced", "within noise", "differs"
NOT_COMPARABLE, NOTHING = "not comparable", "nothing published"
# ``Metric.close`` is allowed beyond half of the last printed digit, for arithmetic and library
# versions. Measured values differ by about 0.001 dB between machines; published values were often
# rounded differently.
CLOSE_REASON = "half of the last printed digit and 0.01 dB or .0005"


@dataclass(frozen=True)
class Allowance:
    """Extra tolerance by metric for a known reason; {} means none."""

    most: dict[str, float]
    reason: str


# Wider tolerances by degradation, for weights trained by others and for models without weights ...
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
        {}, f"one codec makes all inputs, so the tolerance is {CLOSE_REASON}"),
    "mosaic": Allowance(
        {}, "the mosaic is exact and the filters of the input are fixed, so the tolerance "
        f"is {CLOSE_REASON}"),
    "paired": Allowance(
        {}, f"input and target come as files, so the tolerance is {CLOSE_REASON}"),
}
# ... and for weights about which less is known
TRAINED = Allowance(
    {}, "trained here, for the time stated in the row of the model; with one seed the spread "
    "between seeds is unknown, so no extra tolerance is given for it (`seeds: 3` measures it)")
BUNDLED = Allowance(
    {}, "bundled weights, trained with this pipeline for the time stated in the table of "
    "trainings, which is not the training of the papers: no extra tolerance is given for it")
OTHER_WEIGHTS = Allowance(
    {}, "the training of these weights is unknown, so no extra tolerance is given")
NOTHING_KNOWN = Allowance(
    {}, f"no reason for a difference is known, so the tolerance is {CLOSE_REASON}")


@dataclass(frozen=True)
class Verdict:
    """One metric of a cell against one printed value. ``tolerance`` None: not compared."""

    cell: Cell
    metric: str
    figure: published.Figure
    measured: float
    difference: float
    word: str                       # one of the constants above
    tolerance: float | None
    reason: str

    @property
    def as_shown(self) -> str:
        """The verdict as shown: ``differs by -0.31 dB``."""
        if self.word != DIFFERS:
            return self.word
        known = metrics.get(self.metric)
        return (f"differs by {self.difference:+.{known.decimals}f}"
                + (f" {known.unit}" if known.unit else ""))


def is_counterpart(spec: Model, method: str, blind: bool = False) -> bool:
    """Return whether a printed method is the same method as a model of the plan.

    Case does not matter. A variant (changed options or inference) or a reference never is.
    ``blind``: the weights of the model serve a range of levels.
    """
    if kinds.is_variant(spec) or kinds.is_reference(spec):
        return False
    name = spec.published_as
    itself = spec.in_paper or spec.external or spec.given or not spec.learned
    return bool(name) and itself and f"{name}{'*' * blind}".lower() == method.lower()


def close(figure: published.Figure) -> float:
    """Return the tolerance of "reproduced": half of the last printed digit + ``Metric.close``."""
    exponent = Decimal(figure.text).as_tuple().exponent
    return float(Decimal(1).scaleb(exponent) / 2) + metrics.get(figure.metric).close


def retrained(cell: Cell, metric: str) -> Allowance | None:
    """Return the tolerance of weights that were trained here with several seeds, as measured.

    It is the 95 % prediction interval of one more training: a printed value is one training too, as
    far as is known. None for weights of one seed.
    """
    values = [one.means[metric] for one in cell.of(metric)]
    if not cell.seeds or len(values) < 2:
        return None
    unit = metrics.get(metric).unit
    return Allowance({metric: statistics.prediction(values)}, (
        f"trained here with {len(values)} seeds; the standard deviation between them is "
        f"{text.difference(metric, statistics.spread(values)).removeprefix('+')}"
        f"{f' {unit}' if unit else ''}, and the tolerance is the 95 % prediction interval of one "
        "more training"))


def wider(spec: Model, protocol: dict) -> Allowance:
    """Return the tolerance of "within noise" for a model under a protocol."""
    known = {"trained": TRAINED, "bundled": BUNDLED}
    if spec.checkpoint.kind in known:
        return known[spec.checkpoint.kind]
    if spec.learned and not spec.external and not spec.given:
        return OTHER_WEIGHTS
    return BY_INPUT.get((protocol.get("degradation") or {}).get("kind"), NOTHING_KNOWN)


def all_verdicts(run: Run) -> list[Verdict]:
    """Return the verdicts of a run in the order of its cells; [] without published values."""
    found = []
    if run.published == "none":
        return found
    for cell in run.rows:
        if cell.synthetic:
            continue
        spec = run.models[cell.model]
        for row in published.rows(cell.task, {(cell.level, cell.dataset)}, figures=run.figures):
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

    caveat = (cell.leak or published.other_version(figure, cell.protocol)
              or published.caveat(figure, (protocol.get("metric") or {}).get("ssim")))
    if caveat:
        return result(NOT_COMPARABLE, None, caveat)
    least = close(figure)
    if abs(difference) <= least + 1e-9:
        return result(REPRODUCED, least, CLOSE_REASON)
    allowed = retrained(cell, figure.metric) or wider(run.models[cell.model], protocol)
    most = allowed.most.get(figure.metric)
    files = run.datasets.get(cell.dataset, {}).get("differs") or {}  # unlike the papers' files
    more = files.get(figure.metric, 0)
    reasons = [allowed.reason] * (most is not None) + ([files["reason"]] if more else [])
    if not reasons:
        return result(DIFFERS, least, allowed.reason)
    limit = (least if most is None else most) + more
    if abs(difference) <= limit + 1e-9:
        return result(NOISE, limit, "; ".join(reasons))
    return result(DIFFERS, max(least, limit),
                  f"more than the known reasons explain: {'; '.join(reasons)}")


def by_cell(verdicts: list[Verdict]) -> dict[str, Verdict]:
    """Return the first PSNR verdict of each cell, by the path of its record."""
    found: dict[str, Verdict] = {}
    for verdict in verdicts:
        if verdict.metric == "psnr":
            found.setdefault(verdict.cell.path, verdict)
    return found


def compared(run: Run) -> dict[tuple[str, str], Verdict]:
    """Return (record's path, metric) -> the first verdict with a difference.

    One for each measured value that has a printed value of the same method.
    """
    found: dict[tuple[str, str], Verdict] = {}
    for verdict in all_verdicts(run):
        if verdict.tolerance is not None:
            found.setdefault((verdict.cell.path, verdict.metric), verdict)
    return found


def summary(run: Run, verdicts: list[Verdict]) -> str:
    """Return a summary: how many values agree, and how many cells have no counterpart."""
    counts = Counter(verdict.word for verdict in verdicts)
    parts = [f"{counts[word]} {words}" for word, words in (
        (REPRODUCED, "reproduced"), (NOISE, "within noise"), (DIFFERS, "differ"),
        (NOT_COMPARABLE, "not comparable")) if counts[word]]
    with_result = [cell for cell in run.rows if cell.means]
    compared = {verdict.cell.path for verdict in verdicts}
    without = sum(cell.path not in compared for cell in with_result)
    return (f"Of {len(verdicts)} values with a published counterpart: {', '.join(parts)}. "
            f"{without} of {len(with_result)} cells with a result have no counterpart.")
