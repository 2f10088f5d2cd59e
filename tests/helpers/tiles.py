"""What the tests of tiling share: a network with a bound, an image, a pass without gradients."""

import itertools

import torch
from torch import nn

from irbench.models.padding import Restorer


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


def image(height, width, channels=3):
    return torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(3))


def run(network, *arguments):
    with torch.inference_mode():
        return network(*arguments)
