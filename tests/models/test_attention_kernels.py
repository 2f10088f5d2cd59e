"""The attention kernels: flex and triton against the equations, on a CPU and, marked, on a GPU.

Triton's kernel runs in Triton's interpreter here. That is chosen when triton is imported, which any
test before may have done, so one process of its own computes all cases.
"""

import gc
import os
import random
import shutil
import subprocess
import sys
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

from irbench.core.errors import Unavailable, UserError
from irbench.models.attention import KeyDictionary, Keys, attend

FP32 = 1e-5
# Half-width types. With u the unit roundoff (2^-8 for bfloat16, 2^-11 for float16) and inputs that
# are such numbers exactly, a kernel with float32 sums rounds each weight (<= u of it) and each
# result (<= u of it): |error| <= 2 u max|v|. The tenth allows for float32's own rounding and u^2.
UNIT = {torch.bfloat16: 2 ** -8, torch.float16: 2 ** -11}


def bound(dtype, v, rounded_scores=0.0):
    """Return the largest error allowed, given the largest score that is rounded to the type.

    A score rounded twice, as a product and as a sum with the bias, is off by up to 2 u of it. Of
    two sides of the softmax, each by that factor.
    """
    if dtype == torch.float32:
        return FP32
    u = UNIT[dtype]
    off = torch.tensor(2 * 2 * u * rounded_scores).expm1().item()
    return (off + 2.2 * u) * v.abs().max().item()


def inputs(windows=2, heads=2, n=64, d=10, k=8, dtype=torch.float32, bias=True, seed=0):
    """Draw a layer's: unit queries times 10, unit keys, values, position bias, dictionary."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*size):
        return torch.randn(size, generator=draw)

    q = 10 * F.normalize(normal(windows, heads, n, d), dim=-1)
    key = F.normalize(normal(windows, n, heads, d).transpose(1, 2), dim=-1)
    v = normal(windows, n, 3, heads, d)[:, :, 2].transpose(1, 2)  # a part of qkv, as in a layer
    added = (2 * normal(heads, n, n)).to(dtype) if bias else None
    keys = KeyDictionary(k)(normal(windows, n, 12))
    return [q.to(dtype), key.to(dtype), v.to(dtype), keys, added]


def exact(q, k, v, keys, bias):
    """Return the equation in float64, from the same numbers."""
    bias = None if bias is None else bias.double()
    return attend(q.double(), k.double(), v.double(), keys, bias, "reference")


# -- triton in the interpreter -------------------------------------------------------------------

BF16, FP16 = torch.bfloat16, torch.float16
CASES = {
    **{f"head of {d}": {"d": d, "k": 16} for d in (10, 16, 30, 60, 64)},
    "border": {"n": 100, "d": 30, "k": 20},
    "less than a tile": {"n": 9, "k": 4},
    "one more than a tile": {"n": 65, "d": 16, "k": 32, "windows": 1},
    "one key": {"n": 100, "k": 1},
    "all keys": {"n": 70, "k": 70},
    "more keys than tokens": {"n": 33, "k": 64},
    "all keys, no bias": {"n": 33, "k": 64, "bias": False},
    "no bias": {"n": 40, "bias": False},
    "one window, one head": {"windows": 1, "heads": 1, "n": 16},
    **{f"bfloat16, head of {d}": {"d": d, "n": 100, "k": 20, "dtype": BF16} for d in (10, 60)},
    "bfloat16, half a tile": {"n": 80, "k": 5, "dtype": BF16},  # an odd number of words
    "bfloat16, all keys": {"d": 30, "k": 64, "dtype": BF16},
    "float16": {"d": 30, "n": 100, "k": 20, "dtype": FP16},
    **{f"random {i}": {"windows": pick.randint(1, 2), "heads": pick.randint(1, 3),
                       "n": pick.randint(1, 110), "d": pick.randint(10, 64),
                       "k": pick.randint(1, 120), "bias": pick.random() < 0.7, "seed": i}
       for i in range(8) for pick in [random.Random(i)]},
}
SCRIPT = """
import sys
import torch
from irbench.models.attention import Keys, attend, triton_kernel

