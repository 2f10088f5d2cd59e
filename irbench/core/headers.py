"""Checks of the headers of weights: anybody can write one, and a wrong type must not cause a crash.

``checked`` keeps the usable fields of the short form that a cell's record holds, for the report.
``wrong`` names the fields of a file's header that lack the form irbench writes, for commands that
refuse such a file or list it as unusable. Reads and writes nothing.
"""

from __future__ import annotations

from irbench.core.forms import (
    BEGUN,
    TAUGHT,
    Test,
    count,
    every,
    having,
    mapping,
    number,
    or_none,
    text,
)

# types of the fields that the report uses
TYPES = {"protocol": str, "levels": dict, "recipe": dict, "datasets": list, "exclude": dict,
         "images": dict, "steps": int, "seconds": float, "images_seen": int, "parameters": int,
         "hardware": dict, "final_loss": float, "waiting": float, "validation": list,
         "validation_on": dict, "init": dict, "teacher": dict}
FEW = 3     # names in a sentence
COUNTS = ("threads", "processes", "cores")      # of the hardware; the rest are names


def checked(header: object) -> dict:
    """Return the fields of a header that are used here and have the type they should have."""
    if not isinstance(header, dict):
        return {}
    found = {name: header[name] for name, kind in TYPES.items() if is_a(header.get(name), kind)}
    if "exclude" in found:
        found["exclude"] = {name: images for name, images in found["exclude"].items()
                            if isinstance(images, list)}
    if "hardware" in found:
        found["hardware"] = {name: value for name, value in found["hardware"].items()
                             if is_a(value, int if name in COUNTS else str)}
    for name, form in (("init", BEGUN), ("teacher", TAUGHT)):
        if not form(found.get(name)):
            found.pop(name, None)
    return found


def is_a(value: object, kind: type) -> bool:
    """Whether a value has a type; a number must also be non-negative and not NaN."""
    if kind in (int, float):
        return (isinstance(value, int if kind is int else (int, float))
                and not isinstance(value, bool) and value >= 0)
    return isinstance(value, kind)


def begun(facts: dict) -> str:
    """Return which tensors a training began with, in words, from the field ``init`` of a header."""
    new, left = facts["new"], facts["left"]
    return "; ".join(filter(None, [
        f"{facts['taken']} of {facts['taken'] + len(new)} tensors of "
        f"{facts['of'] or 'a file'} (SHA-256 {facts['sha256'][:12]})",
        f"new: {_few(new)}" if new else "", f"not used: {_few(left)}" if left else ""]))


def _few(names: list[str]) -> str:
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return f"{', '.join(names[:FEW])}{more}"


# -- the whole header of a file ------------------------------------------------------------------

def _pair(first: Test, second: Test) -> Test:
    return lambda value: (isinstance(value, list) and len(value) == 2 and first(value[0])
                          and second(value[1]))


def _range(value: object) -> bool:
    return isinstance(value, dict) and len(value) == 1 and all(
        _pair(number, number)(ends) for ends in value.values())


def _lists(value: object) -> bool:
    return isinstance(value, dict) and all(every(text)(one) for one in value.values())


def _score(value: object) -> bool:
    """Test the means on one set: every key other than these three is the name of a metric."""
    about = {"protocol": text, "dataset": text, "count": count}
    return having(**about)(value) and all(
        or_none(number)(one) for name, one in value.items() if name not in about)


NEEDED = {"arch": text, "options": mapping, "protocol": text}
FIELDS = NEEDED | {name: or_none(test) for name, test in {
    "model": text, "training": text, "weights": text, "irbench": text, "git": text,
    "command": text, "storage": text, "dirty": lambda value: isinstance(value, bool),
    "levels": _range, "recipe": mapping, "datasets": every(having(name=text)), "exclude": _lists,
    "steps": count, "seconds": number, "images_seen": count, "parameters": count,
    "images": having(training=count, held_out=count),
    "hardware": having(**{name: or_none(count) for name in COUNTS}, **{
        name: or_none(text) for name in ("device", "device_name", "cpu")}),
    "validation": every(_pair(count, or_none(number))), "validation_on": mapping,
    "best": having(step=count),
    "scores": every(_score),
    "leaks": every(having(train=text, test=text, shared=count, left_out=count)),
    "imported": having(file=text, sha256=text),
    "init": BEGUN, "teacher": TAUGHT,
}.items()}


def wrong(header: dict) -> list[str]:
    """Return the names of a header's invalid fields, sorted.

    Unknown fields are ignored. Text with characters that would control a terminal is invalid.
    """
    return sorted({name for name, test in FIELDS.items()
                   if name in header and not test(header[name])}
                  | {name if _shown(name) else ascii(name) for name, value in header.items()
                     if not (_shown(name) and _shown(value))})


def _shown(value: object) -> bool:
    """Whether all text in a JSON value can be printed."""
    if isinstance(value, str):
        return value.replace("\n", " ").isprintable()
    if isinstance(value, dict):
        return all(_shown(name) and _shown(one) for name, one in value.items())
    return all(map(_shown, value)) if isinstance(value, list) else True
