"""The conventions that give a figure are named: the simplest first, among them the best known."""

import json
import math

import numpy as np
import pytest
import torch
import yaml

from irbench import plan
from irbench.catalog import protocols
from irbench.cli import main
from irbench.core.errors import Unavailable, UserError
from irbench.fidelity import conventions, explain, inputs
from irbench.imaging import images
from irbench.weights import loading
from tests.helpers import tiny

SIZES = ((40, 52), (48, 44))


def make(folder, monkeypatch, *, gray=False, keep=True, protocol="sr-x2", model="bicubic",
         settings=None):
    """A run of one cell on two photographs (the second perhaps gray), evaluated."""
    monkeypatch.chdir(folder)
    tiny.make(folder)
    for file in (folder / "images" / "test").iterdir():
        file.unlink()
    for i, size in enumerate(SIZES):
        rng = np.random.default_rng(i)
        # not smooth alone: conventions must differ
        image = np.clip(tiny.photo(i, *size) + rng.normal(0, 12, (*size, 3)), 0, 255)
        image = image.astype(np.uint8)
        images.write_png(folder / "images" / "test" / f"img{i}.png",
                         image[..., :1] if gray and i else image)
    config = {"run": "one", "catalog_paths": [str(folder)], "metrics": ["psnr", "ssim"],
              "keep_images": keep, "device": "cpu", "models": {model: settings},
              "cells": [{"protocol": protocol, "datasets": ["tinyset"], "models": [model]}]}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["eval", "--protocol", protocol, "--dataset", "tinyset", "--model", model]) == 0
    return plan.load("config.yaml")


def job(run):
    return next(iter(run.cells.values()))


def pairs(folder, scale=2):
    """(restored, target) float64 RGB, by the definition of the protocol sr."""
    found = []
    for i in range(len(SIZES)):
        target = images.to_rgb(images.crop_to_multiple(
            images.read_image(folder / "images" / "test" / f"img{i}.png"), scale))
        # float32 between the steps, as models have it: some value always lies near a half
        small = images.to_float(images.imresize(target, 1 / scale)).astype(np.float64)
        restored = images.imresize(small, scale).astype(np.float32)
        found.append((np.clip(restored, 0, 1) * np.float64(255), target.astype(np.float64)))
    return found


def db(a, b):
    return 10 * math.log10(255**2 / np.mean((a - b) ** 2))


LIMITED = np.array([65.481, 128.553, 24.966]) / 255
FULL = np.array([0.299, 0.587, 0.114])


def cut(image, n):
    return image[n:-n, n:-n] if n else image


# what is scored, straight from each definition; then the words that must come out
DEFINITIONS = {
    "protocol": (lambda a, b: db(cut(np.round(a) @ LIMITED, 2), cut(b @ LIMITED, 2)), ()),
    "rounded": (lambda a, b: db(cut(np.round(np.round(a) @ LIMITED + 16), 2),
                                cut(np.round(b @ LIMITED + 16), 2)), ("Y rounded",)),
    "full": (lambda a, b: db(cut(np.round(a) @ FULL, 2), cut(b @ FULL, 2)),
             ("full-range luma (as pyiqa's YIQ) instead of Y (MATLAB's limited range)",)),
    "cv2": (lambda a, b: db(cut(np.round(np.round(a) @ FULL), 2), cut(np.round(b @ FULL), 2)),
            ("rounded full-range luma (as cv2's YCrCb) instead of Y (MATLAB's limited range)",)),
    "rgb": (lambda a, b: db(cut(np.round(a), 2), cut(b, 2)),
            ("RGB instead of Y (MATLAB's limited range)",)),
    "uncropped": (lambda a, b: db(np.round(a) @ LIMITED, b @ LIMITED),
                  ("border of 0 cropped instead of 2",)),
    "cropped by 4": (lambda a, b: db(cut(np.round(a), 4) @ LIMITED, cut(b, 4) @ LIMITED),
                     ("border of 4 cropped instead of 2",)),
    "both": (lambda a, b: db(np.round(a), b), ("RGB instead of Y (MATLAB's limited range)",
                                               "border of 0 cropped instead of 2")),
}


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    with pytest.MonkeyPatch.context() as patch:
        yield folder, make(folder, patch)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_convention_is_named(name, cell):
    folder, run = cell
    define, words = DEFINITIONS[name]
    figure = np.mean([define(a, b) for a, b in pairs(folder)])
    found = explain.explain(run, job(run), f"{figure:.6f}")
    assert found.outputs == "the saved images"
    assert found.causes[0].differences == words
    assert found.causes[0].value == pytest.approx(figure, abs=1e-6)
    assert found.distance(found.candidates[0]) <= found.distance(found.causes[0])


