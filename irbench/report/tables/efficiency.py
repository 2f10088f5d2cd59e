"""The efficiency table: cost and scores side by side, one row per protocol and model.

Joins profiles (parameters, multiply-adds, latency, peak memory) and cells (PSNR, and SSIM and LPIPS
if the run has them). A row shows the scores on one set: the set of the protocol on which most
models have a result. The CSV has a line for every set. Latencies of different conditions do not
compare, so each row states its condition if they differ. Reads nothing but the collected run; goes
to ``tables/efficiency.{md,tex,csv}``.
"""

from __future__ import annotations

from collections.abc import Callable

from irbench.core import metrics
from irbench.present import text
from irbench.present.table import Column, Table, Value
from irbench.report.facts import family, kinds
from irbench.report.plots import latency
from irbench.report.run import Cell, Outcome, Run

STEM = "efficiency"
CIRCUMSTANCES = ("device", "dtype", "size", "batch", "threads")
FIELDS = ("model", "protocol", "dataset", "parameters", "macs", "latency_p50_ms",
          "peak_memory_bytes", "peak_memory_of",
          *(metrics.get(name).column() for name in metrics.default()), "images", *CIRCUMSTANCES,
          "inference", "reference", "profile_status", "profile_reason", "profile_record",
          "cell_status", "cell_reason", "cell_record")
How = Callable[[float], str]
FOLD = 30                       # rows that the page shows unfolded


def sheet(run: Run) -> Table | None:
    """Return the table, None if no profile was planned."""
    if not run.profiles:
        return None
    shown = _shown(run)
    made = Table(STEM, "Efficiency", [Column("Model", left=True)], [
        Column("Protocol", left=True), Column("Parameters (M)"),
        Column("MACs (G)"), Column("Latency, p50 (ms)"), Column("Peak memory (MiB)"),
        *(Column(metrics.get(name).label) for name in shown)], FIELDS)
    hows = {latency.condition(job.result): None for job in run.profiles.values() if job.result}
    names, written = list(family.ordered(run.models)), _columns(run)
    sets: list[str] = []        # of each row, "" without a cell
    for protocol in dict.fromkeys(protocol for protocol, _ in run.profiles):
        cells = {(cell.model, cell.dataset): cell for cell in run.rows
                 if cell.protocol == protocol}
        dataset = _most_scored(list(cells.values()))
        models = {model for model, _ in cells} | {m for p, m in run.profiles if p == protocol}
        for model in sorted(models, key=names.index):
            job = run.profiles.get((protocol, model))
            cell = cells.get((model, dataset))
            sets.append(run.dataset_title(cell.dataset) if cell else "")
            made.add(_row(made, run, protocol, model, job, cell, len(hows) > 1, shown,
                          written))
            made.lines += [_line(run, protocol, model, job, cell) for cell in
                           [cell for (m, _), cell in cells.items() if m == model] or [None]]
    one = len({*sets} - {""}) == 1      # then the caption names it, and not each row
    if not one:
        made.columns.append(Column("Test set", left=True))
        for row, title in zip(made.rows, sets, strict=True):
            row.entries.append(Value(title or text.NONE))
    made.folded = len(made.rows) > FOLD
    made.sentences = [
        "Parameters in millions. Multiply-adds (MACs) in 10^9, latency and peak memory are for one "
        "forward pass of the same input. Latency is the median (p50) of the timed passes after "
        "warm-up.",
        f"Measured on {next(iter(hows))} (input as channels{text.TIMES}height{text.TIMES}width)."
        if len(hows) == 1 else
        "Compare latencies only if their notes name the same device, dtype, input and threads."
        if hows else "",
        f"{', '.join(metrics.get(name).title for name in shown)}: the mean over all images of "
        f"{max(sets) if one else 'the test set in the row'}, under the protocol in the row. It is "
        "the set on which most models have a result; the CSV has all sets.",
        "±: sample standard deviation over the seeds of a training; the value is their mean."
        if any(value.spread for row in made.rows for value in row.values) else "",
        "Latency depends on the machine and its load: treat it as a guide."]
    return made


def _most_scored(cells: list[Cell]) -> str:
    """Return the dataset with most results (then most images), "" if no dataset has one."""
    scored: dict[str, list[int]] = {}
    for cell in cells:
        if "psnr" in cell.means:
            scored.setdefault(cell.dataset, []).append(len(cell.images))
    planned = cells[0].dataset if cells else ""
    return max(scored, key=lambda name: (len(scored[name]), max(scored[name])), default=planned)


def _shown(run: Run) -> list[str]:
    """Return the metrics with a column: PSNR, and the other default ones that a cell has."""
    return [name for name in metrics.default()
            if name == "psnr" or any(name in cell.means for cell in run.cells)]


