"""The training table: the cost of each set of weights, its scores and the gaps to the paper.

A row is a test set on which the weights were scored. The first row of each set of weights also
states how they were trained. The table holds weights trained in the run and weights files whose
header describes their training. Gap = measured - published, in dB, for the same method and set.
Reads nothing but the collected run and published values; goes to ``tables/training.{md,tex,csv}``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from irbench.catalog import published
from irbench.core import metrics
from irbench.present import text
from irbench.present.table import Column, Table, Value
from irbench.report.facts import weights
from irbench.report.facts.weights import Weights
from irbench.report.run import Cell, Run

STEM = "training"
FIELDS = ("model", "trained_for", "levels", "origin", "recipe", "loss", "datasets", "left_out",
          "training_images", "held_out_images", "steps", "images_seen", "seconds", "device",
          "threads", "processes", "parameters", "waiting_share", "final_loss",
          "validation_best_psnr_db", "validation_best_step", "validation_last_psnr_db",
          "validation_last_step", "validation_of", "status", "reason", "protocol", "dataset",
          "psnr_db", "ssim", "published_method", "published_psnr_db", "published_source", "gap_db",
          "missing", "training_record", "record")
FOLD = 30                       # rows that the page shows unfolded
AFTER = 9                       # columns on the training after the columns of scores


@dataclass(frozen=True)
class Printed:
    """The paper's PSNR for a cell. ``reason`` states why there is none, or no gap to it."""

    figure: published.Figure | None
    row: published.Method | None
    reason: str = ""
    notes: Sequence[str] = ()   # notes that a reader needs to compare


def sheet(run: Run) -> Table | None:
    """Return the table, None if nothing is known of any training."""
    if not weights.planned(run):
        return None
    made = Table(STEM, "Training: cost and quality", [Column("Weights", left=True)], [
        Column("Wall time"), Column("Steps"),
        Column("Scored under", left=True), Column("Test set", left=True),
        Column("measured", ("PSNR (dB)",)), Column("published", ("PSNR (dB)",)),
        Column("gap", ("PSNR (dB)",)), Column("Computed on", left=True),
        Column("best", ("Validation PSNR (dB)",)), Column("last", ("Validation PSNR (dB)",)),
        Column("Final loss"), Column("Parameters"), Column("Patches seen"),
        Column("Waiting for data"), Column("Recipe", left=True),
        Column("Trained on", left=True)], FIELDS)
    against = made.columns[5:7]
    found = weights.all_weights(run)
    common = _common(found)
    for one in found:
        line = _cost_line(one)
        for index, cell in enumerate(one.cells or [None]):
            # in this order, so that the notes are in order too
            before = [Value("")] * 3 if index else _before(made, run, one)
            scores, score_fields = _scores(made, run, one, cell)
            after = [Value("")] * AFTER if index else _after(made, one, common)
            made.add([*before, *scores, *after])
            made.lines.append([*line, *score_fields[:-1], _record(one) or None, score_fields[-1]])
    made.folded = len(made.rows) > FOLD
    made.leave_out_unknown(against)
    made.sentences[:0] = _sentences(found, against[1] in made.columns, common)
    return made


def _common(found: list[Weights]) -> list[str]:
    """Return what all validations have in common; the caption says it, and each note the rest."""
    parts = [weights.validation(one, one.scope) for one in found if one.best and one.validation_on]
    return [part for part in parts[0] if all(part in other for other in parts)] if parts else []


