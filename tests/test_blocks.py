"""The blocks inside the learned models, each against a slow reference written from its text."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from irbench.models import layers
from irbench.models.attention import (
    KeyDictionary,
    Keys,
    attend,
    choose,
    dictionary,
    selection_statistics,
)
from irbench.models.attention.stage import PositionBias, SemanticAttention, Stage
from irbench.models.compacter import CARDS as COMPACTER
from irbench.models.compacter import CASA, DSGM, CompactLayer
from irbench.models.semanir import CARDS as SEMANIR

torch.set_num_threads(1)

SMALL_COMPACTER = {"width": 8, "layers": 1, "window": 4, "heads": 2}
SMALL = {"width": 8, "heads": 2, "layers": 1, "window": 4, "k": 5, "bias_hidden": 8}


def defaults(table, card, **more):
    return layers.options_of(card, table, more)


def wake(module):
    """Give every parameter a value that matters: zeros and ones hide mistakes."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module.double().eval()


# -- layers --------------------------------------------------------------------------------------

def test_windows_are_cut_in_reading_order_and_put_back():
    x = torch.arange(2 * 4 * 6).view(2, 4, 6, 1)
    tokens = layers.to_windows(x, 2)
    assert tokens.shape == (12, 4, 1)
    assert tokens[1].flatten().tolist() == [2, 3, 8, 9]
    assert tokens[6].flatten().tolist() == [24, 25, 30, 31]
    assert torch.equal(layers.from_windows(tokens, 2, (4, 6)), x)


def test_shuffle_undoes_unshuffle():
    x = torch.rand(2, 4, 6, 3)
    y = layers.Unshuffle(2)(x)
    assert y.shape == (2, 2, 3, 12)
    assert torch.equal(layers.Shuffle(2)(y), x)


# -- Compacter's blocks --------------------------------------------------------------------------

def depthwise_by_hand(x, conv):
    """(H, W, C) -> (H, W, C): sums over 3x3 neighbours, zeros outside."""
    height, width, _ = x.shape
    y = conv.bias.expand(height, width, -1).clone()
    for i in range(height):
        for j in range(width):
            for di in (-1, 0, 1):
                for dj in (-1, 0, 1):
                    if 0 <= i + di < height and 0 <= j + dj < width:
                        y[i, j] += conv.weight[:, 0, di + 1, dj + 1] * x[i + di, j + dj]
    return y


def casa_by_hand(m, x, o):
    """(H, W, C) -> (H, W, C), one token, window and head at a time."""
    height, width, c = x.shape
    q, k, v = (x @ p.weight.T + p.bias for p in (m.query, m.key, m.value))
    swsa, cwsa = torch.zeros_like(x), torch.zeros_like(x)
    d = c // o.heads
    for h in range(o.heads):
        part = slice(h * d, h * d + d)
        factor = 1 if m.spatial_factor is None else m.spatial_factor[h].item()
        for i in range(height):
            for j in range(width):
                top, left = i // o.window * o.window, j // o.window * o.window
                near = [(a, b) for a in range(top, top + o.window)
                        for b in range(left, left + o.window)]
                scores = torch.stack([q[i, j, part] @ k[a, b, part] for a, b in near])
                weights = (factor * scores / math.sqrt(d)).softmax(0)
                swsa[i, j, part] = sum(w * v[a, b, part]
                                       for w, (a, b) in zip(weights, near, strict=True))
    d = c // o.channel_heads
    for h in range(o.channel_heads):
        part = slice(h * d, h * d + d)
        factor = 1 if m.channel_factor is None else m.channel_factor[h].item()
        columns = [t[..., part].reshape(-1, d) for t in (q, k)]
        for one in range(d):
            scores = []
            for other in range(d):
                a, b = columns[0][:, one], columns[1][:, other]
                scores.append(o.channel_scale * (a @ b) / (a.norm() * b.norm())
                              if o.channel_norm == "cosine" else (a @ b) / math.sqrt(len(a)))
            weights = (factor * torch.stack(scores)).softmax(0)
            cwsa[..., h * d + one] = v[..., part] @ weights
    mixed = swsa * torch.sigmoid(cwsa) + cwsa * torch.sigmoid(swsa) + depthwise_by_hand(v, m.local)
    return mixed @ m.project.weight.T + m.project.bias


@pytest.mark.parametrize("more", [
    {}, {"channel_norm": "scaled", "channel_heads": 2}, {"temperature": "learned"}])
