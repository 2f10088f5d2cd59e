"""Result images that somebody else made: which picture belongs to which image of a set."""

import shutil

import pytest
import yaml
from PIL import Image

from irbench import plan
from irbench.core.errors import Damaged, Unavailable, UserError
from irbench.data import outputs, sets
from irbench.imaging import metrics
from irbench.imaging.images import crop_border, luma, read_image, write_png
from irbench.jobs import evaluate
from irbench.jobs.cells import images as cell_images
from irbench.jobs.run import do
from irbench.jobs.verify import Records, check
from irbench.report import collect
from irbench.report.facts import family
from tests.helpers import tiny
from tests.helpers.sets import images, make, photo


def entry(folder, names):
    images(folder / "set" / "hr", *names)
    return make(folder, local={"folder": "set", "hr": "hr/*.png"})


def matched(folder, entry, where):
    found, suffix = outputs.match(outputs.find(str(where)), sets.open_local(entry, folder))
    return {name: file.path.name for name, file in found.items()}, suffix


# -- names -------------------------------------------------------------------------------------

@pytest.mark.parametrize("suffix", ["", "x4", "_x2_SwinIR", ".restored"])
def test_the_names_may_end_with_one_suffix(tmp_path, suffix):
    known = entry(tmp_path, ["im1.png", "im10.png", "b.png"])
    images(tmp_path / "out", *(f"{name}{suffix}.png" for name in ("im10", "im1", "b", "other")))
    assert matched(tmp_path, known, tmp_path / "out") == (
        {name: f"{name}{suffix}.png" for name in ("b", "im1", "im10")}, suffix)


def test_a_pattern_chooses_among_several_suffixes(tmp_path):
    known = entry(tmp_path, ["a.png", "b.png"])
    images(tmp_path / "out", "a_x2.png", "b_x2.png", "a_x4.png", "b_x4.png")
    with pytest.raises(Unavailable, match="several pictures fit each image.*'_x2', '_x4'"):
        matched(tmp_path, known, tmp_path / "out")
    assert matched(tmp_path, known, tmp_path / "out" / "*_x4.png")[1] == "_x4"


def test_pictures_of_pairs_may_have_the_name_of_input_or_target_or_what_they_share(tmp_path):
    images(tmp_path / "set" / "in", "1_lq.png", "2_lq.png")
    images(tmp_path / "set" / "hr", "1_gt.png", "2_gt.png")
    known = make(tmp_path, match={"input": "_lq$", "hr": "_gt$"},
                 local={"folder": "set", "hr": "hr/*.png", "input": "in/*.png"})
    for i, name in enumerate(("{}_lq", "{}_gt", "{}", "{}_net")):
        images(tmp_path / f"out{i}", *(f"{name.format(n)}.png" for n in (1, 2)))
        assert matched(tmp_path, known, tmp_path / f"out{i}")[0] == {
            f"{n}_lq": f"{name.format(n)}.png" for n in (1, 2)}


def test_every_image_needs_its_picture(tmp_path):
    known = entry(tmp_path, ["a.png", "b.png", "c.png"])
    images(tmp_path / "out", "a_net.png", "c_net.png")
    with pytest.raises(Unavailable, match=r"1 images of 'mine' have no picture \(b\)"):
        matched(tmp_path, known, tmp_path / "out")


# -- cells -------------------------------------------------------------------------------------

