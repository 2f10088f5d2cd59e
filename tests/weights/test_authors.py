"""Authors' files for networks that irbench has: names, digests, other networks."""

import hashlib

import pytest
import torch

from irbench.catalog import protocols
from irbench.core.errors import Unavailable, UserError
from irbench.models import registry
from irbench.weights import authors

X2 = protocols.get("sr-x2")
SMALL = {"architecture": "smfanet", "width": 8, "blocks": 1}


@pytest.fixture
def file(tmp_path):
    """A file as a training with DataParallel leaves it."""
    torch.manual_seed(0)
    state = registry.build_peer("smfanet", 2, 3, width=8, blocks=1).state_dict()
    path = tmp_path / "a.pth"
    torch.save({"params": {f"module.{name}": value for name, value in state.items()}}, path)
    return path, state


def test_a_file_is_loaded_and_described(file):
    path, state = file
    network, digest = authors.load(path, X2, network=SMALL)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest() and not network.training
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert network.about == {**SMALL, "scale": 2, "channels": 3, "weights_key": "params.module"}


def test_a_file_of_another_network_is_refused(file):
    with pytest.raises(UserError, match=r"a.pth.* does not fit smfanet: .* missing"):
        authors.load(file[0], X2, network={**SMALL, "blocks": 2})


def test_a_file_of_another_digest_is_refused(file):
    with pytest.raises(UserError, match="a.pth: its SHA-256 is .*, expected 000"):
        authors.load(file[0], X2, "0" * 64, network=SMALL)


def test_a_missing_file_is_unavailable(tmp_path):
    with pytest.raises(Unavailable, match=r"b\.pth"):
        authors.load(tmp_path / "b.pth", X2, network=SMALL)
