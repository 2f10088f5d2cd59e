"""A network's passes replayed as CUDA graphs."""

import copy

import pytest
import torch

from irbench.catalog import recipes
from irbench.core.errors import UserError
from irbench.jobs.training import graph
from irbench.models import registry


@pytest.mark.parametrize(("device", "processes", "compiled", "fields", "said"), [
    ("cpu", 1, False, {}, "the device is cpu"),
    ("cuda", 2, False, {}, "2 processes"),
    ("cuda", 1, True, {}, "compiled"),
    ("cuda", 1, False, {"precision": "bf16"}, "bf16"),
    ("cuda", 1, False, {"accumulate": 2}, "accumulate"),
])
def test_what_cannot_be_replayed_is_refused(device, processes, compiled, fields, said):
    recipe = recipes.resolve({"recipe": "short", "data": ["x"], **fields}, "here")
    with pytest.raises(UserError, match=f"--graph: .*{said}.* Leave it out"):
        graph.check(recipe, device, processes, compiled)
    graph.check(recipes.resolve({"recipe": "short", "data": ["x"]}, "here"), "cuda", 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_replayed_passes_train_as_plain_ones():
    torch.manual_seed(0)
    options = {"width": 12, "layers": 1, "heads": 1}
    network = registry.get("compacter").load()("sr", 2, 3, **options).cuda().train()
    plain = copy.deepcopy(network)
    replayed = graph.Replayed(network)
    for size in (16, 16, 24):
        x, target = torch.rand(2, 3, size, size).cuda(), torch.rand(2, 3, 2 * size, 2 * size).cuda()
        for run, net in ((replayed, network), (plain, plain)):
            (run(x) - target).abs().mean().backward()
            torch.optim.SGD(net.parameters(), lr=0.1).step()
            net.zero_grad()
    for a, b in zip(network.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_network_that_looks_at_values_is_refused():
    class Looks(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return x * self.weight if x.sum().item() > 0 else x - self.weight

    with pytest.raises(UserError, match="Looks cannot be captured.*without --graph"):
        graph.Replayed(Looks().cuda())(torch.rand(1, 3, 4, 4).cuda())
