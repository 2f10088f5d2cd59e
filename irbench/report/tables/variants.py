"""The variants table: the same weights run differently, with changes in quality and speed.

A row compares a variant with its base on one dataset under one protocol. Reads nothing but the
collected run; the table goes to ``tables/variants.{md,tex,csv}``. Differences are variant minus
base. The latency ratio is variant / base; it is given only if both were measured on the same
device, input and threads. The dtype may differ, because a variant may change it.
"""

from __future__ import annotations

from irbench.core import metrics
from irbench.present import text
from irbench.present.table import Column, Table, Value
from irbench.report.facts import family
from irbench.report.plots import latency
from irbench.report.run import Cell, Outcome, Run

STEM = "variants"
ABOUT = ("base", "variant", "changes", "protocol", "dataset")
SPEED = ("base_latency_p50_ms", "latency_p50_ms", "latency_ratio", "latency_condition",
         "missing", "base_record", "record", "base_profile_record", "profile_record")
FOLD = 30                       # rows that the page shows unfolded


def sheet(run: Run) -> Table | None:
    """Return the table, None if the run has no variants."""
    cells = {(c.model, c.protocol, c.dataset): c for c in run.cells}
    scores = [metrics.get(name) for name in metrics.main()]
    fields = [name for one in scores
              for name in (f"base_{one.column()}", one.column(), one.column("difference"))]
    made = Table(STEM, "Variants: quality and speed", [Column("Variant", left=True)], [
        Column("Protocol", left=True), Column("Dataset", left=True),
        *(Column(title, (one.label,)) for one in scores for title in ("base", "difference")),
        Column("base", ("Latency, p50",)), Column("variant", ("Latency, p50",)),
        Column("variant / base", ("Latency, p50",))], (*ABOUT, *fields, *SPEED))
    hows: dict[str, None] = {}
    for base, names in family.variants(run).items():
        for name in names:
            for cell in (c for c in run.cells if c.model == name):
                _add(made, run, cells.get((base, cell.protocol, cell.dataset)), cell, base, hows)
    if not made.rows:
        return None
    made.folded = len(made.rows) > FOLD
    made.sentences = [
        "A variant uses the weights of its base; its name states what it changes. "
        f"{' and '.join(one.label for one in scores)} are means over all images of the dataset "
        "under the protocol in the row. Difference: variant minus base, so + is better. Latency is "
        "the median of one forward pass, for base and variant on the same device, input and threads"
        + (f" ({'; '.join(hows)})" if hows else "") + ". Variants are not in the papers and are "
        "not ranked.",
        "Of several seeds of a training, base and variant are the first."
        if {spec.seed_of for spec in run.models.values()} & {*family.variants(run)} else ""]
    return made


def _add(made: Table, run: Run, base: Cell | None, cell: Cell, base_name: str,
         hows: dict[str, None]) -> None:
    profiles = [run.profiles.get((cell.protocol, name)) for name in (base_name, cell.model)]
    reasons: dict[str, str] = {}
    row, line = [], []
    for metric in metrics.main():
        old, new = (_mean(one, metric, who, reasons) for one, who in (
            (base, "base"), (cell, "variant")))
        apart = new - old if None not in (old, new) else None
        why = reasons.get(f"base {metric}") or reasons.get(f"variant {metric}") or ""
        row.append(made.absent(reasons[f"base {metric}"]) if old is None
                   else Value(text.value(metric, old),
                              [made.note(sentence) for sentence in family.circumstances(base)],
                              record=base.path))
        row.append(made.absent(why) if apart is None
                   else Value(text.difference(metric, apart),     # its dtype is in the row
                              [made.note(sentence) for sentence in family.tiles(cell)],
                              record=cell.path))
        line += [old, new, None if apart is None else round(apart, 6)]
    times = [_p50(job, who, reasons) for job, who in zip(profiles, ("base", "variant"),
                                                         strict=True)]
    ratio, how = _ratio(profiles, times, reasons)
    if ratio is not None:
        hows[how] = None
    for time, who, job in zip(times, ("base", "variant"), profiles, strict=True):
        row.append(made.absent(reasons[f"{who} latency"]) if time is None
                   else Value(text.milliseconds(time), [made.note(sentence) for sentence in filter(
                       None, [latency.disturbed(job.result)])], record=job.path))
    row.append(made.absent(reasons["ratio"]) if ratio is None else Value(
        text.ratio(ratio), [made.note(latency.ONE_DISTURBED)]
        if any(latency.disturbed(job.result) for job in profiles) else []))
    changes = family.changes(run.models[cell.model])
    made.add([Value(run.model_title(cell.model), sub=family.sub(run, cell.model)),
              Value(cell.protocol), Value(run.dataset_title(cell.dataset)), *row])
    ratio_fields = (None, "") if ratio is None else (round(ratio, 6), how)
    made.lines.append([base_name, cell.model, changes, cell.protocol, cell.dataset, *line,
                       *times, *ratio_fields,
                       "; ".join(f"{what}: {why}" for what, why in reasons.items()),
                       *(job.path if job and job.record else None
                         for job in (base, cell, *profiles))])


def _mean(cell: Cell | None, metric: str, who: str, reasons: dict[str, str]) -> float | None:
    """Return a mean, or None after adding the reason."""
    if cell is not None and metric in cell.means:
        return cell.means[metric]
    why = ("not planned" if cell is None else cell.reason if cell.status != "ok"
           else cell.missing.get(metric) or "not requested in this run")
    reasons[f"{who} {metric}"] = f"{who}: {str(why or cell.status).rstrip('.')}"
    return None


def _p50(job: Outcome | None, who: str, reasons: dict[str, str]) -> float | None:
    result = job.result if job else {}
    time = (result.get("latency_ms") or {}).get("p50")
    if time is None:
        why = ((job.reason if job else "not profiled")
               or (result.get("missing") or {}).get("latency_ms") or "no latency recorded")
        reasons[f"{who} latency"] = f"{who}: {why.rstrip('.')}"
    return time


def _ratio(profiles: list[Outcome | None], times: list[float | None],
           reasons: dict[str, str]) -> tuple[float | None, str]:
    """Return (variant / base, how both were measured); (None, "") after adding the reason."""
    if None in times:
        reasons["ratio"] = "base or variant has no latency"
        return None, ""
    one, other = (latency.condition(job.result, ("dtype",)) for job in profiles)
    if one != other:
        reasons["ratio"] = f"base measured on {one}, variant on {other}"
        return None, ""
    return times[1] / times[0], one
