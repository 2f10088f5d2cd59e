"""Compacter's blocks against slow references written from the equations, forward and gradient."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from irbench.jobs.profiling import macs
from irbench.models import compacter as module
from irbench.models import layers, strips
from irbench.models.compacter import CARDS, CASA, DSGM, CompactLayer, compacter
from tests.helpers import plain_blocks
from tests.helpers.paths import ROOT
from tests.helpers.plain_blocks import check_gradients, normal, same, wake

torch.set_num_threads(1)
TINY = {"width": 4, "layers": 2, "window": 2, "heads": 2, "ratio": 1}
FORMS = [  # of the attention: every option at least once away from its default
    {}, {"channel_norm": "scaled", "channel_heads": 2}, {"temperature": "learned", "heads": 1},
    {"spatial_norm": "cosine", "temperature": "learned", "channel_heads": 4},
    {"spatial_norm": "cosine", "spatial_scale": 3, "channel_scale": 2.5, "heads": 4},
]
some = settings(derandomize=True, deadline=None, max_examples=4)
shapes = {"seed": st.integers(0, 99), "batch": st.integers(1, 2), "down": st.integers(1, 3),
          "across": st.integers(1, 3)}


def options(**more):
    return layers.options_of("compacter", CARDS, {**TINY, **more})


def agree(network, reference, x):
    """Check a batch against a reference for one, and the gradients by x and every parameter."""
    x = x.requires_grad_()
    same(network(x), torch.stack([reference(one) for one in x]), [x, *network.parameters()])


# -- the definition ------------------------------------------------------------------------------

@pytest.mark.parametrize("more", FORMS)
def test_casa_is_what_the_figure_says(more):
    @some
    @given(**shapes, window=st.integers(1, 3))
    def check(seed, batch, down, across, window):
        o = options(**{**more, "window": window})
        network = wake(CASA(o), seed)
        agree(network, lambda x: plain_blocks.casa(x, network, o),
              normal(seed, batch, down * window, across * window, 4))

    check()


@pytest.mark.parametrize("more", FORMS)
def test_both_attentions_by_themselves(more):
    o = options(**more)
    network = wake(CASA(o))
    q, k, v = normal(0, 3, 4, 6, 4).requires_grad_()
    spatial = network.spatial(*(layers.to_windows(t[None], 2) for t in (q, k, v)))
    torch.testing.assert_close(layers.from_windows(spatial, 2, (4, 6))[0],
                               plain_blocks.swsa(q, k, v, o, network.spatial_factor))
    channel = network.channel(*(t.reshape(1, 24, 4) for t in (q, k, v)))
    torch.testing.assert_close(channel.view(4, 6, 4),
                               plain_blocks.cwsa(q, k, v, o, network.channel_factor))


@pytest.mark.parametrize("form", ["literal", "gated"])
def test_dsgm_is_two_branches_multiplied_both_ways(form):
    @some
    @given(**shapes, width=st.integers(1, 3), ratio=st.integers(1, 2))
    def check(seed, batch, down, across, width, ratio):
        network = wake(DSGM(width, ratio, form), seed)
        agree(network, lambda x: plain_blocks.dsgm(x, network, form),
              normal(seed, batch, down, 2 * across, width))

    check()


@pytest.mark.parametrize("more", [{}, {"dsgm": "gated", "temperature": "learned"}])
def test_a_compact_layer_has_two_residuals_on_norms(more):
    o = options(**more)
    network = wake(CompactLayer(o))
    agree(network, lambda x: plain_blocks.compact_layer(x, network, o), normal(0, 2, 4, 2, 4))


@pytest.mark.parametrize(("task", "scale", "channels", "more"), [
    ("sr", 2, 3, {"final_norm": True}), ("sr", 3, 1, {"dsgm": "gated"}),
    ("denoise_color", 1, 3, {"restoration": "half"}),
    ("jpeg_gray", 1, 1, {"restoration": "unshuffle", "temperature": "learned"}),
    ("derain", 1, 3, {"restoration": "full", "layers": 1}),
])
def test_the_whole_network_is_what_the_figures_say(task, scale, channels, more):
    network = wake(compacter(task, scale, channels, **{**TINY, **more}))
    agree(network, lambda x: plain_blocks.compacter(x, network, options(**more)),
          normal(0, 1, channels, 4, 8))


@pytest.mark.parametrize("build", [
    lambda: CASA(options(temperature="learned", channel_heads=2)),
    lambda: CASA(options(channel_norm="scaled", spatial_norm="cosine")),
    lambda: DSGM(4, 1, "literal"), lambda: DSGM(4, 1, "gated"), lambda: CompactLayer(options()),
])
def test_gradients_by_finite_differences(build):
    network = wake(build())
    x = normal(0, 1, 2, 4, 4).requires_grad_()
    check_gradients(network, x, fast=True)
    assert torch.autograd.gradcheck(network, x)


# -- strips: the same without gradients on a CPU -------------------------------------------------

def whole(network, x, monkeypatch):
    """The definition, without gradients too."""
    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(strips, "apply_to", lambda x: False)
        return network(x)


@pytest.mark.parametrize("more", [*FORMS, {"dsgm": "gated"}])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("tokens", [1, 40, 4096])  # a strip: one row of windows, some, all
def test_strips_are_the_definition(more, batch, tokens, monkeypatch):
    monkeypatch.setattr(strips, "TOKENS", tokens)
    network, x = wake(CompactLayer(options(**more))), normal(0, batch, 10, 6, 4)
    expected, before = whole(network, x, monkeypatch), x.clone()
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected, rtol=1e-11, atol=1e-12)
        assert torch.equal(x, before)
        torch.testing.assert_close(network.float()(x.float()).double(), expected,
                                   rtol=1e-4, atol=1e-5)
        rough = network.bfloat16()(x.bfloat16())
    assert rough.dtype == torch.bfloat16
    assert (rough.double() - expected).norm() < 0.03 * expected.norm()


@some
@given(seed=st.integers(0, 99), down=st.integers(1, 7), across=st.integers(1, 5),
       window=st.integers(1, 4), tokens=st.integers(1, 200))
def test_strips_of_any_number_of_rows(seed, down, across, window, tokens):
    x = torch.empty(1, down * window, across * window, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strips, "TOKENS", tokens)
        rows = [range(down * window)[part] for part in strips.cut(x, window)]
        assert [i for part in rows for i in part] == list(range(down * window))
        assert all(len(part) % window == 0 and part for part in rows)
        network = wake(CompactLayer(options(window=window)), seed)
        x = normal(seed, 1, down * window, across * window, 4)
        with torch.no_grad():
            torch.testing.assert_close(network(x), whole(network, x, patch))


def test_strips_only_without_gradients_and_when_nothing_looks_on(monkeypatch):
    seen = []
    monkeypatch.setattr(strips, "layer", lambda layer, x: seen.append(1) or x)
    network, x = compacter("sr", 2, 3, **TINY), torch.rand(1, 3, 4, 4)
    network(x)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        network(x)
    macs.count(network, (x,))
    assert not seen
    with torch.no_grad():
        network(x)
    with torch.inference_mode():
        network(x)
    assert len(seen) == 4  # two layers each


@pytest.mark.slow
def test_no_strips_in_a_compiled_network(monkeypatch):
    monkeypatch.setattr(strips, "layer", lambda *given: pytest.fail("strips"))
    network, x = compacter("sr", 2, 3, **TINY), torch.rand(1, 3, 4, 4)
    with torch.inference_mode():
        torch.compile(network, backend="eager", fullgraph=True)(x)


def test_multiply_adds_are_those_of_the_definition():
    network = compacter("sr", 2, 3, **{**TINY, "width": 8, "ratio": 2, "layers": 1})
    counted = macs.count(network, (torch.rand(1, 3, 6, 8),)).by_kind
    n, c = 48, 8
    assert counted == {
        "conv": n * 9 * (3 * c + c + 4 * c + c * c + 12 * c),
        "linear": n * (3 * c * c + c * c + 4 * c * c + 2 * c * c),
        "attention": n * (2 * 4 * c + 2 * c * c), "dictionary": 0, "other": 0,
    }


# -- options and the card ------------------------------------------------------------------------

OTHERS = {"width": 8, "layers": 1, "ratio": 2, "window": 3, "heads": 1, "channel_heads": 2,
          "channel_norm": "scaled", "channel_scale": 2.0, "spatial_norm": "cosine",
          "spatial_scale": 2.0, "temperature": "learned", "final_norm": True, "dsgm": "gated",
          "restoration": "full", "skip": "input"}


@pytest.mark.parametrize("option", CARDS["compacter"]["options"])
@pytest.mark.parametrize("temperature", ["fixed", "learned"])
def test_the_card_names_the_options_that_change_no_weights(option, temperature):
    def weights(**more):
        network = compacter("denoise_color", 1, 3, **{**TINY, "temperature": temperature, **more})
        return {name: value.shape for name, value in network.state_dict().items()}

    if option in CARDS["compacter"]["free"]:
        assert weights(**{option: OTHERS[option]}) == weights()
    elif temperature == "learned" and option != "temperature":
        assert weights(**{option: OTHERS[option]}) != weights()


@pytest.mark.parametrize("option", ["window", "heads", "channel_heads", "channel_norm",
                                    "channel_scale", "spatial_norm", "spatial_scale", "dsgm"])
def test_every_option_changes_the_output(option):
    fixed = {"spatial_norm": "cosine"} if option == "spatial_scale" else {}
    x = normal(0, 1, 3, 12, 12)
    with torch.no_grad():
        outputs = [wake(compacter("sr", 2, 3, **{**TINY, **fixed, **more}))(x)
                   for more in ({}, {option: OTHERS[option]})]
    assert not torch.allclose(*outputs, rtol=1e-3)


def test_every_option_has_its_reason_in_the_text():
    text = module.__doc__
    assert [o for o in CARDS["compacter"]["options"] if f"    {o} " not in text
            and f", {o} " not in text] == []


# -- the straightforward version that benchmarks compare with ------------------------------------

def plain_form():
    path = ROOT / "benchmarks" / "plain_compacter.py"
    spec = importlib.util.spec_from_file_location("plain_compacter", path)
    sys.modules[spec.name] = found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize(("task", "scale", "channels", "more"), [
    ("sr", 2, 3, {}), ("sr", 3, 3, {"dsgm": "gated", "channel_norm": "scaled", "skip": "input"}),
    ("sr", 4, 1, {"temperature": "learned", "channel_heads": 2, "final_norm": True}),
    ("denoise_color", 1, 3, {"spatial_norm": "cosine"}),
    ("jpeg_gray", 1, 1, {"restoration": "unshuffle"}),
    ("derain", 1, 3, {"restoration": "full"}),
])
def test_the_plain_form_of_the_benchmark_is_the_same_function(task, scale, channels, more):
    plain = plain_form()
    network = wake(compacter(task, scale, channels, **{**TINY, **more}))
    other = plain.plain(scale, channels, **{**TINY, **more}).double().eval()
    plain.load(other, network.state_dict())
    x = normal(0, 2, channels, 11, 6)
    with torch.no_grad():
        expected = other(x)
        torch.testing.assert_close(network(x), expected, rtol=1e-10, atol=1e-11)
        torch.testing.assert_close(network.float()(x.float()).double(), expected,
                                   rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(other.float()(x.float()), network(x.float()),
                                   rtol=1e-5, atol=1e-5)


def test_at_full_width_too():
    plain = plain_form()
    torch.manual_seed(0)
    network = compacter("sr", 2, 3, layers=2).eval()
    other = plain.load(plain.plain(2, 3, layers=2), network.state_dict())
    x = torch.rand(1, 3, 72, 136)  # several strips; Linears large enough for their other form
    with torch.no_grad():
        torch.testing.assert_close(network(x), other(x), rtol=1e-5, atol=1e-5)
