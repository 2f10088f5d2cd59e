"""Images in tiles, where the whole needs more memory than there is: overlap, blended seams.

Reads and writes tensors only. Sizes are in pixels of the input, h x w; s is the network's scale.

    cut     A side is cut into tiles that begin at multiples of the network's ``size_multiple`` and
            share ``overlap`` pixels. They are as equal as that allows and no larger than the tile
            asked for; the last ends at the border. So windows lie as in the whole image, and a
            network that pads at the bottom and the right pads the last tile as the whole image.
    blend   In the overlap a ramp leads from one tile to the next; the weights are products of one
            ramp a direction and add up to 1, so no map of weights is needed beside the output.
    exact   A network whose output depends on at most r pixels around (``receptive_field``) is
            right at r pixels from a tile's border. With an overlap of at least 2r the ramp keeps
            to where both tiles are right: the result is the whole image's up to rounding. With
            less overlap, or where r is unbounded (None), it differs near the seams, or everywhere.
    when    see ``Tiled``. Every choice is kept with its reason.

Try: ``python -c "import torch; from irbench.inference.tiling import Tiled; net =
Tiled(torch.nn.Conv2d(
3, 3, 3, padding=1), {'tile': 64}); net(torch.rand(1, 3, 99, 150)); print(net.record())"``
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from irbench.catalog.model import Inference
from irbench.core.errors import Unavailable, UserError
from irbench.inference.budget import Budget, Needs, gib
from irbench.inference.memory import out_of_memory
from irbench.inference.options import DEFAULT

OVERLAP = 64  # where exactness would cost much more than that, or cannot be had; ours
SMALLEST = 64  # side of the smallest tiles chosen unasked
MOST = 4  # exact overlaps up to tile / MOST are taken unasked: at most 1.8 times the work

Watch = Callable[[], contextlib.AbstractContextManager]


# -- geometry ----------------------------------------------------------------------------------

@dataclass(frozen=True)
class Cut:
    """How images are cut. ``tile`` and ``overlap`` are multiples of ``multiple``.

    ``radius`` is the network's ``receptive_field``.
    """

    tile: int
    overlap: int
    multiple: int
    radius: int | None

    @property
    def exact(self) -> bool:
        """Whether the result is the whole image's up to rounding."""
        return self.radius is not None and self.overlap >= 2 * self.radius

    def spans(self, length: int) -> list[tuple[int, int]]:
        """Cut 0 .. length into [start, stop), ascending; one if the tile holds it."""
        if length <= self.tile:
            return [(0, length)]
        rest = length - self.overlap
        count = -(-rest // (self.tile - self.overlap))
        step = up(-(-rest // count), self.multiple)  # the smallest that needs no more tiles
        return [(start, min(start + step + self.overlap, length))
                for start in range(0, rest, step)]

    def weights(self, length: int, scale: int) -> list[Tensor]:
        """Return the weights of each span of a side, float32 (scale * (stop - start),).

        At every pixel of the output those of all tiles add up to 1.
        """
        spans = self.spans(length)
        margin = self.radius if self.exact else 0
        ramp = scale * (self.overlap - 2 * margin)
        place = torch.arange(scale * length, dtype=torch.float64) + 0.5

        def risen(start: int) -> Tensor:
            """How much of a pixel belongs to the tile that starts here or to a later one."""
            if start == 0:
                return torch.ones_like(place)
            beyond = place - scale * (start + margin)
            return (beyond / ramp).clamp(0, 1) if ramp else (beyond > 0).to(place.dtype)

        up_here = [risen(start) for start, _ in spans] + [torch.zeros_like(place)]
        return [(up_here[i] - up_here[i + 1])[scale * start:scale * stop].float()
                for i, (start, stop) in enumerate(spans)]


def up(value: int, multiple: int) -> int:
    """Return the smallest multiple that is not below a value."""
    return -(-value // multiple) * multiple


def exact_overlap(network: nn.Module) -> int | None:
    """Return the overlap from which tiles give the whole image's result; None: no overlap does."""
    radius = getattr(network, "receptive_field", None)
    return None if radius is None else up(max(2 * radius, 1), _multiple(network))


def cut_for(network: nn.Module, tile: int, overlap: int | None) -> Cut:
    """Choose how to cut for a network.

    Args:
        network: with ``size_multiple`` (1 if it has none) and ``receptive_field``.
        tile: side of the largest tile; taken down to a multiple.
        overlap: asked for, taken up to a multiple (at least one); None: ``OVERLAP``, or half of a
            tile below twice that; but the exact one, if it is not above twice as much and half of
            the tile, or not above a quarter of the tile.

    Raises:
        UserError: the tile does not hold the overlap and one multiple more.
    """
    m = _multiple(network)
    side = tile // m * m
    if overlap is None:
        usual = max(m, min(up(OVERLAP, m), side // 2 // m * m))
        exact = exact_overlap(network)
        cheap = max(side // MOST, min(2 * usual, side // 2))
        wanted = exact if exact is not None and exact <= cheap else usual
    else:
        wanted = up(max(overlap, 1), m)  # without any, a last tile could be too small to pad
    if side < wanted + m:
        raise UserError(f"tiles of {tile} pixels are too small: {type(network).__name__} works in "
                        f"multiples of {m}, and an overlap of {wanted} needs tiles of at least "
                        f"{wanted + m}. Give a larger `tile` or a smaller `overlap`.")
    return Cut(side, wanted, m, getattr(network, "receptive_field", None))


def _multiple(network: nn.Module) -> int:
    return getattr(network, "size_multiple", 1)


def in_tiles(network: Callable[[Tensor], Tensor], x: Tensor, cut: Cut,
             done: Callable[[int, int], None] | None = None) -> tuple[Tensor, int]:
    """Restore an image tile by tile.

    Args:
        network: from (B, C, h, w) to (B, C', sh, sw).
        x: (B, C, h, w) on the network's device.
        cut: how.
        done: told after each tile how many of how many are done.

    Returns:
        (B, C', sh, sw) float32 on the CPU, and the number of tiles.

    Raises:
        UserError: the network's output is not a whole multiple of its input in size.
    """
    height, width = x.shape[-2:]
    rows, columns = cut.spans(height), cut.spans(width)
    out = down = across = None
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            y = network(x[..., top:bottom, left:right].contiguous())
            if out is None:
                scale = _scale(y, bottom - top, right - left)
                out = torch.zeros(*y.shape[:2], scale * height, scale * width)
                down, across = cut.weights(height, scale), cut.weights(width, scale)
            y = y.float().cpu() * down[i].unsqueeze(-1)
            out[..., scale * top:scale * bottom, scale * left:scale * right] += y.mul_(across[j])
            if done:
                done(i * len(columns) + j + 1, len(rows) * len(columns))
    return out, len(rows) * len(columns)


def _scale(y: Tensor, height: int, width: int) -> int:
    scale = y.shape[-1] // width
    if scale < 1 or tuple(y.shape[-2:]) != (scale * height, scale * width):
        raise UserError(f"the network made {y.shape[-2]} x {y.shape[-1]} pixels of a tile of "
                        f"{height} x {width}; tiles need an output of a whole multiple of the "
                        "input. Set `tile` to off.")
    return scale


# -- when --------------------------------------------------------------------------------------

class Tiled:
    """A network that takes images of any size: whole where they fit, else in tiles.

    ``tile`` of the options decides. ``auto``: the whole image, unless the estimate exceeds what
    memory allows (see irbench/inference/budget.py), or memory runs out; then the largest tiles that
    fit the estimate, or of half the side until one fits. A number: tiles of that side for every
    larger image, halved likewise. ``off``: the whole image, and no more is done when memory
    runs out. What ran out of memory once is not tried again.

    Arguments:
        network: ready to run on the device (``irbench.inference.prepare``).
        options: how it is run; of these ``tile``, ``overlap`` and ``memory_gib`` count here.
        device: ``cpu`` or ``cuda``.
        watch: makes a context entered around the first forward pass of the first image;
            ``observed`` then is what it gave.
        done: told after each tile how many of how many are done.
    """

    def __init__(self, network: nn.Module, options: Inference = DEFAULT, device: str = "cpu",
                 watch: Watch | None = None, done: Callable[[int, int], None] | None = None):
        """Keep the arguments (above); raise UserError for too small a tile."""
        self.network, self.options = network, options
        self.budget = Budget(network, self.options.memory_gib, device, _multiple(network))
        self.device, self.watch, self.done = device, watch, done
        self.observed: object = None
        self.tiles = 1  # of the last image
        self.images = 0  # that were tiled
        self.cut: Cut | None = None  # of the last tiled image
        self._reasons: dict[str, str] = {}  # the first one of a kind
        self._too_many: float = float("inf")  # pixels for which memory ran out
        if isinstance(self.options.tile, int):
            cut_for(network, self.options.tile, self.options.overlap)

    def record(self) -> dict | None:
        """Return what a record says of tiles; None if no image needed any.

        ``size``: of the largest tile allowed, [h, w]; ``overlap``: pixels of the input;
        ``images``: how many were tiled; ``reason``; ``exact``: whether the result is that of the
        whole image; ``exact_overlap``: from which it is, None if from none. Size and overlap are
        those of the last image that was tiled.
        """
        if self.cut is None:
            return None
        exact = exact_overlap(self.network)
        remark = ("as the whole image: the overlap holds the receptive field twice"
                  if self.cut.exact else
                  "differs from the whole image: its receptive field is unbounded or unknown"
                  if exact is None else
                  f"differs from the whole image, which takes an overlap of {exact}")
        return {"size": [self.cut.tile, self.cut.tile], "overlap": self.cut.overlap,
                "images": self.images, "reason": "; ".join([*self._reasons.values(), remark]),
                "exact": self.cut.exact, "exact_overlap": exact}

    def __call__(self, x: Tensor) -> Tensor:
        """Map float32 (1, C, h, w) on the device to float32 (1, C', sh, sw), of tiles on the CPU.

        Raises:
            Unavailable: memory runs out whatever the tiles.
            UserError: not even the smallest tile fits the memory allowed.
        """
        side = self._side(x)
        while True:
            cut = None if side is None else cut_for(self.network, side, self.options.overlap)
            try:
                if cut is None or max(x.shape[-2:]) <= cut.tile:
                    y, self.tiles = self._run(x), 1
                    return y
                self.cut = cut
                y, self.tiles = in_tiles(self._run, x, cut, self.done)
                self.images += 1
                return y
            except (RuntimeError, MemoryError) as error:
                if self.options.tile == "off" or not out_of_memory(error):
                    raise
            # outside the handler, which holds on to what the forward pass had allocated
            side = self._smaller(x, side)

    def _run(self, x: Tensor) -> Tensor:
        """Run the network, the first time under the watch."""
        if self.watch is None:
            return self.network(x)
        with self.watch() as observed:
            y = self.network(x)
        self.observed, self.watch = observed, None
        return y

    # the side of the tiles

    def _side(self, x: Tensor) -> int | None:
        """Return the side of the tiles for an image, None for the whole."""
        tile = self.options.tile
        longest = max(x.shape[-2:])
        if tile == "off":
            return None
        if tile == "auto":
            side = self._fitting(x)
        elif longest > tile:
            self._reasons.setdefault("asked", f"tiles of {tile} were asked for")
            side = tile
        else:
            side = None
        if _pixels(x) < self._too_many:
            return side
        side = min(side or longest, longest)
        while side * side >= self._too_many and side // 2 >= self._smallest():
            side //= 2
        return side

    def _smallest(self) -> int:
        """Return the smallest side that is chosen unasked."""
        m, overlap = _multiple(self.network), self.options.overlap
        return (max(2 * m, up(SMALLEST, m)) if overlap is None
                else up(max(overlap, 1), m) + m)

    def _fitting(self, x: Tensor) -> int | None:
        """Return the side of the largest tiles that memory allows, None if it allows the whole."""
        pixels, budget = _pixels(x), self.budget
        if budget.surely_fits(pixels):
            return None
        needs = budget.needs(x.shape[1])
        if needs.points is None:
            if self.options.memory_gib is None:
                return None  # unknown: the image itself will tell
            raise UserError(f"memory_gib cannot be kept here: {needs.reason}. Give the side of "
                            "the tiles, `tile`, instead.")
        if needs.of(pixels) <= budget.allowed():
            return None
        self._reasons.setdefault("budget", (
            f"the whole of {x.shape[-2]} x {x.shape[-1]} pixels was estimated to need "
            f"{gib(needs.of(pixels))} ({budget.in_words()})"))
        return self._largest(pixels, needs)

    def _largest(self, pixels: int, needs: Needs) -> int:
        """Return the side of the largest tiles beside whose output an image's fits."""
        m, smallest = _multiple(self.network), self._smallest()
        # the image's output is put together on the CPU
        left = self.budget.allowed() - (needs.output(pixels) if self.device == "cpu" else 0)
        side = smallest
        while needs.of((side + m) ** 2) <= left:
            side += m
        if needs.of(side**2) > left and self.options.memory_gib is not None:
            raise UserError(f"memory_gib is {self.options.memory_gib:g}: even tiles of {side} "
                            f"pixels would need {gib(needs.of(side**2))} where {gib(left)} are "
                            "left beside program, weights and output. Allow more.")
        return side

    def _smaller(self, x: Tensor, side: int | None) -> int:
        """Return the side to try after memory ran out; raise Unavailable if there is none."""
        height, width = x.shape[-2:]
        if self.device == "cuda":
            torch.cuda.empty_cache()
        tried = min(side, height) * min(side, width) if side else height * width
        self._too_many = min(self._too_many, tried)
        self._reasons.setdefault("memory", "memory ran out at " + (
            f"tiles of {side}" if side else f"the whole of {height} x {width}") + " pixels")
        m = _multiple(self.network)
        half = (side or max(height, width)) // 2 // m * m
        if half < self._smallest():
            raise Unavailable(f"out of memory at {height}x{width} pixels, even in tiles of "
                              f"{side or max(height, width)}.")
        return half


def _pixels(x: Tensor) -> int:
    return x.shape[0] * x.shape[-2] * x.shape[-1]
