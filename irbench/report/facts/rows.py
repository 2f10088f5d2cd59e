"""Rows of the tables of methods: one model measured here, or one method as printed.

A footnote of a measured row states how its weights were made; a printed row states where it was
printed. A footnote also gives the reason why a value is missing or cannot be compared. Reads
nothing but the collected run and the published values.
"""

from __future__ import annotations

from decimal import Decimal

from irbench.catalog import published
from irbench.core import metrics
from irbench.present import text
from irbench.present.notes import in_order
from irbench.present.table import Column, Row, Table, Value
from irbench.report.facts import family, kinds, verdict, weights
from irbench.report.run import Cell, Run

BUNDLED = "weights that come with irbench"
Cells = dict[tuple[str, str, str], Cell]                # by protocol, dataset and model
Counterparts = dict[tuple[str, str], verdict.Verdict]   # by the path of a record and the metric


def measured(table: Table, run: Run, model: str, here: Cells, counterparts: Counterparts) -> Row:
    """Return the row of a model.

    Args:
        table: the table that gets the footnotes.
        run: the collected run.
        model: name of the model.
        here: the cells of the table.
        counterparts: the printed values of the same method: see ``verdict.compared``.
    """
    spec = run.models[model]
    name = Value(run.model_title(model))
    if not kinds.competes(spec):
        name.marks.append(table.note(family.note(run, model)))
        if spec.base or kinds.is_reference(spec):
            spec = run.models.get(spec.base)    # the remarks on the base apply too
    if spec and spec.note:
        name.marks.append(table.note(spec.note))
    elif spec and spec.learned and not (spec.in_paper or spec.own):
        name.marks.append(table.note("this variant is not in the paper of the method"))
    if declared := weights.declared(run, model):
        name.marks.append(table.note(f"trained on {declared}"))
    protocols = dict.fromkeys(column.protocol for column in table.columns)
    planned = [p for p in protocols if any(k[0] == p and k[2] == model for k in here)]
    origin = _weights(run, model, planned)
    if origin and not kinds.is_variant(run.models[model]):   # a variant's note names its base
        name.marks.append(table.note(origin))
        name.marks += [table.note(one) for one in _sources(run, model, planned)]
    seeds = max([len(k.seeds) for k in here.values() if k.model == model], default=0)
    name.sub = f"{seeds} seeds" if seeds else ""
    name.marks = in_order(name.marks)
    row = Row([name, _parameters(table, run, model, planned)], key=model, origin=origin, counts={
        protocol: count for protocol in planned
        if (count := run.parameters(protocol, model)) is not None})
    for column in table.columns:
        cell = here.get((column.protocol, column.dataset, model))
        row.entries.append(_entry(table, column, cell, kinds.competes(run.models[model]),
                                  counterparts.get((cell.path, column.metric)) if cell else None))
    return row


def _entry(table: Table, column: Column, cell: Cell | None, ranked: bool,
           counterpart: verdict.Verdict | None) -> Value:
    if cell is None:
        return Value(text.NONE)
    if column.metric in cell.means:
        number = cell.means[column.metric]
        remarks = [*filter(None, [cell.leak]), *weights.borrowed(cell),
                   *family.seeds(cell, column.metric),
                   *family.circumstances(cell)]
        entry = Value(text.value(column.metric, number),
                      number=number if ranked and not cell.leak else None, exact=repr(number),
                      status="ok", marks=[table.note(one) for one in remarks], record=cell.path,
                      spread=family.spread(cell, column.metric), seeds=len(cell.of(column.metric)))
        if counterpart:
            entry.apart = counterpart.difference
            entry.difference = metrics.signed(entry.apart,
                                              metrics.get(column.metric).decimals)
            entry.against = f"{counterpart.figure.method} ({counterpart.figure.source})"
        return entry
    if cell.status == "ok":
        why = cell.missing.get(column.metric)
        if why is None:         # another cell of the table asked for this metric
            return Value(text.NONE)
    else:
        why = cell.reason or cell.status
        why = why if cell.status == "missing" else f"{cell.status}: {why}"
    return Value(text.NA, marks=[table.note(why)], status=cell.status, reason=why,
                 record=cell.path if cell.record else "")


