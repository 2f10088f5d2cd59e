import numpy as np
import pytest
from scipy.ndimage import correlate

from irbench import metrics, protocols
from irbench.errors import UserError

SR = protocols.get("sr-x2")
COLOR = protocols.get("denoise_color-sigma25")


def pair(seed=0, h=40, w=48, c=3, noise=20):
    rng = np.random.default_rng(seed)
    smooth = correlate(rng.normal(128, 200, (h, w, c)), np.ones((5, 5, 1)) / 25)
    target = np.clip(smooth, 0, 255).astype(np.uint8)
    other = np.clip(target + rng.normal(0, noise, target.shape), 0, 255).astype(np.uint8)
    return other, target


def formula_psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def formula_ssim(a, b):
    """Wang et al. 2004, one channel, 2-D kernel, valid region, written independently."""
    x = np.arange(-5, 6)
    kernel = np.exp(-(x[:, None] ** 2 + x**2) / (2 * 1.5**2))
    kernel /= kernel.sum()

    def mean(z):
        return correlate(z, kernel)[5:-5, 5:-5]
    a, b = a.astype(float), b.astype(float)
    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = 6.5025, 58.5225
    return np.mean((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))


def formula_y(image):
    return 16 + image.astype(float) @ np.array([65.481, 128.553, 24.966]) / 255


@pytest.mark.parametrize("seed", range(4))
def test_scores_against_independent_formulas(seed):
    restored, target = pair(seed)
    got = metrics.Scorer(SR, ("psnr", "ssim"))(restored, target)
    a, b = (formula_y(p)[2:-2, 2:-2] for p in (restored, target))
    assert got["psnr"] == pytest.approx(formula_psnr(a, b), abs=1e-5)
    assert got["ssim"] == pytest.approx(formula_ssim(a, b), abs=1e-9)
    got = metrics.Scorer(COLOR, ("psnr", "ssim"))(restored, target)
    assert got["psnr"] == pytest.approx(formula_psnr(restored, target), abs=1e-5)
    channels = [formula_ssim(restored[..., c], target[..., c]) for c in range(3)]
    assert got["ssim"] == pytest.approx(np.mean(channels), abs=1e-9)


def test_why_pyiqas_own_luma_is_not_used():
    """pyiqa's default YIQ is full-range: 20*log10(255/219) = 1.32 dB below the papers' figure."""
    import torch
    from pyiqa.archs.psnr_arch import psnr

    restored, target = pair(c=1, noise=10)
    restored, target = (np.repeat(p, 3, axis=-1) for p in (restored, target))
    tensors = [torch.from_numpy(p / 255).permute(2, 0, 1)[None] for p in (restored, target)]
    theirs = float(psnr(*tensors, test_y_channel=True))
    ours = formula_psnr(formula_y(restored), formula_y(target))
    assert ours - theirs == pytest.approx(20 * np.log10(255 / 219), abs=1e-3)


def test_why_pyiqas_ssim_is_not_used():
    """It sets negative contrast-structure terms to zero, which lifts the score of noisy images."""
    import torch
    from pyiqa.archs.ssim_arch import ssim

    def theirs(restored, target):
        tensors = [torch.from_numpy(p.astype(float)).permute(2, 0, 1)[None]
                   for p in (restored, target)]
        return float(ssim(*tensors, data_range=255))

    mild, noisy = pair(noise=5), pair(noise=120)
    # images of noise against independent noise, where covariances of both signs are common
    unrelated = (pair(1)[1], pair(2)[1])
    assert theirs(*mild) == pytest.approx(
        metrics.ssim(*(p.astype(float) for p in mild)), abs=1e-6)
    assert theirs(*noisy) > metrics.ssim(*(p.astype(float) for p in noisy)) + 1e-6
    assert theirs(*unrelated) > metrics.ssim(*(p.astype(float) for p in unrelated)) + 1e-3


# the package asks torchvision in the old way
@pytest.mark.filterwarnings("ignore::UserWarning:torchvision")
def test_lpips_agrees_with_its_authors_package():
    """pyiqa's LPIPS and the package ``lpips`` on the same random AlexNet."""
    import lpips
    import torch
    import torchvision

    torch.manual_seed(0)
    backbone = torchvision.models.alexnet(weights=None).state_dict()
    distance = metrics.make_lpips(backbone)
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    with torch.no_grad():
        for name, value in theirs.net.named_parameters():
            _slice, layer, kind = name.split(".")
            value.copy_(backbone[f"features.{layer}.{kind}"])
    restored, target = pair(h=64, w=80)
    tensors = [torch.from_numpy(p.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
               for p in (restored, target)]
    with torch.no_grad():
        expected = theirs(*tensors).item()
    assert expected > 1e-3
    assert distance(restored, target) == pytest.approx(expected, rel=1e-5)
    assert distance(target, target) == 0
    gray = (restored[..., :1], target[..., :1])
    assert distance(*gray) == pytest.approx(distance(*(np.repeat(g, 3, -1) for g in gray)))


def test_lpips_without_weights_is_null_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("IRBENCH_MIRROR", raising=False)
    scorer = metrics.Scorer(COLOR)
    scores = scorer(*pair())
    assert scores["lpips"] is None
    assert scores["psnr"] > 0
    assert "alexnet-owt-7be5be79.pth" in scorer.missing["lpips"]
    assert metrics.mean([scores, scores], metrics.NAMES)["lpips"] is None


def test_lpips_weights_are_found_in_hub_and_mirror_and_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub_home"))
    monkeypatch.setenv("IRBENCH_MIRROR", str(tmp_path / "mirror"))
    assert metrics.lpips_weights()[0] is None
    # a file whose SHA-256 begins with its name's digits stands for the real one
    content = b"stand-in"
    digest = __import__("hashlib").sha256(content).hexdigest()[:8]
    name = f"alexnet-owt-{digest}.pth"
    monkeypatch.setattr(metrics, "BACKBONE", name)
    monkeypatch.setattr(metrics, "BACKBONE_URL", f"https://download.pytorch.org/models/{name}")
    mirrored = tmp_path / "mirror" / "download.pytorch.org" / "models" / name
    mirrored.parent.mkdir(parents=True)
    mirrored.write_bytes(content)
    assert metrics.lpips_weights()[0] == mirrored
    hub = tmp_path / "hub_home" / "hub" / "checkpoints" / name
    hub.parent.mkdir(parents=True)
    hub.write_bytes(b"damaged")
    path, reason = metrics.lpips_weights()
    assert path is None
    assert "checksum is wrong" in reason


def test_identical_images_have_no_psnr_and_no_mean():
    _, target = pair()
    scores = metrics.Scorer(COLOR, ("psnr", "ssim"))(target, target)
    assert scores == {"psnr": None, "ssim": 1.0}
    other = metrics.Scorer(COLOR, ("psnr", "ssim"))(*pair())
    assert metrics.mean([scores, other], ("psnr", "ssim"))["psnr"] is None


def test_mean_needs_every_image():
    assert metrics.mean([], ("psnr",)) == {"psnr": None}
    assert metrics.mean([{"psnr": 1.0}, {"psnr": 2.0}], ("psnr",)) == {"psnr": 1.5}


def test_what_cannot_be_scored():
    restored, target = pair()
    with pytest.raises(UserError, match="does not fit the protocol"):
        metrics.Scorer(COLOR, ("psnr",))(restored[:-1], target)
    with pytest.raises(UserError, match="at least 11x11"):
        metrics.Scorer(COLOR, ("ssim",))(restored[:10, :10], target[:10, :10])