torch.set_num_threads(1)
assert triton_kernel.INTERPRETED
found = {}
for name, (q, k, v, mask, bias, grad) in torch.load(sys.argv[1]).items():
    wanted = [t.requires_grad_() for t in (q, k, v, bias) if t is not None and grad is not None]
    out = attend(q, k, v, Keys(mask), bias, "triton")
    found[name] = (out.detach(), torch.autograd.grad(out, wanted, grad) if wanted else None)
torch.save(found, sys.argv[2])
"""


def far():
    """A dictionary whose keys all lie beyond the first tiles: these are wholly masked."""
    found = inputs(n=130, d=16)
    mask = torch.zeros(2, 130, 130, dtype=torch.bool)
    mask[..., 129] = True
    mask[:, :64, 70:75] = True
    found[3] = Keys(mask)
    return found


def loud():
    """Scores of up to 1000: exponents need the running maximum."""
    found = inputs(n=100, d=16)
    found[0] *= 100
    return found


def sliced():
    """Tensors of a larger one, whose last dimension is not contiguous."""
    found = inputs(n=40, d=20)
    return [t[..., ::2] for t in found[:3]] + found[3:]


def every_case():
    drawn = {name: inputs(**case) for name, case in CASES.items()}
    return drawn | {"masked tiles": far(), "large scores": loud(), "strides": sliced(),
                    "gradients": inputs(n=70, d=10), "gradients, no bias": inputs(bias=False)}


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """Return all cases' inputs, gradients to send back, and the kernel's answers."""
    pytest.importorskip("triton", reason="the package triton is not installed")
    folder = tmp_path_factory.mktemp("triton")
    cases = every_case()
    torch.manual_seed(0)  # the gradients are compared within 1e-5
    grads = {name: torch.randn_like(case[2]) if "gradients" in name else None
             for name, case in cases.items()}
    torch.save({name: (*case[:3], case[3].mask, case[4], grads[name])
                for name, case in cases.items()}, folder / "in.pt")
    done = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT, folder / "in.pt",
                           folder / "out.pt"], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "TRITON_INTERPRET": "1"})
    assert done.returncode == 0, done.stderr
    return cases, grads, torch.load(folder / "out.pt")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CASES, "masked tiles", "large scores", "strides"])
def test_triton_agrees_with_the_equation(interpreted, name):
    cases, _, found = interpreted
    q, _, v, *_ = cases[name]
    out, _ = found[name]
    assert out.dtype == q.dtype and out.shape == v.shape
    # scores of 1000 are themselves known to 1e-4 in float32
    allowed = 1e-3 if name == "large scores" else bound(q.dtype, v)
    assert (out.double() - exact(*cases[name])).abs().max() <= allowed
    assert out.transpose(1, 2).is_contiguous()  # joining the heads moves nothing


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gradients", "gradients, no bias"])
def test_gradients_of_triton(interpreted, name):
    cases, grads, found = interpreted
    q, k, v, keys, bias = cases[name]
    wanted = [t.double().requires_grad_() for t in (q, k, v, bias) if t is not None]
    out = attend(*wanted[:3], keys, wanted[3] if bias is not None else None, "reference")
    want = torch.autograd.grad(out, wanted, grads[name].double())
    got = found[name][1]
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one.double(), other, atol=FP32, rtol=FP32)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
import torch
from irbench.models.attention import triton_kernel as module

WIDTH = {"fp32": torch.float32, "bf16": torch.bfloat16}
names = module._kernel.arg_names
for dtype, n, d, masked in (("fp32", 100, 30, True), ("bf16", 1024, 60, True),
                            ("bf16", 64, 10, False)):
    constants = module.launch_constants(d, WIDTH[dtype])
    options = {name: constants.pop(name) for name in ("num_warps", "num_stages",
                                                      "enable_fp_fusion")}
    sizes = {"N": n, "D": d, "HEADS": 6, "WORDS": -(-n // 32), "HAS_MASK": masked,
             "HAS_BIAS": True, "WIDEN": False, **constants}
    for tensor in "QKV":
        sizes |= {f"{tensor}_WINDOW": n * 6 * d, f"{tensor}_HEAD": d, f"{tensor}_TOKEN": 6 * d}
    pointers = {name: "*" + dtype for name in ("q", "k", "v", "out", "bias")} | {"packed": "*i32"}
    source = ASTSource(module._kernel, signature={**pointers, **dict.fromkeys(sizes, "constexpr")},
                       constexprs={(names.index(name),): value for name, value in sizes.items()})
    for target in (80, 90):
        made = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
        print(dtype, n, d, target, len(made.asm["cubin"]), made.metadata.shared)
"""


