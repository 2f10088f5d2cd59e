"""The latency plot: every timed sample, the median (p50) of each model, and the p90 of many.

One panel per protocol and measuring condition (device, dtype, input size, batch, threads), because
latencies of different conditions do not compare. Reads nothing but the collected run; writes
``figures/latency.png``, or one figure per task or protocol if there are many panels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from irbench.core import machine, statistics
from irbench.present import style, text
from irbench.report.facts import kinds
from irbench.report.plots import split
from irbench.report.run import Run

LOG_FROM = 12.0                 # from this ratio of slowest to fastest on, the scale is logarithmic
MAX_PANELS = 8                  # in one figure
ONE_DISTURBED = "other processes disturbed one of the two measurements"
ROW = 0.29                      # inches per model


@dataclass
class LatencyPanel:
    """Latencies under one condition: model -> the record's ``latency_ms``."""

    protocol: str
    condition: str
    models: dict[str, dict] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """The protocol's task."""
        return text.split_id(self.protocol)[0]


def circumstances(result: dict) -> dict[str, str]:
    """Return the measuring condition of a latency: device, dtype, size, batch, threads.

    Latencies compare if all of them agree. Parts without information are "".
    """
    shape = result.get("input") or {}
    threads = result.get("threads")
    dtype = result.get("dtype") or (result.get("inference") or {}).get("dtype")
    return {
        "device": str(result.get("device_name") or result.get("device") or "unknown device"),
        "dtype": str(dtype or "dtype unknown") + (
            " (TF32 products)" if dtype == "float32" and "tf32" in
            (result.get("precision") or {}).values() else ""),
        "size": text.TIMES.join(str(shape.get(k, "?")) for k in ("channels", "height", "width")),
        "batch": f"batch {shape.get('batch', '?')}",
        "threads": (f"{threads} thread{'s' * (threads != 1)}"
                    if threads and result.get("device") != "cuda" else "")}


def condition(result: dict, but: tuple[str, ...] = ()) -> str:
    """Return the measuring condition of a profile in one line, without the parts in ``but``."""
    return ", ".join(value for name, value in circumstances(result).items()
                     if value and name not in but)


def busy(result: dict) -> float:
    """Return how many cores other processes used during a profile, 0 if negligible."""
    return machine.busy((result.get("latency_ms") or {}).get("busy_elsewhere"))


def percentile(latency: dict, percent: int) -> float | None:
    """Return a percentile in ms of a record's ``latency_ms``; None from too few samples."""
    return statistics.percentile(latency.get("samples") or [], percent)


def disturbed(result: dict) -> str:
    """Return a note if other processes disturbed a latency, else ""."""
    cores = busy(result)
    return (f"other processes kept {cores:.1f} cores busy during this measurement: not reliable"
            if cores else "")


def disturbances(run: Run, shown: Iterable[tuple[str, str]],
                 how: str = f"marked {text.DISTURBED!r}") -> str:
    """Return a sentence on the disturbed latencies among ``shown`` (protocol, model), or "".

    ``how``: how they look in the plot.
    """
    found = [(*key, busy(run.profiles[key].result)) for key in dict.fromkeys(shown)
             if key in run.profiles]
    names = [f"{run.model_title(model)} on {protocol} ({cores:.1f} cores)"
             for protocol, model, cores in found if cores]
    return ("Other processes kept cores busy during these measurements, so the latencies are not "
            f"reliable ({how}): {', '.join(names)}." if names else "")


def name(run: Run, model: str, result: dict) -> str:
    """Return the title of a model with the settings that the measuring condition omits."""
    if kinds.is_variant(spec := run.models[model]) or kinds.is_reference(spec):
        return run.model_title(model)
    settings = result.get("inference") or {}
    way = text.inference({key: True for key in ("channels_last", "compile")
                           if settings.get(key)})
    return run.model_title(model) + (f" ({way})" if way else "")


def label(run: Run, model: str, result: dict, width: int, lines: int = 1) -> str:
    """Return ``name`` broken into lines for a plot, or the short name if there is no room.

    Titles of a base and its variants differ at the end, so a truncated title would be ambiguous.
    """
    wrapped = text.wrap(name(run, model, result), width, lines)
    return text.wrap(model, width, lines) if wrapped.endswith("…") else wrapped


def draw(run: Run) -> style.Drawing:
    """Draw the plot; write nothing if no profile succeeded."""
    drawing = style.Drawing()
    panels: dict[tuple[str, str], LatencyPanel] = {}
    without = []
    for (protocol, model), job in run.profiles.items():
        latency = job.result.get("latency_ms") or {}
        if latency.get("p50") is None:
            without.append(f"{run.model_title(model)} ({protocol}: {job.reason or 'no latency'})")
            continue
        how = condition(job.result)
        panel = panels.setdefault((protocol, how), LatencyPanel(protocol, how))
        panel.models[model] = latency
        panel.names[model] = label(run, model, job.result, 22, 2)
    if without:
        drawing.left_out.append(f"Models without a latency: {'; '.join(without)}.")
    if not panels:
        drawing.left_out.append("No latency plot: no profile has a latency.")
        return drawing
    parts = split.figures(list(panels.values()), "latency", "Latency", MAX_PANELS)
    drawing.figures += [_figure(run, part, *named) for named, part in
                        split.asked(parts, run.plots, drawing.left_out).items()]
    return drawing


