"""Torch's Muon, for a GPU in far fewer launches: matrices of one shape are orthogonalised together.

torch.optim.Muon takes one matrix after another, some 45 launches each. Compacter has 84 small ones,
so that a GPU would wait for the optimiser most of a step. On a CPU, where nothing is launched,
torch's own step runs.

Try: ``python -c "from irbench.jobs.training import muon; help(muon.Muon)"``
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

AVAILABLE = hasattr(torch.optim, "Muon")    # since torch 2.9


class Muon(torch.optim.Muon if AVAILABLE else torch.optim.Optimizer):
    """``torch.optim.Muon`` with ``adjust_lr_fn="match_rms_adamw"``; state and result are the same.

    The result of the two ways differs by the rounding of bfloat16, in which both orthogonalise.
    """

    @torch.no_grad()
    def step(self, closure=None):
        """Take a step; see ``torch.optim.Muon``."""
        if closure is None and all(p.is_cuda for group in self.param_groups
                                   for p in group["params"]):
            return self.step_together()
        return super().step(closure)

    @torch.no_grad()
    def step_together(self) -> None:
        """Take a step with all matrices together, on any device."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            for p in params:
                if "momentum_buffer" not in self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p.grad)
            buffers = [self.state[p]["momentum_buffer"] for p in params]
            rate, momentum = float(group["lr"]), group["momentum"]
            torch._foreach_lerp_(buffers, grads, 1 - momentum)
            updates = (torch._foreach_lerp(grads, buffers, momentum) if group["nesterov"]
                       else buffers)
            updates = orthogonalised(updates, group["ns_coefficients"], group["ns_steps"],
                                     group["eps"], -rate)
            torch._foreach_mul_(params, 1 - rate * group["weight_decay"])
            torch._foreach_add_(params, updates)


def orthogonalised(matrices: Sequence[Tensor], coefficients: Sequence[float], steps: int,
                   eps: float, rate: float) -> list[Tensor]:
    """Return each matrix's nearest orthogonal one, about, times ``rate`` 0.2 sqrt(longer side).

    Newton-Schulz iteration in bfloat16, as torch.optim.Muon does it.

    Args:
        matrices: float tensors (A, B), of any shapes.
        coefficients: the three of the iteration's polynomial.
        steps: of the iteration.
        eps: the smallest norm by which a matrix is divided.
        rate: the learning rate, with its sign.

    Returns:
        float32 tensors of the same shapes, in the same order.
    """
    a, b, c = coefficients
    found: list[Tensor] = [torch.empty(0)] * len(matrices)
    groups: dict[tuple[int, int], list[int]] = {}
    for i, one in enumerate(matrices):
        groups.setdefault((min(one.shape), max(one.shape)), []).append(i)
    for (short, long), members in groups.items():
        tall = [matrices[i].shape[0] > short for i in members]
        x = torch.stack([matrices[i].mT if flip else matrices[i]
                         for i, flip in zip(members, tall, strict=True)]).bfloat16()
        x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
        for _ in range(steps):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        x = x.float() * (rate * 0.2 * math.sqrt(long))
        turned = x.mT.contiguous() if any(tall) else x
        for at, (i, flip) in enumerate(zip(members, tall, strict=True)):
            found[i] = turned[at] if flip else x[at]
    return found
