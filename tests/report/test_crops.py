"""Visual comparison: the window is where the models differ most, and what is shown is measured."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from irbench.report import collect
from irbench.report.plots import crops, window
from tests.helpers import report_fixtures as fixtures


def collected(builder):
    return collect.collect(builder.folder, builder.plan)


def stems(drawing):
    return [figure.stem for figure in drawing.figures]


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@given(st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=25)
def test_disagreement_is_the_variance(count, seed):
    images = [noise(seed + i, 5, 7, 3) for i in range(count)]
    expected = np.var(np.stack(images).astype(float), axis=0).sum(axis=2) * count**2
    assert np.array_equal(window.disagreement(images), expected.round().astype(np.int64))


@given(st.integers(0, 99), st.integers(1, 6), st.integers(1, 3))
@settings(max_examples=40)
def test_window_is_the_largest_sum(seed, side, step):
    spread = noise(seed, 9, 11).astype(np.int64) % 4        # many ties
    top, left, score = window.largest(spread, side, step)
    sums = {(t, x): int(spread[t:t + side, x:x + side].sum())
            for t in range(0, 10 - side, step) for x in range(0, 12 - side, step)}
    assert score == max(sums.values())
    assert (top, left) == min(place for place, total in sums.items() if total == score)


def sr_images(folder, scale=2, size=60, models=("a", "b")):
    """Two images; the models differ at rows 40-49, columns 30-39 of the second."""
    builder = fixtures.Builder(folder)
    builder.dataset("photos", "Photos", 2)
    protocol = f"sr-x{scale}@1"
    for model in models:
        builder.model(model, model.upper())
    for i, image in enumerate(("first", "second")):
        target = noise(i, size, size, 3)
        builder.image(protocol, "photos", "_target", image, target)
        builder.image(protocol, "photos", "_input", image, target[::scale, ::scale])
        for k, model in enumerate(models):
            restored = target.copy()
            if image == "first":
                restored[:] = 255 - restored            # all alike, all far from the target
            if image == "second" and k:
                restored[40:50, 30:40] ^= 255
            builder.image(protocol, "photos", model, image, restored)
    for model in models:
        builder.cell(protocol, "photos", model, {"psnr": [30.0, 31.5], "ssim": [0.9, 0.9125]},
                     images=["first", "second"], kept=True)
    return builder


def test_the_window_is_where_the_models_differ(tmp_path):
    builder = sr_images(tmp_path)
    run = collected(builder)
    choice = window.choose(run.folder, run.cells, ["first", "second"])
    assert (choice.name, choice.side, choice.scale) == ("second", 24, 2)
    assert choice.top % 2 == choice.left % 2 == 0
    assert choice.top <= 40 and choice.top + choice.side >= 50
    assert choice.left <= 30 and choice.left + choice.side >= 40
    assert (choice.top, choice.left) == (26, 16)            # the first of those that tie


def test_crops_are_drawn_and_described(tmp_path):
    run = collected(sr_images(tmp_path))
    drawing = crops.draw(run)
    assert stems(drawing) == ["crops-sr-x2@1-photos"] and not drawing.left_out
    caption = drawing.figures[0].caption
    for part in ("image second", "24×24 pixels from row 26, column 16",  # noqa: RUF001
                 "among 2 of 2 images", "enlarged ×2"):  # noqa: RUF001
        assert part in caption
    one, = crops.comparisons(run)
    assert (one.protocol, one.dataset, one.name, one.top, one.left, one.side) == (
        "sr-x2@1", "photos", "second", 26, 16, 24)
    assert [version.label for version in one.versions] == ["Input", "A", "B", "Target"]
    assert all(version.path.is_file() for version in one.versions)
    assert one.versions[1].scores == {"psnr": 31.5, "ssim": 0.9125}
    assert one.versions[0].scores == one.versions[-1].scores == {}
    assert crops.scores(one.versions[1]) == "PSNR 31.50 dB\nSSIM 0.9125"


def test_a_score_that_is_unknown_is_not_a_number(tmp_path):
    version = crops.Version("A", tmp_path / "a.png", {"psnr": 31.5})
    assert crops.scores(version) == "PSNR 31.50 dB\nSSIM n/a"


def test_networks_choose_the_window_where_there_are_two(tmp_path):
    builder = sr_images(tmp_path, models=("a", "b"))
    builder.model("plain", "Plain", learned=False)
    for image in ("first", "second"):           # far from both, everywhere
        builder.image("sr-x2@1", "photos", "plain", image, noise(9, 60, 60, 3))
    builder.cell("sr-x2@1", "photos", "plain", {"psnr": [9.0, 9.0], "ssim": [0.1, 0.1]},
                 images=["first", "second"], kept=True)
    one, = crops.comparisons(run := collected(builder))
    assert (one.name, one.top, one.left, one.judged) == ("second", 26, 16, ("a", "b"))
    assert [v.label for v in one.versions] == ["Input", "A", "B", "Plain", "Target"]
    assert "results of A and B differ most" in crops.draw(run).figures[0].caption
    one, = crops.comparisons(collect.collect(builder.folder, {**builder.plan, "cells": [
        c for c in builder.plan["cells"] if c["model"] != "b"]}))
    assert one.judged == ("a", "plain")         # one network alone differs from nothing


def test_an_input_that_a_model_returns_is_shown_once(tmp_path):
    builder = sr_images(tmp_path, scale=1)
    builder.model("input", "Input", learned=False)
    for i, image in enumerate(("first", "second")):
        builder.image("sr-x1@1", "photos", "input", image, noise(i, 60, 60, 3))
    builder.cell("sr-x1@1", "photos", "input", {"psnr": [9.0, 9.0], "ssim": [0.1, 0.1]},
                 images=["first", "second"], kept=True)
    one, = crops.comparisons(collected(builder))
    assert [(v.label, bool(v.scores)) for v in one.versions] == [
        ("A", True), ("B", True), ("Input", True), ("Target", False)]


@given(st.integers(0, 99), st.booleans())
@settings(max_examples=20)
def test_an_error_is_in_levels_and_has_no_sign(seed, gray):
    shape = (6, 5) if gray else (6, 5, 3)
    a, b = noise(seed, *shape), noise(seed + 1, *shape)
    apart = np.abs(a.astype(float) - b.astype(float))
    assert np.allclose(crops.error(a, b), apart if gray else apart.mean(axis=2))
    assert crops.error(a, b).shape == (6, 5) and not crops.error(a, a).any()
    assert np.array_equal(crops.error(a, b), crops.error(b, a))


@given(st.lists(st.integers(0, 255), min_size=1, max_size=300))
def test_the_scale_of_errors_holds_nearly_all(values):
    errors = np.array(values, float)
    end = crops.scale_end([errors, np.zeros(3)])
    assert crops.LEAST_ERROR <= end <= 255
    assert (errors > end).mean() <= 0.005 + 1 / len(values)


def test_few_pixels_do_not_stretch_the_scale():
    errors = np.full(1000, 5.0)
    errors[:4] = 190.0
    assert crops.scale_end([errors]) == 8
    errors[:9] = 190.0
    assert crops.scale_end([errors]) == 200


def test_windows_of_small_images_compete_per_pixel(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.dataset("photos", "Photos", 2)
    for model, level in (("a", 0), ("b", 1)):
        builder.model(model, model.upper())
        for image, size, apart in (("small", 60, 20), ("large", 240, 10)):
            pixels = np.full((size, size), 100 + level * apart, np.uint8)
            builder.image("sr-x1@1", "photos", model, image, pixels)
            builder.image("sr-x1@1", "photos", "_target", image, pixels)
        builder.cell("sr-x1@1", "photos", model, {"psnr": [30.0, 30.0], "ssim": [0.9, 0.9]},
                     images=["small", "large"], kept=True)
    one, = crops.comparisons(collected(builder))
    assert (one.name, one.side) == ("small", 24)


def test_one_model_is_compared_with_the_target(tmp_path):
    builder = sr_images(tmp_path)
    builder.plan["cells"] = [c for c in builder.plan["cells"] if c["model"] == "b"]
    run = collected(builder)
    assert window.choose(run.folder, run.cells, ["first", "second"]).name == "first"
    assert "from the target" in crops.draw(run).figures[0].caption


def test_no_kept_images_no_figure(tmp_path):
    run = collected(fixtures.small_run(tmp_path))
    drawing = crops.draw(run)
    assert not drawing.figures and "sr-x2@1 on Set5" in drawing.left_out[0]
    assert not (tmp_path / "figures").exists()


def test_images_outside_the_run_folder_are_not_read(tmp_path):
    builder = sr_images(tmp_path / "run")
    path = builder.folder / "cells/sr-x2@1/photos/a.json"
    path.write_text(path.read_text().replace("images/sr-x2@1", "../images/sr-x2@1"))
    shutil.copytree(builder.folder / "images", tmp_path / "images")
    run = collected(builder)
    assert window.files(run.folder, run.cells[0]) == {}
    assert len(window.files(run.folder, run.cells[1])) == 2


def test_images_of_another_size_give_a_sentence(tmp_path):
    builder = sr_images(tmp_path)
    for image in ("first", "second"):
        builder.image("sr-x2@1", "photos", "a", image, noise(0, 10, 10, 3))
    drawing = crops.draw(collected(builder))
    assert not drawing.figures and "differ in size" in drawing.left_out[0]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA", "I;16"])
def test_the_shape_of_an_image_needs_no_decoding(tmp_path, mode):
    Image.new(mode, (5, 3)).save(path := tmp_path / "a.png")
    assert window.shape(path) == window.load(path).shape
