"""The losses of the two papers' recipes, on float tensors (B, C, H, W) in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from irbench.catalog.recipes import Recipe

CHARBONNIER_EPS = 1e-3


def l1(restored: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (restored - target).abs().mean()


def charbonnier(restored: Tensor, target: Tensor) -> Tensor:
    """Mean of sqrt(d^2 + eps^2), eps 1e-3; SemanIR's closest public relative denoises with it."""
    return torch.sqrt((restored - target) ** 2 + CHARBONNIER_EPS**2).mean()


def l1_fft(restored: Tensor, target: Tensor, weight: float) -> Tensor:
    """L1 + weight * L1 of the 2-D Fourier transforms (Compacter: weight 0.1).

    The transform is orthonormal, so that the weight does not depend on the patch size (the
    normalisation is not printed in the paper). The L1 of a complex difference is the mean over
    its real and imaginary parts.
    """
    difference = torch.view_as_real(torch.fft.rfft2(restored - target, norm="ortho"))
    return l1(restored, target) + weight * difference.abs().mean()


def make(recipe: Recipe) -> Callable[..., Tensor]:
    """Return the loss of a recipe: a function of the restored patches and the targets.

    With a teacher of weight w it takes the teacher's patches too, and is (1 - w) times the loss to
    the target plus w times the L1 to the teacher's.
    """
    loss = {"l1": l1, "charbonnier": charbonnier,
            "l1_fft": lambda restored, target: l1_fft(restored, target, recipe.fft_weight),
            }[recipe.loss]
    if not recipe.teacher:
        return loss
    weight = recipe.teacher["weight"]
    return lambda restored, target, taught: (
        (1 - weight) * loss(restored, target) + weight * l1(restored, taught))
