"""What a header of weights may say: anybody can write one, and a wrong type must cost no command.

``checked`` keeps the usable fields of the short form that a cell's record holds, for the report;
``wrong`` names the fields of a file's header that are not of the form irbench writes, for commands
that refuse such a file, or list it as unusable. Reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

# of the fields that the report uses
TYPES = {"protocol": str, "levels": dict, "recipe": dict, "datasets": list, "exclude": dict,
         "images": dict, "steps": int, "seconds": float, "images_seen": int, "parameters": int,
         "hardware": dict, "final_loss": float, "waiting": float, "validation": list,
         "validation_on": dict}
COUNTS = ("threads", "processes", "cores")      # of the hardware; the rest are names
LARGEST = 1e18


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
    return found


def is_a(value: object, kind: type) -> bool:
    """Say whether a value is of a type; a number also whether it is none below 0 (nor NaN)."""
    if kind in (int, float):
        return (isinstance(value, int if kind is int else (int, float))
                and not isinstance(value, bool) and value >= 0)
    return isinstance(value, kind)


# -- the whole header of a file ------------------------------------------------------------------

Test = Callable[[object], bool]


def _text(value: object) -> bool:
    return isinstance(value, str)


def _mapping(value: object) -> bool:
    return isinstance(value, dict)


def _number(value: object) -> bool:
    return (isinstance(value, int | float) and not isinstance(value, bool)
            and -LARGEST < value < LARGEST)  # not NaN, and no integer that no float can hold


def _count(value: object) -> bool:
    return isinstance(value, int) and _number(value) and value >= 0


def _or_none(test: Test) -> Test:
    return lambda value: value is None or test(value)


def _all(test: Test) -> Test:
    return lambda value: isinstance(value, list) and all(test(one) for one in value)


def _with(**fields: Test) -> Test:
    """Of a mapping that has these fields, among others."""
    return lambda value: isinstance(value, dict) and all(
        test(value.get(name)) for name, test in fields.items())


def _pair(first: Test, second: Test) -> Test:
    return lambda value: (isinstance(value, list) and len(value) == 2 and first(value[0])
                          and second(value[1]))


def _range(value: object) -> bool:
    return isinstance(value, dict) and len(value) == 1 and all(
        _pair(_number, _number)(ends) for ends in value.values())


def _lists(value: object) -> bool:
    return isinstance(value, dict) and all(_all(_text)(one) for one in value.values())


def _score(value: object) -> bool:
    """Of the means on one set: whatever it holds beside these three is a metric's."""
    about = {"protocol": _text, "dataset": _text, "count": _count}
    return _with(**about)(value) and all(
        _or_none(_number)(one) for name, one in value.items() if name not in about)


NEEDED = {"arch": _text, "options": _mapping, "protocol": _text}
FIELDS = NEEDED | {name: _or_none(test) for name, test in {
    "model": _text, "training": _text, "weights": _text, "irbench": _text, "git": _text,
    "command": _text, "storage": _text, "dirty": lambda value: isinstance(value, bool),
    "levels": _range, "recipe": _mapping, "datasets": _all(_with(name=_text)), "exclude": _lists,
    "steps": _count, "seconds": _number, "images_seen": _count, "parameters": _count,
    "images": _with(training=_count, held_out=_count),
    "hardware": _with(**{name: _or_none(_count) for name in COUNTS}, **{
        name: _or_none(_text) for name in ("device", "device_name", "cpu")}),
    "validation": _all(_pair(_count, _or_none(_number))), "validation_on": _mapping,
    "best": _with(step=_count),
    "scores": _all(_score),
    "leaks": _all(_with(train=_text, test=_text, shared=_count, left_out=_count)),
    "imported": _with(file=_text, sha256=_text),
}.items()}


def wrong(header: dict) -> list[str]:
    """Return the names of a header's fields that are not what they should be, sorted.

    Unknown fields are let be; text that a terminal would take for a command is none.
    """
    return sorted({name for name, test in FIELDS.items()
                   if name in header and not test(header[name])}
                  | {name if _shown(name) else ascii(name) for name, value in header.items()
                     if not (_shown(name) and _shown(value))})


def _shown(value: object) -> bool:
    """Say whether all text in a value of JSON can be printed."""
    if isinstance(value, str):
        return value.replace("\n", " ").isprintable()
    if isinstance(value, dict):
        return all(_shown(name) and _shown(one) for name, one in value.items())
    return all(map(_shown, value)) if isinstance(value, list) else True