def _weights(run: Run, model: str, protocols: list[str]) -> str:
    """Return where the weights of a model come from and, if known, how long they were trained."""
    by_length: dict[str, list[str]] = {}
    devices, lengths_known = [], True
    kind = run.models[model].checkpoint.kind
    from_file = {"bundled": BUNDLED, "file": "weights from a local file",
                 "url": "downloaded weights"}.get(kind, "")
    for protocol in protocols:
        training = run.training_of(protocol, model)
        if training is None:
            continue
        # no wall time: a training repeated must give the same table (tables/training has it)
        steps = training["steps"]
        length = f"{steps} step{'s' * (steps != 1)}" if steps is not None else ""
        lengths_known &= bool(length) and training["status"] == "ok"
        level = text.level_label(text.split_id(protocol)[1])
        if training["status"] != "ok":
            length = training["unfinished"] or (
                "no training record" if training["status"] == "missing"
                else f"training {training['status']}")
        by_length.setdefault(length or "length unknown", []).append(level)
        device = weights.DEVICES.get(training["device"], training["device"])
        if device and device not in devices:
            devices.append(device)
    if by_length:
        lengths = (list(by_length) if len(by_length) == 1 else
                   [f"{' and '.join(levels)}: {length}" for length, levels in by_length.items()])
        done = any(run.training_of(p, model)["status"] == "ok" for p in protocols
                   if run.training_of(p, model))
        on = f"on {' and '.join(devices)}" * bool(devices)
        if lengths_known:
            lengths = (list(by_length) if len(by_length) == 1 else
                       [f"{length} ({' and '.join(levels)})"
                        for length, levels in by_length.items()])
            return " ".join(filter(None, [
                f"{from_file}, trained" if from_file else "trained here", "for",
                " and ".join(lengths), on]))
        origin = f"{from_file}: " if from_file else "trained here: " * done
        return (origin + "; ".join(lengths)
                + (", " if len(by_length) == 1 else "; ") * bool(devices) + on)
    return from_file


def _sources(run: Run, model: str, protocols: list[str]) -> list[str]:
    """Return the teacher of the weights and what they began with, with levels if they differ."""
    levels: dict[str, list[str]] = {}
    for protocol in protocols:
        for one in weights.origins(run.training_of(protocol, model) or {}):
            levels.setdefault(one, []).append(text.level_label(text.split_id(protocol)[1]))
    return [one if len(found) == len(protocols) else f"{' and '.join(found)}: {one}"
            for one, found in levels.items()]


def _parameters(table: Table, run: Run, model: str, protocols: list[str]) -> Value:
    counts = [run.parameters(protocol, model) for protocol in protocols]
    if all(count is None for count in counts):
        why = ("no network to count parameters of" if run.models[model].given else
               "no profile or training record to count parameters from")
        return Value(text.NA, marks=[table.note(why)])
    shown = [text.NA if count is None else text.parameters(count) for count in counts]
    return Value(_per_level(shown), exact="/".join("" if c is None else str(c)
                                                   for c in dict.fromkeys(counts)))


def _per_level(shown: list[str]) -> str:
    """Join the counts of all levels, in their order, if they differ: ``11.87 / 12.06 M``."""
    if len(set(shown)) == 1:
        return shown[0]
    units = {value.partition(" ")[2] for value in shown}
    if len(units) == 1:
        unit = units.pop()
        return " / ".join(v.partition(" ")[0] for v in shown) + (f" {unit}" if unit else "")
    return " / ".join(shown)


def printed(table: Table, run: Run, rows: dict[str, published.Method]) -> Row:
    """Return the row of a printed method: ``rows`` by the task, for a table of several tasks."""
    first = next(iter(rows.values()))
    levels = dict.fromkeys((column.task, column.level) for column in table.columns)
    known = {(task, level): rows[task].params_m.get(level) if task in rows else None
             for task, level in levels}
    counts = list(filter(None, known.values()))
    params = [text.published_parameters(count) for count in counts]
    if len(set(params)) > 1:        # each has its place among the levels
        params = [text.published_parameters(count) if count else text.NA
                  for count in known.values()]
    reproduced = [run.model_title(r.key) for r in table.measured
                  if any(verdict.is_counterpart(run.models[r.key], first.method,
                                                run.blind(p, r.key))
                         for p in {c.protocol for c in table.columns if c.task in rows})]
    name = Value(first.method, [table.note(sentence) for sentence in published.notes(first)],
                 f"counterpart above: {' and '.join(reproduced)}" if reproduced else "")
    count = Value(_per_level(params) if params else text.NONE,
                  exact="/".join(dict.fromkeys(counts)))
    return Row([name, count], [_figure(table, run, column, rows.get(column.task))
                               for column in table.columns],
               f"{first.source}/{first.task}/{first.method}", first.source, counts={
                   column.protocol: round(Decimal(count) * 10 ** 6) for column in table.columns
                   if (count := known[column.task, column.level])})


def _figure(table: Table, run: Run, column: Column, row: published.Method | None) -> Value:
    figure = row and row.figures.get((column.level, column.dataset, column.metric))
    if figure is None:
        return Value(text.NONE)
    if other := published.other_version(figure, column.protocol):
        return Value(text.NONE, marks=[table.note(f"{figure.shown} is {other}")])
    ssim = (run.protocols.get(column.protocol) or {}).get("metric", {}).get("ssim")
    caveat = published.caveat(figure, ssim)
    return Value(figure.shown, number=None if caveat else figure.value, exact=figure.text,
                 status="published", marks=[table.note(caveat)] if caveat else [])
