"""What a network of others may do with its input, and what it must return: one home for the check.

Networks of plugins run inside a guard, in evaluation, profiles and training alike; networks from
third-party files use the same check (``irbench.weights.external``). Reads and writes tensors only.

    input    The network gets a copy, so that one that works in place changes nothing of ours. If
             its card states a ``size_multiple``, the input is padded on the bottom and right by
             reflection (``models.padding``), and the output is cropped.
    output   One dense floating-point tensor (B, channels, scale H, scale W). Anything else is
             refused in one sentence: what was given, and what is valid.
    values   ``check_values``, where pictures are restored: finite, and not in 0 .. 255, -1 .. 1 or
             the like. A profile and the first steps of a training have random weights, and a
             training teaches the network the range of its targets.
    errors   Whatever the network raises becomes one message that names the model; ``sys.exit`` in
             it, too. Lack of memory and Ctrl-C are left as they are.

Try: ``python -c "import torch; from irbench.inference.guard import guard;
guard(torch.nn.PixelUnshuffle(2), 'mine', scale=1, channels=3)(torch.rand(1, 3, 8, 8))"``
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from irbench.core import plugin_files
from irbench.core.errors import UserError, in_words
from irbench.inference.memory import out_of_memory
from irbench.models.padding import crop, pad_to_multiple

# A restored image may overshoot [0, 1]; most of its values may not lie outside of this range.
RANGE = (-0.5, 1.5)
# An output in -1 .. 1 has more than MOST of its values outside of this range, beyond the share that
# noise puts there in the input; and it is about twice the input less 1 (the means of a few blocks
# are compared). Values of a network that is hardly trained are not: they are bad, which the score
# says, but not of another range.
SLIGHT, MOST = (-0.25, 1.25), 0.05
BLOCKS = 8          # along each side
SLOPE, OFFSET, ALIKE = (1.6, 2.4), (-1.25, -0.75), 0.9
MEAN = (-1.0, 2.0)  # nor may their mean; it finds 0 .. 255 in a picture that is mostly black
USUAL = 8           # sides that are no multiple of this get advice on `size_multiple`
OF_SIZES = (RuntimeError, ValueError, AssertionError)  # what a wrong size usually raises
ROWS = 64           # of an image that are checked at a time
COMPILER = ("torch._dynamo", "torch._inductor")


class ForwardFailed(UserError):
    """A network's forward pass raised an error, which is the cause of this one."""


def guard(network: nn.Module, name: str, *, scale: int | float, channels: int,
          multiple: int = 1, plugin: Path | None = None) -> nn.Module:
    """Put a guard before and after a network's forward pass, in place; return the network.

    Names of tensors, attributes and hooks stay as they are, and so does a copy of the network.

    Args:
        network: from (B, channels, H, W) to (B, channels, scale H, scale W).
        name: the model's name in messages.
        scale: side of the output / side of the input.
        channels: of input and output.
        multiple: the sides that the network takes are multiples of this; others are padded. Above
            1 it becomes the network's ``size_multiple``, so that tiles begin at multiples.
        plugin: the Python file of its code; the files that its forward pass opens are noted
            (``irbench.core.plugin_files``).

    Raises:
        UserError: the network's ``size_multiple`` or ``receptive_field`` is not a valid number, or
            it is a TorchScript program.
    """
    if isinstance(network, torch.jit.ScriptModule):
        raise UserError(f"model {name}: its builder returned a TorchScript program; valid is a "
                        "torch.nn.Module. Let a module of your own call the program.")
    if multiple > 1:
        network.size_multiple = multiple
    for attribute, least, valid in (("size_multiple", 1, "a whole number of at least 1"),
                                    ("receptive_field", 0, "a whole number, or None")):
        value = getattr(network, attribute, None)
        if value is not None and (type(value) is not int or value < least):
            raise UserError(f"model {name}: its attribute {attribute} is {value!r}; valid is "
                            f"{valid}.")
    forward = network.forward
    if isinstance(forward, _Guarded):  # the builder returned the same module before
        forward = forward.forward
    network.forward = _Guarded(forward, name, scale, channels, multiple, plugin)
    return network


