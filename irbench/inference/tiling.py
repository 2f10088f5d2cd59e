"""Images in overlapping tiles with blended seams, for images that do not fit into memory.

Reads and writes tensors only. Sizes are in pixels of the input, h x w; s is the network's scale.

    cut     A side is cut into tiles that begin at multiples of the network's ``size_multiple`` and
            share ``overlap`` pixels. They are as equal as possible and at most as large as
            requested; the last ends at the border. So windows have the same positions as in the
            untiled image, and a network that pads bottom and right pads the last tile likewise.
    blend   In the overlap a ramp leads from one tile to the next. The weights are products of one
            ramp per direction and sum to 1, so no map of weights is needed beside the output.
    exact   If a pixel of the output depends on at most r pixels around it (``receptive_field``),
            it is correct at a distance of r pixels from a tile's border. With an overlap of at
            least 2r the ramp lies where both tiles are correct: then the tiled result equals the
            untiled one up to rounding. With less overlap it differs near the seams; if r is
            unbounded (None), it may differ everywhere.
    when    see ``Tiled``. Every choice is stored with its reason.

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
from irbench.inference.ensemble import mean_of_all
from irbench.inference.memory import out_of_memory
from irbench.inference.options import DEFAULT

OVERLAP = 64  # our choice where an exact overlap would be much larger, or does not exist
SMALLEST = 64  # side of the smallest tiles that are chosen automatically
MOST = 4  # exact overlaps up to tile / MOST are chosen automatically: at most 1.8 times the work

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
        """Whether the tiled result equals the untiled one up to rounding."""
        return self.radius is not None and self.overlap >= 2 * self.radius

    def spans(self, length: int) -> list[tuple[int, int]]:
        """Cut 0 .. length into spans [start, stop), ascending; a single one if a tile suffices."""
        if length <= self.tile:
            return [(0, length)]
        rest = length - self.overlap
        count = -(-rest // (self.tile - self.overlap))
        step = up(-(-rest // count), self.multiple)  # the smallest step for this many tiles
        return [(start, min(start + step + self.overlap, length))
                for start in range(0, rest, step)]

    def weights(self, length: int, scale: int) -> list[Tensor]:
        """Return the weights of each span of a side, float32 (scale * (stop - start),).

        At every pixel of the output the weights of all tiles sum to 1.
        """
        spans = self.spans(length)
        margin = self.radius if self.exact else 0
        ramp = scale * (self.overlap - 2 * margin)
        place = torch.arange(scale * length, dtype=torch.float64) + 0.5

        def risen(start: int) -> Tensor:
            """Return the share of each pixel that belongs to the tile that starts here or later."""
            if start == 0:
                return torch.ones_like(place)
            beyond = place - scale * (start + margin)
            return (beyond / ramp).clamp(0, 1) if ramp else (beyond > 0).to(place.dtype)

        up_here = [risen(start) for start, _ in spans] + [torch.zeros_like(place)]
        return [(up_here[i] - up_here[i + 1])[scale * start:scale * stop].float()
                for i, (start, stop) in enumerate(spans)]


def up(value: int, multiple: int) -> int:
    """Return the smallest multiple that is at least a value."""
    return -(-value // multiple) * multiple


def exact_overlap(network: nn.Module) -> int | None:
    """Return the least overlap with which tiling is exact; None if no overlap is exact."""
    radius = getattr(network, "receptive_field", None)
    return None if radius is None else up(max(2 * radius, 1), _multiple(network))


def cut_for(network: nn.Module, tile: int, overlap: int | None) -> Cut:
    """Choose how to cut images for a network.

    Args:
        network: with ``size_multiple`` (default: 1) and ``receptive_field``.
        tile: side of the largest tile; rounded down to a multiple.
        overlap: the requested overlap, rounded up to a multiple (at least one). None: ``OVERLAP``,
            or half of a tile smaller than twice that. The exact overlap is used instead if it is
            at most twice as large and half of the tile, or at most a quarter of the tile.

    Raises:
        UserError: the tile is too small for the overlap plus one multiple.
    """
    m = _multiple(network)
    side = tile // m * m
    if overlap is None:
        usual = max(m, min(up(OVERLAP, m), side // 2 // m * m))
        exact = exact_overlap(network)
        cheap = max(side // MOST, min(2 * usual, side // 2))
        wanted = exact if exact is not None and exact <= cheap else usual
    else:
        wanted = up(max(overlap, 1), m)  # without overlap, the last tile could be too small to pad
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
        cut: how the image is cut.
        done: called after each tile with the number of finished tiles and of all tiles.

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
        raise UserError(f"the network returned {y.shape[-2]} x {y.shape[-1]} pixels for a tile of "
                        f"{height} x {width}; tiling needs an output whose size is a whole "
                        "multiple of the input's. Set `tile` to off.")
    return scale


# -- when --------------------------------------------------------------------------------------

class Tiled:
    """A network for images of any size: untiled if they fit into memory, otherwise in tiles.

    The option ``tile`` decides. ``auto``: the whole image, unless the estimate exceeds the allowed
    memory (see irbench/inference/budget.py) or memory runs out. Then the largest tiles that fit the
    estimate; if memory runs out, the side is halved until they fit. A number: tiles of that side
    for every larger image, halved likewise. ``off``: the whole image, even if memory runs out. A
    size that ran out of memory is not tried again.

    Arguments:
        network: ready to run on the device (``irbench.inference.prepare``).
        options: how it is run; only ``tile``, ``overlap``, ``memory_gib`` and ``self_ensemble``
            matter here.
        device: ``cpu`` or ``cuda``.
        watch: makes a context for the first forward pass of the first image; its value becomes
            ``observed``.
        done: called after each tile with the number of finished tiles and of all tiles.
    """

    def __init__(self, network: nn.Module, options: Inference = DEFAULT, device: str = "cpu",
                 watch: Watch | None = None, done: Callable[[int, int], None] | None = None):
        """Store the arguments (above); raise UserError if the tile is too small."""
        self.network, self.options = network, options
        self.budget = Budget(network, self.options.memory_gib, device, _multiple(network))
        self.device, self.watch, self.done = device, watch, done
        self.observed: object = None
        self.tiles = 1  # of the last image
        self.images = 0  # number of tiled images
        self.cut: Cut | None = None  # of the last tiled image
        self._reasons: dict[str, str] = {}  # the first reason of each kind
        self._too_many: float = float("inf")  # least number of pixels that ran out of memory
        if isinstance(self.options.tile, int):
            cut_for(network, self.options.tile, self.options.overlap)

    def record(self) -> dict | None:
        """Return the record's facts about tiles; None if no image was tiled.

        ``size``: of the largest allowed tile, [h, w]; ``overlap``: pixels of the input;
        ``images``: the number of tiled images; ``reason``; ``exact``: whether the tiled result
        equals the untiled one; ``exact_overlap``: the least overlap with which it does, None if
        there is none. Size and overlap are those of the last tiled image.
        """
        if self.cut is None:
            return None
        exact = exact_overlap(self.network)
        remark = ("equals the untiled result: the overlap is at least twice the receptive field"
                  if self.cut.exact else
                  "differs from the untiled result: the receptive field is unbounded or unknown"
                  if exact is None else
                  f"differs from the untiled result, which needs an overlap of {exact}")
        return {"size": [self.cut.tile, self.cut.tile], "overlap": self.cut.overlap,
                "images": self.images, "reason": "; ".join([*self._reasons.values(), remark]),
                "exact": self.cut.exact, "exact_overlap": exact}

    def state(self) -> dict:
        """Return what the last image has changed, as plain data, for ``continue_from``."""
        cut = self.cut if self.tiles > 1 else None
        return {"cut": cut and [cut.tile, cut.overlap, cut.multiple, cut.radius],
                "reasons": dict(self._reasons),
                "too_many": None if self._too_many == float("inf") else self._too_many,
                "observed": self.observed}

    def continue_from(self, state: dict) -> None:
        """Take over the state after an image, as if this object had restored the image.

        Another process has restored it, perhaps after other images. The states of all images, in
        their order, give the ``record`` of a process that restores all.
        """
        if state["cut"]:
            self.cut = Cut(*state["cut"])
            self.images += 1
        for kind, reason in state["reasons"].items():
            self._reasons.setdefault(kind, reason)
        if state["too_many"] is not None:
            self._too_many = min(self._too_many, state["too_many"])
        if self.observed is None and state["observed"] is not None:
            self.observed, self.watch = state["observed"], None

    def __call__(self, x: Tensor) -> Tensor:
        """Map float32 (1, C, h, w) on the device to float32 (1, C', sh, sw), on the CPU if tiled.

        Raises:
            Unavailable: memory runs out even with the smallest tiles.
            UserError: not even the smallest tile fits the allowed memory.
        """
        before = self.images
        y = mean_of_all(self._once, x) if self.options.self_ensemble else self._once(x)
        self.images = min(self.images, before + 1)  # eight passes over one image
        return y

    def _once(self, x: Tensor) -> Tensor:
        """Run one forward pass, in tiles if needed."""
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
            # outside the handler, which keeps the memory of the forward pass alive
            side = self._smaller(x, side)

    def _run(self, x: Tensor) -> Tensor:
        """Run the network; the first time inside the context of ``watch``."""
        if self.watch is None:
            return self.network(x)
        with self.watch() as observed:
            y = self.network(x)
        self.observed, self.watch = observed, None
        return y

    # the side of the tiles

    def _side(self, x: Tensor) -> int | None:
        """Return the side of the tiles for an image, None to run it untiled."""
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
        """Return the smallest side that is chosen automatically."""
        m, overlap = _multiple(self.network), self.options.overlap
        return (max(2 * m, up(SMALLEST, m)) if overlap is None
                else up(max(overlap, 1), m) + m)

    def _fitting(self, x: Tensor) -> int | None:
        """Return the side of the largest tiles that fit into memory, None if the whole image fits.
        """
        pixels, budget = _pixels(x), self.budget
        if budget.surely_fits(pixels):
            return None
        needs = budget.needs(x.shape[1])
        if needs.points is None:
            if self.options.memory_gib is None:
                return None  # unknown: try the whole image
            raise UserError(f"memory_gib cannot be respected here: {needs.reason}. Give the side "
                            "of the tiles, `tile`, instead.")
        if needs.bytes_for(pixels) <= budget.allowed():
            return None
        self._reasons.setdefault("budget", (
            f"the whole of {x.shape[-2]} x {x.shape[-1]} pixels was estimated to need "
            f"{gib(needs.bytes_for(pixels))} ({budget.limit_in_words()})"))
        return self._largest(pixels, needs)

    def _largest(self, pixels: int, needs: Needs) -> int:
        """Return the side of the largest tiles that fit beside the output of the whole image."""
        m, smallest = _multiple(self.network), self._smallest()
        # the output is assembled on the CPU
        left = self.budget.allowed() - (needs.output(pixels) if self.device == "cpu" else 0)
        side = smallest
        while needs.bytes_for((side + m) ** 2) <= left:
            side += m
        if needs.bytes_for(side**2) > left and self.options.memory_gib is not None:
            raise UserError(f"memory_gib is {self.options.memory_gib:g}: even tiles of {side} "
                            f"pixels would need {gib(needs.bytes_for(side**2))}, but only "
                            f"{gib(left)} are left beside program, weights and output. Allow more.")
        return side

    def _smaller(self, x: Tensor, side: int | None) -> int:
        """Return the next side to try after memory ran out; raise Unavailable if there is none."""
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
