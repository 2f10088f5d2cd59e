"""The attention benchmark: time and peak memory against k, for each N and implementation.

SemanIR's paper (arXiv 2405.20008) compares the GPU memory of three implementations over N and k.
This module makes the same table with time added. The values of the paper are not known here, so
they are not shown. ``dense`` is attention over all N tokens of a window, without a dictionary.

Reads nothing but the collected run (``benches/attention.json``); writes
``figures/attention.png``; the table goes to ``tables/attention.{md,tex,csv}``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from irbench.core import run_folder
from irbench.present import style, text
from irbench.present.table import BEST, Column, Table, Value
from irbench.report.plots import latency
from irbench.report.run import Outcome, Run

NAME = "attention"
RECORD = run_folder.place("bench", {"bench": NAME})
DENSE, BUILD = "dense", "dictionary"
ORDER = ("reference", "mask", "gather", "flex", "triton")    # of lines, colours and columns
PER_LINE = 3                    # values of N side by side
FIELDS = ("n", "k", "implementation", "windows", "heads", "head_dim", "latency_p50_ms",
          "latency_p90_ms", "timed_passes", "busy_elsewhere_cores", "time_over_dense",
          "peak_memory_bytes",
          "peak_memory_of", "max_error", "reason", "device", "device_name", "dtype", "threads",
          "record")


@dataclass(frozen=True)
class Benchmark:
    """The rows of a benchmark, by (N, k, implementation); k is None for dense attention."""

    result: dict
    rows: dict[tuple[int, int | None, str], dict]

    @property
    def names(self) -> list[str]:
        """The sparse implementations, in the order of ``ORDER``, unknown ones last."""
        met = list(dict.fromkeys(name for _, k, name in self.rows if name not in (DENSE, BUILD)))
        return sorted(met, key=lambda n: ORDER.index(n) if n in ORDER else len(ORDER))

    @property
    def sizes(self) -> list[int]:
        """The values of N."""
        return sorted({n for n, _, _ in self.rows})

    def keys(self, n: int) -> list[int]:
        """The values of k that were measured at N."""
        return sorted({k for m, k, _ in self.rows if m == n and k is not None})

    def disturbed(self, n: int) -> float:
        """Return how many cores other processes used while N was measured, 0 if negligible."""
        return max(latency.busy(row) for (m, _, _), row in self.rows.items() if m == n)

    def row(self, n: int, k: int | None, name: str) -> dict:
        """Return one row, {} if there is none. Dense attention has one row for every k."""
        return self.rows.get((n, None if name == DENSE else k, name)) or {}


def benchmark_of(run: Run) -> Benchmark | None:
    """Return the results of the benchmark, None if there are none."""
    job = run.benches.get(NAME)
    if job is None or not job.result.get("rows"):
        return None
    rows = {}
    for row in job.result["rows"]:
        name = str(row.get("implementation"))
        rows[row.get("n"), None if name == DENSE else row.get("k"), name] = row
    for row in job.result.get("build") or []:
        rows[row.get("n"), row.get("k"), BUILD] = row
    return Benchmark(job.result, rows)


def p50(row: dict) -> float | None:
    """Return the median time of a row in ms, None if unknown."""
    return (row.get("latency_ms") or {}).get("p50")


def peak(row: dict) -> int | None:
    """Return the peak memory of a row in bytes, None if unknown."""
    return row.get("peak_memory_bytes")


def conditions(result: dict, rows: list[dict]) -> str:
    """Return the conditions of a benchmark in one sentence."""
    def values(name: str) -> str:
        met = dict.fromkeys(row[name] for row in rows if row.get(name) is not None)
        return " or ".join(map(str, met)) or "?"
    how = latency.circumstances(result)
    where = ", ".join(filter(None, [how["device"], how["dtype"], how["threads"]]))
    passes = sorted({len((r.get("latency_ms") or {}).get("samples") or []) for r in rows} - {0})
    return (f"Measured on {where}; windows {values('windows')}, heads {values('heads')}, head "
            f"dimension {values('head_dim')}. Time is the median (p50) of "
            f"{' to '.join(map(str, dict.fromkeys((passes or ['?'])[i] for i in (0, -1))))} "
            "passes, with all implementations in turn in one process. Peak memory is what one pass "
            f"adds to inputs and dictionary ({values('peak_memory_of')}).")


# -- table ---------------------------------------------------------------------------------------

def sheet(run: Run) -> Table | None:
    """Return the table, None if nothing was measured."""
    found = benchmark_of(run)
    if found is None:
        return None
    columns = [DENSE, *found.names, *([BUILD] if any(b == BUILD for *_, b in found.rows) else [])]
    time, memory = "Time, p50 in ms (over dense)", "Peak memory, MiB"
    made = Table(NAME, "Attention: time and memory", [Column("N", left=True)], [
        Column("k"), *(Column(c, (time,)) for c in columns),
        *(Column(c, (memory,)) for c in columns)], FIELDS)
    for n in found.sizes:
        for k in found.keys(n) or [None]:
            rows = {name: found.row(n, k, name) for name in columns}
            dense = p50(rows[DENSE])
            times = {c: _time(made, c, row, dense) for c, row in rows.items()}
            peaks = {c: _value(made, c, row, peak(row), text.mebibytes)
                     for c, row in rows.items()}
            for values, number in ((times, p50), (peaks, peak)):
                _best({c: v for c, v in values.items() if c in found.names}, rows, number)
            made.add([Value(str(n)), Value(text.NONE if k is None else str(k)),
                              *times.values(), *peaks.values()])
    made.lines = [_line(found, *key, row) for key, row in sorted(
        found.rows.items(), key=lambda item: (item[0][0], item[0][1] or 0, item[0][2]))]
    made.sentences = [
        f"{conditions(found.result, list(found.rows.values()))} N: tokens per window; k: keys per "
        "token (all tokens if k = N); dense: attention over all N tokens without dictionary, mask "
        "or position bias; dictionary: time to build it, once per stage, not included in the other "
        "columns. In brackets: time divided by the time of dense at the same N. In bold: the "
        "smallest value of the sparse implementations. SemanIR's paper prints the memory of three "
        "implementations; its values are not known here and not shown."]
    return made


def _value(made: Table, name: str, row: dict, number: float | None, how: Callable) -> Value:
    if number is not None:
        return Value(how(number), record=RECORD)
    if not row:
        return Value(text.NONE)
    return made.absent(f"{name}: {str(row.get('reason') or 'not recorded').rstrip('.')}")


def _time(made: Table, name: str, row: dict, dense: float | None) -> Value:
    value = _value(made, name, row, p50(row), lambda ms: text.milliseconds(ms).removesuffix(" ms"))
    if p50(row) is not None and dense and name not in (DENSE, BUILD):
        value.shown += f" ({text.ratio(p50(row) / dense)})"
    if disturbed := latency.disturbed(row):
        value.marks.append(made.note(disturbed))
    return value


def _best(values: dict[str, Value], rows: dict[str, dict], number: Callable) -> None:
    """Mark the smallest of several values; a single value is not marked."""
    numbers = {name: number(rows[name]) for name in values if number(rows[name]) is not None}
    if len(numbers) > 1:
        values[min(numbers, key=numbers.get)].rank = BEST


def _line(found: Benchmark, n: int, k: int | None, name: str, row: dict) -> list:
    time, dense = row.get("latency_ms") or {}, p50(found.row(n, k, DENSE))
    over = round(p50(row) / dense, 6) if p50(row) is not None and dense and name != BUILD else None
    return [n, k, name, row.get("windows"), row.get("heads"), row.get("head_dim"),
            time.get("p50"), latency.percentile(time, 90), len(time.get("samples") or []) or None,
            time.get("busy_elsewhere"), over,
            peak(row), row.get("peak_memory_of"), row.get("max_error"), row.get("reason") or "",
            *(found.result.get(key) for key in ("device", "device_name", "dtype", "threads")),
            RECORD]


# -- figure --------------------------------------------------------------------------------------

def draw(run: Run) -> style.Drawing:
    """Draw the plot; write nothing if no implementation has a time or a memory."""
    drawing = style.Drawing()
    found = benchmark_of(run)
    if found is None:
        drawing.left_out += [_no_result(job) for job in run.benches.values() if job.model == NAME]
        return drawing
    if not any(p50(row) is not None or peak(row) for row in found.rows.values()):
        drawing.left_out.append("No attention plot: no implementation has a time or a memory. "
                                f"{_missing(found)}")
        return drawing
    with style.look():
        chunks = [found.sizes[i:i + PER_LINE] for i in range(0, len(found.sizes), PER_LINE)]
        figure = style.figure(0.5 + 3.7 * len(chunks), style.WIDTH * min(1, max(
            len(chunks[0]) / PER_LINE, 0.6)))
        axes = figure.subplots(2 * len(chunks), len(chunks[0]), squeeze=False)
        handles: dict[str, object] = {}
        for index, chunk in enumerate(chunks):
            for column in range(len(chunks[0])):
                for line, (number, label) in enumerate((
                        (lambda row: (peak(row) or 0) / 2**20 or None,
                         "Peak memory (MiB, log scale)"),
                        (p50, "Time, p50 (ms, log scale)"))):
                    # the legend has the lines of memory: disturbed times have none
                    ax = axes[2 * index + 1 - line][column]
                    if column < len(chunk):
                        drawn = _panel(ax, found, chunk[column], number, label,
                                       number is p50 and found.disturbed(chunk[column]))
                        handles = drawn | handles
                    else:
                        ax.set_axis_off()
        order = [n for n in (*found.names, DENSE) if n in handles]
        figure.legend([handles[n] for n in order], [
            "dense (all N keys)" if n == DENSE else n for n in order],
            loc="outside lower center", ncols=len(order), frameon=False, handlelength=2.8)
        style.save(figure, run.folder, NAME, run.formats)
    drawing.figures.append(style.Drawn(NAME, "Attention", _caption(found), _alt(found)))
    return drawing


def _no_result(job: Outcome) -> str:
    return f"No attention plot: {job.reason or job.status}."


def _panel(ax: Axes, found: Benchmark, n: int, number: Callable, label: str,
           disturbed: bool) -> dict:
    """Draw one quantity at one N; return the line of each implementation drawn.

    ``disturbed``: the points are hollow, and no line joins them.
    """
    hues, shapes = style.colors(found.names), style.markers(found.names)
    handles, values = {}, []
    for name in found.names:
        points = [(k, v) for k in found.keys(n)
                  if (v := number(found.row(n, k, name))) is not None and v > 0]
        if points:
            handles[name], = ax.plot(*zip(*points, strict=True), color=hues[name],
                                     marker=shapes[name], markersize=3.4,
                                     **(style.HOLLOW if disturbed else {"markeredgewidth": 0}))
            values += [v for _, v in points]
    dense = number(found.row(n, None, DENSE))
    if dense and not disturbed:
        handles[DENSE] = ax.axhline(dense, color=style.INK, linestyle=(0, (4, 2)), linewidth=1)
        values.append(dense)
    keys = found.keys(n)
    ax.set_title(f"N = {n}")
    ax.set_xlabel("k (keys per token)")
    ax.set_ylabel(label)
    style.open_frame(ax)
    if keys:
        ax.set_xscale("log", base=2)
        ax.set_xlim(keys[0] / 1.25, keys[-1] * 1.25)
        ax.xaxis.set_major_locator(FixedLocator(_spaced(keys)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    else:
        ax.set_xticks([])
        ax.text(0.5, 0.06, "no k below N was measured", transform=ax.transAxes, ha="center",
                fontsize=6, color=style.GRAY)
    if values:
        low, high = min(values), max(values)
        room = max((high / low) ** 0.08, 1.25)
        ax.set_yscale("log")
        ax.set_ylim(low / room, high * room)
        style.log_ticks(ax.yaxis, "{:g}".format)
    else:
        ax.set_yticks([])
        ax.text(0.5, 0.5, text.NA, transform=ax.transAxes, ha="center", color=style.GRAY)
    return handles


def _spaced(keys: list[int]) -> list[int]:
    """Return the values of k that get a number on a log axis, as far as there is room."""
    room = (keys[-1] * 1.6 / keys[0]) ** (1 / 11)
    kept: list[int] = []
    for k in reversed(keys):
        if not kept or kept[-1] / k >= room:
            kept.append(k)
    return kept


def _missing(found: Benchmark) -> str:
    """Return a sentence on the missing values, with the reasons."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for (n, k, name), row in sorted(found.rows.items(),
                                    key=lambda i: (i[0][2], i[0][0], i[0][1] or 0)):
        without = [w for w, value in (("time", p50(row)), ("memory", peak(row))) if value is None]
        if without:
            why = str(row.get("reason") or f"no {' and no '.join(without)} recorded").rstrip(".")
            place = f"N = {n}" + (f", k = {k}" if k is not None else "")
            reasons.setdefault((name, why), []).append(place)
    return "Missing values: " + "; ".join(
        f"{name} ({why}: {'; '.join(places) if len(places) < 4 else f'{len(places)} points'})"
        for (name, why), places in reasons.items()) + "." if reasons else ""


