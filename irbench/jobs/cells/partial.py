"""The images of a cell that are done, in a file beside its record, so that a killed cell goes on.

Reads and writes ``cells/PROTOCOL/DATASET/MODEL.partial`` (``irbench.core.run_folder``). Its first
line holds the digest of all that the cell's values depend on, machine and versions included; with
another digest the file is begun anew. Every further line holds an image's entry, after the SHA-256
of the line, so that a line that was cut off or edited ends what counts. The file is removed when
the cell's record is stored (``irbench.jobs.result``).

Try: ``python -c "from irbench.jobs.cells.partial import Partial;
print(Partial(None, {}).begin(all))"``
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import IO

from irbench.core import files, messages
from irbench.core.digests import fingerprint
from irbench.core.errors import UserError, refusal

DIGITS = 64     # of a SHA-256


class Partial:
    """A cell's file of finished images; without a path it holds and writes nothing."""

    def __init__(self, path: Path | None, basis: object) -> None:
        """Take the file and all that the values depend on, as plain data."""
        self.path, self.basis = path, basis
        self._file: IO[str] | None = None

    def begin(self, valid: Callable[[int, dict], bool]) -> list[dict]:
        """Return the lines that count, and prepare the file for the next ones.

        Args:
            valid: whether the line with this number, from 0 on, is what the cell needs there.
        """
        if self.path is None:
            return []
        first = _sealed({"basis": fingerprint(self.basis)})
        found = []
        try:
            texts = files.read_text(self.path).splitlines()
        except (FileNotFoundError, ValueError):
            texts = []
        for text in texts[1:] if texts[:1] == [first] else ():
            value = _opened(text)
            if value is None or not valid(len(found), value):
                break
            found.append(value)
        try:
            files.set_folder_aside(self.path)
            files.write_atomic(self.path, "\n".join([first, *map(_sealed, found)]) + "\n")
            self._file = self.path.open("a", encoding="utf-8")
        except (OSError, UserError) as error:
            self._failed(error)
        return found

    def add(self, value: dict) -> None:
        """Write a line; a cell does not fail because this fails."""
        if self._file:
            try:
                self._file.write(_sealed(value) + "\n")
                self._file.flush()
            except (OSError, ValueError) as error:     # a NaN, which no record takes either
                self._failed(error)

    def close(self) -> None:
        """Close the file, which stays."""
        if self._file:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError as error:
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._file = None
        reason = refusal(error) if isinstance(error, OSError) else error
        messages.say(f"{self.path}: not written ({reason}). A stopped cell would begin anew.")


def _sealed(value: dict) -> str:
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    return f"{hashlib.sha256(text.encode()).hexdigest()} {text}"


def _opened(line: str) -> dict | None:
    """Return what ``_sealed`` was given; None if the line is not as it was written."""
    text = line[DIGITS + 1:]
    if line[:DIGITS] != hashlib.sha256(text.encode()).hexdigest():
        return None
    return json.loads(text)
