"""The table of metrics: the name, format, direction and noise level of each.

This is the only list of metrics, in the order of columns and keys. ``irbench.imaging.metrics`` has
the functions, under the same names; it does not import this module, so that a new title does not
make results outdated. The gate's tolerances are data (``catalog/tolerances.yaml``), checked against
this table.

The table is open. A run's config adds rows: a user's own metrics (``metric_plugins``) and metrics
of pyiqa (``pyiqa:NAME``). Records and baselines that hold such a metric hold its row, too
(``described``), so that whoever reads them needs neither the config nor the user's file.

To add a metric to irbench itself, call ``register`` here and in ``irbench.imaging.metrics``.

Try: ``python -c "from irbench.core.metrics import METRICS; print(*METRICS.values(), sep='\\n')"``
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

from irbench.core import forms
from irbench.core.errors import UserError, unknown

HIGHER, LOWER, PYIQA = "higher", "lower", "pyiqa:"      # PYIQA begins names of pyiqa's metrics
NAME = re.compile(rf"[a-z][a-z0-9_]*|{PYIQA}[a-zA-Z][a-zA-Z0-9_+-]*")
HOW_TO_ADD = (f"Any metric of pyiqa: {PYIQA}NAME, as {PYIQA}vsi. A metric of your own: name its "
              "file under `metric_plugins` (docs/metrics.md).")
REDEFINED = "another definition of"
INFINITE = "psnr"       # has no number for an image that equals its target: the best there is
# what of a row decides how values of the metric are judged
JUDGED = ("direction", "range", "unit", "noise", "alike", "reference", "tolerance")
# keys that stand beside the scores in a record, a baseline, a checkpoint's header, a file of
# tolerances or a history; a metric of the same name would be confused with them
RESERVED = frozenset({
    "name", "height", "width", "tiles", "file", "kept", "output", "sha256", "mean", "images",
    "missing", "data", "protocol", "dataset", "count", "model", "weights", "training",
    "settings", "code", "gate", "parameters", "macs", "latency", "memory", "published"})


@dataclass(frozen=True)
class Tolerance:
    """The gate's tolerances for a metric that no file of tolerances names, in the metric's unit.

    Attributes:
        mean: how much worse the mean over a set may get.
        image: how much worse the score of one image may get; None: images are not checked.
        exact: how far an image's score may move in either direction if only code changed; None:
            not checked.
    """

    mean: float
    image: float | None = None
    exact: float | None = None

    def __post_init__(self) -> None:
        """Check the numbers. Raises UserError for one that is none, or is negative."""
        for name, value in vars(self).items():
            if not (forms.size(value) or (value is None and name != "mean")):
                raise UserError(f"tolerance: {name} is {value!r}; valid: a number from 0 on.")


@dataclass(frozen=True)
class Metric:
    """One metric: a row of the table. Numbers are in its unit.

    Attributes:
        name: its name in configs, records and files, e.g. ``psnr``.
        title: its printed name.
        unit: the printed unit; "" for an index.
        decimals: the decimals of a printed mean.
        direction: ``higher`` or ``lower``: which is better.
        range: the least and the largest value that an 8-bit image can have. A value outside is a
            fault (``holds``), but not of pyiqa's metrics, some of which leave their range.
        default: whether a run computes it unless its config says otherwise.
        main: whether restoration papers print it, so that it is shown where space is short.
        weights: whether it needs a file of weights, which may be missing.
        reference: whether it compares with the target; False: it judges the restored image alone.
        source: the paper that defines it.
        exact_decimals: the decimals in comparisons of runs and in baselines; by default one more
            than ``decimals``, or as many as rounding by less than ``noise`` needs.
        difference_decimals: the decimals of a printed difference; by default ``decimals``.
        noise: how much scores of the same inputs differ from machine to machine; by default one
            unit of the last printed decimal.
        alike: smaller differences of an image are ignored in a ranking; by default ``noise``.
        close: a value agrees with a printed one if it differs by no more than this, plus the
            rounding of the printed one; None: values are not compared with papers.
        near: ``irbench explain`` estimates the share of chance matches from values this near to
            the protocol's own; None: it cannot score the metric.
        height: the least height of a panel of the history, so that noise does not fill it; by
            default 100 units of the last printed decimal.
        tolerance: the gate's, where no file of tolerances names the metric; None: not gated.

    Raises UserError for a value that is of a wrong type or cannot be (``forms.METRIC``).
    """

    name: str
    title: str
    unit: str = ""
    decimals: int = 4
    direction: str = HIGHER
    range: tuple[float, float] = (-math.inf, math.inf)
    default: bool = False
    main: bool = False
    weights: bool = False
    reference: bool = True
    source: str = ""
    exact_decimals: int | None = None
    difference_decimals: int | None = None
    noise: float | None = None
    alike: float | None = None
    close: float | None = None
    near: float | None = None
    height: float | None = None
    tolerance: Tolerance | None = None

    def __post_init__(self) -> None:
        """Check the row and fill in what follows from other fields."""
        where = f"metric {self.name!r}"
        if not NAME.fullmatch(self.name) or self.name in RESERVED:
            raise UserError(f"{where}: the name is not valid. Names hold lower-case letters, "
                            "digits and '_', begin with a letter, and are not "
                            f"{', '.join(sorted(RESERVED))}.")
        if self.direction not in (HIGHER, LOWER):
            raise unknown("direction", self.direction, (HIGHER, LOWER), where)
        for name, (test, valid) in forms.METRIC.items():
            if not test(getattr(self, name)):
                raise UserError(f"{where}: {name} is {getattr(self, name)!r}; valid: {valid}.")
        if not isinstance(self.tolerance, Tolerance | None):
            raise UserError(f"{where}: tolerance is {self.tolerance!r}; valid: a Tolerance.")
        if not self.range[0] < self.range[1]:
            raise UserError(f"{where}: range is {self.range}; valid: the least value before the "
                            "largest.")
        unit = 10.0 ** -self.decimals
        noise = unit if self.noise is None else self.noise
        fine = min(math.ceil(-math.log10(noise)), forms.MOST_DECIMALS)
        for field, value in (("exact_decimals", max(self.decimals + 1, fine)),
                             ("difference_decimals", self.decimals), ("noise", noise),
                             ("alike", noise), ("height", 100 * unit)):
            if getattr(self, field) is None:
                object.__setattr__(self, field, value)
        if 0.5 * 10.0 ** -self.exact_decimals > self.noise:     # a baseline could not hold it
            raise UserError(f"{where}: exact_decimals is {self.exact_decimals}, which rounds by "
                            f"more than the noise, {self.noise:g}. Give more, or none.")

    @property
    def stem(self) -> str:
        """The name as part of columns of a CSV: ``pyiqa_vsi`` for pyiqa:vsi."""
        return self.name.replace(":", "_")

    @property
    def summary(self) -> str:
        """The line that ``irbench list metrics`` shows."""
        low, high = (None if math.isinf(end) else f"{end:g}" for end in self.range)
        limits = (f"{low} to {high}" if low and high else f"from {low}" if low
                  else f"up to {high}" if high else "")
        return ", ".join(filter(None, (
            self.label, f"{self.direction} is better", limits,
            "" if self.reference else "no reference", "needs weights" if self.weights else "")))

    @property
    def sign(self) -> int:
        """1 if a higher value is better, -1 if a lower one is."""
        return -1 if self.direction == LOWER else 1

    @property
    def label(self) -> str:
        """The title with the unit: ``PSNR (dB)``."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def better(self, a: float, b: float) -> bool:
        """Return whether a is better than b."""
        return self.sign * (a - b) > 0

    def shown(self, value: float) -> str:
        """Return a value as printed, without the unit: ``33.20``."""
        return f"{value:.{self.decimals}f}"

    def worded(self, value: float) -> str:
        """Return a value as printed, with title and unit: ``PSNR 33.20 dB``."""
        return " ".join(filter(None, (self.title, self.shown(value), self.unit)))

    def difference(self, value: float) -> str:
        """Return a difference as printed, with its sign and without the unit: ``+0.018``."""
        return signed(value, self.difference_decimals)

    def column(self, *words: str) -> str:
        """Return the name of a column of a CSV, which ends in the unit: ``psnr_difference_db``."""
        return "_".join(filter(None, (self.stem, *words, self.unit.lower())))

    def holds(self, value: float) -> bool:
        """Return whether a value is a number within the range, or beyond it by noise at most."""
        low, high = (-math.inf, math.inf) if self.name.startswith(PYIQA) else self.range
        return forms.number(value) and low - self.noise <= value <= high + self.noise


