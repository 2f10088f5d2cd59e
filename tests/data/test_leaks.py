"""Leaks: altered copies are found, other pictures are not, and gaps in the comparison are shown."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from irbench import cli, plan
from irbench.core import code as code_digests
from irbench.core import digests, records
from irbench.core.errors import Unavailable, UserError
from irbench.data import leaks, obtain
from irbench.data import sets as datasets
from irbench.imaging.images import write_png
from irbench.jobs.leaks import judged
from irbench.plan import trained_on


def photo(seed, height=96, width=120):
    """A picture with a gradient, blobs and texture: uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(0, 255, (9, 11, 3)).astype(np.uint8)
    big = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    y = np.linspace(0, 60, height)[:, None, None]
    return np.clip(big * 0.75 + y + rng.normal(0, 4, big.shape), 0, 255).astype(np.uint8)


def jpeg(image, quality):
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality)
    return np.asarray(Image.open(out))


def gray(image):
    y = np.round(16 + image @ np.array([65.481, 128.553, 24.966]) / 255)
    return y.astype(np.uint8)[..., None]


def known(*images, files=None):
    """Signatures of images in memory."""
    names = tuple(str(i) for i in range(len(images)))
    pixels = tuple(leaks._pixels(image) for image in images)
    return leaks.Signatures(names, tuple(files or pixels), pixels,
                            np.stack([leaks.picture(image) for image in images]))


COPIES = {
    "itself": lambda a: a, "cut": lambda a: a[1:, :-2], "cut all round": lambda a: a[1:-1, 1:-1],
    "JPEG": lambda a: jpeg(a, 10), "gray": gray, "half size": lambda a: a[::2, ::2],
    "darker": lambda a: a // 3,
    **{f"position {k}": lambda a, k=k: np.rot90(a[:, ::-1] if k > 3 else a, k % 4)
       for k in range(1, 8)},
    "all of it": lambda a: gray(jpeg(np.rot90(a[2:-1, 1:]), 15)),
}


@pytest.mark.parametrize("what", COPIES)
def test_a_copy_is_found(what):
    train = known(*(photo(seed) for seed in range(5)))
    test = known(photo(90), np.ascontiguousarray(COPIES[what](photo(3))), photo(91))
    found = leaks.compare(train, test)
    assert [(f["train_image"], f["test_image"]) for f in found] == [("3", "1")]
    assert found[0]["kind"] == ("identical" if what == "itself" else "near")
    assert (found[0]["distance"] == 0) == (what == "itself") or found[0]["distance"] < 0.2
    moved = what.startswith(("position", "all"))
    assert bool(found[0]["position"]) == moved


def test_the_same_pixels_in_another_file_are_identical():
    image = photo(1)[..., :1]
    found = leaks.compare(known(image), known(np.repeat(image, 3, axis=2)))
    assert [found[0][k] for k in ("kind", "distance", "bits")] == ["identical", 0.0, 0]
    # of three channels that differ each counts
    assert leaks._pixels(photo(1)) != leaks._pixels(photo(1) * np.uint8([1, 0, 1]))
    # one file under two names, which never was decoded to the same pixels
    assert leaks.compare(known(photo(1), files=["f"]), known(photo(2), files=["f"]))


@given(st.integers(0, 10**6), st.integers(0, 10**6))
@settings(deadline=None)     # time depends on the machine's load
def test_other_pictures_are_not_the_same(one, other):
    if one != other:
        assert leaks.compare(known(photo(one, 40, 48)), known(photo(other, 40, 48))) == []


