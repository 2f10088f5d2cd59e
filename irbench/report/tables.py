"""Paper-style tables as data: rows are methods, columns are level, dataset and metric.

``build`` turns a run into ``Table`` objects that know values, ranks and notes but no file format;
``render.py`` and the page's template print them. One table holds one task and one protocol
version; synthetic degradations have tables of their own. Best and second are ranked within the
measured rows and within the published rows apart, because a model trained here for minutes and a
figure from a paper do not compete; nor does one of a model trained on images of the test set, or
of a variant, which is another row's model run otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from irbench import published
from irbench.report import family, text, verdict
from irbench.report.collect import Cell, Run
from irbench.report.notes import Noted

MAX_COLUMNS = 12                # of figures; beyond, one table per level
PUBLISHED_RULE = "Published figures (not measured here)"
SYNTHETIC_TITLE = " (synthetic degradation, no published figures)"


@dataclass(frozen=True)
class Column:
    """One column of figures."""

    protocol: str
    level: str
    dataset: str
    title: str                  # of the dataset
    metric: str


@dataclass
class Entry:
    """One figure as shown. ``rank`` is "best", "second" or ""; ``marks`` are footnote letters."""

    shown: str
    number: float | None = None     # None: not to be ranked
    rank: str = ""
    marks: list[str] = field(default_factory=list)
    exact: str = ""             # unrounded, for the CSV
    status: str = ""            # of the cell; "published" for a printed figure
    reason: str = ""            # why there is no figure
    record: str = ""            # of a measured figure: its path below the run folder
    place: int | None = None    # in its column among the rows of its block; 1 is best
    difference: str = ""        # measured - printed, signed, with the decimals of ``shown``
    apart: float | None = None  # the same, unrounded
    against: str = ""           # whose printed figure that is, and its source


@dataclass
class Row:
    """One method. ``sub`` is the line under its name, such as how it was trained."""

    name: str
    key: str
    sub: str
    parameters: Entry
    entries: list[Entry]
    marks: list[str] = field(default_factory=list)
    source: str = "measured"


@dataclass
class Table(Noted):
    """One task under one protocol version, or one level of it when there are many columns."""

    stem: str                   # of the files it goes to
    anchor: str                 # unique among all tables of a report
    task: str
    title: str
    version: int
    columns: list[Column]
    measured: list[Row] = field(default_factory=list)
    published: list[Row] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)         # mark -> text
    protocols: dict[str, str] = field(default_factory=dict)     # id (or dataset) -> sentence
    caption: str = ""

    def groups(self, *names: str) -> list[tuple[Column, int]]:
        """Return the first column and the width of each run of columns alike in ``names``."""
        found: list[tuple[Column, int]] = []
        for column in self.columns:
            if found and all(getattr(found[-1][0], n) == getattr(column, n) for n in names):
                found[-1] = (found[-1][0], found[-1][1] + 1)
            else:
                found.append((column, 1))
        return found


def build(run: Run) -> list[Table]:
    """Return the tables of a run, in the order of its plan."""
    counterparts = verdict.compared(run)
    groups: dict[tuple[str, int, bool], list[Cell]] = {}
    for cell in run.cells:
        groups.setdefault((cell.task, cell.version, cell.synthetic), []).append(cell)
    kinds = [(task, synthetic) for task, _, synthetic in groups]
    tables = []
    for (task, version, synthetic), cells in groups.items():
        stem = f"{task}-synthetic" if synthetic else task
        if kinds.count((task, synthetic)) > 1:
            stem += f"@{version}"
        columns = _columns(run, cells)
        levels = list(dict.fromkeys(column.protocol for column in columns))
        parts = ([columns] if len(columns) <= MAX_COLUMNS or len(levels) == 1 else
                 [[c for c in columns if c.protocol == protocol] for protocol in levels])
        for part in parts:
            title = text.task_title(task)
            anchor = stem
            level = text.level_label(part[0].level)
            if len({column.protocol for column in part}) == 1 and level != "synthetic":
                title += f", {level}"
            title += SYNTHETIC_TITLE if synthetic else ""
            if len(parts) > 1:
                anchor += f"-{part[0].level}"
            table = Table(stem, anchor.replace("@", "-v"), task, title, version, part)
            _fill(table, run, cells, counterparts)
            tables.append(table)
    return tables


def _columns(run: Run, cells: list[Cell]) -> list[Column]:
    """Return a column per metric that someone asked for on that dataset under that protocol."""
    anywhere = set(run.metrics) | {metric for cell in cells for metric in cell.metrics}
    sets: dict[str, dict[str, list[Cell]]] = {}
    for cell in cells:
        sets.setdefault(cell.protocol, {}).setdefault(cell.dataset, []).append(cell)
    columns = []
    for protocol, datasets in sets.items():
        for dataset, here in datasets.items():
            asked = {metric for cell in here for metric in cell.metrics} | set(run.metrics)
            asked = asked or anywhere or {"psnr", "ssim"}
            columns += [Column(protocol, here[0].level, dataset, run.dataset_title(dataset), m)
                        for m in text.METRICS if m in asked]
    return columns


def _fill(table: Table, run: Run, cells: list[Cell],
          counterparts: dict[tuple[str, str], verdict.Verdict]) -> None:
    protocols = list(dict.fromkeys(c.protocol for c in table.columns))
    here = {(c.protocol, c.dataset, c.model): c for c in cells if c.protocol in protocols}
    for model in family.ordered({model: run.models[model] for _, _, model in here}):
        table.measured.append(_measured(table, run, model, here, protocols, counterparts))
    _rank(table.measured, table.columns)
    pairs = {(c.level, c.dataset) for c in table.columns}
    printed = () if all(c.synthetic for c in here.values()) else published.rows(
        table.task, pairs, run.published)
    table.published = [_printed(table, run, row) for row in printed]
    _rank(table.published, table.columns)
    table.protocols = {p: text.protocol_sentence(run.protocols.get(p)) for p in protocols}
    # whoever supplies a set says that it is the one its column names
    table.protocols |= {c.dataset: text.SUPPLIED for c in table.columns
                        if run.datasets[c.dataset].get("supplied")}
    table.caption = _caption(table, run)


def _measured(table: Table, run: Run, model: str, here: dict, protocols: list[str],
              counterparts: dict[tuple[str, str], verdict.Verdict]) -> Row:
    spec = run.models[model]
    row = Row(run.model_title(model), model, "", Entry(text.NONE), [])
    if not family.competes(spec):
        row.marks.append(table.note(family.note(run, model)))
        spec = run.models.get(str(spec.get("base")), {})    # what is true of the base as well
    if spec.get("note"):
        row.marks.append(table.note(str(spec["note"])))
    elif spec.get("learned") and spec.get("in_paper") is False:
        row.marks.append(table.note("this variant is not in the paper"))
    planned = [p for p in protocols if any(k[0] == p and k[2] == model for k in here)]
    row.sub = _weights(run, model, planned)
    row.parameters = _parameters(table, run, model, planned)
    for column in table.columns:
        cell = here.get((column.protocol, column.dataset, model))
        row.entries.append(_entry(table, column, cell, family.competes(run.models[model]),
                                  counterparts.get((cell.path, column.metric)) if cell else None))
    return row


def _entry(table: Table, column: Column, cell: Cell | None, ranked: bool,
           counterpart: verdict.Verdict | None) -> Entry:
    if cell is None:
        return Entry(text.NONE)
    if column.metric in cell.means:
        number = cell.means[column.metric]
        said = ([cell.leak] if cell.leak else []) + family.circumstances(cell)
        entry = Entry(text.value(column.metric, number),
                      number if ranked and not cell.leak else None, exact=repr(number),
                      status="ok", marks=[table.note(one) for one in said], record=cell.path)
        if counterpart:
            entry.apart = counterpart.difference
            entry.difference = published.signed(entry.apart, text.METRICS[column.metric][2])
            entry.against = f"{counterpart.figure.method} ({counterpart.figure.source})"
        return entry
    if cell.status == "ok":
        why = cell.missing.get(column.metric)
        if why is None:         # another cell of the table asked for this metric
            return Entry(text.NONE)
    else:
        why = cell.reason or cell.status
        why = why if cell.status == "missing" else f"{cell.status}: {why}"
    return Entry(text.NA, marks=[table.note(why)], status=cell.status, reason=why,
                 record=cell.path if cell.record else "")


def _weights(run: Run, model: str, protocols: list[str]) -> str:
    """Say where a model's weights come from and, if that is known, how long they were trained."""
    said: dict[str, list[str]] = {}
    devices = []
    kind = (run.models[model].get("checkpoint") or {}).get("kind")
    from_file = {"bundled": "weights bundled with irbench", "file": "weights from a local file",
                 "url": "downloaded weights"}.get(kind, "")
    for protocol in protocols:
        training = run.training_of(protocol, model)
        if training is None:
            continue
        steps, seconds = training["steps"], training["seconds"]
        length = ", ".join(filter(None, [
            f"{steps} step{'s' * (steps != 1)}" if steps is not None else "",
            text.duration(seconds) if seconds is not None else ""]))
        level = text.level_label(text.split_id(protocol)[1])
        if training["status"] != "ok":
            length = training["unfinished"] or (
                "no training record" if training["status"] == "missing"
                else f"training {training['status']}")
        said.setdefault(length or "length unknown", []).append(level)
        if training["device"] and training["device"] not in devices:
            devices.append(training["device"])
    if said:
        lengths = (list(said) if len(said) == 1 else
                   [f"{' and '.join(levels)}: {length}" for length, levels in said.items()])
        done = any(run.training_of(p, model)["status"] == "ok" for p in protocols
                   if run.training_of(p, model))
        origin = f"{from_file}: " if from_file else "trained here: " * done
        return (origin + "; ".join(lengths)
                + (", " if len(said) == 1 else "; ") * bool(devices) + " and ".join(devices))
    return from_file


