"""Text for people: numbers with units, levels, protocol sentences, escapes.

Pure functions, no files. Unknown values become "n/a" or an empty text, never a number.

Try: ``python -c "from irbench.present import text; print(text.parameters(392_200))"``
"""
# ruff: noqa: RUF001 - the signs for multiplication, sigma and dashes are intended

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from irbench.catalog import degradations
from irbench.catalog.model import SELF_ENSEMBLE
from irbench.core import forms, metrics, statistics

ID = re.compile(r"(?P<task>.+)-(?P<level>[^-@]+)@(?P<version>[0-9]+)")
NA = "n/a"
TIMES = "×"
BLIND = "blind"                 # the level of a training for a range of levels
DISTURBED = "?"                 # beside a latency that other processes disturbed
NONE = "–"                      # not requested, or not printed in the source
TASKS = {
    "sr": "Super-resolution", "denoise_gray": "Gray denoising",
    "denoise_color": "Colour denoising", "jpeg_gray": "JPEG artefact removal (gray)",
    "jpeg_color": "JPEG artefact removal (colour)", "demosaic": "Demosaicking",
    "deblur": "Deblurring", "derain": "Deraining", "lowlight": "Low-light enhancement",
    "weather": "Adverse weather", "denoise_real": "Denoising of real noise",
    "dehaze": "Dehazing", "denoise": "Colour and gray denoising",
}
SUPPLIED = ("files supplied by the user; their number, names and sizes were checked, but there is "
            "no published checksum to prove that they are the authors' files")
UNITLESS = "1"                  # the unit of a ratio or an index, in a CSV
LEVELS = {
    "rggb": "RGGB", "motion": "motion blur", "streak": "rain streaks", "lol": "LOL",
    "mixed": "resized to multiples of 16", "native": "native size",
    "polyu": "PolyU", "sidd": "SIDD", "dnd": "DND", "reside": "RESIDE",
    "synthetic_snow": "synthetic snow", "synthetic_drops": "synthetic drops",
}
_GRAY_FILES = {"converted": "gray files converted to Y like RGB files",
               "y": "gray files taken as Y"}
_GRAY = {"full_range": "gray of a colour source is full-range (BT.601)",
         "matlab_y": "gray of a colour source is MATLAB's Y"}
_COLORS = {"y": "Y (BT.601, limited range)", "rgb": "RGB", "gray": "gray"}
_SSIM = {
    "gaussian11_valid": "SSIM with a Gaussian 11x11 window, sigma 1.5, valid region",
    "gaussian11_same": "SSIM with a Gaussian 11x11 window, sigma 1.5, zeros beyond the border",
    "gaussian11_3d": "SSIM with a Gaussian 11x11x11 window over height, width and colours, "
                     "sigma 1.5, border repeated (MATLAB's ssim on a colour array)",
    "uniform7": "SSIM with a uniform 7x7 window (scikit-image's default)",
}
_KINDS = {
    "matlab_bicubic": "MATLAB bicubic reduction",
    "gaussian_noise": "additive white Gaussian noise, neither clipped nor rounded",
    "jpeg": "JPEG", "mosaic": "colour mosaic, interpolated by Malvar-He-Cutler",
    "motion_blur": "synthetic motion blur along random paths",
    "rain_streaks": "synthetic rain streaks", "low_light": "synthetic darkness with noise",
    "snow": "synthetic snow", "drops": "synthetic drops on the lens",
    "gaussian_blur": "Gaussian blur, neither clipped nor rounded",
    "subsample": "subsampling from the top left", "round": "rounding to 8 bits",
}


def task_title(task: str) -> str:
    """Return the name of a task for a heading."""
    return TASKS.get(task, task.replace("_", " ").capitalize())


def level_label(level: str) -> str:
    """Return ``×2`` for x2, ``×2.5`` for x2_5, ``σ = 25`` for sigma25, ``q = 10`` for q10.

    Others in words.
    """
    match = re.fullmatch(r"(x|sigma|q)(\d+)(_\d)?", level)
    if not match:
        return LEVELS.get(level, level.replace("_", " "))
    return ({"x": "×", "sigma": "σ = ", "q": "q = "}[match[1]] + match[2]
            + (match[3] or "").replace("_", "."))


def split_id(protocol: str) -> tuple[str, str, int]:
    """Return (task, level, version) of an id such as ``sr-x2@1``; other ids are their own task."""
    match = ID.fullmatch(protocol)
    return (match["task"], match["level"], int(match["version"])) if match else (protocol, "", 0)


def metric_label(metric: str, arrow: bool = True) -> str:
    """Return the heading of a metric with its unit and the direction that is better."""
    known = metrics.get(metric)
    return known.label + (f" {'↑' if known.sign > 0 else '↓'}" if arrow else "")