def _figure(run: Run, shown: list[LatencyPanel], stem: str, title: str) -> style.Drawn:
    with style.look():
        rows, columns = style.grid(len(shown), 2)
        heights = [max(len(p.models) for p in shown[i * columns:(i + 1) * columns])
                   for i in range(rows)]
        height = sum(ROW * n + 1.0 for n in heights) + 0.3
        figure = style.figure(height, style.WIDTH if columns > 1 else 5.0)
        figure.get_layout_engine().set(w_pad=0.12)      # beside the numbers right of a panel
        alike = len({panel.condition for panel in shown}) == 1      # then the caption names it
        axes = figure.subplots(rows, columns, squeeze=False,
                               height_ratios=[n + 1 for n in heights]).ravel()
        for ax in axes[len(shown):]:
            ax.set_axis_off()
        for ax, panel in zip(axes, shown, strict=False):
            _panel(ax, run, panel, "" if alike else panel.condition)
        figure.legend(handles=[
            Line2D([], [], linestyle="", marker="o", markersize=2.4, color=style.GRAY, alpha=0.6,
                   label="one timed pass"),
            Line2D([], [], linestyle="", marker="|", markersize=10, markeredgewidth=2,
                   color=style.INK, label="p50 (median)"),
            *([Line2D([], [], linestyle="", marker="|", markersize=7, markeredgewidth=1,
                      color=style.INK, label="p90")] if _has_p90(shown) else []),
        ], loc="outside lower center", ncols=3, frameon=False)
        style.save(figure, run.folder, stem, run.formats)
    return style.Drawn(stem, title, _caption(run, shown), _alt(run, shown))


def _has_p90(panels: list[LatencyPanel]) -> bool:
    return any(percentile(one, 90) is not None for p in panels for one in p.models.values())


def _panel(ax: Axes, run: Run, panel: LatencyPanel, below_title: str) -> None:
    hues = style.colors(list(run.models))
    models = sorted(panel.models, key=lambda m: panel.models[m]["p50"])
    values = []
    for row, model in enumerate(models):
        latency = panel.models[model]
        samples = latency.get("samples") or []
        # spread over the row by position in time, without random jitter: the same bytes each time
        heights = [row + 0.26 * ((i * 0.618034) % 1 * 2 - 1) for i in range(len(samples))]
        ax.scatter(samples, heights, s=5, color=hues[model], alpha=0.55, linewidth=0, zorder=3)
        ax.plot([latency["p50"]] * 2, [row - 0.36, row + 0.36], color=hues[model], linewidth=2,
                solid_capstyle="butt", zorder=4)
        values += [*samples, latency["p50"]]
        if (p90 := percentile(latency, 90)) is not None:
            ax.plot([p90] * 2, [row - 0.24, row + 0.24], color=hues[model], linewidth=1, zorder=4)
            values.append(p90)
    low, high = min(values), max(values)
    if low > 0 and high / low > LOG_FROM:
        ax.set_xscale("log")
        ax.set_xlim(low / 1.35, high * 1.35)
        style.log_ticks(ax.xaxis, "{:g}".format)
    else:
        ax.set_xlim(0, high * 1.08)
    for row, model in enumerate(models):
        p50, p90 = panel.models[model]["p50"], percentile(panel.models[model], 90)
        mark = text.DISTURBED if busy({"latency_ms": panel.models[model]}) else ""
        ax.text(1.02, row, text.milliseconds(p50) + mark,
                transform=ax.get_yaxis_transform(), va="center" if p90 is None else "bottom",
                fontsize=6.5, fontweight="bold")
        if p90 is not None:
            ax.text(1.02, row, f"p90 {text.milliseconds(p90)}", va="top", fontsize=style.SMALL,
                    color=style.GRAY, transform=ax.get_yaxis_transform())
    ax.set_yticks(range(len(models)), [panel.names[m] for m in models])
    ax.set_ylim(len(models) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    log = " (log scale)" if ax.get_xscale() == "log" else ""
    ax.set_xlabel(f"Latency, ms{log}")
    ax.set_title(run.protocol_title(panel.protocol) + "\n\n" * bool(below_title))
    device, _, rest = below_title.partition(", ")
    ax.annotate(f"{text.wrap(device, 44, 1)}\n{rest}", (0, 1), (0, 4), xycoords="axes fraction",
                textcoords="offset points", fontsize=style.SMALL, color=style.GRAY, va="bottom")
    style.open_frame(ax, left=False)


def _caption(run: Run, panels: list[LatencyPanel]) -> str:
    hows = list(dict.fromkeys(p.condition for p in panels))
    counts = sorted({len(p["samples"]) for panel in panels for p in panel.models.values()
                     if p.get("samples")})
    passes = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(*counts) if counts else "?"
    disturbed = disturbances(run, [(p.protocol, m) for p in panels for m in p.models])
    p90 = (f" The thin mark and the second number are p90, from {statistics.least_samples(90)} or "
           "more passes." if _has_p90(panels) else "")
    return (f"Latency in ms of one forward pass after warm-up. Each dot is one timed pass "
            f"({passes} per model). The thick mark and the first number are the median (p50)."
            f"{p90} Measured on: {'; '.join(hows)}. Latency "
            "depends on the machine and its load: treat it as a guide."
            + (f" {disturbed}" if disturbed else ""))


def _alt(run: Run, panels: list[LatencyPanel]) -> str:
    return "Strip plots of latency. " + " ".join(
        f"{p.protocol} on {p.condition}: " + ", ".join(
            f"{run.model_title(m)} p50 {text.milliseconds(v['p50'])}"
            for m, v in p.models.items()) + "." for p in panels)