def _sentences(found: list[Weights], gaps: bool, common: list[str]) -> list[str]:
    origins = {one.origin for one in found}
    return [
        "Training cost of each set of weights, and its mean PSNR (dB) on the test sets of this run "
        "under the protocol in the row.",
        "Gap: measured minus published in the model's own paper." if gaps else "",
        "Weights bundled with irbench come from a short training on little data, whereas the "
        "papers trained on much more data for days on GPUs." if weights.BUNDLED in origins else "",
        "Weights trained in this run had the steps and the time stated, which may differ from the "
        "paper's." if weights.HERE in origins else "",
        "A gap reflects the training as much as the model." if gaps else "",
        "Wall time: the training alone, without interruptions. Patches seen: with repeats. Waiting "
        "for data: share of the wall time in which the model had no batch. Final loss: mean over "
        "the last tenth of the curve, in the loss of the recipe (unitless), so losses of different "
        "recipes do not compare. Validation: on images held out of the training, never on a test "
        "set; it only compares moments of one training."
        + f" Of all validations: {'; '.join(common)}." * bool(common)]


# -- what it cost --------------------------------------------------------------------------------

def _before(made: Table, run: Run, one: Weights) -> list[Value]:
    """Return the name and origin of the weights, the wall time and the steps."""
    ranges = weights.levels(one.levels)
    origin = one.origin if one.known or one.origin != weights.HERE else f"to be {one.origin}"
    name = Value(run.model_title(one.model), sub=f"{origin}, for {one.scope}"
                 + (f" ({ranges})" if ranges else ""))
    return [name, _figure(made, one, "seconds", "wall time", text.duration),
            _figure(made, one, "steps", "steps", _count)]


def _after(made: Table, one: Weights, common: list[str]) -> list[Value]:
    """Return the other columns on a training."""
    sets, left_out, machine = weights.data(one), weights.left_out(one), weights.machine(one)
    return [
        Value(machine) if machine else _absent(made, one, "device"),
        _validation(made, one, one.best, "best", common),
        _validation(made, one, one.last, "last", common),
        _figure(made, one, "final_loss", "final loss", lambda loss: f"{loss:.4g}"),
        _figure(made, one, "parameters", "parameters", text.parameters),
        _figure(made, one, "images_seen", "patches seen", _count),
        _figure(made, one, "waiting", "time waiting for data", text.percent),
        _recipe(made, one),
        Value(sets, [made.note(left_out)] if left_out else []) if sets
        else _absent(made, one, "training data")]


def _figure(made: Table, one: Weights, key: str, what: str, how: Callable) -> Value:
    number = one.facts.get(key)
    return _absent(made, one, what) if number is None else Value(how(number), record=_record(one))


def _record(one: Weights) -> str:
    """Return the path of the record of a training in this run, "" for weights from a file."""
    return one.job.path if one.job and one.job.record else ""


def _absent(made: Table, one: Weights, what: str) -> Value:
    """Return n/a, because the training or this part of it is unknown."""
    if not one.known:
        return made.absent(_why(one))
    where = "training record" if one.origin == weights.HERE else "weights file"
    return made.absent(f"the {where} does not contain: {what}")


def _why(one: Weights) -> str:
    if one.job is None:
        return ("no training of these weights is recorded" if one.origin == weights.HERE else
                "the weights file does not describe its training")
    reason = one.job.reason if one.job.status == "missing" else \
        f"{one.job.status}: {one.job.reason}"
    return f"{reason.rstrip('.')}; {one.job.unfinished}, run it again" \
        if one.job.unfinished and one.job.unfinished not in reason else reason


def _recipe(made: Table, one: Weights) -> Value:
    if not one.recipe:
        return _absent(made, one, "recipe")
    details = "; ".join(filter(None, [
        one.note, *one.sources, "settings by irbench, not from the paper of the method: "
        f"{', '.join(one.ours)}" if one.ours else ""]))
    return Value(one.recipe + (f", loss {one.loss}" if one.loss else ""),
                 [made.note(f"{one.recipe}: {details}")] if details else [])


def _validation(made: Table, one: Weights, point: tuple[int, float] | None, which: str,
                common: list[str]) -> Value:
    if point is None:
        return (made.absent("not validated, or the validation is not recorded") if one.known else
                _absent(made, one, which))
    step, psnr = point
    basis = "; ".join(part for part in weights.validation(one, one.scope) if part not in common)
    return Value(f"{psnr:.2f}" + (f" at step {_count(step)}" if which == "best" else ""),
                 [made.note(f"validation: {basis}")] if basis else [])


