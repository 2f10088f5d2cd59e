"""Known figures come out of the pipeline; a wrong one fails; what is not here is skipped.

Those on Set5 run here, some more among the slow tests; ``irbench anchors`` runs them all.
"""

import contextlib
import csv
import dataclasses
import functools
import json

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from irbench.catalog import peers, protocols, published
from irbench.cli import main
from irbench.core.errors import UserError
from irbench.data import obtain
from irbench.data import sets as datasets
from irbench.fidelity import anchor_run, anchors
from irbench.imaging import degrade, images
from tests.helpers import tiny
from tests.helpers.anchor_world import irbench, world

SMALL = ("set5", "classic5", "live1_gray")
# and of what takes longer one row each: noise, the mosaic, colour
LARGE = ("denoise_gray-sigma25@2/set12/input", "demosaic-rggb@1/mcmaster/malvar",
        "jpeg_color-q10@1/live1_color/input",
        # the set with a gray file, in both conventions
        "sr-x4@1/set14/bicubic", "sr-x4@2/set14/bicubic", "sr-x4@2/set14/imdn")
ROWS = [row for row in anchors.load().rows if row.name in LARGE or (
    row.dataset in SMALL and row.model not in peers.catalog())]


# -- on the real images ------------------------------------------------------------------------

@pytest.fixture(scope="module")
def compared(mirror, tmp_path_factory):
    """Return what the rows of a set give, by the set's name."""
    folder = tmp_path_factory.mktemp("anchors")

    @functools.cache
    def compare(dataset):
        rows = tuple(row for row in ROWS if row.dataset == dataset)
        (folder / dataset).mkdir()      # a run keeps its folder until the process ends
        with contextlib.chdir(folder / dataset):
            return anchor_run.run(dataclasses.replace(anchors.load(), rows=rows))
    return compare


@pytest.mark.mirror
@pytest.mark.parametrize("row", [
    pytest.param(row, id=row.name, marks=[] if row.dataset == "set5" else pytest.mark.slow)
    for row in ROWS])
def test_anchor(row, compared):
    mine = [c for c in compared(row.dataset) if c.row == row]
    assert len(mine) == len(row.references)
    assert not [anchor_run.line(c) for c in mine if c.verdict != "PASS"]


@pytest.mark.mirror
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_authors_low_resolution_images_to_the_pixel(scale, mirror, tmp_path_factory):
    """Set5 as shipped with SwinIR: 0 differing pixels."""
    protocol = protocols.get(f"sr-x{scale}")
    data = obtain.fetch(datasets.get("set5"), tmp_path_factory.mktemp("data"), progress=False)
    theirs = {item.name: item for item in data.role(f"lr_x{scale}")}
    assert len(theirs) == 5
    for item in data.role("hr"):
        ours = images.to_uint8(degrade.degrade(
            degrade.prepare_target(item.load(), protocol), protocol))
        assert np.array_equal(ours, theirs[f"{item.name}x{scale}"].load()), item.name


@pytest.mark.mirror
@pytest.mark.slow
def test_the_tolerance_of_a_noisy_row_is_that_of_its_pixels(compared):
    """Three standard errors of the mean square of N Gaussian values; clipping moves it a little."""
    found = next(c for c in compared("set12") if c.row.name == LARGE[0])
    sides = [256] * 7 + [512] * 5  # Set12
    error = 10 / np.log(10) * np.mean([np.sqrt(2) / side for side in sides])
    assert found.tolerance == pytest.approx(3 * error, rel=0.1)
    # sigma 25.5 in place of 25 would move the mean by more than twice that
    assert 2 * found.tolerance < 20 * np.log10(25.5 / 25)


# -- the catalog -------------------------------------------------------------------------------

def test_every_printed_row_that_needs_no_weights_is_an_anchor():
    """Bicubic, JPEG input and MATLAB's demosaicking, as far as the sets are the sources'."""
    known = {(r.protocol.rpartition("@")[0], r.dataset, ref.metric, ref.text)
             for r in anchors.load().rows for ref in r.references}
    printed = {(f"{f.task}-{f.level}", f.dataset, f.metric, f.text) for f in published.load()
               if f.method in ("bicubic", "input", "Matlab")}
    # the set here holds crops, the printed figure is of the whole photographs
    left = {row for row in printed - known if row[:2] != ("demosaic-rggb", "kodak24")}
    # the SSIM printed for these is of no fixed convention
    assert {row for row in left if row[0].startswith("jpeg_gray") and row[1:3] == (
        "urban100", "ssim")} == left and len(left) == 4
    names = {row.name for row in anchors.load().rows}
    for task, sets in (("gray", ("set12", "bsd68")), ("color", ("cbsd68", "kodak24", "mcmaster"))):
        for sigma in (15, 25, 50):
            version = protocols.version_of(protocols.get(f"denoise_{task}-sigma{sigma}").id)
            assert {f"denoise_{task}-sigma{sigma}@{version}/{name}/input"
                    for name in sets} <= names
    assert {f"denoise_gray-sigma25@2/{name}/dncnn" for name in ("set12", "bsd68")} <= names


