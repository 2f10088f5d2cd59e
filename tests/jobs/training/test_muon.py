"""Matrices that are orthogonalised together: the result of torch's own Muon."""

import copy

import pytest
import torch
from torch import nn

from irbench.jobs.training import muon

pytestmark = pytest.mark.skipif(not muon.AVAILABLE, reason="torch before 2.9 has no Muon")

# wide, tall and square ones, some of one shape, one the other's transpose
SHAPES = [(12, 40), (40, 12), (12, 40), (24, 24), (24, 24), (1, 7), (7, 1)]


def steps_of(kind, together: bool, count: int = 4, device: str = "cpu", **options) -> list:
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(shape).to(device)) for shape in SHAPES]
    before = copy.deepcopy(params)
    optimiser = kind(params, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw", **options)
    for _ in range(count):
        for p in params[:-1]:       # the last one gets no gradient
            p.grad = torch.randn(p.shape).to(device)
        optimiser.step_together() if together else optimiser.step()
    return [before, params, optimiser]


@pytest.mark.parametrize("options", [{}, {"nesterov": False}, {"momentum": 0.5, "ns_steps": 3}])
def test_together_is_as_one_after_another(options):
    before, one, optimiser = steps_of(torch.optim.Muon, False, **options)
    _, other, together = steps_of(muon.Muon, True, **options)
    for i, (start, a, b) in enumerate(zip(before, one, other, strict=True)):
        moved = (a - start).norm()
        assert (a - b).norm() <= 0.02 * moved, i        # bfloat16
        assert i == len(SHAPES) - 1 or moved > 0
    for a, b in zip(one[:-1], other[:-1], strict=True):
        assert torch.equal(optimiser.state[a]["momentum_buffer"],
                           together.state[b]["momentum_buffer"])
    assert other[-1].equal(before[-1]) and other[-1] not in together.state


def test_a_state_of_torchs_muon_goes_on():
    _, params, optimiser = steps_of(torch.optim.Muon, False)
    ours = muon.Muon(copy.deepcopy(params), lr=0.02, weight_decay=0.1,
                     adjust_lr_fn="match_rms_adamw")
    ours.load_state_dict(optimiser.state_dict())
    for p, q in zip(params, ours.param_groups[0]["params"], strict=True):
        q.grad = torch.ones_like(q)
        p.grad = torch.ones_like(p)
    ours.step_together()
    optimiser.step()
    for p, q in zip(params, ours.param_groups[0]["params"], strict=True):
        assert (p - q).norm() <= 5e-3 * p.norm()


def test_on_a_cpu_torchs_own_step_runs():
    """The bytes of weights that were trained on a CPU stay what they were."""
    _, one, _ = steps_of(torch.optim.Muon, False)
    _, other, _ = steps_of(muon.Muon, False)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_they_go_together(monkeypatch):
    called = []
    step = muon.Muon.step_together
    monkeypatch.setattr(muon.Muon, "step_together", lambda self: called.append(1) or step(self))
    before, one, _ = steps_of(torch.optim.Muon, False)
    _, other, _ = steps_of(muon.Muon, False, device="cuda")
    assert called == [1] * 4
    for start, a, b in zip(before[:-1], one[:-1], other[:-1], strict=True):
        assert (a - b.cpu()).norm() <= 0.03 * (a - start).norm()
