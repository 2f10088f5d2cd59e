"""Regular expressions that people write: those that end soon on every name.

Python's ``re`` tries all ways to match, and a pattern such as ``(a+)+$`` has exponentially many on
a name of 40 letters. So a pattern must be of a form that has few: no repetition of something that
is itself of variable length, no choice inside a repetition, no reference to a group, and only a few
repetitions and choices in all. On a name of 255 characters such a pattern takes a moment at most.

Reads and writes nothing.

Try: ``python -c "from irbench.catalog import patterns; print(patterns.problem('(a+)+$'))"``
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from re import _constants as kinds  # the standard library's own parser: no other sees what re sees
from re import _parser as parser

LONGEST = 200       # characters of a pattern
MOST_OPEN = 2       # repetitions without a small limit: ``*``, ``+``, ``{2,}``
MOST = 6            # repetitions of variable length, and choices, in all
SMALL = 20          # a limit of a repetition up to which it counts as small
REPEATS = (kinds.MAX_REPEAT, kinds.MIN_REPEAT, kinds.POSSESSIVE_REPEAT)
REFERENCES = (kinds.GROUPREF, kinds.GROUPREF_EXISTS)


def problem(pattern: object) -> str:
    """Return why a pattern cannot be used, as part of a sentence; "" if it can."""
    if not isinstance(pattern, str):
        return "not a text"
    if len(pattern) > LONGEST:
        return f"longer than {LONGEST} characters"
    try:
        re.compile(pattern)
        found = list(_counted(parser.parse(pattern), False))
    except (re.error, OverflowError, RecursionError) as error:
        return f"not a valid regular expression ({error})"
    if "nested" in found:
        return ("a repetition of something that has a variable length or a choice in it, which "
                "may take for ever; write it without the inner or the outer one")
    if "reference" in found:
        return "with a reference to a group, which may take for ever; write it without"
    if found.count("open") > MOST_OPEN or len(found) > MOST:
        return (f"of more than {MOST_OPEN} repetitions (* or +), or {MOST} repetitions and choices "
                "in all, which may take for ever; write a shorter one")
    return ""


def _counted(items: object, repeated: bool) -> Iterator[str]:
    """Yield a word for each part of a parsed pattern that can be matched in several ways."""
    for kind, value in items:
        if kind in REPEATS:
            low, high, inner = value
            if low != high:
                yield "nested" if repeated else "open" if high > SMALL else "few"
            yield from _counted(inner, repeated or high > 1)
        elif kind is kinds.BRANCH:
            yield "nested" if repeated else "choice"
            for one in value[1]:
                yield from _counted(one, repeated)
        elif kind in REFERENCES:
            yield "reference"
        elif kind is kinds.SUBPATTERN:
            yield from _counted(value[-1], repeated)
        elif kind in (kinds.ASSERT, kinds.ASSERT_NOT):
            yield from _counted(value[1], repeated)
        elif kind is kinds.ATOMIC_GROUP:
            yield from _counted(value, repeated)
