"""Scores of pictures and folders: the pipeline's values, and what is refused by name."""

import math

import numpy as np
import pytest
from PIL import Image

import irbench
from irbench import plan
from irbench.imaging import metrics
from irbench.imaging.images import read_image, write_png
from irbench.jobs import run as jobs
from irbench.jobs.result import RunSettings
from tests.helpers import tiny
from tests.helpers.refusals import followed


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A cell of a run with its kept pictures: (its result, their folder, the targets' folder)."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        planned = plan.load(tiny.make(folder))
        job = planned.cells["sr-x2@2/tinyset/bicubic"]
        result = jobs.compute(planned, job, RunSettings(device="cpu")).result
    kept = folder / "results/tiny/images/sr-x2@2/tinyset/bicubic"
    return result, kept, folder / "images/test"


def test_one_pair_has_the_pipelines_value(run):
    result, kept, targets = run
    for image in result["images"]:
        name = f"{image['name']}.png"
        for ours, theirs in ((kept / name, targets / name),
                             (read_image(kept / name), read_image(targets / name)),
                             (Image.open(kept / name), Image.open(targets / name))):
            assert irbench.psnr(ours, theirs, "sr-x2") == image["psnr"]
            assert irbench.ssim(ours, theirs, "sr-x2") == image["ssim"]


def test_a_pillow_image_is_upright_and_plain_as_its_file(tmp_path):
    target = tiny.photo(0, 30, 40)
    exif = Image.Exif()
    exif[0x0112] = 3                # upside down
    Image.fromarray(target[::-1, ::-1]).save(tmp_path / "turned.png", exif=exif)
    for picture in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        assert irbench.psnr(picture, target, "sr-x2") == math.inf
    Image.fromarray(target).save(tmp_path / "two.png", save_all=True,
                                 append_images=[Image.fromarray(target[::-1])])
    seen = Image.fromarray(target)
    seen.info["transparency"] = tuple(map(int, target[0, 0]))
    for picture, reason in ((Image.open(tmp_path / "two.png"), "more than one frame"),
                            (seen, "transparent pixels")):
        with pytest.raises(irbench.UserError, match=f"restored: .*{reason}"):
            irbench.psnr(picture, target, "sr-x2")


def test_arrays_of_other_classes():
    target = tiny.photo(0, 30, 40)[..., 0]
    restored = np.clip(target.astype(int) + 2, 0, 255).astype(np.uint8)
    want = irbench.psnr(restored, target, "sr-x2")
    assert irbench.psnr(restored.view(np.matrix), target.view(np.matrix), "sr-x2") == want
    assert irbench.psnr(np.ma.masked_array(restored), target, "sr-x2") == want
    with pytest.raises(irbench.UserError, match="masked values"):
        irbench.psnr(np.ma.masked_array(restored, restored > 100), target, "sr-x2")


def test_a_gray_target_is_scored_as_in_a_cell(tmp_path):
    """Gray files have a luma of their own under sr-x2@1."""
    target = tiny.photo(0, 40, 44)[..., 0]
    restored = np.clip(target.astype(int) + 2, 0, 255).astype(np.uint8)
    protocol = irbench.api.scores.protocols.get("sr-x2@1")
    want = metrics.Scorer(protocol, ("psnr",))(
        *(np.repeat(one[..., None], 3, -1) for one in (restored, target)), gray_file=True)["psnr"]
    assert irbench.psnr(restored, target, "sr-x2@1") == want
    assert irbench.psnr(restored, np.repeat(target[..., None], 3, -1), "sr-x2@1") != want


def test_identical_pictures():
    picture = tiny.photo(0, 30, 30)
    assert irbench.psnr(picture, picture, "sr-x2") == math.inf
    assert irbench.ssim(picture, picture, "sr-x2") == pytest.approx(1)


def test_a_paired_protocol_scores_at_its_own_size():
    picture = tiny.photo(0, 30, 40)
    other = np.clip(picture.astype(int) + 1, 0, 255).astype(np.uint8)
    assert irbench.psnr(other, picture, "weather-native") > 40
    with pytest.raises(irbench.UserError, match="30 x 40, which weather-mixed@1 scores at 32 x 48"):
        irbench.psnr(picture, picture, "weather-mixed")


def test_lpips_is_the_metric_of_the_registry(monkeypatch):
    picture = tiny.photo(0, 40, 40)
    monkeypatch.setitem(metrics.COMPUTED, "lpips", lambda protocol: lambda pair: 0.25)
    assert irbench.lpips(picture, picture, "sr-x2") == 0.25

    def missing(protocol):
        raise irbench.Unavailable("LPIPS needs a file")

    monkeypatch.setitem(metrics.COMPUTED, "lpips", missing)
    with pytest.raises(irbench.Unavailable, match="LPIPS needs a file"):
        irbench.lpips(picture, picture, "sr-x2")


GOOD = tiny.photo(0, 30, 30)


@pytest.mark.parametrize("restored, target, protocol, message", [
    (GOOD / 255, GOOD, "sr-x2", "restored: an array of float64"),
    (GOOD, GOOD.astype(np.uint16), "sr-x2", "target: an array of uint16"),
    (GOOD.transpose(2, 0, 1), GOOD, "sr-x2", r"restored: an array of shape \(3, 30, 30\)"),
    (GOOD[:20], GOOD, "sr-x2", "restored picture has 20 x 30 .* target 30 x 30"),
    (GOOD[:29], GOOD[:29], "sr-x2", r"29 x 30 .* as its target, .* crops .* restored\[:28, :30\]"),
    (GOOD, GOOD, "sr-x7", "unknown protocol"),
    (GOOD, GOOD, "denoise_gray-sigma25", "restored picture has colours"),
    (GOOD, "missing.png", "sr-x2", "missing.png: No such file"),
    (Image.fromarray(GOOD).convert("CMYK"), GOOD, "sr-x2", "mode CMYK"),
    (None, GOOD, "sr-x2", "restored: a picture of type NoneType"),
])
def test_what_cannot_be_scored_is_refused(restored, target, protocol, message):
    with pytest.raises(irbench.UserError, match=message):
        irbench.psnr(restored, target, protocol)


# -- folders -----------------------------------------------------------------------------------

@pytest.mark.parametrize("array", [
    GOOD / 255, (GOOD / 255).astype(np.float32) * 1.4 - 0.1, GOOD.astype(np.float32),
    GOOD.astype(np.float64) * 1.2 - 9, GOOD.astype(np.int64), GOOD.astype(np.int32) - 3,
    GOOD.astype(np.uint16), GOOD.astype(np.uint16) * 257, GOOD > 90, GOOD.transpose(2, 0, 1),
    np.concatenate([GOOD, GOOD[..., :1]], -1), np.concatenate([GOOD, GOOD[..., :1]], -1).T,
], ids=lambda array: f"{array.dtype} {array.shape}")
def test_the_code_of_a_refusal_makes_a_valid_picture(array):
    made = followed(array, lambda picture: irbench.psnr(picture, GOOD, "sr-x2"))
    assert made.dtype == np.uint8
    close = irbench.psnr(made, GOOD.transpose(1, 0, 2) if array.shape[0] == 4 else GOOD, "sr-x2")
    assert close > (15 if array.dtype != bool else 3)   # what is meant, not black nor white


def test_values_that_no_code_repairs_are_named():
    with pytest.raises(irbench.UserError, match="has NaN or infinite values"):
        irbench.psnr(np.full((8, 8), np.inf), GOOD, "sr-x2")


def test_a_folder_has_the_pipelines_mean(run):
    result, kept, targets = run
    found = irbench.score(kept, targets, "sr-x2")
    assert found.mean == result["mean"] and not found.missing
    assert found.protocol == "sr-x2@2"
    assert list(found.images.index) == ["img0", "img1", "img2"]
    assert found.images.loc["img1", "ssim"] == result["images"][1]["ssim"]
    assert found.as_dict()["count"] == 3


@pytest.fixture
def folders(tmp_path):
    for i in range(3):
        write_png(tmp_path / "targets" / f"img{i}.png", tiny.photo(i, 30, 32))
        write_png(tmp_path / "results" / f"img{i}_x2.png", tiny.photo(i + 5, 30, 32))
    return tmp_path / "results", tmp_path / "targets"


def test_names_are_matched_never_the_order(folders):
    found = irbench.score(*folders, "sr-x2", match={"input": "_x2$"})
    assert len(found.scores) == 3 and found.mean["psnr"]
    without = irbench.score(*folders, "sr-x2")
    assert without.scores == {} and without.mean == {"psnr": None, "ssim": None}
    assert without.without_result == ("img0", "img1", "img2")
    assert without.ignored == ("img0_x2", "img1_x2", "img2_x2")


def test_a_target_without_result_leaves_no_mean(folders):
    (folders[0] / "img1_x2.png").rename(folders[0] / "other.png")
    found = irbench.score(*folders, "sr-x2", ["psnr"], match={"input": "_x2$"})
    assert found.mean == {"psnr": None}
    assert found.missing == {"psnr": "targets without a result: img1"}
    assert (found.without_result, found.ignored) == (("img1",), ("other",))
    assert found.images["psnr"].notna().all() and len(found.images) == 2


def test_an_identical_picture_leaves_no_mean_of_psnr(folders):
    results, targets = folders
    write_png(results / "img1_x2.png", read_image(targets / "img1.png"))
    found = irbench.score(*folders, "sr-x2", match={"input": "_x2$"})
    assert found.mean["psnr"] is None and found.mean["ssim"]
    assert "img1: identical" in found.missing["psnr"]


@pytest.mark.parametrize("change, message", [
    (lambda results, targets: write_png(results / "img1.png", GOOD), "img1 and img1_x2 both"),
    (lambda results, targets: write_png(results / "img1_x2.png", GOOD[:20]),
     r"img1_x2\.png with .*img1\.png: the restored picture has 20 x 30"),
    (lambda results, targets: (results / "img1_x2.png").write_bytes(b"no"),
     r"img1_x2\.png: not an"),
    (lambda results, targets: [one.unlink() for one in targets.iterdir()], "targets .*no picture"),
    (lambda results, targets: results.rename(results.with_name("x")), "results .*: not a folder"),
])
def test_folders_that_cannot_be_scored_are_refused(folders, change, message):
    change(*folders)
    with pytest.raises(irbench.UserError, match=message):
        irbench.score(*folders, "sr-x2", match={"input": "_x2$"})


def test_an_unknown_metric_is_refused(folders):
    with pytest.raises(irbench.UserError, match="unknown metric 'pnsr'"):
        irbench.score(*folders, "sr-x2", ["pnsr"])


def test_the_images_of_a_loaded_run_name_their_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planned = plan.load(tiny.make(tmp_path))
    jobs.do(planned, planned.cells["sr-x2@2/tinyset/bicubic"], RunSettings(device="cpu"))
    images = irbench.load_run("results/tiny").images
    assert len(images) == 3 and all((tmp_path / "results/tiny" / file).is_file()
                                    for file in images["file"])
    assert "kept" not in images     # digests by file, which no frame can show