def test_the_reduced_picture_is_the_mean_luma():
    """BT.601: .299 R + .587 G + .114 B, averaged over each of 32 x 32 fields."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32], image[32:] = (200, 100, 50), (10, 20, 240)
    found = leaks.picture(image)
    assert found.shape == (32, 32)
    assert found[:16] == pytest.approx(124.2, abs=1e-3)
    assert found[16:] == pytest.approx(42.09, abs=1e-3)


def test_smooth_pictures_are_not_the_same():
    """Skies: gradients of any direction, with a little noise, and pictures of one colour."""
    y, x = np.mgrid[:64, :96] / 64.0
    rng = np.random.default_rng(0)
    skies = []
    for i in range(12):
        base = 90 + 60 * y * np.cos(i) + 30 * x * np.sin(i) + rng.normal(0, 2, y.shape)
        skies.append(np.clip(base, 0, 255).astype(np.uint8)[..., None])
    flat = [np.full((64, 96, 1), level, np.uint8) for level in (0, 7, 200)]
    assert leaks.compare(known(*skies[:6], *flat[:1]), known(*skies[6:], *flat[1:])) == []


@given(st.sampled_from(list(leaks.POSITIONS)))
@settings(deadline=None)
def test_moving_coefficients_moves_the_picture(position):
    image = known(photo(5))
    transposed, down, across = position
    pixels = image.pictures[0].T if transposed else image.pictures[0]
    pixels = pixels[::-1] if down else pixels
    pixels = pixels[:, ::-1] if across else pixels
    again = leaks.Signatures(("0",), ("0",), ("0",), pixels[None])
    assert np.allclose(leaks.move(image.coefficients, position), again.coefficients)


# -- the thresholds: where they lie decides what is called a leak (benchmarks/leaks.py) -----------

def from_coefficients(coefficients):
    """Signatures of one picture that has the given cosine coefficients."""
    picture = leaks._DCT.T @ coefficients @ leaks._DCT
    return leaks.Signatures(("0",), ("a",), ("a",), picture[None])


def with_other_bits(coefficients, bits):
    """Change as little as possible until so many bits of the hash differ.

    Half of the 64 coefficients lie above their median, so bits change in pairs: two coefficients
    beside the median swap their values.
    """
    changed = coefficients.copy()
    low = changed[:8, :8].ravel()
    order = np.argsort(low)
    for k in range(bits // 2):
        below, above = order[31 - k], order[32 + k]
        low[below], low[above] = low[above], low[below]
    changed[:8, :8] = low.reshape(8, 8)
    return changed


@pytest.mark.parametrize(("bits", "leak"), [(0, True), (12, True), (16, True), (18, False),
                                            (20, False)])
def test_copies_differ_in_at_most_16_of_64_bits(bits, leak):
    """Altered copies differ in up to 12 bits, larger crops of a scene in 22 and more."""
    own = known(photo(3)).coefficients[0]
    test = from_coefficients(with_other_bits(own, bits))
    test = leaks.Signatures(("0",), ("b",), ("b",), test.pictures)
    found = leaks.compare(from_coefficients(own), test)
    assert [f["bits"] for f in found] == ([bits] if leak else [])


@pytest.mark.parametrize(("correlation", "leak"), [(0.95432, True), (0.805, True), (0.795, False),
                                                   (0.7, False)])
def test_copies_correlate_to_at_least_eight_tenths(correlation, leak):
    """Altered copies reach .86 and more, different photographs .71 at most."""
    own = known(photo(3)).coefficients[0]
    detail = np.add.outer(np.arange(32), np.arange(32)) >= 3
    detail[24:], detail[:, 24:] = False, False
    other = np.zeros_like(own)
    other[8:24, 8:24] = np.random.default_rng(0).normal(size=(16, 16))  # the hash stays
    other -= own * (own * other)[detail].sum() / (own[detail] ** 2).sum() * detail
    other *= np.sqrt((own[detail] ** 2).sum() / (other[detail] ** 2).sum())
    mixed = own.copy()
    mixed[detail] = (correlation * own + np.sqrt(1 - correlation**2) * other)[detail]
    test = from_coefficients(mixed)
    found = leaks.compare(from_coefficients(own),
                          leaks.Signatures(("0",), ("b",), ("b",), test.pictures))
    assert [f["distance"] for f in found] == pytest.approx([1 - correlation] if leak else [],
                                                           abs=2e-4)
    assert all(f["distance"] == round(f["distance"], 4) for f in found)     # as it is printed


@pytest.mark.parametrize(("contrast", "leak"), [(1.05, True), (0.8, False)])
def test_pictures_without_contrast_are_not_compared(contrast, leak):
    """Below one gray level there is only noise; a copy of such a picture is not found."""
    own = known(photo(3)).coefficients[0]
    detail = np.add.outer(np.arange(32), np.arange(32)) >= 3
    detail[24:], detail[:, 24:] = False, False
    own[detail] *= contrast * 32 / np.linalg.norm(own[detail])
    train = from_coefficients(own)
    found = leaks.compare(train, leaks.Signatures(("0",), ("b",), ("b",), train.pictures))
    assert len(found) == leak


def test_a_copy_is_found_in_any_part_of_a_large_set(monkeypatch):
    monkeypatch.setattr(leaks, "CHUNK", 2)
    images = [photo(seed) for seed in range(5)]
    for i, image in enumerate(images):
        found = leaks.compare(known(*images), known(image[1:, :-2]))
        assert [(f["train_image"], f["kind"]) for f in found] == [(str(i), "near")]


# -- sets ----------------------------------------------------------------------------------------

@pytest.fixture
def world(tmp_path, monkeypatch):
    """Two sets of one's own and a config that trains on the one and tests on the other."""
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        write_png(tmp_path / "train" / f"t{i}.png", photo(i))
    write_png(tmp_path / "test" / "copy.png", photo(1)[1:])
    write_png(tmp_path / "test" / "other.png", photo(50))
    sets = {name: {"title": name, "use": use, "local": {"folder": folder}} for name, use, folder in
            (("mytrain", "train", "train"), ("mytest", "test", "test"),
             ("nothere", "test", "nowhere"))}
    Path("datasets.yaml").write_text(yaml.safe_dump({"datasets": sets}))
    config = {"run": "leaky", "catalog_paths": ["datasets.yaml"], "data_root": "data",
              "models": {"bicubic": {}, "compacter": {
                  "training": {"recipe": "demo", "data": ["mytrain"], "steps": 2}}},
              "cells": [{"protocol": "sr-x2", "datasets": ["mytest"],
                         "models": ["bicubic", "compacter"]}]}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    return config