def test_outputs_that_were_not_rounded_need_the_model_again(cell):
    folder, run = cell
    figure = np.mean([db(cut(a @ LIMITED, 2), cut(b @ LIMITED, 2)) for a, b in pairs(folder)])
    saved = explain.explain(run, job(run), f"{figure:.6f}")
    assert saved.causes == ()
    assert "None of the " in saved.verdict
    assert "outputs not rounded" in saved.untried
    again = explain.explain(run, job(run), f"{figure:.6f}", rerun=True)
    assert again.causes[0].differences == ("outputs not rounded to uint8",)
    assert again.outputs == "computed again by running the model (asked to)"
    # what was saved and what is computed again are scored alike
    assert again.protocol.value == pytest.approx(saved.protocol.value, abs=1e-9)


def cubic(x, a):
    """Keys' kernel (1981)."""
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def resized(image, size, toolkit):
    """Bicubic of cv2 or Pillow, straight from the definition: (H, W, C) uint8, tap by tap."""
    out = image.astype(float)
    # Pillow rounds after each pass, W first; cv2 once, at the end
    for axis in (1, 0):
        n, m = out.shape[axis], size[axis]
        matrix = np.zeros((m, n))
        for i in range(m):
            centre = (i + 0.5) * n / m - 0.5
            wide = max(1.0, n / m) if toolkit == "pillow" else 1.0
            for j in range(math.floor(centre - 2 * wide), math.ceil(centre + 2 * wide) + 1):
                weight = cubic((j - centre) / wide, -0.5 if toolkit == "pillow" else -0.75)
                if toolkit == "cv2":
                    matrix[i, min(max(j, 0), n - 1)] += weight      # the edge is repeated
                elif 0 <= j < n:
                    matrix[i, j] += weight                          # taps outside are dropped
        matrix /= matrix.sum(axis=1, keepdims=True)
        out = np.moveaxis(np.tensordot(matrix, out, (1, axis)), 0, axis)
        if toolkit == "pillow":
            out = half_up(out)
    return half_up(out).astype(np.uint8)


def half_up(values):
    """Round to [0, 255]; doubling an image gives many exact halves, stored as 0.4999..."""
    return np.floor(np.clip(values, 0, 255) + 0.5 + 1e-9)


