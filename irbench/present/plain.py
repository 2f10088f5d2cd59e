"""Print a table as plain text; format scores and runs for the texts of compare.

Pure functions from plain values to text. The same input gives the same bytes.

Try: ``python -c "from irbench.present.plain import change; print(change('psnr', -0.25))"``
"""

from __future__ import annotations

import json
from dataclasses import replace

from irbench.core import metrics
from irbench.core.forms import shown
from irbench.present.notes import alike
from irbench.present.table import Table, Value

NA = "n/a"


def metric(name: str) -> str:
    """Return the heading of a metric with its unit."""
    known = metrics.get(name)
    return f"{known.title}, {known.unit}" if known.unit else known.title


def score(name: str, value: float | None) -> str:
    """Return a score with the decimals for a comparison of runs, without unit."""
    return NA if value is None else f"{value:.{metrics.get(name).exact_decimals}f}"


def change(name: str, value: float | None) -> str:
    """Return a signed difference of scores; a difference that is shown as 0 has no sign."""
    return NA if value is None else metrics.signed(value, metrics.get(name).exact_decimals)


def about(run) -> str:
    """Describe a loaded run in one line: its path, commit, day, device and machine."""
    known = run.provenance
    git, hardware = known.get("git") or {}, known.get("hardware") or {}
    commit = git.get("commit")
    words = [f"baseline of {run.name}" if run.baseline else run.name,
             commit and f"irbench {commit[:7]}{' with changes' if git.get('dirty') else ''}",
             str(known.get("time") or "")[:10],
             hardware.get("gpu") if known.get("device") == "cuda" else hardware.get("cpu")]
    return shown(f"{run.where}: {', '.join(filter(None, words))}")


def many(number: int, word: str) -> str:
    """Return ``1 cell``, ``2 cells``, ``2 other images``."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def to_text(table: Table, room: int = 0) -> str:
    """Return a table for a terminal, columns two spaces apart.

    Args:
        table: the table; its caption and notes are not printed.
        room: least number of spaces by which a column is wider than its title.
    """
    columns = table.all_columns
    titles = [shown(" ".join((*column.over, column.title))) for column in columns]
    blocks = [(shown(block.title), [[_lines(value) for value in row.values] for row in block.rows])
              for block in table.blocks if block.rows]
    widths = [max([len(title) + room, *(len(line) for _, rows in blocks for row in rows
                                        for line in row[i])])
              for i, title in enumerate(titles)]
    lines: list[list[str] | str] = [titles, ["-" * width for width in widths]]
    for title, rows in blocks:
        lines += [title] if title else []
        for row in rows:
            for at in range(max(map(len, row))):
                lines.append([cell[at] if at < len(cell) else "" for cell in row])
    return "\n".join(line if isinstance(line, str) else "  ".join(
        text.ljust(width) if column.left else text.rjust(width)
        for column, text, width in zip(columns, line, widths, strict=True)).rstrip()
        for line in lines)


def to_paper(table: Table) -> str:
    """Return a table for a paper, with its caption and the notes of its marks below."""
    notes = "\n".join([*(f"[{mark}] {shown(sentence)}" for mark, sentence in table.notes.items()),
                       *(f"{name}: {shown(sentence)}"
                         for name, sentence in alike(table.terms).items())])
    # plain text has no bold letters to explain
    said = [sentence for sentence in table.sentences if not sentence.startswith("Bold:")]
    about = shown(replace(table, sentences=said).full_caption)
    return "\n\n".join(filter(None, [to_text(table), about, notes])) + "\n"


def _lines(value: Value) -> list[str]:
    marks = f" [{','.join(value.signs)}]" if value.signs else ""
    return [shown(value.full + marks), *map(shown, filter(None, (value.sub, *value.lines)))]


def compact(value: object) -> str:
    """Return one line of JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def pretty(value: object) -> str:
    """Return indented JSON, with keys in the given order."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
