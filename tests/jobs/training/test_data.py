"""Training samples: a function of names and step alone, cut from the right place, well stored."""

import itertools
import os
import pickle
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbench import plan
from irbench.catalog import protocols, recipes
from irbench.core.errors import UserError
from irbench.imaging.degrade import degrade
from irbench.imaging.images import imresize, to_float
from irbench.jobs.training import data, decoded
from tests.helpers import tiny, trainings

PHOTOS = [tiny.photo(i, *size) for i, size in enumerate([(40, 52), (48, 36), (44, 44), (36, 60)])]


def patches(protocol="denoise_color-sigma25", seed=0, inputs=False, images=None, **changes):
    resolved = recipes.resolve({"recipe": "demo", "data": ["set"], "holdout": 0, "patch": 16,
                               "batch": 8, **changes}, "here")
    protocol = protocols.get(protocol)
    protocol = recipes.trained_for(resolved, protocol)
    images = PHOTOS if images is None else images
    given = trainings.Held([imresize(i, 1 / protocol.scale) for i in images]) if inputs else None
    sets = [data.Source("set", trainings.Held(images), given)]
    return data.Patches(sets, protocol, resolved, seed)


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# -- determinism ---------------------------------------------------------------------------------

def test_a_sample_depends_on_seed_scope_step_and_index_alone():
    one = patches()
    first = one.sample(5, 3, 16)
    assert [a.shape for a in first] == [(3, 16, 16)] * 2
    assert all(a.dtype == np.float32 and a.flags.c_contiguous for a in first)
    one.sample(0, 0, 16)
    assert same(patches().sample(5, 3, 16), first)
    for other in (patches(seed=1).sample(5, 3, 16), patches().sample(6, 3, 16),
                  patches().sample(5, 4, 16),
                  patches("denoise_color-sigma15").sample(5, 3, 16)):
        assert not same(other, first)


@given(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4, 8]), st.integers(0, 50),
       st.randoms())
