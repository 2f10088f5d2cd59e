"""PSNR of each image: only images that compare are compared, and chance is named."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.text import Text

from irbench.core import statistics
from irbench.present import style
from irbench.report import collect
from irbench.report.plots import distributions
from tests.helpers import report_fixtures as fixtures

X2 = "sr-x2@1"


def collected(builder):
    return collect.collect(builder.folder, builder.plan)


def built(folder, scores, count=None, learned=()):
    """One set; ``scores``: model -> PSNR of each image."""
    builder = fixtures.Builder(folder)
    builder.dataset("photos", "Photos", count or len(next(iter(scores.values()))))
    for model, values in scores.items():
        builder.model(model, model.upper(), learned=model not in ("input", "bicubic"))
        builder.cell(X2, "photos", model, {"psnr": values, "ssim": [0.9] * len(values)})
    return builder


def test_differences_are_paired_and_to_the_best(tmp_path):
    run = collected(built(tmp_path, {"a": [30.0, 34.0, 32.0], "b": [31.0, 33.0, 35.0],
                                     "bicubic": [20.0, 21.0, 22.0]}))
    row, = distributions.rows(run)
    assert row.best == "b" and list(row.psnr) == ["b", "a", "bicubic"]
    assert np.array_equal(row.against["a"], [-1.0, 1.0, -3.0])
    assert set(row.against) == {"a"}            # not the one without weights: two have them
    assert distributions.judge([row]) == 1
    assert row.verdicts["a"] == statistics.verdict([-1.0, 1.0, -3.0], X2, "photos", "a", "b",
                                                    least=0.001)
    drawing = distributions.draw(run)
    assert [f.stem for f in drawing.figures] == ["distributions"]
    assert [p.name for p in (tmp_path / "figures").iterdir()] == ["distributions.svg"]
    caption, alt = drawing.figures[0].caption, drawing.figures[0].alt
    assert "sr-x2@1 on Photos: 3." in caption and "fewer than 6 images" in caption
    assert "the differences omit models without weights" in caption
    assert "A 30.00 to 34.00 dB, mean 32.00 dB, -1.000 dB to the best (not significant)" in alt


def test_one_network_is_compared_with_what_has_no_weights(tmp_path):
    row, = distributions.rows(collected(built(tmp_path, {"a": [30.0, 34.0],
                                                         "input": [20.0, 21.0]})))
    assert np.array_equal(row.against["input"], [-10.0, -13.0])


def test_models_are_compared_by_the_name_of_the_image(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.dataset("photos", "Photos", 2)
    for model, names, psnr in (("a", ["x", "y"], [30.0, 40.0]), ("b", ["y", "x"], [39.0, 31.0])):
        builder.model(model, model.upper())
        builder.cell(X2, "photos", model, {"psnr": psnr, "ssim": [0.9, 0.9]}, images=names)
    row, = distributions.rows(collected(builder))
    assert row.images == ["x", "y"] and sorted(row.against["b"]) == [-1.0, 1.0]


@pytest.mark.parametrize("scores", [
    {"a": [30.0, 31.0]},                                    # one model
    {"a": [30.0], "b": [31.0]},                             # one image
    {"a": [30.0, 31.0], "b": [30.0, None]},                 # a mean that nobody may show
])
def test_nothing_to_see_no_figure(tmp_path, scores):
    drawing = distributions.draw(collected(built(tmp_path, scores)))
    assert not drawing.figures and not drawing.left_out
    assert not (tmp_path / "figures").exists()


def test_another_set_of_images_is_not_compared(tmp_path):
    builder = built(tmp_path, {"a": [30.0, 31.0], "b": [30.0, 32.0]})
    builder.model("c", "C")
    builder.cell(X2, "photos", "c", {"psnr": [50.0, 51.0], "ssim": [0.9, 0.9]},
                 images=["image0", "other"])
    row, = distributions.rows(collected(builder))
    assert set(row.psnr) == {"a", "b"}


def test_the_same_scores_are_no_change(tmp_path):
    run = collected(built(tmp_path, {"a": [30.0, 31.0], "b": [30.0, 31.0]}))
    row, = distributions.rows(run)
    assert distributions.judge([row]) == 0 and row.verdicts["b"].word == statistics.SAME
    assert "no change" in distributions.draw(run).figures[0].alt


def test_the_verdicts_of_a_figure_are_one_family(tmp_path):
    six = [30.0, 31.0, 32.0, 33.0, 34.0, 35.0]
    two = {"a": six, "b": [x - 0.5 for x in six]}
    alone = distributions.draw(collected(built(tmp_path / "two", two))).figures[0]
    assert "(significant)" in alone.alt and "Holm" not in alone.caption
    three = distributions.draw(collected(built(
        tmp_path / "three", {**two, "c": [x - 0.7 for x in six]}))).figures[0]
    assert "(significant)" not in three.alt
    assert "Holm's correction for the 2 comparisons of this figure" in three.caption


def test_many_images_are_spread(tmp_path):
    values = np.random.default_rng(0).normal(30, 2, 60)
    run = collected(built(tmp_path, {"a": [*values], "b": [*values + 0.1]}))
    caption = distributions.draw(run).figures[0].caption
    assert "sr-x2@1 on Photos: 60." in caption and "one line per image" not in caption


@pytest.mark.parametrize("count", [3, 60])
def test_no_text_leaves_the_figure(tmp_path, monkeypatch, count):
    """The panels are placed by hand, which is quicker than matplotlib's layout."""
    values = np.random.default_rng(1).normal(30, 2, count)
    builder = built(tmp_path, {"a": [*values], "b": [*values - 0.1], "bicubic": [*values - 3]})
    builder.plan["models"]["a"]["title"] = "W" * 60
    builder.plan["models"]["b"]["title"] = "A method of a long and winding name " * 2
    made = []
    monkeypatch.setattr(style, "save", lambda figure, *_: made.append(figure))
    distributions.draw(collected(builder))
    figure, = made
    figure.draw_without_rendering()
    shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert len(shown) > 15
    for text in shown:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width, text.get_text()
        assert box.y0 >= 0 and box.y1 <= figure.bbox.height, text.get_text()
    left, right = figure.axes
    names = [text.get_window_extent() for text in left.get_yticklabels()]
    assert all(a.y0 >= b.y1 for a, b in pairwise(names))
    assert right.get_position().x0 > left.get_position().x1
