"""The radar: drawn where profiles differ, from one zero, and nowhere else."""

import pytest

from irbench.report import collect
from irbench.report.plots import radar
from tests.helpers import report_fixtures as fixtures

X2 = "sr-x2@1"


def collected(folder, scores):
    """``scores``: model -> PSNR on the sets a, b, c, ...; those named plain have no weights."""
    builder = fixtures.Builder(folder)
    for model, values in scores.items():
        builder.model(model, model.upper(), learned=not model.startswith("plain"))
        for name, value in zip("abcd", values, strict=False):
            builder.dataset(name, name.upper(), 1)
            builder.cell(X2, name, model, {"psnr": [value], "ssim": [0.9]})
    return collect.collect(builder.folder, builder.plan)


def test_the_radius_is_the_gain_over_the_one_without_weights(tmp_path):
    run = collected(tmp_path, {"plain": [30.0, 28.0, 20.0], "x": [31.0, 30.0, 23.0],
                               "y": [30.5, 31.0, 22.0]})
    panel, = radar.panels(run)
    assert panel.base == "plain" and panel.sets == ["a", "b", "c"]
    assert panel.gains == {"x": [1.0, 2.0, 3.0], "y": [0.5, 3.0, 2.0]}
    assert panel.apart == pytest.approx(1 / 3)
    drawn, = radar.draw(run).figures
    assert drawn.stem == "radar" and (tmp_path / "figures/radar.svg").exists()
    assert "over PLAIN" in drawn.caption and "areas have no meaning" in drawn.caption
    assert "X 1.00 dB on A, 2.00 dB on B, 3.00 dB on C" in drawn.alt


@pytest.mark.parametrize("scores", [
    {"plain": [30, 28], "x": [31, 30], "y": [30, 31]},                      # two sets
    {"plain": [30, 28, 20], "x": [31, 30, 23]},                             # one network
    {"x": [31, 30, 23], "y": [30, 31, 22]},                                 # nothing to gain over
    {"plain": [30, 28, 20], "plain2": [29, 27, 19], "x": [31, 30, 23], "y": [30, 31, 22]},
    {"plain": [30, 28, 20], "x": [33, 31, 23], "y": [33.1, 31.1, 23.1]},    # alike: 3 % of 3.1 dB
    {"plain": [30, 28, 20], "x": [30, 28, 20], "y": [30, 28, 20]},          # no gain at all
    {"plain": [30, 28, 20], "x": [31, 30, 23], "y": [30, 31]},              # not on every set
])
def test_where_it_says_nothing_there_is_none(tmp_path, scores):
    drawing = radar.draw(collected(tmp_path, {m: [float(v) for v in values]
                                              for m, values in scores.items()}))
    assert not drawing.figures and not drawing.left_out
    assert not (tmp_path / "figures").exists()


def test_a_loss_is_drawn_too(tmp_path):
    run = collected(tmp_path, {"plain": [30.0, 28.0, 20.0], "x": [29.0, 27.0, 18.0],
                               "y": [29.5, 27.5, 19.5]})
    assert "X -1.00 dB on A" in radar.draw(run).figures[0].alt
