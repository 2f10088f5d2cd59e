"""The table type of report and compare: the content of a table, independent of any format.

A builder makes a ``Table``; ``markdown``, ``latex``, ``tidy`` (CSV) and ``plain`` (text) print it,
and the page prints it as HTML. A column either names the rows (a head) or holds values. Columns
may have common heads above them, and rows may be grouped in blocks with titles. A value may have a
rank, footnotes, a second line, and the reason why it is missing. The CSV has its own fields and
lines, because a table for people puts several values in a row.

Reads and writes nothing.

Try: ``python -c "from irbench.present.table import Column, Table
print(Table('t', 'Title', [Column('Model')], [Column('PSNR')]).headings())"``
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from irbench.present import text
from irbench.present.notes import Noted, in_order

MEASURED = "measured"           # the source of a row that is not copied from print
BEST, SECOND = "best", "second"
CLOSE = "≈"                     # mark of values that are not significantly worse than the best
DAGGER = "†"                    # mark of published rows that stand among measured ones


@dataclass(frozen=True)
class Column:
    """One column: its title and the heads above it, outermost first.

    A column of scores also names their protocol, level, dataset (with its title) and metric. In
    other columns these are "".
    """

    title: str
    over: tuple[str, ...] = ()
    left: bool = False          # words, aligned left; numbers are aligned right
    protocol: str = ""
    level: str = ""
    dataset: str = ""
    dataset_title: str = ""
    metric: str = ""

    @property
    def task(self) -> str:
        """The task of the protocol."""
        return text.split_id(self.protocol)[0]


@dataclass
class Value:
    """One number or word as shown.

    Attributes:
        shown: the text; ``text.NA`` if unknown, ``text.NONE`` if not asked for.
        marks: marks of footnotes.
        sub: a second line in small print.
        lines: more lines below the first, in the same size.
        reason: why there is no number, or more about the number.
        rank: "best", "second" or "".
        place: 1 + the number of rows of its kind that are better in its column; among measured
            rows, significantly better.
        close: not the best of its column, but no row is significantly better.
        number: the number to rank; None if the value is not ranked.
        exact: the number unrounded, or as printed; several are joined by "/".
        status: status of the cell; "published" for a printed value.
        record: path of the record below the run folder, for a measured value.
        difference: measured - printed, signed, with the decimals of ``shown``.
        apart: the same difference, unrounded.
        against: the method of the printed value, and its source.
        spread: the standard deviation of the values that ``shown`` is the mean of, as shown.
        seeds: how many values it is the mean of: trainings with different seeds.
        cite: keys of BibTeX entries, which LaTeX cites behind the text.
    """

    shown: str
    marks: list[str] = field(default_factory=list)
    sub: str = ""
    lines: tuple[str, ...] = ()
    reason: str = ""
    rank: str = ""
    place: int | None = None
    close: bool = False
    number: float | None = None
    exact: str = ""
    status: str = ""
    record: str = ""
    difference: str = ""
    apart: float | None = None
    against: str = ""
    spread: str = ""
    seeds: int = 1
    cite: tuple[str, ...] = ()

    @property
    def signs(self) -> list[str]:
        """What stands raised behind the text: marks, and whether the value is ``close``."""
        return [CLOSE] * self.close + self.marks

    @property
    def full(self) -> str:
        """The text with its spread: ``32.10 ± 0.021``."""
        return f"{self.shown} ± {self.spread}" if self.spread else self.shown


@dataclass
class Row:
    """One row: the values of the heads, which name the row, then the values of the columns.

    ``key`` is the name of the row for programs. ``source`` is "measured", or the place where the
    row was printed. ``origin`` states where the weights of a measured row come from. ``counts`` are
    the numbers of parameters by protocol, without those that are unknown.
    """

    heads: list[Value]
    entries: list[Value] = field(default_factory=list)
    key: str = ""
    source: str = MEASURED
    origin: str = ""
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def values(self) -> list[Value]:
        """All values, in the order of the columns."""
        return [*self.heads, *self.entries]

    @property
    def name(self) -> str:
        """The text of the first head."""
        return self.heads[0].shown

    @property
    def sub(self) -> str:
        """The line under the name."""
        return self.heads[0].sub

    @property
    def marks(self) -> list[str]:
        """The footnotes of the name."""
        return self.heads[0].marks


@dataclass
class Block:
    """Rows below a common title ("" for none). A block without rows is not shown."""

    title: str = ""
    rows: list[Row] = field(default_factory=list)
    strong: bool = True         # the title in bold, or else in italics


@dataclass
class Table(Noted):
    """A table.

    Attributes:
        stem: name of its files, without suffix.
        title: title of the table.
        heads: the columns that name a row; each part of a wide table repeats them.
        columns: all other columns.
        fields: fields of the CSV.
        blocks: blocks of rows; most tables have one, without a title.
        lines: lines of the CSV; None is unknown.
        notes: footnotes, mark -> sentence.
        sentences: sentences of the caption.
        anchor: id in the page, unique among the tables of a report; default: the stem.
        folded: the table is long, so the page folds it.
        cut: LaTeX may split the table after any row, else only after a block.
        task: task of a table of methods.
        version: version of its protocols; the caption then begins with title and version.
        part: name of this table among those of one stem, which are printed as blocks of one.
        common_title: title of the tables of one stem together.
        terms: notes on protocols and datasets, by their ids.
        cells: status of each cell shown.
        differences: show differences to printed values in Markdown and LaTeX.
    """

    stem: str
    title: str
    heads: list[Column]
    columns: list[Column]
    fields: tuple[str, ...] = ()
    blocks: list[Block] = field(default_factory=lambda: [Block()])
    lines: list[list] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)
    anchor: str = ""
    folded: bool = False
    cut: bool = True
    task: str = ""
    version: int | None = None
    part: str = ""
    common_title: str = ""
    terms: dict[str, str] = field(default_factory=dict)
    cells: list[str] = field(default_factory=list)
    differences: bool = False

    def __post_init__(self) -> None:
        """Set the default anchor: the stem."""
        self.anchor = self.anchor or self.stem

    def add(self, values: Iterable[Value], **about: str) -> Row:
        """Append a row to the last block; ``about``: its key and source."""
        values, keys = list(values), len(self.heads)
        row = Row(values[:keys], values[keys:], **about)
        self.blocks[-1].rows.append(row)
        return row

    def absent(self, reason: str) -> Value:
        """Return n/a with its reason as a footnote."""
        return Value(text.NA, [self.note(reason)], reason=reason)

    def leave_out_unknown(self, columns: Iterable[Column]) -> None:
        """Remove those of these columns that hold n/a in every row; the caption gives the reasons.

        Notes that no other value has are removed, and the marks of the others follow each other.
        """
        unknown = [index for index, column in enumerate(self.columns) if column in columns
                   and all(row.entries[index].shown in (text.NA, text.NONE) for row in self.rows)]
        if not unknown or not self.rows:
            return
        lacking: dict[str, list[str]] = {}      # reasons -> headings
        for index in unknown:
            reasons = dict.fromkeys(row.entries[index].reason.rstrip(".") for row in self.rows)
            lacking.setdefault("; ".join(filter(None, reasons)), []).append(
                " ".join((*self.columns[index].over, self.columns[index].title)))
        self.sentences += [f"No column {', '.join(names)}: {reasons}."
                           for reasons, names in lacking.items()]
        kept = [index for index in range(len(self.columns)) if index not in unknown]
        self.columns = [self.columns[index] for index in kept]
        for row in self.rows:
            row.entries = [row.entries[index] for index in kept]
        notes, self.notes = self.notes, {}
        used = {mark for row in self.rows for value in row.values for mark in value.marks}
        self.blocks = self.remarked({mark: self.note(sentence) for mark, sentence in notes.items()
                                     if mark in used})

    @property
    def rows(self) -> list[Row]:
        """The rows of all blocks."""
        return [row for block in self.blocks for row in block.rows]

    @property
    def measured(self) -> list[Row]:
        """The rows that were measured here."""
        return [row for row in self.rows if row.source == MEASURED]

    @property
    def published(self) -> list[Row]:
        """The rows that were copied from print."""
        return [row for row in self.rows if row.source != MEASURED]

    @property
    def all_columns(self) -> list[Column]:
        """The heads and the other columns, in the order of a row's values."""
        return [*self.heads, *self.columns]

    @property
    def caption(self) -> str:
        """The caption; for versioned protocols it begins with title and version."""
        named = [] if self.version is None else [f"{self.title}, protocol version {self.version}."]
        return " ".join([*named, *self._said])

    @property
    def full_caption(self) -> str:
        """The caption with the title, for formats without a separate title."""
        return f"{self.title}. {self.caption}" if self.version is None else self.caption

    @property
    def short_caption(self) -> str:
        """Title, version and the first sentence: for formats that print the others as notes."""
        return replace(self, sentences=self._said[:1]).full_caption

    @property
    def other_sentences(self) -> str:
        """The sentences of the caption that ``short_caption`` leaves out."""
        return " ".join(self._said[1:])

    @property
    def _said(self) -> list[str]:
        return [sentence for sentence in self.sentences if sentence]

    @property
    def coverage(self) -> str:
        """How many of the cells have a result; "" for a table without cells."""
        if not self.cells:
            return ""
        done = self.cells.count("ok")
        others = ", ".join(f"{self.cells.count(status)} {status}"
                           for status in dict.fromkeys(self.cells) if status != "ok")
        return (f"coverage: {done} of {len(self.cells)} cells with a result"
                + (f" ({others})" if others else ""))

    def headings(self, heads: bool = False) -> list[list[tuple[str, int]]]:
        """Return the rows of heads: texts, and how many columns each spans.

        Columns share a head if all heads above it are the same; "" spans one column. The last row
        holds the titles. ``heads``: include the columns that name a row.
        """
        columns = self.all_columns if heads else self.columns
        return [_spans(columns, depth) for depth in range(
            max((len(column.over) for column in columns), default=0))] + [
            [(column.title, 1) for column in columns]]

    def only(self, columns: Iterable[int]) -> Table:
        """Return a table with the same heads and some of its other columns."""
        kept = list(columns)
        return replace(self, columns=[self.columns[i] for i in kept], blocks=[
            replace(block, rows=[replace(row, entries=[row.entries[i] for i in kept])
                                 for row in block.rows]) for block in self.blocks])

    def bare(self) -> Table:
        """Return the table without caption and notes; only the dagger of published rows stays."""
        def plain(values: list[Value]) -> list[Value]:
            return [replace(value, sub="", marks=[m for m in value.marks if m == DAGGER])
                    for value in values]
        return replace(self, notes={}, terms={}, sentences=[], cells=[], version=None, blocks=[
            replace(block, rows=[replace(row, heads=plain(row.heads), entries=plain(row.entries))
                                 for row in block.rows]) for block in self.blocks])

    def remarked(self, marks: dict[str, str]) -> list[Block]:
        """Return the blocks with renamed footnote marks: old -> new."""
        def other(values: list[Value]) -> list[Value]:
            return [replace(value, marks=in_order([marks[mark] for mark in value.marks]))
                    for value in values]
        return [replace(block, rows=[replace(row, heads=other(row.heads),
                                             entries=other(row.entries)) for row in block.rows])
                for block in self.blocks]


