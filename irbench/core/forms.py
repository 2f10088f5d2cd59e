"""Tests of the form of a JSON value, which can be combined, and the forms of records' results.

A record may have been written by another version, by hand or by a defective program. A value of a
wrong type must make only its own record unusable, not the report or comparison that reads it:
``wrong`` names the first such value of a result. ``make`` turns plain data into a dataclass. Reads
and writes nothing.

Try: ``python -c "from irbench.core import forms; print(forms.wrong('data', {'count': 'many'}))"``
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import MISSING
from dataclasses import fields as fields_of
from pathlib import Path
from typing import TypeVar

from irbench.core.errors import UserError, unknown

LARGEST = 1e18
MOST_DECIMALS = 15      # that a float has
# control characters, ends of lines, and what Python makes of bytes that are not UTF-8
UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# the same, and what turns the direction of the letters behind it
HIDDEN = re.compile(f"{UNFIT.pattern[:-1]}\u202a-\u202e\u2066-\u2069]")

Test = Callable[[object], bool]
T = TypeVar("T")


def make(kind: type[T], given: dict, where: str) -> T:
    """Return an instance of a dataclass with the given fields; missing fields get their defaults.

    Args:
        kind: a dataclass.
        given: field -> value, in the types of the fields.
        where: the beginning of error messages.

    Raises:
        UserError: not a mapping, an unknown field, or a missing field without a default.
    """
    if not isinstance(given, dict):
        raise UserError(f"{where}: {given!r} is not a mapping from fields to values.")
    known = {field.name: field for field in fields_of(kind)}
    for name in given:
        if name not in known:
            raise unknown("key", name, known, where)
    for name, field in known.items():
        if name not in given and field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"{where}: missing key {name!r}.")
    return kind(**given)


def text(value: object) -> bool:
    """Whether a value is text."""
    return isinstance(value, str)


def line(value: object) -> bool:
    """Whether a value is a text that stays within its line and its cell of a table.

    Titles and units from people's files must be such texts: else they could forge rows of a table,
    or text in a terminal.
    """
    return isinstance(value, str) and not HIDDEN.search(value)


def listed(value: str | Path | Iterable[str | Path]) -> tuple[str, ...]:
    """Return texts or paths as a tuple of texts; a single one counts as a list of one."""
    return (str(value),) if isinstance(value, str | Path) else tuple(map(str, value))


def shown(value: str) -> str:
    """Return a text of any origin as one ``line``: ends of lines are spaces, the rest is escaped.
    """
    if not HIDDEN.search(value):
        return value
    return HIDDEN.sub(lambda found: ascii(found[0])[1:-1], " ".join(value.splitlines()))


def mapping(value: object) -> bool:
    """Whether a value is a JSON object."""
    return isinstance(value, dict)


def flag(value: object) -> bool:
    """Whether a value is true or false."""
    return isinstance(value, bool)


def number(value: object) -> bool:
    """Whether a value is a number that a float can hold, and not NaN or infinite."""
    return (isinstance(value, int | float) and not isinstance(value, bool)
            and -LARGEST < value < LARGEST)


def count(value: object) -> bool:
    """Whether a value is a non-negative whole number."""
    return isinstance(value, int) and number(value) and value >= 0


def size(value: object) -> bool:
    """Whether a value is a non-negative number."""
    return number(value) and value >= 0


def or_none(test: Test) -> Test:
    """Return a test for null or a value that passes ``test``."""
    return lambda value: value is None or test(value)


def either(*tests: Test) -> Test:
    """Return a test for a value that passes one of the tests."""
    return lambda value: any(test(value) for test in tests)


def every(test: Test) -> Test:
    """Return a test for a list whose items all pass ``test``."""
    return lambda value: isinstance(value, list) and all(test(one) for one in value)


def values(test: Test) -> Test:
    """Return a test for a JSON object whose values all pass ``test``."""
    return lambda value: isinstance(value, dict) and all(test(one) for one in value.values())


def having(**fields: Test) -> Test:
    """Return a test for a JSON object that has at least these fields."""
    return lambda value: isinstance(value, dict) and all(
        test(value.get(name)) for name, test in fields.items())


def perhaps(*needed: str, **fields: Test) -> Test:
    """Return a test for a JSON object whose fields pass their tests where present and not null.

    The fields in ``needed`` must be present.
    """
    return lambda value: isinstance(value, dict) and _first_wrong(value, needed, fields) is None


def _first_wrong(value: dict, needed: tuple[str, ...], fields: dict[str, Test]) -> str | None:
    return next((name for name, test in fields.items()
                 if (value.get(name) is not None or name in needed)
                 and not test(value.get(name))), None)


# -- inputs and circumstances of records -----------------------------------------------------------

_SET = perhaps(name=text, sha256=text, reason=text, here=text)
_STEP = perhaps("kind", kind=text)
_PROTOCOL = perhaps(
    id=text, title=text, task=text, level=text, color=text, gray=text, source=text, borrows=text,
    seed=count, degradation=either(_STEP, every(_STEP)),
    metric=perhaps(color=text, y_rounded=flag, crop=count, ssim=text, gray_files=text))
_INFERENCE = perhaps(dtype=text, channels_last=flag, compile=flag, tile=either(text, count),
                     overlap=count, memory_gib=number, self_ensemble=flag)
_RECIPE = perhaps(
    **dict.fromkeys(("recipe", "note", "optimiser", "schedule", "loss", "precision"), text),
    **dict.fromkeys(("steps", "seconds", "patch", "batch", "accumulate", "lr", "matrix_lr",
                     "warmup", "weight_decay", "grad_clip", "ema", "fft_weight", "holdout",
                     "validate_every", "save_every", "save_minutes", "spike", "workers"), number),
    data=every(text), unknown=every(text), levels=values(every(number)), phases=every(mapping),
    exclude=values(every(text)), milestones=every(number), betas=every(number))
_MODEL = perhaps(
    name=text, arch=text, title=text, note=text, published_as=text, base=text, seed_of=text,
    in_paper=flag, learned=flag, reference=flag, own=flag, seed=count, options=mapping,
    base_options=mapping, variant=values(or_none(mapping)), inference=_INFERENCE, training=_RECIPE,
    checkpoint=perhaps(kind=text, path=text, url=text, peer=text, needs=text, weights_key=text,
                       network=mapping, sha256=either(text, values(text))))
SPEC = perhaps(
    protocol=_PROTOCOL, model=_MODEL, dataset=_SET, datasets=every(_SET), metrics=every(text),
    alone=every(text), code=text, device=text, seed=count, limit=count, count=count, names=text,
    keep_images=flag, profile=mapping, bench=mapping, data_root=text,
    pairs=every(lambda pair: every(_SET)(pair) and len(pair) == 2))
RESOLVED = perhaps(made_on=every(perhaps(device=text, processes=count, threads=count)),
                   checkpoint=text, weights=mapping, outputs=mapping,
                   external=mapping)
PROVENANCE = perhaps(
    time=text, irbench=text, python=text, threads=count, packages=values(or_none(text)),
    git=perhaps(commit=text, dirty=flag),
    hardware=perhaps(platform=text, cpu=text, gpu=text, cores=count, memory_bytes=count))

# -- results of records ----------------------------------------------------------------------------

_KNOWN = or_none(number)
_TEXTS = values(or_none(text))
_MACHINE = {"device": text, "device_name": text, "dtype": text, "threads": count,
            "inference": _INFERENCE}
_DICTIONARY = every(perhaps(n=number, k=number, self=number, used=number, overlap=number))
_PAIR = {"train": text, "test": text}
_POINT = {"step": count, "seconds": number}
_LATENCY = perhaps(p50=number, p90=number, samples=every(number), busy_elsewhere=number)
_SWEPT = perhaps("height", "width", "batch", height=number, width=number, batch=number,
                 latency_ms=_LATENCY, missing=either(_TEXTS, text), reason=text)
_MEASURED = every(perhaps(
    "n", **dict.fromkeys(("n", "k", "windows", "heads", "head_dim", "peak_memory_bytes",
                          "max_error"), number),
    **dict.fromkeys(("implementation", "peak_memory_of", "reason", *_MACHINE), text) | _MACHINE,
    latency_ms=_LATENCY))
_OF_IMAGE = {"name": text, "height": count, "width": count, "tiles": count, "file": text,
             "kept": values(text), "output": text, "sha256": text}


def _image(value: object) -> bool:
    """Whether a value is an image of a cell: beside these fields it holds scores only."""
    return isinstance(value, dict) and "name" in value and all(
        (one is None and name != "name") or _OF_IMAGE.get(name, number)(one)
        for name, one in value.items())


# which tensors of a file a training began with, and the teacher it learned from
BEGUN = having(sha256=text, of=text, taken=count, new=every(text), left=every(text),
               data_known=lambda value: isinstance(value, bool))
TAUGHT = having(title=text, sha256=text, weight=number)

# kind of record -> the fields that must be there, the fields that are read and their form
RESULTS: dict[str, tuple[tuple[str, ...], dict[str, Test]]] = {
    "data": (("count",), {"count": count, "sha256": text, "bytes": count,
                          "images": every(text)}),
    "training": (("checkpoint",), {
        "checkpoint": having(file=text, sha256=text), "steps": count, "seconds": number,
        "images_seen": count, "images": values(_KNOWN), "parameters": count, "final_loss": number,
        "best": having(step=count, psnr=number),
        "curve": every(perhaps("step", "loss", **_POINT, loss=number, lr=number)),
        "validation": every(perhaps("step", "psnr", **_POINT, psnr=number)),
        "validation_on": mapping, "waiting": number, "processes": count, "init": BEGUN,
        "teacher": TAUGHT, **_MACHINE}),
    "cell": (("images", "mean"), {
        "images": every(_image),
        "mean": values(_KNOWN), "missing": _TEXTS, "tiling": perhaps(images=count),
        "dictionary": _DICTIONARY, **_MACHINE}),
    "profile": ((), {
        "parameters": number, "macs": number, "macs_keys_only": number,
        "macs_by_kind": values(_KNOWN), "uncounted": values(_KNOWN), "input": values(_KNOWN),
        "latency_ms": _LATENCY,
        "throughput": values(_KNOWN), "energy": perhaps(joules_per_image=number, method=text),
        "peak_memory_bytes": number, "peak_memory_of": text, "missing": _TEXTS, "tiles": count,
        "attention": perhaps(implementation=text, reason=text), "precision": mapping,
        "dictionary": _DICTIONARY, "dictionary_of": text,
        "sweep": values(or_none(perhaps(points=every(_SWEPT), exponent=perhaps(
            value=number, low=number, high=number), reason=text))), **_MACHINE}),
    "bench": ((), {"rows": _MEASURED, "build": _MEASURED, **_MACHINE}),
    "leaks": ((), {
        "pairs": every(having(**_PAIR, train_image=text, test_image=text, kind=text)),
        "compared": every(having(**_PAIR, train_images=count, test_images=count)),
        "not_compared": every(having(**_PAIR, reason=text))}),
}


# -- rows of metrics -------------------------------------------------------------------------------

_LINE = (line, "one line of text")
_YES = (lambda value: isinstance(value, bool), "true or false")
_SIZE = (or_none(size), "a number from 0 on")
_MORE = (or_none(lambda value: size(value) and value > 0), "a number above 0")
_PLACES = (lambda value: count(value) and value <= MOST_DECIMALS,
           f"a whole number from 0 to {MOST_DECIMALS}")
# field of ``irbench.core.metrics.Metric`` -> its test, and what is valid in words
METRIC: dict[str, tuple[Test, str]] = {
    "title": (lambda value: line(value) and bool(value.strip()), _LINE[1]),
    "unit": _LINE, "source": _LINE,
    "decimals": _PLACES, "exact_decimals": (or_none(_PLACES[0]), _PLACES[1]),
    "difference_decimals": (or_none(_PLACES[0]), _PLACES[1]),
    "default": _YES, "main": _YES, "weights": _YES, "reference": _YES,
    "range": (lambda value: isinstance(value, tuple) and len(value) == 2 and all(
        isinstance(end, float) and end == end for end in value), "two numbers (none: no limit)"),
    "noise": _MORE, "height": _MORE, "alike": _SIZE, "close": _SIZE, "near": _SIZE}


def wrong(kind: str, result: dict) -> str | None:
    """Describe the first field of a result that lacks the form irbench writes; None if all have it.

    The result of a kind that is not listed here is not tested.
    """
    name = _first_wrong(result, *RESULTS.get(kind, ((), {})))
    return f"{name!r} of its result is missing or not in the form that irbench writes" \
        if name else None