def run(capsys, *arguments):
    code = cli.main(["data", "leak", *arguments])
    lines = capsys.readouterr().out.splitlines()
    return code, "\n".join(lines[:-1]), json.loads(lines[-1])


def test_the_command_names_the_pair_and_exits_with_1(world, capsys):
    code, shown, found = run(capsys)
    assert code == 1 and found["leaks"] == 1
    pair = found["pairs"][0]
    assert [pair[k] for k in ("train", "train_image", "test", "test_image", "kind")] == [
        "mytrain", "t1", "mytest", "copy", "near"]
    assert 0 < pair["distance"] < 0.2
    assert "1 in common (1 near-identical)" in shown and "copy = t1" in shown
    assert found["compared"] == [{"train": "mytrain", "test": "mytest", "train_images": 3,
                                  "test_images": 2}]


def test_nothing_in_common_exits_with_0(world, capsys):
    (Path("test") / "copy.png").unlink()
    code, shown, found = run(capsys)
    assert (code, found["pairs"]) == (0, []) and "none in common" in shown


def test_named_sets_and_one_that_is_not_here(world, capsys):
    config = ("--config", "config.yaml", "--train", "mytrain", "--test", "nothere", "mytest")
    code, shown, found = run(capsys, *config)
    assert code == 1 and len(found["compared"]) == 1        # the second, after the missing one
    assert [(n["train"], n["test"]) for n in found["not_compared"]] == [("mytrain", "nothere")]
    assert "nowhere" in found["not_compared"][0]["reason"]
    assert "NOT COMPARED" in shown and "nowhere" in shown
    (Path("test") / "copy.png").unlink()
    code, _, found = run(capsys, *config)
    assert (code, found["leaks"], len(found["compared"])) == (3, 0, 1)


def test_a_set_against_itself(world, capsys):
    code, _, found = run(capsys, "--train", "mytest", "--test", "mytest")
    assert code == 1 and {p["kind"] for p in found["pairs"]} == {"identical"}
    assert len(found["pairs"]) == 2


def test_named_images_are_left_out(world, capsys):
    """An excluded image is shown but is not a leak; excluding another image changes nothing."""
    named = ("--train", "mytrain", "--test", "mytest", "--exclude")
    code, shown, found = run(capsys, *named, "mytrain/t1")
    assert (code, found["leaks"], len(found["pairs"])) == (0, 0, 1)
    assert "1 left out of the training" in shown and "left out)" in shown
    assert "in common" not in shown
    code, shown, found = run(capsys, *named, "mytrain/t0", "mytrain/t2")
    assert (code, found["leaks"]) == (1, 1) and "1 in common (1 near-identical)" in shown
    # the copy is in the training twice, and only one of the two is left out
    write_png(Path("train") / "t9.png", photo(1)[:, 1:])
    code, shown, found = run(capsys, *named, "mytrain/t1")
    assert (code, found["leaks"], len(found["pairs"])) == (1, 1, 2)
    assert "1 in common" in shown and "1 left out of the training" not in shown
    code, shown, found = run(capsys, *named, "mytrain/t1", "mytrain/t9")
    assert (code, found["leaks"]) == (0, 0)