KEY = "sr-x2@2/tinyset/theirs"


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A config whose model is a folder of pictures: 24x30, 30x26 and 28x28 (31 is cropped)."""
    monkeypatch.chdir(tmp_path)
    for i, size in enumerate([(24, 30), (30, 26), (28, 28)]):
        write_png(tmp_path / "theirs" / "tinyset" / "x2" / f"img{i}_x2_Net.png",
                  photo(i, *size) // 2 + 60)
    return tiny.make(
        tmp_path, models={"theirs": {"outputs": "theirs/{dataset}/{level}", "title": "Net"},
                          "bicubic": {}},
        cells=[{"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["theirs", "bicubic"]}])


def test_pictures_are_scored_as_a_models_are(world):
    planned = plan.load(world)
    found = evaluate.run(planned, planned.cells[KEY]).result
    for i, image in enumerate(found["images"]):
        picture = read_image(f"theirs/tinyset/x2/img{i}_x2_Net.png")
        target = read_image(f"images/test/img{i}.png")[:picture.shape[0], :picture.shape[1]]
        given, wanted = (crop_border(luma(one, rounded=False), 2) for one in (picture, target))
        assert image["psnr"] == pytest.approx(metrics.psnr(given, wanted))
        assert image["output"] == f"x2/img{i}_x2_Net.png"


def test_the_record_names_the_pictures_and_the_row_says_so(world):
    planned = plan.load(world)
    record = do(planned, planned.cells[KEY])
    assert record["resolved"]["outputs"] == {"path": "theirs/tinyset/x2", "files": 3,
                                             "suffix": "_x2_Net"}
    assert record["resolved"]["checkpoint"] == record["spec"]["model"]["checkpoint"]["sha256"]
    assert "given pictures" in planned.models["theirs"].note
    assert "sr-x2@2/theirs" not in planned.profiles


def test_a_changed_picture_makes_the_record_stale_and_verify_sees_it(world):
    planned = plan.load(world)
    job = planned.cells[KEY]
    do(planned, job)
    assert Records(planned).problem(job) is None
    write_png("theirs/tinyset/x2/img0_x2_Net.png", photo(9, 24, 30))
    assert any("result images" in one and "were altered" in one for one in check(planned))
    again = plan.load(world)
    assert "its result images (theirs/tinyset/x2) changed since" in (
        Records(again).problem(again.cells[KEY]))


@pytest.mark.parametrize(("size", "word"), [((31, 26), "31x26.*30x26"), ((15, 13), "15x13.*30x26")])
def test_a_picture_of_another_size_is_refused_by_name(world, size, word):
    write_png("theirs/tinyset/x2/img1_x2_Net.png", photo(1, *size))
    planned = plan.load(world)
    with pytest.raises(Damaged, match=f"img1_x2_Net.png.*{word}"):
        evaluate.run(planned, planned.cells[KEY])


def test_without_its_folder_the_cell_is_unavailable(world):
    shutil.rmtree("theirs")
    planned = plan.load(world)
    with pytest.raises(Unavailable, match="no images there"):
        evaluate.run(planned, planned.cells[KEY])


def test_gray_protocols_take_gray_pictures_even_in_a_colour_file(tmp_path):
    target = photo(1)[..., :1]
    colour = target.repeat(3, axis=-1)
    assert (cell_images.fitting(colour, target.shape) == target).all()
    with pytest.raises(UserError, match="has colours"):
        cell_images.fitting(photo(2), target.shape)


@pytest.mark.parametrize(("entry", "word"), [
    ({"outputs": "a", "options": {}}, "'options' does not apply to `outputs`"),
    ({"outputs": "a", "checkpoint": "b"}, "'checkpoint' does not apply"),
    ({"outputs": "a/{set}"}, "may only contain"),
    ({"outputs": "a", "published_as": "Nobodys"}, "unknown published method"),
])
def test_what_does_not_apply_is_refused(world, entry, word):
    config = yaml.safe_load(world.read_text())
    config["models"]["theirs"] = entry
    world.write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=word):
        plan.load(world)


def test_a_whole_disk_is_no_folder_of_results(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "MOST", 20)
    for number in range(7):
        images(tmp_path / "deep" / str(number), "a.txt.png", "b.png", "c.png")
    with pytest.raises(Unavailable, match="more than 20 files and folders lie below it. Correct"):
        outputs.find(str(tmp_path))
    assert outputs.altered(str(tmp_path), "0" * 64, str).startswith("cannot be read")
    assert len(outputs.find(str(tmp_path / "deep/1")).files) == 3


def test_pictures_that_lost_something_are_marked_in_their_row(world):
    for path in sorted(world.parent.glob("theirs/*/*/*.png"))[:2]:
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    planned = plan.load(world)
    job = planned.cells[KEY]
    record = do(planned, job)
    assert record["resolved"]["outputs"]["lossy"] == {"JPEG": 2}
    run = collect.collect(planned.folder, planned.report_spec)
    cell = next(one for one in run.cells if one.model == job.key["model"])
    assert family.circumstances(cell) == [
        "its pictures are compressed with loss (2 JPEG of 3), so they are not what the model "
        "returned"]


def test_pictures_that_serve_several_levels_are_marked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    levels = [f"denoise_color-sigma{sigma}" for sigma in (15, 50)]
    path = tiny.make(tmp_path, metrics=["psnr"], models={
        "one": {"outputs": "out"}, "each": {"outputs": "out/{level}"}}, cells=[
        {"protocol": level, "datasets": ["tinyset"], "models": ["one", "each"]}
        for level in levels])
    for sigma in (0, 15, 50):
        for image in (tmp_path / "images/test").glob("*.png"):
            write_png(tmp_path / "out" / (f"sigma{sigma}" if sigma else "") / image.name,
                      read_image(image) // 2 + sigma)
    planned = plan.load(path)
    for job in planned.cells.values():
        do(planned, job)
    cells = collect.collect(planned.folder, planned.report_spec).cells
    notes = {(cell.model, cell.level): family.circumstances(cell) for cell in cells}
    assert notes == {
        ("one", "sigma15"): ["the same pictures are scored as \N{GREEK SMALL LETTER SIGMA} = 50"],
        ("one", "sigma50"): ["the same pictures are scored as \N{GREEK SMALL LETTER SIGMA} = 15"],
        ("each", "sigma15"): [], ("each", "sigma50"): []}
