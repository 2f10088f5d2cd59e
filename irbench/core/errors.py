"""The errors a user can meet; the command line prints them as one message, never a traceback.

A message states what was wrong, where, what would be valid, and what to do.
"""

from __future__ import annotations

import difflib
import errno
import traceback
from collections.abc import Iterable
from pathlib import Path

# no space on the disk, quota exceeded, file too large
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ADVICE = {
    NO_ROOM: "Make room for it, then run the same command again.",
    (errno.EACCES, errno.EPERM, errno.EROFS): "Choose a place where you may read and write.",
    (errno.ENOTDIR, errno.EEXIST, errno.EISDIR): "A file stands where a folder should be, or a "
                                                 "folder where a file should be. Move it away.",
    (errno.ENAMETOOLONG,): "Choose shorter names."}
# where code lies that is not the caller's: this package and Python itself
ELSEWHERE = (str(Path(__file__).parents[1]), str(Path(traceback.__file__).parent))


class UserError(Exception):
    """Bad input: the command stops with exit code 2 and writes nothing."""


class Unrepeatable(UserError):
    """Others' code gave one input two results: nothing that it computed for this cell counts."""


class Unavailable(UserError):
    """A result cannot be computed here (data or weights missing, too little memory).

    For a command run by hand it is an error like any other. Inside a run it becomes a record with
    status ``unavailable`` and this message as its reason, so that the other cells go on.
    """


class Damaged(Unavailable):
    """A file is present but damaged: its bytes differ from the known ones, or hold no image.

    The record's status is ``unavailable``, too. In a check (``irbench anchors``) a damaged file is
    a failure, while a missing one is skipped.
    """


class Paused(Unavailable):
    """Stopped early on request; the same command continues. Exit code 3 on the command line.

    Inside a run the record's status is ``paused``.
    """


class Superseded(Unavailable):
    """The plan of the run no longer asks for what a job computed: nothing is written."""


def unknown(kind: str, name: str, valid: Iterable[str], where: str = "",
            near: Iterable[str] = (), shown_by: str = "") -> UserError:
    """Build the error for a name that is not in a closed list, with the nearest valid names.

    ``near``: names that are nearer than spelling tells; then only these are suggested.
    ``shown_by``: the command that shows the valid names, for a list that is too long for a message.
    """
    valid = sorted(set(valid))
    near = list(near) or difflib.get_close_matches(str(name), valid, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    place = f"{where}: " if where else ""
    listed = (f"{shown_by} shows the {len(valid)} valid ones" if shown_by else
              f"Valid: {', '.join(valid) or 'none'}")
    return UserError(f"{place}unknown {kind} {name!r}.{hint} {listed}.")


def in_words(error: BaseException) -> str:
    """Return an error of other people's code as part of a sentence: type, text and place.

    The place is the file and line of the innermost call that is not in an installed package.
    """
    text = " ".join(str(error).split())[:200].rstrip(".")
    if isinstance(error, SystemExit):
        text = f"it ends the program (exit code {error.code})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if "site-packages" not in frame.filename and not frame.filename.startswith("<")
              and not frame.filename.startswith(ELSEWHERE)]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{f': {text}' if text else ''}{place}"


def refusal(error: OSError) -> str:
    """Return why the system refused something, and what to do where that is known."""
    advice = next((text for numbers, text in ADVICE.items() if error.errno in numbers), "")
    return f"{error.strerror or type(error).__name__}. {advice}".rstrip()


def not_written(path: str | Path, error: OSError) -> UserError:
    """Build the error for a file that cannot be written."""
    return UserError(f"{path}: not written: {refusal(error)}")
