"""SemanIR's blocks and both whole networks, each against the slow reference in plain_semanir.py."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from irbench.core.errors import UserError
from irbench.models import layers, linear, reach
from irbench.models.attention import KeyDictionary, dictionary
from irbench.models.attention.stage import Layer, SemanticAttention, Stage
from irbench.models.linear import Linear
from irbench.models.semanir import CARDS, semanir_b, semanir_light, semanir_s
from irbench.models.semanir_unet import semanir_unet
from tests.helpers import plain_semanir as plain
from tests.helpers.plain_blocks import check_gradients, normal, same, wake

torch.set_num_threads(1)

SMALL = {"width": 8, "heads": 2, "layers": 1, "window": 4, "k": 5, "bias_hidden": 8}
TINY_UNET = {"width": 2, "heads": 1, "layers": 1, "window": 2, "k": 3, "bias_hidden": 4}


def options(**more):
    return layers.options_of("semanir-light", CARDS, {**SMALL, **more})


# -- layers and stages -----------------------------------------------------------------------------

@pytest.mark.parametrize("scaling", ["learned", "fixed", "sqrt"])
@settings(derandomize=True, deadline=None, max_examples=8)
@given(window=st.integers(2, 4), heads=st.integers(1, 3), d=st.integers(1, 5), k=st.integers(1, 18),
       seed=st.integers(0, 99))
def test_semantic_attention_is_what_its_text_says(scaling, window, heads, d, k, seed):
    o = options(window=window, k=k, logit_scale=scaling)
    module = wake(SemanticAttention(heads * d, heads, o), seed)
    if scaling == "learned":
        with torch.no_grad():
            module.log_scale[0] = 9.0  # beyond ln 100, where it is cut
    x = normal(seed, 2, window * window, heads * d).requires_grad_()
    keys = KeyDictionary(k)(x)
    expected = torch.stack([plain.attention(module, one, plain.chosen(KeyDictionary(k), one),
                                            window) for one in x])
    torch.testing.assert_close(module(x, keys), expected)
    wanted = [x, *(p for n, p in module.named_parameters() if n != "log_scale")]
    along = normal(5, *expected.shape)
    slow, fast = (torch.autograd.grad((y * along).sum(), wanted, allow_unused=True)
                  for y in (expected, module(x, keys)))
    torch.testing.assert_close(fast, slow, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("scaling", ["learned", "fixed", "sqrt"])
def test_a_layer_is_attention_and_ffn_with_residuals(norm, scaling):
    module = wake(Layer(4, 2, options(norm=norm, logit_scale=scaling, window=3, bias_hidden=3)))
    x = normal(0, 2, 9, 4).requires_grad_()
    built = KeyDictionary(4)
    rows = [plain.chosen(built, one) for one in x]
    expected = torch.stack([plain.layer(module, one, row, 3)
                            for one, row in zip(x, rows, strict=True)])
    same(module(x, built(x)), expected, [x, *module.parameters()])
    check_gradients(wake(Layer(2, 1, options(norm=norm, logit_scale=scaling, window=2,
                                             bias_hidden=2, mlp_ratio=1))),
                    normal(1, 1, 4, 2).requires_grad_(), built(normal(2, 1, 4, 2)))


@pytest.mark.parametrize("shift", ["none", "half"])
@pytest.mark.parametrize("similarity", dictionary.SIMILARITIES)
@settings(derandomize=True, deadline=None, max_examples=4)
@given(window=st.integers(2, 4), rows=st.integers(1, 2), columns=st.integers(1, 3),
       k=st.integers(1, 17), seed=st.integers(0, 99))
def test_a_stage_is_windows_of_layers_then_a_convolution(shift, similarity, window, rows, columns,
                                                         k, seed):
    module = wake(Stage(4, 2, options(window=window, k=k, similarity=similarity, shift=shift,
                                      layers=2, bias_hidden=3), second=True), seed)
    x = normal(seed, 2, rows * window, columns * window, 4).requires_grad_()
    found = plain.recorded(module, x)
    same(found, torch.stack([plain.stage(module, one) for one in x]), [x, *module.parameters()])


@pytest.mark.parametrize("shift", ["none", "half"])
def test_gradients_of_a_stage(shift):
    o = options(window=2, k=2, layers=1, bias_hidden=2, mlp_ratio=1, shift=shift,
                similarity="cosine")
    check_gradients(wake(Stage(2, 1, o, second=True)), normal(4, 1, 2, 4, 2).requires_grad_())


def test_a_stage_builds_one_dictionary_of_its_input_for_all_layers_and_heads():
    stage = Stage(8, 2, options(layers=3))
    built, seen = [], []
    stage.dictionary.register_forward_hook(lambda m, args, keys: built.append((args[0], keys)))
    for layer in stage.layers:
        layer.register_forward_pre_hook(lambda m, args: seen.append(args[1]))
        layer.attention.register_forward_pre_hook(lambda m, args: seen.append(args[1]))
    x = torch.randn(1, 8, 8, 8)
    stage(x)
    assert len(built) == 1 and len(seen) == 6
    assert torch.equal(built[0][0], layers.to_windows(x, 4))
    assert all(keys is built[0][1] for keys in seen)
    assert built[0][1].mask.shape == (4, 16, 16)  # no dimension for heads


def test_windows_of_a_stage_meet_only_in_its_convolution():
    layer = wake(Stage(8, 2, options())).layers[0]
    x = normal(0, 2, 16, 8)
    changed = x.clone()
    changed[1] += 1
    keys = KeyDictionary(5)
    with torch.inference_mode():
        first, second = layer(x, keys(x)), layer(changed, keys(changed))
    assert torch.equal(first[0], second[0]) and not torch.equal(first[1], second[1])


@settings(derandomize=True, deadline=None, max_examples=20)
@given(window=st.integers(2, 5), rows=st.integers(1, 3), columns=st.integers(1, 3))
def test_a_shifted_stage_looks_at_an_image_continued_by_reflection(window, rows, columns):
    stage = Stage(2, 1, options(window=window, shift="half", layers=1), second=True)
    x = normal(0, 1, rows * window, columns * window, 2)
    larger = stage.enlarge(x)
    assert stage.margin == window // 2
    height, width = x.shape[1:3]
    assert larger.shape == (1, height + window, width + window, 2)
    for i in range(height + window):
        for j in range(width + window):
            a = plain.mirrored(i - stage.margin, height)
            b = plain.mirrored(j - stage.margin, width)
            assert torch.equal(larger[0, i, j], x[0, a, b])


def test_only_every_second_stage_shifts_and_none_by_default():
    net = semanir_light("sr", 2, 3, **SMALL, stages=4, shift="half")
    assert [stage.margin for stage in net.stages] == [0, 2, 0, 2]
    unet = semanir_unet("deblur", 1, 3, **TINY_UNET, shift="half")
    order = [*unet.encoders, unet.latent, *unet.decoders, unet.final]
    assert [stage.margin for stage in order] == [0, 0, 0, 0, 1, 1, 1, 0]
    assert not any(stage.margin for stage in semanir_light("sr", 2, 3, **SMALL).stages)


# -- the whole networks ----------------------------------------------------------------------------

@pytest.mark.parametrize(("task", "scale", "channels", "size", "more"), [
    ("sr", 2, 3, (6, 3), {"head": "pixelshuffle", "head_width": 4}),
    ("sr", 3, 1, (4, 5), {"similarity": "dot", "norm": "post"}),
    ("sr", 4, 3, (3, 4), {"head": "pixelshuffle", "head_width": 4, "logit_scale": "sqrt"}),
    ("sr", 2, 3, (7, 5), {"shift": "half", "similarity": "dot_ln", "logit_scale": "fixed"}),
    ("denoise_color", 1, 3, (9, 4), {"restoration": "half"}),
    ("jpeg_gray", 1, 1, (7, 6), {"restoration": "unshuffle", "k": 1}),
    ("deblur", 1, 3, (5, 4), {"restoration": "full", "k": 16}),
])
def test_semanir_is_what_its_text_says(task, scale, channels, size, more):
    """Sizes that are not multiples: windows at the borders reach into the reflection."""
    given = {**SMALL, "width": 4, "layers": 1, "stages": 2, "bias_hidden": 3, "skip": "none"}
    net = wake(semanir_light(task, scale, channels, **given | more))
    image = normal(0, channels, *size).requires_grad_()
    found = plain.recorded(net, image.unsqueeze(0))[0]
    same(found, plain.columns(net, image), [image, *net.parameters()])


@pytest.mark.parametrize("shift", ["none", "half"])
def test_the_u_shape_is_what_its_text_says(shift):
    net = wake(semanir_unet("denoise_color", 1, 3, **TINY_UNET, shift=shift))
    image = normal(0, 3, 13, 15).requires_grad_()
    found = plain.recorded(net, image.unsqueeze(0))[0]
    same(found, plain.unet(net, image), [image, *net.parameters()])


@pytest.mark.parametrize("build", [
    lambda **more: semanir_light("sr", 2, 3, **SMALL, stages=3, **more),
    lambda **more: semanir_unet("deblur", 1, 3, **TINY_UNET, **more)])
def test_one_k_is_drawn_for_all_stages_of_a_batch(build):
    net = build(train_k=[2, 3, 4])
    seen = []
    for module in net.modules():
        if isinstance(module, KeyDictionary):
            module.register_forward_hook(lambda m, args, keys: seen.append(args[1]))
    x, batches = torch.rand(1, 3, 16, 16), []
    torch.manual_seed(0)
    for _ in range(20):
        seen.clear()
        net(x)
        batches.append(set(seen))
    assert all(len(batch) == 1 for batch in batches)
    assert set().union(*batches) == {2, 3, 4}
    seen.clear()
    net.eval()(x)
    assert set(seen) == {None}
    with pytest.raises(UserError, match="'train_k'.*whole numbers of at least 1"):
        build(train_k=[8, 0])


@pytest.mark.parametrize(("more", "lacks"), [
    ({"similarity": "cosine"}, 0), ({"norm": "post"}, 0), ({"shift": "half"}, 0),
    ({"window": 8}, 0), ({"k": 3}, 0), ({"train_k": [3]}, 0), ({"attention": "gather"}, 0),
    ({"logit_scale": "fixed"}, 6), ({"logit_scale": "sqrt"}, 6)])
def test_options_leave_the_weights_as_they_are(more, lacks):
    """But for the learned scales, whose absence the two other forms are."""
    given = {**SMALL, "stages": 3, "layers": 1}
    default = semanir_light("sr", 2, 3, **given).state_dict()
    other = semanir_light("sr", 2, 3, **given | more).state_dict()
    kept = {n: v for n, v in default.items() if not lacks or "log_scale" not in n}
    assert {n: v.shape for n, v in kept.items()} == {n: v.shape for n, v in other.items()}
    assert sum(v.numel() for v in default.values()) - lacks == sum(
        v.numel() for v in other.values())


def test_free_options_are_options_that_leave_the_weights_as_they_are():
    for card in CARDS.values():
        assert set(card["free"]) == {"k", "window", "similarity", "shift", "attention"}
        assert set(card["free"]) < set(card["options"])


@pytest.mark.parametrize("attention", ["reference", "gather"])
def test_implementations_agree_in_a_network(attention):
    nets = [semanir_light("sr", 2, 3, **SMALL, stages=2, attention=name).eval()
            for name in ("mask", attention)]
    nets[1].load_state_dict(nets[0].state_dict())
    x = torch.rand(1, 3, 10, 13)
    with torch.inference_mode():
        torch.testing.assert_close(nets[0](x), nets[1](x), atol=1e-5, rtol=0)
    losses = [net(x).square().mean() for net in nets]
    torch.testing.assert_close(
        *(list(torch.autograd.grad(loss, net.parameters()))
          for net, loss in zip(nets, losses, strict=True)), atol=1e-5, rtol=1e-4)


# -- how far a network looks -----------------------------------------------------------------------

@pytest.mark.parametrize(("task", "scale", "more"), [
    ("sr", 2, {}), ("sr", 2, {"shift": "half", "stages": 2}), ("sr", 3, {"window": 3}),
    ("sr", 4, {"head": "pixelshuffle", "stages": 1}), ("denoise_color", 1, {"stages": 1}),
    ("denoise_color", 1, {"restoration": "unshuffle", "stages": 1}), ("deblur", 1, {"window": 2})])
def test_nothing_beyond_the_receptive_field_matters_and_its_edge_does(task, scale, more):
    net = wake(semanir_light(task, scale, 3, **{**SMALL, "stages": 2, "skip": "input", **more}))
    far, step = net.receptive_field, net.size_multiple
    side = -(-(2 * far + 3 * step) // step) * step
    x = normal(0, 1, 3, 2 * step, side).requires_grad_()
    y = net(x)
    reached = 0
    for place in range(far // step * step + step, far // step * step + 2 * step):
        out = y[..., scale * place:scale * (place + 1)].square().sum()
        moved = torch.autograd.grad(out, x, retain_graph=True)[0].abs().amax((0, 1, 2)).nonzero()
        reached = max(reached, place - int(moved.min()), int(moved.max()) - place)
    assert reached == far


def test_the_u_shape_knows_how_far_it_looks():
    net = wake(semanir_unet("deblur", 1, 3, **TINY_UNET))
    far, step = net.receptive_field, net.size_multiple
    x = normal(0, 1, 3, step, 8 * step).requires_grad_()
    y = net(x)
    reached = 0
    for place in range(3 * step, 4 * step):
        moved = torch.autograd.grad(y[..., place].square().sum(), x, retain_graph=True)[0]
        moved = moved.abs().amax((0, 1, 2)).nonzero()
        reached = max(reached, place - int(moved.min()), int(moved.max()) - place)
    assert reached == far


@pytest.mark.parametrize(("net", "expected"), [
    (lambda: semanir_s("sr", 2, 3), 197), (lambda: semanir_b("sr", 4, 3), 261),
    (lambda: semanir_light("sr", 2, 3), 35), (lambda: semanir_light("denoise_color", 1, 3), 69),
    (lambda: semanir_unet("denoise_color", 1, 3), 371)])
def test_receptive_fields_of_the_cards(net, expected):
    with torch.device("meta"):
        assert net().receptive_field == expected


def test_spans():
    span = reach.Span(5, 6)
    assert span.wider(2) == (3, 8) and span.windows(4) == (4, 7) and span.windows(4, -2) == (2, 9)
    assert span.shrunk(2) == (2, 3) and span.grown(3) == (15, 20)
    assert reach.Span(-1, 0).windows(4) == (-4, 3) and reach.Span(-1, 0).shrunk(2) == (-1, 0)
    assert span.join(reach.Span(6, 9)) == (5, 9)


# -- Linear ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(16, 5), (4, 8, 5), (2, 4, 4, 5)])
def test_linear_by_onednn_is_linear(monkeypatch, shape, bias):
    monkeypatch.setattr(linear, "LEAST", 0)
    module = Linear(5, 7, bias=bias)
    asked = []
    convolve = torch.nn.functional.conv2d
    monkeypatch.setattr(linear.F, "conv2d", lambda *args: asked.append(1) or convolve(*args))
    x = torch.randn(shape).requires_grad_()
    found, expected = module(x), torch.nn.functional.linear(x, module.weight, module.bias)
    assert asked == [1] and found.shape == expected.shape and found.is_contiguous()
    torch.testing.assert_close(found, expected)
    along = torch.randn_like(found)
    torch.testing.assert_close(
        *(torch.autograd.grad((y * along).sum(), [x, *module.parameters()])
          for y in (found, expected)))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("reason", ["small", "odd", "double", "autocast", "traced", "none"])
def test_linear_stays_torchs_own_where_that_is_better(monkeypatch, reason):
    module, x = Linear(5, 7), torch.randn(16, 5)
    if reason != "small":
        monkeypatch.setattr(linear, "LEAST", 0)
    asked = []
    convolve = torch.nn.functional.conv2d
    monkeypatch.setattr(linear.F, "conv2d", lambda *args: asked.append(1) or convolve(*args))
    if reason == "odd":
        x = x[:15]
    if reason == "double":
        module, x = module.double(), x.double()
    if reason == "autocast":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert module(x).dtype == torch.bfloat16
    elif reason == "traced":
        assert "aten::linear" in str(torch.jit.trace(module, (x,), check_trace=False).inlined_graph)
    else:
        module(x)
    assert bool(asked) == (reason == "none")
