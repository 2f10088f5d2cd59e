"""What networks of plugins may do and return; the same guard serves cells, profiles, trainings."""

import copy
import itertools
import random

import numpy as np
import pytest
import torch
from torch import nn

from irbench.catalog.model import Inference
from irbench.core.errors import UserError
from irbench.inference.guard import (
    ForwardFailed,
    check_values,
    guard,
    guarded,
    range_of,
)
from irbench.inference.prepare import prepare
from irbench.inference.seeding import seeded

X = torch.rand(1, 3, 12, 20, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A network that is a function."""

    def __init__(self, function):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.function = function

    def forward(self, x):
        return self.function(x * self.gain)


def net(function, **more):
    return guard(Net(function).eval(), "mine", **{"scale": 1, "channels": 3, **more})


@pytest.mark.parametrize(("function", "given"), [
    (lambda x: [x, x], r"a list of 2 \(tensors\)"),
    (lambda x: [], r"a list of 0 \(nothing\)"),
    (lambda x: (x, 3), r"a tuple of 2 \(int, tensors\)"),
    (lambda x: {"image": x}, "a dict with the keys image"),
    (lambda x: None, r"nothing \(None\)"),
    (lambda x: x.detach().numpy(), "an object of the type ndarray"),
    (lambda x: x.to(torch.complex64), "a complex64 tensor"),
    (lambda x: (x * 255).to(torch.uint8), "a uint8 tensor"),
    (lambda x: x > 0.5, "a bool tensor"),
    (lambda x: x.to_sparse(), "a sparse tensor"),
    (lambda x: x.to("meta"), "a meta tensor"),
    (lambda x: x[..., ::2, ::2], r"a tensor of shape \(1, 3, 6, 10\)"),
    (lambda x: x.mean(1, keepdim=True), r"a tensor of shape \(1, 1, 12, 20\)"),
    (lambda x: torch.cat([x, x]), r"a tensor of shape \(2, 3, 12, 20\)"),
    (lambda x: x[0], r"a tensor of shape \(3, 12, 20\)"),
])
def test_an_output_of_another_form_is_refused_in_one_sentence(function, given):
    with pytest.raises(UserError, match=(
            rf"model mine: it returned {given}.* for an input of \(1, 3, 12, 20\); valid is one "
            r"floating-point tensor of shape \(1, 3, 12, 20\)")) as caught:
        net(function)(X)
    assert str(caught.value).count(". ") == 0 and "\n" not in str(caught.value)


def shuffle(x):
    return nn.functional.pixel_shuffle(nn.functional.pixel_unshuffle(x, 8), 8)


def test_a_size_multiple_pads_by_reflection_and_crops():
    seen = []
    network = net(lambda x: seen.append(x) or x.repeat_interleave(2, 2).repeat_interleave(2, 3),
                  scale=2, multiple=8)
    y = network(X)
    assert network.size_multiple == 8 and seen[0].shape == (1, 3, 16, 24)
    assert torch.equal(y, X.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert torch.equal(seen[0][..., 12:16, :20], X[..., [10, 9, 8, 7], :])
    with pytest.raises(ForwardFailed, match="not divisible by 8.* state that number as "
                                            "`size_multiple`"):
        net(shuffle)(X)
    assert torch.equal(net(shuffle, multiple=8)(X), X)


def test_a_network_that_works_in_place_changes_only_a_copy():
    class InPlace(nn.Module):
        def forward(self, x):
            return x.sub_(0.5).mul_(0.2)

    x = X.clone()
    y = guard(InPlace(), "mine", scale=1, channels=3)(x)
    assert torch.equal(x, X) and torch.allclose(y, (X - 0.5) * 0.2)


def leave(x):
    raise SystemExit(0)


@pytest.mark.parametrize(("function", "message"), [
    (leave, r"SystemExit: it ends the program \(exit code 0\) \(test_guard.py, line \d+\)"),
    (lambda x: x.view(7), r"RuntimeError: .*\(test_guard.py, line \d+\)"),
    (lambda x: {}["scale"], "KeyError: 'scale'"),
    (lambda x: 1 // 0, "ZeroDivisionError"),
])
def test_an_error_of_the_network_becomes_one_message(function, message):
    with pytest.raises(ForwardFailed, match=rf"model mine: its forward pass failed on an input of "
                                            rf"\(1, 3, 12, 20\) .*: {message}") as caught:
        net(function)(X)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), UserError("too small"),
                                   RuntimeError("DefaultCPUAllocator: not enough memory")])
def test_errors_with_a_meaning_of_their_own_stay(error):
    def fail(_):
        raise error

    with pytest.raises(type(error)) as caught:
        net(fail)(X)
    assert caught.value is error


def test_a_guard_changes_no_names_and_is_copied_with_its_network():
    network = net(lambda x: x)
    assert list(network.state_dict()) == ["gain"] and guarded(network)
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.gain.zero_()
    assert other(X).abs().sum() == 0 and torch.equal(network(X), X)
    prepared = prepare(network, Inference(dtype="float64"))
    assert guarded(prepared) and not guarded(Net(None))
    assert prepared(X).dtype == torch.float32


def test_a_module_that_is_built_once_has_one_guard():
    network = net(lambda x: x, multiple=8)
    again = guard(network, "other", scale=1, channels=1)
    with pytest.raises(UserError, match=r"model other: .* valid is one .* \(1, 1, 12, 20\)"):
        again(X)


def test_an_operation_that_a_number_type_lacks_is_named_as_such():
    def fail(x):
        raise RuntimeError("not implemented for 'BFloat16'") if x.dtype == torch.bfloat16 else None

    with pytest.raises(UserError, match="an operation fails in bfloat16 .*Remove `dtype`"):
        prepare(net(fail), Inference(dtype="bfloat16"))(X)


@pytest.mark.parametrize(("attribute", "value"), [
    ("size_multiple", 0), ("size_multiple", "8"), ("size_multiple", True),
    ("receptive_field", -1), ("receptive_field", 2.5)])
def test_attributes_of_a_wrong_type_are_refused(attribute, value):
    network = Net(None)
    setattr(network, attribute, value)
    with pytest.raises(UserError, match=f"model mine: its attribute {attribute} is"):
        guard(network, "mine", scale=1, channels=3)


# -- values ------------------------------------------------------------------------------------

IMAGE = np.random.default_rng(0).uniform(size=(8, 8, 3)).astype(np.float32)
DARK = np.where(np.arange(192).reshape(8, 8, 3) % 20, 0, IMAGE)  # 95 % black
SQUARES = np.kron(DARK, np.ones((8, 8, 1)))
NOISY = SQUARES + np.random.default_rng(1).normal(0, 50 / 255, SQUARES.shape)


@pytest.mark.parametrize(("image", "message"), [
    (255 * IMAGE, r"values from .* to 25\d.* valid is the range \[0, 1\].*divide the output by"),
    (255 * DARK, r"valid is the range \[0, 1\]"),
    (IMAGE - 3, r"valid is the range \[0, 1\]"),
    (2 * IMAGE - 1, r"values from -0.9\d+ to 0.9.*; .*-1 to 1, return \(output \+ 1\) / 2"),
    (2 * DARK - 1, r"-1 to 1"),
    (np.where(IMAGE.max() == IMAGE, np.nan, IMAGE), r"NaN or infinite values \(1 of 192\)"),
    (np.where(IMAGE.max() == IMAGE, np.inf, IMAGE), "NaN or infinite values"),
])
def test_values_of_another_range_are_refused(image, message):
    with pytest.raises(UserError, match=f"model mine returned .*{message}"):
        check_values(image, "mine", given=range_of((image + 1) / 2))


@pytest.mark.parametrize("image", [IMAGE, DARK, 1.2 * IMAGE - 0.1, 0 * IMAGE, 0 * IMAGE + 1.1])
def test_values_that_overshoot_a_little_are_valid(image):
    check_values(image, "mine")


def test_noise_that_the_network_leaves_is_valid():
    noisy = range_of(NOISY)
    assert noisy.outside > 0.05
    check_values(NOISY, "mine", given=noisy)
    for restored in (NOISY, SQUARES):
        with pytest.raises(UserError, match="-1 to 1"):
            check_values(2 * restored - 1, "mine", given=noisy)


@pytest.mark.parametrize("image", [1 - 2 * DARK, 0.5 * IMAGE - 0.5, 2 * IMAGE, 3 * IMAGE - 1])
def test_values_of_a_network_that_is_hardly_trained_are_valid(image):
    """They are bad, which the score says; they are not of another range."""
    check_values(image, "mine", given=range_of(DARK if image.mean() > 0.6 else IMAGE))


def test_the_range_of_an_image_by_numpy():
    image = np.random.default_rng(2).normal(0.5, 0.5, (150, 9, 3)).astype(np.float32)
    found = range_of(image)
    assert found.outside == ((image < -0.25) | (image > 1.25)).mean()
    rows, columns = (np.linspace(0, side, 9).astype(int) for side in image.shape[:2])
    assert found.blocks == pytest.approx([
        image[top:bottom, left:right].mean() for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(columns)])
    assert range_of(image[:3, :1]).blocks == pytest.approx(image[:3, 0].mean(1))


def test_the_number_type_is_named_with_what_is_not_finite():
    with pytest.raises(UserError, match="infinite values in float16"):
        check_values(IMAGE * np.inf, "mine", "float16")


# -- seeds -------------------------------------------------------------------------------------

def test_all_generators_are_seeded_and_then_go_on_undisturbed():
    def draw():
        gpu = [torch.rand(1, device="cuda").item()] if torch.cuda.is_available() else []
        return torch.rand(1).item(), np.random.rand(), random.random(), *gpu

    def drawn(seed):
        with seeded(seed):
            return draw()

    assert drawn(1) == drawn(1) and all(a != b for a, b in zip(drawn(1), drawn(2), strict=True))
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    expected = draw()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    drawn(1)
    assert draw() == expected
