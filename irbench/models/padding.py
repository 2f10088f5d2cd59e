"""Any image size works: pad to a model's size multiple, crop the result back.

Reads and writes tensors only. Every learned model of irbench derives from ``Restorer``, so that
the rules about sizes stand in this one place: an image is padded on the bottom and the right by
reflection (repeated where the padding is larger than the image), and the output is cropped to
``scale`` times the input. A model's ``restore`` therefore only ever sees multiples of
``size_multiple``.

Try: ``python -c "import torch; from irbench.models.padding import pad_to_multiple as p;
print(p(torch.arange(3.).view(1, 1, 1, 3).expand(1, 1, 2, 3), 8)[0, 0, 0])"``
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbench.core.errors import UserError
from irbench.models.layers import choice

SMALLEST = 2  # reflection without repeating the edge needs a second pixel
SKIPS = ("none", "input")


def reflect_index(length: int, padded: int, device: torch.device | None = None) -> Tensor:
    """Return the (padded,) int64 indices that continue 0 .. length-1 by reflection.

    The edge is not repeated: for length 3 they run 0 1 2 1 0 1 2 ..., with period 2 (length - 1),
    for as long as needed, where torch's own reflection stops at length - 1 extra pixels.
    """
    if length < SMALLEST:
        raise UserError(f"reflection of a side of {length} pixel: a side needs at least "
                        f"{SMALLEST} pixels.")
    period = 2 * (length - 1)
    index = torch.arange(padded, device=device) % period
    return torch.where(index < length, index, period - index)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad (B, C, H, W) on the bottom and right to the next multiple, by reflection.

    Returns (B, C, H', W') with H' and W' the smallest multiples >= H and W; ``x`` itself, not a
    copy, when it fits already. Raises UserError when a side to be padded has fewer than 2 pixels.
    """
    for dim in (-2, -1):
        length = x.shape[dim]
        padded = -(-length // multiple) * multiple
        if padded != length:
            x = x.index_select(dim, reflect_index(length, padded, x.device))
    return x


def crop(y: Tensor, height: int, width: int) -> Tensor:
    """Return the top left (B, C, height, width) of (B, C, H', W'); ``y`` itself when it fits."""
    if y.shape[-2:] == (height, width):
        return y
    return y[..., :height, :width]


def enlarge(x: Tensor, scale: int) -> Tensor:
    """Enlarge (B, C, H, W) by bicubic interpolation (a = -0.5, as MATLAB's); scale 1 returns x.

    torch uses a = -0.75 without ``antialias`` and a = -0.5 with it; when enlarging, the
    antialiasing itself changes nothing. Types of 16 bits are enlarged in float32: torch has no
    such interpolation for them on a CPU.
    """
    if scale == 1:
        return x
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    large = F.interpolate(wide, scale_factor=float(scale), mode="bicubic", antialias=True)
    return large.to(x.dtype)


class Restorer(nn.Module):
    """A restoration model for images of any size.

    Subclasses define ``restore``, from (B, channels, H', W') to (B, channels, scale H', scale W')
    with H' and W' multiples of ``size_multiple``. Values are float in [0, 1]; the output is not
    clipped (a protocol's rounding to uint8 clips).

    Arguments:
        channels: of the image, 1 or 3 (any positive number works).
        scale: output size / input size, 1 for restoration at the same size.
        size_multiple: ``restore`` needs both sides to be multiples of this.
        skip: ``input`` adds the input (bicubically enlarged to the output's size) to the output,
            so that the network learns the difference; ``none`` does not.

    Attributes:
        receptive_field: the receptive field's radius in input pixels: input farther away cannot
            change an output pixel (if tiles start at multiples of ``size_multiple``). None: it is
            unbounded, or unknown. A subclass with a bound states it.
    """

    receptive_field: int | None = None

    def __init__(self, *, channels: int, scale: int, size_multiple: int, skip: str = "none"):
        """Store the arguments (above); raise UserError for an unknown ``skip``."""
        super().__init__()
        self.channels = channels
        self.scale = scale
        self.size_multiple = size_multiple
        self.skip = choice("skip", skip, SKIPS)

    def check(self, x: Tensor) -> None:
        """Raise UserError unless x is (B, channels, H, W) with H, W >= 2."""
        name = type(self).__name__
        if x.dim() != 4:
            raise UserError(f"{name}: got a tensor of shape {tuple(x.shape)}; "
                            "it takes (batch, channels, height, width).")
        _, channels, height, width = x.shape
        if channels != self.channels:
            raise UserError(f"{name}: got an image of {channels} channels; this one was built for "
                            f"{self.channels}. Build it with channels={channels}, or convert.")
        if height < SMALLEST or width < SMALLEST:
            raise UserError(f"{name}: got an image of {height} x {width} pixels (height x width); "
                            f"each side must be at least {SMALLEST} pixels.")

    def forward(self, x: Tensor) -> Tensor:
        """Restore (B, channels, H, W), any H, W >= 2, to (B, channels, scale*H, scale*W).

        Raises UserError for a wrong number of dimensions or channels, and for smaller images.
        """
        self.check(x)
        height, width = x.shape[-2:]
        y = self.restore(pad_to_multiple(x, self.size_multiple))
        y = crop(y, self.scale * height, self.scale * width)
        return y + enlarge(x, self.scale) if self.skip == "input" else y

    def restore(self, x: Tensor) -> Tensor:
        """Restore an image whose sides are multiples of ``size_multiple``."""
        raise NotImplementedError(f"{type(self).__name__} defines no restore()")


class Columnar(Restorer):
    """A restoration model of one column, which both papers draw:

        conv 3x3 -> body -> conv 3x3 -> + (long residual) -> reconstruction         printed

    Subclasses define ``body``, from tokens (B, H, W, width) to the same shape, and have the
    modules ``extract`` and ``reconstruct`` (see ``layers.ends``) and ``body_conv``. Tokens have
    the channels last; only the image itself is permuted.
    """

    def restore(self, x: Tensor) -> Tensor:
        """Restore an image whose sides are multiples of ``size_multiple``."""
        shallow = self.extract(x.permute(0, 2, 3, 1).contiguous())      # (B, H, W, width)
        deep = shallow + self.body_conv(self.body(shallow))
        return self.reconstruct(deep).permute(0, 3, 1, 2).contiguous()  # (B, channels, sH, sW)

    def body(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, H, W, width) to the same shape."""
        raise NotImplementedError(f"{type(self).__name__} defines no body()")
