import numpy as np
import pytest
import yaml

from irbench import degrade, images, protocols
from irbench.errors import UserError


def test_every_protocol_runs_on_an_image():
    image = np.random.default_rng(0).integers(0, 256, (50, 61, 3), dtype=np.uint8)
    for protocol in protocols.catalog().values():
        target = degrade.prepare_target(image, protocol)
        degraded = degrade.degrade(target, protocol)
        assert target.dtype == np.uint8
        assert degraded.dtype == np.float32
        assert target.shape[-1] == degraded.shape[-1] == protocol.channels
        assert target.shape[0] == degraded.shape[0] * protocol.scale
        assert target.shape[1] == degraded.shape[1] * protocol.scale
        assert 0 < np.abs(images.to_uint8(degraded).astype(int).mean() - target.mean()) < 12
        # the same every time
        assert np.array_equal(degraded, degrade.degrade(target, protocol))


def test_a_name_without_version_means_the_newest(tmp_path):
    assert protocols.get("sr-x2").id == "sr-x2@1"
    entry = protocols.get("sr-x2").definition()
    del entry["id"]
    (tmp_path / "protocols.yaml").write_text(yaml.safe_dump({"protocols": {"sr-x2@12": entry}}))
    assert protocols.get("sr-x2", (str(tmp_path),)).id == "sr-x2@12"
    assert protocols.get("sr-x2@1", (str(tmp_path),)).id == "sr-x2@1"


def test_an_id_is_never_redefined(tmp_path):
    entry = protocols.get("sr-x2").definition()
    del entry["id"]
    (tmp_path / "protocols.yaml").write_text(yaml.safe_dump({"protocols": {"sr-x2@1": entry}}))
    with pytest.raises(UserError, match="already defined.*raise the number"):
        protocols.catalog((str(tmp_path),))


def test_unknown_names_get_near_ones():
    with pytest.raises(UserError, match=r"unknown protocol 'sr_x2'.*'sr-x2'"):
        protocols.get("sr_x2")


@pytest.mark.parametrize(("change", "message"), [
    ({"colour": "rgb"}, "unknown colour"),
    ({"color": "bgr"}, "unknown color 'bgr'.*Valid: gray, rgb"),
    ({"metric": {"color": "y"}}, "metric: missing crop, ssim, y_rounded"),
    ({"degradation": {"kind": "matlab_bicubc", "scale": 2}}, "Did you mean 'matlab_bicubic'"),
    ({"degradation": {"kind": "matlab_bicubic", "scale": 1}}, "scale is 1; valid: whole numbers 2"),
    ({"degradation": {"kind": "jpeg"}}, "degradation: missing quality"),
    ({"seed": "none"}, "seed is 'none'; valid for matlab_bicubic: null"),
    ({"seed": 0}, "seed is 0; valid for matlab_bicubic: null"),
    ({"degradation": {"kind": "gaussian_noise", "sigma": 5}}, "seed is None; valid for gaussian"),
    ({"degradation": {"kind": ["x"]}}, "unknown degradation"),
    ({"degradation": {"kind": "matlab_bicubic", "scale": 2.5}}, "scale is 2.5; valid: whole"),
    ({"color": "gray"}, "metric color 'y' does not fit color 'gray'"),
    ({"metric": {"color": "y", "y_rounded": "no", "crop": 2, "ssim": "gaussian11_valid"}},
     "y_rounded is 'no'; valid: true, false"),
    ({"title": 3}, "title is 3"),
    ({"level": "x3"}, "the id must begin with sr-x3"),
])
def test_broken_entries_are_explained(tmp_path, change, message):
    entry = {**protocols.get("sr-x2").definition(), **change}
    del entry["id"]
    (tmp_path / "protocols.yaml").write_text(yaml.safe_dump({"protocols": {"sr-x2@2": entry}}))
    with pytest.raises(UserError, match=message):
        protocols.catalog((str(tmp_path),))


def test_noise_is_the_published_stream():
    """np.random.seed(0) before each image, drawn in (H, W, C) order, not clipped, not rounded."""
    protocol = protocols.get("denoise_color-sigma25")
    target = np.full((300, 300, 3), 3, np.uint8)
    degraded = degrade.degrade(target, protocol)
    np.random.seed(0)  # the published toolkits' own call
    expected = 3 / 255 + np.random.normal(0, 25 / 255, (300, 300, 3))
    assert np.abs(degraded - expected).max() < 1e-6
    assert degraded.min() < 0
    assert abs(degraded.std() * 255 - 25) < 0.1


def test_jpeg_of_a_colour_image_starts_from_matlab_gray():
    protocol = protocols.get("jpeg_gray-q10")
    image = np.random.default_rng(1).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    target = degrade.prepare_target(image, protocol)
    assert np.array_equal(target, images.luma(image, rounded=True))
    gray = image[..., :1]
    assert np.array_equal(degrade.prepare_target(gray, protocol), gray)


def test_a_random_source_can_be_handed_in():
    protocol = protocols.get("denoise_color-sigma15")
    target = np.zeros((8, 8, 3), np.uint8)
    own = degrade.degrade(target, protocol, np.random.RandomState(7))
    assert not np.array_equal(own, degrade.degrade(target, protocol))
    assert np.array_equal(own, degrade.degrade(target, protocol, np.random.RandomState(7)))


def test_images_too_small_are_refused():
    with pytest.raises(UserError, match=r"1x30 pixels .*sr-x4@1 needs at least 8"):
        degrade.prepare_target(np.zeros((1, 30, 3), np.uint8), protocols.get("sr-x4"))