def test_casa_is_what_the_figure_says(more):
    o = defaults(COMPACTER, "compacter", width=4, heads=2, window=2, **more)
    module, x = wake(CASA(o)), torch.randn(2, 4, 6, 4, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([casa_by_hand(module, one, o) for one in x])
        torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize("form", ["literal", "gated"])
def test_dsgm_is_two_branches_multiplied_both_ways(form):
    module, x = wake(DSGM(3, 2, form)), torch.randn(1, 3, 4, 3, dtype=torch.float64)
    with torch.no_grad():
        wide = x[0] @ module.expand.weight.T + module.expand.bias
        a, b = depthwise_by_hand(wide, module.local).split(6, dim=-1)
        sigmoid, gelu = 1 / (1 + (-a).exp()), b * (1 + torch.erf(b / math.sqrt(2))) / 2
        summed = (sigmoid * gelu + gelu * sigmoid if form == "literal"
                  else sigmoid * b + gelu * a)
        expected = summed @ module.project.weight.T + module.project.bias
        torch.testing.assert_close(module(x)[0], expected)


def test_a_compact_layer_has_two_residuals_on_norms():
    layer = wake(CompactLayer(defaults(COMPACTER, "compacter", **SMALL_COMPACTER)))
    x = torch.randn(1, 4, 4, 8, dtype=torch.float64)
    with torch.no_grad():
        y = x + layer.attention(layer.norm1(x))
        torch.testing.assert_close(layer(x), y + layer.mixer(layer.norm2(y)))


# -- the dictionary ------------------------------------------------------------------------------

@settings(derandomize=True, deadline=None, max_examples=30)
@given(n=st.integers(1, 12), k=st.integers(1, 14), seed=st.integers(0, 99),
       similarity=st.sampled_from(dictionary.SIMILARITIES))
def test_the_dictionary_holds_the_most_similar_tokens(n, k, seed, similarity):
    torch.manual_seed(seed)
    tokens = torch.randn(3, n, 5, dtype=torch.float64) * 2 + 0.5
    keys = KeyDictionary(k, similarity)(tokens)
    if k >= n:
        assert keys.mask is None and keys.index is None and keys.penalty is None
        return
    assert (keys.mask.sum(-1) == k).all() and keys.index.shape == (3, n, k)
    change = {"dot": lambda t: t, "cosine": lambda t: t / t.norm(),
              "dot_ln": lambda t: (t - t.mean()) / (t.var(correction=0) + 1e-5).sqrt()}[similarity]
    for w in range(3):
        known = [change(t) for t in tokens[w]]
        for i in range(n):
            order = sorted(range(n), key=lambda j: -float(known[i] @ known[j]))
            for row in (keys.mask[w, i], keys.penalty[w, 0, i].isfinite()):
                assert row.nonzero().flatten().tolist() == sorted(order[:k])
            assert keys.index[w, i].tolist() == sorted(order[:k])


def test_small_chunks_change_nothing(monkeypatch):
    torch.manual_seed(0)
    tokens, bias = torch.randn(5, 9, 8), torch.randn(2, 9, 9)
    q, k, v = torch.randn(3, 5, 2, 9, 4)
    with torch.inference_mode():
        keys = KeyDictionary(3)(tokens)
        whole = attend(q, k, v, keys, bias)
        monkeypatch.setitem(dictionary.CHUNK_BYTES, "cpu", 2 * 2 * 81 * 4)  # two windows at a time
        assert torch.equal(KeyDictionary(3)(tokens).mask, keys.mask)
        torch.testing.assert_close(attend(q, k, v, keys, bias), whole)


def test_random_k_in_training_only_and_fixed_by_the_seed():
    tokens = torch.randn(1, 16, 4, generator=torch.Generator().manual_seed(0))
    module = KeyDictionary(3, train_k=[2, 5, 16])

    def draw(times=20):
        torch.manual_seed(7)
        found = [module(tokens).mask for _ in range(times)]
        return [16 if m is None else int(m[0, 0].sum()) for m in found]

    assert set(draw()) == {2, 5, 16} and draw() == draw()
    module.eval()
    assert set(draw()) == {3}


def test_selection_statistics_show_hubs():
    tokens = torch.tensor([[[1.0, 0], [0.9, 0.1], [100, 100], [0, 1]]])
    assert selection_statistics(KeyDictionary(1, "dot")(tokens)) == {"self": 0.25, "used": 0.25}
    assert selection_statistics(KeyDictionary(1, "cosine")(tokens)) == {"self": 1.0, "used": 1.0}
    assert selection_statistics(Keys(None)) is None


def test_a_stage_builds_one_dictionary_of_its_input_for_all_layers():
    stage = Stage(8, 2, defaults(SEMANIR, "semanir-light", **{**SMALL, "layers": 3}))
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


def test_attention_without_a_mask_is_dense():
    q, k, v = torch.randn(3, 2, 1, 9, 4)
    full = Keys(torch.ones(2, 9, 9, dtype=torch.bool))
    torch.testing.assert_close(attend(q, k, v, Keys(None)), attend(q, k, v, full))


# -- attention over the dictionary ---------------------------------------------------------------

def attend_by_hand(q, k, v, keys, bias):
    out = torch.zeros_like(v)
    for w in range(q.shape[0]):
        for h in range(q.shape[1]):
            for i in range(q.shape[2]):
                chosen = range(q.shape[2]) if keys.mask is None else keys.index[w, i].tolist()
                scores = torch.stack([q[w, h, i] @ k[w, h, j]
                                      + (0 if bias is None else bias[h, i, j]) for j in chosen])
                out[w, h, i] = sum(p * v[w, h, j]
                                   for p, j in zip(scores.softmax(0), chosen, strict=True))
    return out


@pytest.mark.parametrize("implementation", ["reference", "sdpa"])
@pytest.mark.parametrize("size", [1, 3, 6])
@pytest.mark.parametrize("biased", [True, False])
def test_attend_equals_a_slow_loop(implementation, size, biased):
    torch.manual_seed(size)
    q, k, v = torch.randn(3, 2, 3, 6, 4, dtype=torch.float64)
    bias = torch.randn(3, 6, 6, dtype=torch.float64) if biased else None
    keys = KeyDictionary(size)(torch.randn(2, 6, 5))
    expected = attend_by_hand(q, k, v, keys, bias)
    with torch.no_grad():
        torch.testing.assert_close(attend(q, k, v, keys, bias, implementation), expected)
    inputs = [t.requires_grad_() for t in (q, k, v, *([bias] if biased else []))]
    with_grad = attend(q, k, v, keys, bias, implementation)
    torch.testing.assert_close(with_grad, expected)
    slow = torch.autograd.grad(attend_by_hand(q, k, v, keys, bias).square().sum(), inputs)
    fast = torch.autograd.grad(with_grad.square().sum(), inputs)
    torch.testing.assert_close(fast, slow)


def test_the_automatic_choice_gives_its_reason():
    name, reason = choose("auto")
    assert name == "sdpa" and "CPU" in reason
    assert choose("reference") == ("reference", "asked for")


def test_semantic_attention_is_scaled_cosine_plus_bias():
    o = defaults(SEMANIR, "semanir-light", **SMALL)
    module = wake(SemanticAttention(8, 2, o))
    with torch.no_grad():
        module.log_scale.copy_(torch.tensor([[[9.0]], [[0.5]]]))  # the first beyond ln 100
        x = torch.randn(2, 16, 8, dtype=torch.float64)
        keys = KeyDictionary(5)(x)
        q, k, v = (x @ module.qkv.weight.T + module.qkv.bias).split(8, dim=-1)
        heads = []
        for h, scale in enumerate((100.0, math.exp(0.5))):
            a, b, c = (t[..., 4 * h:4 * h + 4] for t in (q, k, v))
            scores = scale * torch.cosine_similarity(a[:, :, None], b[:, None], dim=-1)
            scores = (scores + module.bias()[h]).masked_fill(~keys.mask, -torch.inf)
            heads.append(scores.softmax(-1) @ c)
        expected = torch.cat(heads, -1) @ module.project.weight.T + module.project.bias
        torch.testing.assert_close(module(x, keys), expected)


def test_the_position_bias_depends_on_the_offset_alone():
    module = wake(PositionBias(3, 2, 4))
    with torch.no_grad():
        bias = module()
        for i in range(9):
            for j in range(9):
                offset = torch.tensor([i // 3 - j // 3, i % 3 - j % 3], dtype=torch.float64) * 4
                logs = offset.sign() * torch.log2(offset.abs() + 1) / math.log2(8)
                expected = 16 * torch.sigmoid(module.mlp(logs))
                torch.testing.assert_close(bias[:, i, j], expected, atol=1e-6, rtol=0)
    assert not dict(PositionBias(3, 2, 4).named_buffers()).keys() & module.state_dict().keys()


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_layers_and_stages_keep_their_residuals(norm):
    o = defaults(SEMANIR, "semanir-light", **{**SMALL, "norm": norm})
    stage = wake(Stage(8, 2, o))
    x = torch.randn(1, 8, 4, 8, dtype=torch.float64)
    with torch.no_grad():
        tokens = layers.to_windows(x, 4)
        keys, layer = stage.dictionary(tokens), stage.layers[0]
        if norm == "pre":
            y = tokens + layer.attention(layer.norm1(tokens), keys)
            y = y + layer.ffn(layer.norm2(y))
        else:
            y = tokens + layer.norm1(layer.attention(tokens, keys))
            y = y + layer.norm2(layer.ffn(y))
        expected = x + stage.conv(layers.from_windows(y, 4, (8, 4)))
        torch.testing.assert_close(stage(x), expected)


def test_windows_of_a_stage_meet_only_in_its_convolution():
    layer = wake(Stage(8, 2, defaults(SEMANIR, "semanir-light", **SMALL))).layers[0]
    x = torch.randn(2, 16, 8, dtype=torch.float64)
    changed = x.clone()
    changed[1] += 1
    keys = KeyDictionary(5)
    with torch.inference_mode():
        first, second = layer(x, keys(x)), layer(changed, keys(changed))
    assert torch.equal(first[0], second[0]) and not torch.equal(first[1], second[1])
