"""The papers behind methods, printed values, datasets, metrics and models, as BibTeX.

Reads ``catalog/citations.yaml``, which explains its form; writes nothing.

Try: ``python -c "from irbench.catalog import citations;
print(citations.bibtex(citations.keys('datasets', 'set5')))"``
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path

from irbench.catalog import reader
from irbench.core import forms

CATALOG = Path(__file__).with_name("citations.yaml")
USE = "% for: "         # begins the comment above an entry
GROUPS = ("methods", "sources", "datasets", "metrics", "models")
# the kinds of entries, each with the fields that it must have
KINDS = {"article": ("author", "title", "journal", "year"),
         "inproceedings": ("author", "title", "booktitle", "year"),
         "misc": ("author", "title", "year")}
# fields that say where a paper appeared in every style of BibTeX; `eprint` is read by few
PLACES = ("journal", "booktitle", "howpublished")


@functools.cache
def load() -> dict[str, dict]:
    """Return the file: ``entries`` by key, and ``uses`` by group and name."""
    return reader.sections(CATALOG, ("entries", "uses"), "the citations of irbench")


def keys(group: str, name: str) -> tuple[str, ...] | None:
    """Return the keys of what to cite for a name, () for nothing, None if that is not known.

    Args:
        group: one of ``GROUPS``.
        name: a name of that group; of a method, with or without its asterisk.
    """
    known = load()["uses"][group]
    general = name.partition(":")[0] + ":"      # all metrics of pyiqa
    found = known.get(name.removesuffix("*") if group == "methods" else name, known.get(general))
    return None if found is None else tuple([found] if isinstance(found, str) else found)


def bibtex(keys: Iterable[str], uses: Mapping[str, Iterable[str]] | None = None) -> str:
    """Return the entries with these keys, sorted by key, each once.

    An entry that is on arXiv alone also has ``howpublished``, which all styles print.
    ``uses``: what each entry is cited for, which a comment above it says.
    """
    return "\n".join(_entry(key, load()["entries"][key], (uses or {}).get(key, ()))
                     for key in sorted(set(keys)))


def _entry(key: str, fields: dict, uses: Iterable[str]) -> str:
    # BibTeX ignores what stands between entries up to the next @
    why = [f"{USE}{forms.shown('; '.join(uses)).replace('@', '(at)')}"] if uses else []
    if "eprint" in fields and not any(name in fields for name in PLACES):
        where = f"{fields.get('archiveprefix', 'arXiv')}:{fields['eprint']}"
        fields = {**fields, "howpublished": where}
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if name != "type"]
    return "\n".join([*why, f"@{fields['type']}{{{key},", *lines, "}", ""])
