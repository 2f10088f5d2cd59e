"""Networks of other groups: sizes, padding, and the structure that their papers state."""

import numpy as np
import pytest
import torch

from irbench.core.errors import UserError
from irbench.imaging import mosaic
from irbench.models import registry
from irbench.models.peers import deepjoint, ramit

# (architecture, options) -> parameters of the authors' files at x2, counted once
NETWORKS = {("imdn", ()): 694_404, ("smfanet", ()): 185_628,
            ("smfanet", (("width", 48), ("blocks", 12))): 480_300, ("ramit", ()): 823_164}


@pytest.mark.parametrize(("architecture", "options"), NETWORKS)
@pytest.mark.parametrize("size", [(2, 3), (7, 33)])
def test_any_size_is_enlarged(architecture, options, size):
    torch.manual_seed(0)
    network = registry.build_peer(architecture, 3, 3, **dict(options)).eval()
    with torch.inference_mode():
        y = network(torch.rand(2, 3, *size))
    assert y.shape == (2, 3, 3 * size[0], 3 * size[1]) and y.isfinite().all()


@pytest.mark.parametrize(("architecture", "options"), NETWORKS)
def test_a_network_has_the_parameters_of_the_authors_files(architecture, options):
    network = registry.build_peer(architecture, 2, 3, **dict(options))
    assert sum(p.numel() for p in network.parameters()) == NETWORKS[architecture, options]


@pytest.mark.parametrize("size", [(5, 40), (32, 3), (64, 32), (9, 77)])
def test_mirroring_repeats_the_edge(size):
    x = np.arange(np.prod(size), dtype=np.float32).reshape(size)
    wanted = np.pad(x, [(0, -side % 32) for side in size], mode="symmetric")
    assert np.array_equal(ramit.mirror(torch.from_numpy(x)[None, None], 32)[0, 0], wanted)


def test_windows_are_rolled_and_come_back():
    """With values that pass through, attention of one pixel each gives every pixel back."""
    attention = ramit.SpatialAttention(shift=4)
    with torch.no_grad():
        attention.logit_scale.fill_(ramit.FINEST)
        attention.proj.weight.copy_(torch.eye(48)[..., None, None])
        attention.proj.bias.zero_()
        # each pixel of a window attends to itself alone: all other positions are out of reach
        attention.relative_position_bias_table.fill_(-1e9)
        attention.relative_position_bias_table[7 * 15 + 7] = 0
    qkv = torch.rand(2, 3, 48, 16, 24)
    wanted = qkv[:, :, 32:].reshape(2, 48, 16, 24)
    assert torch.allclose(attention(qkv, None), wanted, atol=1e-6)
    helper = torch.rand(2, 16, 16, 24)
    assert torch.allclose(attention(qkv, helper), wanted * helper.repeat(1, 3, 1, 1), atol=1e-6)


# -- demosaicking --------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return registry.build_peer("deepjoint", 1, 3).double().eval()


def interpolated(h, w, seed=0):
    image = np.random.default_rng(seed).random((h, w, 3))
    return torch.from_numpy(mosaic.malvar(mosaic.mosaic(image))).permute(2, 0, 1)[None]


def run(network, x):
    with torch.inference_mode():
        return network(x)


def test_deepjoint_has_the_parameters_of_the_authors_file(network):
    assert sum(p.numel() for p in network.parameters()) == 560_886


@pytest.mark.parametrize("size", [(2, 2), (2, 5), (31, 8), (70, 33)])
def test_a_mosaic_of_any_size_is_interpolated(network, size):
    y = run(network, interpolated(*size))
    assert y.shape == (1, 3, *size) and y.isfinite().all()


def test_only_the_measured_values_count(network):
    x = interpolated(20, 22)
    noisy = x + (1 - deepjoint.pattern(x)) * torch.rand(x.shape)
    assert torch.equal(run(network, x), run(network, noisy))
    # one colour a pixel, in the order of irbench's mosaics
    image = np.random.default_rng(1).random((4, 6, 3))
    raw = (deepjoint.pattern(x[..., :4, :6])[0] * torch.from_numpy(image).permute(2, 0, 1)).sum(0)
    assert np.array_equal(raw.numpy(), mosaic.mosaic(image)[..., 0])


def test_the_network_sees_green_first(network):
    """The author's weights are for G R / B G, so the first block holds G R of row 0, or of 2."""
    seen = []
    hook = network.main_processor["pack_mosaic"].register_forward_pre_hook(
        lambda _, given: seen.append(given[0]))
    run(network, interpolated(40, 42))
    hook.remove()
    block = seen[0][0, :, :2, :2] != 0
    assert torch.equal(block[0], torch.tensor([[False, True], [False, False]]))
    assert torch.equal(block[1], torch.tensor([[True, False], [False, True]]))
    assert torch.equal(block[2], torch.tensor([[False, False], [True, False]]))


def test_a_pixel_depends_on_what_its_receptive_field_says(network):
    x = interpolated(100, 100)
    radius = network.receptive_field
    for y, z in ((50, 50), (51, 51)):
        far = x.clone()
        far[..., y - radius:y + radius + 1, z - radius:z + radius + 1] += 1
        changed = x + 1 - (far - x)     # everything else
        assert torch.allclose(run(network, x)[..., y, z], run(network, changed)[..., y, z],
                              rtol=0, atol=1e-12)
    # a part that begins at even pixels gives the same, away from its border
    part = run(network, x[..., 10:, 4:])
    assert torch.allclose(part[..., radius:, radius:],
                          run(network, x)[..., 10 + radius:, 4 + radius:], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rows", "columns"), [(3, 2), (7, 0), (32, 31)])
@pytest.mark.parametrize("size", [(2, 3), (9, 40), (40, 5)])
def test_mirroring_without_the_edge_goes_on_for_ever(rows, columns, size):
    x = np.random.default_rng(0).random(size)
    wanted = np.pad(x, [(rows, rows), (columns, columns)], mode="reflect")
    found = deepjoint.mirrored(torch.from_numpy(x)[None, None], rows, columns)
    assert np.array_equal(found[0, 0].numpy(), wanted)


def test_deepjoint_does_nothing_else():
    with pytest.raises(UserError, match="interpolates mosaics: scale 1 and 3 channels, not 2"):
        registry.build_peer("deepjoint", 2, 3)


def test_an_unknown_architecture_is_named():
    with pytest.raises(UserError, match="unknown architecture 'imdm'. Did you mean 'imdn'"):
        registry.build_peer("imdm", 2, 3)
