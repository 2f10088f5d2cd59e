"""The figure of training: loss against step for every model trained in the run.

Losses of different recipes do not compare; each panel is one protocol, and the caption says so.
Reads nothing but the collected run; writes ``figures/training.{png,pdf}``.
"""

from __future__ import annotations

import seaborn as sns
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from irbench.report import style, text
from irbench.report.collect import Job, Run

DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
SMOOTHED = 12                   # the running mean covers this share (1/12) of a curve
LOG_FROM = 4.0                  # ratio of largest to smallest loss that calls for a log scale


def running_mean(losses: list[float]) -> list[float]:
    """Return the mean of each loss and those before it, over a twelfth of the curve."""
    width = max(1, len(losses) // SMOOTHED)
    parts = [losses[max(0, i + 1 - width):i + 1] for i in range(len(losses))]
    return [sum(part) / len(part) for part in parts]


def draw(run: Run) -> style.Drawing:
    """Draw the figure; nothing is written when no training has a curve of two points."""
    drawing = style.Drawing()
    panels: dict[str, list[Job]] = {}
    for (protocol, _), job in run.trainings.items():
        if len(job.result.get("curve") or []) > 1:
            panels.setdefault(protocol, []).append(job)
    if not panels:
        if run.trainings:
            drawing.left_out.append("There is no figure of training: no training recorded a "
                                    "curve of two points.")
        return drawing
    hues = style.colors(list(run.models))
    shown: dict[str, Line2D] = {}
    with style.look():
        rows, columns = style.grid(len(panels), 3)
        figure = style.figure(2.25 * rows + 0.2 * -(-len(run.models) // 3),
                              style.WIDTH * min(1, (columns + 1) / 3 * 0.9))
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes[len(panels):]:
            ax.set_axis_off()
        for ax, (protocol, jobs) in zip(axes, panels.items(), strict=False):
            losses = []
            for index, job in enumerate(jobs):
                curve = job.result["curve"]
                steps, loss = [p["step"] for p in curve], [p["loss"] for p in curve]
                losses += loss
                ax.plot(steps, loss, color=hues[job.model], linewidth=0.5, alpha=0.4)
                line, = ax.plot(steps, running_mean(loss), color=hues[job.model],
                                linestyle=DASHES[index % len(DASHES)])
                shown.setdefault(job.model, line)
            if min(losses) > 0 and max(losses) / min(losses) > LOG_FROM:
                ax.set_yscale("log")
                style.log_ticks(ax.yaxis, "{:g}".format)
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            log = ", log scale" if ax.get_yscale() == "log" else ""
            ax.set_xlabel("Training step (count)")
            ax.set_ylabel(f"Training loss (unitless{log})")
            ax.set_title(protocol)
            sns.despine(ax=ax)
        figure.legend(list(shown.values()), [run.model_title(model) for model in shown],
                      loc="outside lower center", ncols=3, frameon=False, handlelength=3)
        style.save(figure, run.folder, "training")
    drawing.figures.append(style.Drawn(
        "training", "Training", "Training loss against step, one panel per protocol: thin, as "
        "recorded; thick, the mean over the last twelfth of the curve up to each point. Each "
        "model follows its own recipe, so losses of two models need not compare.",
        "Line plots of training loss. " + " ".join(
            f"{run.model_title(j.model)} on {p}: {j.result['curve'][0]['loss']:.3g} to "
            f"{j.result['curve'][-1]['loss']:.3g} in {text.si(j.result['curve'][-1]['step'])} "
            "steps." for p, jobs in panels.items() for j in jobs)))
    return drawing