@pytest.mark.parametrize("toolkit", ["cv2", "pillow"])
@pytest.mark.parametrize("side", ["shrunk", "enlarged", "both"])
def test_the_bicubic_of_other_toolkits(toolkit, side, cell):
    folder, run = cell
    values = []
    for _, target in pairs(folder):
        target = target.astype(np.uint8)
        half = (target.shape[0] // 2, target.shape[1] // 2)
        small = (images.imresize(target, 0.5) if side == "enlarged"
                 else resized(target, half, toolkit))
        large = (np.round(np.clip(images.imresize(small.astype(float), 2), 0, 255))
                 if side == "shrunk" else resized(small, target.shape[:2], toolkit))
        values.append(db(cut(large @ LIMITED, 2), cut(target @ LIMITED, 2)))
    figure = np.mean(values)
    found = explain.explain(run, job(run), f"{figure:.3f}")
    words = {"shrunk": (inputs.INPUTS[toolkit],), "enlarged": (inputs.RUNS[toolkit],),
             "both": (inputs.INPUTS[toolkit], inputs.RUNS[toolkit])}[side]
    named, = (c for c in found.candidates if c.differences == words)
    # cv2 computes in whole numbers: one level in 1,500 values differs
    assert named.value == pytest.approx(figure, abs=2e-3 if toolkit == "cv2" else 1e-6)
    assert toolkit == "cv2" or named in found.matches
    assert abs(found.protocol.value - figure) > 4e-3        # a difference that counts


class Sensitive(torch.nn.Module):
    """Doubles each pixel, times the brightness of the whole input: padding changes every pixel."""

    def forward(self, x):
        large = x.repeat_interleave(2, -1).repeat_interleave(2, -2)
        return large * (0.9 + 0.2 * x.mean())


def continued(length, padded, how):
    """The indices that continue 0 .. length - 1, and -1 for a zero."""
    found = list(range(length))
    for i in range(length, padded):
        mirror = {"reflect": 2 * length - 2 - i, "flip": 2 * length - 1 - i,
                  "replicate": length - 1, "zeros": -1}[how]
        found.append(mirror)
    return found


@pytest.mark.parametrize(("how", "multiple"), [
    ("reflect", 8), ("reflect", 16), ("zeros", 8), ("replicate", 32), ("flip", 8)])
def test_padded_inputs(how, multiple, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "ready", lambda *_: (Sensitive(), None))
    run = make(tmp_path, monkeypatch, model="compacter",
               settings={"options": {"skip": "input"}, "checkpoint": "bundled"})
    values = []
    for i in range(len(SIZES)):
        target = images.read_image(tmp_path / "images" / "test" / f"img{i}.png")
        small = images.to_float(images.imresize(target, 0.5))
        # SwinIR adds a window even to what fits
        rows, columns = (continued(side, multiple * (
            side // multiple + 1 if how == "flip" else math.ceil(side / multiple)), how)
            for side in small.shape[:2])
        wide = np.concatenate([small, np.zeros((1, *small.shape[1:]), np.float32)])[rows]
        wide = np.concatenate([wide, np.zeros((len(rows), 1, 3), np.float32)], axis=1)[:, columns]
        bright = np.repeat(np.repeat(small, 2, 0), 2, 1) * np.float32(0.9 + 0.2 * wide.mean())
        restored = np.round(np.clip(bright, 0, 1) * 255)
        values.append(db(cut(restored @ LIMITED, 2), cut(target @ LIMITED, 2)))
    figure = f"{np.mean(values):.3f}"
    saved = explain.explain(run, job(run), figure)
    assert "input padded to a multiple of 8, 16, 32" in saved.untried
    assert not [c for c in saved.candidates if "padded" in c.text]
    found = explain.explain(run, job(run), figure, rerun=True)
    assert found.untried == ""
    words = [c.text for c in found.causes]
    assert inputs.RUNS[f"{how}{multiple}"] in words
    # 20x26 and 24x22 pixels: multiples of 16 and 32 give the same size, so both are named
    if multiple > 8:
        assert {inputs.RUNS[f"{how}16"], inputs.RUNS[f"{how}32"]} <= set(words)


def test_bicubic_of_y_alone(cell):
    """The old scripts: Y rounded to uint8, resampled in floating point, rounded."""
    folder, run = cell
    values = []
    for _, target in pairs(folder):
        y = np.round(target @ LIMITED + 16)[..., None]
        up = images.imresize(images.imresize(y, 0.5), 2)
        values.append(db(cut(np.round(np.clip(up, 0, 255)), 2), cut(y, 2)))
    found = explain.explain(run, job(run), f"{np.mean(values):.6f}")
    assert found.causes[0].differences == (inputs.INPUTS["y_only"],)


def test_the_mean_of_errors(cell):
    folder, run = cell
    errors = [np.mean((cut(np.round(a) @ LIMITED, 2) - cut(b @ LIMITED, 2)) ** 2)
              for a, b in pairs(folder)]
    figure = 10 * math.log10(255**2 / np.mean(errors))
    found = explain.explain(run, job(run), f"{figure:.6f}")
    assert found.causes[0].differences == ("PSNR of the mean squared error of all images",)


def test_ssim_of_scikit_image(cell):
    from skimage.metrics import structural_similarity

    folder, run = cell
    figure = np.mean([structural_similarity(
        cut(np.round(a) @ LIMITED + 16, 2), cut(b @ LIMITED + 16, 2), data_range=255)
        for a, b in pairs(folder)])
    found = explain.explain(run, job(run), f"{figure:.7f}", "ssim")
    assert found.causes[0].differences == (conventions.SSIM["uniform7"],)


def test_ssim_padded_with_zeros(cell):
    from scipy.ndimage import gaussian_filter

    def blur(plane):  # 11 taps of sigma 1.5
        return gaussian_filter(plane, 1.5, mode="constant", radius=5)

    folder, run = cell
    scores = []
    for a, b in pairs(folder):
        a, b = cut(np.round(a) @ LIMITED + 16, 2), cut(b @ LIMITED + 16, 2)
        m, n = blur(a), blur(b)
        c1, c2 = 2.55**2, 7.65**2
        scores.append(np.mean(
            (2 * m * n + c1) * (2 * (blur(a * b) - m * n) + c2)
            / ((m**2 + n**2 + c1) * (blur(a * a) - m**2 + blur(b * b) - n**2 + c2))))
    found = explain.explain(run, job(run), f"{np.mean(scores):.7f}", "ssim")
    assert found.causes[0].differences == (conventions.SSIM["gaussian11_same"],)


def explained(published, *values, half=0.005):
    """Make an explanation of (value, differences), the best known first."""
    return explain.Explanation(published, "psnr", "", "", tuple(sorted((
        explain.Candidate(value, words, abs(value - float(published)) <= half, order)
        for order, (value, words) in enumerate(values)),
        key=lambda c: abs(c.value - float(published)))))


def test_all_causes_are_named_the_best_known_first():
    found = explained("30.00", (30.09, ()), (30.003, ("c",)), (30.001, ("d",)),
                      (30.0, ("a", "b")), (30.002, ("b", "c")))
    assert [c.differences for c in found.causes] == [("c",), ("d",)]
    assert [c.differences for c in found.matches] == [("c",), ("d",), ("a", "b"), ("b", "c")]
    assert found.verdict.startswith("30.00 is consistent with: c; d (2 combinations of more also "
                                    "give it). Matches by ")
    many = explained("30.00", (30.09, ()), *((30.0 + i / 1e4, (name,))
                                             for i, name in enumerate("fedcba")))
    assert many.verdict.startswith("30.00 is consistent with: f; e; d; c; b; a. Matches")


def test_a_convention_beside_the_protocol_itself_is_named_too():
    """Two look alike: neither is the explanation."""
    found = explained("30.00", (30.004, ()), (30.0, ("a",)), (30.001, ("a", "b")))
    assert found.verdict.startswith("30.00 is consistent with: the protocol itself; a (1 "
                                    "combination of more also gives it). ")


def test_no_convention_that_fits_is_said():
    found = explained("30.00", (30.09, ()), (30.02, ("a",)), (29.9, ("b",)), (30.01, ("a", "b")))
    assert found.causes == found.matches == ()
    assert found.verdict.startswith(
        "None of the 2 conventions tried gives 30.00, nor does 1 combination of them. The nearest, "
        "30.01, is: a + b. Matches by chance")


def test_how_many_figures_would_have_a_match():
    """The union of the intervals that print alike, in 30.09 - 0.1 to 30.09 + 0.1."""
    found = explained("30.00", (30.001, ("a", "b")), (30.003, ("c",)), (30.09, ()),
                      (30.187, ("d",)), (31.0, ("e",)))
    # 30.09 +- 0.005; that of c, 30.003 +- 0.005; of d from 30.182 to the end, 30.19; a + b adds
    # 29.996 to 29.998
    assert found.shares == pytest.approx({0: 0.01 / 0.2, 1: 0.028 / 0.2, 2: 0.03 / 0.2})
    assert found.verdict.endswith(
        "Matches by chance, among figures within 0.1 of the protocol's own: 14% "
        "with 1 difference at most and 15% with 2 differences at most.")
    # what is farther is told of as many figures as lie nearer
    assert explained("30.50", (30.5, ("a",)), (30.0, ())).near == pytest.approx(0.5)
    assert explained("30.50", (30.5, ("a",)), (30.0, ())).shares[1] == pytest.approx(0.015)


@pytest.mark.parametrize(("values", "words"), [
    ([(30.0, ())], "the protocol itself. Matches by chance, among figures within "
                   "0.1 of the protocol's own: 5% without a difference."),
    ([(30.02, ()), (30.0, ("a",))], "a. Matches"),
    ([(30.02, ()), (30.0, ("a", "b")), (30.001, ("a", "c"))], "a + b; a + c. Matches"),
    ([(34.0, ()), (30.0, ("a",))], "a. Matches by chance, among figures within 4 of the "
                                   "protocol's own: under 1% with 1 difference at most."),
])
def test_a_match_is_never_called_the_explanation(values, words):
    assert explained("30.00", *values).verdict.startswith(f"30.00 is consistent with: {words}")


def test_a_figure_of_no_decimals_is_matched_by_anything():
    found = explained("30", (29.7, ("a",)), (29.4, ()), half=0.5)
    assert "consistent with: a." in found.verdict


def test_a_gray_file_in_a_colour_set(tmp_path, monkeypatch):
    run = make(tmp_path, monkeypatch, gray=True, protocol="sr-x2@1")
    figure = np.mean([db(cut(np.round(a) @ LIMITED, 2), cut(b @ LIMITED, 2))
                      for a, b in pairs(tmp_path)])
    found = explain.explain(run, job(run), f"{figure:.6f}")
    assert found.causes[0].differences == ("gray files converted to Y like RGB",)
    # 219/255 of the range: 1.32 dB for that one of two images
    assert found.causes[0].value - found.protocol.value == pytest.approx(1.322 / 2, abs=1e-3)


def test_a_gray_file_taken_as_y(tmp_path, monkeypatch):
    """The same from the other side: version 2 converts it, the figure takes it as Y."""
    run = make(tmp_path, monkeypatch, gray=True)
    values = [db(cut(np.round(a) @ LIMITED, 2), cut(b @ LIMITED, 2)) for a, b in pairs(tmp_path)]
    values[1] += 20 * np.log10(219 / 255)
    found = explain.explain(run, job(run), f"{np.mean(values):.6f}")
    assert found.causes[0].differences == (
        "gray files taken as Y, as old MATLAB scripts (SRCNN, VDSR)",)


def test_noise_in_bgr_order(tmp_path, monkeypatch):
    run = make(tmp_path, monkeypatch, protocol="denoise_color-sigma25", model="input")
    values = []
    for i in range(len(SIZES)):
        target = images.read_image(tmp_path / "images" / "test" / f"img{i}.png")
        np.random.seed(0)
        noise = np.random.normal(0, 25 / 255, target.shape)[..., ::-1]
        noisy = images.to_uint8(target / 255 + noise)
        values.append(db(noisy.astype(float), target.astype(float)))
    found = explain.explain(run, job(run), f"{np.mean(values):.6f}", rerun=True)
    assert found.causes[0].differences == ("noise drawn in BGR order",)


def test_a_gray_protocol_read_as_rgb(tmp_path, monkeypatch):
    run = make(tmp_path, monkeypatch, protocol="jpeg_gray-q10", model="input")
    base = explain.explain(run, job(run), "30").protocol.value
    found = explain.explain(run, job(run), f"{base + 20 * math.log10(255 / 219):.5f}")
    assert found.causes[0].differences == ("Y (MATLAB's limited range) instead of gray",)


def test_pairs_of_images(tmp_path, monkeypatch):
    """Deraining is scored on rounded Y; a figure of unrounded Y is recognised."""
    monkeypatch.chdir(tmp_path)
    values = []
    for i, size in enumerate(SIZES):
        clean = tiny.photo(i, *size)
        wet = np.clip(clean + np.random.default_rng(i).normal(0, 9, clean.shape), 0, 255)
        images.write_png(tmp_path / "rain" / "target" / f"{i}.png", clean)
        images.write_png(tmp_path / "rain" / "input" / f"{i}.png", wet.astype(np.uint8))
        values.append(db(wet.astype(np.uint8) @ LIMITED, clean @ LIMITED))
    (tmp_path / "datasets.yaml").write_text(yaml.safe_dump({"datasets": {"rain": {
        "title": "Rain", "use": "test", "source": "made for tests",
        "local": {"folder": "rain", "hr": "target/*", "input": "input/*"}}}}))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({
        "run": "rain", "catalog_paths": [str(tmp_path)], "models": {"input": None},
        "cells": [{"protocol": "derain-streak", "datasets": ["rain"], "models": ["input"]}]}))
    run = plan.load("config.yaml")
    found = explain.explain(run, job(run), f"{np.mean(values):.6f}")
    assert found.causes[0].differences == ("Y not rounded",)


@pytest.fixture(scope="module")
def dark(tmp_path_factory):
    """A cell of low light: outputs with a wrong brightness and colour, beside their targets."""
    folder = tmp_path_factory.mktemp("dark")
    shown = []
    for i, size in enumerate(SIZES):
        clean = tiny.photo(i, *size)
        noise = np.random.default_rng(i).normal(0, 2, clean.shape)
        low = np.clip(clean * [0.3, 0.25, 0.2] + noise, 0, 255).astype(np.uint8)
        images.write_png(folder / "low" / f"{i}.png", low)
        images.write_png(folder / "high" / f"{i}.png", clean)
        shown.append((low, clean))
    (folder / "datasets.yaml").write_text(yaml.safe_dump({"datasets": {"dark": {
        "title": "Dark", "use": "test", "source": "made for tests",
        "local": {"folder": str(folder), "hr": "high/*", "input": "low/*"}}}}))
    (folder / "config.yaml").write_text(yaml.safe_dump({
        "run": "dark", "catalog_paths": [str(folder)], "models": {"input": None}, "device": "cpu",
        "cells": [{"protocol": "lowlight-lol", "datasets": ["dark"], "models": ["input"]}]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield plan.load("config.yaml"), shown


@pytest.mark.parametrize("name", conventions.GT_MEAN)
def test_the_brightness_of_the_target(name, dark):
    """GT-mean: papers multiply the output by mean(target) / mean(output), and clip."""
    import cv2

    run, shown = dark
    values = []
    for low, clean in shown:
        means = [cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2GRAY).mean()
                 if name.startswith("gray") else image.mean() for image in (clean, low)]
        light = np.clip(low * (means[0] / means[1]), 0, 255)
        values.append(db(light if name.endswith("float") else np.round(light),
                         clean.astype(float)))
    found = explain.explain(run, job(run), f"{np.mean(values):.4f}")
    assert found.causes[0].differences == (conventions.GT_MEAN[name],)
    assert found.causes[0].value - found.protocol.value > 3


def test_a_black_output_stays_black_and_other_tasks_have_no_gt_mean():
    black, target = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 99, np.uint8)
    assert not conventions.scaled(black, target, "gray").any()
    gray = conventions.scaled(target[..., :1] // 3, target[..., :1], "gray")
    assert (gray == 99).all()
    found = conventions.choices(protocols.get("derain-streak"), "psnr", {inputs.OWN})
    assert {choice.gt_mean for choice in found} == {"none"}


def test_without_saved_images_the_model_runs(tmp_path, monkeypatch):
    run = make(tmp_path, monkeypatch, keep=False)
    found = explain.explain(run, job(run), "30")
    assert found.outputs == "computed again by running the model (its images were not kept)"
    assert not found.untried


def test_what_goes_wrong_in_the_model_names_the_image(tmp_path, monkeypatch):
    run = make(tmp_path, monkeypatch, keep=False)
    for wrong, error, words in (
            (MemoryError("too large"), Unavailable, r"img0\.png: out of memory at 20x26 pixels"),
            (None, UserError, r"img0\.png: .*NaN")):
        class Network(torch.nn.Module):
            def forward(self, x, wrong=wrong):
                if wrong:
                    raise RuntimeError("DefaultCPUAllocator: can't allocate memory") from wrong
                return x * math.nan

        monkeypatch.setattr(loading, "ready", lambda *_, made=Network: (made(), None))
        with pytest.raises(error, match=words):
            explain.explain(run, job(run), "30")


def test_images_of_another_run_are_refused(tmp_path, monkeypatch):
    run = make(tmp_path, monkeypatch)
    path = tmp_path / "results/one/images/sr-x2@2/tinyset/bicubic/img1.png"
    images.write_png(path, 255 - images.read_image(path))
    with pytest.raises(UserError, match="the images belong to another run"):
        explain.explain(run, job(run), "30")
    images.write_png(path, images.read_image(path)[:-2])
    with pytest.raises(UserError, match=r"img1.png: \(46, 44, 3\)"):
        explain.explain(run, job(run), "30")


def test_a_record_of_another_config_is_not_used(tmp_path, monkeypatch):
    make(tmp_path, monkeypatch)
    config = (tmp_path / "config.yaml").read_text().replace("- ssim\n", "")
    (tmp_path / "config.yaml").write_text(config)
    run = plan.load("config.yaml")
    assert "another state" in explain.explain(run, job(run), "30").outputs


def test_the_command(cell, monkeypatch, capsys):
    folder, run = cell
    monkeypatch.chdir(folder)
    assert main(["explain", "sr-x2/tinyset/bicubic", "--published", "11.11", "--top", "2"]) == 0
    out = capsys.readouterr().out.splitlines()
    last = json.loads(out[-1])
    assert last["explanations"] == []
    assert sorted(last["chance"]["shares"]) == ["0", "1", "2"]
    assert len(last["nearest"]) == 2
    # the protocol itself is shown, however far it is
    assert any(line.endswith("the protocol itself") for line in out)
    figure = f"{last['protocol']:.3f}"
    record = str(job(run).record)
    assert main(["explain", record, "--published", figure]) == 0
    captured = capsys.readouterr()
    last = json.loads(captured.out.splitlines()[-1])
    assert last["explanations"][0]["conventions"] == ["the protocol itself"]
    assert f"prints as {figure}" in captured.out
    assert "outputs: the saved images" in captured.err


def test_all_causes_are_shown_however_few_lines(cell, monkeypatch, capsys):
    """At no decimals nearly everything fits: all of it is printed, not the nearest alone."""
    monkeypatch.chdir(cell[0])
    own = json.loads(shown(capsys, "11.11")[-1])["protocol"]
    lines = shown(capsys, f"{own:.0f}")
    single = [e for e in json.loads(lines[-1])["explanations"] if len(e["conventions"]) == 1]
    assert len(single) > 2
    for cause in single:
        assert any(line.endswith(f"  {cause['conventions'][0]}") for line in lines)
        assert cause["conventions"][0] in lines[-2]


def shown(capsys, published):
    assert main(["explain", "sr-x2/tinyset/bicubic", "--published", published, "--top", "1"]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(("arguments", "message"), [
    (["sr-x2/tinyset", "--published", "30"], "not a cell. Valid: PROTOCOL/DATASET/MODEL"),
    (["sr-x2/tinyset/bicubc", "--published", "30"], "Did you mean 'sr-x2@2/tinyset/bicubic'"),
    (["sr-x2/tinyset/bicubic", "--published", "30 dB"], "not a figure"),
    (["sr-x2/tinyset/bicubic", "--published", "inf"], "not a figure"),
    (["sr-x2/tinyset/bicubic", "--published", "3.366e1"], "as printed"),
    (["sr-x2/tinyset/bicubic", "--published", "93.0", "--metric", "ssim"], "up to 1"),
    (["no.json", "--published", "30"], "no such record"),
])
def test_what_cannot_be_meant(arguments, message, cell, monkeypatch, capsys):
    monkeypatch.chdir(cell[0])
    assert main(["explain", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_choices_differ_from_the_protocol_in_two_conventions_at_most():
    protocol = protocols.get("sr-x4")
    kinds = {inputs.OWN, ("y_only", "protocol", "uint8")}
    found = conventions.choices(protocol, "ssim", kinds)
    assert found[0] == conventions.base(protocol)
    assert len(set(found)) == len(found)
    assert {len(c.words(found[0])) for c in found} == {0, 1, 2}
    # Y that was resampled alone has no colour to be scored in
    assert not [c for c in found if c.input == "y_only" and c.color != "y"]


# -- on the real images ------------------------------------------------------------------------

@pytest.fixture(scope="module")
def set5(mirror, tmp_path_factory):
    folder = tmp_path_factory.mktemp("set5")
    config = {"run": "set5", "metrics": ["psnr", "ssim"], "device": "cpu",
              "models": {"bicubic": None}, "data_root": str(folder / "data"),
              "cells": [{"protocol": f"sr-x{s}", "datasets": ["set5"], "models": ["bicubic"]}
                        for s in (2, 3, 4)]}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return plan.load("config.yaml")


@pytest.mark.mirror
@pytest.mark.parametrize(("scale", "metric", "published", "words"), [
    (2, "psnr", "33.678", ()), (3, "psnr", "30.404", ()), (4, "psnr", "28.431", ()),
    (2, "psnr", "33.645", ("Y rounded",)), (3, "psnr", "30.386", ("Y rounded",)),
    (4, "psnr", "28.418", ("Y rounded",)),
    # what the SRCNN and VDSR papers print
    *((scale, metric, text, (inputs.INPUTS["y_only"],))
      for scale, psnr, ssim in ((2, "33.66", ".9299"), (3, "30.39", ".8682"), (4, "28.42", ".8104"))
      for metric, text in (("psnr", psnr), ("ssim", ssim))),
])
def test_the_bicubic_rows_of_set5(scale, metric, published, words, set5):
    cell = set5.find("cell", protocol=f"sr-x{scale}", dataset="set5", model="bicubic")
    # all pairs of conventions take longer than a test may
    found = explain.explain(set5, cell, published, metric, most=1)
    assert found.causes[0].differences == words