def _spans(columns: list[Column], depth: int) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    last = None
    for column in columns:
        above = column.over[:depth + 1]
        label = above[depth] if depth < len(above) else ""
        if label and above == last:
            found[-1] = (label, found[-1][1] + 1)
        else:
            found.append((label, 1))
        last = above
    return found


def joined(tables: list[Table]) -> Table:
    """Return the tables of one stem as one table: a block for each, with common footnotes."""
    first = tables[0]
    if len(tables) == 1:
        return first
    whole = replace(first, title=first.common_title, anchor=first.stem.replace("@", "-v"), part="",
                    notes={}, terms={}, blocks=[],
                    sentences=list(dict.fromkeys(one for table in tables
                                                 for one in table.sentences)),
                    cells=[status for table in tables for status in table.cells],
                    lines=[line for table in tables for line in table.lines])
    for table in tables:
        marks = {mark: whole.note(sentence) for mark, sentence in table.notes.items()}
        named, *others = table.remarked(marks)
        whole.blocks += [replace(named, title=table.part), *others]
        whole.terms |= table.terms
    return whole


def with_common_notes(tables: list[Table]) -> tuple[list[Table], Table]:
    """Return the tables of a page with common marks, and the table that has their notes.

    The second is ``joined``: its caption, coverage, notes and terms are those of all tables. Its
    caption names no version if the tables have several.
    """
    whole = joined(tables)
    if len(tables) == 1:
        return tables, whole
    if len({table.version for table in tables}) > 1:
        whole = replace(whole, version=None)
    return [replace(table, blocks=table.remarked({
        mark: whole.note(sentence) for mark, sentence in table.notes.items()}))
        for table in tables], whole
