"""Hostile inputs made from sound ones, and what must hold for each of them.

A document is changed in one to three places: a value replaced, removed, repeated, renamed, nested.
A file of bytes is cut, overwritten, repeated or extended. Hypothesis chooses, and shrinks what
fails.
"""

from __future__ import annotations

import contextlib
import copy
import os
import signal
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from irbench.core import files
from irbench.core.errors import UserError

TARGETS = 11                            # fuzz tests; the inputs are divided among them
INPUTS = int(os.environ.get("IRBENCH_FUZZ", "150"))
SECONDS = 20                            # after which an input counts as a hang
EACH = settings(max_examples=max(1, INPUTS // TARGETS), deadline=None,
                suppress_health_check=list(HealthCheck), database=None,
                derandomize="IRBENCH_FUZZ" not in os.environ)
TEXTS = ["", " ", "\n", "x\n", "\t", "..", "../x", "/", "/dev/zero", "/dev/full", "~", "a/b",
         "a\\b", "é", "\u202e", "😀", "a" * 300, "é" * 200, "{level}", "{", "}", "{}", "%s",
         "{0.__class__}", "=1+1", "$(touch x)", "`x`", "'", '"', "null", "nan", "1e400", "-1", "0",
         "sr-x2", "sr-x2@", "sr-x2@99", "@1", "set5", "bicubic", "bundled", "all", "**/*", "[",
         "*" * 50, "(a+)+$", "http://", "http://[", "file:///etc/passwd", "https://x.invalid/\n",
         "0" * 64, "g" * 64]
NUMBERS = [-1, 0, 1, 2, 3, 7, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400, 0.0, -0.0, 0.5,
           1.0, 1e-320, 1e308, -1e308]
VALUES = st.one_of(
    st.sampled_from([None, True, False, [], {}, [[]], [{}], {"a": {}}, [None], {"": None}]),
    st.sampled_from(TEXTS), st.sampled_from(NUMBERS), st.text(max_size=8),
    st.lists(st.sampled_from([*TEXTS, *NUMBERS]), max_size=3))


class Hang(BaseException):
    """An input took longer than ``SECONDS``."""


@contextlib.contextmanager
def within(seconds: int = SECONDS):
    """Raise Hang in what takes longer."""
    def stop(*_):
        raise Hang(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def settle(call, *arguments, folder: Path | None = None):
    """Return what a call returns, or the user's error that it raises; anything else is a fault."""
    try:
        with within():
            return call(*arguments)
    except UserError as error:
        text = str(error)
        assert text.strip() and "Traceback" not in text
        return error
    finally:
        if folder:
            left = [path for path in folder.rglob(".*") if files.TEMPORARY.fullmatch(path.name)]
            assert not left, left


def places(value: object, path: tuple = ()) -> list[tuple]:
    """Return the path of every value inside a document."""
    found = [path] if path else []
    items = (value.items() if isinstance(value, dict)
             else enumerate(value) if isinstance(value, list) else ())
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


@st.composite
def documents(draw, sound: object):
    """A document that differs from a sound one in one to three places."""
    value = copy.deepcopy(sound)
    for _ in range(draw(st.integers(1, 3))):
        known = places(value)
        if not known:
            return copy.deepcopy(draw(VALUES))
        *above, last = draw(st.sampled_from(known))
        inner = value
        for key in above:
            inner = inner[key]
        how = draw(st.sampled_from(["replace"] * 4 + ["remove", "rename", "nest", "grow", "twin"]))
        if how == "replace":
            inner[last] = copy.deepcopy(draw(VALUES))      # not two of one object
        elif how == "remove":
            del inner[last]
        elif how == "nest":
            inner[last] = draw(st.sampled_from([[inner[last]], {"a": inner[last]}]))
        elif isinstance(inner, dict):
            new = draw(st.sampled_from([*TEXTS, f"{last}x", f"{last}\n", str(last).upper()]))
            inner[new] = inner.pop(last) if how == "rename" else copy.deepcopy(inner[last])
        else:
            inner.insert(last, copy.deepcopy(draw(VALUES) if how == "grow" else inner[last]))
    return value


@st.composite
def damaged(draw, sound: bytes):
    """The bytes of a sound file, damaged in one to three places."""
    data = bytearray(sound)
    for _ in range(draw(st.integers(1, 3))):
        # headers are short and decide much: as often as all the rest
        until = draw(st.sampled_from([min(len(data), 300), len(data)]))
        at = draw(st.integers(0, max(0, until - 1)))
        how = draw(st.sampled_from(["cut", "flip", "flip", "write", "repeat", "remove", "append"]))
        if how == "cut":
            del data[at:]
        elif how == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "write":
            piece = draw(st.one_of(st.binary(max_size=12), st.sampled_from(
                [b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 3, b"\n", b"\0", b"\r", b",", b'"'])))
            data[at:at + len(piece)] = piece
        elif how == "repeat":
            data[at:at] = data[at:at + draw(st.integers(1, 40))] * draw(st.integers(1, 30))
        elif how == "remove":
            del data[at:at + draw(st.integers(1, 40))]
        else:
            data += draw(st.binary(max_size=40))
    return bytes(data)
