import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate

from irbench.catalog import protocols
from irbench.core.errors import Unavailable, UserError
from irbench.imaging import metrics
from irbench.imaging.backbones import Found

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


def formula_ssim_same(a, b):
    """The same with zeros around, all pixels; one channel."""
    return map_of(a, b, KERNEL[:, None] * KERNEL, mode="constant").mean()


def formula_ssim_3d(a, b):
    """An 11x11x11 kernel over (H, W, C), the edges of all three axes repeated."""
    kernel = KERNEL[:, None, None] * KERNEL[:, None] * KERNEL
    return map_of(a, b, kernel, mode="nearest").mean()


KERNEL = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
KERNEL /= KERNEL.sum()


def map_of(a, b, kernel, mode):
    ma, mb, aa, bb, ab = (correlate(p, kernel, mode=mode) for p in (a, b, a * a, b * b, a * b))
    va, vb, cov = aa - ma**2, bb - mb**2, ab - ma * mb
    return ((2 * ma * mb + 6.5025) * (2 * cov + 58.5225)
            / ((ma**2 + mb**2 + 6.5025) * (va + vb + 58.5225)))


def formula_uniform7(a, b):
    from skimage.metrics import structural_similarity

    return structural_similarity(a, b, data_range=255, channel_axis=-1)


def over_channels(formula):
    return lambda a, b: np.mean([formula(a[..., c], b[..., c]) for c in range(a.shape[-1])])


VARIANTS = {
    "gaussian11_valid": over_channels(formula_ssim),
    "gaussian11_same": over_channels(formula_ssim_same),
    "gaussian11_3d": formula_ssim_3d,
    "uniform7": formula_uniform7,
}


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


def test_every_variant_of_ssim_has_a_formula():
    assert set(VARIANTS) == set(metrics._SSIM) == set(protocols.SSIM_VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS)
@example(h=metrics.STRIP + 10, w=11, c=3, seed=0)  # one strip that is full
@example(h=metrics.STRIP + 11, w=12, c=1, seed=1)  # and one row more
@settings(max_examples=15, deadline=None)
@given(h=st.integers(11, 340), w=st.integers(11, 40), c=st.sampled_from([1, 3]),
       seed=st.integers(0, 99))
def test_ssim_against_independent_formulas_in_all_sizes(variant, h, w, c, seed):
    restored, target = (p.astype(float) for p in pair(seed, h, w, c))
    expected = VARIANTS[variant](restored, target)
    assert metrics.ssim(restored, target, variant) == pytest.approx(expected, abs=1e-10)
    assert metrics.ssim(target, target, variant) == pytest.approx(1, abs=1e-12)


def test_ssim_of_black_white_and_opposite_images():
    """Extreme values: what cancels in the moments leaves no visible error."""
    black, white = np.zeros((30, 30, 1)), np.full((30, 30, 1), 255.0)
    stripes = black.copy()
    stripes[::2] = 255
    for pair_ in ((black, white), (white, black), (stripes, 255 - stripes), (white, white)):
        for variant, formula in VARIANTS.items():
            assert metrics.ssim(*pair_, variant) == pytest.approx(formula(*pair_), abs=1e-9)
    assert metrics.ssim(stripes, 255 - stripes) < -0.9


def test_the_variants_differ_and_the_protocol_chooses():
    restored, target = pair()
    values = {v: metrics.ssim(restored, target, v) for v in VARIANTS}
    assert len({round(value, 4) for value in values.values()}) == 4
    assert values["gaussian11_3d"] > values["gaussian11_valid"] + 0.01
    for variant, value in values.items():
        metric = dataclasses.replace(COLOR.metric, ssim=variant)
        scorer = metrics.Scorer(dataclasses.replace(COLOR, metric=metric), ("ssim",))
        assert scorer(restored, target)["ssim"] == value
    gray = (restored[..., :1], target[..., :1])
    assert metrics.ssim(*gray, "gaussian11_3d") == pytest.approx(
        metrics.ssim(*(np.repeat(p, 3, -1) for p in gray), "gaussian11_3d"), abs=1e-12)
    with pytest.raises(UserError, match="gaussian11_vali.*gaussian11_valid"):
        metrics.ssim(restored, target, "gaussian11_vali")


@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_agrees_with_pyiqa(channels):
    import torch
    from pyiqa.archs.psnr_arch import psnr as theirs

    restored, target = pair(c=channels)
    tensors = [torch.from_numpy(p.astype(float)).permute(2, 0, 1)[None]
               for p in (restored, target)]
    # its eps keeps identical images finite; ours are null
    expected = float(theirs(*tensors, data_range=255.0, eps=0))
    assert metrics.psnr(restored, target) == pytest.approx(expected, abs=1e-9)
    assert metrics.psnr(restored.astype(float), target.astype(float)) == pytest.approx(
        float(theirs(*tensors, data_range=255.0)), abs=1e-8)


