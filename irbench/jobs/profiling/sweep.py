"""How latency grows with the input: a profile's sweep over sizes and batches, and its exponent.

Calls what measures one point, writes nothing. Points are measured from small to large, so that one
that runs out of memory costs none before it; where the point before shows that the next will not
fit, that one is not tried (on Linux the kernel would end the process instead of refusing memory).

Try: ``python -c "from irbench.jobs.profiling.sweep import fit; print(fit([1, 2, 4, 8], [3, 6.1,
11.8, 25]))"``
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from irbench.core.errors import UserError

SETTINGS = ("sizes", "batches", "samples")
CONFIDENCE = 0.95
LEAST_POINTS = 3  # two leave no degree of freedom for an interval


def check(settings: dict) -> dict:
    """Return a sweep's settings with both lists sorted and free of doubles.

    Args:
        settings: ``sizes``: sides of square inputs in pixels; ``batches``: images at once (either
            may be left out); ``samples``: timed runs a point.

    Raises:
        UserError: something else in it, or a number that is not whole and positive.
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
        measure: (height, width, batch) to the point's figures: latency_ms (with p50) or None,
            peak_memory_bytes or None, missing (figure → reason).
        settings: of ``check``.
        height: of the input at which batches vary, in pixels.
        width: the same.
        batch: images at once while sizes vary.
        free: bytes of memory there are for a pass, None for unknown.

    Returns:
        ``size`` and ``batch``, each with its points, the exponent (see ``fit``) of p50 against the
        input's pixels or the batch, and the reason where there is none.
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
    timed = [point for point in points if point["latency_ms"]]
    exponent = fit([against(p) for p in timed], [p["latency_ms"]["p50"] for p in timed])
    reason = "" if exponent else (f"an exponent needs {LEAST_POINTS} points that were timed; "
                                  f"there are {len(timed)}")
    return {"points": points, "exponent": exponent, "reason": reason}


def _will_not_fit(points: list[dict], pixels: int, free: int | None) -> str:
    """Say why a point is not to be tried, "" to try it: memory grows at least with the pixels."""
    for point in reversed(points):
        peak = point["peak_memory_bytes"]
        if peak and free is not None:
            needed = peak * pixels / (point["height"] * point["width"] * point["batch"])
            if needed > free:
                return (f"not tried: about {needed / 2**30:.2g} GiB of memory are needed, by the "
                        f"point of {point['height']} x {point['width']}, batch {point['batch']}; "
                        f"{free / 2**30:.2g} GiB are free")
            return ""
    return ""


def fit(x: Sequence[float], y: Sequence[float]) -> dict | None:
    """Fit y = c x^e by least squares in logarithms.

    Returns:
        ``value``, the exponent e, and ``low`` and ``high``, its 95 % interval by Student's t with
        n - 2 degrees of freedom: it holds if the logarithms scatter independently, normally and
        alike around the line, and says nothing of a growth that is no power. None with fewer than
        3 different x.
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
