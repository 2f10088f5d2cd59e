"""The style of every plot; nothing is set globally.

Sizes are for a two-column paper (7.1 inches wide). Fonts are embedded (TrueType, type 42). PNGs
have 300 dpi. Colours can be distinguished with colour-vision deficiency, and each model has the
same colour and marker in all plots. Files contain no date and no software version, so that the same
records give the same bytes.

The letters of an SVG are drawn as paths: labels are placed by the widths of this font, so a viewer
without this font would make them overlap. The PDF contains the text as text, for search and copy.

Writes ``figures/<stem>.png``, and ``.pdf`` and ``.svg`` on request.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from irbench.core.files import atomic_path
from irbench.core.run_folder import FORMATS, RunFolder

WIDTH = 7.1                     # inches, the text width of two-column papers
HEIGHT = 9.0                    # inches of panels in one figure, as much as fits on a page
DPI = 300
SMALL = 6.0                     # points; no text is smaller, so that it is readable in print
GRAY = "#5f6672"
INK = "#22262e"
# eleven markers and ten colours, so that 110 models all look different
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", "h", ">")
HOLLOW = {"linestyle": "", "markerfacecolor": "none", "markeredgewidth": 0.8}   # disturbed points
_RC = {
    "pdf.fonttype": 42, "ps.fonttype": 42, "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"], "font.size": 7.5, "axes.titlesize": 8,
    "axes.titleweight": "bold", "axes.labelsize": 7.5, "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5, "legend.fontsize": 6.5, "legend.title_fontsize": 6.5,
    "axes.linewidth": 0.6, "grid.linewidth": 0.4, "grid.color": "#dfe2e8",
    "axes.edgecolor": "#9aa1ad", "axes.labelcolor": INK, "text.color": INK,
    "xtick.color": INK, "ytick.color": INK, "lines.linewidth": 1.1, "axes.titlelocation": "left",
    "xtick.major.size": 2.5, "ytick.major.size": 2.5, "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4, "axes.axisbelow": True, "figure.dpi": 100, "savefig.dpi": DPI,
    "axes.grid": True,
    "axes.formatter.useoffset": False, "text.usetex": False, "mathtext.default": "regular",
    "text.parse_math": False,   # a title with a $ is a title
    # the ids in an SVG are hashes of the content, not random numbers
    "svg.fonttype": "path", "svg.hashsalt": "irbench",
}
_METADATA = {"png": {"Software": None},
             "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
             "svg": {"Date": None, "Creator": None}}


@dataclass(frozen=True)
class Drawn:
    """A figure that was written: its file stem, its caption and its alternative text."""

    stem: str
    title: str
    caption: str
    alt: str


@dataclass
class Drawing:
    """The result of a plot module: figures, and sentences on what could not be drawn."""

    figures: list[Drawn] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@contextlib.contextmanager
def look() -> Iterator[None]:
    """Use this style inside the block; the settings of matplotlib are restored afterwards."""
    with matplotlib.rc_context(), sns.axes_style("ticks"):
        matplotlib.rcParams.update(_RC)
        yield


def figure(height: float, width: float = WIDTH, *, arranged: bool = True) -> Figure:
    """Return a figure of this size in inches that needs no display.

    ``arranged``: whether matplotlib finds places for its panels, which takes a fifth of the time.
    """
    made = Figure(figsize=(width, height), layout="constrained" if arranged else None)
    FigureCanvasAgg(made)
    return made


def settle(made: Figure) -> None:
    """Find the places of all parts and keep them, so that labels can be placed."""
    made.draw_without_rendering()
    made.set_layout_engine(None)    # with "none" matplotlib would still draw the figure twice


def legend(made: Figure, handles: list[Artist], most: int) -> None:
    """Add a legend below all panels, with as many columns as fit, at most ``most``.

    ``handles`` have labels.
    """
    for columns in range(min(most, len(handles)), 0, -1):
        box = made.legend(handles=handles, loc="outside lower center", ncols=columns,
                          frameon=False, handlelength=2.6)
        size = box.get_window_extent(made.canvas.get_renderer())
        if size.width <= made.bbox.width or columns == 1:
            break
        box.remove()
    made.set_figheight(made.get_figheight() + size.height / made.dpi)


def save(made: Figure, folder: Path, stem: str, kinds: Sequence[str] = FORMATS) -> None:
    """Write a figure to the folder of a run or history; each write is atomic.

    The places of all parts are computed once for all formats, in the resolution of the PNG, and
    without drawing: savefig would draw the figure twice for that.

    Args:
        made: the figure.
        folder: the folder of the run or history.
        stem: name of the files, without suffix.
        kinds: their formats, of ``run_folder.FORMATS``.
    """
    made.set_dpi(DPI)
    if engine := made.get_layout_engine():
        engine.execute(made)
    made.set_layout_engine(None)
    for kind in kinds:
        with atomic_path(RunFolder(folder).figures / f"{stem}.{kind}") as path:
            made.savefig(path, format=kind, metadata=_METADATA[kind], dpi=DPI, facecolor="white")


def colors(names: list[str]) -> dict[str, tuple]:
    """Return a colour per model, from a palette made for colour-vision deficiency."""
    # pale yellow and gray of the palette come last, because thin marks are hard to see in them
    order = (0, 1, 2, 4, 3, 5, 9, 6, 7, 8)
    palette = sns.color_palette("colorblind", 10)
    return {name: palette[order[i % 10]] for i, name in enumerate(names)}


def markers(names: list[str]) -> dict[str, str]:
    """Return a marker per model, so that colour is never the only difference."""
    return {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(names)}


def open_frame(ax: Axes, left: bool = True) -> None:
    """Draw no frame at the top and at the right of a panel, nor at the left without ``left``."""
    sns.despine(ax=ax, left=not left)


def log_ticks(axis: Axis, label: Callable[[float], str]) -> None:
    """Label a log axis, whose limits are set, with as many round numbers as fit."""
    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(FixedLocator(round_numbers(low, high)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))
    axis.set_minor_formatter(NullFormatter())


def round_numbers(low: float, high: float) -> list[float]:
    """Return three or more round numbers in a positive range; two if it is narrow.

    A range of less than a factor of 1.41 may contain fewer.
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 6),
                   (1, 1.2, 1.4, 1.6, 1.8, 2, 2.2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9)):
        # parsed from text: 0.3, not 3 * 0.1
        found = [tick for power in decades for digit in digits
                 if low <= (tick := float(f"{digit}e{power}")) <= high]
        if len(found) > 2:
            break
    return found


def grid(count: int, columns: int) -> tuple[int, int]:
    """Return (rows, columns) for ``count`` panels, at most ``columns`` wide."""
    columns = min(count, columns)
    return -(-count // columns), columns
