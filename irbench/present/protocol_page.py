"""Print protocols as a page of Markdown: every convention of every protocol, by task.

A pure function from the catalog's protocols to text; the same protocols give the same bytes.

Try: ``irbench list protocols --markdown``
"""

from __future__ import annotations

from collections.abc import Iterable

from irbench.catalog.protocols import Protocol
from irbench.present import markdown, text

INTRODUCTION = """\
# Protocols

A protocol fixes everything that a value depends on. This page is made from the catalog by
`irbench list protocols --markdown`. `irbench info sr-x2` shows one protocol with all its fields,
and the head of `irbench/catalog/protocols.yaml` explains them. An id without its version, such as
`sr-x2`, means the newest version. Restored images are clipped and rounded to 8 bits before any
metric."""


def page(protocols: Iterable[Protocol]) -> str:
    """Return the page: an introduction, and a table per task, all in the order given."""
    tasks: dict[str, list[Protocol]] = {}
    for one in protocols:
        tasks.setdefault(one.task, []).append(one)
    sections = [f"## {markdown.escape(text.task_title(task))}\n\n{_table(found)}"
                for task, found in tasks.items()]
    return "\n\n".join([INTRODUCTION, *sections]) + "\n"


def _table(protocols: Iterable[Protocol]) -> str:
    rows = [f"| {markdown.code(one.id)} "
            f"| {text.markdown(text.protocol_sentence(one.definition()))} |" for one in protocols]
    return "\n".join(["| protocol | what it fixes |", "|---|---|", *rows])
