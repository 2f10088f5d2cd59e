"""Plots: labels do not overlap, files are fit for print, and there is no plot without data."""

import pytest
from matplotlib.figure import Figure

from irbench.present import labels, style
from irbench.report import collect
from irbench.report.plots import crops, curves, latency, quality
from tests.helpers import report_fixtures as fixtures


def collected(builder):
    return collect.collect(builder.folder, builder.plan)


def stems(drawing):
    return [figure.stem for figure in drawing.figures]


# -- labels --------------------------------------------------------------------------------------

def test_labels_overlap_neither_each_other_nor_markers():
    with style.look():
        figure = style.figure(3.0, 4.0)
        ax = figure.subplots()
        ax.set_xlim(0, 10)
        ax.set_ylim(0, 10)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        points = [labels.Point(4 + 0.25 * i, 5 + 0.2 * (i % 3), f"method {i}", 2.0, "black")
                  for i in range(9)]
        gone = labels.place(ax, points)
        renderer = figure.canvas.get_renderer()
        boxes = [t.get_window_extent(renderer) for t in ax.texts]
        dots = [labels._box(*ax.transData.transform((p.x, p.y)), 1.5 * figure.dpi / 72)
                for p in points]
        frame = ax.get_window_extent(renderer)
    assert len(boxes) + len(gone) == 9 and len(boxes) >= 7
    for i, box in enumerate(boxes):
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1
        assert frame.y0 <= box.y0 and box.y1 <= frame.y1
        assert not any(box.overlaps(other) for other in boxes[i + 1:])
        assert not any(box.overlaps(dot) for dot in dots)


def test_a_label_without_room_is_reported():
    with style.look():
        figure = style.figure(0.6, 0.6)
        ax = figure.add_axes((0, 0, 1, 1))
        figure.set_layout_engine("none")
        point = labels.Point(0.5, 0.5, "a name wider than the axes", 2.0, "black")
        assert labels.place(ax, [point]) == [point]
        assert not ax.texts


def test_segments():
    box = labels._box(5, 5, 1)
    assert labels._crosses((0, 0, 10, 10), box) and labels._crosses((5, 0, 5, 10), box)
    assert not labels._crosses((0, 0, 3, 3), box) and not labels._crosses((0, 5, 3, 5), box)
    assert labels._cut((0, 0, 2, 2), (0, 2, 2, 0)) and not labels._cut((0, 0, 1, 1), (2, 0, 3, 1))


# -- charts --------------------------------------------------------------------------------------

def test_latencies_of_two_conditions_share_no_axis(tmp_path):
    builder = fixtures.Builder(tmp_path)
    for model, threads in (("a", 1), ("b", 2), ("c", 1)):
        builder.model(model, model)
        builder.profile("sr-x2@1", model, {"threads": threads})
    builder.profile("sr-x2@1", "c", {"device": "cuda", "device_name": "GPU", "threads": 1})
    drawing = latency.draw(collected(builder))
    caption = drawing.figures[0].caption
    for part in ("Some CPU, float32, 3×64×64, batch 1, 1 thread;",  # noqa: RUF001
                 "batch 1, 2 threads", "GPU, float32, 3×64×64, batch 1."):  # noqa: RUF001
        assert part in caption
    assert drawing.figures[0].alt.count(" on ") == 3


def test_no_data_no_figure(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.model("a", "A")
    builder.profile("sr-x2@1", "a", status="failed", reason="out of memory")
    builder.training("sr-x2@1", "a", status="failed", reason="NaN")
    run = collected(builder)
    for module in (quality, latency, curves, crops):
        assert not module.draw(run).figures
    assert "out of memory" in latency.draw(run).left_out[0]
    assert "no training recorded a curve" in curves.draw(run).left_out[0]
    assert not (tmp_path / "figures").exists()


def test_running_mean():
    assert curves.running_mean([1.0, 3.0]) == [1.0, 3.0]         # too short to smooth
    losses = [float(i) for i in range(24)]
    assert curves.running_mean(losses)[:3] == [0.0, 0.5, 1.5]
    assert len(curves.running_mean(losses)) == 24


@pytest.mark.parametrize("arranged", [True, False])
def test_a_figure_is_drawn_once(tmp_path, monkeypatch, arranged):
    """Even without output, drawing takes most of a figure's time."""
    drawn, real = [], Figure.draw
    monkeypatch.setattr(Figure, "draw", lambda self, renderer: drawn.append(1) or real(
        self, renderer))
    with style.look():
        figure = style.figure(2.0, arranged=arranged)
        figure.subplots()
        style.save(figure, tmp_path, "quality", ["png"])
    assert len(drawn) == 1
