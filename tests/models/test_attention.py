"""The key-semantic dictionary and attention over it, against the equations in plain loops."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from irbench.core.errors import UserError
from irbench.models.attention import KeyDictionary, Keys, attend, dictionary
from irbench.models.attention.bias import BiasTable, PositionBias
from tests.helpers import plain_semanir as plain
from tests.helpers.plain_blocks import normal

torch.set_num_threads(1)

HERE = ["reference", "mask", "gather"]  # flex and triton: test_attention_kernels.py


def rows_of(keys, n):
    """The dictionary as lists of keys, one for each window and query."""
    if keys.mask is None:
        return None
    return [[row.nonzero().flatten().tolist() for row in one] for one in keys.mask]


def by_hand(q, k, v, keys, bias):
    windows, heads, n, _ = q.shape
    rows = rows_of(keys, n) or [[list(range(n))] * n] * windows
    return torch.stack([torch.stack([
        plain.attend(q[w, h], k[w, h], v[w, h], rows[w], None if bias is None else bias[h])
        for h in range(heads)]) for w in range(windows)])


# -- the dictionary ------------------------------------------------------------------------------

@settings(derandomize=True, deadline=None, max_examples=30)
@given(n=st.integers(1, 12), k=st.integers(1, 14), seed=st.integers(0, 99),
       similarity=st.sampled_from(dictionary.SIMILARITIES))
def test_the_dictionary_holds_the_most_similar_tokens(n, k, seed, similarity):
    tokens = normal(seed, 3, n, 5) * 2 + 0.5
    module = KeyDictionary(k, similarity)
    keys = module(tokens)
    if k >= n:
        assert keys.dense
        assert keys.mask is keys.index is keys.penalty is keys.packed is None
        return
    assert not keys.dense and not module.state_dict() and not list(module.parameters())
    for w in range(3):
        rows = plain.chosen(module, tokens[w])  # checks that they are the most similar
        assert rows == rows_of(keys, n)[w]


@settings(derandomize=True, deadline=None, max_examples=30)
@given(n=st.integers(2, 70), seed=st.integers(0, 99), data=st.data())
def test_all_forms_of_the_dictionary_hold_the_same_keys_and_are_made_once(n, seed, data):
    k = data.draw(st.integers(1, n - 1))
    keys = KeyDictionary(k)(normal(seed, 2, n, 3))
    assert keys.index.shape == (2, n, k) and keys.index.dtype == torch.int64
    assert keys.penalty.shape == (2, 1, n, n) and keys.penalty.dtype == torch.float32
    words = -(-n // 32)
    assert keys.packed.shape == (2, n, words) and keys.packed.dtype == torch.int32
    rows = rows_of(keys, n)
    for w in range(2):
        for i in range(n):
            assert keys.index[w, i].tolist() == rows[w][i]
            assert keys.penalty[w, 0, i].tolist() == [0 if j in rows[w][i] else -math.inf
                                                      for j in range(n)]
            bits = "".join(f"{word & 0xFFFFFFFF:032b}"[::-1] for word in keys.packed[w, i].tolist())
            assert [j for j in range(32 * words) if bits[j] == "1"] == rows[w][i]
    for form in ("penalty", "index", "packed"):
        assert getattr(keys, form) is getattr(keys, form)


def test_the_dictionary_takes_equal_tokens_for_equal_but_never_more_than_k():
    tokens = torch.ones(2, 9, 4)
    keys = KeyDictionary(4)(tokens)
    assert (keys.mask.sum(-1) == 4).all() and keys.index.shape == (2, 9, 4)


def test_the_dictionary_has_no_gradient():
    tokens = normal(0, 1, 9, 4).requires_grad_()
    keys = KeyDictionary(3)(tokens)
    assert not keys.mask.requires_grad and not keys.penalty.requires_grad


def test_a_batch_may_have_another_k():
    tokens, module = normal(0, 1, 16, 4), KeyDictionary(3)
    counts = [module(tokens, k).mask.sum(-1).unique().tolist() for k in (None, 5)]
    assert counts == [[3], [5]] and module(tokens, 16).dense


def test_k_of_a_batch_is_drawn_in_training_only_and_fixed_by_the_seed():
    def some(values, training, times=20):
        torch.manual_seed(7)
        return [dictionary.draw(values, training) for _ in range(times)]

    assert set(some([2, 5, 16], True)) == {2, 5, 16} and some([2, 5], True) == some([2, 5], True)
    assert set(some([2, 5, 16], False)) == {None} == set(some([], True))


@pytest.mark.parametrize("k", [0, 2.5, True])
def test_a_bad_k_is_refused(k):
    with pytest.raises(UserError, match="whole numbers of at least 1"):
        KeyDictionary(k)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(total=st.integers(1, 200), most=st.integers(0, 250))
def test_parts_are_few_and_even(total, most):
    part = dictionary.even(total, most)
    parts = -(-total // part)
    assert 1 <= part <= max(1, most) and parts == -(-total // max(1, most))
    assert total - (parts - 1) * part > 0


# -- attention over the dictionary -----------------------------------------------------------------

@pytest.mark.parametrize("implementation", HERE)
@settings(derandomize=True, deadline=None, max_examples=25)
@given(windows=st.integers(1, 3), heads=st.integers(1, 3), n=st.integers(1, 7), d=st.integers(1, 5),
       k=st.integers(1, 8), biased=st.booleans(), seed=st.integers(0, 99))
def test_attend_equals_a_slow_loop_forward_and_backward(implementation, windows, heads, n, d, k,
                                                        biased, seed):
    q, key, v = normal(seed, 3, windows, heads, n, d)
    bias = normal(seed + 1, heads, n, n) if biased else None
    keys = KeyDictionary(k)(normal(seed + 2, windows, n, 4))
    inputs = [t.requires_grad_() for t in (q, key, v, *([bias] if biased else []))]
    expected = by_hand(q, key, v, keys, bias)
    with torch.no_grad():
        torch.testing.assert_close(attend(q, key, v, keys, bias, implementation), expected)
    found = attend(q, key, v, keys, bias, implementation)
    torch.testing.assert_close(found, expected)
    along = normal(seed + 3, *expected.shape)
    slow = torch.autograd.grad((expected * along).sum(), inputs, allow_unused=True)
    fast = torch.autograd.grad((found * along).sum(), inputs, allow_unused=True)
    for a, b, t in zip(fast, slow, inputs, strict=True):
        torch.testing.assert_close(a, torch.zeros_like(t) if b is None else b)


@pytest.mark.parametrize("implementation", HERE)
@pytest.mark.parametrize("k", [1, 3, 9])
def test_gradients_are_those_of_the_values(implementation, k):
    q, key, v = (t.requires_grad_() for t in normal(k, 3, 2, 2, 5, 3))
    bias = normal(9, 2, 5, 5).requires_grad_()
    keys = KeyDictionary(k)(normal(8, 2, 5, 4))
    assert torch.autograd.gradcheck(
        lambda *inputs: attend(*inputs[:3], keys, inputs[3], implementation), (q, key, v, bias))


@pytest.mark.parametrize("implementation", HERE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("window", "k", "d"), [
    (4, 1, 10), (5, 7, 30), (8, 32, 16), (8, 100, 24), (16, 64, 64)])
@pytest.mark.parametrize("training", [False, True])
def test_attend_in_its_own_type_is_exact_to_rounding(implementation, dtype, window, k, d, training):
    """As in a network: parts of qkv, cosines times 10, a bias of up to 16.

    float32: 1e-5. In 16 bits every sum is float32's, so that, with inputs taken as they are, the
    result's rounding alone is left: half a unit in the last place (eps / 2) of the largest value.
    """
    n, heads, windows = window * window, 3, 2
    qkv = normal(d, windows, n, 3 * heads * d).unflatten(-1, (3, heads, d)).permute(2, 0, 3, 1, 4)
    q, key, v = (10 * qkv[0] / qkv[0].norm(dim=-1, keepdim=True),
                 qkv[1] / qkv[1].norm(dim=-1, keepdim=True), qkv[2])
    q, key, v, bias = (t.to(dtype) for t in (q, key, v, 16 * torch.sigmoid(normal(1, heads, n, n))))
    keys = KeyDictionary(k)(normal(2, windows, n, 12))
    scores = (q.double() @ key.double().transpose(-2, -1) + bias.double())
    if not keys.dense:
        scores = scores.masked_fill(~keys.mask.unsqueeze(1), -torch.inf)
    exact = scores.softmax(-1) @ v.double()
    with torch.set_grad_enabled(training):
        found = attend(q.requires_grad_(training), key, v, keys, bias, implementation)
    assert found.dtype == dtype and found.shape == q.shape
    allowed = 1e-5 if dtype == torch.float32 else 0.51 * torch.finfo(dtype).eps * v.abs().max()
    assert (found.double() - exact).abs().max() <= allowed


@pytest.mark.parametrize("implementation", ["mask", "gather"])
@pytest.mark.parametrize("size", [1, 300, 3000, 20_000])
@pytest.mark.parametrize("k", [3, 9])
@pytest.mark.parametrize("form", ["table", "whole", "none"])
def test_small_pieces_change_nothing(monkeypatch, implementation, size, k, form):
    tokens, table = normal(0, 5, 9, 8), BiasTable(normal(3, 2, 3, 15))
    bias = {"table": table, "whole": table.full_matrix(), "none": None}[form]
    q, key, v = normal(1, 3, 5, 2, 9, 4)
    with torch.inference_mode():
        keys = KeyDictionary(k)(tokens)
        expected = attend(q, key, v, keys, None if bias is None else table.full_matrix(),
                          "reference")
        monkeypatch.setitem(dictionary.CHUNK_BYTES, "cpu", size)
        again = KeyDictionary(k)(tokens)
        assert keys.dense == again.dense and (keys.dense or torch.equal(again.mask, keys.mask))
        torch.testing.assert_close(attend(q, key, v, keys, bias, implementation), expected)


@pytest.mark.parametrize("implementation", HERE)
def test_a_table_of_biases_stands_for_the_whole_with_its_gradient(implementation):
    module = PositionBias(2, 3, 4).double()
    q, key, v = normal(1, 3, 2, 3, 4, 5)
    keys = KeyDictionary(2)(normal(2, 2, 4, 3))
    found = []
    for bias in (module(), module().full_matrix()):
        out = attend(q, key, v, keys, bias, implementation)
        found.append((out, *torch.autograd.grad(out.square().sum(), module.parameters())))
    torch.testing.assert_close(*found)


def test_attention_without_a_mask_is_dense():
    q, k, v = normal(0, 3, 2, 1, 9, 4)
    full = Keys(torch.ones(2, 9, 9, dtype=torch.bool))
    for name in HERE:
        torch.testing.assert_close(attend(q, k, v, Keys(None), None, name),
                                   attend(q, k, v, full, None, name))


@pytest.mark.parametrize("bias", [None, "whole"])
def test_the_other_forms_of_mask_agree(monkeypatch, bias):
    """What a GPU, a tracer and a compiler get, run here on a CPU."""
    q, k, v = normal(0, 3, 5, 2, 9, 4)
    bias = None if bias is None else normal(1, 2, 9, 9)
    keys = KeyDictionary(4)(normal(2, 5, 9, 3))
    expected = attend(q, k, v, keys, bias, "reference")
    module = importlib.import_module("irbench.models.attention.mask")
    torch.testing.assert_close(module._whole(q, k, v, keys, bias), expected)
    monkeypatch.setitem(dictionary.CHUNK_BYTES, "cpu", 2 * 2 * 81 * 8)  # two windows at a time
    torch.testing.assert_close(module._grouped(q, k, v, keys, bias), expected)


@pytest.mark.parametrize("form", ["table", "whole", "none"])
@pytest.mark.parametrize("k", [4, 9])
def test_what_a_compiler_sees_has_the_values_and_the_layout(form, k):
    table = BiasTable(normal(3, 2, 3, 15))
    bias = {"table": table, "whole": table.full_matrix(), "none": None}[form]
    q, key, v = normal(1, 3, 5, 2, 9, 4)
    keys = KeyDictionary(k)(normal(2, 5, 9, 3))
    values = table.strips if form == "table" else bias
    module = importlib.import_module("irbench.models.attention.mask")
    found = module.compiled_pieces(q, key, v, keys.mask, values)
    torch.testing.assert_close(found, attend(q, key, v, keys, bias, "reference"))
    torch.library.opcheck(module.compiled_pieces, (q, key, v, keys.mask, values),
                          test_utils=("test_schema", "test_faketensor"))


def test_the_result_lies_so_that_joining_the_heads_moves_nothing():
    q, k, v = normal(0, 3, 2, 3, 9, 5)
    keys = KeyDictionary(4)(normal(2, 2, 9, 3))
    for name in ("mask", "gather"):
        assert attend(q, k, v, keys, None, name).transpose(1, 2).is_contiguous()


# -- the position bias -----------------------------------------------------------------------------

@settings(derandomize=True, deadline=None, max_examples=8)
@given(window=st.integers(2, 5), heads=st.integers(1, 3), seed=st.integers(0, 99))
def test_the_position_bias_is_the_mlp_of_the_offset(window, heads, seed):
    torch.manual_seed(seed)
    module = PositionBias(window, heads, 4).double()
    found, expected = module().full_matrix(), plain.position_bias(module, window)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)  # offsets kept in float32
    along = normal(seed, *found.shape)
    torch.testing.assert_close(
        torch.autograd.grad((found * along).sum(), module.parameters()),
        torch.autograd.grad((expected * along).sum(), module.parameters()), atol=1e-4, rtol=1e-5)


def test_rows_of_the_bias_are_rows_of_the_whole():
    table = PositionBias(3, 2, 4)()
    assert torch.equal(table.rows(1, 3), table.full_matrix()[:, 3:9])


def test_the_bias_keeps_no_state_of_its_window():
    assert PositionBias(3, 2, 4).state_dict().keys() == PositionBias(5, 2, 4).state_dict().keys()
    assert all("mlp" in name for name in PositionBias(3, 2, 4).state_dict())
    with pytest.raises(UserError, match="at least 2"):
        PositionBias(1, 2, 4)
