"""Number types, layouts, compilation: off unless asked for, float32 outside, helpful errors."""

import functools
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from irbench.catalog import protocols
from irbench.catalog.model import Inference
from irbench.core.errors import Unavailable, UserError
from irbench.imaging import metrics
from irbench.imaging.images import to_uint8
from irbench.inference import options, prepare
from irbench.models.compacter import compacter
from irbench.weights import external
from tests.helpers import tiny
from tests.helpers.foreign import compact, drunet, saved, swinir

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")


class Network(nn.Module):
    """Two convolutions with attributes as a model has them; notes what reaches it."""

    size_multiple, receptive_field, scale = 1, 2, 1

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.seen = []

    def forward(self, x):
        self.seen.append((x.dtype, x.is_contiguous(memory_format=torch.channels_last)))
        return x + self.last(torch.relu(self.first(x)))


@pytest.fixture
def x():
    return torch.rand(1, 3, 12, 17, generator=torch.Generator().manual_seed(1))


def run(network, x):
    with torch.inference_mode():
        return network(x)


# -- options -----------------------------------------------------------------------------------

def test_reading_options_needs_no_torch():
    code = ("import sys; from irbench.inference import options; options.resolve({'tile': 8}, 'x'); "
            "sys.exit('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_nothing_is_on_by_default():
    assert options.resolve(None, "x") == options.resolve({}, "x") == options.DEFAULT
    assert options.DEFAULT.as_dict() == {
        "dtype": "float32", "channels_last": False, "compile": False, "tile": "auto",
        "overlap": None, "memory_gib": None, "self_ensemble": False}


def test_resolving_twice_changes_nothing():
    once = options.resolve({"dtype": "float16", "tile": False}, "x")
    assert once.tile == "off"  # what YAML makes of a bare off
    assert options.resolve(once.as_dict(), "x") == once


@pytest.mark.parametrize("given, says", [
    ({"dtypes": "float16"}, r"^here: unknown option 'dtypes'\. Did you mean 'dtype'"),
    ({"dtype": "bf16"}, r"^here: unknown dtype 'bf16'\. Did you mean 'bfloat16'.*float64"),
    ({"dtype": ["float16"]}, "unknown dtype"),
    ({"compile": 1}, "compile is 1; it takes true or false"),
    ({"channels_last": "yes"}, "channels_last is 'yes'"),
    ({"tile": 0}, "tile is 0; it takes auto, off or a number of pixels"),
    ({"tile": True}, "tile is True"),
    ({"tile": 64.0}, r"tile is 64\.0"),
    ({"tile": [64]}, r"tile is \[64\]"),
    ({"overlap": -1}, "overlap is -1"),
    ({"memory_gib": 0}, "memory_gib is 0; it takes null or a number above 0"),
    ({"memory_gib": float("nan")}, "memory_gib is nan"),
    ({"memory_gib": True}, "memory_gib is True"),
    ({"tile": "off", "overlap": 8}, "tile is off, so overlap has no meaning"),
    ({"tile": 64, "memory_gib": 2}, "memory_gib has a meaning only with tile: auto"),
    (["float16"], "not a mapping of options"),
])
def test_a_bad_option_is_named_with_what_is_valid(given, says):
    with pytest.raises(UserError, match=says):
        options.resolve(given, "here")


@pytest.mark.parametrize("given, words", [
    ({}, ""),
    ({"dtype": "bfloat16", "compile": True, "tile": 256}, "bfloat16, compiled, tiles of 256"),
    ({"channels_last": True, "tile": "off"}, "channels last, never in tiles"),
    ({"overlap": 16, "memory_gib": 6}, "overlap 16, at most 6 GiB"),
])
def test_options_in_words(given, words):
    assert options.describe(options.resolve(given, "x")) == words


# -- number types and layout -------------------------------------------------------------------

def test_the_default_is_the_network_itself(x):
    network = Network().train()
    assert prepare.prepare(network) is network
    assert not network.training
    assert network.first.weight.dtype == torch.float32


@pytest.mark.parametrize("dtype, bound", [("float64", 1e-6), ("float16", 2e-3),
                                          ("bfloat16", 2e-2)])
def test_float32_in_and_out_whatever_runs_inside(x, dtype, bound):
    network = Network()
    expected = run(network, x)
    prepared = prepare.prepare(network, Inference(dtype=dtype))
    y = run(prepared, x)
    assert y.dtype == torch.float32 and not torch.equal(y, expected)
    assert torch.allclose(y, expected, rtol=0, atol=bound)
    assert network.seen[-1][0] == network.first.weight.dtype == getattr(torch, dtype)
    assert (prepared.receptive_field, prepared.scale) == (2, 1)  # the network's own
    with pytest.raises(AttributeError, match="about"):
        _ = prepared.about


def test_channels_last_reaches_the_network_and_changes_no_value(x):
    network = Network()
    expected = run(network, x)
    prepared = prepare.prepare(network, Inference(channels_last=True))
    assert torch.allclose(run(prepared, x), expected, atol=1e-6)
    assert network.seen[0] == (torch.float32, False) and network.seen[1] == (torch.float32, True)
    assert network.last.weight.is_contiguous(memory_format=torch.channels_last)


def test_bfloat16_costs_little_psnr():
    """A PSNR against a target moves by hundredths of a dB, not by tenths."""
    target = np.stack([tiny.photo(i, 48, 64) for i in range(4)])
    noisy = np.clip(target + np.random.default_rng(0).normal(0, 10, target.shape), 0, 255)
    x = torch.from_numpy(noisy / 255).float().permute(0, 3, 1, 2)
    restored = [run(prepare.prepare(Network(), Inference(dtype=dtype)), x)
                for dtype in ("float32", "bfloat16")]
    exact, rough = (np.mean([metrics.psnr(to_uint8(y.permute(1, 2, 0).numpy()), t)
                             for y, t in zip(batch, target, strict=True)]) for batch in restored)
    assert 0 < abs(exact - rough) < 0.05


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("make, protocol", [
    (compact, "sr-x2"), (swinir, "sr-x2"), (drunet, "denoise_color-sigma25")])
def test_third_parties_networks_run_in_half_precision(tmp_path, make, protocol, dtype):
    """SwinIR makes its masks in float32, DRUNet takes the noise level as a channel."""
    path, _ = saved(tmp_path, make())
    network, _ = external.load(path, protocols.get(protocol))
    x = torch.rand(1, 3, 20, 24)
    expected = run(network, x)
    prepared = prepare.prepare(network, Inference(dtype=dtype))
    y = run(prepared, x)
    assert y.dtype == torch.float32 and y.shape == expected.shape
    assert torch.allclose(y, expected, rtol=0, atol=0.03)
    assert prepared.about["spandrel"] and next(network.parameters()).dtype != torch.float32


# -- what cannot be done -----------------------------------------------------------------------

@pytest.mark.parametrize("text", [
    "\"some_kernel\" not implemented for 'Half'",
    "expected m1 and m2 to have the same dtype, but got: float != c10::Half",
    "Got unsupported ScalarType BFloat16"])
def test_an_operation_that_a_type_lacks_says_what_to_do(x, text):
    network = Network()
    network.forward = lambda x: (_ for _ in ()).throw(RuntimeError(text))
    prepared = prepare.prepare(network, Inference(dtype="float16"))
    with pytest.raises(UserError, match="Network on cpu: an operation fails in float16 .*Remove "
                                        "`dtype`"):
        run(prepared, x)


@pytest.mark.parametrize("error", [
    RuntimeError("shapes do not fit"), torch.OutOfMemoryError("no memory for a Half"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: dtype")])
def test_other_errors_pass_as_they_are(x, error):
    network = Network()
    network.forward = lambda x: (_ for _ in ()).throw(error)
    prepared = prepare.prepare(network, Inference(dtype="float16"))
    with pytest.raises(type(error)) as found:
        run(prepared, x)
    assert found.value is error


def test_a_type_that_the_card_does_not_name_is_refused():
    with pytest.raises(UserError, match="this model does not run in dtype 'float16'. "
                                        "Valid: float32, bfloat16"):
        prepare.prepare(Network(), Inference(dtype="float16"), dtypes=("float32", "bfloat16"))
    network = Network()
    network.dtypes = ("float32",)
    with pytest.raises(UserError, match="Network: this model does not run in dtype 'bfloat16'"):
        prepare.prepare(network, Inference(dtype="bfloat16"))
    assert prepare.prepare(network) is network


# -- compiling ---------------------------------------------------------------------------------

@pytest.fixture
def eager(monkeypatch):
    """Compile without generating code, which takes a minute."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    monkeypatch.setattr(prepare, "check_compiler", lambda device: None)


def test_a_compiled_network_is_the_same_function(x, eager):
    network = compacter("sr", 2, 3, layers=1, width=12).eval()
    expected = run(network, x)
    prepared = prepare.prepare(network, Inference(compile=True))
    assert torch.allclose(run(prepared, x), expected, atol=1e-6)
    assert len(list(prepared.parameters())) == len(list(network.parameters()))
    plain = prepare.uncompiled(prepared)
    assert plain is not prepared and plain.network is network
    assert torch.equal(run(plain, x), expected)
    assert prepare.uncompiled(plain) is plain and prepare.uncompiled(network) is network


@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
@pytest.mark.slow
def test_compiling_generates_code(x):
    prepared = prepare.prepare(nn.Tanh(), Inference(compile=True))
    assert torch.allclose(run(prepared, x), x.tanh(), atol=1e-6)


def test_a_failed_compilation_says_what_to_do(x, monkeypatch):
    def fails(module, inputs):
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=fails))
    monkeypatch.setattr(prepare, "check_compiler", lambda device: None)
    prepared = prepare.prepare(nn.Tanh(), Inference(compile=True))
    with pytest.raises(Unavailable, match="Tanh on cpu: torch.compile failed .*no such instruct"
                                          ".*Remove `compile`"):
        run(prepared, x)


def test_without_a_compiler_nothing_is_compiled(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -O3")
    with pytest.raises(Unavailable, match="needs a C\\+\\+ compiler; no-such-compiler -O3 is not "
                                          "found.*Remove `compile`"):
        prepare.prepare(Network(), Inference(compile=True))
    monkeypatch.setattr(prepare, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="needs the package triton"):
        prepare.check_compiler("cuda")


def test_an_interpreter_that_cannot_compile_is_unavailable(monkeypatch):
    def refuse(network):
        raise RuntimeError("torch.compile is not supported on Python 3.99+")

    monkeypatch.setattr(torch, "compile", refuse)
    monkeypatch.setattr(prepare, "check_compiler", lambda device: None)
    with pytest.raises(Unavailable, match="not supported on Python 3.99"):
        prepare.prepare(Network(), Inference(compile=True))


@pytest.mark.slow
def test_a_compiled_network_never_runs_uncompiled_in_silence():
    """torch by default gives up compiling after a few sizes, and runs the plain network."""
    forms = []

    def backend(graph, inputs):
        forms.append(graph)
        return graph.forward

    class Sized(nn.Module):
        def forward(self, x):
            return x * (1 + len(range(x.shape[-1])) % 97)  # a form of its own for each width

    torch._dynamo.reset()
    network = prepare.prepare(Sized(), Inference(compile=True), "cpu")
    network._run = (torch.compile(network.network, backend=backend),)
    for width in range(8, 24):
        x = torch.rand(1, 3, 8, width)
        before = len(forms)
        assert torch.equal(network(x), x * (1 + width % 97))
        assert len(forms) > before
    torch._dynamo.reset()
