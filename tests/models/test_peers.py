"""Networks of other groups: sizes, padding, and the structure that their papers state."""

import numpy as np
import pytest
import torch

from irbench.core.errors import UserError
from irbench.models import registry
from irbench.models.peers import ramit

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


def test_an_unknown_architecture_is_named():
    with pytest.raises(UserError, match="unknown architecture 'imdm'. Did you mean 'imdn'"):
        registry.build_peer("imdm", 2, 3)