@settings(max_examples=30, deadline=None)
def test_however_a_batch_is_shared_and_ordered_its_samples_are_the_same(parts, world, step, order):
    resolved = recipes.resolve({"recipe": "demo", "batch": 32, "patch": 16, "accumulate": parts},
                               "x")
    shares = [list(data.positions(resolved, 0.0, step, rank, world)) for rank in range(world)]
    assert {len(part) for share in shares for part in share} == {32 // parts // world}
    found = [p for share in shares for part in share for p in part]
    assert sorted(found) == [(step, i, 16) for i in range(32)]
    # a part of one process is made of the parts of several
    alone = list(data.positions(resolved, 0.0, step, 0, 1))
    for k, part in enumerate(alone):
        assert sorted(p for share in shares for p in share[k]) == part
    order.shuffle(found)
    whole = patches()
    assert all(same(whole.sample(*p), SAMPLES[p[1]](step)) for p in found[:3])


SAMPLES = [lambda step, i=i: patches().sample(step, i, 16) for i in range(32)]


def test_positions_follow_the_phase():
    resolved = recipes.resolve({"recipe": "demo", "batch": 8, "patch": 16, "phases": [
        {"from": 0}, {"from": 0.5, "batch": 4, "patch": 32}]}, "x")
    assert [[len(part) for part in data.positions(resolved, share, 0, 0, 1)]
            for share in (0.49, 0.5)] == [[8], [4]]
    assert next(data.positions(resolved, 0.5, 7, 0, 1))[0] == (7, 0, 32)


def test_images_of_any_size_are_chosen_equally_often_and_everywhere():
    one = patches()
    names = [one.names(step, 1)[0] for step in range(400)]
    counts = {name: names.count(name) for name in set(names)}
    assert len(counts) == 4
    assert all(60 < count < 140 for count in counts.values())
    # every pixel of an image can be in a patch, the corners too: number them
    ramp = np.arange(20 * 24, dtype=np.uint16).reshape(20, 24)
    image = np.stack([ramp >> 8, ramp & 255, ramp * 0], -1).astype(np.uint8)
    seen = set()
    one = patches("jpeg_color-q40", images=[image])
    for step in range(300):
        _, target = one.sample(step, 0, 16)
        high, low, _ = np.round(target * 255).astype(int)
        seen |= set((high * 256 + low).ravel().tolist())
    assert seen == set(range(20 * 24))


def test_names_are_those_of_the_samples():
    flat = [np.full((16, 16, 3), 50 * i, np.uint8) for i in range(4)]
    one = patches("jpeg_color-q40", images=flat)
    drawn = {f"set/a.i{round(one.sample(9, i, 16)[1].mean() * 255 / 50)}" for i in range(8)}
    assert set(one.names(9, 8)) == drawn


# -- what a sample is ----------------------------------------------------------------------------

@pytest.mark.parametrize("scale", [2, 3, 4])
def test_inputs_of_super_resolution_are_cut_from_the_exact_bicubic_of_the_whole_image(scale):
    images = [tiny.photo(i, 4 * 12, 5 * 12) for i in range(2)]
    one = patches(f"sr-x{scale}", inputs=True, images=images, patch=24)
    for index in range(12):
        given, target = (np.round(a.transpose(1, 2, 0) * 255).astype(np.uint8)
                         for a in one.sample(0, index, 24))
        assert given.shape == (24 // scale, 24 // scale, 3)
        found = 0
        for image, turns, mirrored in itertools.product(images, range(4), (False, True)):
            turned = np.rot90(image, turns)
            turned = turned[:, ::-1] if mirrored else turned
            small = np.rot90(imresize(image, 1 / scale), turns)
            small = small[:, ::-1] if mirrored else small
            height, width = (n - 24 for n in turned.shape[:2])
            found += sum(
                np.array_equal(turned[y:y + 24, x:x + 24], target)
                and np.array_equal(small[y // scale:(y + 24) // scale,
                                         x // scale:(x + 24) // scale], given)
                for y in range(0, height + 1, scale) for x in range(0, width + 1, scale))
        assert found


def test_noise_has_the_level_and_is_drawn_anew():
    one = patches("denoise_color-sigma25", images=[np.full((32, 32, 3), 128, np.uint8)], patch=32)
    noise = [a - b for a, b in (one.sample(step, 0, 32) for step in range(4))]
    assert abs(np.std(noise) * 255 - 25) < 1
    assert len({n.tobytes() for n in noise}) == 4


def test_a_blind_training_draws_levels_evenly_from_its_range():
    flat = [np.full((32, 32, 3), 128, np.uint8)]
    one = patches("denoise_color-sigma25", images=flat, patch=32, levels={"sigma": [15, 50]})
    levels = [np.std(np.subtract(*one.sample(step, 0, 32))) * 255 for step in range(200)]
    assert 14 < min(levels) < 17
    assert 48 < max(levels) < 52
    assert abs(np.mean(levels) - 32.5) < 3


def test_a_blind_jpeg_sample_has_a_whole_quality_in_the_range(monkeypatch):
    seen = []
    monkeypatch.setattr(data, "degrade", lambda image, protocol, rng: seen.append(
        protocol.degradation["quality"]) or degrade(image, protocol, rng))
    one = patches("jpeg_color-q10", levels={"quality": [10, 12]})
    for step in range(40):
        one.sample(step, 0, 16)
    assert set(seen) == {10, 11, 12}
    assert all(isinstance(quality, int) for quality in seen)


# -- which images --------------------------------------------------------------------------------

def test_images_left_out_and_held_out_are_never_trained_on():
    one = patches(exclude={"set": ["a.i1"]}, holdout=1, validate_every=1)
    held = {source.name(i) for source, i in one.held_out}
    used = {name for step in range(300) for name in one.names(step, 4)}
    assert len(held) == 1
    assert used == {f"set/a.i{k}" for k in range(4)} - {"set/a.i1"} - held
    assert [name for name, *_ in one.validation()] == sorted(held)


def test_the_images_held_out_stay_the_same_when_others_are_excluded():
    held = [s.name(i) for s, i in patches(holdout=1).held_out]
    other = next(n for n in ("a.i0", "a.i1") if n not in held[0])
    assert [s.name(i) for s, i in patches(holdout=1, exclude={"set": [other]}).held_out] == held


@pytest.mark.parametrize(("changes", "message"), [
    ({"exclude": {"set": ["a.i9"]}}, "dataset 'set' has no image 'a.i9'. Give file names without"),
    ({"exclude": {"set": ["a.i1.png"]}}, "no image 'a.i1.png'"),
    ({"patch": 40}, "smaller than the patch of 40 pixels: set/a.i1, set/a.i3. Lower `patch`"),
    ({"phases": [{"from": 0}, {"from": 0.5, "patch": 44}]}, "smaller than the patch of 44 pixels"),
    ({"holdout": 4}, "no training image is left of 4, 4 of them held out"),
])
def test_images_that_do_not_fit_are_named(changes, message):
    with pytest.raises(UserError) as error:
        patches(**changes)
    assert message in str(error.value)


def test_validation_images_are_degraded_alike_each_time_at_levels_over_the_range():
    one = patches(holdout=3, levels={"sigma": [15, 50]})
    first, second = list(one.validation()), list(one.validation())
    assert all(a[0] == b[0] and same(a[1:], b[1:]) for a, b in zip(first, second, strict=True))
    sigmas = [np.std(given - to_float(target)) * 255 for _, given, target in first]
    assert np.allclose(sigmas, [15, 32, 50], rtol=0.06)


def test_validation_crops_of_super_resolution_show_the_same_place():
    one = patches("sr-x4", inputs=True, patch=16, holdout=4, images=[
        np.repeat(np.repeat(tiny.photo(k, 70, 66), 4, 0), 4, 1) for k in range(5)])
    for _, low, target in one.validation():
        assert max(target.shape[:2]) == data.SIDE
        assert [4 * n for n in low.shape[:2]] == list(target.shape[:2])
        small = to_float(imresize(np.ascontiguousarray(target), 1 / 4))
        assert np.abs(low - small)[4:-4, 4:-4].max() < 1.5 / 255


# -- stored images -------------------------------------------------------------------------------

def test_what_was_decoded_is_read_again_and_a_damaged_file_made_again(tmp_path, capsys):
    made = []

    def make():
        made.append(1)
        yield "a.png", PHOTOS[0]
        yield "b.png", PHOTOS[1]

    def obtain():
        return decoded.obtain(tmp_path, "set", {"color": "rgb"}, make)

    first = obtain()
    assert first.names == ["a.png", "b.png"]
    assert np.array_equal(first[1], PHOTOS[1])
    assert not first[1].flags.writeable
    obtain()
    assert len(made) == 1
    pixels, = tmp_path.glob("*.u8")
    index, = tmp_path.glob("*.json")
    for spoil in (lambda: pixels.write_bytes(pixels.read_bytes()[:-1] + b"\x01"),
                  lambda: pixels.write_bytes(b""), pixels.unlink,
                  lambda: index.write_text("{"), lambda: index.write_text("[]"), index.unlink):
        before = len(made)
        spoil()
        assert np.array_equal(obtain()[0], PHOTOS[0])
        assert len(made) == before + 1
    assert "decoding" in capsys.readouterr().err


def test_an_interrupted_decoding_leaves_nothing_that_counts(tmp_path):
    def breaks():
        yield "a.png", PHOTOS[0]
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        decoded.obtain(tmp_path, "set", 1, breaks)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_decoding_had_begun_is_removed_once_it_is_old(tmp_path):
    old, new = (tmp_path / f".set-0123.u8.{end}.u8" for end in ("old", "new"))
    for begun in (old, new):
        begun.write_bytes(b"half")
    long_ago = time.time() - 2 * decoded.BEGUN
    os.utime(old, (long_ago, long_ago))
    first = decoded.obtain(tmp_path, "a", 1, lambda: iter([("a", PHOTOS[0])]))
    os.utime(first.path, (long_ago, long_ago))
    decoded.obtain(tmp_path, "b", 1, lambda: iter([("b", PHOTOS[0])]))
    assert not old.exists()
    assert new.exists()                 # another process may be at it
    assert first.path.exists()


def test_sets_and_colours_do_not_collide(tmp_path):
    def obtain(name, key, value):
        return decoded.obtain(tmp_path, name, key, lambda: iter(
            [("a", np.full((2, 2, 1), value, np.uint8))]))
    for k, (name, key) in enumerate([("set", "rgb"), ("set", "gray"), ("set.v2", "rgb"),
                                     ("set.v3", "rgb"), ("set.v3", "gray")]):
        assert obtain(name, key, k)[0].max() == k
    assert len(list(tmp_path.glob("*.u8"))) == 5


def test_images_handed_to_another_process_are_mapped_there_not_copied(tmp_path):
    image = np.zeros((300, 300, 3), np.uint8)
    images = decoded.obtain(tmp_path, "set", 1, lambda: iter([("a", image)]))
    packed = pickle.dumps(images)
    assert len(packed) < 1000
    assert np.array_equal(pickle.loads(packed)[0], image)


def test_a_set_of_the_plan_is_decoded_once_and_its_inputs_are_the_exact_bicubic(
        tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = plan.load(trainings.make(tmp_path, protocol="sr-x2"))
    job, = run.trainings.values()
    protocol = protocols.get("sr-x2")
    source, = {id(s): s for s, _ in data.load(run, job, protocol).images}.values()
    assert [source.name(i) for i in range(3)] == [f"tinytrain/img{i}" for i in (10, 11, 12)]
    for i in range(3):
        given, target = source.pair(i)
        photo = tiny.photo(i + 10, *[(24, 30), (31, 26), (28, 28)][i])
        assert np.array_equal(target, photo[:photo.shape[0] // 2 * 2])
        assert np.array_equal(given, imresize(target, 1 / 2))
    assert capsys.readouterr().err.count("decoding") == 2
    data.load(run, job, protocol)
    assert "decoding" not in capsys.readouterr().err