# what each kind may add, and no more: a wider one needs a reason here, too
TOLERANCES = {
    "notes": {"psnr": 0.005, "ssim": 0.0005},
    "printed_bicubic": {"psnr": 0.02, "ssim": 0.001},
    "printed_jpeg": {"psnr": 0, "ssim": 0},
    "printed_jpeg_urban100": {"psnr": 0.02},
    "printed_malvar": {"psnr": 0},
    "printed_dncnn": {"psnr": 0.03},
    "printed_imdn": {"psnr": 0, "ssim": 0},
    "printed_smfanet": {"psnr": 0, "ssim": 0},
    "printed_smfanet_plus": {"psnr": 0, "ssim": 0},
    "printed_deepjoint": {"psnr": 0},
    "measured_peers": {"psnr": 0.005, "ssim": 0.0005},
    "expectation": {"psnr": 3},
    "calibration": {"lpips": 0.0001, "dists": 0.0001},
}


def test_no_tolerance_is_wider_than_is_known_here():
    references = yaml.safe_load(anchors.CATALOG.read_text())["references"]
    sizes = {"published": "spread", "independent": "within", "expectation": "errors"}
    assert {name: {metric: tolerance[sizes[entry["kind"]]]
                   for metric, tolerance in entry["tolerance"].items()}
            for name, entry in references.items()} == TOLERANCES
    # half a digit of what is printed, and the most that a spread may be
    most = {"psnr": 0.005 + 0.03, "ssim": 0.0005 + 0.001, "lpips": 0.0001, "dists": 0.0001}
    assert not [(row.name, r) for row in anchors.load().rows for r in row.references
                if r.kind != "expectation" and r.tolerance > most[r.metric] + 1e-12]


def test_the_two_conventions_for_a_gray_file_are_apart():
    """Set14 of either version has its own figures; the printed bicubic ones are of version 1."""
    rows = {row.name: row.references for row in anchors.load().rows
            if row.dataset == "set14" and row.model == "bicubic"}
    assert set(rows) == {f"sr-x{scale}@{v}/set14/bicubic" for scale in (2, 3, 4) for v in (1, 2)}
    for scale in (2, 3, 4):
        old, new = (rows[f"sr-x{scale}@{v}/set14/bicubic"] for v in (1, 2))
        assert {r.kind for r in new} == {"independent"}
        assert {r.kind for r in old} == {"independent", "published"}
        psnr = [float(next(r.text for r in refs if (r.kind, r.metric) == ("independent", "psnr")))
                for refs in (old, new)]
        # one image of 14 gains 20 log10(255/219) dB, at every scale
        assert psnr[1] - psnr[0] == pytest.approx(20 * np.log10(255 / 219) / 14, abs=0.004)


def test_a_printed_figure_of_another_convention_is_no_reference(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = world(tmp_path, {}, figures={}, rows=[
        {"protocols": ["sr-x4@2"], "datasets": ["set14"], "model": "bicubic",
         "references": ["printed"]}], references={
        "printed": {"kind": "published", "source": "SR literature (SRCNN/VDSR tables)",
                    "method": "bicubic",
                    "tolerance": {"psnr": {"spread": 0.02, "reason": "conventions"}}}})
    with pytest.raises(UserError, match=r"26.00 of 'bicubic' on set14 is printed under .*sr-x4@1"):
        anchors.load(path)


def test_a_tolerance_is_half_a_printed_digit_and_the_spread():
    row = next(r for r in anchors.load().rows if r.name == "sr-x2@2/set5/bicubic")
    found = {(r.kind, r.metric): (r.text, r.tolerance) for r in row.references}
    assert found["published", "psnr"] == ("33.66", pytest.approx(0.005 + 0.02))
    assert found["published", "ssim"] == (".9299", pytest.approx(0.00005 + 0.001))
    assert found["independent", "psnr"] == ("33.678", 0.005)
    # printed to three decimals and a zero
    row = next(r for r in anchors.load().rows if r.name == "jpeg_gray-q10@1/classic5/input")
    assert {r.text: r.tolerance for r in row.references}[".7600"] == 0.0005


# -- the expected PSNR of noise ----------------------------------------------------------------

def test_far_from_black_and_white_the_error_is_the_noise_and_the_rounding():
    second, fourth = anchors.error_moments(10.0)
    # rounding adds the variance of a uniform error of one level
    assert second[128] == pytest.approx(100 + 1 / 12, rel=1e-9)
    assert fourth[128] == pytest.approx(3 * (100 + 1 / 12) ** 2, rel=1e-3)
    # at black half of the noise is cut away
    assert second[0] == pytest.approx(second[128] / 2, rel=1e-2)
    assert np.allclose(second, second[::-1])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), sigma=st.floats(2, 80), low=st.integers(0, 200),
       width=st.integers(1, 55))