def guarded(network: nn.Module) -> bool:
    """Whether a network runs inside a guard."""
    return any(isinstance(getattr(one, "forward", None), _Guarded)
               for one in (network, getattr(network, "network", None)))  # prepared or not


@dataclass
class _Guarded:
    """The forward pass of a guarded network."""

    forward: Callable[[Tensor], object]
    name: str
    scale: int | float
    channels: int
    multiple: int
    plugin: Path | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, channels, scale H, scale W). Raises UserError as ``run``."""
        height, width = x.shape[-2:]
        given = pad_to_multiple(x, self.multiple)
        if torch.jit.is_tracing():  # to count operations, after passes that were checked
            y = self.forward(given)
        elif self.plugin is None or torch.compiler.is_compiling():
            y = self._run(given.clone() if given is x else given, height, width)
        else:
            with plugin_files.noting(self.plugin):
                y = self._run(given.clone() if given is x else given, height, width)
        return crop(y, *_enlarged(height, width, self.scale))

    def _run(self, given: Tensor, height: int, width: int) -> Tensor:
        return run(self.forward, given, f"model {self.name}", scale=self.scale,
                   channels=self.channels, advice=self._advice(height, width))

    def _advice(self, height: int, width: int) -> str:
        if self.multiple > 1 or not (height % USUAL or width % USUAL):
            return ""
        return (" If it takes only sides that are multiples of a number, state that number as "
                "`size_multiple` on its card: irbench then pads and crops.")


def run(forward: Callable[[Tensor], object], x: Tensor, name: str, *, scale: int | float,
        channels: int, advice: str = "") -> Tensor:
    """Run a forward pass of others' code and check the form of what it returns.

    Args:
        forward: the call.
        x: (B, C, H, W), which the call may change.
        name: the network in messages.
        scale: side of the output / side of the input.
        channels: of the output.
        advice: more sentences for the message of a failure that may come from the size.

    Returns:
        The output, (B, channels, scale H, scale W), of any floating type.

    Raises:
        ForwardFailed: the call raised an error; ``sys.exit`` counts as one.
        UserError: it returned something else.
    """
    batch, _, height, width = shape = tuple(x.shape)
    try:
        y = forward(x)
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:
        if out_of_memory(error) or type(error).__module__.startswith(COMPILER):
            raise
        advice = advice if isinstance(error, OF_SIZES) else ""
        raise ForwardFailed(f"{name}: its forward pass failed on an input of {shape} (batch, "
                            f"channels, height, width): {in_words(error)}.{advice}") from error
    valid = (batch, channels, *_enlarged(height, width, scale))
    if not (isinstance(y, Tensor) and tuple(y.shape) == valid and y.is_floating_point()
            and y.layout == torch.strided and y.device.type != "meta"):
        raise UserError(f"{name}: it returned {_described(y)} for an input of {shape}; valid is "
                        f"one floating-point tensor of shape {valid} (batch, channels, height, "
                        "width).")
    return y


def _enlarged(height: int, width: int, scale: int | float) -> tuple[int, int]:
    """Return the sides of an output. A whole scale is not rounded: a trace has no plain numbers."""
    sides = scale * height, scale * width
    return sides if isinstance(scale, int) else tuple(round(side) for side in sides)


def _described(y: object) -> str:
    """Say what a network returned, as part of a sentence."""
    if isinstance(y, Tensor):
        kind = ("sparse " if y.layout != torch.strided else "meta "
                if y.device.type == "meta" else "")
        kind += "" if y.is_floating_point() else f"{str(y.dtype).removeprefix('torch.')} "
        return f"a {kind}tensor of shape {tuple(y.shape)}"
    if isinstance(y, dict):
        return f"a dict with the keys {', '.join(map(str, list(y)[:5])) or '(none)'}"
    if isinstance(y, list | tuple):
        kinds = sorted({"tensors" if isinstance(one, Tensor) else type(one).__name__ for one in y})
        return f"a {type(y).__name__} of {len(y)} ({', '.join(kinds) or 'nothing'})"
    return "nothing (None)" if y is None else f"an object of the type {type(y).__name__}"


class Range(NamedTuple):
    """What the values of an image are like.

    Attributes:
        outside: the share of them, 0 to 1, outside of ``SLIGHT``.
        blocks: the means of ``BLOCKS`` x ``BLOCKS`` parts of the image, at most 64.
    """

    outside: float
    blocks: np.ndarray

    def is_doubled(self, given: Range) -> bool:
        """Return whether this is about twice another image less 1: the same in -1 .. 1."""
        if self.outside <= given.outside + MOST or not given.blocks.std() or not self.blocks.std():
            return False
        alike = np.corrcoef(given.blocks, self.blocks)[0, 1]
        slope = alike * self.blocks.std() / given.blocks.std()
        offset = self.blocks.mean() - slope * given.blocks.mean()
        return bool(alike > ALIKE and SLOPE[0] < slope < SLOPE[1]
                    and OFFSET[0] < offset < OFFSET[1])


def range_of(image: np.ndarray) -> Range:
    """Return what the values of an image, float (H, W, C), are like."""
    rows, columns = (np.linspace(0, side, min(BLOCKS, side) + 1).astype(int)
                     for side in image.shape[:2])
    return Range(_share_outside(image, SLIGHT), np.array([
        image[top:bottom, left:right].mean(dtype=np.float64)
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(columns)]))


def _share_outside(image: np.ndarray, limits: tuple[float, float]) -> float:
    return sum(np.count_nonzero((part < limits[0]) | (part > limits[1]))
               for part in _parts(image)) / image.size


def _parts(image: np.ndarray) -> list[np.ndarray]:
    """Return a few rows at a time: temporary arrays of a large image would need much memory."""
    return [image[top:top + ROWS] for top in range(0, len(image), ROWS)]


def check_values(image: np.ndarray, name: str, dtype: str = "float32",
                 given: Range | None = None) -> None:
    """Check the values of a restored image, which belong in [0, 1] but may overshoot a little.

    Args:
        image: float (H, W, C).
        name: the model in messages.
        dtype: the number type of inference, for the message.
        given: what the input's values are like. Without it an output in -1 .. 1 is not noticed.

    Raises:
        UserError: NaN or infinite values; an output in 0 .. 255 (more than half of the values
            outside of ``RANGE``, or their mean outside of ``MEAN``) or in -1 .. 1.
    """
    wrong = sum(np.count_nonzero(~np.isfinite(part)) for part in _parts(image))
    if wrong:
        kind = f" in {dtype}" if dtype != "float32" else ""
        raise UserError(f"model {name} returned NaN or infinite values{kind} ({wrong:,} of "
                        f"{image.size:,}); valid are finite values in [0, 1]. The weights or the "
                        "number type do not fit the model.")
    mean, least, most = float(image.mean(dtype=np.float64)), image.min(), image.max()
    doubled = given is not None and range_of(image).is_doubled(given)
    if doubled or _share_outside(image, RANGE) > 1 / 2 or not MEAN[0] <= mean <= MEAN[1]:
        advice = (" If its range is -1 to 1, return (output + 1) / 2 in the model's code."
                  if doubled else
                  " If its range is 0 to 255, divide the output by 255 in the model's code."
                  if most > 2 else "")
        raise UserError(f"model {name} returned values from {least:.4g} to {most:.4g} (mean "
                        f"{mean:.4g}); valid is the range [0, 1].{advice}")


