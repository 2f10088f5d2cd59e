"""What the page holds: vendored scripts as published, windows of the slider, room, sort keys."""

import base64
import hashlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from irbench.present.table import Row, Value
from irbench.report import collect
from irbench.report.page import comparisons, embed, page
from irbench.report.plots import crops
from tests.helpers import report_fixtures as fixtures

# -- scripts -------------------------------------------------------------------------------------

def test_vendored_files_are_the_published_ones():
    listed = re.findall(r"^\| (\S+) \| (\S+) \| (\S+) \| .*\((\S+)\) .*\| ([0-9a-f]{64}) \|$",
                      (embed.ASSETS / "README.md").read_text(), re.M)
    ours = {"page.js", "head.js"}
    assert {name for name, *_ in listed} == set(embed.SCRIPTS) - ours
    for name, _, version, licence, digest in listed:
        assert hashlib.sha256((embed.ASSETS / name).read_bytes()).hexdigest() == digest, name
        assert re.fullmatch(r"\d+\.\d+\.\d+", version) and (embed.ASSETS / licence).is_file()
    assert {path.name for path in embed.ASSETS.glob("*.js")} == set(embed.SCRIPTS)


def test_scripts_can_stand_in_a_page():
    for text in embed.scripts():
        assert "</script" not in text and "<!--" not in text and "sourceMappingURL" not in text
        assert not re.search(r"https?://(?!www\.w3\.org/)", text)
    ours = (embed.ASSETS / "page.js").read_text()
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|innerHTML|eval\(", ours)
    assert len(ours) < 16_000


# -- pictures ------------------------------------------------------------------------------------

def save(folder, stem, size, sizes=(0, 0)):
    (folder / "figures").mkdir(exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (size, 2 * size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / f"figures/{stem}.png")
    for kind, length in zip(("pdf", "svg"), sizes, strict=True):
        if length:
            (folder / f"figures/{stem}.{kind}").write_bytes(
                np.random.default_rng(length).bytes(length))
    return (folder / f"figures/{stem}.png").stat().st_size


def test_drawings_keep_both_vector_forms_and_photographs_the_pdf_while_there_is_room(tmp_path):
    save(tmp_path, "drawing", 20, (1000, 1000))
    save(tmp_path, "small", 20, (300_000, 300_000))
    save(tmp_path, "large", 20, (400_000, 400_000))
    stems = ["large", "small", "drawing"]
    taken = embed.LIMIT - 450_000               # room for the smaller one
    found = embed.pictures(tmp_path, stems, taken)
    assert list(found) == stems and all(one.src for one in found.values())
    assert [one.label for one in found["drawing"].vectors] == ["SVG", "PDF"]
    assert [one.label for one in found["small"].vectors] == ["PDF"]
    assert found["large"].vectors == [] and found["large"].left_out == 0.4
    assert [one.label for one in embed.pictures(tmp_path, stems)["large"].vectors] == ["PDF"]


def test_of_what_the_page_shows_otherwise_only_vector_forms_are_inside(tmp_path):
    save(tmp_path, "crops", 20, (1000, 1000))
    found = embed.pictures(tmp_path, ["crops"], shown={"crops"})["crops"]
    assert found.src == "" and [one.label for one in found.vectors] == ["SVG", "PDF"]


def test_the_same_files_give_the_same_bytes(tmp_path):
    save(tmp_path, "one", 30, (2000, 2000))
    assert embed.pictures(tmp_path, ["one"]) == embed.pictures(tmp_path, ["one"])
    assert embed.tables(tmp_path, "none") == [] and embed.summary(tmp_path) is None


# -- the slider ----------------------------------------------------------------------------------

@given(st.data())
def test_a_region_holds_the_window_and_stays_in_the_image(data):
    step = data.draw(st.integers(1, 4))
    length = data.draw(st.integers(24, 900))
    side = data.draw(st.integers(1, min(96, length) // step)) * step if length >= step else step
    start = data.draw(st.integers(0, (length - side) // step)) * step
    wanted = data.draw(st.sampled_from(comparisons.SIDES))
    first, taken = comparisons.region(start, side, length, wanted, step)
    assert first % step == 0 and taken % step == 0
    assert 0 <= first <= start and start + side <= first + taken <= length
    assert taken <= max(wanted, side)
    if length <= wanted:
        assert (first, taken) == (0, length - length % step)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(32, 800), st.integers(32, 800),
                          st.integers(2, 6)), max_size=9), st.integers(0, 3_000_000))
def test_room_is_kept_and_every_task_has_a_comparison(ones, pixels):
    tasks = [task for task, *_ in ones]
    sizes = [((height, width), versions) for _, height, width, versions in ones]
    side, kept = comparisons.room(tasks, sizes, pixels)
    used = sum(min(h, side) * min(w, side) * n for (h, w), n in (sizes[i] for i in kept))
    assert kept == sorted(kept) and {tasks[i] for i in kept} == set(tasks)
    if len(kept) < len(ones):
        assert side == comparisons.SIDES[-1]
    if used > pixels:               # only for the sake of one per task
        assert side == comparisons.SIDES[-1] and len(kept) == len(set(tasks))
    wider = comparisons.SIDES[max(comparisons.SIDES.index(side) - 1, 0)]
    if ones and wider != side:
        assert sum(min(h, wider) * min(w, wider) * n for (h, w), n in sizes) > pixels


def test_all_versions_show_the_same_region(tmp_path, monkeypatch):
    builder = fixtures.Builder(tmp_path)
    builder.dataset("photos", "Photos", 1)
    builder.model("bicubic", "Bicubic", learned=False)
    builder.model("compacter", "Compacter")
    pixels = np.random.default_rng(1).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    for part, image in (("_target", pixels), ("_input", pixels[::2, ::2]),
                        ("bicubic", pixels // 2), ("compacter", pixels)):
        builder.image("sr-x2@1", "photos", part, "image0", image)
    for model, psnr in (("bicubic", 30.0), ("compacter", 33.3)):
        builder.cell("sr-x2@1", "photos", model, {"psnr": [psnr], "ssim": [0.9]}, kept=True)
    run = collect.collect(tmp_path, builder.plan)
    monkeypatch.setattr(comparisons, "PIXELS", 4 * 128 * 128)
    found = crops.comparisons(run)
    (one,), left_out = comparisons.build(run, found)[0]["sr"], comparisons.build(run, found)[1]
    assert left_out == [] and (one["width"], one["height"]) == (128, 128)
    assert [v["label"] for v in one["versions"]] == ["Input", "Bicubic", "Compacter", "Target"]
    assert one["first"] == [0, 2] and one["versions"][2]["scores"] == "PSNR 33.30 dB, SSIM 0.9000"
    top, left = map(int, re.search(r"row (\d+), column (\d+)", one["note"]).groups())
    here = pixels[top:top + 128, left:left + 128]
    small, _, best, target = [decoded(version["src"]) for version in one["versions"]]
    assert np.array_equal(target, here) and np.array_equal(best, here)
    assert np.array_equal(small, here[::2, ::2])
    monkeypatch.setattr(comparisons, "PIXELS", 10**7)
    (whole,) = comparisons.build(run, found)[0]["sr"]
    assert "the whole image" in whole["note"] and whole["width"] == 400


def decoded(src):
    with Image.open(io.BytesIO(base64.b64decode(src.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"))


def test_comparisons_that_find_no_room_are_named(tmp_path, monkeypatch):
    builder = fixtures.Builder(tmp_path)
    builder.model("compacter", "Compacter")
    for name in ("set5", "set14"):
        builder.dataset(name, name.capitalize(), 1)
        pixels = np.zeros((200, 200, 3), np.uint8)
        for part in ("_target", "_input", "compacter"):
            builder.image("denoise_color-sigma25@1", name, part, "image0", pixels)
        builder.cell("denoise_color-sigma25@1", name, "compacter",
                     {"psnr": [30.0], "ssim": [0.9]}, kept=True)
    monkeypatch.setattr(comparisons, "PIXELS", 3 * 96 * 96)
    run = collect.collect(tmp_path, builder.plan)
    made, left_out, lead = comparisons.build(run, crops.comparisons(run))
    assert [one["lead"] for one in made["denoise_color"]] == [True]
    assert lead == "crops-denoise_color-sigma25@1-set5"     # the other one is not on the page
    assert "denoise_color-sigma25@1 on Set14" in left_out[0]


# -- sorting -------------------------------------------------------------------------------------

@pytest.mark.parametrize(("shown", "number"), [
    ("392 K", 392e3), ("11.87 M", 11.87e6), ("12 min", 720.0), ("3.4 h", 12240.0), ("41 s", 41.0),
    ("210 ms", 0.21), ("1.50 GiB", 1.5 * 2**30), ("0.70\u00d7", 0.7), ("7 %", 7.0),
    ("-0.31", -0.31), ("\u22120.31", -0.31), ("+0.018", 0.018), ("1e-05", 1e-5), ("3,600", 3600.0),
    ("3\u202f600", 3600.0), ("28 800", 28800.0), ("2 / 3", 2.0)])
def test_a_shown_number_is_sorted_by_its_size(shown, number):
    assert float(page.key(Value(shown))) == pytest.approx(number)


def test_unknown_has_no_key_and_words_sort_as_words():
    assert page.key(Value("n/a")) == page.key(Value("\u2013")) == page.key(Value("")) == ""
    assert page.key(Value("mask")) == "mask"


def test_a_row_that_goes_on_takes_over_what_it_leaves_empty():
    rows = [Row([Value(first)], [Value(second), Value(third)])
            for first, second, third in ("a1x", ["", "", "y"], ["b", "", "z"])]
    assert [[(value.shown, again) for value, again in row] for _, row in page.carried(rows)] == [
        [("a", False), ("1", False), ("x", False)], [("a", True), ("1", True), ("y", False)],
        [("b", False), ("", False), ("z", False)]]


def test_outdated_cells_are_counted_and_warned_of(tmp_path):
    builder = fixtures.small_run(tmp_path)
    run = collect.collect(tmp_path, builder.plan)
    old = Path(run.cells[0].path)
    builder.plan["fingerprints"] = {str(old): "0" * 64}
    run = collect.collect(tmp_path, builder.plan)
    assert run.cells[0].status == "outdated" and "outdated" in page.STATUS
    assert any("1 cell is outdated" in sentence for sentence in page.warnings(run, []))