def test_noisy_images_have_the_expected_psnr(seed, sigma, low, width):
    """Against noise drawn, added, clipped and rounded: within 5 standard errors."""
    rng = np.random.default_rng(seed)
    target = rng.integers(low, low + width, (64, 80, 3)).astype(np.uint8)
    expected, error = anchors.expected_psnr([target], sigma)
    noisy = np.round(np.clip(target + rng.normal(0, sigma, target.shape), 0, 255))
    psnr = 10 * np.log10(255**2 / np.mean((noisy - target) ** 2))
    assert abs(psnr - expected) < 5 * error


def test_the_standard_error_is_that_of_many_draws():
    target = tiny.photo(3, 32, 32)
    expected, error = anchors.expected_psnr([target], 25.0)
    rng = np.random.default_rng(0)
    drawn = [10 * np.log10(255**2 / np.mean(
        (np.round(np.clip(target + rng.normal(0, 25, target.shape), 0, 255)) - target) ** 2))
        for _ in range(2000)]
    assert np.std(drawn) == pytest.approx(error, rel=0.08)
    assert np.mean(drawn) == pytest.approx(expected, abs=5 * error / 2000**0.5)


# -- pass, fail, skip --------------------------------------------------------------------------


def measure(folder):
    """The mean PSNR of bicubic on the little images, by a few plain lines."""
    found = []
    for i in range(3):
        image = images.crop_to_multiple(
            images.read_image(folder / "images" / "test" / f"img{i}.png"), 2)
        small = images.imresize(image, 0.5).astype(np.float64)
        restored = np.round(np.clip(images.imresize(small, 2), 0, 255))
        y = [p[2:-2, 2:-2] @ np.array([65.481, 128.553, 24.966]) / 255 for p in (restored, image)]
        found.append(10 * np.log10(255**2 / np.mean((y[0] - y[1]) ** 2)))
    return sum(found) / 3


def test_right_figures_pass_and_are_not_computed_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    path = world(tmp_path, {"psnr": f"{measure(tmp_path):.3f}"})
    code, out, last = irbench(path, capsys)
    assert (code, last) == (0, {"rows": 2, "pass": 2, "fail": 0, "skip": 0, "compared": 2})
    assert "closed form" in out
    folder = tmp_path / "results" / "anchors"
    table = list(csv.DictReader((folder / "anchors.csv").open()))
    assert [row["verdict"] for row in table] == ["PASS", "PASS"]
    assert all(row["reason"] for row in table)
    assert float(table[0]["difference"]) == pytest.approx(
        float(table[0]["measured"]) - float(table[0]["reference"]), abs=1e-6)
    page = (folder / "anchors.md").read_text()
    assert "2 of 2 rows pass" in page
    assert "computed for this test" in page
    cells = sorted(folder.glob("cells/*/*/*.json"))
    stamps = [cell.stat().st_mtime_ns for cell in cells]
    monkeypatch.setattr(anchor_run, "_evaluate", None)  # nothing may be computed
    assert irbench(path, capsys)[0] == 0
    assert [cell.stat().st_mtime_ns for cell in cells] == stamps
    # only some of the rows: their table is shown, the files stay those of the whole
    before = (folder / "anchors.csv").read_text()
    code, out, last = irbench(path, capsys, "--only", "sr-*/bicubic")
    assert (code, last["rows"]) == (0, 1)
    assert (folder / "anchors.csv").read_text() == before


def test_a_planted_wrong_figure_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    path = world(tmp_path, {"psnr": f"{measure(tmp_path) + 0.006:.4f}"})
    code, out, last = irbench(path, capsys)
    assert (code, last) == (1, {"rows": 2, "pass": 1, "fail": 1, "skip": 0, "compared": 2})
    line = next(line for line in out.splitlines() if line.startswith("sr-x2@2/tinyset/bicubic"))
    assert line.split()[-1] == "FAIL"
    assert "-0.006" in line


