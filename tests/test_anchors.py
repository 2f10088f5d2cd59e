"""Rows that any correct pipeline reproduces, on the real images, and the figures they must have."""

import numpy as np
import pytest

from irbench import datasets, degrade, images, metrics, protocols
from irbench.models.classical import build_bicubic

pytestmark = pytest.mark.mirror

# (dataset, protocol): PSNR in dB, SSIM or None where the figure was not recorded
ANCHORS = {
    ("classic5", "jpeg_gray-q10"): (27.821, 0.7595),
    ("classic5", "jpeg_gray-q20"): (30.123, None),
    ("classic5", "jpeg_gray-q30"): (31.484, None),
    ("classic5", "jpeg_gray-q40"): (32.428, 0.8849),
    ("live1_gray", "jpeg_gray-q10"): (27.770, 0.7730),
    ("live1_gray", "jpeg_gray-q20"): (30.072, None),
    ("live1_gray", "jpeg_gray-q30"): (31.407, None),
    ("live1_gray", "jpeg_gray-q40"): (32.355, 0.9041),
    ("set5", "sr-x2"): (33.678, 0.9304),
    ("set5", "sr-x3"): (30.404, 0.8690),
    ("set5", "sr-x4"): (28.431, 0.8113),
    # with its one gray image, bridge, which is Y already
    ("set14", "sr-x2"): (30.235, 0.8692),
    ("set14", "sr-x3"): (27.541, 0.7745),
    ("set14", "sr-x4"): (25.998, 0.7030),
}


@pytest.fixture(scope="module")
def fetched(mirror, tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    cache = {}

    def get(name):
        if name not in cache:
            cache[name] = datasets.fetch(datasets.get(name), root, progress=False)
        return cache[name]

    return get


@pytest.mark.parametrize("key", ANCHORS, ids="/".join)
def test_anchor(key, fetched):
    import torch

    dataset, protocol = key[0], protocols.get(key[1])
    scorer = metrics.Scorer(protocol, ("psnr", "ssim"))
    scores = []
    for item in fetched(dataset).role("hr"):
        image = item.load()
        target = degrade.prepare_target(image, protocol)
        restored = degrade.degrade(target, protocol)
        if protocol.task == "sr":
            x = torch.from_numpy(restored).permute(2, 0, 1)[None]
            restored = build_bicubic("sr", protocol.scale, 3)(x)[0].permute(1, 2, 0).numpy()
        scores.append(scorer(images.to_uint8(restored), target, image.shape[-1] == 1))
    mean = metrics.mean(scores, ("psnr", "ssim"))
    psnr, ssim = ANCHORS[key]
    assert mean["psnr"] == pytest.approx(psnr, abs=0.005)
    if ssim is not None:
        assert mean["ssim"] == pytest.approx(ssim, abs=0.0005)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_authors_low_resolution_images_to_the_pixel(scale, fetched):
    """Set5 as shipped with SwinIR: 0 differing pixels."""
    protocol = protocols.get(f"sr-x{scale}")
    theirs = {item.name: item for item in fetched("set5").role(f"lr_x{scale}")}
    assert len(theirs) == 5
    for item in fetched("set5").role("hr"):
        ours = images.to_uint8(degrade.degrade(
            degrade.prepare_target(item.load(), protocol), protocol))
        assert np.array_equal(ours, theirs[f"{item.name}x{scale}"].load()), item.name


