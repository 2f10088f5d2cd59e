"""The tables of profiles: speed beside the reference networks, and operations by kind.

Reads nothing but the collected run; the tables go to ``tables/profiles.{md,tex,csv}`` and
``tables/operations.{md,tex,csv}``. Values for different devices, sizes, batches, dtypes or thread
counts do not compare, so a ratio to a reference is given only where all of them agree.
"""

from __future__ import annotations

from collections.abc import Callable

from irbench.core import statistics
from irbench.present import text
from irbench.present.table import Column, Table, Value
from irbench.report.facts import family, kinds
from irbench.report.plots import latency
from irbench.report.run import Outcome, Run

KINDS = ("linear", "conv", "attention", "dictionary", "other")
CIRCUMSTANCES = ("device", "dtype", "size", "batch", "threads")
TAILS = (90, 99)                # percentiles that are printed where there are samples enough
SPEED = ("model", "protocol", "reference", "parameters", "latency_p50_ms",
         *(f"latency_p{percent}_ms" for percent in TAILS), "timed_passes", "busy_elsewhere_cores",
         "images_per_s", "input_megapixels_per_s", "joules_per_image", "energy_method",
         "peak_memory_bytes", "peak_memory_of", "attention", "attention_reason", *CIRCUMSTANCES,
         "inference", "ratios", "status", "reason", "missing", "record")
OPERATIONS = ("model", "protocol", "reference", "input", "parameters", "macs",
              *(f"macs_{kind}" for kind in KINDS), "macs_keys_only", "uncounted", "status",
              "reason", "record")
ENERGY = Column("J/image", ("Energy",))
MEASURED_ON, INPUT = Column("Measured on", left=True), Column("Input", left=True)
RATES = ("images_per_s", "megapixels_per_s")
FOLD = 30                       # rows that the page shows unfolded


def sheets(run: Run) -> list[Table]:
    """Return the tables of speed and of operations; none if no profile was planned."""
    if not run.profiles:
        return []
    made = [speed(run), operations(run)]
    for sheet in made:
        sheet.folded = len(sheet.rows) > FOLD
    return made


def references(run: Run) -> list[str]:
    """Return the names of the references, which are included for their speed only."""
    return [name for name, spec in run.models.items() if kinds.is_reference(spec)
            and any(model == name for _, model in run.profiles)]


def p50(job: Outcome | None) -> float | None:
    """Return the median latency of a profile in ms, None if unknown."""
    return ((job.result if job else {}).get("latency_ms") or {}).get("p50")


def over(run: Run, job: Outcome, reference: str) -> tuple[float | None, str]:
    """Return (latency / latency of a reference, ""), or (None, reason), under one protocol."""
    other = run.profiles.get((job.protocol, reference))
    if p50(job) is None or p50(other) is None:
        why = ("no latency" if p50(job) is None else
               "not measured under this protocol" if other is None else
               other.reason or "its latency is not recorded")
        return None, f"{run.model_title(reference)}: {why.rstrip('.')}"
    mine, its = (latency.circumstances(one.result) for one in (job, other))
    different = [name for name in CIRCUMSTANCES if mine[name] != its[name]]
    if different:
        return None, (f"{run.model_title(reference)}: measured with another "
                      f"{' and '.join(different)} ({', '.join(its[n] for n in different)})")
    return p50(job) / p50(other), ""


# -- speed ---------------------------------------------------------------------------------------

def speed(run: Run) -> Table:
    """Return the table of latency, throughput, energy, memory and ratios to the references."""
    named = references(run)
    tails = [percent for percent in TAILS if any(
        latency.percentile(_time(job), percent) is not None for job in run.profiles.values())]
    made = Table("profiles", "Speed", [Column("Model", left=True)], [
        Column("Protocol", left=True), Column("Parameters"),
        Column("p50", ("Latency",)), *(Column(f"p{one}", ("Latency",)) for one in tails),
        Column("passes", ("Latency",)),
        *(Column(name, ("p50 over that of",)) for name in named),
        Column("images/s", ("Throughput",)), Column("input MP/s", ("Throughput",)),
        ENERGY, Column("Peak memory"), Column("Attention", left=True),
        MEASURED_ON], SPEED)
    rates = {key: text.evenly(filter(None, (
        (job.result.get("throughput") or {}).get(key) for job in run.profiles.values())))
             for key in RATES}
    for job in _ordered(run):
        if not job.result:
            _no_result(made, run, job, SPEED)
            continue
        row = [_first(made, run, job), Value(job.protocol), _figures(made, job, "parameters")]
        time = _time(job)
        times = [_figure(made, job, "latency_ms", time.get("p50"), text.milliseconds),
                 *(_tail(made, job, percent) for percent in tails)]
        if disturbed := latency.disturbed(job.result):
            for value in times:
                value.marks.append(made.note(disturbed))
        row += times
        passes = len(time.get("samples") or []) or None
        row.append(_figure(made, job, "samples", passes, str))
        ratios = {name: over(run, job, name) for name in named}
        row += [made.absent(why) if ratio is None else Value(text.ratio(ratio), [
                    made.note(latency.ONE_DISTURBED)] if any(latency.busy(one.result) for one in (
                        job, run.profiles[job.protocol, name])) else [])
                for name, (ratio, why) in ratios.items()]
        row += [*_throughput(made, job, rates), _energy(made, job), _memory(made, job),
                _attention(made, job), Value(latency.condition(job.result))]
        made.add(row)
        made.lines.append(_speed_line(run, job, ratios))
    made.leave_out_unknown([ENERGY])
    how = _alike(made, MEASURED_ON)
    made.sentences[:0] = _speed_sentences(run, named, tails, ENERGY in made.columns, how)
    return made


