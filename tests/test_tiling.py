"""Tiles: that they make the whole image, and that memory decides when they are needed."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from irbench import budget, memory, tiling
from irbench.errors import Unavailable, UserError
from irbench.models.compacter import compacter
from irbench.models.padding import Restorer
from irbench.models.semanir import semanir_light
from irbench.tiling import Cut, Tiled, cut_for, in_tiles

torch.set_num_threads(1)

MIB = 2**20
LEVEL = 1 / 255
linux = pytest.mark.skipif(not memory.CLEAR_REFS.exists(), reason="needs Linux")


class Convolutions(Restorer):
    """A bounded network: 3x3 convolutions with zero padding, then a pixel shuffle."""

    def __init__(self, depth=3, scale=1, multiple=1, skip="none", width=6):
        super().__init__(channels=3, scale=scale, size_multiple=multiple, skip=skip)
        torch.manual_seed(0)
        widths = [3, *[width] * (depth - 1), 3 * scale**2]
        self.body = nn.Sequential(*(nn.Conv2d(a, b, 3, padding=1)
                                    for a, b in itertools.pairwise(widths)))
        self.shuffle = nn.PixelShuffle(scale)
        self.receptive_field = max(depth, 2 if skip == "input" else 0)  # bicubic reaches 2
        self.sizes = []

    def restore(self, x):
        self.sizes.append(tuple(x.shape[-2:]))
        return self.shuffle(self.body(x))


class Limited(nn.Module):
    """Runs out of memory above a number of pixels."""

    def __init__(self, most):
        super().__init__()
        self.most, self.tried = most, []

    def forward(self, x):
        self.tried.append(tuple(x.shape[-2:]))
        if x.shape[-2] * x.shape[-1] > self.most:
            raise torch.OutOfMemoryError("no memory")
        return 2 * x


def image(height, width, channels=3):
    return torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(3))


def run(network, *arguments):
    with torch.inference_mode():
        return network(*arguments)


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
        Tiled(Convolutions(multiple=8), {"tile": tile, "overlap": overlap})


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


@settings(derandomize=True, deadline=None, max_examples=25)
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
    tiled = Tiled(network, {"tile": 40, "overlap": 16})
    x = image(50, 70)
    whole, y = run(network, x), run(tiled, x)
    assert y.shape == whole.shape and 0 < (y - whole).abs().max() < 0.5
    assert tiled.record() == {
        "size": [40, 40], "overlap": 16, "images": 1, "exact": False, "exact_overlap": None,
        "reason": "tiles of 40 were asked for; differs from the whole image: its receptive field "
                  "is unbounded or unknown"}


def test_the_same_image_twice_gives_the_same_bits():
    network = Tiled(Convolutions(depth=4, scale=2), {"tile": 24})
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
    with pytest.raises(UserError, match="made 15 x 15 pixels of a tile of 16 x 16"):
        in_tiles(lambda x: x[..., 1:, 1:], image(30, 30), Cut(16, 2, 1, None))


# -- when --------------------------------------------------------------------------------------

def test_small_images_are_not_touched_or_measured(monkeypatch):
    monkeypatch.setattr(budget, "measure", None)
    network = Convolutions()
    tiled = Tiled(network)
    x = image(40, 50)
    assert torch.equal(run(tiled, x), run(network, x))
    assert (tiled.tiles, tiled.record(), network.sizes) == (1, None, [(40, 50)] * 2)


def test_a_given_tile_is_for_larger_images_only():
    tiled = Tiled(Convolutions(), {"tile": 40})
    run(tiled, image(40, 30))
    assert tiled.tiles == 1 and tiled.record() is None
    run(tiled, image(20, 60))
    assert tiled.tiles == 2
    assert tiled.record()["exact"] and "as the whole image" in tiled.record()["reason"]


def test_out_of_memory_halves_until_it_fits_and_says_so():
    network = Limited(most=100 * 100)
    tiled = Tiled(network)
    x = image(300, 400)
    y = run(tiled, x)
    assert torch.allclose(y, 2 * x, atol=1e-6)
    assert network.tried[0] == (300, 400) and network.tried[1][0] > 100 < network.tried[1][1]
    assert max(a * b for a, b in network.tried[-tiled.tiles:]) <= 100 * 100
    record = tiled.record()
    assert record["size"] == [100, 100] and record["images"] == 1
    assert record["reason"].startswith("memory ran out at the whole of 300 x 400 pixels; differs")
    # a second image of that size is not tried whole again
    tries = len(network.tried)
    assert torch.allclose(run(tiled, x), 2 * x, atol=1e-6)
    assert len(network.tried) == tries + tiled.tiles
    run(tiled, image(90, 100))
    assert tiled.tiles == 1 and tiled.record()["images"] == 2


def test_a_given_tile_is_halved_too():
    network = Limited(most=70 * 70)
    tiled = Tiled(network, {"tile": 130})
    x = image(200, 260)
    assert torch.allclose(run(tiled, x), 2 * x, atol=1e-6)
    assert tiled.record()["size"] == [65, 65]
    assert tiled.record()["reason"].startswith("tiles of 130 were asked for; memory ran out at "
                                               "tiles of 130 pixels")


def test_memory_that_never_suffices_is_unavailable():
    with pytest.raises(Unavailable, match="out of memory at 200x300 pixels, even in tiles of 75"):
        run(Tiled(Limited(most=10)), image(200, 300))


def test_off_never_tiles():
    network = Limited(most=10)
    with pytest.raises(torch.OutOfMemoryError):
        run(Tiled(network, {"tile": "off"}), image(20, 30))
    assert network.tried == [(20, 30)]


def test_other_errors_are_not_taken_for_memory():
    with pytest.raises(RuntimeError, match="expected input"):
        run(Tiled(Convolutions().body), image(20, 20, channels=4))


def test_the_first_pass_is_watched_and_no_other():
    entered = []

    class Watch:
        def __enter__(self):
            entered.append(1)
            return ["seen"]

        def __exit__(self, *_):
            return None

    tiled = Tiled(Convolutions(), {"tile": 16}, watch=Watch)
    assert tiled.observed is None
    for _ in range(2):
        run(tiled, image(40, 40))
    assert entered == [1] and tiled.observed == ["seen"]


def test_progress_is_told():
    told = []
    run(Tiled(Convolutions(), {"tile": 20}, done=lambda *n: told.append(n)), image(20, 50))
    assert told == [(i, 4) for i in range(1, 5)] or told == [(i, 3) for i in range(1, 4)]


# -- the memory budget -------------------------------------------------------------------------

def test_needs_go_on_in_proportion_or_faster():
    straight = budget.Needs(((100, 1000), (400, 1600)), slack=1.5)
    assert straight.of(1000) == int(1.5 * (1600 + 2 * 600))
    square = budget.Needs(((100, 1000), (400, 16000)))
    assert square.of(1600) == pytest.approx(16000 * 16, rel=1e-6)
    assert budget.Needs(None, scale=3, channels=2).output(10) == 4 * 2 * 9 * 10


@linux
def test_a_measured_estimate_is_near_the_truth():
    network = Convolutions(depth=3, width=64)
    needs = budget.measure(network, 3, "cpu", 1)
    assert (needs.scale, needs.channels) == (1, 3)
    x = image(400, 500)
    truth, _ = memory.resident_peak(lambda: network(x))
    assert truth < needs.of(400 * 500) < 2.5 * truth


def fake(monkeypatch, allowed, needs):
    monkeypatch.setattr(budget.Budget, "allowed", lambda self: allowed)
    monkeypatch.setattr(budget, "measure", lambda *_: needs)


# 1200 bytes a pixel
LINEAR = budget.Needs(((1000, 10**6), (4000, 4 * 10**6)), scale=2, channels=3, slack=1.2)


def test_an_image_above_the_budget_is_tiled_with_the_largest_that_fit(monkeypatch):
    fake(monkeypatch, 50 * 10**6, LINEAR)
    network = Convolutions(scale=2, multiple=4)
    tiled = Tiled(network, {"memory_gib": 1})
    x = image(200, 300)  # needs 72 MB, its output 2.88 MB
    y = run(tiled, x)
    assert torch.allclose(y, run(network, x), atol=2e-6)
    side = tiled.record()["size"][0]
    left = 50 * 10**6 - 4 * 12 * 200 * 300
    assert 1200 * side**2 <= left < 1200 * (side + 4) ** 2
    assert tiled.record()["reason"].startswith(
        "the whole of 200 x 300 pixels was estimated to need 0.0671 GiB (1 GiB allowed for the "
        "process); as the whole image")
    run(tiled, image(200, 200))  # 48 MB
    assert tiled.tiles == 1 and tiled.images == 1


def test_a_budget_too_small_for_any_tile_is_said(monkeypatch):
    fake(monkeypatch, 4 * 10**6, LINEAR)
    with pytest.raises(UserError, match="memory_gib is 0.5: even tiles of 64 pixels would need"):
        run(Tiled(Convolutions(scale=2), {"memory_gib": 0.5}), image(200, 300))
    # nothing was asked for: the smallest are tried
    tiled = Tiled(Convolutions(scale=2))
    run(tiled, image(200, 300))
    assert tiled.record()["size"] == [64, 64]


def test_where_nothing_can_be_measured_the_image_itself_tells(monkeypatch):
    fake(monkeypatch, 10**6, budget.Needs(None, reason="needs Linux"))
    tiled = Tiled(Limited(most=200 * 200))
    run(tiled, image(200, 300))
    assert tiled.record()["reason"].startswith("memory ran out")
    with pytest.raises(UserError, match="memory_gib cannot be kept here: needs Linux. Give the"):
        run(Tiled(Convolutions(), {"memory_gib": 2}), image(200, 300))


def test_weights_beyond_the_budget_are_said(monkeypatch):
    monkeypatch.setattr(budget, "taken", lambda device: 3 * budget.GIB)
    with pytest.raises(UserError, match="memory_gib is 2, but weights and program alone take 3 G"):
        run(Tiled(Convolutions(), {"memory_gib": 2}), image(20, 30))


@linux
def test_a_real_budget_is_kept():
    """A network of 150 MB for the whole image, 90 MB allowed: in tiles it stays below."""
    network = Convolutions(depth=3, width=64)
    x = image(500, 500)
    whole, _ = memory.resident_peak(lambda: network(x))
    tiled = Tiled(network, {"memory_gib": (budget.taken("cpu") + 90 * MIB) / budget.GIB})
    y = run(tiled, x)
    assert tiled.tiles > 1 and torch.allclose(y, run(network, x), atol=2e-6)
    peak, _ = memory.resident_peak(lambda: tiled(x))
    assert peak < 90 * MIB < 120 * MIB < whole


# -- the machine -------------------------------------------------------------------------------

@linux
def test_memory_taken_is_not_available():
    before, held = budget.available("cpu"), budget.taken("cpu")
    kept = torch.ones(200 * MIB // 4)
    assert budget.taken("cpu") - held > 190 * MIB
    assert 0 < budget.available("cpu") < before + 2 * budget.GIB  # others run here too
    del kept


def group(folder, limit, use, files, version=2):
    names = (("memory.max", "memory.current", "inactive_file") if version == 2 else
             ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))
    folder.mkdir(parents=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{use}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {files}\n")


@pytest.mark.parametrize("version, root", [(2, "."), (1, "memory")])
def test_a_control_group_limits_what_is_available(tmp_path, version, root):
    group(tmp_path / "fs" / root / "job", 1000, 400, 100, version)
    group(tmp_path / "fs" / root / "job" / "step", "max" if version == 2 else 2**63 - 4096, 300, 0,
          version)
    own = tmp_path / "cgroup"
    own.write_text("9:name=systemd:/\n4:memory:/job/step\n" if version == 1 else "0::/job/step\n")
    assert budget.group_rest(tmp_path / "fs", own) == [700]
    assert budget.group_rest(tmp_path / "fs", tmp_path / "none") == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_budget_is_kept():
    network = Convolutions(depth=3, width=64).cuda()
    x = image(1000, 1000).cuda()
    allowed = torch.cuda.memory_allocated() + 300 * MIB
    tiled = Tiled(network, {"memory_gib": allowed / budget.GIB}, "cuda")
    torch.cuda.reset_peak_memory_stats()
    y = run(tiled, x)
    assert tiled.tiles > 1 and y.device.type == "cpu"
    assert torch.cuda.max_memory_allocated() < 1.1 * allowed
    assert torch.allclose(y, run(network, x).cpu(), atol=1e-4)
