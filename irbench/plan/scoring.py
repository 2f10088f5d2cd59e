"""The metrics of a run: irbench's own, pyiqa's by name, and those of a user's files.

A config's ``metrics`` and ``metric_plugins`` become rows of the table (``irbench.core.metrics``)
and functions (``irbench.imaging.metrics``), here and nowhere else: when a run is planned, and when
a job reads the plan's file. Reads the files of the plugins and pyiqa's table; imports neither.

Try: ``python -c "from irbench.plan import scoring; scoring.resolve(['pyiqa:vsi'], [], 'here')"``
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from irbench.catalog.protocols import Protocol
from irbench.core import code, digests, metrics, plugin_files
from irbench.core.errors import Unavailable, Unrepeatable, UserError, in_words
from irbench.core.files import expanded
from irbench.core.metrics import Metric, Tolerance
from irbench.imaging import degrade, metric_plugins, pyiqa_metrics
from irbench.imaging import metrics as scoring
from irbench.imaging.backbones import Found
from irbench.imaging.metric_plugins import MetricCard

# The gate's tolerances for a metric that states none, in units of its noise: those that the metrics
# of irbench have, whose noise is known.
MEAN, IMAGE, EXACT = 20, 100, 5
LARGE = 2**23   # values of an image that is not kept until the next one is scored


def resolve(names: Iterable[str], plugins: Iterable[str], where: str) -> None:
    """Make the metrics of a config known, and refuse those that nothing computes.

    Args:
        names: the config's ``metrics``.
        plugins: paths of Python files with metrics, the config's ``metric_plugins``.
        where: the config, for messages.

    Raises:
        UserError: an unknown name; a file that cannot be used; a name that two files, or a file and
            irbench, have.
    """
    taken: dict[str, Path] = {}
    for path in dict.fromkeys(expanded(one).resolve() for one in plugins):
        for card in metric_plugins.read(path).values():
            place = f"{where}: metric_plugins: {path}"
            if card.name in taken:
                raise UserError(f"{place}: the metric {card.name!r} is also in {taken[card.name]}. "
                                "Rename one of them.")
            taken[card.name] = path
            row = _with_defaults(metrics.row(card.row, f"{place}: metric {card.name!r}"))
            _add(row, place)
            scoring.offer(card.name, _prepare(card, row), _files(card))
    for name in names:
        if name.startswith(metrics.PYIQA):
            _add_pyiqa(name, f"{where}: metrics")
        metrics.get(name, f"{where}: metrics")
    scoring.check(names, f"{where}: metrics")


def listed() -> dict[str, dict]:
    """Return every metric of the table with a ``note``: direction, range, what it needs.

    Whether a metric of pyiqa lacks a package or weights is known only once it is built.
    """
    found = {}
    for name, metric in metrics.METRICS.items():
        files = scoring.FILES.get(name)
        note = f"{metric.summary}; {files().reason}" if files else metric.summary
        found[name] = {"note": note, **metrics.plain(metric)}
    return found


def _add(metric: Metric, where: str) -> None:
    try:
        metrics.adopt(metric)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _with_defaults(metric: Metric) -> Metric:
    """Return a row with tolerances of the gate, if it has none."""
    if metric.tolerance is not None:
        return metric
    tolerance = Tolerance(MEAN * metric.noise, IMAGE * metric.noise, EXACT * metric.noise)
    return metrics.row({**metrics.plain(metric), "tolerance": vars(tolerance)})


# -- pyiqa ---------------------------------------------------------------------------------------

def _add_pyiqa(name: str, where: str) -> None:
    short = name.removeprefix(metrics.PYIQA)
    try:
        known = pyiqa_metrics.facts(short)
    except UserError as error:
        raise UserError(f"{where}: {name}: {error}") from None
    low, high = _range(known.range)
    largest = max((abs(end) for end in (low, high) if math.isfinite(end)), default=1)
    _add(_with_defaults(Metric(
        name, f"{short.upper().replace('_', '-')} (pyiqa)", "", 2 if largest >= 10 else 4,
        metrics.LOWER if known.lower else metrics.HIGHER, (low, high), reference=known.reference,
        source="as pyiqa computes it")), where)
    prepare = scoring.on_images(lambda: pyiqa_metrics.make(short))
    scoring.offer(name, lambda protocol: _repeatable(name, f"metric {name}", protocol,
                                                     prepare(protocol)))


def _range(text: str) -> tuple[float, float]:
    """Return pyiqa's range as numbers; ends that it marks as rough (``~``) are infinite."""
    def end(word: str, unknown: float) -> float:
        try:
            return float(word)
        except ValueError:
            return unknown

    low, _, high = (part.strip() for part in text.partition(","))
    found = end(low, -math.inf), end(high, math.inf)
    return found if found[0] < found[1] else (-math.inf, math.inf)


