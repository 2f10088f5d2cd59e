"""MACs against numbers worked out by hand, and against torch's own flop counter."""

import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from irbench.core.errors import Unavailable
from irbench.jobs.profiling import macs, profile
from irbench.models import registry

torch.set_num_threads(1)  # several on a busy machine make such small products ten times slower


class Call(nn.Module):
    """A function as a model."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def by_kind(model, *inputs, **expected):
    """Check that exactly these kinds have these counts and nothing was left out."""
    found = macs.count(model, inputs)
    assert found.uncounted == {}
    assert {kind: n for kind, n in found.by_kind.items() if n} == expected
    assert tuple(found.by_kind) == macs.KINDS
    assert found.total == sum(expected.values())
    assert all(type(n) is int for n in (found.total, *found.by_kind.values()))


def torch_macs(model, *inputs):
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.eval()(*inputs)
    return counter.get_total_flops() / 2


# -- layers, by hand ---------------------------------------------------------------------------

def test_linear():
    by_kind(nn.Linear(5, 7), torch.rand(2, 3, 5), linear=2 * 3 * 5 * 7)
    by_kind(nn.Linear(5, 7, bias=False), torch.rand(5), linear=35)


def test_convolutions():
    x = torch.rand(2, 8, 9, 11)
    # stride 2, padding 1: 9 x 11 -> 5 x 6
    by_kind(nn.Conv2d(8, 12, 3, stride=2, padding=1, groups=4), x,
            conv=2 * 12 * 5 * 6 * (8 // 4) * 9)
    by_kind(nn.Conv2d(8, 8, 3, groups=8, padding="same"), x, conv=2 * 8 * 9 * 11 * 9)
    by_kind(nn.Conv2d(8, 4, (1, 3)), x[0], conv=4 * 9 * 9 * 8 * 3)  # without a batch
    by_kind(nn.Conv1d(8, 4, 5), torch.rand(1, 8, 10), conv=4 * 6 * 8 * 5)


def test_transposed_convolution_counts_each_input_value():
    by_kind(nn.ConvTranspose2d(8, 12, 4, stride=2, padding=1, groups=2), torch.rand(2, 8, 5, 6),
            conv=2 * 8 * 5 * 6 * (12 // 2) * 16)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.integers(1, 4),
       st.integers(1, 2), st.integers(0, 1), st.booleans(), st.integers(4, 9))
def test_any_convolution_agrees_with_torch(groups, c_in, c_out, kernel, stride, pad, transposed, n):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    model = kind(groups * c_in, groups * c_out, kernel, stride=stride, padding=pad * (kernel > 1),
                 groups=groups)
    x = torch.rand(2, groups * c_in, n, n + 1)
    assert macs.count(model, (x,)).by_kind["conv"] == torch_macs(model, x)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_counts_every_score_masked_or_not(masked):
    B, heads, N, M, d, e = 2, 3, 5, 7, 4, 6
    mask = torch.zeros(N, M, dtype=torch.bool)
    mask[:, 0] = True
    model = Call(lambda self, q, k, v: F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask if masked else None))
    inputs = torch.rand(B, heads, N, d), torch.rand(B, heads, M, d), torch.rand(B, heads, M, e)
    by_kind(model, *inputs, attention=B * heads * N * M * (d + e))


def test_products_of_two_activations_are_attention_and_of_weights_linear():
    a, b = torch.rand(3, 1, 5, 7), torch.rand(4, 7, 2)  # broadcast to (3, 4, 5, 2)
    by_kind(Call(lambda self, a, b: a @ b), a, b, attention=3 * 4 * 5 * 2 * 7)
    weight = nn.Linear(7, 2, bias=False)
    by_kind(Call(lambda self, a: a @ self.map.weight.t(), map=weight), a, linear=3 * 5 * 2 * 7)
    # a matrix that holds the input's shape only
    by_kind(Call(lambda self, a: a @ torch.ones(a.shape[-1], 2)), a, linear=3 * 5 * 2 * 7)
    x = torch.rand(2, 3, 4)
    by_kind(Call(lambda self, x: torch.baddbmm(x @ x.mT, x, x.mT)), x,
            attention=2 * (2 * 3 * 3 * 4))


@pytest.mark.parametrize(("equation", "shapes", "expected"), [
    ("bhnd,bhmd->bhnm", [(2, 3, 5, 4), (2, 3, 6, 4)], 2 * 3 * 5 * 6 * 4),
    ("b i d, b j d -> b i j", [(257, 31, 3), (257, 29, 3)], 257 * 31 * 29 * 3),
    ("...id,...jd->...ij", [(2, 3, 5, 4), (2, 3, 6, 4)], 2 * 3 * 5 * 6 * 4),
    ("ij,jk", [(3, 5), (5, 7)], 3 * 5 * 7),
    ("ijk,l->il", [(3, 5, 7), (2,)], 3 * 2),  # j and k are summed before
])
def test_einsum_is_exact(equation, shapes, expected):
    model = Call(lambda self, a, b: torch.einsum(equation, a, b))
    by_kind(model, *(torch.rand(s) for s in shapes), attention=expected)


def test_interpolation_and_fft_follow_their_conventions():
    x = torch.rand(1, 2, 8, 16)
    by_kind(Call(lambda self, x: F.interpolate(x, scale_factor=2, mode="bicubic")), x,
            other=2 * 16 * 32 * 16)
    by_kind(Call(lambda self, x: F.interpolate(x, scale_factor=3.0, mode="nearest")), x)
    complex_2d = 5 * 128 * 7 // 2 * 2  # 5/2 n log2 n of n = 8 * 16, for 2 channels
    by_kind(Call(lambda self, x: torch.fft.fft2(x)), x, other=complex_2d)
    by_kind(Call(lambda self, x: torch.fft.irfft2(torch.fft.rfft2(x))), x, other=complex_2d)
    by_kind(Call(lambda self, x: torch.fft.rfft(x)), x, other=16 * (5 * 16 * 4) // 2 // 2)


# -- whole models ------------------------------------------------------------------------------

class Transformer(nn.Module):
    """Pre-norm layer with fused QKV, torch's attention and an MLP."""

    def __init__(self, width, heads, ratio):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, ratio * width), nn.GELU(),
                                 nn.Linear(ratio * width, width))

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.project(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


def test_a_whole_transformer_layer_by_hand_and_by_torch():
    B, N, C, ratio = 2, 10, 12, 2
    model, x = Transformer(C, 3, ratio), torch.rand(B, N, C)
    by_kind(model, x, linear=B * N * C * C * (3 + 1 + 2 * ratio), attention=2 * B * N * N * C)
    found = macs.count(model, (x,))
    assert found.total == torch_macs(model, x)
    assert found.excluded["aten::layer_norm"] == 2
    assert found.excluded["aten::gelu"] == 1


def test_torch_own_layer_is_not_fused_out_of_sight():
    model, x = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.rand(3, 5, 8)
    by_kind(model, x, linear=3 * 5 * 8 * (4 * 8 + 2 * 16), attention=2 * 3 * 5 * 5 * 8)


SMALL = {"width": 24, "layers": 1, "stages": 1, "window": 8, "k": 16, "attention": "reference"}


@pytest.mark.parametrize("name", [name for name, card in registry.cards().items() if card.learned])
def test_registered_models_are_counted_whole(name):
    card = registry.get(name)
    task, scale = ("sr", 2) if "sr" in card.tasks else (card.tasks[0], 1)
    options = {k: v for k, v in SMALL.items() if k in card.options}
    channels = 1 if task.endswith("gray") else 3
    model, x = card.load()(task, scale, channels, **options), torch.rand(1, channels, 7, 9)
    found = macs.count(model, (x,))
    assert found.uncounted == {}
    # torch does not count the interpolation of a skip
    assert found.total - found.by_kind["other"] == torch_macs(model, x) > 0


# -- dictionaries ------------------------------------------------------------------------------

class Dictionary(nn.Module):
    """Counts itself; of what is inside only where it is asked to."""

    def __init__(self, inner=None):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return (self.inner(x) if self.inner else 0) + x @ x.mT

    def count_macs(self, output, x):
        batch, n, width = x.shape
        return {"dictionary": (2 if self.inner else 1) * batch * n * n * width}


def test_what_counts_itself_is_of_the_kind_it_says():
    x = torch.rand(2, 3, 4)
    product = 2 * 3 * 3 * 4
    by_kind(Call(lambda self, x: self.keys(self.map(x)) @ x, map=nn.Linear(4, 4),
                 keys=Dictionary()), x,
            linear=2 * 3 * 4 * 4, attention=product, dictionary=product)
    by_kind(Dictionary(Dictionary()), x, dictionary=2 * product)  # by the outer one alone
    shared = Dictionary()
    by_kind(Call(lambda self, x: self.a(x) + self.b(x), a=shared, b=shared), x,
            dictionary=2 * product)


def test_the_dictionary_of_semanir():
    model = registry.get("semanir-s").load()("sr", 2, 3, width=12, layers=1, stages=2, window=8,
                                            k=16)
    found = macs.count(model, (torch.rand(1, 3, 16, 24),))
    assert found.by_kind["dictionary"] == 2 * (2 * 3) * 64 * 64 * 12  # stages windows N N C
    assert found.excluded["aten::topk"] == 2  # seen, though no output needs it


def test_results_that_nobody_asks_for_stay_in_sight():
    class Index(nn.Module):
        def forward(self, x):
            return {"order": [x.sort().indices], "nothing": None}

        def count_macs(self, output, x):
            return {"other": len(output)}

    found = macs.count(Call(lambda self, x: (self.index(x), x + 1)[1], index=Index()),
                       (torch.rand(3, 4),))
    assert (found.total, found.by_kind["other"], found.excluded["aten::sort"]) == (2, 2, 1)


SEMANIR = {"width": 12, "heads": 2, "layers": 2, "stages": 2, "window": 8}


def semanir(**options):
    return registry.get("semanir-light").load()("sr", 2, 3, **{**SEMANIR, **options})


@pytest.mark.parametrize("k", [1, 16, 63])
def test_keys_only_counts_attention_over_the_k_keys_of_a_dictionary(k):
    x = torch.rand(1, 3, 20, 40)  # padded to 24 x 40
    dense, found = macs.count(semanir(k=64), (x,)), macs.count(semanir(k=k), (x,))
    layers, windows, N, C = 4, 3 * 5, 64, 12
    attention = layers * windows * N * N * 2 * C
    assert dense.keys_only == dense.total
    assert dense.by_kind["dictionary"] == 0
    assert dense.by_kind["attention"] == found.by_kind["attention"] == attention
    # as if each of the layer's queries had k keys and values
    assert found.keys_only == found.total - attention + layers * windows * N * k * 2 * C


def test_keys_only_takes_the_dictionary_of_each_stage():
    model, x = semanir(k=16), torch.rand(1, 3, 8, 8)  # one window
    model.stages[1].dictionary.k = 40
    found = macs.count(model, (x,))
    assert found.total - found.keys_only == 2 * 64 * 2 * 12 * ((64 - 16) + (64 - 40))


def test_a_model_without_dictionaries_has_no_keys_only_of_its_own():
    found = macs.count(Transformer(12, 3, 2), (torch.rand(2, 10, 12),))
    assert found.keys_only == found.total


@pytest.mark.parametrize("implementation", [
    "auto", "reference", *(pytest.param(name, marks=pytest.mark.slow)
                           for name in ("mask", "gather", "flex", "triton"))])
def test_the_count_is_that_of_the_textbook_form_whatever_computes_attention(implementation):
    x = torch.rand(1, 3, 16, 32)
    model = semanir(k=16, attention=implementation)
    assert macs.count(model, (x,)) == macs.count(semanir(k=16), (x,))
    assert model.stages[0].layers[0].attention.implementation == implementation
    assert not model._forward_hooks


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_number_type_does_not_change_the_count(dtype):
    x = torch.rand(1, 3, 16, 32)
    model = semanir(k=16).to(dtype)
    assert macs.count(model, (x.to(dtype),)) == macs.count(semanir(k=16), (x,))
    assert next(model.parameters()).dtype == dtype


def test_passes_add_up():
    one = macs.count(semanir(k=16), (torch.rand(1, 3, 8, 8),))
    two = macs.MacCount(5, {**dict.fromkeys(macs.KINDS, 0), "conv": 5}, {"aten::cdist": 2},
                        {"aten::add": 1}, 4)
    found = macs.total([(one, 2), (two, 3)])
    assert found.total == 2 * one.total + 15 == sum(found.by_kind.values())
    assert found.by_kind["conv"] == 2 * one.by_kind["conv"] + 15
    assert tuple(found.by_kind) == macs.KINDS
    assert found.keys_only == 2 * one.keys_only + 12
    assert found.uncounted == {"aten::cdist": 6}
    assert found.excluded["aten::add"] == 2 * one.excluded["aten::add"] + 3


@pytest.mark.slow
def test_a_compiled_model_is_counted_uncompiled():
    x = torch.rand(2, 3, 5)
    by_kind(torch.compile(nn.Linear(5, 7)), x, linear=2 * 3 * 5 * 7)
    model = nn.Linear(5, 7)
    model.compile()
    by_kind(model, x, linear=2 * 3 * 5 * 7)
    assert model._compiled_call_impl is not None


# -- what cannot be counted --------------------------------------------------------------------

@torch.library.custom_op("irbench_test::strange", mutates_args=())
def strange(x: torch.Tensor) -> torch.Tensor:
    return x @ x.mT


def test_operations_without_a_handle_are_named():
    x = torch.rand(2, 3, 3)
    found = macs.count(Call(lambda self, x: strange(strange(x)) + torch.cdist(x, x)), (x,))
    assert found.uncounted == {"aten::cdist": 1, "irbench_test::strange": 2}
    assert found.total == 0
    found = macs.count(Call(lambda self, x: torch.einsum("bij,bjk,bkl->bil", x, x, x)), (x,))
    assert found.uncounted == {"aten::einsum": 1}  # depends on the order of contraction


def test_numpy_and_scripted_code_are_named_not_counted_as_nothing():
    model = Call(lambda self, x: torch.from_numpy(x.numpy() @ x.numpy()))
    assert "numpy" in macs.count(model, (torch.rand(3, 3),)).uncounted


def test_bool_values_can_be_traced():
    def forward(self, x):
        mask = torch.zeros_like(x, dtype=torch.bool)
        mask.scatter_(1, (x > 0.5).long(), True)
        return x.masked_fill(mask.masked_fill(mask == True, value=False), 0) @ x  # noqa: E712
    by_kind(Call(forward), torch.rand(3, 3), attention=27)


def test_what_cannot_be_traced_is_unavailable_and_leaves_the_model_alone():
    def forward(self, x):
        if torch.jit.is_tracing():
            raise ValueError("not me")
        return self.map(x)
    model = Call(forward, map=nn.Linear(3, 3))
    with pytest.raises(Unavailable, match=r"MACs of Call.*ValueError: not me"):
        macs.count(model, (torch.rand(1, 3),))
    assert model.training
    assert not model.map._forward_hooks


def test_without_fvcore_only_the_count_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "fvcore.nn", None)
    with pytest.raises(Unavailable, match=r"fvcore.*pip install fvcore"):
        macs.count(nn.Conv2d(1, 1, 1), (torch.rand(1, 1, 4, 4),))
    result = profile.profile(nn.Conv2d(3, 4, 3), channels=3, height=8, width=8, warmup=1, samples=2)
    assert result["macs"] is None and "fvcore" in result["missing"]["macs"]
    assert result["latency_ms"]["p50"] > 0