def test_what_rounds_to_zero_has_no_sign():
    row = anchors.Anchor("sr-x2@2", "set5", "bicubic",
                      (anchors.Reference("independent", "", "psnr", "30.000", 0.005, "why"),))
    for measured, shown in ((29.9996, "0.000"), (30.0004, "0.000"), (30.001, "+0.001"),
                            (29.999, "-0.001")):
        assert anchor_run.line(anchors.compare(row, {"psnr": measured})[0])[4] == shown


def test_what_is_not_here_is_skipped_with_the_reason(tmp_path, monkeypatch, capsys):
    """A set that the mirror lacks is skipped; it is not a success if nothing was compared."""
    monkeypatch.chdir(tmp_path)
    path = world(tmp_path, {"psnr": "30"}, rows=[
        {"protocols": ["sr-x2@2", "sr-x3@2"], "datasets": ["urban100"], "model": "bicubic",
         "references": ["printed"]}], figures={}, references={
        "printed": {"kind": "published", "source": "SR literature (SRCNN/VDSR tables)",
                    "method": "bicubic",
                    "tolerance": {"psnr": {"spread": 0.02, "reason": "conventions"}}}})
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("IRBENCH_MIRROR", str(tmp_path / "mirror"))
    code, out, last = irbench(path, capsys)
    assert (code, last) == (3, {"rows": 2, "pass": 0, "fail": 0, "skip": 2, "compared": 0})
    assert "SKIP sr-x2@2/urban100/bicubic and 1 more: urban100/hr/" in out
    # the next attempt of the workflow differs from this one, so that it is tried again
    assert anchor_run.next_attempt() == 1


@pytest.mark.parametrize(("sigma", "verdict"), [(25, "PASS"), (25.5, "FAIL")])
def test_noise_of_another_sigma_fails(sigma, verdict, tmp_path, monkeypatch, capsys):
    """Planted in the degradation: 0.17 dB on images that are as large as a row needs."""
    monkeypatch.chdir(tmp_path)
    path = world(tmp_path, {"psnr": "30"})
    for i in range(3):
        images.write_png(tmp_path / "images" / "test" / f"img{i}.png", tiny.photo(i, 160, 160))
    degraded = degrade.through_steps

    def planted(target, protocol, rng=None, name=""):
        wrong = dataclasses.replace(protocol, degradation={"kind": "gaussian_noise",
                                                           "sigma": sigma})
        return degraded(target, wrong, rng, name)

    monkeypatch.setattr(degrade, "through_steps", planted)
    code, out, last = irbench(path, capsys, "--only", "denoise*")
    assert (code, last["rows"]) == (int(verdict == "FAIL"), 1)
    assert next(x for x in out.splitlines() if x.startswith("denoise")).endswith(verdict)