# -- a user's files ------------------------------------------------------------------------------

def _prepare(card: MetricCard, row: Metric) -> scoring.Prepare:
    def prepare(protocol: Protocol) -> scoring.Score:
        if card.weights and not card.weights.is_file():
            raise Unavailable(f"{card.name} needs {card.weights}, which does not exist.")
        function = card.load()
        return _repeatable(card.name, f"metric {card.name} ({card.path})", protocol,
                           lambda pair: _value(card, row, function, pair))
    return prepare


def _value(card: MetricCard, row: Metric, function: Callable,
           pair: scoring.Pair) -> float | None:
    """Call a user's function and check what it returns."""
    images = pair.planes if card.on == "planes" else (pair.restored, pair.target)
    # copies: what one metric does to its input must not reach the next
    images = [image.astype(np.uint8 if card.on == "uint8" else np.float64)
              for image in (images if card.reference else images[:1])]
    where = f"metric {card.name} ({card.path})"
    try:
        with plugin_files.noting(card.path):
            value = function(*images)
    except Unavailable:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{where}: {in_words(error)}. It takes the restored image"
                        f"{' and the target' if card.reference else ''} and returns a number, or "
                        "None where it is undefined.") from error
    return _checked(value, row, where)


def _checked(value: object, metric: Metric, where: str) -> float | None:
    """Return what a function returned as a float; NaN and infinity stay: they are no score.

    Raises UserError for anything but a number, and a number that the metric cannot have.
    """
    if value is None:
        return None
    # a number of numpy, or an array or tensor of no dimensions
    number = value.item() if getattr(value, "ndim", None) == 0 else value
    if not isinstance(number, int | float) or isinstance(number, bool):
        shape = (f" of shape {tuple(value.shape)}" if hasattr(value, "shape")
                 else f" ({value!r:.40})")
        raise UserError(f"{where}: it returned a {type(value).__name__}{shape}; valid is one "
                        "number, or None where the metric is undefined.")
    if isinstance(number, float) and not math.isfinite(number):
        return number
    if not metric.holds(number):
        low, high = metric.range
        size = f"{number:.6g}" if abs(number) < 1e300 else "a number beyond 1e300"
        raise UserError(f"{where}: it returned {size}, but its range is {low:g} to {high:g}, "
                        "and numbers must be smaller than 1e18. Correct the function, or `range` "
                        "in METRICS.")
    return float(number)


def _repeatable(name: str, where: str, protocol: Protocol, score: scoring.Score) -> scoring.Score:
    """Return a score that draws the same random numbers for each image, and checks the first one.

    The first image of each cell is scored a second time at once, and again after the next image: a
    metric that adds up over all images gives the first one the same value at once. The score raises
    UserError if the values differ, beyond the rounding of sums in another order.
    """
    from irbench.inference.seeding import seeded

    seed = degrade.seed_of("metric", protocol.id, name)
    calls, first = itertools.count(), []

    def once(pair: scoring.Pair) -> float | None:
        with seeded(seed):
            return score(pair)

    def again(pair: scoring.Pair, value: float | None) -> None:
        second = once(pair)
        if not (value is second or (None not in (value, second) and (
                math.isclose(value, second, rel_tol=1e-6, abs_tol=1e-9)
                or (math.isnan(value) and math.isnan(second))))):
            raise Unrepeatable(
                f"{where}: it gave one pair of images {value} and then {second}, though torch, "
                "numpy and random had the same seed. Its value must not depend on earlier calls, "
                "the time, or a generator of its own that is not seeded.")

    def checked(pair: scoring.Pair) -> float | None:
        value = once(pair)
        if next(calls) == 0:
            again(pair, value)
            if pair.restored.size <= LARGE:
                first.append((pair, value))
        elif first:
            again(*first.pop())
        return value
    return checked


def _files(card: MetricCard) -> Callable[[], Found]:
    """Return what finds the code of a user's metric and its weights, by their digests."""
    def find() -> Found:
        names = [f"{card.path.name} {code.closure([card.path], {}, code.ROOT).digest[:12]}",
                 *(["in float64"] if card.on == "image" else [])]   # was uint8
        if card.weights:
            if not card.weights.is_file():
                return Found(None, None, f"needs {card.weights}, which does not exist")
            names.append(f"{card.weights.name} {digests.known_digest(card.weights)[:12]}")
        return Found(card.path, ", ".join(names), f"from {card.path}")
    return find
