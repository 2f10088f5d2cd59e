"""The reference networks: their published sizes, any input, and nothing but speed."""

import warnings

import pytest
import torch

from irbench.core.errors import UserError
from irbench.jobs.profiling import macs
from irbench.models import reference, registry

torch.set_num_threads(1)


def test_the_cards_are_marked_as_references_and_are_no_peers():
    from irbench.catalog import peers

    for name in reference.CARDS:
        card = registry.get(name)
        assert card.reference
        assert not card.learned
        assert not card.in_paper
        assert "random weights" in card.title
        assert name not in peers.catalog()


@pytest.mark.parametrize(("name", "millions"), [
    # SwinIR's paper; SwinIR-S as in its authors' code (their issue 45), not as printed
    ("swinir-m-random", {2: 11.75, 3: 11.94, 4: 11.90}),
    ("swinir-s-random", {2: 0.910, 3: 0.918, 4: 0.930})])
def test_the_published_sizes_come_out(name, millions):
    for scale, expected in millions.items():
        model = registry.get(name).load()("sr", scale, 3)
        found = sum(p.numel() for p in model.parameters()) / 1e6
        assert found == pytest.approx(expected, abs=0.006 if expected > 1 else 0.0006)


@pytest.fixture(scope="module")
def small():
    return registry.get("swinir-s-random").load()("sr", 2, 3).eval()


@pytest.mark.slow
def test_macs_of_the_lightweight_one_by_hand(small):
    N, C, H, W = 64, 60, 16, 24  # tokens of a window, channels
    pixels, layers, stages = H * W, 24, 4
    found = macs.count(small, (torch.rand(1, 3, H, W),))
    assert found.uncounted == {}
    assert found.by_kind == {
        "linear": layers * pixels * (4 + 2 * 2) * C * C,     # qkv, projection; MLP of ratio 2
        "attention": layers * pixels * 2 * N * C,
        # first, one a stage, after the body, and to 3 channels at x2
        "conv": pixels * 9 * (3 * C + (stages + 1) * C * C + C * 12),
        "dictionary": 0, "other": 0}


@pytest.mark.parametrize("size", [(2, 3), (17, 41), (64, 64)])
def test_any_size(small, size):
    with torch.inference_mode():
        y = small(torch.rand(1, 3, *size))
    assert y.shape == (1, 3, 2 * size[0], 2 * size[1])
    assert y.isfinite().all()


@pytest.mark.parametrize("dtype", registry.get("swinir-s-random").dtypes)
def test_the_number_types_of_the_card(dtype):
    dtype = getattr(torch, dtype)
    model = registry.get("swinir-s-random").load()("sr", 2, 1).to(dtype).eval()
    with torch.inference_mode():  # 16: with masks that are made anew, in float32
        assert model(torch.rand(1, 1, 16, 16, dtype=dtype)).dtype == dtype


def test_nothing_is_said_of_spandrels_own_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry.get("swinir-s-random").load()("sr", 2, 3)


@pytest.mark.parametrize(("arguments", "options", "message"), [
    (("sr", 8, 3), {}, "scale 8"), (("denoise_color", 1, 3), {}, "task 'denoise_color'"),
    (("sr", 1, 3), {}, "scale 1"), (("sr", 2, 3), {"width": 60}, "unknown option 'width'")])
def test_what_the_card_does_not_offer_is_refused(arguments, options, message):
    with pytest.raises(UserError, match=message):
        reference.swinir_m(*arguments, **options)
