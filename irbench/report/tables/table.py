"""A table of methods as data: rows are methods, columns are figures; it knows no file format.

``tables.build`` makes them; ``render`` prints them as Markdown, LaTeX and CSV, the page as HTML.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from irbench.present import text
from irbench.present.notes import Noted


@dataclass(frozen=True)
class Column:
    """One column of figures."""

    protocol: str
    level: str
    dataset: str
    title: str                  # of the dataset
    metric: str

    @property
    def task(self) -> str:
        """The task of the protocol."""
        return text.split_id(self.protocol)[0]


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


# the heads that a form of table may have above its figures: what a column says in each
HEADS = {
    "task": lambda column: text.task_title(column.task),
    "level": lambda column: text.level_label(column.level),
    "dataset": lambda column: column.title,
    "metric": lambda column: text.metric_label(column.metric),
}


@dataclass
class Table(Noted):
    """One task under one protocol version, or one block of it.

    The blocks of one stem have the same columns but for what ``block`` names, so that a file can
    print them below each other: the scales of super-resolution, the sets of JPEG.
    """

    stem: str                   # of the files it goes to
    anchor: str                 # unique among all tables of a report
    task: str
    title: str                  # with the block's name
    version: int
    columns: list[Column]
    measured: list[Row] = field(default_factory=list)
    published: list[Row] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)         # mark -> text
    protocols: dict[str, str] = field(default_factory=dict)     # id (or dataset) -> sentence
    said: list[str] = field(default_factory=list)               # sentences of the caption
    heads: tuple[str, ...] = ("level", "dataset", "metric")     # of HEADS, outermost first
    by: str = ""                # what the blocks are of: level or dataset; "" for a table of one
    block: str = ""             # the name of this block
    whole: str = ""             # the title of all blocks
    cells: list[str] = field(default_factory=list)              # the status of each
    differences: bool = False   # to printed figures: shown in Markdown and LaTeX

    @property
    def caption(self) -> str:
        """The title and what a reader must know of figures, ranks and rows."""
        return " ".join([f"{self.title}, protocol version {self.version}.", *self.said])

    @property
    def coverage(self) -> str:
        """How many of the cells have a result: ``coverage: 7 of 9 cells with a result (...)``."""
        done = self.cells.count("ok")
        others = ", ".join(f"{self.cells.count(status)} {status}"
                           for status in dict.fromkeys(self.cells) if status != "ok")
        return (f"coverage: {done} of {len(self.cells)} cells with a result"
                + (f" ({others})" if others else ""))

    def headings(self, depths: tuple[int, ...] | None = None) -> list[list[tuple[str, int]]]:
        """Return the rows of heads above the figures: texts, and how many columns each spans.

        A row that would say the same of all columns is left out, but never the last one.
        ``depths``, of ``depths()`` of a table with more columns, keeps what was said of those.
        """
        return [self._heading(depth) for depth in (self.depths() if depths is None else depths)]

    def depths(self) -> tuple[int, ...]:
        """Return which of the heads say something, counted from 1."""
        found = []
        for depth in range(1, len(self.heads) + 1):
            # what all columns share says nothing, unless it is a set: its name must be somewhere
            named = self.heads[depth - 1] == "dataset" and self.by != "dataset"
            if (named or depth == len(self.heads)
                    or len({label for label, _ in self._heading(depth)}) > 1):
                found.append(depth)
        return tuple(found)

    def _heading(self, depth: int) -> list[tuple[str, int]]:
        keys = [tuple(HEADS[name](column) for name in self.heads[:depth])
                for column in self.columns]
        row: list[tuple[str, int]] = []
        for index, key in enumerate(keys):
            if index and key == keys[index - 1]:
                row[-1] = (row[-1][0], row[-1][1] + 1)
            else:
                row.append((key[-1], 1))
        return row

    def groups(self, *names: str) -> list[tuple[Column, int]]:
        """Return the first column and the width of each run of columns alike in ``names``."""
        found: list[tuple[Column, int]] = []
        for column in self.columns:
            if found and all(getattr(found[-1][0], n) == getattr(column, n) for n in names):
                found[-1] = (found[-1][0], found[-1][1] + 1)
            else:
                found.append((column, 1))
        return found