METRICS: dict[str, Metric] = {}


def register(metric: Metric) -> Metric:
    """Add a row to the table. Adding the same row again has no effect.

    Raises UserError if another metric has this name.
    """
    if METRICS.setdefault(metric.name, metric) != metric:
        raise UserError(f"metric {metric.name!r} already exists, as {METRICS[metric.name]}. "
                        "Give yours another name.")
    return metric


# The mean PSNR of different machines was seen to differ by 0.001 dB (sums in another order, which
# change a few roundings to 8 bit). The noise of the other metrics is in proportion.
register(Metric(
    "psnr", "PSNR", "dB", 2, range=(0.0, 200.0), default=True, main=True,
    difference_decimals=3, noise=0.001, close=0.01, near=0.1, height=0.5))
register(Metric(
    "ssim", "SSIM", range=(-1.0, 1.0), default=True, main=True,
    noise=0.00005, close=0.0005, near=0.002, height=0.005,
    source="Wang et al., IEEE TIP 2004"))
register(Metric(
    "lpips", "LPIPS", direction=LOWER, range=(0.0, math.inf), default=True, weights=True,
    noise=0.0001, alike=0.00005, height=0.01,
    source="Zhang et al., CVPR 2018, version 0.1 on AlexNet"))
register(Metric(
    "lpips_vgg", "LPIPS (VGG)", direction=LOWER, range=(0.0, math.inf), weights=True,
    noise=0.0001, alike=0.00005, height=0.01,
    source="Zhang et al., CVPR 2018, version 0.1 on VGG16"))
