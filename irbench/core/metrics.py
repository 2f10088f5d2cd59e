"""The table of metrics: how each is called and printed, which direction is better, what is noise.

This is the only list of metrics. Its order is the order of columns and of keys. A row knows no
pixels: ``irbench.imaging.metrics`` holds the function that computes a metric, under the same name.
That module does not import this one, so that a new title makes no result outdated. What the gate
lets pass is data (``catalog/tolerances.yaml``), which is checked against this table.

A metric of your own is one ``register`` here and one in ``irbench.imaging.metrics``.

Try: ``python -c "from irbench.core.metrics import METRICS; print(*METRICS.values(), sep='\\n')"``
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from irbench.core.errors import UserError, unknown

HIGHER, LOWER = "higher", "lower"
NAME = re.compile(r"[a-z][a-z0-9_]*")
# keys that stand beside the scores in a record, a baseline, a checkpoint's header, a file of
# tolerances or a history, where a metric of the same name would be taken for them
RESERVED = frozenset({
    "name", "height", "width", "tiles", "file", "mean", "images", "missing", "data", "protocol",
    "dataset", "count", "model", "weights", "training", "settings", "code", "gate", "parameters",
    "macs", "latency", "memory", "published"})


@dataclass(frozen=True)
class Tolerance:
    """What the gate lets pass of a metric that no file of tolerances names, in its unit.

    Attributes:
        mean: how far the mean over a set may move for the worse.
        image: how far the score of one image may; None: images are not watched.
        exact: how far it may move in any direction if only code changed; None: not watched.
    """

    mean: float
    image: float | None = None
    exact: float | None = None


@dataclass(frozen=True)
class Metric:
    """One metric: a row of the table. Numbers are in its unit.

    Attributes:
        name: in configs, records and files, e.g. ``psnr``.
        title: as printed.
        unit: as printed; "" of an index.
        decimals: of a mean as printed.
        direction: ``higher`` or ``lower``: which is better.
        range: the least and the largest value that an image of 8 bits has.
        default: whether a run computes it unless its config says otherwise.
        main: whether restoration papers print it, so that it is shown where few have room.
        weights: whether it needs a file of weights, which may be missing.
        exact_decimals: where runs are compared, and of the scores that a baseline keeps; by
            default one more than ``decimals``.
        difference_decimals: of a difference as printed; by default ``decimals``.
        noise: what scores of the same inputs differ by from machine to machine; by default one of
            the last printed decimal.
        alike: a smaller difference of an image does not count in a ranking; by default ``noise``.
        close: a value agrees with a printed one if it differs by no more than this, beside the
            rounding of the printed one; None: values are not held against papers.
        near: of values this near to the protocol's own ``irbench explain`` says how many have a
            match by chance; None: it cannot score the metric.
        height: the least height of a panel of the history, so that noise does not fill it; by
            default a hundred of the last printed decimal.
        tolerance: of the gate, where no file of tolerances names the metric; None: not gated.

    Raises:
        UserError: a name, direction, range or number of decimals that cannot be.
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
        if self.decimals < 0 or not self.range[0] < self.range[1]:
            raise UserError(f"{where}: decimals is {self.decimals} (valid: 0 or more) and range "
                            f"{self.range} (valid: the least value before the largest).")
        unit = 10.0 ** -self.decimals
        noise = unit if self.noise is None else self.noise
        for field, value in (("exact_decimals", self.decimals + 1),
                             ("difference_decimals", self.decimals), ("noise", noise),
                             ("alike", noise), ("height", 100 * unit)):
            if getattr(self, field) is None:
                object.__setattr__(self, field, value)

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
        return "_".join(filter(None, (self.name, *words, self.unit.lower())))


METRICS: dict[str, Metric] = {}


def register(metric: Metric) -> Metric:
    """Add a row to the table. The same row again is fine.

    Raises:
        UserError: another metric has this name.
    """
    if METRICS.setdefault(metric.name, metric) != metric:
        raise UserError(f"metric {metric.name!r} is there already, as {METRICS[metric.name]}. "
                        "Give yours another name.")
    return metric


# Between CPUs and GPUs the mean PSNR was seen to differ by 0.001 dB (other sums in another order,
# which turn a few roundings to 8 bit); the noise of the others is in proportion.
register(Metric(
    "psnr", "PSNR", "dB", 2, range=(0.0, 100.0), default=True, main=True,
    difference_decimals=3, noise=0.001, close=0.01, near=0.1, height=0.5))
register(Metric(
    "ssim", "SSIM", range=(-1.0, 1.0), default=True, main=True,
    noise=0.00005, close=0.0005, near=0.002, height=0.005))
register(Metric(
    "lpips", "LPIPS", direction=LOWER, range=(0.0, math.inf), default=True, weights=True,
    noise=0.0001, alike=0.00005, height=0.01))


# -- questions to the table --------------------------------------------------------------------

def get(name: str, where: str = "") -> Metric:
    """Return a row by its name. Raises UserError with near names if there is none."""
    if name not in METRICS:
        raise unknown("metric", name, METRICS, where)
    return METRICS[name]


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Return those of some names that the table has, each once and in its order."""
    asked = set(names)
    return tuple(name for name in METRICS if name in asked)


def default() -> tuple[str, ...]:
    """Return the metrics that a run computes unless its config says otherwise."""
    return tuple(name for name, metric in METRICS.items() if metric.default)


def main() -> tuple[str, ...]:
    """Return the metrics that restoration papers print."""
    return tuple(name for name, metric in METRICS.items() if metric.main)


def explained() -> tuple[str, ...]:
    """Return the metrics that ``irbench explain`` can score under other conventions."""
    return tuple(name for name, metric in METRICS.items() if metric.near is not None)


# -- numbers as printed ------------------------------------------------------------------------

def signed(number: float, places: int) -> str:
    """Return a difference with its sign: ``+0.018``; what rounds to zero has none."""
    text = f"{number:+.{places}f}"
    return text if float(text) else text[1:]


def leading_zero(text: str) -> str:
    """Return ``0.9614`` for ``.9614``; other texts unchanged."""
    return f"0{text}" if text.startswith(".") else text


def decimals(text: str) -> int:
    """Return how many decimals a printed value has."""
    return len(text.partition(".")[2])
