"""Footnotes: a table gives each distinct sentence one mark, in the order of first use."""

from __future__ import annotations


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
