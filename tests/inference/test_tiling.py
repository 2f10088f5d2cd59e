"""Tiles: where they lie, and that they make the whole image."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from irbench.catalog.model import Inference
from irbench.core.errors import UserError
from irbench.inference import tiling
from irbench.inference.tiling import Cut, Tiled, cut_for, in_tiles
from irbench.models.compacter import compacter
from irbench.models.semanir import semanir_light
from tests.helpers.tiles import Convolutions, image, run

torch.set_num_threads(1)

LEVEL = 1 / 255


# -- geometry ----------------------------------------------------------------------------------

cuts = st.builds(lambda m, o, more, r: Cut(m * (o + more), m * o, m, r),
                 st.integers(1, 9), st.integers(1, 5), st.integers(1, 6),
                 st.one_of(st.none(), st.integers(0, 12)))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(cuts, st.integers(2, 300))
def test_spans_cover_a_side_and_lie_as_windows_do(cut, length):
    spans = cut.spans(length)
    assert spans[0][0] == 0 and spans[-1][1] == length
    assert all(stop - start <= cut.tile for start, stop in spans)
    if len(spans) == 1:
        return
    assert length > cut.tile
    for (start, stop), (after, end) in itertools.pairwise(spans):
        assert stop - after == cut.overlap and after > start and end > stop
        assert start % cut.multiple == after % cut.multiple == 0
        assert (stop - start) % cut.multiple == 0
    # a last tile continues by reflection as the whole image does: it has all pixels that takes
    assert spans[-1][1] - spans[-1][0] > max(cut.multiple, 1)
    # no fewer tiles would do
    assert (len(spans) - 1) * (cut.tile - cut.overlap) + cut.overlap < length


@settings(derandomize=True, deadline=None, max_examples=200)
@given(cuts, st.integers(2, 300), st.integers(1, 4))
def test_weights_add_up_to_one_and_keep_to_what_is_right(cut, length, scale):
    spans, weights = cut.spans(length), cut.weights(length, scale)
    total = torch.zeros(scale * length)
    for (start, stop), weight in zip(spans, weights, strict=True):
        assert weight.shape == (scale * (stop - start),) and weight.dtype == torch.float32
        assert weight.min() >= 0 and weight.max() <= 1
        total[scale * start:scale * stop] += weight
        if cut.exact and cut.radius:
            if start > 0:
                assert not weight[:scale * cut.radius].any()
            if stop < length:
                assert not weight[-scale * cut.radius:].any()
    assert torch.allclose(total, torch.ones(()), atol=1e-6)


def test_overlap_is_exact_where_that_is_cheap_and_stated_where_not():
    network = Convolutions(depth=3, multiple=8)
    assert tiling.exact_overlap(network) == 8
    assert cut_for(network, 70, None) == Cut(64, 8, 8, 3)
    network.receptive_field = 40
    assert tiling.exact_overlap(network) == 80
    assert cut_for(network, 160, None) == Cut(160, 80, 8, 40)  # little more than the usual 64
    assert cut_for(network, 152, None) == Cut(152, 64, 8, 40)
    network.receptive_field = 80
    assert cut_for(network, 640, None) == Cut(640, 160, 8, 80)
    assert cut_for(network, 632, None) == Cut(632, 64, 8, 80)
    assert cut_for(network, 64, None).overlap == 32  # half of a small tile
    assert cut_for(network, 312, 81).overlap == 88
    network.receptive_field = None
    assert tiling.exact_overlap(network) is None
    assert cut_for(network, 312, None) == Cut(312, 64, 8, None)
    assert not cut_for(network, 312, 240).exact
    assert cut_for(nn.Identity(), 10, 0) == Cut(10, 1, 1, None)


@pytest.mark.parametrize("tile, overlap", [(15, None), (63, 50), (8, 0)])
def test_a_tile_that_cannot_hold_its_overlap_is_refused(tile, overlap):
    with pytest.raises(UserError, match=f"tiles of {tile} pixels are too small: Convolutions "
                                        "works in multiples of 8, and an overlap of"):
        Tiled(Convolutions(multiple=8), Inference(tile=tile, overlap=overlap))


# -- equal to the whole image ------------------------------------------------------------------

@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(2, 90), st.integers(2, 90), st.integers(1, 5), st.integers(1, 4),
       st.sampled_from([1, 2, 3]), st.sampled_from(["none", "input"]))
def test_a_convolutional_network_is_the_whole_images(height, width, depth, multiple, scale, skip):
    network = Convolutions(depth, scale, multiple, skip)
    x = image(height, width)
    needed = tiling.exact_overlap(network)
    cut = cut_for(network, needed + 3 * multiple + 5, needed)
    assert cut.exact
    whole = run(network, x)
    tiled, number = run(in_tiles, network, x, cut)
    assert number == len(cut.spans(height)) * len(cut.spans(width))
    assert torch.allclose(tiled, whole, rtol=0, atol=2e-5)  # bicubic x3 rounds its positions


def test_less_overlap_than_stated_shows_at_the_seams_only():
    network = Convolutions(depth=6)
    nn.init.ones_(network.body[0].bias)  # so that padding by zeros is seen
    x = image(60, 60)
    whole = run(network, x)
    tiled, _ = run(in_tiles, network, x, Cut(32, 4, 1, 6))
    wrong = ((tiled - whole).abs() > 1e-5).any(dim=1)[0]
    assert wrong.any()
    spans = Cut(32, 4, 1, 6).spans(60)
    inside = torch.zeros(60, dtype=torch.bool)
    for start, stop in spans:  # right at a receptive field from the inner borders
        inside[start + 6 * (start > 0):stop - 6 * (stop < 60)] = True
    alone = torch.zeros(60, dtype=torch.bool)
    for start, stop in spans:  # of one tile only
        alone[start + 4 * (start > 0):stop - 4 * (stop < 60)] = True
    keep = inside & alone
    assert not wrong[keep][:, keep].any()


@pytest.fixture(scope="module", params=["none", "half"])
def semanir(request):
    """A small SemanIR whose random weights make it depend on all it sees."""
    torch.manual_seed(0)
    network = semanir_light("sr", 2, 3, window=4, k=6, stages=2, layers=1, width=12,
                            shift=request.param).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network


@settings(derandomize=True, deadline=None, max_examples=15)
@given(st.integers(2, 75), st.integers(2, 75), st.integers(1, 4))
def test_semanir_is_the_whole_images_within_a_level(semanir, height, width, more):
    needed = tiling.exact_overlap(semanir)
    cut = cut_for(semanir, needed + 4 * more, needed)
    assert cut.exact and cut.multiple == 4
    x = image(height, width)
    whole = run(semanir, x)
    tiled, _ = run(in_tiles, semanir, x, cut)
    assert (tiled - whole).abs().max() < LEVEL


def test_semanirs_receptive_field_is_not_larger_than_it_must_be(semanir):
    """A pixel as far away as stated, less a window, still changes the output."""
    x = image(64, 64)
    other = x.clone()
    other[..., 32:36, 0:4] = 1 - other[..., 32:36, 0:4]
    changed = (run(semanir, x) != run(semanir, other)).any(dim=1)[0]
    furthest = int(changed.any(dim=0).nonzero().max()) // 2
    assert semanir.receptive_field - 4 <= furthest < semanir.receptive_field + 4


def test_compacter_has_no_exact_overlap_and_the_record_says_so():
    torch.manual_seed(0)
    network = compacter("sr", 2, 3, layers=1, width=12).eval()
    assert tiling.exact_overlap(network) is None
    tiled = Tiled(network, Inference(tile=40, overlap=16))
    x = image(50, 70)
    whole, y = run(network, x), run(tiled, x)
    assert y.shape == whole.shape and 0 < (y - whole).abs().max() < 0.5
    assert tiled.record() == {
        "size": [40, 40], "overlap": 16, "images": 1, "exact": False, "exact_overlap": None,
        "reason": "tiles of 40 were asked for; differs from the untiled result: the receptive "
                  "field is unbounded or unknown"}


def test_the_same_image_twice_gives_the_same_bits():
    network = Tiled(Convolutions(depth=4, scale=2), Inference(tile=24))
    x = image(50, 61)
    assert torch.equal(run(network, x), run(network, x))
    assert network.images == 2


def test_the_input_is_left_alone_by_a_network_that_returns_it():
    x = image(30, 41)
    before = x.clone()
    y, number = run(in_tiles, nn.Identity(), x, Cut(16, 4, 1, None))
    assert torch.equal(x, before) and number == 3 * 4
    assert torch.allclose(y, x, atol=1e-6)


def test_batches_and_other_types_are_put_together_as_float32():
    x = torch.cat([image(20, 33), image(20, 33).flip(-1)])
    y, _ = run(in_tiles, lambda x: x.to(torch.bfloat16), x, Cut(16, 4, 1, None))
    assert y.dtype == torch.float32 and torch.allclose(y, x, atol=4e-3)


def test_a_network_that_does_not_keep_to_a_scale_is_refused():
    with pytest.raises(UserError, match="returned 15 x 15 pixels for a tile of 16 x 16"):
        in_tiles(lambda x: x[..., 1:, 1:], image(30, 30), Cut(16, 2, 1, None))


# -- messages ----------------------------------------------------------------------------------

def test_a_given_tile_is_for_larger_images_only():
    tiled = Tiled(Convolutions(), Inference(tile=40))
    run(tiled, image(40, 30))
    assert tiled.tiles == 1 and tiled.record() is None
    run(tiled, image(20, 60))
    assert tiled.tiles == 2
    assert tiled.record()["exact"] and "equals the untiled result" in tiled.record()["reason"]


def test_the_first_pass_is_watched_and_no_other():
    entered = []

    class Watch:
        def __enter__(self):
            entered.append(1)
            return ["seen"]

        def __exit__(self, *_):
            return None

    tiled = Tiled(Convolutions(), Inference(tile=16), watch=Watch)
    assert tiled.observed is None
    for _ in range(2):
        run(tiled, image(40, 40))
    assert entered == [1] and tiled.observed == ["seen"]


def test_progress_is_reported():
    calls = []
    run(Tiled(Convolutions(), Inference(tile=20), done=lambda *n: calls.append(n)), image(20, 50))
    assert calls == [(i, 4) for i in range(1, 5)]