def _time(job: Outcome) -> dict:
    return job.result.get("latency_ms") or {}


def _tail(made: Table, job: Outcome, percent: int) -> Value:
    """Return a percentile of the latency, or n/a if there are too few samples for it."""
    found = latency.percentile(_time(job), percent)
    if found is None:
        return made.absent(f"a p{percent} needs {statistics.least_samples(percent)} timed passes")
    return Value(text.milliseconds(found), record=job.path)


def _speed_sentences(run: Run, named: list[str], tails: list[int],
                     energy: bool, how: str) -> list[str]:
    also = "".join(f", and their {one}th percentile (p{one}) where there are "
                   f"{statistics.least_samples(one)} or more" for one in tails)
    return [
        f"One forward pass after warm-up: median (p50) of the timed passes{also}. "
        f"MP: 10^6 input pixels. Input as channels{text.TIMES}height{text.TIMES}width.",
        f"Measured on {how}. Throughput is for this batch size." if how else
        "Throughput is for the batch size in the row.",
        "Energy is what the driver of the device reports; n/a if it reports none."
        if energy else "",
        f"{' and '.join(f'{run.model_title(name)} ({name})' for name in named)} "
        f"{'have' if len(named) > 1 else 'has'} random weights and "
        f"{'are' if len(named) > 1 else 'is'} included for speed only. A ratio above 1 means "
        "slower than the reference; it is n/a if device, dtype, input or threads differ."
        if named else "",
        f"Attention: the implementation used; {text.NONE} for models without a dictionary.",
        "Latency depends on the machine and its load: treat it as a guide."]


def _alike(made: Table, column: Column) -> str:
    """Remove a column that holds the same text in all rows with a result; return the text.

    Return "" if the rows differ; then the column stays.
    """
    index = made.columns.index(column)
    shown = {row.entries[index].shown for row in made.rows} - {text.NA}
    if len(shown) != 1:
        return ""
    del made.columns[index]
    for row in made.rows:
        del row.entries[index]
    return shown.pop()


def _throughput(made: Table, job: Outcome, written: dict[str, Callable]) -> list[Value]:
    rates = job.result.get("throughput") or {}
    return [_figure(made, job, "throughput", rates.get(key), written[key]) for key in RATES]


def _energy(made: Table, job: Outcome) -> Value:
    energy = job.result.get("energy") or {}
    value = _figure(made, job, "energy", energy.get("joules_per_image"), lambda j: f"{j:.3g}")
    if energy.get("method") and value.shown != text.NA:
        value.marks.append(made.note(f"energy by {energy['method']}"))
    return value


def _memory(made: Table, job: Outcome) -> Value:
    value = _figures(made, job, "peak_memory_bytes", text.size)
    if value.shown != text.NA and job.result.get("peak_memory_of"):
        value.marks.append(made.note(f"peak memory: {job.result['peak_memory_of']}"))
    return value


def _attention(made: Table, job: Outcome) -> Value:
    """Return the implementation that ran; a note states why it was chosen."""
    if "attention" not in job.result:
        return made.absent("the record is older than the field for the implementation")
    chosen = job.result["attention"]
    if not chosen:
        return Value(text.NONE)
    value = Value(str(chosen.get("implementation") or text.NA), reason=str(chosen.get("reason")))
    if chosen.get("reason"):
        value.marks.append(made.note(f"{value.shown}: {value.reason}"))
    return value


def _speed_line(run: Run, job: Outcome, ratios: dict[str, tuple]) -> list:
    result = job.result
    time, rates = _time(job), result.get("throughput") or {}
    energy, chosen = result.get("energy") or {}, result.get("attention") or {}
    how = latency.circumstances(result)
    return [
        job.model, job.protocol, _is_reference(run, job), result.get("parameters"),
        time.get("p50"), *(latency.percentile(time, percent) for percent in TAILS),
        len(time.get("samples") or []) or None, time.get("busy_elsewhere"),
        rates.get("images_per_s"), rates.get("megapixels_per_s"), energy.get("joules_per_image"),
        energy.get("method"), result.get("peak_memory_bytes"), result.get("peak_memory_of"),
        chosen.get("implementation"), chosen.get("reason"), *(how[n] for n in CIRCUMSTANCES),
        family.way(result),
        "; ".join(f"{name}: {round(ratio, 6)!r}" for name, (ratio, _) in ratios.items()
                  if ratio is not None),
        job.status, job.reason,
        "; ".join(f"{name}: {why}" for name, why in (result.get("missing") or {}).items()),
        job.path]


