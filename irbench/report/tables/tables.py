"""Tables of methods in the form that papers use: rows are methods, columns are sets and metrics.

``build`` turns a run into tables (``irbench.present.table``) with values, ranks and notes.
One table holds one task and one protocol version; synthetic degradations have separate tables.
Where papers print blocks of rows, several tables share one stem and the same columns. A file prints
them below each other; the page shows them separately, because nobody sorts across scales:

- super-resolution: a block per scale, columns sets x metrics. Any other task uses this form too if
  it has more than ``MAX_COLUMNS`` columns;
- JPEG: a block per set, columns quality x metrics;
- the lightweight class of super-resolution: ``sr_light``, the models with fewer than ``LIGHT``
  parameters beside the methods that papers print in tables with that name. If there is nothing
  else, it is the only table;
- denoising: ``denoise``, colour and gray side by side, sets x sigma, PSNR only, if a run has both;
  each also has its own table with all metrics.

Measured rows and published rows are ranked separately, because a model trained here for minutes
does not compete with a value from a paper. Models trained on images of the test set are not ranked;
neither are variants, which are the model of another row run differently.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from irbench.catalog import published
from irbench.core import metrics
from irbench.present import text
from irbench.present.table import MEASURED, Block, Column, Row, Table, Value
from irbench.report.facts import family, kinds, ranking, rows, verdict
from irbench.report.facts.rows import Counterparts
from irbench.report.run import Cell, Run

FIELDS = ("task", "version", "protocol", "level", "dataset", "block", "method", "model", "metric",
          "unit", "value", "shown", "spread", "seeds", "rank", "place", "difference", "against",
          "parameters", "weights", "status", "reason", "source", "record", "notes")
PRINTED_PROTOCOL = "the source's own"
NAMING = [Column("Method", left=True), Column("Parameters")]    # the columns that name a row
# the heads that a table may have above its scores: the text of a column for each head
HEADS = {
    "task": lambda column: text.task_title(column.task),
    "level": lambda column: text.level_label(column.level),
    "dataset": lambda column: column.dataset_title,
    "metric": lambda column: text.metric_label(column.metric),
}
MAX_COLUMNS = 12                # columns of values; with more there is one block per level
LIGHT = 2_000_000               # a model with fewer parameters is in the lightweight class
LIGHT_CLASS = "sr_light"        # name of the class in published.csv, and the stem of its table
PUBLISHED_RULE = "Published values (not measured here)"
SYNTHETIC_TITLE = " (synthetic degradation, no published values)"
SETS_FIRST = ("jpeg_gray", "jpeg_color")    # tasks whose blocks are sets
DENOISING = ("denoise_color", "denoise_gray")
Keep = Callable[[published.Method], bool]


def build(run: Run) -> list[Table]:
    """Return the tables of a run in the order of its plan; those of two tasks or a class last."""
    counterparts = verdict.compared(run)
    groups: dict[tuple[str, int, bool], list[Cell]] = {}
    for cell in run.rows:
        groups.setdefault((cell.task, cell.version, cell.synthetic), []).append(cell)
    forms = [(task, synthetic) for task, _, synthetic in groups]
    found, more = [], []
    for (task, version, synthetic), cells in groups.items():
        several = f"@{version}" * (forms.count((task, synthetic)) > 1)
        stem = f"{task}-synthetic" * synthetic or task
        title = text.task_title(task) + SYNTHETIC_TITLE * synthetic
        light = _light(run, cells) if task == "sr" else []
        alone = bool(light) and _nothing_else(run, cells, light)
        if not alone:
            found += _blocks(run, counterparts, stem + several, title, cells,
                             lambda row, apart=bool(light): not (apart and row.task == LIGHT_CLASS))
        if light:
            more += _blocks(run, counterparts, LIGHT_CLASS + several,
                            f"Lightweight {text.task_title(task).lower()}", light, is_light)
    return found + more + _denoising(run, counterparts, groups)


def is_light(row: published.Method) -> bool:
    """Return whether a printed row is in the lightweight class, by its table or parameters."""
    counts = [float(count) * 1e6 for count in row.params_m.values()]
    return row.task == LIGHT_CLASS or max(counts, default=LIGHT) < LIGHT


def _light(run: Run, cells: list[Cell]) -> list[Cell]:
    """Return the cells of the lightweight table, [] if it would show nothing new.

    For a model with an unknown number of parameters, its printed counterpart decides.
    """
    pairs = {(cell.level, cell.dataset) for cell in cells}
    printed = [row for row in published.rows("sr", pairs, figures=run.figures) if is_light(row)]

    def small(cell: Cell) -> bool:
        count = run.parameters(cell.protocol, cell.model)
        if count is not None:
            return count < LIGHT
        return any(run.models[cell.model].published_as.lower() == row.name.lower()
                   for row in printed)

    light = [cell for cell in cells if small(cell)]
    learned = any(run.models[cell.model].learned for cell in light)
    shown = any(row.task == LIGHT_CLASS for row in published.rows("sr", pairs, run.published,
                                                                       run.figures))
    large = any((run.parameters(cell.protocol, cell.model) or 0) >= LIGHT for cell in cells)
    return light if learned and (shown or large) else []


def _nothing_else(run: Run, cells: list[Cell], light: list[Cell]) -> bool:
    """Return whether the lightweight table shows all that the table of all models would show."""
    pairs = {(cell.level, cell.dataset) for cell in cells}
    return len(light) == len(cells) and all(
        is_light(row) for row in published.rows("sr", pairs, run.published, run.figures))


def _blocks(run: Run, counterparts: Counterparts, stem: str, title: str, cells: list[Cell],
            keep: Keep) -> list[Table]:
    """Return the tables for some cells of one task: one, or one per block."""
    task, columns = cells[0].task, _columns(run, cells)
    levels, sets = ({getattr(c, name): None for c in columns} for name in ("level", "dataset"))
    by = ("dataset" if task in SETS_FIRST and len(levels) > 1 and len(sets) > 1 else
          "level" if len(levels) > 1 and (task == "sr" or len(columns) > MAX_COLUMNS) else "")
    parts = ([_aligned(run, columns, by, value) for value in (sets if by == "dataset" else levels)]
             if by else [columns])
    made = []
    for part in parts:
        alone = {column.level for column in part}
        level = text.level_label(part[0].level)
        name = {"dataset": part[0].dataset_title, "level": level}.get(by, "")
        ending = name or level * (len(alone) == 1 and level != "synthetic")
        # the level goes before the remark on a synthetic degradation
        task_title, remark = title.removesuffix(SYNTHETIC_TITLE), SYNTHETIC_TITLE * title.endswith(
            SYNTHETIC_TITLE)
        anchor = stem + (f"-{getattr(part[0], by)}" if by else "")
        heads = ("dataset", "level", "metric") if by == "dataset" else (
            "level", "dataset", "metric")
        table = Table(stem, task_title + f", {ending}" * bool(ending) + remark, NAMING,
                      headed(part, heads, by), FIELDS, anchor=anchor.replace("@", "-v"),
                      cut=False, task=task, version=cells[0].version, part=name, common_title=title)
        made.append(table)
    _fill(made, run, cells, counterparts, keep)
    return made


def _columns(run: Run, cells: list[Cell]) -> list[Column]:
    """Return a column for each metric requested on a dataset under a protocol.

    A metric that no cell has gets none: the caption says why (``_lacking``).
    """
    lacking = _lacking(run, cells)
    anywhere = set(run.metrics) | {metric for cell in cells for metric in cell.metrics}
    sets: dict[str, dict[str, list[Cell]]] = {}
    for cell in cells:
        sets.setdefault(cell.protocol, {}).setdefault(cell.dataset, []).append(cell)
    columns = []
    for protocol, datasets in sets.items():
        for dataset, here in datasets.items():
            asked = {metric for cell in here for metric in cell.metrics} | set(run.metrics)
            asked = asked or anywhere or metrics.main()
            columns += [column_of(run, protocol, here[0].level, dataset, m)
                        for m in metrics.ordered(asked) if m not in lacking]
    return columns


def _lacking(run: Run, cells: list[Cell]) -> dict[str, list[str]]:
    """Return metric -> reasons of the metrics that no successful cell of a table has.

    A metric that a paper prints for the same sets keeps its column. If no metric would be left,
    all stay, as n/a.
    """
    done = [cell for cell in cells if cell.status == "ok"]
    pairs = {(cell.level, cell.dataset) for cell in cells}
    tasks = {cell.task for cell in cells}
    printed = {metric for task in tasks for row in published.rows(task, pairs, run.published)
               for _, _, metric in row.figures}
    asked = metrics.ordered({name for cell in done for name in cell.metrics})
    found = {}
    for name in asked:
        reasons = list(dict.fromkeys(cell.missing[name] for cell in done if name in cell.missing))
        if reasons and name not in printed and not any(name in cell.means for cell in done):
            found[name] = reasons
    return found if len(found) < len(asked) else {}


def column_of(run: Run, protocol: str, level: str, dataset: str, metric: str) -> Column:
    """Return a column of scores without a title."""
    return Column("", protocol=protocol, level=level, dataset=dataset,
                  dataset_title=run.dataset_title(dataset), metric=metric)


def headed(columns: list[Column], heads: tuple[str, ...], by: str,
           labels: Mapping[str, Callable[[Column], str]] = HEADS) -> list[Column]:
    """Return columns with their titles and common heads (from ``labels``), outermost first.

    A row of heads that is the same for all columns is left out, except the last row and the
    dataset, whose name must appear unless it names the block.
    """
    shown = [[labels[name](column) for name in heads] for column in columns]
    kept = [depth for depth, name in enumerate(heads) if depth == len(heads) - 1
            or (name == "dataset" and by != "dataset") or len({one[depth] for one in shown}) > 1]
    return [replace(column, title=titles[-1], over=tuple(titles[depth] for depth in kept[:-1]))
            for column, titles in zip(columns, shown, strict=True)]


def _aligned(run: Run, columns: list[Column], by: str, value: str) -> list[Column]:
    """Return the columns of one block; all blocks have the same columns."""
    other = {"level": "dataset", "dataset": "level"}[by]
    outer = dict.fromkeys(getattr(column, other) for column in columns)
    asked = {(getattr(column, other), column.metric) for column in columns}
    protocols = {column.level: column.protocol for column in columns}
    made = []
    for name in outer:
        level, dataset = (value, name) if by == "level" else (name, value)
        made += [column_of(run, protocols[level], level, dataset, metric)
                 for metric in metrics.METRICS if (name, metric) in asked]
    return made


def _denoising(run: Run, counterparts: Counterparts,
               groups: dict[tuple[str, int, bool], list[Cell]]) -> list[Table]:
    """Return the table of colour and gray denoising side by side, if a run has both."""
    made = []
    versions = [[v for task, v, synthetic in groups if task == one and not synthetic]
                for one in DENOISING]
    # two tasks need not have the same versions; of several, those with the same number belong
    # together
    pairs = [pair for pair in itertools.product(*versions)
             if len(set(pair)) == 1 or min(map(len, versions)) == 1]
    for pair in pairs:
        both = [groups[task, version, False] for task, version in zip(DENOISING, pair, strict=True)]
        several = pair[max(range(2), key=lambda i: len(versions[i]))]
        columns = []
        for cells in both:
            found = [column for column in _columns(run, cells) if column.metric == "psnr"]
            order = list(dict.fromkeys(column.dataset for column in found))
            columns += sorted(found, key=lambda column: order.index(column.dataset))
        stem = "denoise" + f"@{several}" * (len(pairs) > 1)
        table = Table(stem, f"{text.task_title('denoise')}, PSNR (dB)", NAMING,
                      headed(columns, ("task", "dataset", "level"), ""), FIELDS,
                      anchor=stem.replace("@", "-v"), cut=False, task="denoise",
                      version=pair[0] if len(set(pair)) == 1 else None)
        if columns:
            _fill([table], run, both[0] + both[1], counterparts, lambda row: True)
            made.append(table)
    return made


def _fill(parts: list[Table], run: Run, cells: list[Cell], counterparts: Counterparts,
          keep: Keep) -> None:
    """Fill the tables of one stem. Their comparisons are one family, as they are one table."""
    for table in parts:
        _fill_rows(table, run, cells, counterparts, keep)
    comparisons = ranking.measured(
        [(table.measured, table.columns) for table in parts],
        {(cell.protocol, cell.dataset, cell.model): cell for cell in cells})
    for table in parts:
        ranking.printed(table.published, table.columns)
        table.sentences = _sentences(table, run, cells, comparisons)
        table.lines = list(lines_of(table))


def _fill_rows(table: Table, run: Run, cells: list[Cell], counterparts: Counterparts,
               keep: Keep) -> None:
    shown = {(column.protocol, column.dataset) for column in table.columns}
    here = {(c.protocol, c.dataset, c.model): c for c in cells
            if (c.protocol, c.dataset) in shown}
    table.differences = run.differences
    here_rows, printed_rows = [], []
    table.blocks = [Block(rows=here_rows), Block(PUBLISHED_RULE, printed_rows, strong=False)]
    for model in family.ordered({model: run.models[model] for _, _, model in here}):
        here_rows.append(rows.measured(table, run, model, here, counterparts))
    if not all(cell.synthetic for cell in here.values()):
        printed_rows += [rows.printed(table, run, row) for row in _printed(table, run, keep)]
    protocols = list(dict.fromkeys(protocol for protocol, _, _ in here))
    table.terms = {p: text.protocol_sentence(run.protocols.get(p)) for p in protocols}
    # a user who supplies a set is trusted that it is the set of its column
    table.terms |= {c.dataset: text.SUPPLIED for c in table.columns
                    if run.datasets[c.dataset].get("supplied")}
    table.cells = [cell.status if cell.status != "ok" or cell.means else "without a mean"
                   for cell in here.values()]


def lines_of(table: Table) -> Iterator[list]:
    """Yield one line of the CSV per value: unrounded or as printed, and as shown in the table.

    The difference is measured - printed, unrounded, to the value that ``against`` names.
    """
    for row in table.rows:
        for column, entry in zip(table.columns, row.entries, strict=True):
            if entry.status:
                yield _line(table, row, column, entry)


def _line(table: Table, row: Row, column: Column, entry: Value) -> list:
    notes = " | ".join(table.notes[mark] for mark in (
        row.marks if entry.reason else [*row.marks, *entry.marks]))
    here = row.source == MEASURED
    # a published value may not follow our protocol exactly
    protocol = column.protocol if here else PRINTED_PROTOCOL
    return [column.task, text.split_id(column.protocol)[2], protocol, column.level, column.dataset,
            "measured" if here else "published", row.name, row.key if here else "", column.metric,
            metrics.get(column.metric).unit or text.UNITLESS, entry.exact,
            entry.shown if entry.exact else "", entry.spread,
            entry.seeds if here and entry.exact else "", entry.rank, entry.place or "",
            "" if entry.apart is None else f"{entry.apart:.6f}", entry.against,
            row.counts.get(column.protocol, ""),
            row.origin or row.sub, entry.status, entry.reason, row.source, entry.record, notes]


def _printed(table: Table, run: Run, keep: Keep) -> Iterable[dict[str, published.Method]]:
    """Return the printed rows by task; a method that a source prints for two tasks is one row."""
    found: dict[tuple, dict[str, published.Method]] = {}
    tasks = dict.fromkeys(column.task for column in table.columns)
    for task in tasks:
        pairs = {(c.level, c.dataset) for c in table.columns if c.task == task}
        for row in filter(keep, published.rows(task, pairs, run.published, run.figures)):
            here = {c.metric for c in table.columns}
            if any(metric in here for _, _, metric in row.figures):
                own = row.task if len(tasks) == 1 else ""
                found.setdefault((row.source, own, row.method), {})[task] = row
    return found.values()


def _sentences(table: Table, run: Run, cells: list[Cell], comparisons: int) -> list[str]:
    """Return the sentences of the caption after the title."""
    here = dict.fromkeys(column.metric for column in table.columns)
    lower = [one.title for one in map(metrics.get, here) if one.sign < 0]
    origins = [row.origin for row in table.measured]
    entries = [value for row in table.rows for value in (row.heads[1], *row.entries)]
    shown = {entry.shown for entry in entries}
    light = table.stem.startswith(LIGHT_CLASS)
    others = [cell for cell in run.cells if (cell.task, cell.version) == (
        cells[0].task, cells[0].version)]
    again = light and {cell.model for cell in others} == {cell.model for cell in cells}
    # from the cells of all blocks, so that every block has the same sentences
    ranks = ranking.sentences([cell for cell in cells if cell.means],
                              {cell.dataset: run.dataset_title(cell.dataset) for cell in cells},
                              comparisons)
    return [sentence for sentence in (
        f"Lightweight: fewer than {LIGHT / 1e6:.0f} M parameters, or printed in a table with that "
        "name." if light else "",
        "The other methods are in the super-resolution table, with the same measured rows." if again
        and not _nothing_else(run, others, cells) else
        "The other methods are in the super-resolution table." if light and not _nothing_else(
            run, others, cells) else "",
        *ranks,
        f"{', '.join(lower)}: lower is better." if lower else "",
        *(f"No {metrics.get(name).title}: {reasons[0].rstrip('.')}"
          f"{f' (and {len(reasons) - 1} more reasons)' if len(reasons) > 1 else ''}."
          for name, reasons in _lacking(run, cells).items()),
        "±: sample standard deviation over the seeds of a training; the value is their mean. Ranks "
        "compare these means image by image and do not account for the spread between seeds."
        if any(entry.spread for row in table.measured for entry in row.entries) else "",
        "Variants use the weights of their base model and are not ranked."
        if any(kinds.is_variant(run.models[row.key]) for row in table.measured) else "",
        "Models trained here are reproductions from the papers' descriptions, without the authors' "
        "code or weights." if any(origin.startswith("trained here") for origin in origins) else "",
        "Bundled weights come from a short training by this pipeline, with much less data and time "
        "than in the papers. The training table lists its cost."
        if any(origin.startswith(rows.BUNDLED) for origin in origins) else "",
        "Measured and published rows are ranked separately: published values come from papers, all "
        "others were measured here. Published rows are ranked by the printed values alone."
        if table.published else "",
        "In brackets: the measured value minus the published value of the same method."
        if table.differences and any(entry.difference for entry in entries) else "",
        f"{text.NONE}: not requested in this run, or not printed in the source."
        if text.NONE in shown else "",
        f"{text.NA}: see the note." if text.NA in shown else "") if sentence]