def test_examples_begin_with_what_was_trained_on(world, capsys):
    for i in range(4):
        write_png(Path("test") / f"a{i}.png", photo(0)[i:])
    code, shown, _ = run(capsys, "--train", "mytrain", "--test", "mytest", "--exclude",
                         "mytrain/t0")
    assert code == 1 and "1 in common (1 near-identical); 4 left out of the training" in shown
    lines = shown.splitlines()
    assert "copy = t1" in lines[3] and "left out" in lines[4] and "and 2 more" in lines[6]


@pytest.mark.parametrize(("arguments", "wording"), [
    (("--exclude", "mytrain/t1"), "--exclude needs --train and --test"),
    (("--train", "mytrain", "--test", "mytest", "--exclude", "mytrain/t7"),
     "--exclude: dataset 'mytrain' has no image 't7'"),
    (("--train", "mytrain", "--test", "mytest", "--exclude", "t1"), "as mytrain/NAME"),
    (("--train", "mytrain", "--test", "mytest", "--exclude", "mytest/t1"), "sets: mytrain"),
    (("--train", "mytrain"), "both --train NAME and --test NAME"),
    (("--train", "mytrian", "--test", "mytest"), "Did you mean 'mytrain'"),
])
def test_bad_arguments(world, capsys, arguments, wording):
    assert cli.main(["data", "leak", *arguments]) == 2
    assert wording in capsys.readouterr().err


def test_a_run_that_trains_nothing_has_nothing_to_compare(world, capsys):
    del world["models"]["compacter"]
    world["cells"][0]["models"] = ["bicubic"]
    Path("config.yaml").write_text(yaml.safe_dump(world))
    code, _, found = run(capsys)
    assert (code, found["leaks"]) == (0, None)


def test_a_broken_image_is_no_finding(world, capsys):
    (Path("train") / "t1.png").write_bytes(b"\x89PNG no more")
    code, _, found = run(capsys)
    assert (code, found["leaks"], found["compared"]) == (3, None, [])
    assert "t1.png" in found["not_compared"][0]["reason"]


def test_signatures_are_kept_until_set_or_code_change(world, monkeypatch):
    data = datasets.Dataset("mytrain", tuple(
        datasets.ImageFile(p.stem, "hr", p, "0" * 64, 1) for p in sorted(Path("train").iterdir())))
    reads = []
    monkeypatch.setattr(datasets.ImageFile, "load",
                        lambda self: reads.append(self.name) or photo(len(reads)))
    first = leaks.signatures(data, "d1", "data")
    again = leaks.signatures(data, "d1", "data")
    assert reads == ["t0", "t1", "t2"]
    assert again.names == first.names and again.pixels == first.pixels
    assert np.array_equal(again.pictures, first.pictures)
    leaks.signatures(data, "d2", "data")
    assert len(reads) == 6
    monkeypatch.setattr(leaks, "CODE", ("irbench.core.errors",))
    leaks.signatures(data, "d1", "data")
    assert len(reads) == 9


@pytest.mark.parametrize("damage", ["half", "empty", "text", *range(0, 100, 4)])
def test_a_damaged_file_of_signatures_is_made_anew(world, damage):
    """Cut anywhere or altered anywhere (in percent of its length): never used, never an error."""
    items = tuple(datasets.ImageFile(p.stem, "hr", p, digests.file_digest(p), 1)
                  for p in sorted(Path("train").iterdir()))
    data, path = datasets.Dataset("mytrain", items), Path("data/.leaks/d.npz")
    first = leaks.signatures(data, "d", "data")
    raw = path.read_bytes()
    middle = len(raw) * damage // 100 if isinstance(damage, int) else len(raw) // 2
    path.write_bytes({"half": raw[:middle], "empty": b"", "text": b"PK cut short"}.get(
        damage, raw[:middle] + bytes(255 - b for b in raw[middle:middle + 16]) + raw[middle + 16:]))
    again = leaks.signatures(data, "d", "data")
    assert (again.names, again.files, again.pixels) == (first.names, first.files, first.pixels)
    assert np.array_equal(again.pictures, first.pictures)
    assert leaks._read(path, code_digests.of_modules(*leaks.CODE)) is not None