# -- operations ----------------------------------------------------------------------------------

def operations(run: Run) -> Table:
    """Return the table of multiply-adds by kind."""
    made = Table("operations", "Operations", [Column("Model", left=True)], [
        Column("Protocol", left=True), INPUT,
        Column("total", ("MACs",)), Column("keys only", ("MACs",)),
        *(Column(kind, ("MACs by kind",)) for kind in KINDS)], OPERATIONS)
    for job in _ordered(run):
        result = job.result
        if not result:
            _no_result(made, run, job, OPERATIONS)
            continue
        counts = result.get("macs_by_kind") or {}
        by_kind = {kind: counts.get(kind, 0 if counts else None) for kind in KINDS}
        left_out = ", ".join(f"{op} ({n})" for op, n in
                             sorted((result.get("uncounted") or {}).items()))
        total = _figures(made, job, "macs", text.si)
        if left_out:
            total.marks.append(made.note(f"leaves out: {left_out}"))
        size = text.input_size(result.get("input") or {})
        made.add([
            _first(made, run, job), Value(job.protocol), Value(size), total, _keys_only(made, job),
            *(_figure(made, job, "macs", number, _macs) for number in by_kind.values())])
        made.lines.append([job.model, job.protocol, _is_reference(run, job), size,
                           result.get("parameters"), result.get("macs"), *by_kind.values(),
                           result.get("macs_keys_only"), left_out, job.status, job.reason,
                           job.path])
    size = _alike(made, INPUT)
    made.sentences = [
        "Multiply-adds (MACs) of one forward pass for "
        f"{f'an input of {size}' if size else 'the input in the row'} (batch, channels, "
        "height, width). One MAC is about two FLOPs; papers that report FLOPs may mean either. "
        "Attention: full products of two activations, as dense hardware computes them even if a "
        "mask follows. Dictionary: similarities and selection of keys. Keys only: the total with "
        "attention counted over the k keys of the dictionary, as in the papers; equal to the total "
        "if nothing is masked."]
    return made


def _macs(count: int) -> str:
    return text.si(count) if count else "0"


def _keys_only(made: Table, job: Outcome) -> Value:
    if "macs_keys_only" not in job.result:
        return made.absent("the record is older than the count of MACs over keys only")
    missing = job.result.get("missing") or {}
    return _figure(made, job, "macs_keys_only" if "macs_keys_only" in missing else "macs",
                   job.result["macs_keys_only"], text.si)


# -- rows ----------------------------------------------------------------------------------------

def _ordered(run: Run) -> list[Outcome]:
    """Return the profiles by protocol; models in order: a base, its variants, references."""
    protocols = list(dict.fromkeys(protocol for protocol, _ in run.profiles))
    names = list(family.ordered(run.models))
    return sorted(run.profiles.values(),
                  key=lambda job: (protocols.index(job.protocol), names.index(job.model)))


def _is_reference(run: Run, job: Outcome) -> str:
    return str(kinds.is_reference(run.models[job.model])).lower()


def _first(made: Table, run: Run, job: Outcome) -> Value:
    return Value(latency.name(run, job.model, job.result), sub=family.sub(run, job.model),
                 marks=[made.note(sentence) for sentence in family.of_profile(run, job)],
                 record=job.path if job.record else "")


def _figures(made: Table, job: Outcome, name: str, how: Callable = text.parameters) -> Value:
    return _figure(made, job, name, job.result.get(name), how)


def _figure(made: Table, job: Outcome, name: str, number: float | None, how: Callable) -> Value:
    """Return a value, or n/a with the reason that the record gives for ``name``."""
    if number is not None:
        return Value(how(number), record=job.path)
    missing = job.result.get("missing") or {}
    return made.absent(str(missing.get(name) or f"the record holds no {name.replace('_', ' ')}"))


def _no_result(made: Table, run: Run, job: Outcome, fields: tuple[str, ...]) -> None:
    """Add a row for a profile without a result."""
    why = job.reason if job.status == "missing" else f"{job.status}: {job.reason}"
    made.add([_first(made, run, job), Value(job.protocol),
              *(made.absent(why) for _ in made.columns[1:])])
    known = {"model": job.model, "protocol": job.protocol, "reference": _is_reference(run, job),
             "status": job.status, "reason": job.reason,
             "record": job.path if job.record else None}
    made.lines.append([known.get(name) for name in fields])
