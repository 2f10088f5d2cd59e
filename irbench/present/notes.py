"""Footnotes: a table gives each distinct sentence one mark, in the order of first use."""

from __future__ import annotations

import re

NUMBER = re.compile(r"\w*[0-9]+(?:\.[0-9]+)*\w*")      # with its letters: x2, 1.5, 11x11


def letters(index: int) -> str:
    """Return a, b, ... z, aa, ab, ... for 0, 1, ..."""
    found = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        found = chr(97 + rest) + found
    return found


def in_order(marks: list[str]) -> list[str]:
    """Return marks sorted as their notes are: a, b, ..., z, aa, ..."""
    return sorted(marks, key=lambda mark: (len(mark), mark))


def alike(terms: dict[str, str]) -> dict[str, str]:
    """Return notes on names with those as one that differ in nothing but numbers.

    The names and the numbers are joined by slashes, in the same order:
    ``{"sr-x2@2 / sr-x4@2": "... (scale 2 / 4) ..."}``.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, sentence in terms.items():
        groups.setdefault(tuple(NUMBER.split(sentence)), []).append(name)
    found = {}
    for words, names in groups.items():
        numbers = zip(*(NUMBER.findall(terms[name]) for name in names), strict=True)
        joined = [" / ".join(dict.fromkeys(one) if len(set(one)) == 1 else one)
                  for one in numbers]
        found[" / ".join(names)] = "".join(
            word + number for word, number in zip(words, [*joined, ""], strict=True))
    return found


class Noted:
    """Base class for objects with ``notes``: mark -> sentence."""

    notes: dict[str, str]

    def note(self, sentence: str) -> str:
        """Return the mark of a note; add the note if it is new."""
        for mark, known in self.notes.items():
            if known == sentence:
                return mark
        mark = letters(len(self.notes))
        self.notes[mark] = sentence
        return mark