def value(metric: str, number: float) -> str:
    """Return a mean with the decimals that papers print: PSNR 2, SSIM and LPIPS 4."""
    return metrics.get(metric).shown(number)


def difference(metric: str, number: float) -> str:
    """Return a signed difference; for PSNR with one decimal more than the mean: ``+0.018``."""
    return metrics.get(metric).difference(number)


def significance(comparisons: int | None, what: str = "table") -> str:
    """Return the criterion of a real difference between models, for a caption.

    ``comparisons``: how many the ``what`` makes; their p are corrected for their number. None if
    another sentence states it.
    """
    count = "all" if comparisons is None else f"the {comparisons}"
    correction = (f" after Holm's correction for {count} comparisons of this {what}"
                  if comparisons is None or comparisons > 1 else "")
    return (f"p < {statistics.LEVEL}{correction}, where p is the larger of that of a sign test "
            "over the images and that of the bootstrap interval of the mean difference")


def few_images() -> str:
    """Return how sets of few images are tested, for a caption; without a full stop."""
    return (f"with fewer than {statistics.FEWEST} images the sign test cannot reach p < "
            f"{statistics.LEVEL}, so a paired t-test decides")


def parameters(count: int) -> str:
    """Return a number of parameters with its unit: ``392 K``, ``11.87 M``."""
    if count < 1000:
        return str(count)
    if round(count / 1e3) < 1000:
        return f"{count / 1e3:.0f} K"
    return f"{count / 1e6:.2f} M"


def published_parameters(millions: str) -> str:
    """Return a printed count in millions with a unit, keeping the printed decimals."""
    number = Decimal(millions)
    if number == 0:
        return "0"
    if number < 1 and number.as_tuple().exponent == -3:
        return f"{int(number * 1000)} K"
    return f"{number} M"


def si(count: float) -> str:
    """Return a large number with three digits and K, M, G or T."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= 0.9995 * size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.3g}"


def size(count: int) -> str:
    """Return bytes in MiB or GiB."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def duration(seconds: float) -> str:
    """Return a duration: ``41 s``, ``12 min``, ``3.4 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def long_duration(seconds: float) -> str:
    """Return a duration with more digits, for sums: ``4.3 s``, ``2 min 17 s``, ``3 h 25 min``."""
    seconds = shown_duration(seconds)
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole, rest = divmod(round(seconds), 60)
    units = ("min", "s")
    if seconds >= 7200:
        (whole, rest), units = divmod(whole, 60), ("h", "min")
    return f"{whole} {units[0]}" + (f" {rest} {units[1]}" if rest else "")


def shown_duration(seconds: float) -> float:
    """Return a duration as ``long_duration`` rounds it."""
    step = 0.1 if seconds < 9.95 else 1 if seconds < 7199.5 else 60
    return round(seconds / step) * step


def milliseconds(number: float) -> str:
    """Return a latency with three digits, in ms."""
    return f"{number:.0f} ms" if number >= 100 else f"{number:.3g} ms"


def mebibytes(count: int) -> str:
    """Return bytes as a number of MiB, for a column that names the unit."""
    number = count / 2**20
    return f"{number:.0f}" if number >= 1000 else f"{number:.3g}"


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence: ``A``, ``A and B``, ``A, B and C``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def evenly(numbers: Iterable[float]) -> Callable[[float], str]:
    """Return how to write the numbers of one column: all with the same decimals, at most four.

    The smallest has three digits or more; two if the largest is more than a hundred times as large.
    """
    sizes = [abs(number) for number in numbers if number]
    if not sizes:
        return lambda number: f"{number:.0f}"
    digits = 3 if max(sizes) <= 100 * min(sizes) else 2
    decimals = min(max(digits - 1 - math.floor(math.log10(min(sizes))), 0), 4)
    return lambda number: f"{number:.{decimals}f}"


def ratio(number: float) -> str:
    """Return a ratio with the sign of multiplication: ``0.70×``, ``1.84×``, ``12.5×``."""
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}{TIMES}"


def percent(share: float) -> str:
    """Return a share of 0 to 1 in per cent, with a decimal below 10 %."""
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %"


def inference(settings: dict) -> str:
    """Describe the given inference settings: ``bfloat16, compiled, tiles of 256``.

    Unlike ``irbench.inference.options.describe`` this also lists settings equal to the default,
    because a variant may restore a default.
    """
    words = {
        "dtype": str, "channels_last": lambda on: "channels last" if on else "not channels last",
        "compile": lambda on: "compiled" if on else "not compiled",
        "tile": lambda t: {"auto": "tiles where needed", "off": "never in tiles"}.get(
            t, f"tiles of {t}"),
        "overlap": lambda px: "usual overlap" if px is None else f"overlap {px}",
        "memory_gib": lambda n: "usual memory" if n is None else f"at most {n:g} GiB",
        "self_ensemble": lambda on: SELF_ENSEMBLE if on else "no self-ensemble"}
    known = [how(settings[key]) for key, how in words.items() if key in settings]
    return ", ".join(known + [f"{k} = {v}" for k, v in settings.items() if k not in words])


def wrap(title: str, width: int, lines: int = 2) -> str:
    """Break a title for a plot into at most ``lines`` lines; shorten it with an ellipsis."""
    return "\n".join(textwrap.wrap(title, width, max_lines=lines, placeholder="…") or [title])


def input_size(shape: dict) -> str:
    """Return ``1×3×64×64`` for a profile's input (batch, channels, height, width)."""
    return "×".join(str(shape.get(k, "?")) for k in ("batch", "channels", "height", "width"))