def test_a_cell_that_breaks_fails_with_its_reason(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = world(tmp_path, {"psnr": "30"})
    images.write_png(tmp_path / "images" / "test" / "img0.png", np.zeros((3, 3, 3), np.uint8))
    code, out, last = irbench(path, capsys, "--only", "sr-x2")
    assert (code, last["fail"]) == (1, 1)
    assert "FAIL sr-x2@2/tinyset/bicubic: " in out
    assert "img0.png: the image is 3x3 pixels" in out


def test_the_list_computes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["anchors", "--list", "--only", "set5"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("sr-x2@2/set5/bicubic: psnr 33.678")
    assert json.loads(out[-1]) == {"rows": 18}
    assert not list(tmp_path.iterdir())


def test_exactly_the_tolerance_is_within():
    row = anchors.Anchor("sr-x2@2", "set5", "bicubic",
                      (anchors.Reference("independent", "", "psnr", "30.000", 0.005, "why"),))
    for measured, verdict in ((30.005, "PASS"), (29.995, "PASS"), (30.00501, "FAIL"),
                              (None, "FAIL")):
        assert anchors.compare(row, {"psnr": measured})[0].verdict == verdict
    assert anchors.counts(anchors.without(row, "SKIP", "not here")) == {
        "rows": 1, "pass": 0, "fail": 0, "skip": 1}


def test_the_fingerprint_follows_the_tolerances(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = anchor_run.fingerprint(anchors.load(world(tmp_path, {"psnr": "30.1"})))
    anchors.load.cache_clear()
    assert anchor_run.fingerprint(anchors.load(world(tmp_path, {"psnr": "30.1"}))) == one
    anchors.load.cache_clear()
    assert anchor_run.fingerprint(anchors.load(world(tmp_path, {"psnr": "30.2"}))) != one


# -- a broken file -----------------------------------------------------------------------------

@pytest.mark.parametrize(("change", "message"), [
    ({"row": []}, "unknown section 'row'. Did you mean 'rows'"),
    ({"rows": []}, "the file has no rows"),
    ({"rows": [{"protocols": ["sr-x2"], "datasets": ["tinyset"], "model": "bicubic",
                "references": []}]}, "unknown protocol 'sr-x2'"),
    ({"rows": [{"protocols": ["sr-x2@2"], "datasets": ["tinyset"], "model": "bicubc",
                "references": []}]}, "unknown model 'bicubc'. Did you mean 'bicubic'"),
    ({"rows": [{"protocols": ["sr-x2@2"], "datasets": ["tinyset"], "model": "bicubic",
                "references": ["knwn"]}]}, "unknown reference 'knwn'. Did you mean 'known'"),
    ({"figures": {"known": {"sr-x2@2/tiny/bicubic": {"psnr": "3"}}}},
     "sr-x2@2/tinyset/bicubic has no reference"),
    ({"figures": {"known": {"sr-x2@2/tinyset/bicubic": {"psnr": "good"}}}}, "valid: a number"),
    ({"figures": {"known": {"sr-x2@2/tinyset/bicubic": {"ssim": ".9"}}}}, "unknown metric 'ssim'"),
    ({"figures": {"known": 3}}, "figures: known: valid is a mapping"),
    ({"references": {"known": {"kind": "independent", "title": "", "tolerance": {
        "psnr": {"within": 0.005}}}}}, "valid is a mapping with reason, within"),
    ({"references": {"known": {"kind": "independent", "title": "", "tolerance": {
        "psnr": {"within": "5", "reason": ""}}}}}, "within is '5'; valid: a non-negative number"),
])
def test_a_broken_file_is_named(change, message, tmp_path):
    anchors.load.cache_clear()
    with pytest.raises(UserError) as error:
        anchors.load(world(tmp_path, {"psnr": "30"}, **change))
    assert message in str(error.value)
    assert "anchors.yaml" in str(error.value)


def test_an_anchor_cannot_name_a_figure_that_no_source_prints(tmp_path):
    references = {"printed": {"kind": "published", "source": "SR literature (SRCNN/VDSR tables)",
                              "method": "bicubic",
                              "tolerance": {"psnr": {"spread": 0, "reason": "none"}}}}
    rows = [{"protocols": ["sr-x2@2"], "datasets": ["tinyset"], "model": "bicubic",
             "references": ["printed"]}]
    with pytest.raises(UserError, match="published.csv has no figure of 'bicubic'"):
        anchors.load(world(tmp_path, {}, references=references, rows=rows, figures={}))


def test_a_pattern_without_rows_is_an_error(capsys):
    assert main(["anchors", "--list", "--only", "set6"]) == 2
    assert "no anchor has such a name" in capsys.readouterr().err


def test_a_reference_without_the_weights_of_its_metric_is_skipped_with_the_reason():
    (row,) = anchors.load().select("iqa_calibration")
    assert row.metrics == ("psnr", "ssim", "lpips", "dists")
    checks = anchors.compare(row, {"psnr": 30.0, "lpips": 0.30181, "dists": None},
                             missing={"dists": "DISTS needs weights"})
    assert [(c.reference.metric, c.verdict) for c in checks] == [
        ("lpips", "PASS"), ("dists", "SKIP")]
    assert checks[1].note == "DISTS needs weights"
    assert anchors.compare(row, {"lpips": None})[0].verdict == "FAIL"       # no reason is known


def test_a_row_is_scored_with_its_own_metrics_only():
    rows = [row for row in anchors.load().rows
            if row.dataset in ("iqa_calibration", "set5") and "sr-x2@1" not in row.name]
    config = anchor_run._config(anchors.load(), rows, "data")
    assert config["metrics"] == ["psnr", "ssim", "lpips", "dists"]
    planned = anchor_run._plan_of(config, {row.name: row.metrics for row in rows}, "here")
    for name, job in planned.cells.items():
        own = name.endswith("iqa_calibration/input")
        assert job.spec["metrics"] == ["psnr", "ssim", *["lpips", "dists"] * own]
        assert ("lpips_weights" in job.spec) == ("dists_weights" in job.spec) == own