def _disturbances(found: Benchmark) -> str:
    busy = [f"N = {n} ({cores:.1f} cores)" for n in found.sizes if (cores := found.disturbed(n))]
    return ("Other processes kept cores busy during these measurements, so the times are not "
            f"reliable (hollow, without a line): {', '.join(busy)}." if busy else "")


def _caption(found: Benchmark) -> str:
    zero = sorted({name for (_, _, name), row in found.rows.items() if peak(row) == 0})
    return " ".join(filter(None, [
        "Time (above) and peak memory (below) of one attention against k, for each number of "
        "tokens N per window. The dashed line is attention over all N keys, without a "
        "dictionary. Building the dictionary is not included; see the table.",
        conditions(found.result, list(found.rows.values())), _disturbances(found), _missing(found),
        f"A peak memory of 0 (below the resolution of the counters) cannot be shown on a log "
        f"scale: {', '.join(zero)}." if zero else "",
        "The memory values of SemanIR's paper are not known here and not shown."]))


def _alt(found: Benchmark) -> str:
    parts = []
    for n in found.sizes:
        for name in (DENSE, *found.names):
            times = [(k, t) for k in (found.keys(n) if name != DENSE else [None])
                     if (t := p50(found.row(n, k, name))) is not None]
            if times:
                parts.append(f"N = {n}, {name}: " + ", ".join(
                    text.milliseconds(t) + ("" if k is None else f" at k = {k}")
                    for k, t in times) + ".")
    return "Line plots of time and memory of attention. " + " ".join(parts)
