"""Windows, convolutions, ends and padding against slow references, forward and gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from irbench.imaging import images
from irbench.models import layers, padding
from tests.helpers import plain_blocks
from tests.helpers.plain_blocks import normal, same

torch.set_num_threads(1)
some = settings(derandomize=True, deadline=None, max_examples=15)
side = st.integers(1, 3)


def agree(function, reference, x, *parameters):
    """Check values and gradients of function(x) for a batch against a reference for one."""
    x = x.requires_grad_()
    same(function(x), torch.stack([reference(one) for one in x]), [x, *parameters])
    assert torch.autograd.gradcheck(function, x, fast_mode=True)


# -- windows and heads ---------------------------------------------------------------------------

def test_windows_are_cut_in_reading_order():
    x = torch.arange(2 * 4 * 6).view(2, 4, 6, 1)
    tokens = layers.to_windows(x, 2)
    assert tokens.shape == (12, 4, 1)
    assert tokens[1].flatten().tolist() == [2, 3, 8, 9]
    assert tokens[6].flatten().tolist() == [24, 25, 30, 31]


@some
@given(batch=side, down=side, across=side, window=st.integers(1, 4), channels=side)
def test_windows_go_where_they_came_from(batch, down, across, window, channels):
    x = normal(0, batch, down * window, across * window, channels)
    tokens = layers.to_windows(x, window)
    for n, (b, i, j) in enumerate(np.ndindex(batch, down, across)):
        part = x[b, i * window:(i + 1) * window, j * window:(j + 1) * window]
        assert torch.equal(tokens[n], part.reshape(-1, channels))
    assert torch.equal(layers.from_windows(tokens, window, x.shape[1:3]), x)
    rows = x[:, :window]  # a strip of a batch does not lie in one piece
    assert torch.equal(layers.to_windows(rows, window), layers.to_windows(rows.clone(), window))


def test_heads_share_the_channels_in_order():
    x = normal(0, 2, 5, 6)
    heads = layers.split_heads(x, 3)
    assert heads.shape == (2, 3, 5, 2)
    assert torch.equal(heads[1, 2, 4], x[1, 4, 4:])
    assert torch.equal(layers.join_heads(heads), x)


# -- convolutions and shuffles -------------------------------------------------------------------

@some
@given(batch=side, height=side, width=side, inputs=side, outputs=side, seed=st.integers(0, 99),
       kind=st.sampled_from(["conv3", "1x1", "depthwise"]))
def test_convolutions_of_tokens(batch, height, width, inputs, outputs, seed, kind):
    torch.manual_seed(seed)
    module = {"conv3": lambda: layers.conv3(inputs, outputs),
              "1x1": lambda: layers.TokenConv(inputs, outputs, 1),
              "depthwise": lambda: layers.depthwise(inputs)}[kind]().double()
    x = normal(seed, batch, height, width, inputs)
    agree(module, lambda one: plain_blocks.conv(one, module), x, *module.parameters())
    assert module(x).is_contiguous()


@some
@given(batch=side, height=side, width=side, channels=side, scale=st.integers(1, 4))
def test_shuffles(batch, height, width, channels, scale):
    small = normal(0, batch, height, width, channels * scale**2)
    agree(layers.Shuffle(scale), lambda one: plain_blocks.shuffle(one, scale), small)
    large = normal(0, batch, height * scale, width * scale, channels)
    agree(layers.Unshuffle(scale), lambda one: plain_blocks.unshuffle(one, scale), large)
    assert torch.equal(layers.Shuffle(scale)(layers.Unshuffle(scale)(large)), large)


@pytest.mark.parametrize(("scale", "more"), [
    (2, {}), (3, {}), (5, {}),
    (1, {"restoration": "half"}), (1, {"restoration": "unshuffle"}), (1, {"restoration": "full"}),
])
@pytest.mark.parametrize("channels", [1, 3])
def test_ends_are_their_convolutions_and_shuffles(scale, channels, more):
    torch.manual_seed(0)
    first, last, stride = layers.ends(channels, scale, 4, **more)
    first, last = first.double(), last.double()
    x = normal(0, 2, 4, 2, channels)
    agree(first, lambda one: plain_blocks.ends(one, first), x, *first.parameters())
    body = normal(0, 2, 4 // stride, 2 // stride, 4)
    agree(last, lambda one: plain_blocks.ends(one, last), body, *last.parameters())
    assert first(normal(0, 1, 4, 2, channels)).shape == (1, 4 // stride, 2 // stride, 4)
    assert last(body).shape == (2, 4 * scale, 2 * scale, channels)


@pytest.mark.parametrize(("scale", "steps"), [(2, [2]), (3, [3]), (4, [2, 2]), (8, [2, 2, 2])])
def test_the_pixelshuffle_head_enlarges_in_steps(scale, steps):
    _, last, stride = layers.ends(3, scale, 4, head="pixelshuffle", head_width=2)
    last = last.double()
    before, slope, *middle, end = last
    assert (slope.negative_slope, stride) == (0.01, 1)
    assert [m.scale for m in middle[1::2]] == steps

    def reference(x):
        x = plain_blocks.conv(x, before)
        x = torch.where(x > 0, x, 0.01 * x)
        for convolution, shuffle in zip(middle[::2], middle[1::2], strict=True):
            x = plain_blocks.shuffle(plain_blocks.conv(x, convolution), shuffle.scale)
        return plain_blocks.conv(x, end)

    agree(last, reference, normal(0, 1, 2, 1, 4), *last.parameters())


# -- padding and enlarging -----------------------------------------------------------------------

@some
@given(batch=side, height=st.integers(2, 7), width=st.integers(2, 7), multiple=st.integers(1, 9))
def test_padding_mirrors_back_and_forth(batch, height, width, multiple):
    def walk(length):
        """0 1 .. length-1 .. 1 0 1 .., as far as the multiple."""
        place, step, places = 0, 1, []
        while len(places) < length or len(places) % multiple:
            places.append(place)
            step = step if 0 <= place + step < length else -step
            place += step
        return places

    agree(lambda x: padding.pad_to_multiple(x, multiple),
          lambda x: torch.stack([torch.stack([x[:, i, j] for j in walk(width)], -1)
                                 for i in walk(height)], -2), normal(0, batch, 2, height, width))


def keys(t):
    """Keys' cubic kernel with a = -0.5 (IEEE TASSP 1981), MATLAB's."""
    t = abs(t)
    if t <= 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0


@some
@given(height=st.integers(2, 5), width=st.integers(2, 5), scale=st.integers(1, 4))
def test_enlarging_is_keys_cubic_interpolation(height, width, scale):
    def line(values, length):
        """One axis; at the border the taps that are left are scaled to a sum of 1."""
        out = []
        for place in range(scale * length):
            centre = (place + 0.5) / scale - 0.5
            taps = [keys(centre - i) for i in range(length)]
            out.append(sum(t * values[i] for i, t in enumerate(taps)) / sum(taps))
        return torch.stack(out)

    def reference(x):  # (2, H, W)
        x = line(x.movedim(1, 0), height).movedim(0, 1)
        return line(x.movedim(2, 0), width).movedim(0, 2)

    agree(lambda x: padding.enlarge(x, scale), reference, normal(0, 2, 2, height, width))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_enlarging_is_matlabs_bicubic_inside_the_border(scale):
    x = np.random.default_rng(0).random((12, 10, 3))
    expected = images.imresize(x, scale)
    got = padding.enlarge(torch.from_numpy(x).permute(2, 0, 1)[None], scale)[0].permute(1, 2, 0)
    inside = slice(2 * scale, -2 * scale)
    np.testing.assert_allclose(got.numpy()[inside, inside], expected[inside, inside], atol=1e-6)


def test_the_column_is_extract_body_convolution_residual_and_reconstruction():
    class Column(padding.Columnar):
        def __init__(self):
            super().__init__(channels=3, scale=2, size_multiple=1)
            self.extract, self.reconstruct, _ = layers.ends(3, 2, 4)
            self.body_conv = layers.conv3(4, 4)

        def body(self, tokens):
            return tokens.sin()

    m = Column().double()
    assert m.receptive_field is None

    def reference(image):
        shallow = plain_blocks.ends(image.permute(1, 2, 0), m.extract)
        deep = shallow + plain_blocks.conv(shallow.sin(), m.body_conv)
        return plain_blocks.ends(deep, m.reconstruct).permute(2, 0, 1)

    agree(m, reference, normal(0, 2, 3, 3, 2), *m.parameters())
    with pytest.raises(NotImplementedError, match="Columnar defines no body"):
        padding.Columnar.body(padding.Columnar(channels=3, scale=1, size_multiple=1), None)