@pytest.mark.slow
def test_the_kernel_compiles_for_gpus_that_are_not_here(tmp_path):
    # the interpreter accepts what the compiler does not
    pytest.importorskip("triton", reason="the package triton is not installed")
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True,
                          timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    made = [line.split() for line in done.stdout.splitlines()]
    assert len(made) == 6 and all(int(size) > 0 for *_, size, _ in made)
    assert all(int(shared) <= 64 * 1024 for *_, shared in made)  # bytes, what every GPU has


# -- what triton refuses -------------------------------------------------------------------------

@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_triton_without_a_gpu_says_what_to_do():
    pytest.importorskip("triton", reason="the package triton is not installed")
    with pytest.raises(Unavailable, match=r"needs a CUDA device. Use 'auto' or 'mask'; .*TRITON_"):
        attend(*inputs(), "triton")


def test_triton_without_the_package_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "irbench.models.attention.triton_kernel", raising=False)
    with pytest.raises(Unavailable, match=r"needs the package triton; .*Install it, or use 'auto'"):
        attend(*inputs(), "triton")


@pytest.mark.parametrize(("change", "message"), [
    (lambda q, k, v: (q.double(), k.double(), v.double()), "these are float64, float64, float64"),
    (lambda q, k, v: (q, k, v.bfloat16()), "these are float32, float32, bfloat16"),
    (lambda q, k, v: (q.repeat(1, 1, 1, 7),) * 3, "heads of up to 64 dimensions; these have 70"),
    (lambda q, k, v: (q, k, v[..., :9]), r"these are \(2, 2, 64, 10\), .* and \(2, 2, 64, 9\)"),
])
def test_what_triton_cannot_take(monkeypatch, change, message):
    pytest.importorskip("triton", reason="the package triton is not installed")
    kernel = import_module("irbench.models.attention.triton_kernel")
    monkeypatch.setattr(kernel, "INTERPRETED", True)  # past the check for a device
    q, k, v, keys, bias = inputs()
    with pytest.raises(UserError, match=message):
        attend(*change(q, k, v), keys, bias, "triton")


# -- flex ----------------------------------------------------------------------------------------

compiled = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))),
                              reason="FlexAttention on a CPU needs a C++ compiler")


@compiled
@pytest.mark.parametrize(("case", "runs"), [({"n": 100, "d": 10, "k": 20}, 2),
                                            ({"n": 33, "d": 30, "dtype": BF16, "bias": False}, 1)])
def test_flex_agrees_with_the_equation(case, runs):
    for seed in range(runs):  # another dictionary and number of windows compile nothing
        given = inputs(**case, windows=2 + seed, seed=seed)
        with torch.inference_mode():
            out = attend(*given, "flex")
        assert out.shape == given[2].shape and out.dtype == given[0].dtype
        error = (out.double() - exact(*given)).abs().max()
        assert error <= bound(given[0].dtype, given[2])


def test_flex_with_all_keys_is_dense_attention():
    given = inputs(n=33, k=40)
    assert given[3].dense
    torch.testing.assert_close(attend(*given, "flex"), exact(*given).float(), atol=FP32, rtol=0)


