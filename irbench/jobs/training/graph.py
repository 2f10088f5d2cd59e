"""A network's forward and backward pass replayed as CUDA graphs: one launch instead of thousands.

Small networks on small patches keep a GPU waiting: starting a kernel takes longer than running it
(Compacter's 2,500 kernels of a step need 60 ms to start on the processor beside an H200). The
kernels are the same, so the weights are those of a training without graphs, up to rounding.

Try: ``irbench train --protocol sr-x2 --model compacter --device cuda --graph``
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from irbench.catalog.recipes import Recipe
from irbench.core.errors import UserError


def check(recipe: Recipe, device: str, processes: int, compile: bool = False) -> None:
    """Raise UserError if a training of this kind cannot be replayed."""
    reasons = {
        f"graphs are CUDA's, and the device is {device}": device != "cuda",
        f"{processes} processes share each batch": processes > 1,
        "the network is compiled": compile,
        f"the recipe's precision is {recipe.precision}": recipe.precision != "no",
        "the recipe's accumulate is more than 1": recipe.accumulate > 1}
    found = [reason for reason, holds in reasons.items() if holds]
    if found:
        raise UserError(f"--graph: {' and '.join(found)}. It works on one NVIDIA GPU, in float32, "
                        "with whole batches. Leave it out.")


class Replayed:
    """A network whose passes are captured at the first batch of each shape, then replayed.

    The network must do the same for every batch of a shape: no random choice, no branch on values.
    """

    def __init__(self, network: nn.Module) -> None:
        """Take a network in training mode, on the GPU."""
        self.network = network
        # the passes run on a stream of their own, about which torch would warn at every step
        quiet = getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", None)
        if quiet:   # torch 2.11 has it, older ones do not warn
            quiet(False)
        self._passes: dict[tuple[int, ...], nn.Module] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """Return the network's output for a batch (B, C, H, W); valid until the next call.

        Raises UserError if the passes cannot be captured.
        """
        shape = tuple(x.shape)
        if shape not in self._passes:
            try:
                self._passes[shape] = torch.cuda.make_graphed_callables(
                    _Pass(self.network), (torch.zeros_like(x),))
            except RuntimeError as error:
                raise UserError(
                    f"--graph: {type(self.network).__name__} cannot be captured as a CUDA graph "
                    f"({' '.join(str(error).split())[:200]}). Train it without --graph.") from None
        return self._passes[shape](x)


class _Pass(nn.Module):
    """A network under a forward of its own, which the capture replaces."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)
