"""Figures for print: letters embedded, readable and not clipped, colours that all can tell."""

import itertools
import re
import zlib

import matplotlib
import numpy as np
import pytest
from PIL import Image

from irbench.present import style
from irbench.report import collect
from irbench.report.plots import (
    attention,
    crops,
    curves,
    distributions,
    ksweep,
    latency,
    quality,
    radar,
    scaling,
)
from tests.helpers import report_fast
from tests.helpers import report_fixtures as fixtures

MODULES = (quality, latency, distributions, radar, crops, curves, ksweep, scaling, attention)


def collected(builder):
    return collect.collect(builder.folder, builder.plan)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    builder = fixtures.small_run(folder)
    builder.plan["formats"] = ["pdf", "svg"]
    run = collected(builder)
    for module in (quality, latency, curves):
        assert len(module.draw(run).figures) == 1
    return folder / "figures"


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["quality", "latency", "training"])
def test_files_are_ready_for_print_and_undated(drawn, stem):
    with Image.open(drawn / f"{stem}.png") as image:
        assert round(image.info["dpi"][0]) == 300
        assert not {"Software", "Creation Time", "date:create"} & set(image.info)
        assert len(image.convert("L").getcolors(256)) > 16       # not blank
    raw = (drawn / f"{stem}.pdf").read_bytes()
    assert b"/CIDFontType2" in raw and b"/Type3" not in raw and b"/FontFile2" in raw
    assert not re.search(rb"/(CreationDate|Producer|Creator)\b", raw)
    streams = re.findall(rb"stream\r?\n(.*?)endstream", raw, re.S)
    assert any(b"Tj" in _inflate(s) or b"TJ" in _inflate(s) for s in streams)
    drawing = (drawn / f"{stem}.svg").read_text()
    assert drawing.startswith("<?xml") and drawing.rstrip().endswith("</svg>")
    assert not re.search("<text|<dc:date|<dc:creator|[Mm]atplotlib v", drawing)


def _inflate(stream):
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return b""


# -- letters -------------------------------------------------------------------------------------

def wide_run(folder):
    """Many models with long names on four sets of many images, kept images, published figures."""
    builder = fixtures.Builder(folder)
    random = np.random.default_rng(0)
    for name, count in (("set5", 5), ("set14", 14), ("bsd100", 40), ("photos", 2)):
        builder.dataset(name, name.upper(), count)
    builder.model("bicubic", "Bicubic interpolation, the baseline", learned=False)
    for i, letter in enumerate("abcde"):
        builder.model(letter, f"Restoration network {letter}, with a long name")
        builder.profile("sr-x4@1", letter, {"parameters": 300_000 * 2**i, "macs": 10**9 * 3**i,
                                            "latency_ms": {"p50": 3.0 * 4**i, "p90": 4.0 * 4**i,
                                                           "samples": [3.0 * 4**i] * 5}})
    for name in builder.plan["datasets"]:
        count = builder.plan["datasets"][name]["count"]
        base = random.normal(29, 2, count)
        for i, model in enumerate(builder.plan["models"]):
            psnr = base + i * 0.7 * (1 if i % 2 else random.uniform(0.3, 1.5))
            if name == "photos":
                for image in ("image0", "image1", "_target", "_input"):
                    part = image if image.startswith("_") else model
                    pixels = random.integers(0, 256, (60, 90, 3), np.uint8)
                    for one in (("image0", "image1") if part == image else (image,)):
                        builder.image("sr-x4@1", name, part, one, pixels)
            builder.cell("sr-x4@1", name, model,
                         {"psnr": [float(v) for v in psnr], "ssim": [0.9] * count},
                         kept=name == "photos")
    return builder


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Every figure of three runs, as matplotlib holds it: stem -> figure."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", lambda figure, folder, stem, kinds: found.__setitem__(
            f"{folder.name[:5]}/{stem}", figure))
        for build in (report_fast.fast_run, fixtures.small_run, wide_run):
            run = collected(build(tmp_path_factory.mktemp(build.__name__[:5])))
            for module in MODULES:
                module.draw(run)
    with style.look():
        for figure in found.values():           # texts take their final places
            figure.draw_without_rendering()
    return found


