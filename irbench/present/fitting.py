"""Fit LaTeX tables to a page without packages: smaller letters, broken lines, several parts.

Widths of the report's tables are estimated from the number of letters, those of a paper's table
letter by letter (``fitted``). Pure functions; nothing is read or written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PAGE = 450                      # greatest width of a table in points: A4 with margins of an inch
LETTER = (4.5, 3.85)            # mean width of a letter in points, in scriptsize and in tiny
LINES = 54                      # lines per page in scriptsize
ROWS = 40                       # rows of one tabular
PER_LINE = 120                  # letters per line of a caption or a note
GAP = (4, 2)                    # points beside a column, in scriptsize and in tiny
NARROW = 14                     # least width in letters of a column with broken lines
RAISED = 0.7                    # width of a letter of a footnote mark
# the room for a table of a paper in points, at most what the usual classes have in 10 pt: article's
# column on A4 has 221 (letter 229, CVPR 237, ACM 241, IEEE 252), its two columns together 452
# (IEEE 516), its page with one column 345. The latter also serves 11 and 12 pt, where \small is
# larger but the text is hardly wider
ROOMS = {"column": 220, "text": 328, "page": 450}
# sizes of letters, with the width of an em (Computer Modern: small letters are relatively wider),
# and gaps beside a column in points; the first with which a table fits is taken
STEPS = tuple((size, em, gap) for size, em, gaps in (
    (r"\normalsize", 10.0, (6,)), (r"\small", 9.25, (6, 4)), (r"\footnotesize", 8.5, (4, 3)),
    (r"\scriptsize", 7.97, (3, 2))) for gap in gaps)
# widths of letters in em, of Computer Modern, which is wider than Times
WIDTHS = {letter: width for letters, width in (
    ("ijl.,:;'|!", 0.31), (" -", 0.334), ("frstI()[]", 0.4), ("0123456789/*", 0.5),
    ("acegoJz", 0.514), ("S", 0.556), ("EFLP", 0.681), ("mwMW+=<>%@&_#$", 1.03))
    for letter in letters}
LOWER, UPPER, SIGN = 0.556, 0.785, 1.03     # widths of all other letters, and of signs
BOLD = 1.16                     # bold letters are wider by this factor


@dataclass(frozen=True)
class Layout:
    """The layout of one tabular: letter size, gap in points, kinds of columns, broken columns."""

    size: str
    gap: int
    kinds: str
    broken: frozenset[int]

    @property
    def commands(self) -> list[str]:
        r"""The lines before ``\begin{tabular}``."""
        return [self.size, rf"\setlength{{\tabcolsep}}{{{self.gap}pt}}"]


def letters(shown: str, marks: list[str]) -> float:
    """Return the width of a value with its footnote marks, in letters."""
    return len(shown) + RAISED * len(",".join(marks))


def ems(shown: str, marks: Iterable[str] = (), bold: bool = False) -> float:
    """Return the greatest width of a text with its footnote marks, in em of its letters."""
    wide = sum(WIDTHS.get(letter, SIGN if not letter.isascii() else
                          UPPER if letter.isupper() else LOWER) for letter in shown)
    return wide * (BOLD if bold else 1) + 0.8 * sum(map(ems, marks))


def fitted(widths: list[float], left: list[bool], heads: list[list[tuple[float, int]]],
           room: float) -> Layout | None:
    """Return the layout of a table without outer gaps that fits ``room`` points, None if none does.

    Args:
        widths: widths of the columns in em, see ``ems``.
        left: whether a column has words, aligned left.
        heads: rows of common heads: the width in em of each, and how many columns it spans.
        room: points.
    """
    for size, em, gap in STEPS:
        points = [width * em for width in widths]
        for row in heads:
            start = 0
            for width, count in row:        # TeX widens the last column below a wide head
                own = sum(points[start:start + count]) + 2 * gap * (count - 1)
                points[start + count - 1] += max(0.0, width * em - own)
                start += count
        if sum(points) + 2 * gap * (len(points) - 1) <= room:
            kinds = "".join("l" if flush else "r" for flush in left)
            return Layout(size, gap, f"@{{}}{kinds}@{{}}", frozenset())
    return None


def layout(widths: list[float], left: list[bool]) -> Layout:
    """Return the layout for columns of ``widths`` letters; columns in ``left`` may be broken.

    A table wider than a page is set in smaller letters. If that is not enough, the lines of its
    widest columns of words are broken. It may still be wider than a page: see ``parts``.
    """
    widths, small, broken = _squeezed(widths, left)
    kinds = "".join(f"p{{{width * LETTER[small]:.0f}pt}}" if i in broken else "l" if flush else "r"
                    for i, (width, flush) in enumerate(zip(widths, left, strict=True)))
    return Layout((r"\scriptsize", r"\tiny")[small], GAP[small], kinds, frozenset(broken))


def parts(widths: list[float], left: list[bool], keys: int,
          groups: list[int]) -> list[list[int]]:
    """Split a table into parts that fit the width of a page; return the columns of each part.

    Args:
        widths: widths of the columns, in letters.
        left: whether a column has words, whose lines can be broken.
        keys: number of columns at the beginning that name a row; every part has them.
        groups: number of columns of each following group; a group stays together.
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
    r"""Return the lines of a table environment, or of several if one page is not enough.

    Args:
        title: repeated above each continuation.
        caption: caption of the first environment.
        label: label for ``\ref``.
        tabulars: lines of each tabular; they are set below each other.
        notes: paragraphs below the last tabular.
    """
    top = [r"\begin{table}[t]", r"\centering\scriptsize"]
    # in the usual classes a caption has no space below it
    lines = [*top, rf"\caption{{{caption}}}", rf"\label{{tab:{label}}}", r"\smallskip"]
    used, empty = _lines(caption), True
    for tabular in tabulars:
        if not empty and used + _height(tabular) > LINES:
            lines += [r"\end{table}", "", *top, rf"\caption{{{title}, continued.}}",
                      r"\smallskip"]
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
    """Return the approximate number of lines of a tabular; a broken row counts as two."""
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