def test_psnr_and_ssim_need_neither_torch_nor_pyiqa():
    """Both take seconds to import."""
    code = ("import sys; import numpy as np; from irbench.imaging import metrics\n"
            "a = np.zeros((20, 20, 1)); metrics.psnr(a, a + 1); metrics.ssim(a, a + 1)\n"
            "assert not {'torch', 'pyiqa', 'scipy'} & set(sys.modules), sorted(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_gray_file_of_a_colour_set_is_y_or_is_converted_to_it(scale):
    """Set14's bridge: 219/255 of the range is 1.32 dB; RGB files are the same under both."""
    old, new = (metrics.Scorer(protocols.get(f"sr-x{scale}@{v}"), ("psnr", "ssim")) for v in (1, 2))
    restored, target = (np.repeat(p, 3, axis=-1) for p in pair(c=1, noise=9))
    one, other = (scorer(restored, target, gray_file=True) for scorer in (old, new))
    assert other["psnr"] - one["psnr"] == pytest.approx(20 * np.log10(255 / 219), abs=1e-9)
    assert other["ssim"] > one["ssim"]
    assert new(restored, target, gray_file=False) == other
    colour = pair(noise=9)
    assert old(*colour) == new(*colour) == new(*colour, gray_file=False)
    # a file is not gray unless the caller says so
    one, other = (metrics.planes(target, old.protocol, *more) for more in ((), (True,)))
    assert (one == metrics.planes(target, new.protocol)).all() and (one != other).any()


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


def test_a_job_names_the_weights_of_the_metrics_it_asks_for(tmp_path, monkeypatch):
    here = Found(tmp_path / "net.pth", "net.pth", "here")
    monkeypatch.setattr(metrics, "FILES", {"lpips": lambda: here})
    assert metrics.weights_in_use(["psnr", "lpips"]) == {"lpips_weights": "net.pth"}
    monkeypatch.setattr(metrics, "FILES", {"lpips": lambda: Found(None, None, "not here")})
    assert metrics.weights_in_use(["psnr", "lpips"]) == {"lpips_weights": None}
    assert metrics.weights_in_use(["psnr"]) == {}


def test_a_scorer_names_what_it_was_asked_for_in_the_order_of_the_table(monkeypatch):
    def missing(_protocol):
        raise Unavailable("no weights")
    monkeypatch.setitem(metrics.COMPUTED, "lpips", missing)
    scorer = metrics.Scorer(COLOR, ("lpips", "ssim", "psnr"))
    assert scorer.prepared == ("psnr", "ssim", "lpips")
    assert scorer.missing == {"lpips": "no weights"}


def test_a_metric_of_images_gets_both_without_what_the_protocol_scores():
    restored, target = pair()
    score = metrics.on_images(lambda: lambda a, b: (a is restored, b is target))(COLOR)
    assert score(metrics.Pair(restored, target, ())) == (True, True)


def test_threads_compute_metrics_without_a_state_alone():
    assert sorted(metrics.THREADED) == ["psnr", "ssim"]


def test_a_metric_that_nothing_computes_is_refused():
    with pytest.raises(UserError, match="unknown metric 'lpip'. Did you mean 'lpips'"):
        metrics.Scorer(COLOR, ("psnr", "lpip"))


@pytest.mark.parametrize(("value", "reason"), [
    (float("nan"), "odd is nan"), (float("inf"), "odd is inf"),
    (Unavailable("too small"), "too small")])
def test_an_image_without_a_score_has_none_and_a_reason(monkeypatch, value, reason):
    def score(_pair):
        if isinstance(value, Exception):
            raise value
        return value
    monkeypatch.setitem(metrics.COMPUTED, "odd", lambda protocol: score)
    scorer = metrics.Scorer(COLOR, ("psnr", "odd"))
    scores = scorer(*pair())
    assert scores["odd"] is None and scores["psnr"] > 0
    assert scorer.failed == {"odd": reason} and not scorer.missing


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
    with pytest.raises(UserError, match="at least 7x7"):
        metrics.ssim(restored[:6], target[:6], "uniform7")
    # with a border that is made up any size has a value
    for variant in ("gaussian11_same", "gaussian11_3d"):
        tiny = [p[:2, :1].astype(float) for p in (restored, target)]
        assert metrics.ssim(*tiny, variant) == pytest.approx(VARIANTS[variant](*tiny), abs=1e-10)
