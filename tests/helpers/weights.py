"""Weights for tests: of the tiny model, built, saved, loaded, compared and damaged."""

import dataclasses

import torch

from irbench.catalog import protocols
from irbench.catalog.model import Model
from irbench.models import registry
from irbench.weights import loading

SR = protocols.get("sr-x2")
SIGMA = {"sigma": [15, 50]}
BLIND = dataclasses.replace(protocols.get("denoise_color-sigma25"), id="denoise_color-blind@1")


def model(plugin, **more):
    """Return the tiny model as a plan has it."""
    card = registry.get("tiny", plugin)
    return Model(**{"name": "mine", "arch": "tiny", "options": dict(card.options), **more})


def built(plugin, protocol=SR, seed=0):
    """Return its network with random weights."""
    torch.manual_seed(seed)
    return loading.build(model(plugin), protocol, plugin)


def load(plugin, path, protocol=SR, sha256=None, **more):
    """Load a file into a network of other weights; return what that holds then."""
    network = built(plugin, protocol, seed=1)
    loading.load(network, path, model(plugin, **more), protocol, sha256)
    return network.state_dict()


def equal(state, other, rounded=False):
    """Whether two state dicts are one, in float32; `rounded`: one of them went through float16."""
    return state.keys() == other.keys() and all(
        torch.equal(value, other[name].half().float() if rounded else other[name])
        and value.dtype == torch.float32 for name, value in state.items())


def flip(path):
    """Change one bit of a tensor in a file."""
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