def protocol_sentence(definition: dict | None) -> str:
    """Describe a protocol definition in one sentence; unknown fields are printed as they are."""
    if not definition:
        return "its definition was not given."
    parts = [str(definition.get("title") or definition.get("id") or "untitled")]
    degradation = definition.get("degradation") or {}
    own = bool(set(degradations.kinds(degradation)) & set(degradations.SYNTHETIC))
    if degradation:
        parts.append(_degradation(degradation))
    if definition.get("gray"):
        parts.append(_GRAY.get(definition["gray"], f"gray: {definition['gray']}"))
    if definition.get("seed") is not None:
        named = " with its name" if own else ""
        parts.append(f"seed {definition['seed']}{named} before each image")
    parts += _metric(dict(definition.get("metric") or {}))
    if definition.get("source"):
        parts.append("after " * (not own) + definition["source"])
    return "; ".join(parts) + "."


def _degradation(degradation: dict) -> str:
    """Describe how the input is made: each step with its parameters, in their order."""
    words = []
    for step in degradations.steps(degradation):
        settings = dict(step)
        kind = str(settings.pop("kind", "unnamed"))
        if kind == "paired":
            return _paired(settings)
        words.append(_fields(_KINDS.get(kind, kind), settings))
    return "degradation: " + ", then ".join(words)


def _paired(settings: dict) -> str:
    """Describe pairs of degraded and clean images, and changes to their size."""
    multiple, longest = settings.pop("multiple", 1), settings.pop("longest", None)
    scale = settings.pop("scale", 1)
    size = "; ".join(filter(None, [
        f"both resized to sides that are multiples of {multiple}" if multiple != 1 else "",
        f"the longer side at most {longest} px" if longest else "",
        f"the target {scale} times as large, cropped to a multiple of {scale}" if scale != 1
        else ""])) or "sizes untouched"
    return _fields(f"pairs of degraded and clean images; {size}", settings)


def _metric(metric: dict) -> list[str]:
    parts = []
    color = metric.pop("color", None)
    rounded = metric.pop("y_rounded", None)
    if color:
        y = "" if color != "y" or rounded is None else " rounded" if rounded else " unrounded"
        parts.append(f"scored on {_COLORS.get(color, color)}{y}")
    if "gray_files" in metric:
        given = metric.pop("gray_files")
        parts.append(_GRAY_FILES.get(given, f"gray files: {given}"))
    if "crop" in metric:
        crop = metric.pop("crop")
        parts.append(f"border of {crop} px cut" if crop else "no border cut")
    if "ssim" in metric:
        ssim = metric.pop("ssim")
        parts.append(_SSIM.get(ssim, f"SSIM {ssim}"))
    return parts + [f"{key} {metric[key]}" for key in sorted(metric)]


def _fields(kind: str, fields: dict) -> str:
    return kind + (f" ({', '.join(f'{k} {v}' for k, v in sorted(fields.items()))})"
                   if fields else "")


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "×": r"$\times$", "σ": r"$\sigma$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "–": "--", "—": "---", "·": r"$\cdot$", "→": r"$\rightarrow$", "±": r"$\pm$",
    "≤": r"$\leq$", "≥": r"$\geq$", "μ": r"$\mu$", "’": "'", "[": "{[}", "]": "{]}",
    "†": r"$\dagger$", "≈": r"$\approx$",
}


def latex(text: str) -> str:
    """Escape text for LaTeX that only uses booktabs; brackets cannot become options."""
    text = forms.shown(text).replace('"', "''")      # \textquotedbl needs T1 fonts
    return "".join(_LATEX.get(letter, letter) for letter in text)


def markdown(text: str) -> str:
    """Escape text for a Markdown table cell."""
    text = forms.shown(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_|\[\]~])", r"\\\1", text)