def _parameters(table: Table, run: Run, model: str, protocols: list[str]) -> Entry:
    counts = [run.parameters(protocol, model) for protocol in protocols]
    if all(count is None for count in counts):
        return Entry(text.NA, marks=[table.note("no profile or training record to count "
                                                "parameters from")])
    shown = [text.NA if count is None else text.parameters(count) for count in counts]
    return Entry(_per_level(shown), exact="/".join("" if c is None else str(c)
                                                   for c in dict.fromkeys(counts)))


def _per_level(shown: list[str]) -> str:
    """Join counts that differ by level: ``11.87 / 12.06 M``."""
    different = list(dict.fromkeys(shown))
    units = {value.partition(" ")[2] for value in different}
    if len(different) > 1 and len(units) == 1:
        unit = units.pop()
        return " / ".join(v.partition(" ")[0] for v in different) + (f" {unit}" if unit else "")
    return " / ".join(different)


def _printed(table: Table, run: Run, row: published.Row) -> Row:
    levels = list(dict.fromkeys(column.level for column in table.columns))
    params = [text.published_parameters(row.params_m[level])
              for level in levels if row.params_m.get(level)]
    reproduced = [run.model_title(r.key) for r in table.measured
                  if any(verdict.is_counterpart(run.models[r.key], row.method, run.blind(p, r.key))
                         for p in {c.protocol for c in table.columns})]
    ssim = {c.level: (run.protocols.get(c.protocol) or {}).get("metric", {}).get("ssim")
            for c in table.columns}
    printed = Row(row.method, f"{row.source}/{row.task}/{row.method}",
                  f"counterpart above: {' and '.join(reproduced)}" if reproduced else "",
                  Entry(_per_level(params) if params else text.NONE,
                        exact="/".join(dict.fromkeys(row.params_m.values()))),
                  [], [table.note(said) for said in published.notes(row)], row.source)
    for column in table.columns:
        figure = row.figures.get((column.level, column.dataset, column.metric))
        if figure is None:
            printed.entries.append(Entry(text.NONE))
            continue
        caveat = published.caveat(figure, ssim[column.level])
        printed.entries.append(Entry(
            figure.shown, None if caveat else figure.value, exact=figure.text,
            status="published", marks=[table.note(caveat)] if caveat else []))
    return printed


