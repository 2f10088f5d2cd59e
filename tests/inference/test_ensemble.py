"""Self-ensemble: the mean over 8 flips and rotations, exact in tiles, of any size and scale."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from irbench.catalog.model import Inference
from irbench.inference import guard
from irbench.inference.ensemble import VIEWS, back, mean_of_all, seen
from irbench.inference.seeding import seeded
from irbench.inference.tiling import Tiled
from irbench.jobs.evaluate import forward

PLUS = Inference(self_ensemble=True)


class Upscaler(nn.Module):
    """Convolutions that no flip leaves unchanged, before pixels are shuffled by the scale."""

    size_multiple = 1
    receptive_field = 2

    def __init__(self, scale, draws=False):
        super().__init__()
        torch.manual_seed(0)
        self.scale, self.draws = scale, draws
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 3 * scale**2, 3, padding=1)

    def forward(self, x):
        y = nn.functional.pixel_shuffle(self.last(torch.relu(self.first(x))), self.scale)
        return y + 0.1 * torch.randn_like(y) if self.draws else y


@pytest.fixture
def x():
    return torch.rand(1, 3, 11, 17, generator=torch.Generator().manual_seed(1))


def plain_mean(network, x):
    """The mean as numpy turns and flips images, independent of the code under test."""
    image = x[0].permute(1, 2, 0).numpy()
    found = []
    for turns, flip in itertools.product(range(4), (False, True)):
        given = np.rot90(image[:, ::-1] if flip else image, turns).copy()
        y = network(torch.from_numpy(given).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
        y = np.rot90(y, -turns)
        found.append(y[:, ::-1] if flip else y)
    return np.mean(found, axis=0, dtype=np.float64)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_it_is_the_mean_over_all_turns_and_flips(x, scale):
    network = Upscaler(scale).eval()
    with torch.inference_mode():
        y = Tiled(network, PLUS)(x)[0].permute(1, 2, 0).numpy()
        expected = plain_mean(network, x)
        once = network(x)[0].permute(1, 2, 0).numpy()
    assert y.shape == (11 * scale, 17 * scale, 3)
    np.testing.assert_allclose(y, expected, atol=1e-6)
    assert np.abs(y - once).max() > 1e-3


def test_the_views_are_eight_and_each_is_undone(x):
    assert len({seen(x, view).numpy().tobytes() for view in VIEWS}) == 8
    for view in VIEWS:
        assert torch.equal(back(seen(x, view), view), x)


def test_an_output_that_is_the_input_stays_as_it_is(x):
    before = x.clone()
    torch.testing.assert_close(mean_of_all(lambda given: given, x), x)
    assert torch.equal(x, before)


def test_tiles_are_those_of_one_image_and_exact(x):
    network = Upscaler(2).eval()
    whole, tiled, single = (Tiled(network, options) for options in (
        PLUS, Inference(self_ensemble=True, tile=10, overlap=4), Inference(tile=10, overlap=4)))
    with torch.inference_mode():
        torch.testing.assert_close(tiled(x), whole(x), atol=1e-6, rtol=0)
        tiled(x), single(x)
    assert (whole.images, whole.tiles) == (0, 1)
    assert (tiled.images, tiled.tiles) == (2, single.tiles)
    assert tiled.record()["exact"]


def test_what_a_network_draws_is_seeded_and_differs_between_passes(x):
    image = x[0].permute(1, 2, 0).numpy()
    network = Tiled(guard.guard(Upscaler(1, draws=True).eval(), "mine", scale=1, channels=3), PLUS)
    one, same, other = (forward(network, image, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    with torch.inference_mode(), seeded(3):
        single = Tiled(network.network)(x)
    noise = Upscaler(1).eval()
    with torch.inference_mode():
        clean, clean_plus = noise(x), Tiled(noise, PLUS)(x)
    # independent noise: the mean of 8 has about 1 / sqrt(8) of it
    spread = np.std(one - clean_plus[0].permute(1, 2, 0).numpy())
    assert spread < 0.6 * float((single - clean).std())
