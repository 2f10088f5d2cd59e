"""The dictionaries' health that a network reports, and the implementation that it chooses."""

from __future__ import annotations

import pytest
import torch

from irbench.core.errors import Unavailable, UserError
from irbench.models import attention
from irbench.models.attention import (
    IMPLEMENTATIONS,
    KeyDictionary,
    Keys,
    attend,
    choose,
    health,
    selection_statistics,
)
from irbench.models.semanir import semanir_light
from tests.helpers.plain_blocks import normal

torch.set_num_threads(1)

LIGHT = {"width": 8, "heads": 2, "layers": 1, "stages": 3, "window": 4, "k": 5, "bias_hidden": 8}


# -- how the dictionary behaves --------------------------------------------------------------------

def test_selection_statistics_show_hubs():
    tokens = torch.tensor([[[1.0, 0], [0.9, 0.1], [100, 100], [0, 1]]])
    assert selection_statistics(KeyDictionary(1, "dot")(tokens)) == {"self": 0.25, "used": 0.25}
    assert selection_statistics(KeyDictionary(1, "cosine")(tokens)) == {"self": 1.0, "used": 1.0}
    assert selection_statistics(Keys(None)) is None


def test_a_network_can_be_watched():
    net = semanir_light("sr", 2, 3, **LIGHT).eval()
    x = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    built = []
    hooks = [stage.dictionary.register_forward_hook(lambda m, args, keys: built.append(keys))
             for stage in net.stages]
    with torch.inference_mode(), health.watch(net) as found:
        net(x)
    assert [e["stage"] for e in found] == [f"stages.{i}.dictionary" for i in range(3)]
    for i, (entry, keys) in enumerate(zip(found, built, strict=True)):
        assert (entry["n"], entry["k"]) == (16, 5)
        assert {name: entry[name] for name in ("self", "used")} == pytest.approx(
            selection_statistics(keys))
        if i == 0:
            assert entry["overlap"] is None
        else:
            both = (keys.mask & built[i - 1].mask).sum() / keys.mask.sum()
            assert entry["overlap"] == pytest.approx(both.item())
    for hook in hooks:
        hook.remove()
    net(x)
    assert len(found) == 3 and not any(s.dictionary._forward_hooks for s in net.stages)


def test_tiles_count_by_their_windows():
    net = semanir_light("sr", 2, 3, **LIGHT).eval()
    tiles = [torch.rand(1, 3, 4, 4 * n, generator=torch.Generator().manual_seed(n)) for n in (1, 3)]
    with torch.inference_mode():
        with health.watch(net) as together:
            for tile in tiles:
                net(tile)
        apart = []
        for tile in tiles:
            with health.watch(net) as found:
                net(tile)
            apart.append(found)
    assert len(together) == 3
    for entry, one, other in zip(together, *apart, strict=True):
        for name in ("self", "used", "overlap"):
            if one[name] is None:
                assert entry[name] is None and name == "overlap"
            else:
                assert entry[name] == pytest.approx((one[name] + 3 * other[name]) / 4)


def test_a_second_pass_is_not_compared_with_the_first():
    net = semanir_light("sr", 2, 3, **LIGHT).eval()
    x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), health.watch(net) as once:
        net(x)
    with torch.inference_mode(), health.watch(net) as twice:
        net(x)
        net(x)
    assert once[0]["overlap"] is None and once[1]["overlap"] is not None
    assert [e["overlap"] for e in twice] == [e["overlap"] for e in once]
    wording = health.dictionaries_in_words(once)
    assert "of 3 stages: " in wording and " % of keys are used" in wording


def test_what_is_dense_or_has_no_dictionary_says_so():
    net = semanir_light("sr", 2, 3, **LIGHT | {"k": 16}).eval()
    with health.watch(net) as found:
        net(torch.rand(1, 3, 8, 8))
    assert len(found) == 3
    assert all(e["n"] == e["k"] == 16 and e["self"] is e["used"] is e["overlap"] is None
               for e in found)
    other = torch.nn.Linear(2, 2)
    with health.watch(other) as found:
        other(torch.rand(1, 2))
    assert found == [] and health.implementations(other) is None


def test_the_overlap_is_unknown_where_the_windows_are_others():
    net = semanir_light("sr", 2, 3, **LIGHT, shift="half").eval()
    with health.watch(net) as found:
        net(torch.rand(1, 3, 8, 8))
    assert [e["overlap"] for e in found] == [None, None, None]


@pytest.mark.parametrize(("asked", "expected"), [("auto", "mask"), ("gather", "gather")])
def test_a_network_tells_its_attention(asked, expected):
    reported = health.implementations(semanir_light("sr", 2, 3, **LIGHT, attention=asked))
    assert reported["implementation"] == expected and reported["reason"]


# -- the choice ------------------------------------------------------------------------------------

def test_the_automatic_choice_gives_its_reason():
    name, reason = choose("auto")
    assert name == "mask" and "CPU" in reason
    for device, k in (("cpu", 64), ("cuda", 99)):
        name, reason = choose("auto", device=device, n=64, k=k)
        assert name == "mask" and "all 64 keys" in reason
    for name in IMPLEMENTATIONS:
        assert choose(name) == (name, "asked for")


def test_on_a_gpu_the_choice_says_what_was_measured_and_what_not(monkeypatch):
    monkeypatch.setattr(attention.importlib.util, "find_spec", lambda name: object())
    for training, name, said in ((False, "triton", "measured on a GPU (H200)"),
                                 (True, "mask", "not measured")):
        found, reason = choose("auto", device="cuda", training=training, n=1024, k=64)
        assert found == name and said in reason
    wide, reason = choose("auto", device="cuda", n=1024, k=64, d=65)
    assert wide == "mask" and "64 dimensions" in reason
    monkeypatch.setattr(attention.importlib.util, "find_spec", lambda name: None)
    assert choose("auto", device="cuda")[0] == "mask"


def test_an_unknown_implementation_is_named_with_the_known_ones():
    q = normal(0, 1, 1, 4, 2)
    with pytest.raises(UserError, match="Valid: auto, flex, gather, mask, reference, triton"):
        attend(q, q, q, Keys(None), implementation="tritn")


def test_what_cannot_be_imported_is_unavailable(monkeypatch):
    def absent(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(attention.importlib, "import_module", absent)
    q = normal(0, 1, 1, 4, 2)
    for name in ("flex", "triton"):
        with pytest.raises(Unavailable, match=f"'attention' is '{name}'.*use 'auto'"):
            attend(q, q, q, Keys(None), implementation=name)
