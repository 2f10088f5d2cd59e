"""The receptive field of a network: the input pixels that an output pixel depends on, exactly.

Reads the layout of a network, not its weights, and writes nothing. Windows and convolutions act on
squares, so one dimension suffices. An interval of pixels is followed from the output back to the
input, and each step widens it to the interval that the step reads. If windows lie at multiples of
their side, the width depends on the pixel's position in its window; ``radius`` takes the maximum.

Try: ``python -c "from irbench.models.semanir import semanir_light as build;
print(build('sr', 2, 3).receptive_field)"``
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from irbench.models.layers import Shuffle, Unshuffle


class Span(NamedTuple):
    """The pixels first .. last of a row, both included."""

    first: int
    last: int

    def wider(self, by: int) -> Span:
        """Return what a filter of radius ``by`` reads."""
        return Span(self.first - by, self.last + by)

    def windows(self, side: int, start: int = 0) -> Span:
        """Return all of the windows touched, which begin at multiples of side, plus start."""
        first, last = ((x - start) // side for x in self)
        return Span(first * side + start, last * side + side - 1 + start)

    def shrunk(self, by: int) -> Span:
        """Return the same place in an image ``by`` times as small."""
        return Span(self.first // by, self.last // by)

    def grown(self, by: int) -> Span:
        """Return the same place in an image ``by`` times as large."""
        return Span(self.first * by, self.last * by + by - 1)

    def join(self, other: Span) -> Span:
        """Return the smallest span that holds both."""
        return Span(min(self.first, other.first), max(self.last, other.last))


def through(end: nn.Module, span: Span) -> Span:
    """Follow a span back through one of ``layers.ends``, a chain of convolutions and shuffles."""
    for module in reversed(list(end.modules())):
        if isinstance(module, Unshuffle):
            span = span.grown(module.scale)
        elif isinstance(module, Shuffle):
            span = span.shrunk(module.scale)
        elif isinstance(module, nn.Conv2d):
            span = span.wider(module.kernel_size[0] // 2)
    return span


def radius(back: Callable[[Span], Span], period: int, scale: int) -> int:
    """Return the farthest that any output pixel looks, in input pixels.

    Arguments:
        back: from a span of output pixels to the one of the input that it depends on.
        period: after how many input pixels the layout repeats.
        scale: output size / input size.
    """
    farthest = 0
    for place in range(period):
        span = back(Span(place, place).grown(scale))
        farthest = max(farthest, place - span.first, span.last - place)
    return farthest
