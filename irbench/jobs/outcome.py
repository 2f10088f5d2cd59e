"""The result of a record in a few words, for messages and for Snakemake's report.

Reads and writes nothing.

Try: ``python -c "from irbench.jobs import outcome; print(outcome.duration(75.2))"``
"""

from __future__ import annotations

from collections.abc import Callable

from irbench.core import machine, metrics

SUMMARY = ("mean", "part", "count", "steps", "final_loss", "parameters", "macs")
SIZE = ("batch", "channels", "height", "width")
MEASURED = ("peak_memory_bytes", "peak_memory_of", "input", "threads", "device", "device_name",
            "dtype")    # of a profile


def in_words(record: dict) -> str:
    """Return the result of a record in the units of the report, or why there is none."""
    if record["status"] != "ok":
        return f"n/a: {record['reason']}"
    return OUTCOMES[record["kind"]](record["result"])


def with_time(record: dict) -> str:
    """Return the result of a record, of how many images it is if it is of images, and its time."""
    images = (record["result"] or {}).get("images") if record["kind"] == "cell" else None
    part = "" if images is None else f"{counted(len(images))}{of_part(record['spec'])}, "
    time = duration(sum(record["seconds"].values()))
    if record["kind"] in ("profile", "bench"):      # what it has measured is a time, too
        time = f"measuring took {time}"
    return f"{in_words(record) or 'done'} ({part}{time})"


def of_part(spec: dict) -> str:
    """Return the mark of a result that is only of a set's first images, "" for other results."""
    return " of the set, not its mean" if "limit" in spec else ""


def counted(images: int) -> str:
    """Return a number of images with its noun."""
    return f"{images} image{'s' * (images != 1)}"


def of_another_set(earlier: dict, record: dict) -> str:
    """Return that the set changed between two results of one job, "" if it did not.

    Both are records; those of another cell, or without a result, say nothing.
    """
    digests = [(one["spec"].get("dataset") or {}).get("sha256") for one in (earlier, record)]
    if (None in digests or digests[0] == digests[1] or earlier["key"] != record["key"]
            or not earlier["kind"] == record["kind"] in ("cell", "data")):
        return ""
    before, now = (_size(one) for one in (earlier, record))
    if None in (before, now) or before == now:
        what = "the set's images are not those of the earlier result"
    else:
        what = f"the set has {counted(now)}, the earlier result had {before}"
    return f"{' / '.join(record['key'].values())}: {what}: computed again"


def _size(record: dict) -> int | None:
    """Return how many images the set of a record has; None if the result is of a part of it."""
    result = record["result"]
    if result is None or "limit" in record["spec"]:
        return None
    return result["count"] if record["kind"] == "data" else len(result["images"])


def duration(seconds: float) -> str:
    """Return a time in words: ``3.2 s``, ``2 min 5 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def _cell(result: dict) -> str:
    return ", ".join(metrics.get(name).worded(value)
                     for name, value in result["mean"].items() if value is not None) or "no metric"


def summary(record: dict) -> dict:
    """Return the numbers of a record for the JSON document that a command prints.

    They have the names of the report's CSV files: of a profile ``latency_p50_ms`` (ms),
    ``timed_passes``, ``input`` (batch, channels, height, width in pixels), ``threads``, ``device``,
    ``dtype``, ``peak_memory_bytes``, ``busy_elsewhere_cores`` and ``disturbed``, whether these were
    too many.
    """
    result = record["result"] or {}
    found = {name: result[name] for name in SUMMARY if name in result}
    if record.get("kind") != "profile" or not result:      # a part of a cell has no kind
        return found
    latency = result.get("latency_ms") or {}
    cores = latency.get("busy_elsewhere")
    return {**found, "latency_p50_ms": latency.get("p50"),
            "timed_passes": len(latency.get("samples") or ()) or None,
            "busy_elsewhere_cores": cores, "disturbed": bool(machine.busy(cores)),
            **{name: result.get(name) for name in MEASURED}}


def _profile(result: dict) -> str:
    known = [("{:.1f} k parameters", result.get("parameters"), 1e3),
             ("{:.2f} GMACs", result.get("macs"), 1e9)]
    counts = [text.format(value / unit) for text, value, unit in known if value is not None]
    peak = result.get("peak_memory_bytes")
    return ", ".join(filter(None, [
        *(counts or ["neither parameters nor MACs are known"]), _latency(result),
        peak is not None and f"peak memory {peak / 2**20:.1f} MiB"]))


def _latency(result: dict) -> str:
    """Return the latency with what it depends on, "?" behind it if other processes disturbed it."""
    latency = result.get("latency_ms") or {}
    if latency.get("p50") is None:
        return ""
    size, cores = result.get("input") or {}, machine.busy(latency.get("busy_elsewhere"))
    shape = " x ".join(str(size.get(name, "?")) for name in SIZE)
    threads = result.get("threads") if result.get("device") == "cpu" else None
    how = [f"median of {len(latency.get('samples') or ())} passes", f"input {shape}",
           f"{threads} thread{'s' * (threads != 1)}" if threads else "",
           result.get("device_name") or result.get("device"),
           f"disturbed: {cores:.1f} cores busy elsewhere" if cores else ""]
    return f"latency {latency['p50']:.4g} ms{'?' * bool(cores)} ({', '.join(filter(None, how))})"


def _training(result: dict) -> str:
    known = [("{} steps", result.get("steps")), ("final loss {:.4f}", result.get("final_loss"))]
    return ", ".join(text.format(value) for text, value in known if value is not None)


def _leaks(result: dict) -> str:
    """Return how many pairs were found, and which sets were not searched: 0 pairs would hide it."""
    found, left = len(result.get("pairs") or ()), result.get("not_compared") or ()
    names = dict.fromkeys(f"{one['train']} with {one['test']}" for one in left)
    return "; ".join([f"{found} pair{'s' * (found != 1)} of equal or similar images",
                      *([f"not compared: {', '.join(names)} (the report says why)"]
                        if names else [])])


OUTCOMES: dict[str, Callable[[dict], str]] = {
    "cell": _cell, "profile": _profile,
    "training": _training,
    "data": lambda result: f"{result['count']} images",
    "bench": lambda result: f"{len(result.get('rows') or ())} rows",
    "leaks": _leaks,
}
