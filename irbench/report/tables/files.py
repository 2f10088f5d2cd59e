"""The files of a table: Markdown, LaTeX and CSV, by their suffixes."""

from __future__ import annotations

from irbench.present.latex import to_latex
from irbench.present.markdown import to_markdown
from irbench.present.table import Table, joined
from irbench.present.tidy import to_csv


def texts(parts: list[Table]) -> dict[str, str]:
    """Return suffix -> text of the tables of one stem, which are printed as one table."""
    whole = joined(parts)
    return {"md": to_markdown(whole), "tex": to_latex(parts), "csv": to_csv(whole)}
