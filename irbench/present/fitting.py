"""Fit LaTeX tables to a page without packages: smaller letters, broken lines, several parts.

Widths are estimates by the number of letters. Pure functions; nothing is read or written.
"""

from __future__ import annotations

from dataclasses import dataclass

PAGE = 450                      # points a table may be wide: an A4 page with margins of an inch
LETTER = (4.5, 3.85)            # points a letter is wide on average, in scriptsize and in tiny
LINES = 54                      # that a page has room for in scriptsize
ROWS = 40                       # of one tabular
PER_LINE = 120                  # letters of a caption or a note
GAP = (4, 2)                    # points beside a column, in scriptsize and in tiny
NARROW = 14                     # letters that a column with broken lines has at least
RAISED = 0.7                    # width of a footnote's letter


@dataclass(frozen=True)
class Layout:
    """How to set one tabular: letters, gap in points, kinds of columns, which have broken lines."""

    size: str
    gap: int
    kinds: str
    broken: frozenset[int]

    @property
    def commands(self) -> list[str]:
        r"""The lines before ``\begin{tabular}``."""
        return [self.size, rf"\setlength{{\tabcolsep}}{{{self.gap}pt}}"]


def letters(shown: str, marks: list[str]) -> float:
    """Return the width of a figure with its footnotes' marks, in letters."""
    return len(shown) + RAISED * len(",".join(marks))


def layout(widths: list[float], left: list[bool]) -> Layout:
    """Return how to set columns of ``widths`` letters, of which those ``left`` may be broken.

    A table wider than a page is set smaller; if that is not enough, its widest columns of words
    get broken lines. It may be wider than a page even so: see ``parts``.
    """
    widths, small, broken = _squeezed(widths, left)
    kinds = "".join(f"p{{{width * LETTER[small]:.0f}pt}}" if i in broken else "l" if flush else "r"
                    for i, (width, flush) in enumerate(zip(widths, left, strict=True)))
    return Layout((r"\scriptsize", r"\tiny")[small], GAP[small], kinds, frozenset(broken))


def parts(widths: list[float], left: list[bool], keys: int,
          groups: list[int]) -> list[list[int]]:
    """Return the columns of each part of a table that is to be no wider than a page.

    Args:
        widths: of the columns, in letters.
        left: whether a column has words, whose lines can be broken.
        keys: how many columns at the beginning name a row; every part has them.
        groups: how many columns each group after those has; a group stays together.
    """
    named = list(range(keys))
    found: list[list[int]] = []
    start = keys
    for size in groups:
        group = list(range(start, start + size))
        start += size
        if found and _fits([*named, *found[-1], *group], widths, left):
            found[-1] += group
        else:
            found.append(group)
    return [[*named, *columns] for columns in found] or [named]


def pages(title: str, caption: str, label: str, tabulars: list[list[str]],
          notes: list[str]) -> list[str]:
    r"""Return the lines of a table environment, or of more where one page has no room for all.

    Args:
        title: said again above what is continued.
        caption: of the first one.
        label: for ``\ref``.
        tabulars: the lines of each, to be set below each other.
        notes: paragraphs below the last one.
    """
    top = [r"\begin{table}[t]", r"\centering\scriptsize"]
    lines = [*top, rf"\caption{{{caption}}}", rf"\label{{tab:{label}}}"]
    used, empty = _lines(caption), True
    for tabular in tabulars:
        if not empty and used + _height(tabular) > LINES:
            lines += [r"\end{table}", "", *top, rf"\caption{{{title}, continued.}}"]
            used, empty = 1, True
        lines += tabular if empty else [r"\par\medskip", *tabular]
        used, empty = used + _height(tabular), False
    if notes:
        below = [r"\begin{minipage}{\linewidth}\scriptsize\raggedright",
                 *(rf"{note}\par" for note in notes), r"\end{minipage}"]
        apart = used + sum(map(_lines, notes)) > LINES
        lines += [r"\end{table}", "", *top] if apart else [r"\par\smallskip"]
        lines += below
    return [*lines, r"\end{table}", ""]


def _lines(paragraph: str) -> int:
    return 1 + len(paragraph) // PER_LINE


def _height(tabular: list[str]) -> int:
    """Return about how many lines a tabular has; broken ones as two."""
    return sum(line.endswith(r"\\") + line.startswith(r"{}{\raggedright") for line in tabular)


def _fits(columns: list[int], widths: list[float], left: list[bool]) -> bool:
    squeezed, small, _ = _squeezed([widths[i] for i in columns], [left[i] for i in columns])
    return _points(squeezed, small) <= PAGE


def _points(widths: list[float], small: int) -> float:
    return sum(widths) * LETTER[small] + 2 * GAP[small] * len(widths)


def _squeezed(widths: list[float], left: list[bool]) -> tuple[list[float], int, set[int]]:
    widths, broken = list(widths), set()
    small = int(_points(widths, 0) > PAGE)
    while _points(widths, small) > PAGE:
        wide = [i for i, flush in enumerate(left) if flush and widths[i] > NARROW]
        if not wide:
            break
        one = max(wide, key=lambda i: widths[i])
        broken.add(one)
        widths[one] -= 1
    return widths, small, broken
