"""The training plot: loss, validation PSNR and learning rate against the step.

One column of panels per scope of a training: a protocol, or a task with a range of levels for blind
trainings. Losses of different recipes do not compare; the caption states it. Reads nothing but the
collected run; writes ``figures/training.png``.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from irbench.present import style, text
from irbench.report.facts import weights
from irbench.report.facts.weights import Weights
from irbench.report.run import Outcome, Run

DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
SMOOTHED = 12                   # the running mean covers this share (1/12) of a curve
LOG_FROM = 4.0                  # ratio of largest to smallest loss that calls for a log scale
COLUMNS = 3
HEIGHTS = {"loss": 1.75, "validation": 1.25, "rate": 0.7}       # inches


def running_mean(losses: list[float]) -> list[float]:
    """Return the running mean of the losses, over the last twelfth of the curve at each point."""
    width = max(1, len(losses) // SMOOTHED)
    parts = [losses[max(0, i + 1 - width):i + 1] for i in range(len(losses))]
    return [sum(part) / len(part) for part in parts]


def draw(run: Run) -> style.Drawing:
    """Draw the plot; write nothing if no training has a curve of two points."""
    drawing = style.Drawing()
    panels: dict[str, list[Weights]] = {}
    for one in weights.all_weights(run):
        if one.job and len(one.job.result.get("curve") or []) > 1:
            panels.setdefault(one.scope, []).append(one)
    if not panels:
        if run.trainings:
            drawing.left_out.append("No training plot: no training recorded a curve of two points.")
        return drawing
    hues = style.colors(list(run.models))
    rows = ["loss", *(["validation"] if any(one.validation for shown in panels.values()
                                            for one in shown) else []), "rate"]
    shown: dict[str, Line2D] = {}
    titles = {scope: run.protocol_title(scope) for scope in panels}
    if len(set(titles.values())) < len(titles):
        titles = {scope: scope for scope in panels}
    with style.look():
        blocks, columns = style.grid(len(panels), COLUMNS)
        beside = len(panels) == 1       # of one scope the panels stand beside each other
        legend = 0.2 * -(-len(run.models) // COLUMNS)
        figure = style.figure(
            (HEIGHTS["loss"] + 0.35 if beside else blocks * (sum(HEIGHTS[r] for r in rows) + 0.35))
            + legend, style.WIDTH * min(1, (columns + 1) / COLUMNS * (1.5 if beside else 0.9)))
        axes = (figure.subplots(1, len(rows), squeeze=False).T if beside else
                figure.subplots(blocks * len(rows), columns, squeeze=False,
                                height_ratios=[HEIGHTS[row] for row in rows] * blocks))
        for index in range(blocks * columns):
            block, column = divmod(index, columns)
            here = dict(zip(rows, axes[block * len(rows):(block + 1) * len(rows), column],
                            strict=True))
            if index >= len(panels):
                for ax in here.values():
                    ax.set_axis_off()
                continue
            scope, ones = list(panels.items())[index]
            for number, one in enumerate(ones):
                line = _plot(here, one.job, hues[one.model], DASHES[number % len(DASHES)], one)
                shown.setdefault(one.model, line)
            here["loss"].set_title(text.wrap(titles[scope], 34),
                                   fontsize=8 if columns < COLUMNS else 7)
            _label(here, first=column == 0, beside=beside)
        figure.legend(list(shown.values()), [run.model_title(model) for model in shown],
                      loc="outside lower center", ncols=COLUMNS, frameon=False, handlelength=3)
        figure.align_ylabels()
        style.save(figure, run.folder, "training", run.formats)
    drawing.figures.append(style.Drawn(
        "training", "Training", _caption(panels, "validation" in rows), _alt(run, panels)))
    return drawing


def _plot(here: dict[str, Axes], job: Outcome, hue: tuple, dashes: object, one: Weights) -> Line2D:
    """Draw one training into its panels; return its line for the legend."""
    curve = job.result["curve"]
    steps, losses = [p["step"] for p in curve], [p["loss"] for p in curve]
    here["loss"].plot(steps, losses, color=hue, linewidth=0.5, alpha=0.4)
    line, = here["loss"].plot(steps, running_mean(losses), color=hue, linestyle=dashes)
    if one.validation:
        here["validation"].plot(*zip(*one.validation, strict=True), color=hue, linestyle=dashes,
                                marker=".", markersize=3)
        if one.best:
            here["validation"].plot(*one.best, color=hue, marker="*", markersize=7,
                                    markeredgecolor="white", markeredgewidth=0.4)
    rates = [p.get("lr") for p in curve]
    if None not in rates:
        here["rate"].plot(steps, rates, color=hue, linestyle=dashes, linewidth=0.9)
    return line


def _label(here: dict[str, Axes], first: bool, beside: bool) -> None:
    """Scale and label the axes of one scope, which share the steps."""
    limits = [ax.get_xlim() for ax in here.values() if ax.lines]
    low, high = min(left for left, _ in limits), max(right for _, right in limits)
    losses = [y for line in here["loss"].lines for y in line.get_ydata()]
    if min(losses) > 0 and max(losses) / min(losses) > LOG_FROM:
        here["loss"].set_yscale("log")
        style.log_ticks(here["loss"].yaxis, "{:g}".format)
    log = ", log scale" if here["loss"].get_yscale() == "log" else ""
    names = {"loss": f"Training loss\n(unitless{log})", "validation": "Validation\nPSNR (dB)",
             "rate": "Learning\nrate"}
    for row, ax in here.items():
        ax.set_xlim(low, high)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda step, _: text.si(step) if step else "0"))
        if first or row == "loss":
            ax.set_ylabel(names[row])
        if row == "validation" and not ax.lines:
            ax.text(0.5, 0.5, "not validated", transform=ax.transAxes, ha="center", va="center",
                    color=style.GRAY, fontsize=6.5)
            ax.set_yticks([])
        style.open_frame(ax)
    here["rate"].set_ylim(bottom=0)
    here["rate"].yaxis.set_major_locator(MaxNLocator(3))
    here["rate"].yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    for ax in here.values() if beside else [here["rate"]]:
        ax.set_xlabel("Training step (count)")


def _caption(panels: dict[str, list[Weights]], validated: bool) -> str:
    several = len(panels) > 1
    ones = [one for shown in panels.values() for one in shown]
    blind = dict.fromkeys(f"{one.scope}: {weights.levels(one.levels)}"
                          for one in ones if one.levels)
    on: dict[str, list[str]] = {}
    for one in ones:
        if one.validation:
            on.setdefault(weights.validated(one) or "basis not recorded", []).append(one.scope)
    return " ".join(filter(None, [
        "Training loss, " + "validation PSNR " * validated + "and learning rate against the step, "
        + "one column per protocol trained for" * several
        + f"trained for {next(iter(panels))}" * (not several)
        + ". Loss: the thin line is the loss as recorded, the thick line its mean over the last "
        "twelfth of the curve up to each point. Each model follows its own recipe, so losses of "
        "different models may not compare.",
        f"Blind trainings, each for a range of levels: {'; '.join(blind)}." if blind else "",
        "Validation (the star marks the best value): " + "; ".join(
            f"{', '.join(dict.fromkeys(scopes))}: {basis}" for basis, scopes in on.items()) + "."
        if on else ""]))


def _alt(run: Run, panels: dict[str, list[Weights]]) -> str:
    parts = []
    for scope, ones in panels.items():
        for one in ones:
            curve = one.job.result["curve"]
            end = (f"; validation PSNR {one.validation[0][1]:.2f} to {one.last[1]:.2f} dB"
                   if one.validation else "")
            parts.append(f"{run.model_title(one.model)} on {scope}: {curve[0]['loss']:.3g} to "
                        f"{curve[-1]['loss']:.3g} in {text.si(curve[-1]['step'])} steps{end}.")
    return "Line plots of training loss, validation PSNR and learning rate. " + " ".join(parts)
