"""The plot of k: PSNR, multiply-adds and latency of one set of weights at several k.

Like a figure of SemanIR's paper (arXiv 2405.20008): PSNR against the number of keys k at inference,
and beside it latency and MACs. It shows a base and its variants that differ only in k; the base
with its own k is one of the points. Cost is in MACs with attention counted over the k keys of the
dictionary only, as in the papers. Reads nothing but the collected run; writes
``figures/ksweep.png``, or ``figures/ksweep-<model>`` if there are many rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from irbench.present import style, text
from irbench.report.facts import family, kinds
from irbench.report.plots import latency
from irbench.report.run import Run

OPTION = "k"
MAX_ROWS = 5                    # in one figure; beyond, one figure per base
UNITS = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("K", 1e3))
LEAST_DB = 0.1                  # least height of a panel: a tiny difference must not fill it
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))


@dataclass
class KSweep:
    """One base under one protocol. All mappings have k as key or as inner key."""

    base: str
    protocol: str
    own: int                                        # the base's k
    psnr: dict[str, dict[int, float]] = field(default_factory=dict)     # dataset -> k -> dB
    p50: dict[int, float] = field(default_factory=dict)                 # ms
    macs: dict[int, int] = field(default_factory=dict)                  # over keys only
    disturbed: set[int] = field(default_factory=set)                    # k, as to latency
    condition: str = ""
    size: str = ""                                  # of the input that MACs are for
    missing: list[str] = field(default_factory=list)


def members(run: Run) -> dict[str, dict[int, str]]:
    """Return, for each base with variants that differ only in k: k -> model, with the base."""
    found = {}
    for base, names in family.variants(run).items():
        own = run.models[base].options.get(OPTION) if base in run.models else None
        alone = {}
        for name in names:
            chosen, way = kinds.changed(run.models[name])
            if set(chosen) == {OPTION} and not way and type(chosen[OPTION]) is int:
                alone[chosen[OPTION]] = name
        if alone and type(own) is int:
            found[base] = dict(sorted({**alone, own: base}.items()))
    return found


def rows(run: Run) -> list[KSweep]:
    """Return all sweeps of k, one row per base and protocol."""
    found = []
    for base, by_k in members(run).items():
        own = next(k for k, name in by_k.items() if name == base)
        swept = {*by_k.values()} - {base}
        protocols = dict.fromkeys([c.protocol for c in run.cells if c.model in swept]
                                  + [protocol for protocol, m in run.profiles if m in swept])
        for protocol in protocols:
            row = KSweep(base, protocol, own)
            job = run.profiles.get((protocol, base))
            row.condition = latency.condition(job.result) if job and job.result else ""
            for k, model in by_k.items():
                _quality(run, row, k, model)
                _cost(run, row, k, model)
            found.append(row)
    return found


def _quality(run: Run, row: KSweep, k: int, model: str) -> None:
    for cell in run.cells:
        if (cell.protocol, cell.model) != (row.protocol, model):
            continue
        if "psnr" in cell.means:
            row.psnr.setdefault(cell.dataset, {})[k] = cell.means["psnr"]
        else:
            why = cell.reason or cell.missing.get("psnr") or cell.status
            row.missing.append(f"PSNR on {run.dataset_title(cell.dataset)} at k = {k} "
                               f"({why.rstrip('.')})")


def _cost(run: Run, row: KSweep, k: int, model: str) -> None:
    job = run.profiles.get((row.protocol, model))
    result = job.result if job else {}
    if not result:
        why = (job.reason if job else "") or "not profiled"
        row.missing.append(f"latency and MACs at k = {k} ({why.rstrip('.')})")
        return
    how = latency.condition(result)
    row.condition = row.condition or how
    if how != row.condition:
        row.missing.append(f"latency and MACs at k = {k} (measured on {how})")
        return
    row.size = text.input_size(result.get("input") or {})
    time, macs = (result.get("latency_ms") or {}).get("p50"), result.get("macs_keys_only")
    reasons = result.get("missing") or {}
    if time is not None:
        row.p50[k] = time
        row.disturbed |= {k} if latency.busy(result) else set()
    else:
        row.missing.append(f"latency at k = {k} ({reasons.get('latency_ms', 'not recorded')})")
    if macs is not None:
        row.macs[k] = macs
    else:
        why = reasons.get("macs_keys_only") or reasons.get("macs") or "not recorded"
        row.missing.append(f"MACs at k = {k} ({why})")


def draw(run: Run) -> style.Drawing:
    """Draw the plot; write nothing unless some base has a PSNR or a cost at two values of k."""
    drawing = style.Drawing()
    found = rows(run)
    drawn = [row for row in found
             if max((len(v) for v in (*row.psnr.values(), row.p50, row.macs)), default=0) > 1]
    drawing.left_out += [
        f"No plot of k for {run.model_title(row.base)} ({row.protocol}): fewer than two values "
        f"of k have a result. Missing: {', '.join(row.missing) or 'nothing'}."
        for row in found if row not in drawn]
    bases = list(dict.fromkeys(row.base for row in drawn))
    if not drawn:
        return drawing
    parts = {("ksweep", "Keys per token"): drawn} if len(drawn) <= MAX_ROWS or len(bases) == 1 \
        else {(f"ksweep-{base}", f"Keys per token: {run.model_title(base)}"):
              [row for row in drawn if row.base == base] for base in bases}
    drawing.figures += [_figure(run, part, *named) for named, part in parts.items()]
    return drawing


def _figure(run: Run, drawn: list[KSweep], stem: str, title: str) -> style.Drawn:
    with style.look():
        figure = style.figure(2.75 * len(drawn) + 0.1)
        axes = figure.subplots(len(drawn), 3, squeeze=False, width_ratios=(1.35, 1, 1))
        for line, row in zip(axes, drawn, strict=True):
            _quality_panel(line[0], run, row)
            hue = style.colors(list(run.models))[row.base]
            _cost_panel(line[1], row, row.p50, "Latency, p50 (ms)", hue, row.disturbed)
            unit, size = next((u for u in UNITS if max(row.macs.values(), default=0) >= u[1]),
                              UNITS[-1])
            _cost_panel(line[2], row, {k: m / size for k, m in row.macs.items()},
                        f"MACs over keys only ({unit})", hue)
        style.save(figure, run.folder, stem, run.formats)
    return style.Drawn(stem, title, _caption(run, drawn), _alt(run, drawn))


def _quality_panel(ax: Axes, run: Run, row: KSweep) -> None:
    # the lines are datasets here, so the colours of the models would mislead
    hues = style.colors([f"dataset {name}" for name in row.psnr])
    values = []
    for index, (dataset, points) in enumerate(row.psnr.items()):
        hue = hues[f"dataset {dataset}"]
        ks = sorted(points)
        ax.plot(ks, [points[k] for k in ks], color=hue, linestyle=DASHES[index % len(DASHES)],
                linewidth=0.9, zorder=2)
        ax.scatter(ks, [points[k] for k in ks], s=18, color=hue, linewidth=0, zorder=4,
                   marker=style.MARKERS[index % len(style.MARKERS)])
        ax.plot([], [], color=hue, linestyle=DASHES[index % len(DASHES)], markersize=3,
                marker=style.MARKERS[index % len(style.MARKERS)], label=run.dataset_title(dataset))
        values += points.values()
    _axes(ax, row, sorted({k for points in row.psnr.values() for k in points}))
    ax.set_ylabel("PSNR (dB)")
    ax.set_title(f"{run.protocol_title(row.protocol)}\n")
    ax.text(0, 1.025, text.wrap(run.model_title(row.base), 44, 1), transform=ax.transAxes,
            va="bottom", fontsize=6, color=style.GRAY)
    if not values:
        ax.text(0.5, 0.5, text.NA, transform=ax.transAxes, ha="center", color=style.GRAY)
        return
    low, high = min(values), max(values)
    pad = max(0.2 * (high - low), (LEAST_DB - (high - low)) / 2)
    ax.set_ylim(low - pad, high + pad)
    ax.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.2), frameon=False, borderaxespad=0,
              handlelength=3, ncols=2)


def _cost_panel(ax: Axes, row: KSweep, points: dict[int, float], label: str, hue: object,
                disturbed: Collection[int] = ()) -> None:
    """Draw a cost against k; disturbed points are hollow, and no line goes through them."""
    ks = sorted(points)
    for quiet, some in itertools.groupby(ks, lambda k: k not in disturbed):
        part = list(some)
        ax.plot(part, [points[k] for k in part], color=hue, marker="o", markersize=3.6,
                **({"markeredgewidth": 0} if quiet else style.HOLLOW))
    _axes(ax, row, ks)
    ax.set_ylabel(label)
    if points:
        ax.set_ylim(0, 1.12 * max(points.values()))
    else:
        ax.set_yticks([])
        ax.text(0.5, 0.5, text.NA, transform=ax.transAxes, ha="center", color=style.GRAY)


def _axes(ax: Axes, row: KSweep, ks: list[int]) -> None:
    """Set a log axis of k with the measured values, and mark the k of the base."""
    ax.set_xlabel("k at inference (keys per token)")
    style.open_frame(ax)
    if not ks:
        return
    ax.axvline(row.own, color=style.GRAY, linestyle=(0, (1, 2)), linewidth=0.8, zorder=1)
    low, high = min(*ks, row.own), max(*ks, row.own)
    pad = max((high / low) ** 0.12, 1.15)
    ax.set_xscale("log", base=2)
    ax.set_xlim(low / pad, high * pad)
    room = math.log(high * pad * pad / low) / 9         # about nine numbers fit
    kept: list[int] = []
    for k in sorted(ks, reverse=True):
        if not kept or math.log(kept[-1] / k) >= room:
            kept.append(k)
    ax.xaxis.set_major_locator(FixedLocator(kept))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))


def _caption(run: Run, drawn: list[KSweep]) -> str:
    hows = dict.fromkeys(row.condition for row in drawn if row.condition)
    sizes = dict.fromkeys(row.size for row in drawn if row.macs)
    owns = dict.fromkeys(f"{run.model_title(row.base)}: {row.own}" for row in drawn)
    missing = [f"{run.model_title(row.base)}, {row.protocol}: {', '.join(row.missing)}"
               for row in drawn if row.missing]
    return " ".join(filter(None, [
        "One set of weights at several numbers of keys k: PSNR (dB) per dataset, median latency "
        "(p50, ms), and multiply-adds (MACs; one MAC is about two FLOPs; M: 10^6, G: 10^9).",
        f"MACs are for an input of {' or '.join(sizes)} (batch, channels, height, width)."
        if sizes else "",
        "Attention is counted over the k keys of the dictionary only, as in the papers; an "
        "implementation that masks full products computes more (see the operations table).",
        f"The dotted line is the k of the base model ({'; '.join(owns)}).",
        f"Measured on: {'; '.join(hows)}." if hows else "",
        latency.disturbances(run, [(row.protocol, members(run)[row.base][k]) for row in drawn
                                   for k in row.p50], "hollow, without a line"),
        f"Missing values: {'; '.join(missing)}." if missing else ""]))


def _alt(run: Run, drawn: list[KSweep]) -> str:
    parts = []
    for row in drawn:
        for dataset, points in row.psnr.items():
            parts.append(f"{run.model_title(row.base)}, {row.protocol} on "
                         f"{run.dataset_title(dataset)}: " + ", ".join(
                             f"{points[k]:.2f} dB at k = {k}" for k in sorted(points)) + ".")
        if row.p50:
            parts.append("Latency: " + ", ".join(
                f"{text.milliseconds(row.p50[k])} at k = {k}" for k in sorted(row.p50)) + ".")
    return "Line plots of PSNR, latency and MACs against k. " + " ".join(parts)