def _row(made: Table, run: Run, protocol: str, model: str, job: Outcome | None, cell: Cell | None,
         mixed: bool, shown: list[str], written: dict[str, How]) -> list[Value]:
    """Return a row.

    ``mixed``: the latencies of the table have different conditions; ``written``: see ``_columns``.
    """
    result = job.result if job else {}
    name = Value(latency.name(run, model, result), sub=family.sub(run, model),
                 marks=[made.note(sentence) for sentence in family.of_shared(run, job)])
    count = run.parameters(protocol, model)
    parameters = (made.absent("no profile or training record to count parameters from")
                  if count is None else Value(f"{count / 1e6:.3f}" if count else "0"))
    time = (result.get("latency_ms") or {}).get("p50")
    unplanned = ("scored from given pictures, so there is no network to profile"
                 if run.models[model].given else
                 "not profiled in this run" if run.models[model].learned else
                 "a model without a network has no profile")
    row = [name, Value(protocol), parameters, *(
        _figure(made, job, key, number, how, unplanned) for key, number, how in (
            ("macs", result.get("macs"), written["macs"]),
            ("latency_ms", time, written["latency"]),
            ("peak_memory_bytes", result.get("peak_memory_bytes"), written["memory"])))]
    if time is not None:
        row[4].marks += [made.note(sentence) for sentence in _of_latency(result, mixed)]
    if result.get("peak_memory_bytes") is not None and result.get("peak_memory_of"):
        row[5].marks.append(made.note(f"peak memory: {result['peak_memory_of']}"))
    for value in row[2:]:
        value.record = job.path if job and job.record else ""
    return [*row, *(_score(made, run, model, cell, name) for name in shown)]


def _columns(run: Run) -> dict[str, How]:
    """Return how the numbers of each column of cost are written."""
    results = [job.result for job in run.profiles.values() if job.result]
    kinds = {"macs": (1e9, [one.get("macs") for one in results]),
             "latency": (1, [(one.get("latency_ms") or {}).get("p50") for one in results]),
             "memory": (2**20, [one.get("peak_memory_bytes") for one in results])}
    made = {}
    for kind, (unit, numbers) in kinds.items():
        evenly = text.evenly(number / unit for number in numbers if number)
        made[kind] = lambda number, unit=unit, evenly=evenly: evenly(number / unit)
    return made


def _figure(made: Table, job: Outcome | None, name: str, number: float | None,
            how: Callable[[float], str], unplanned: str) -> Value:
    if number is not None:
        return Value(how(number))
    if job is None:
        return made.absent(unplanned)
    if not job.result:
        return made.absent(job.reason if job.status == "missing" else
                           f"{job.status}: {job.reason}")
    missing = job.result.get("missing") or {}
    return made.absent(str(missing.get(name) or f"the record holds no {name.replace('_', ' ')}"))


def _of_latency(result: dict, mixed: bool) -> list[str]:
    """Return the notes on a latency: how it was measured, and what disturbed it."""
    return [*(sentence for sentence in (
        f"measured on {latency.condition(result)}" if mixed else "",
        latency.disturbed(result)) if sentence), *family.passes(result)]


def _score(made: Table, run: Run, model: str, cell: Cell | None, metric: str) -> Value:
    if cell is None:
        return (made.absent(family.REFERENCE) if kinds.is_reference(run.models[model])
                else Value(text.NONE))
    known = cell.means.get(metric)
    if known is None:
        why = (cell.missing.get(metric) or f"{metrics.get(metric).title} was not requested"
               if cell.status == "ok" else
               cell.reason if cell.status == "missing" else f"{cell.status}: {cell.reason}")
        score = made.absent(why)
    else:
        score = Value(text.value(metric, known),
                      [made.note(sentence) for sentence in (
                          *filter(None, [cell.leak]), *family.seeds(cell, metric),
                          *family.circumstances(cell))],
                      spread=family.spread(cell, metric), seeds=len(cell.of(metric)))
    score.record = cell.path if cell.record else ""
    return score


def _line(run: Run, protocol: str, model: str, job: Outcome | None, cell: Cell | None) -> list:
    result = job.result if job else {}
    how = latency.circumstances(result) if result else dict.fromkeys(CIRCUMSTANCES)
    return [
        model, protocol, cell.dataset if cell else None, run.parameters(protocol, model),
        result.get("macs"), (result.get("latency_ms") or {}).get("p50"),
        result.get("peak_memory_bytes"), result.get("peak_memory_of"),
        *(cell.means.get(name) if cell else None for name in metrics.default()),
        len(cell.images) or None if cell else None,
        *(how[name] for name in CIRCUMSTANCES), family.way(result),
        str(kinds.is_reference(run.models[model])).lower(),
        *((job.status, job.reason, job.path if job.record else None) if job else (None,) * 3),
        *((cell.status, cell.reason, cell.path if cell.record else None) if cell
          else (None,) * 3)]