def test_blocks_are_counted_once_a_stage_and_go_with_it():
    flex = import_module("irbench.models.attention.flex")
    keys = inputs(windows=3)[3]
    blocks = flex._blocks(keys)
    assert len(blocks) == 3 and flex._blocks(keys) is blocks
    before = len(flex._BLOCKS)
    del keys
    gc.collect()
    assert len(flex._BLOCKS) == before - 1


def test_flex_has_no_gradients_on_a_cpu():
    for position in (0, 4):
        given = inputs()
        given[position].requires_grad_()
        with pytest.raises(Unavailable, match="no gradients on a CPU. Train with 'mask'"):
            attend(*given, "flex")


def test_flex_takes_no_float64():
    q, k, v, keys, bias = inputs()
    with pytest.raises(UserError, match="these are float64, float64, float64. Use 'mask'"):
        attend(q.double(), k.double(), v.double(), keys, bias, "flex")


@pytest.mark.parametrize(("error", "message"), [
    (TorchDynamoException("\nno compiler found.\nmore"), "failed: no compiler found. Use 'mask'"),
    (FailOnRecompileLimitHit(), "as many numbers of heads"),
])
def test_flex_that_cannot_be_compiled(monkeypatch, error, message):
    flex = import_module("irbench.models.attention.flex")

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(flex, "_compiled", lambda cuda: fail)
    with pytest.raises(Unavailable, match=message):
        attend(*inputs(), "flex")


# -- all of them ---------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["reference", "mask", "gather"])
@pytest.mark.parametrize("dtype", [torch.float32, BF16])
@pytest.mark.parametrize("d", [10, 16, 30, 60, 64])
def test_the_others_agree_with_the_equation(name, dtype, d):
    for n, k in ((64, 16), (50, 1), (33, 64)):
        given = inputs(n=n, d=d, k=k, dtype=dtype)
        with torch.inference_mode():
            out = attend(*given, name)
        largest = 10 + given[4].abs().max().item()  # |q . k| <= 10
        error = (out.double() - exact(*given)).abs().max()
        assert error <= bound(dtype, given[2], rounded_scores=largest)


def on_gpu(given):
    q, k, v, keys, bias = given
    return [*(t.cuda() for t in (q, k, v)), Keys(None if keys.dense else keys.mask.cuda()),
            None if bias is None else bias.cuda()]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["mask", "gather", "flex", "triton"])
@pytest.mark.parametrize("dtype", [torch.float32, BF16])
@pytest.mark.parametrize(("n", "d", "k"), [(1024, 30, 512), (1024, 64, 64), (1024, 10, 1024),
                                           (1000, 60, 64), (64, 16, 32), (100, 30, 1)])
def test_all_agree_on_a_gpu(name, dtype, n, d, k):
    given = on_gpu(inputs(n=n, d=d, k=k, heads=6, windows=3, dtype=dtype))
    with torch.inference_mode():
        out = attend(*given, name)
    scores = 10 + given[4].abs().max().item() if name == "gather" else 0.0
    error = (out.double() - exact(*given)).abs().max()
    assert error <= bound(dtype, given[2], rounded_scores=scores)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["flex", "triton"])
def test_gradients_on_a_gpu(name):
    q, k, v, keys, bias = on_gpu(inputs(n=256, d=30, k=64))
    grad = torch.randn_like(v)

    def gradients(tensors, how, keys=keys):
        tensors = [t.detach().requires_grad_() for t in tensors]
        out = attend(*tensors[:3], keys, tensors[3], how)
        return torch.autograd.grad(out, tensors, grad.to(out.dtype))

    want = gradients([t.double() for t in (q, k, v, bias)], "reference")
    for one, other in zip(gradients((q, k, v, bias), name), want, strict=True):
        torch.testing.assert_close(one.double(), other, atol=1e-4, rtol=1e-4)
