"""Reference networks for speed: SwinIR with random weights, to compare other models' latency with.

Reads and writes tensors only. A latency does not depend on the values of the weights, so nothing is
fetched. The restored images are meaningless, and the cards are marked (``reference``). For results
use the peers ``swinir-m`` and ``swinir-s``: the same networks with the authors' weights.

The network is spandrel's (Liang et al., ICCVW 2021) in the forms of the authors' release: classical
SR at x2, x3, x4 11.75, 11.94, 11.90 M parameters, as printed; lightweight SR 0.910, 0.918, 0.930 M,
where the paper prints 0.878, 0.886, 0.897 and its authors' own code has 0.910 too (their issue 45).

SwinIR keeps the masks of its shifted windows for an input of 64x64 (the size it was trained at);
at any other size every layer makes its mask anew in each pass, in its authors' code as here. That
time is the network's own; where it matters, compare at 64x64.

Try: ``python benchmarks/latency.py --models semanir-light --reference swinir-s-random --rounds 3``
"""

from __future__ import annotations

import warnings

from torch import Tensor, nn

from irbench.core.errors import UserError
from irbench.models import layers
from irbench.models.padding import Restorer

CARDS = {
    "swinir-m-random": {
        "title": "SwinIR-M (random weights, for speed)",
        "builder": "swinir_m",
        "tasks": ["sr"],
        "levels": {"sr": ["x2", "x3", "x4"]},
        "in_paper": False,
        "note": "Random weights: for latency, memory and MACs only.",
        "source": "Liang et al., SwinIR, ICCVW 2021, classical SR; the network is spandrel's.",
        "learned": False,
        "reference": True,
        "dtypes": ["float32", "float64", "float16", "bfloat16"],
    },
    "swinir-s-random": {
        "title": "SwinIR-S (lightweight, random weights, for speed)",
        "builder": "swinir_s",
        "tasks": ["sr"],
        "levels": {"sr": ["x2", "x3", "x4"]},
        "in_paper": False,
        "note": "Random weights: for latency, memory and MACs only.",
        "source": "Liang et al., SwinIR, ICCVW 2021, lightweight SR; the network is spandrel's.",
        "learned": False,
        "reference": True,
        "dtypes": ["float32", "float64", "float16", "bfloat16"],
    },
}


def swinir_m(task: str, scale: int, channels: int, **options) -> SwinIR:
    """Build SwinIR-M, classical SR: 6 x 6 layers of 180 channels, pixel shuffle (printed).

    Raises UserError for any option, for another task than sr, and for a scale other than 2 to 4.
    """
    return SwinIR("swinir-m-random", task, scale, channels, options, embed_dim=180, depth=6,
                  upsampler="pixelshuffle")


def swinir_s(task: str, scale: int, channels: int, **options) -> SwinIR:
    """Build SwinIR-S, lightweight SR: 4 x 6 layers of 60 channels, one convolution up (printed).

    Raises as ``swinir_m``.
    """
    return SwinIR("swinir-s-random", task, scale, channels, options, embed_dim=60, depth=4,
                  upsampler="pixelshuffledirect")


class SwinIR(Restorer):
    """spandrel's SwinIR for images of any size: (B, channels, H, W) in [0, 1], H, W >= 2."""

    def __init__(self, card: str, task: str, scale: int, channels: int, options: dict, *,
                 embed_dim: int, depth: int, upsampler: str):
        """Build with random weights; raise UserError for what the card does not offer."""
        from spandrel.architectures.SwinIR import SwinIR as Network  # slow to import

        layers.check_task(task, scale)
        layers.options_of(card, {card: {"options": {}}}, options)
        if task != "sr" or scale > 4:
            raise UserError(f"model {card}: task {task!r} with scale {scale}; it was published "
                            "for 'sr' with 2, 3 and 4.")
        super().__init__(channels=channels, scale=scale, size_multiple=8)
        with warnings.catch_warnings():  # once a process, of meshgrid: not for a user
            warnings.simplefilter("ignore", UserWarning)
            self.network: nn.Module = Network(
                img_size=64, in_chans=channels, embed_dim=embed_dim, depths=[6] * depth,
                num_heads=[6] * depth, window_size=8, mlp_ratio=2.0, upscale=scale,
                upsampler=upsampler, resi_connection="1conv")
        for module in self.network.modules():
            if type(module).__name__ == "WindowAttention":
                module.register_forward_pre_hook(_mask_of_its_type, with_kwargs=True)

    def restore(self, x: Tensor) -> Tensor:
        """Run the network on an image whose sides are multiples of 8."""
        return self.network(x)


def _mask_of_its_type(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Cast the mask, which SwinIR makes in float32 and which would widen half-precision scores."""
    mask = kwargs.get("mask")
    if mask is not None and mask.dtype != args[0].dtype:
        kwargs = {**kwargs, "mask": mask.to(args[0].dtype)}
    return args, kwargs
