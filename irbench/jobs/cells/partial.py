"""The images of a cell that are done, in a file beside its record, so that a killed cell goes on.

Reads and writes ``cells/PROTOCOL/DATASET/MODEL.partial`` (``irbench.core.run_folder``); a part of a
cell has a file of its own, ``MODEL.partial-2-of-4``. The first line holds the digest of all that
the cell's values depend on, machine and versions included; a file with another digest does not
count. Every further line holds an image's entry, after the SHA-256 of the line, so that a line that
was cut off or edited ends what counts. Lines do not depend on each other: whoever needs an image
takes its line from any file of the cell. So a job for the cell, or for another part of it, goes on
with what the parts have done. The files are removed when the cell's record is stored
(``irbench.jobs.result``).

Try: ``python -c "from irbench.jobs.cells.partial import Partial;
print(Partial(None, {}).begin(print))"``
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from irbench.core import files, messages
from irbench.core.digests import fingerprint
from irbench.core.errors import UserError, refusal

DIGITS = 64     # of a SHA-256


class Partial:
    """A file of finished images; without a path it holds and writes nothing.

    Arguments:
        path: the file.
        basis: all that the values depend on, as plain data.
        others: files of the same cell whose lines count, too; they stay as they are.
    """

    def __init__(self, path: Path | None, basis: object, others: Sequence[Path] = ()) -> None:
        """Keep the arguments (above); nothing is read yet."""
        self.path, self.basis, self.others = path, basis, others
        self._file: IO[str] | None = None

    def begin(self, number_of: Callable[[dict], int | None]) -> dict[int, dict]:
        """Return the lines that count, by the numbers of their images; write them to the file.

        Args:
            number_of: returns the number of the image that a line is of; None if the line does not
                count.
        """
        if self.path is None:
            return {}
        first = _sealed({"basis": fingerprint(self.basis)})
        texts = dict.fromkeys(text for path in (self.path, *self.others)
                              for text in _texts(path, first))
        found: dict[int, dict] = {}
        for text in texts:
            value = json.loads(text)
            if (number := number_of(value)) is not None:
                found.setdefault(number, value)
        found = dict(sorted(found.items()))
        try:
            files.set_folder_aside(self.path)
            files.write_atomic(self.path, "\n".join([first, *map(_sealed, found.values())]) + "\n")
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

    def discard(self) -> None:
        """Remove the file and those of other parts: what they hold is not to be trusted."""
        self.close()
        for path in (self.path, *self.others) if self.path else ():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

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


def _texts(path: Path, first: str) -> Iterator[str]:
    """Yield what the lines of a file hold, until one is not as it was written.

    ``first``: the first line; a file with another one yields nothing.
    """
    try:
        lines = files.read_text(path).splitlines()
    except (FileNotFoundError, ValueError):
        return
    for line in lines[1:] if lines[:1] == [first] else ():
        text = line[DIGITS + 1:]
        if line[:DIGITS] != hashlib.sha256(text.encode()).hexdigest():
            return
        yield text