register(Metric(
    "dists", "DISTS", direction=LOWER, range=(0.0, 1.0), weights=True,
    noise=0.0001, alike=0.00005, height=0.01, source="Ding et al., IEEE TPAMI 2020"))
register(Metric(
    "ms_ssim", "MS-SSIM", range=(0.0, 1.0), noise=0.00005, height=0.005,
    source="Wang et al., Asilomar 2003"))
register(Metric(
    "gmsd", "GMSD", direction=LOWER, range=(0.0, 1.0), noise=0.00005, height=0.005,
    source="Xue et al., IEEE TIP 2014"))
register(Metric(
    "fsim", "FSIM", range=(0.0, 1.0), noise=0.00005, height=0.005,
    source="Zhang et al., IEEE TIP 2011, with colour (FSIMc)"))
register(Metric(
    "vif", "VIF", range=(0.0, math.inf), noise=0.00005, height=0.005,
    source="Sheikh and Bovik, IEEE TIP 2006"))
register(Metric(
    "niqe", "NIQE", "", 3, LOWER, range=(0.0, math.inf), weights=True, reference=False,
    source="Mittal et al., IEEE SPL 2013"))
BUILT_IN = frozenset(METRICS)


# -- rows of other origin ----------------------------------------------------------------------

def adopt(metric: Metric) -> None:
    """Add the row of a user's or pyiqa's metric, in place of an earlier one of the same name.

    Raises UserError if the name is that of a metric of irbench.
    """
    if metric.name in BUILT_IN:
        raise UserError(f"metric {metric.name!r} already exists, as {METRICS[metric.name]}. "
                        "Give yours another name.")
    METRICS[metric.name] = metric


def described(names: Iterable[str]) -> list[dict]:
    """Return the rows of the named metrics that are not irbench's own, as plain data (JSON)."""
    return [plain(METRICS[name]) for name in ordered(names) if name not in BUILT_IN]


def plain(metric: Metric) -> dict:
    """Return the fields of a row that differ from the defaults; an infinite end of a range is null.
    """
    usual = {field.name: field.default for field in fields(Metric)}
    found = {key: value for key, value in asdict(metric).items() if value != usual[key]}
    if "range" in found:
        found["range"] = [None if math.isinf(end) else end for end in metric.range]
    return found


def adopt_all(values: Iterable[object], where: str) -> dict[str, Metric]:
    """Return ``held``, and add the rows that the table lacks; of two rows the first stays there."""
    rows = held(values, where)
    for one in rows.values():
        METRICS.setdefault(one.name, one)
    return rows