def test_the_record_of_a_run(world, capsys):
    """As the workflow calls it: a leak is a result, not a failure; the plan knows the record."""
    arguments = ("data", "leak", "--on-failure", "record", "--supervised")
    assert cli.main(list(arguments)) == 0
    job = plan.load("config.yaml").leaks["leaky"]
    record = records.read(job.record)
    assert job.record == Path("results/leaky/leaks.json")
    assert record["spec"] == job.spec and len(record["result"]["pairs"]) == 1
    # the fingerprint follows the sets, and nothing else
    before = job.fingerprint
    world["models"]["compacter"]["training"]["steps"] = 3
    Path("config.yaml").write_text(yaml.safe_dump(world))
    assert plan.load("config.yaml").leaks["leaky"].fingerprint == before
    write_png(Path("test") / "new.png", photo(77))
    assert plan.load("config.yaml").leaks["leaky"].fingerprint != before


def test_a_reason_is_given_once():
    def obtain(name):
        raise Unavailable(f"{name} is not here")

    result = leaks.check([("gone", "gone")], obtain, "data")
    assert result["not_compared"] == [{"train": "gone", "test": "gone",
                                       "reason": "gone is not here"}]


# -- the public sets -----------------------------------------------------------------------------

TESTS = ("set5", "set14", "set12", "bsd68", "cbsd68", "bsd100", "kodak24", "mcmaster", "classic5",
         "live1_color", "live1_gray", "photos")


@pytest.fixture(scope="module")
def get(mirror, tmp_path_factory):
    """Return a set by name, from the mirror, and its digest."""
    folder = tmp_path_factory.mktemp("data")

    def get(name):
        entry = datasets.get(name)
        return obtain.fetch(entry, folder, progress=False), datasets.digest(entry)
    return get


@pytest.mark.mirror
@pytest.mark.slow
def test_what_the_bundled_weights_were_trained_on_is_in_no_test_set(get, tmp_path):
    """BSDS500's halves for training and test, but for Set5's woman."""
    trained = ("bsds500_train", "bsds500_test")
    result = leaks.check([(train, test) for train in trained for test in TESTS], get, tmp_path)
    assert result["not_compared"] == [] and len(result["compared"]) == 2 * len(TESTS)
    for images, leaking in ((["302003"], 0), ([], 1), (["12003"], 1)):
        exclude = trained_on.left_out(datasets.get("bsds500_train"), images, "here")
        found = judged(result, [("it", {"bsds500_train": exclude, "bsds500_test": []})])
        assert sum(bool(pair["trained_by"]) for pair in found["pairs"]) == leaking
        assert [(p["test"], p["test_image"], p["train_image"]) for p in found["pairs"]] == [
            ("set5", "woman", "302003")]
    with pytest.raises(UserError, match="'bsds500_train' has no image '302004'"):
        trained_on.left_out(datasets.get("bsds500_train"), ["302004"], "here")


@pytest.mark.mirror
@pytest.mark.slow
def test_the_berkeley_sets(get, tmp_path):
    """datasets.md: the test-100 images are in neither half of BSDS500; 68 of them are CBSD68."""
    tests = ("bsd68", "cbsd68", "bsd100")
    trained = [(train, test) for train in ("bsds500_train", "bsds500_test") for test in tests]
    same = [("bsd68", "cbsd68"), ("bsd100", "cbsd68"), ("bsds500_train", "set5"),
            ("photos_train", "photos")]
    result = leaks.check([*trained, *same], get, tmp_path)
    assert result["not_compared"] == []
    found = {}
    for pair in result["pairs"]:
        found.setdefault((pair["train"], pair["test"]), []).append(pair)
    assert set(found) == set(same[:3])
    assert len(found["bsd68", "cbsd68"]) == len(found["bsd100", "cbsd68"]) == 68
    assert all(p["distance"] < 0.01 for key in same[:2] for p in found[key])
    # Set5's woman is a photograph of BSDS500's training half
    woman, = found["bsds500_train", "set5"]
    assert (woman["test_image"], woman["train_image"]) == ("woman", "302003")
