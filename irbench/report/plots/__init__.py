"""The list of all plots, in the order in which they are drawn.

A plot is a module here with ``draw(run)``, which writes ``figures/<stem>.png``, in the run's other
formats too, and returns what it drew. Its stems are its name, or begin with its name and a dash. To
add a plot, add a module and a line in ``PLOTS``. Importing this package imports neither a plot nor
matplotlib.

Try: ``python -c "from irbench.report import plots; print(plots.plot_of('quality-sr').heading)"``
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from irbench.present.style import Drawing
    from irbench.report.run import Run


@dataclass(frozen=True)
class Plot:
    """One kind of plot.

    Attributes:
        name: name of its files, up to the first dash.
        module: name of its module in this package.
        heading: heading of its figures on the page.
        needs: kind of jobs (cells, trainings, profiles, benches) without which the plot is
            skipped silently; "" if the page should state their absence.
        placed: the page shows it beside a table, not among the figures.
        kind: its table in the report of Snakemake.
    """

    name: str
    module: str
    heading: str
    needs: str = ""
    placed: bool = False
    kind: str = "plots"


PLOTS = (
    Plot("quality", "quality", "Quality against cost"),
    Plot("latency", "latency", "Latency"),
    Plot("distributions", "distributions", "Scores of the images", needs="cells"),
    Plot("radar", "radar", "Radar", needs="cells"),
    Plot("crops", "crops", "Restored images", needs="cells", kind="visual comparison"),
    Plot("training", "curves", "Training", needs="trainings", placed=True),
    Plot("ksweep", "ksweep", "Keys per token", placed=True),
    Plot("scaling", "scaling", "Scaling", placed=True),
    Plot("attention", "attention", "Attention", needs="benches", placed=True),
)


def plot_of(stem: str) -> Plot | None:
    """Return the plot that a file belongs to, by its name without suffix; None for other files."""
    name = stem.partition("-")[0]
    return next((plot for plot in PLOTS if plot.name == name), None)


def draw(plot: Plot, run: Run) -> Drawing:
    """Draw a plot of a run; write its files below the run folder."""
    # matplotlib takes a second to import
    from irbench.present.style import Drawing

    if plot.needs and not getattr(run, plot.needs):
        return Drawing()
    return importlib.import_module(f"{__name__}.{plot.module}").draw(run)