def held(values: Iterable[object], where: str) -> dict[str, Metric]:
    """Return the rows that a record or baseline holds (``described``), by name.

    Raises UserError if one is not such a row, or if there are two of one name.
    """
    rows: dict[str, Metric] = {}
    for one in (row(value, where) for value in values):
        if rows.setdefault(one.name, one) is not one:
            raise UserError(f"{where}: {one.name!r} is defined twice.")
    return rows


def otherwise(names: Iterable[str], rows: dict[str, Metric]) -> dict[str, str]:
    """Return why values cannot be judged by the table: metric -> phrase; {} if all can.

    A value counts only under the definition that it was computed with (``JUDGED``).

    Args:
        names: the metrics of a record or baseline.
        rows: what it says of them (``held``); it says nothing of irbench's own.
    """
    found = {}
    for name in dict.fromkeys((*names, *rows)):
        known, theirs = METRICS.get(name), rows.get(name)
        if known is None or (theirs is None and name in BUILT_IN):
            continue
        parts = ["the record has none"] if theirs is None else [
            f"{field} is {getattr(theirs, field)}, not {getattr(known, field)}"
            for field in JUDGED if getattr(theirs, field) != getattr(known, field)]
        if parts:
            found[name] = f"{REDEFINED} {name}: {'; '.join(parts)}"
    return found


def row(value: object, where: str = "metric") -> Metric:
    """Return a row from plain data (``described``), without adding it to the table.

    Raises UserError for an unknown or missing field, and a value of a wrong type or that cannot be.
    """
    known = {field.name for field in fields(Metric)} - {"default", "main"}
    if not isinstance(value, dict) or not {"name", "title"} <= set(value):
        raise UserError(f"{where}: {value!r} is not a mapping with name and title.")
    for key in value:
        if key not in known:
            raise unknown("field", key, known, where)
    given = dict(value)
    try:
        if "range" in given:
            low, high = given["range"]
            given["range"] = tuple(
                end if value is None else float(value) if forms.number(value) else value
                for value, end in ((low, -math.inf), (high, math.inf)))
        if given.get("tolerance") is not None:
            given["tolerance"] = Tolerance(**given["tolerance"])
        return Metric(**given)
    except UserError as error:      # which begins with the metric's name
        place = f"{where}: ".removesuffix(f"metric {given['name']!r}: ")
        raise UserError(f"{place}{error}") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {error}. Valid: a range of two numbers (null: no limit), a "
                        "tolerance with mean, image and exact.") from None


# -- questions to the table --------------------------------------------------------------------

def get(name: str, where: str = "") -> Metric:
    """Return a row by its name. Raises UserError with near names if there is none."""
    if name not in METRICS:
        raise UserError(f"{unknown('metric', name, METRICS, where)} {HOW_TO_ADD}")
    return METRICS[name]


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Return the given names that are in the table, each once, in the table's order."""
    asked = set(names)
    return tuple(name for name in METRICS if name in asked)


def default() -> tuple[str, ...]:
    """Return the metrics that a run computes unless its config says otherwise."""
    return tuple(name for name, metric in METRICS.items() if metric.default)


def main() -> tuple[str, ...]:
    """Return the metrics that restoration papers print."""
    return tuple(name for name, metric in METRICS.items() if metric.main)


def alone(names: Iterable[str]) -> tuple[str, ...]:
    """Return the given metrics that judge a restored image without a target, in their order."""
    return tuple(name for name in names if name in METRICS and not METRICS[name].reference)


def explained() -> tuple[str, ...]:
    """Return the metrics that ``irbench explain`` can score under other conventions."""
    return tuple(name for name, metric in METRICS.items() if metric.near is not None)


# -- numbers as printed ------------------------------------------------------------------------

def signed(number: float, places: int) -> str:
    """Return a difference with its sign: ``+0.018``; a value that rounds to zero has no sign."""
    text = f"{number:+.{places}f}"
    return text if float(text) else text[1:]


def leading_zero(text: str) -> str:
    """Return ``0.9614`` for ``.9614``; other texts unchanged."""
    return f"0{text}" if text.startswith(".") else text


def decimals(text: str) -> int:
    """Return how many decimals a printed value has."""
    return len(text.partition(".")[2])