def _count(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _cost_line(one: Weights) -> list:
    facts, has = one.facts, one.hardware
    return [
        one.model, one.scope, weights.levels(one.levels), one.origin, one.recipe, one.loss,
        "; ".join(one.datasets),
        "; ".join(f"{name}: {' '.join(map(str, names))}"
                  for name, names in one.exclude.items() if names),
        one.images.get("training"), one.images.get("held_out"), facts.get("steps"),
        facts.get("images_seen"), facts.get("seconds"),
        has.get("device_name") or has.get("device"), has.get("threads"), has.get("processes"),
        facts.get("parameters"), facts.get("waiting"), facts.get("final_loss"),
        *reversed(one.best or (None, None)), *reversed(one.last or (None, None)),
        weights.validated(one), one.job.status if one.job else "ok" if one.known else "unknown",
        "" if one.known else _why(one)]


# -- what it scores ------------------------------------------------------------------------------

def _scores(made: Table, run: Run, one: Weights, cell: Cell | None) -> tuple[list[Value], list]:
    """Return the columns of one test set, and their part of the CSV."""
    if cell is None:
        return [Value(text.NONE) for _ in range(5)], [None] * 10
    measured, reasons = cell.means.get("psnr"), []
    found = printed(run, cell, bool(one.levels))
    figure, gap = found.figure, None
    if measured is None:
        why = (cell.reason or cell.status if cell.status != "ok" else
               cell.missing.get("psnr") or "not requested in this run")
        reasons.append(why)
        score = made.absent(why)
    else:
        score = Value(text.value("psnr", measured),
                      [made.note(cell.leak)] if cell.leak else [], record=cell.path)
        gap = None if figure is None or found.reason else measured - figure.value
    if found.reason:
        reasons.append(found.reason)
    row = [Value(cell.protocol), Value(run.dataset_title(cell.dataset)), score,
           made.absent(found.reason) if figure is None else
           Value(figure.shown, [made.note(note) for note in (
               *published.notes(found.row), *found.notes)]),
           made.absent(found.reason or reasons[0]) if gap is None
           else Value(metrics.signed(gap, metrics.get("psnr").decimals))]
    return row, [cell.protocol, cell.dataset, measured, cell.means.get("ssim"),
                 found.row.method if found.row else None, figure.shown if figure else None,
                 figure.source if figure else None,
                 None if gap is None else round(gap, 6), "; ".join(reasons),
                 cell.path if cell.record else None]


def printed(run: Run, cell: Cell, blind: bool) -> Printed:
    """Return the PSNR that the paper of the model prints for the set and level of a cell.

    If a method has two rows, a blind model is compared with the row of one model for all levels
    (with an asterisk), and a model for one level with the other row. If only the other kind is
    printed, it is used with a note. A model with other options than the paper's also gets a note.
    """
    spec = run.models[cell.model]
    name = spec.published_as.lower()
    if run.published == "none":
        return Printed(None, None, "this report shows no published values")
    if cell.synthetic:
        return Printed(None, None, "a degradation of this project: no paper has values for it")
    if not name:
        return Printed(None, None, "no paper prints values for this model")
    key = (cell.level, cell.dataset, "psnr")
    rows = [row for row in published.rows(cell.task, {key[:2]}, figures=run.figures)
            if row.name.lower() == name and key in row.figures]
    if not rows:
        return Printed(None, None, "the paper prints no PSNR on this test set at this level")
    row = min(rows, key=lambda row: row.one_model != blind)
    notes = [] if row.one_model == blind else [
        "printed for a model of this level only; the weights here serve a range of levels"
        if blind else "the weights here were trained for this level only"]
    if not spec.in_paper:
        notes.append("the model here differs from the paper's in options or number type, "
                     "so the gap compares two different models")
    figure = row.figures[key]
    return Printed(figure, row, cell.leak or published.other_version(figure, cell.protocol)
                   or published.caveat(figure), notes)
