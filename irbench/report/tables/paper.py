"""A table for a paper: chosen rows in a given order, measured and published ones side by side.

It is made of the rows that the report's own tables have (``irbench.report.facts.rows``). Other than
there, all rows are in one block, in the order given; a published row has a dagger where the table
also has measured rows; every value that is missing is n/a, with its reason; and one order of values
decides which are in bold. Reads nothing but the collected run and the published values.

Try: ``irbench table sr --rows compacter SwinIR --columns set5 --bold best``
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from irbench.catalog import published
from irbench.core import metrics
from irbench.core.errors import UserError, unknown
from irbench.present import text
from irbench.present.notes import alike, letters
from irbench.present.table import BEST, CLOSE, DAGGER, MEASURED, Column, Row, Table, Value, joined
from irbench.report.facts import family, ranking, rows
from irbench.report.run import MISSING, Cell, Run
from irbench.report.tables import tables

PRINTED = "published:"          # before the name of a row: the published one, not the run's
NO_BOLD, BOLD_BEST = "none", "best"
NOT_PRINTED = "not printed in the source"
HEADS = {**tables.HEADS, "metric": lambda column: metrics.get(column.metric).title}


@dataclass(frozen=True)
class Selection:
    """What a table for a paper shows; () stands for all that the run has.

    Attributes:
        task: a task of the run's protocols, e.g. ``sr``.
        rows: models of the run and published methods, in this order; ``published:NAME`` is a
            published method whose name a model of the run has, too.
        columns: datasets.
        metrics: names of metrics, e.g. ``psnr``.
        protocols: ids, ids without version, or levels (``x2``).
        bold: "best", "none", or one of the rows.
        parameters: whether a column shows the number of parameters.
        stack: whether each protocol is a block of rows, in the same columns, and not columns of
            its own.
        significance: whether measured values have a mark that are not the best measured ones of
            their column, but that no measured row exceeds significantly (``ranking``).
    """

    task: str
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    bold: str = NO_BOLD
    parameters: bool = False
    stack: bool = False
    significance: bool = False


def build(run: Run, selection: Selection) -> Table:
    """Return the table; its notes say where values come from and why others are missing.

    Raises:
        UserError: a name that is neither in the run nor among the published values, with the valid
            ones; or two versions of one protocol, whose values must not be compared.
    """
    cells = [cell for cell in run.rows if cell.task == selection.task]
    if not cells:
        raise unknown("task", selection.task, {cell.task for cell in run.rows}, "table")
    cells = _under(cells, selection.protocols)
    names = _Names(run, cells)
    parts = [_part(run, cells, columns, selection, names)
             for columns in _columns(run, cells, selection, names)]
    tested = {CLOSE: ranking.close(parts, cells, {cell.dataset: run.dataset_title(
        cell.dataset) for cell in cells})} if selection.significance else {}
    levels = dict.fromkeys(part.part for part in parts)
    title = text.task_title(selection.task) + f", {' and '.join(levels)}" * (levels != {"": None})
    table = _with_sources(replace(joined(parts), title=title), selection, tested)
    table.lines = [line for part, block in zip(parts, table.blocks, strict=True) for line in
                   tables.lines_of(replace(table, columns=part.columns, blocks=[block]))]
    return table if selection.parameters else replace(
        table, heads=table.heads[:1], blocks=[
            replace(block, rows=[replace(row, heads=row.heads[:1]) for row in block.rows])
            for block in table.blocks])


def _part(run: Run, cells: list[Cell], columns: list[Column], selection: Selection,
          names: _Names) -> Table:
    """Return the table of some columns; its ``part`` is their level, "" for several levels."""
    used = {(column.protocol, column.dataset) for column in columns}
    here = {(c.protocol, c.dataset, c.model): c for c in cells if (c.protocol, c.dataset) in used}
    levels = dict.fromkeys(text.level_label(column.level) for column in columns)
    versions = {cell.version for cell in cells}
    table = Table(selection.task, "", tables.NAMING, columns, tables.FIELDS, cut=False,
                  task=selection.task, version=versions.pop() if len(versions) == 1 else None,
                  part=next(iter(levels)) if len(levels) == 1 else "")
    chosen = names.rows(selection.rows) or dict.fromkeys(family.ordered(
        {cell.model: run.models[cell.model] for cell in cells}))
    for one in chosen:
        table.blocks[0].rows.append(_measured(table, run, one, here) if isinstance(one, str) else
                                    _printed(table, run, names.methods[one]))
    for row in table.rows:
        if not selection.parameters:
            row.heads[1].marks = []
        elif " / " in row.heads[1].shown:
            own = dict.fromkeys(text.level_label(column.level) for column in columns
                                if row.source != MEASURED or row.key in {
                                    key[2] for key in here if key[0] == column.protocol})
            row.heads[1].marks.append(table.note(f"numbers of parameters at {' / '.join(own)}"))
    _name_apart(run, table.rows)
    if selection.bold == BOLD_BEST:
        _bold_best(table)
    elif selection.bold != NO_BOLD:
        _bold_row(table, selection.bold, names, list(chosen))
    table.terms = {name: text.protocol_sentence(run.protocols.get(name))
                   for name in dict.fromkeys(column.protocol for column in columns)}
    return table


def remarks(table: Table) -> list[str]:
    """Return what a reader must know of a table that is printed without caption and notes.

    Its notes name the values they are about; the protocols follow.
    """
    about: dict[str, list[str]] = {}
    models = {row.name: {one.key for one in table.measured if one.name == row.name}
              for row in table.rows}
    printed = {row.name for row in table.published}
    for block in table.blocks:
        for row in block.rows:
            alone = models[row.name] == {row.key} and row.name not in printed
            known = row.name + f" ({row.key})" * (row.source == MEASURED and not alone)
            for column, value in zip(table.all_columns, row.values, strict=True):
                where = " ".join(filter(None, [known, *(
                    [block.title, *column.over, column.title] if column.metric else [])]))
                for mark in value.marks:
                    about.setdefault(mark, []).append(where)
    notes = [f"{mark} {sentence}" if mark in (DAGGER, CLOSE) else
             f"{', '.join(dict.fromkeys(about[mark]))}: {sentence}"
             for mark, sentence in table.notes.items()]
    return [*_only_published(table), *notes,
            *(f"{name}: {sentence}" for name, sentence in alike(table.terms).items())]


# -- names ---------------------------------------------------------------------------------------

def _under(cells: list[Cell], names: Sequence[str]) -> list[Cell]:
    """Return the cells under the named protocols, in the order of the names."""
    by_name: dict[str, dict[str, None]] = {}
    for cell in cells:
        for name in (cell.protocol, cell.protocol.partition("@")[0], cell.level):
            by_name.setdefault(name.lower(), {})[cell.protocol] = None
    found: dict[str, None] = {}
    for name in names:
        if name.lower() not in by_name:
            raise unknown("protocol", name, {cell.protocol for cell in cells}, "--protocol")
        found |= by_name[name.lower()]
    found = found or dict.fromkeys(cell.protocol for cell in cells)
    versions: dict[str, list[str]] = {}
    for protocol in found:
        versions.setdefault(protocol.partition("@")[0], []).append(protocol)
    for same in versions.values():
        if len(same) > 1:
            raise UserError(f"{' and '.join(same)} follow different conventions, so that their "
                            f"values must not be compared. Choose one: --protocol {same[-1]}.")
    return sorted((cell for cell in cells if cell.protocol in found),
                  key=lambda cell: list(found).index(cell.protocol))


class _Names:
    """The names that a row may be chosen by, and what each stands for.

    Attributes:
        models: the models of the run that have a cell, by their names in lower case.
        methods: the published methods of the task by (source, task, method).
    """

    def __init__(self, run: Run, cells: list[Cell]) -> None:
        """Find the names for some cells of one task."""
        levels = {cell.level for cell in cells if not cell.synthetic}
        pairs = {(one.level, one.dataset) for one in run.figures if one.level in levels}
        self.models = {cell.model.lower(): cell.model for cell in cells}
        self._titled: dict[str, dict[str, None]] = {}       # titles as tables show them -> models
        for model in self.models.values():
            for title in (run.models[model].title or model, run.model_title(model)):
                self._titled.setdefault(title, {})[model] = None
        self.methods = {(one.source, one.task, one.method): one for one in
                        published.rows(cells[0].task, pairs, figures=run.figures)}
        self._printed: dict[str, list[tuple]] = {}
        for key, one in self.methods.items():
            self._printed.setdefault(one.method.lower(), []).append(key)
            self._printed[f"{one.source}/{one.method}".lower()] = [key]
        for key, one in self.methods.items():       # the asterisk may be left out
            if not any(other.method == one.name for other in self.methods.values()):
                self._printed.setdefault(one.name.lower(), []).append(key)

    def find(self, name: str, where: str) -> list[str | tuple]:
        """Return the model, or the keys of the published methods, that a name stands for.

        The exact spelling comes first: beside a model imdn, IMDN is the published method. A title
        of models, spelt as tables show it, must belong to one of them.
        """
        printed = name.lower().removeprefix(PRINTED)
        exact = [key for key, one in self.methods.items() if name in (one.method, one.name)]
        if name.lower() in self.models and (name in self.models.values() or not exact):
            return [self.models[name.lower()]]
        if not exact and name in self._titled:
            titled = list(self._titled[name])
            if len(titled) > 1:
                raise UserError(f"{where}: {name!r} is the title of several rows. Name one of "
                                f"them by its key: {', '.join(titled)}.")
            return titled
        if printed in self._printed:
            return self._printed[printed]
        valid = {*self.models.values(), *(one.method for one in self.methods.values())}
        near = [title for title in self._titled if title.lower() == name.lower()]
        raise unknown("row", name, valid, where, near or difflib.get_close_matches(
            name, sorted({*valid, *self._titled}), cutoff=0.5))

    def rows(self, chosen: Sequence[str]) -> dict[str | tuple, str]:
        """Return what each of the chosen rows stands for -> its name. Refuses a row named twice."""
        found: dict[str | tuple, str] = {}
        for name in chosen:
            for one in self.find(name, "--rows"):
                if one in found:
                    also = (f" The published method of that name is {PRINTED}{name}."
                            if isinstance(one, str) and name.lower() in self._printed else "")
                    raise UserError(f"--rows: {found[one]} and {name} are one row, "
                                    f"{one if isinstance(one, str) else ' '.join(one[::2])}. "
                                    f"Name it once.{also}")
                found[one] = name
        return found

    @property
    def datasets(self) -> set[str]:
        """The datasets for which a method has a published value."""
        return {dataset for one in self.methods.values() for _, dataset, _ in one.figures}


# -- columns -------------------------------------------------------------------------------------

def _columns(run: Run, cells: list[Cell], selection: Selection,
             names: _Names) -> list[list[Column]]:
    """Return the columns of the table, or of each of its blocks: the same ones of one protocol."""
    levels = {cell.protocol: cell.level for cell in cells}
    sets = {name.lower(): name for name in (*names.datasets, *(cell.dataset for cell in cells))}
    for name in selection.columns:
        if name.lower() not in sets:
            raise unknown("dataset", name, sets.values(), "--columns")
    named = list(dict.fromkeys(sets[name.lower()] for name in selection.columns))
    asked = list(dict.fromkeys(metrics.get(name, "--metrics").name for name in selection.metrics))
    asked = asked or list(metrics.ordered({*run.metrics, *(
        metric for cell in cells for metric in cell.metrics)}) or metrics.main())
    parts = []
    for protocol, level in levels.items():
        own = dict.fromkeys(cell.dataset for cell in cells
                            if selection.stack or cell.protocol == protocol)
        parts.append([tables.column_of(run, protocol, level, dataset, metric)
                      for dataset in named or own for metric in asked])
    if not selection.stack:
        parts = [[column for part in parts for column in part]]
    return [tables.headed(part, ("level", "dataset", "metric"), "", HEADS) for part in parts]


# -- rows ----------------------------------------------------------------------------------------

def _measured(table: Table, run: Run, model: str, here: rows.Cells) -> Row:
    row = rows.measured(table, run, model, here, {})
    name = row.heads[0]
    if name.sub:
        name.marks.append(table.note(name.sub))
    row.heads[0] = replace(name, sub="")
    for index, (column, value) in enumerate(zip(table.columns, row.entries, strict=True)):
        if value.shown == text.NONE:
            cell = here.get((column.protocol, column.dataset, model))
            row.entries[index] = _absent(table, "the run does not score this metric here" if cell
                                         else "the run has no cell for it")
    return row


def _printed(table: Table, run: Run, method: published.Method) -> Row:
    row = rows.printed(table, run, {table.task: method})
    marks = [table.note(sentence) for sentence in published.remarks(method)]
    row.heads[0] = replace(row.heads[0], sub="", marks=marks)
    if row.heads[1].shown == text.NONE:
        row.heads[1] = _absent(table, NOT_PRINTED)
    for index, (column, value) in enumerate(zip(table.columns, row.entries, strict=True)):
        if value.shown == text.NONE:
            figure = method.figures.get((column.level, column.dataset, column.metric))
            row.entries[index] = _absent(table, published.other_version(figure, column.protocol)
                                         if figure else NOT_PRINTED)
    return row


def _absent(table: Table, reason: str) -> Value:
    return replace(table.absent(reason), status=MISSING)


def _name_apart(run: Run, made: list[Row]) -> None:
    """Drop what tells a title from those of models that the table does not show."""
    keys = [row.key for row in made if row.key in run.models]
    titles = [run.models[key].title or key for key in keys]
    for row in made:
        if row.key in run.models and titles.count(run.models[row.key].title or row.key) == 1:
            row.heads[0] = replace(row.heads[0], shown=run.models[row.key].title or row.key)


# -- bold ----------------------------------------------------------------------------------------

def _bold_best(table: Table) -> None:
    """Put the best value of each column in bold, among all rows; equal values share it.

    As in the report, a value without ``number`` is left out: of a model that was trained on the
    test images, of a self-ensemble or a variant, or printed under another convention.
    """
    for index, column in enumerate(table.columns):
        values = [row.entries[index] for row in table.rows]
        ranked = [value for value in values if value.number is not None]
        sign = metrics.get(column.metric).sign
        scores = {id(value): sign * float(value.shown) for value in ranked}
        for value in ranked:
            first = scores[id(value)] == max(scores.values()) > min(scores.values())
            value.rank = BEST if first else ""


def _bold_row(table: Table, name: str, names: _Names, chosen: list[str | tuple]) -> None:
    """Put a whole row in bold."""
    named = names.find(name, f"--bold {BOLD_BEST}, {NO_BOLD}, or a row")
    if not set(named) & set(chosen):
        raise UserError(f"--bold {name}: the table has no such row. Valid: {BOLD_BEST}, {NO_BOLD}, "
                        f"{', '.join(row.name for row in table.rows)}.")
    for one, row in zip(chosen, table.rows, strict=True):
        if one in named:
            for value in row.values:
                value.rank = BEST


# -- notes ---------------------------------------------------------------------------------------

def _with_sources(table: Table, selection: Selection, tested: dict[str, str]) -> Table:
    """Return the table with one note on all published rows, and no note that nothing refers to.

    ``tested``: the note on significance, if the table has one.
    """
    used = dict.fromkeys(mark for row in table.rows for value in row.values for mark in value.marks)
    names = {mark: letters(number) for number, mark in enumerate(used)}
    made = replace(table, blocks=table.remarked(names),
                   notes={new: table.notes[old] for old, new in names.items()})
    if made.measured and made.published:
        for row in made.published:
            row.heads[0].marks.insert(0, DAGGER)
        made.notes = {DAGGER: f"published values, not measured here. {_sources(made)}",
                      **made.notes}
    made.notes = {**tested, **made.notes}
    made.sentences = list(_sentences(made, selection))
    return made


def _sources(table: Table) -> str:
    """Return where the published rows were printed."""
    sources: dict[str, list[str]] = {}
    for row in table.published:
        sources.setdefault(row.source, []).append(row.name)
    return "; ".join(f"{', '.join(dict.fromkeys(found))}: {published.SOURCES.get(source, source)}"
                     for source, found in sources.items())


def _only_published(table: Table) -> list[str]:
    """Return the sentence of a table without measured rows, where no row has a dagger."""
    return ([f"Published values, not measured here. {_sources(table)}."]
            if table.published and not table.measured else [])


def _sentences(table: Table, selection: Selection) -> Iterable[str]:
    here = [metrics.get(name) for name in dict.fromkeys(c.metric for c in table.columns)]
    for sign, direction in ((1, "higher"), (-1, "lower")):
        titles = [f"{one.title}{f' in {one.unit}' * bool(one.unit)}" for one in here
                  if (one.sign > 0) == (sign > 0)]
        if titles:
            yield f"{', '.join(titles)}: {direction} is better."
    if selection.bold == BOLD_BEST:
        yield "Bold: the best value of the column, if its values differ."
    yield from _only_published(table)
    if any(value.shown == text.NA for row in table.rows
           for value in (row.values if selection.parameters else row.entries)):
        yield f"{text.NA}: see the note."