def _rank(rows: list[Row], columns: list[Column]) -> None:
    """Mark best and second of each column among ``rows``, as shown: equal texts share a rank.

    A column where no two figures differ has no best.
    """
    for index, column in enumerate(columns):
        entries = [r.entries[index] for r in rows if r.entries[index].number is not None]
        order = sorted({float(e.shown) for e in entries},
                       reverse=column.metric not in text.LOWER_IS_BETTER)
        for entry in entries:
            entry.place = order.index(float(entry.shown)) + 1
            if len(order) > 1:      # one figure, or all equal: nothing to point out
                entry.rank = {1: "best", 2: "second"}.get(entry.place, "")


def _caption(table: Table, run: Run) -> str:
    metrics = list(dict.fromkeys(column.metric for column in table.columns))
    lower = [text.METRICS[m][0] for m in metrics if m in text.LOWER_IS_BETTER]
    said = [f"{table.title}, protocol version {table.version}.",
            "Best figure of each column in bold, second underlined"
            + (f" ({', '.join(lower)}: lower is better)" if lower else "")
            + "; figures equal as printed share a rank."]
    if any(not family.competes(run.models[row.key]) for row in table.measured):
        said.append("Variants of a model have its weights and are not ranked.")
    if any(row.sub.startswith("trained here") for row in table.measured):
        said.append("Models trained here are reproductions from the papers' descriptions, without "
                    "the authors' code or weights.")
    if any(row.sub.startswith("weights bundled") for row in table.measured):
        said.append("Bundled weights had a short training by this pipeline, far from the papers' "
                    "data and time; the table of trainings says what it cost.")
    if table.published:
        said.append("Measured and published rows are ranked apart: published figures come from "
                    "papers, the others were measured here.")
    shown = [e.shown for r in table.measured + table.published for e in (*r.entries, r.parameters)]
    if text.NONE in shown:
        said.append(f"{text.NONE}: not asked for in this run, or not printed by the source.")
    if any(shown == text.NA for shown in shown):
        said.append(f"{text.NA}: see the note.")
    return " ".join(said)
