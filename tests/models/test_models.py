"""The learned models as a whole: printed sizes, any image size, options, gradients, seeds."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from irbench.core.errors import UserError
from irbench.jobs.profiling import macs
from irbench.models import padding, registry
from irbench.models.attention import KeyDictionary
from irbench.models.compacter import compacter
from irbench.models.semanir import semanir_b, semanir_light, semanir_s
from irbench.models.semanir_unet import semanir_unet

torch.set_num_threads(1)
PUBLISHED = Path(registry.__file__).parents[1] / "catalog" / "published.csv"

SMALL_COMPACTER = {"width": 8, "layers": 1, "window": 4, "heads": 2}
SMALL = {"width": 8, "heads": 2, "layers": 1, "window": 4, "k": 5, "bias_hidden": 8}
SMALL_LIGHT = {**SMALL, "stages": 1}
SMALL_UNET = {**SMALL, "width": 4, "heads": 1, "window": 2, "k": 2}
MODELS = {  # id -> (builder, task, scale, channels, options), small enough for property tests
    "compacter-x2": (compacter, "sr", 2, 3, SMALL_COMPACTER),
    "compacter-x3": (compacter, "sr", 3, 3, SMALL_COMPACTER),
    "compacter-jpeg": (compacter, "jpeg_gray", 1, 1, SMALL_COMPACTER),
    "compacter-full": (compacter, "denoise_color", 1, 3, SMALL_COMPACTER | {"restoration": "full"}),
    "semanir-x4": (semanir_s, "sr", 4, 3, {**SMALL_LIGHT, "head_width": 4, "k": 5}),
    "semanir-x3": (semanir_s, "sr", 3, 3, {**SMALL_LIGHT, "head_width": 4, "norm": "post"}),
    "light-x2": (semanir_light, "sr", 2, 3, {**SMALL_LIGHT, "skip": "none"}),
    "light-denoise": (semanir_light, "denoise_color", 1, 3, {**SMALL_LIGHT, "skip": "none"}),
    "light-jpeg": (semanir_light, "jpeg_gray", 1, 1, SMALL_LIGHT | {"restoration": "unshuffle"}),
    "unet": (semanir_unet, "denoise_color", 1, 3, SMALL_UNET),
}


def build(name, **more):
    builder, task, scale, channels, options = MODELS[name]
    torch.manual_seed(0)
    return builder(task, scale, channels, **{**options, **more}).eval()


def image(model, height=11, width=6, batch=1):
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.rand(batch, model.channels, height, width, generator=generator)


# -- sizes ---------------------------------------------------------------------------------------

@pytest.mark.parametrize(("builder", "task", "scale", "printed", "within"), [
    (compacter, "sr", 2, 393e3, 3e-3), (compacter, "sr", 3, 399e3, 3e-3),
    (compacter, "sr", 4, 408e3, 3e-3), (compacter, "denoise_color", 1, 407e3, 3e-3),
    (semanir_s, "sr", 2, 11.87e6, 1e-3), (semanir_s, "sr", 3, 12.05e6, 1e-3),
    (semanir_s, "sr", 4, 12.02e6, 1e-3), (semanir_b, "sr", 2, 19.90e6, 1e-3),
    (semanir_b, "sr", 3, 20.08e6, 1e-3), (semanir_b, "sr", 4, 20.04e6, 1e-3),
    (semanir_unet, "denoise_color", 1, 25.82e6, 1e-4),
])
def test_parameters_match_the_printed_sizes(builder, task, scale, printed, within):
    with torch.device("meta"):
        model = builder(task, scale, 3)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(printed, rel=within)


def test_parameters_as_inferred():
    def size(builder, *arguments, **options):
        with torch.device("meta"):
            return sum(p.numel() for p in builder(*arguments, **options).parameters())

    assert size(compacter, "denoise_color", 1, 3) == 406_995
    assert size(compacter, "sr", 2, 3, heads=8, channel_heads=8, temperature="learned",
                final_norm=True) == 392_540  # rounds to the printed 393 K
    assert size(semanir_unet, "denoise_color", 1, 3) == 25_820_073
    for task, scale, channels in (("sr", 4, 3), ("denoise_color", 1, 3), ("jpeg_gray", 1, 1)):
        assert size(semanir_light, task, scale, channels) < 1_000_000


def test_cards_name_methods_of_the_published_tables():
    with PUBLISHED.open() as handle:
        methods = {row["method"] for row in csv.DictReader(handle)}
    for name in ("compacter", "semanir-s", "semanir-b", "semanir-unet"):
        card = registry.get(name)
        assert card.in_paper and card.published_as in methods
    light = registry.get("semanir-light")
    assert not light.in_paper and not light.published_as
    assert light.note


@pytest.mark.parametrize("name", ["compacter", "semanir-s", "semanir-b", "semanir-light",
                                  "semanir-unet"])
def test_a_card_builds_with_all_its_options_for_all_its_tasks(name):
    card = registry.get(name)
    for task in card.tasks:
        channels = 1 if task.endswith("gray") else 3
        for scale in (2, 3, 4) if task == "sr" else (1,):
            with torch.device("meta"):
                model = card.load()(task=task, scale=scale, channels=channels, **card.options)
            assert (model.scale, model.channels) == (scale, channels)


# -- any image size ------------------------------------------------------------------------------

@settings(derandomize=True, deadline=None, max_examples=60)
@given(length=st.integers(2, 9), padded=st.integers(0, 60))
def test_reflection_walks_back_and_forth(length, padded):
    walk, place, step = [], 0, 1
    for _ in range(padded):
        walk.append(place)
        if not 0 <= place + step < length:
            step = -step
        place += step
    assert padding.reflect_index(length, padded).tolist() == walk


@settings(derandomize=True, deadline=None, max_examples=60)
@given(height=st.integers(2, 20), width=st.integers(2, 20), multiple=st.integers(1, 17))
def test_padding_round_trip(height, width, multiple):
    x = torch.rand(1, 2, height, width)
    y = padding.pad_to_multiple(x, multiple)
    assert y.shape[2] % multiple == 0 and 0 <= y.shape[2] - height < multiple
    assert y.shape[3] % multiple == 0 and 0 <= y.shape[3] - width < multiple
    assert torch.equal(padding.crop(y, height, width), x)
    if y.shape == x.shape:
        assert y is x and padding.crop(y, height, width) is y
    elif y.shape[2] < 2 * height and y.shape[3] < 2 * width:  # as far as torch's own goes
        extra = (0, y.shape[3] - width, 0, y.shape[2] - height)
        assert torch.equal(y, F.pad(x, extra, mode="reflect"))


@pytest.mark.parametrize("name", MODELS)
def test_any_size_gives_exactly_scale_times_it(name):
    model = build(name)

    @settings(derandomize=True, deadline=None, max_examples=12)
    @given(height=st.integers(2, 40), width=st.integers(2, 40))
    def check(height, width):
        with torch.inference_mode():
            y = model(image(model, height, width))
        assert y.shape == (1, model.channels, model.scale * height, model.scale * width)
        assert y.isfinite().all()

    check()


@pytest.mark.parametrize("name", ["compacter-x3", "semanir-x4", "light-denoise", "unet"])
def test_a_ragged_image_is_the_padded_one_cropped(name):
    model = build(name, skip="none")
    x, s = image(model, 13, 6), model.scale
    with torch.inference_mode():
        whole = model.restore(padding.pad_to_multiple(x, model.size_multiple))
        assert whole.shape[-1] > s * 6
        assert torch.equal(model(x), whole[..., :s * 13, :s * 6])


@pytest.mark.parametrize("name", ["compacter-x2", "light-jpeg", "unet"])
@pytest.mark.parametrize(("shape", "message"), [
    ((1, None, 1, 9), "1 x 9 pixels .* at least 2"), ((1, None, 9, 1), "9 x 1 pixels"),
    ((1, 2, 9, 9), "2 channels; this one was built for"), ((3, 9, 9), "batch, channels"),
])
def test_bad_images_are_refused(name, shape, message):
    model = build(name)
    with pytest.raises(UserError, match=message):
        model(torch.rand(*(model.channels if n is None else n for n in shape)))


# -- options -------------------------------------------------------------------------------------

@pytest.mark.parametrize(("builder", "options", "message"), [
    (compacter, {"windows": 8}, "unknown option 'windows'. Did you mean 'window'"),
    (compacter, {"width": "48"}, "type int, by default 48"),
    (compacter, {"final_norm": 1}, "type bool"),
    (compacter, {"layers": 0}, "at least 1"),
    (compacter, {"heads": 5}, "48 channels cannot be shared by 5 heads"),
    (compacter, {"dsgm": "literally"}, "'dsgm'.* Did you mean 'literal'"),
    (compacter, {"channel_norm": "l2"}, "Valid: cosine, scaled"),
    (compacter, {"spatial_norm": "l2"}, "Valid: cosine, scaled"),
    (compacter, {"temperature": "hot"}, "Valid: fixed, learned"),
    (compacter, {"skip": "bicubic"}, "Valid: input, none"),
    (semanir_light, {"similarity": "l2"}, "Valid: cosine, dot, dot_ln"),
    (semanir_light, {"norm": "mid"}, "Valid: post, pre"),
    (semanir_light, {"attention": "sdpa"}, "Valid: auto, flex, gather, mask, reference, triton"),
    (semanir_light, {"head": "nearest"}, "Valid: direct, pixelshuffle"),
    (semanir_light, {"restoration": "third"}, "Valid: full, half, unshuffle"),
    (semanir_light, {"train_k": [8, 0]}, "whole numbers of at least 1"),
    (semanir_light, {"window": 1}, "at least 2"),
])
def test_bad_options_are_refused(builder, options, message):
    with pytest.raises(UserError, match=message):
        builder("sr", 2, 3, **options)


def test_tasks_and_scales_must_fit():
    with pytest.raises(UserError, match="takes a scale of 2 or more"):
        compacter("sr", 1, 3)
    with pytest.raises(UserError, match="every other task scale 1"):
        semanir_light("denoise_color", 2, 3)
    with pytest.raises(UserError, match="Use semanir-s or semanir-b"):
        semanir_unet("sr", 2, 3)
    with pytest.raises(UserError, match="Use head 'direct'"):
        semanir_s("sr", 5, 3)
    assert compacter("sr", 5, 3, **SMALL_COMPACTER).scale == 5


# -- the whole networks --------------------------------------------------------------------------

@pytest.mark.parametrize("name", MODELS)
def test_gradients_reach_every_parameter(name):
    more = {"temperature": "learned", "final_norm": True} if name == "compacter-x2" else {}
    model = build(name, skip="none", **more).double().train()
    model(image(model, 9, 10).double()).square().sum().backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


@pytest.mark.parametrize("name", ["compacter-x2", "compacter-jpeg", "light-denoise", "unet"])
def test_the_long_residual_goes_around_the_body(name):
    model = build(name, skip="none")
    x = image(model, model.size_multiple, model.size_multiple)
    with torch.inference_mode():
        torch.nn.init.zeros_(model.body_conv.weight)
        torch.nn.init.zeros_(model.body_conv.bias)
        y = model(x)
        if name == "unet":  # around the last stage only
            assert not torch.allclose(y, model(x.flip(-1)), atol=1e-6)
            model.final.conv.weight.mul_(2)
            assert torch.equal(model(x), y)
        else:
            short = model.reconstruct(model.extract(x.permute(0, 2, 3, 1)))
            torch.testing.assert_close(y, short.permute(0, 3, 1, 2))


@pytest.mark.parametrize("name", ["compacter-x2", "light-jpeg", "unet"])
def test_a_seed_fixes_weights_and_output(name):
    first, second = build(name, skip="none"), build(name, skip="none")
    x = image(first)
    with torch.inference_mode():
        assert torch.equal(first(x), second(x))
        assert torch.equal(first(x), first(x))
        torch.manual_seed(1)
        builder, task, scale, channels, options = MODELS[name]
        other = builder(task, scale, channels, **{**options, "skip": "none"})
        assert not torch.equal(first(x), other(x))


@pytest.mark.parametrize("name", ["compacter-x3", "compacter-jpeg", "semanir-x4", "light-jpeg",
                                  "unet"])
def test_with_a_skip_training_starts_from_the_input(name):
    model = build(name, skip="input")
    x = image(model, 9, 7)
    with torch.inference_mode():
        assert torch.equal(model(x), padding.enlarge(x, model.scale))


@pytest.mark.parametrize("name", ["compacter-x2", "compacter-jpeg", "semanir-x4", "light-denoise",
                                  "unet"])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_the_dtypes_of_the_cards_run(name, dtype):
    model = build(name)
    x = image(model)
    with torch.inference_mode():
        expected = model(x)
        y = model.to(getattr(torch, dtype))(x.to(getattr(torch, dtype)))
    assert y.dtype == getattr(torch, dtype)
    torch.testing.assert_close(y.float(), expected, rtol=0,
                               atol=1e-4 if dtype == "float64" else 0.1)


@pytest.mark.parametrize("name", ["compacter-x2", "compacter-jpeg"])
def test_compacter_sees_the_whole_image(name):
    model = build(name, layers=2)
    assert model.receptive_field is None
    x = image(model, 64, 16)
    changed = x.clone()
    changed[..., 0, 0] = 0.5
    with torch.inference_mode():
        assert (model(x) != model(changed))[..., -4:, :].any()


@pytest.mark.parametrize("name", ["compacter-jpeg", "light-x2", "unet"])
def test_images_of_a_batch_do_not_meet(name):
    model = build(name, skip="none")
    x = image(model, 9, 6, batch=3)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), torch.cat([model(one[None]) for one in x]),
                                   rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["semanir-x4", "unet"])
def test_a_dictionary_of_all_tokens_is_dense_attention(name):
    n = MODELS[name][4]["window"] ** 2
    x = image(build(name))
    outputs = [build(name, skip="none", k=k)(x) for k in (n, 10 * n)]
    assert torch.equal(*outputs)
    assert not torch.allclose(build(name, skip="none", k=1)(x), outputs[0], atol=1e-6)


def test_a_forward_builds_one_dictionary_a_stage():
    model = build("light-x2", stages=2, layers=2)
    counted = []
    for module in model.modules():
        if isinstance(module, KeyDictionary):
            module.register_forward_hook(lambda *_: counted.append(1))
    model(image(model))
    assert len(counted) == 2


def test_multiply_adds_of_the_dictionary_can_be_told_apart():
    model = build("light-x2", stages=1, skip="none")
    counted = macs.count(model, (image(model, 8, 12),)).by_kind
    assert counted["dictionary"] == 6 * 16 * 16 * 8  # windows N N width