def texts(figure):
    """(text, box in display pixels) of what is drawn."""
    renderer = figure.canvas.get_renderer()
    found = figure.findobj(lambda one: isinstance(one, matplotlib.text.Text)
                           and one.get_visible() and one.get_text().strip())
    hidden = {label for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)
              for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
              for label in (tick.label1, tick.label2)
              if not label.get_visible() or not ax.axison
              or not _inside(axis, tick.get_loc())}
    return [(one, _box(one, renderer)) for one in found if one not in hidden]


def _box(one, renderer):
    """The box of a text without the empty lines at its end, which make room for another."""
    box = one.get_window_extent(renderer)
    words = one.get_text()
    lines = words.count("\n") + 1
    empty = len(words) - len(words.rstrip("\n"))
    return matplotlib.transforms.Bbox.from_extents(
        box.x0, box.y0 + box.height * empty / lines, box.x1, box.y1)


def _inside(axis, place):
    low, high = sorted(axis.get_view_interval())
    return low <= place <= high


@pytest.mark.slow
def test_every_figure_is_looked_at(kept):
    stems = {name.partition("/")[2].partition("-")[0] for name in kept}
    assert stems == {"quality", "latency", "distributions", "radar", "crops", "training", "ksweep",
                     "scaling", "attention"}


@pytest.mark.slow
def test_letters_are_readable_and_none_is_clipped(kept):
    small, clipped = [], []
    for name, figure in kept.items():
        assert figure.get_figwidth() <= style.WIDTH + 1e-6, name
        assert figure.get_figheight() <= 13, name
        frame = figure.bbox.padded(1)
        for text, box in texts(figure):
            if text.get_fontsize() < style.SMALL:
                small.append((name, text.get_text()))
            if not (frame.x0 <= box.x0 and box.x1 <= frame.x1
                    and frame.y0 <= box.y0 and box.y1 <= frame.y1):
                clipped.append((name, text.get_text()))
    assert (small, clipped) == ([], [])


@pytest.mark.slow
def test_no_two_texts_overlap(kept):
    assert [(name, a.get_text(), b.get_text()) for name, figure in kept.items()
            for (a, one), (b, other) in itertools.combinations(texts(figure), 2)
            if one.padded(-0.6).overlaps(other.padded(-0.6))] == []


# -- colours -------------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes 2009, severity 1: linear RGB as it is seen
SEEN = {
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}
TOLD = 10.0                     # CIE76; 2.3 is just noticed


def lab(linear):
    """CIELAB (N, 3) of linear sRGB (N, 3) at D65."""
    xyz = linear @ np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                             [0.0193339, 0.1191920, 0.9503041]]).T / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > (6 / 29)**3, np.cbrt(xyz), xyz / (3 * (6 / 29)**2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]),
                     200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("eyes", SEEN)
def test_colours_differ_for_all_eyes(eyes):
    colours = np.array([c[:3] for c in style.colors([f"m{i}" for i in range(10)]).values()])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = lab(np.clip(linear @ np.array(SEEN[eyes]).T, 0, 1))
    for i, j in itertools.combinations(range(10), 2):
        assert np.linalg.norm(seen[i] - seen[j]) > TOLD, (eyes, i, j)
    white = lab(np.ones((1, 3)))
    assert np.linalg.norm(seen - white, axis=1).min() > 20


def test_colour_and_marker_together_name_a_model():
    names = [f"m{i}" for i in range(100)]
    hues, shapes = style.colors(names), style.markers(names)
    assert len({(hues[name], shapes[name]) for name in names}) == 100


def test_drawing_changes_no_global_setting(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    latency.draw(collected(fixtures.small_run(tmp_path)))
    assert dict(matplotlib.rcParams) == before


def test_each_model_keeps_its_colour_and_marker():
    names = [f"m{i}" for i in range(8)]
    assert len(set(style.colors(names).values())) == len(set(style.markers(names).values())) == 8
    assert style.colors(names)["m3"] == style.colors(names[:4])["m3"]
