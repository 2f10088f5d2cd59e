"""How latency grows with the input: a profile's sweep over sizes and batches, and its exponent.

Calls a function that measures one point; writes nothing. Points are measured from small to large,
so that running out of memory does not affect earlier points. A point is skipped if the previous one
shows that it will not fit, because the Linux kernel would kill the process instead of refusing
memory.

Try: ``python -c "from irbench.jobs.profiling.sweep import fit_exponent;
print(fit_exponent([1, 2, 4, 8], [3, 6.1, 11.8, 25]))"``
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from irbench.core import machine
from irbench.core.errors import UserError

SETTINGS = ("sizes", "batches", "samples")
CONFIDENCE = 0.95
LEAST_POINTS = 3  # with two there is no degree of freedom for an interval


def check(settings: dict) -> dict:
    """Return a sweep's settings with both lists sorted and without duplicates.

    Args:
        settings: ``sizes``: sides of square inputs in pixels; ``batches``: images at once (either
            may be omitted); ``samples``: timed runs per point.

    Raises:
        UserError: an unknown setting, or a number that is not whole and positive.
    """
    if not isinstance(settings, dict) or set(settings) - set(SETTINGS):
        raise UserError(f"profile: sweep is {settings!r}; it takes a mapping of "
                        f"{', '.join(SETTINGS)}.")
    found = {"sizes": settings.get("sizes") or [], "batches": settings.get("batches") or [],
             "samples": settings.get("samples", 3)}
    for name in ("sizes", "batches"):
        if not isinstance(found[name], list | tuple) or not all(map(_whole, found[name])):
            raise UserError(f"profile: sweep.{name} is {found[name]!r}; it takes a list of whole "
                            "numbers of at least 1.")
        found[name] = sorted(set(found[name]))
    if not _whole(found["samples"]):
        raise UserError(f"profile: sweep.samples is {found['samples']!r}; it takes a whole number "
                        "of at least 1.")
    return found


def _whole(value: object) -> bool:
    return type(value) is int and value >= 1


def run(measure: Callable[[int, int, int], dict], settings: dict, *, height: int, width: int,
        batch: int, free: Callable[[], int | None] = lambda: None) -> dict:
    """Measure all points of a sweep.

    Args:
        measure: (height, width, batch) to the point's values: latency_ms (with p50 and
            busy_elsewhere) or None, peak_memory_bytes or None, missing (name → reason).
        settings: from ``check``.
        height: height of the input while the batch varies, in pixels.
        width: its width.
        batch: images at once while sizes vary.
        free: bytes of memory available for a pass, None if unknown.

    Returns:
        ``size`` and ``batch``, each with its points, the exponent (see ``fit_exponent``) of p50
        against the input's pixels or the batch, and the reason if there is none. Points that other
        processes disturbed do not count for the exponent.
    """
    return {"size": _series(measure, [(s, s, batch) for s in settings["sizes"]], free,
                            lambda point: point["height"] * point["width"]),
            "batch": _series(measure, [(height, width, b) for b in settings["batches"]], free,
                             lambda point: point["batch"])}


def _series(measure: Callable[[int, int, int], dict], shapes: list[tuple[int, int, int]],
            free: Callable[[], int | None], against: Callable[[dict], int]) -> dict:
    points: list[dict] = []
    for height, width, batch in shapes:
        point = {"height": height, "width": width, "batch": batch}
        reason = _will_not_fit(points, math.prod(point.values()), free())
        point |= ({"latency_ms": None, "peak_memory_bytes": None,
                   "missing": dict.fromkeys(("latency_ms", "peak_memory_bytes"), reason)}
                  if reason else measure(height, width, batch))
        points.append(point)
    known = [point for point in points if point["latency_ms"]]
    timed = [point for point in known
             if not machine.busy(point["latency_ms"].get("busy_elsewhere"))]
    exponent = fit_exponent([against(p) for p in timed], [p["latency_ms"]["p50"] for p in timed])
    reason = "" if exponent else (f"an exponent needs {LEAST_POINTS} timed points; "
                                  f"there are {len(timed)}")
    if reason and len(timed) < len(known):
        reason += f" beside {len(known) - len(timed)} that other processes disturbed"
    return {"points": points, "exponent": exponent, "reason": reason}


def _will_not_fit(points: list[dict], pixels: int, free: int | None) -> str:
    """Return why a point is skipped, "" to try it; memory grows at least with the pixels."""
    for point in reversed(points):
        peak = point["peak_memory_bytes"]
        if peak and free is not None:
            needed = peak * pixels / (point["height"] * point["width"] * point["batch"])
            if needed > free:
                return (f"not tried: about {needed / 2**30:.2g} GiB of memory are needed, judging "
                        f"by {point['height']} x {point['width']}, batch {point['batch']}; "
                        f"{free / 2**30:.2g} GiB are free")
            return ""
    return ""


def fit_exponent(x: Sequence[float], y: Sequence[float]) -> dict | None:
    """Fit y = c x^e by least squares in logarithms.

    Returns:
        ``value``, the exponent e, and ``low`` and ``high``, its 95 % interval by Student's t with
        n - 2 degrees of freedom. The interval assumes that the growth is a power law and that the
        logarithms scatter around the line independently, normally and with equal variance. None
        with fewer than 3 different x.
    """
    from scipy import stats  # slow to import

    if len(set(x)) < LEAST_POINTS:
        return None
    lx, ly = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    apart = lx - lx.mean()
    slope = float(apart @ ly / (apart @ apart))
    left = ly - ly.mean() - slope * apart
    error = math.sqrt(float(left @ left) / (len(x) - 2) / float(apart @ apart))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(x) - 2)) * error
    return {"value": round(slope, 4), "low": round(slope - half, 4),
            "high": round(slope + half, 4)}
