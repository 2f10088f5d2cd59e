"""The page and the whole build: self-contained, escaped, the same bytes for the same records."""

import base64
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from irbench import report
from irbench.core import digests, machine
from irbench.report import collect
from irbench.report.page import embed, page, provenance
from irbench.report.plots import crops
from irbench.report.tables import tables
from tests.helpers import report_fixtures as fixtures
from tests.helpers.pages import Reader, files
from tests.helpers.paths import ROOT
from tests.helpers.report_papers import papers_run

SCRIPT = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A run with images, and the files of its report."""
    builder = fixtures.small_run(tmp_path_factory.mktemp("run"))
    for image in ("image0", "image1"):
        for part, level in (("_target", 0), ("_input", 3), ("input", 3), ("compacter", 1)):
            pixels = (np.indices((48, 64)).sum(axis=0) * (level + 1) % 256)
            builder.image("denoise_color-sigma25@1", "photos", part, image,
                          np.repeat(pixels[..., None], 3, axis=2).astype("uint8"))
    kept = builder.plan["cells"].copy()
    builder.plan["cells"] = [c for c in kept if not c["protocol"].startswith("denoise")]
    for model, psnr in (("input", [20.2, 20.3]), ("compacter", [29.2, 29.5])):
        builder.cell("denoise_color-sigma25@1", "photos", model,
                     {"psnr": psnr, "ssim": [0.4, 0.42]}, kept=True)
    builder.plan["formats"] = ["pdf", "svg"]
    (builder.folder / "tables").mkdir()
    for stale in ("tables/deblur.md", "figures/crops-old@1-set5.png"):
        (builder.folder / stale).parent.mkdir(exist_ok=True)
        (builder.folder / stale).write_text("of an earlier plan")
    progress = []
    path = report.build(builder.folder, builder.plan, progress.append)
    assert path == builder.folder / "report.html"
    assert any("cells" in line for line in progress) and progress[-1].endswith("report.html")
    first = files(builder.folder)
    return builder, first


@pytest.fixture(scope="module")
def reader(built):
    return Reader(built[1]["report.html"].decode())


@pytest.mark.slow
def test_the_same_records_give_the_same_bytes(built):
    """Also in a process with another hash seed and time zone."""
    builder, first = built
    # sorted keys: the order of a plan's models must not matter
    (builder.folder / "plan.json").write_text(digests.canonical(builder.plan))
    code = ("import json, pathlib, sys; from irbench import report; f = pathlib.Path(sys.argv[1]);"
            "report.build(f, json.loads((f / 'plan.json').read_text()))")
    subprocess.run([sys.executable, "-c", code, str(builder.folder)], check=True, cwd=ROOT,
                   env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"})
    second = files(builder.folder)
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []


def test_what_is_written(built):
    names = set(built[1])
    assert names == {
        "summary.csv", "report.html",
        *(f"tables/{stem}.{kind}" for stem in ("sr", "sr_light", "denoise_color", "verdicts",
                                            "training", "efficiency", "profiles", "operations")
          for kind in ("md", "tex", "csv")),
        *(f"figures/{stem}.{kind}" for stem in (
            "quality", "latency", "distributions", "training",
            "crops-denoise_color-sigma25@1-photos")
          for kind in ("png", "pdf", "svg"))}


def test_the_page_asks_nothing_of_the_network(built, reader):
    source = built[1]["report.html"].decode()
    for tag, name, value in reader.attributes:
        if name in ("src", "srcset", "data", "action", "poster"):
            assert value.startswith("data:"), (tag, name, value[:60])
        if name == "href":
            assert value.startswith(("#", "data:")), value
        assert name != "action" and not name.startswith("on"), (tag, name)
    style = re.search(r"<style>(.*?)</style>", source, re.S)[1]
    assert "url(" not in style and "@import" not in style
    assert not {"iframe", "object", "embed", "form", "base"} & set(reader.tags)
    assert reader.tags.count("link") == 1       # the empty icon
    assert "sourceMappingURL" not in source
    pictures = re.findall(r'src="data:image/webp;base64,([^"]+)"', source)
    assert len(pictures) > sum(name.endswith(".png") for name in built[1]) > 3
    assert all(base64.b64decode(p, validate=True).startswith(b"RIFF") for p in pictures)


def test_the_policy_allows_these_scripts_and_no_request(built, reader):
    source = built[1]["report.html"].decode()
    policy = next(value for tag, name, value in reader.attributes
                  if (tag, name) == ("meta", "content") and "default-src" in value)
    assert policy.startswith("default-src 'none'; ") and "http" not in policy
    run = re.findall(r"<script>(.*?)</script>", source, re.S)
    assert run == list(embed.scripts()) and reader.tags.count("script") == len(run) + 2
    for text in run:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_links_inside_the_page_arrive(reader):
    assert len(reader.ids) == len(set(reader.ids))
    for _, name, value in reader.attributes:
        if name == "href" and value.startswith("#"):
            assert value[1:] in reader.ids, value


def test_every_file_is_inside(built, reader):
    """Tables and summary byte for byte; plots with their pixels, their PDF and their SVG."""
    files = built[1]
    inside = {}
    for one in reader.links():
        if one.get("href", "").startswith("data:"):
            inside[one["download"]] = base64.b64decode(one["href"].partition("base64,")[2])
        elif "data-packed" in one:
            inside[one["download"]] = gzip.decompress(base64.b64decode(one["data-packed"]))
    names = {name.partition("/")[2] or name: name for name in files
             if name != "report.html" and not name.endswith(".png")}
    assert set(inside) == set(names)
    for name, path in names.items():
        assert inside[name] == files[path], name
    pictures = re.findall(r'class="picture"[^>]*><img src="(data:image/webp[^"]+)"',
                          files["report.html"].decode())
    stems = [one["download"].removesuffix(".png") for one in reader.links() if "data-png" in one]
    for stem, src in zip(stems, pictures, strict=True):
        assert np.array_equal(pixels(base64.b64decode(src.partition(",")[2])),
                              pixels(files[f"figures/{stem}.png"])), stem
    assert {f"figures/{stem}.png" for stem in stems} == {
        name for name in files if name.endswith(".png") and "crops" not in name}


def test_crops_are_the_pixels_of_the_window(built):
    """The window of each version without loss, its error map in the colours of the figure."""
    builder, written = built
    run = collect.collect(builder.folder, builder.plan)
    one, = crops.comparisons(run)
    source = written["report.html"].decode().partition('<div class="tiles"')[2]
    whole, *shown = [pixels(base64.b64decode(src)) for src in re.findall(
        r'src="data:image/webp;base64,([^"]+)"', source.partition("</figure>")[0])]
    assert whole.shape == (48, 64, 3)
    made = crops.tiles(one)
    target = made[-1].crop.astype(int)
    for tile in made[:-1]:
        crop, errors = shown.pop(0), shown.pop(0)
        assert np.array_equal(crop, tile.crop)
        apart = np.abs(crop.astype(int) - target).mean(axis=2).ravel()
        luma = (errors @ (0.2126, 0.7152, 0.0722)).ravel()[np.argsort(apart, kind="stable")]
        assert apart.max() > 0 and (np.diff(luma) > -2).all()   # the larger the brighter
    assert np.array_equal(shown[0], target) and "preview of at most 480 pixels" in source


def pixels(content):
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def data(source, name):
    return json.loads(re.search(rf'id="{name}">(.*?)</script>', source, re.S)[1])


def test_every_figure_has_an_origin(built, reader):
    folder, source = built[0].folder, built[1]["report.html"].decode()
    known = data(source, "origins")
    links = [one for one in reader.links() if one.get("class") == "origin"]
    assert links and all(one["href"][1:] in known["origins"] for one in links)

    def facts(anchor):
        return {known["terms"][term][0]: known["texts"][detail]
                for term, detail in known["origins"][anchor]["facts"]}

    measured = next(one for one in links if "PSNR 35.5 dB" in one.get("data-figure", "")
                    and "on Photos" in known["origins"][one["href"][1:]]["title"])
    origin = facts(measured["href"][1:])
    path = "cells/sr-x2@1/photos/compacter.json"
    record = fixtures.records.read(folder / path)
    assert origin["Record"] == f"results/demo/{path}"
    assert origin["Status"] == "ok" and origin["Protocol"].startswith("sr-x2@1: ")
    assert origin["Fingerprint of its inputs"] == record["fingerprint"]
    assert origin["Commit"].startswith(record["provenance"]["git"]["commit"])
    assert origin["Command"] == ("irbench eval --config CONFIG --protocol sr-x2@1 --dataset photos "
                               "--model compacter")
    assert "sr-x2@1" in origin["Weights"] and "90 steps" not in origin["Training"]
    assert known["origins"][measured["href"][1:]]["rows"] == [
        ["image0", "35.00", "0.9500", "0.1000"], ["image1", "36.00", "0.9510", "0.1200"]]
    printed = next(one for one in links if "as printed" in one.get("data-figure", ""))
    assert "Source" in facts(printed["href"][1:])
    assert printed["href"].startswith("#source-")


def test_the_command_of_a_record_names_the_runs_config_if_it_is_kept(tmp_path):
    builder = fixtures.small_run(tmp_path)
    run = collect.collect(tmp_path, builder.plan)
    (tmp_path / "config.json").write_text("{}")
    commands = [provenance.command(run, job) for job in (
        run.cells[0], run.trainings["sr-x2@1", "semanir"], run.profiles["sr-x2@1", "compacter"])]
    start = "--config results/demo/config.json --protocol sr-x2@1"
    assert commands == [f"irbench eval {start} --dataset photos --model bicubic",
                    f"irbench train {start} --model semanir",
                    f"irbench profile {start} --model compacter --threads 1"]


def test_pictures_have_words_and_regions_have_names(built, reader):
    alts = [value for tag, name, value in reader.attributes if (tag, name) == ("img", "alt")]
    alts = [alt for alt in alts if alt]             # the slider's two get theirs with their images
    assert len(alts) > sum(name.endswith(".png") for name in built[1])
    assert all(len(alt) > 10 for alt in alts)
    assert reader.tags.count("main") == reader.tags.count("h1") == 1
    scrolled = reader.text.count("x")       # the text was read at all
    assert scrolled and ("html", "lang", "en") in reader.attributes


def test_what_the_page_says(built, reader):
    for part in ("come from papers", "reproductions from their published description",
                 "trained here for 90 steps", "unavailable: weights tiny.pt", "not computed",
                 "no LPIPS weights here", "ran out of memory", "zero padding",
                 "Published values (not measured here)", "no such file"):
        assert part in reader.text, part
    provenance = reader.text[reader.text.index("Provenance", 400):]
    record = fixtures.records.read(built[0].folder / "cells/sr-x2@1/set5/semanir.json")
    for part in (record["fingerprint"], "cells/sr-x2@1/set5/semanir.json", "forward 1.25 s",
                 f"irbench {record['provenance']['irbench']}",
                 record["provenance"]["packages"]["numpy"],
                 record["provenance"]["python"]):
        assert part in provenance, part


def test_best_and_second_are_marked(built):
    source = built[1]["report.html"].decode()
    assert "<strong>38.63</strong>" in source and "<u>38.61</u>" in source


def test_counts(reader, built):
    cells = collect.collect(built[0].folder, built[0].plan).cells
    for status, label in page.STATUS.items():
        count = sum(c.status == status for c in cells)
        assert (f"{label} {count}" in reader.text) == bool(count or status == "ok")


def test_stale_files_are_gone(built):
    assert not {"tables/deblur.md", "figures/crops-old@1-set5.png"} & set(built[1])


def test_what_a_killed_report_left_is_gone(tmp_path):
    builder = fixtures.Builder(tmp_path / "run")
    builder.dataset("set5", "Set5", 1)
    builder.model("a", "A")
    builder.cell("sr-x2@1", "set5", "a", {"psnr": [33.0], "ssim": [0.9]})
    left = [builder.folder / name for name in (
        ".report.html.0a1b2c3d.html", "tables/.old.md.0a1b2c3d.md",
        "figures/.old.png.a_1b2c3d.png")]
    for path in left:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("half of it")
    report.build(builder.folder, builder.plan)
    assert not any(path.exists() for path in left)
    assert not list(builder.folder.rglob(".*.*.*"))


def hostile(folder):
    builder = fixtures.Builder(folder, run=f"run {SCRIPT}")
    builder.plan["title"] = f'"{SCRIPT}'
    builder.dataset("set5", f"Set5 {SCRIPT}", 1)
    builder.model("a", f"A {SCRIPT}", note=f"note {SCRIPT} \"'>")
    builder.model("b", "B")
    builder.cell("sr-x2@1", "set5", "a", {"psnr": [33.0], "ssim": [0.9]})
    builder.cell("sr-x2@1", "set5", "b", status="failed", reason=f'"><img src=x {SCRIPT}')
    builder.profile("sr-x2@1", "a", {"device_name": SCRIPT, "uncounted": {SCRIPT: 3}})
    builder.training("sr-x2@1", "a", {"device_name": SCRIPT})
    builder.plan["protocols"]["sr-x2@1"] = {**builder.plan["protocols"]["sr-x2@1"],
                                            "title": SCRIPT}
    return builder


@pytest.mark.formats
def test_nothing_a_user_wrote_becomes_markup(tmp_path):
    builder = hostile(tmp_path)
    source = report.build(builder.folder, builder.plan).read_text()
    reader = Reader(source)
    assert reader.tags.count("script") == len(embed.scripts()) + 2
    assert "<script>alert" not in source and SCRIPT[:-1] not in source
    assert reader.text.count("alert('x')") >= 6
    assert all(value.startswith("data:") for _, name, value in reader.attributes if name == "src")
    for path in (tmp_path / "tables").glob("*.md"):
        assert "<script" not in path.read_text()


def test_a_run_without_any_record(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.dataset("set5", "Set5", 1)
    builder.model("a", "Model A")
    builder.cell("sr-x2@1", "set5", "a", write=False)
    builder.plan["profiles"] = builder.plan["trainings"] = [{"protocol": "sr-x2@1", "model": "a"}]
    reader = Reader(report.build(tmp_path, builder.plan).read_text())
    assert "not computed" in reader.text and "compare" not in [v for _, _, v in reader.attributes]
    assert "No record was found" in reader.text
    assert "No latency plot" in reader.text
    assert not list((tmp_path / "figures").iterdir())


def test_records_made_outside_a_git_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_git", lambda: None)
    builder = fixtures.Builder(tmp_path)
    builder.dataset("set5", "Set5", 1)
    builder.model("a", "Model A")
    builder.cell("sr-x2@1", "set5", "a", {"psnr": [33.0], "ssim": [0.9]})
    reader = Reader(report.build(tmp_path, builder.plan).read_text())
    assert "commit not recorded" in reader.text


def test_an_empty_plan(tmp_path):
    reader = Reader(report.build(tmp_path, {"run": "empty"}).read_text())
    assert "no table" in reader.text and not list((tmp_path / "tables").iterdir())


def test_warnings_of_mixed_origins(tmp_path):
    run = collect.collect(tmp_path, fixtures.small_run(tmp_path).plan)
    base = {"irbench": "1", "git": {"commit": "a" * 40, "dirty": True}, "python": "3",
            "packages": {"torch": "2.0"}, "hardware": {"cpu": "one", "cores": 2}}
    other = {**base, "git": {"commit": "b" * 40, "dirty": False}, "packages": {"torch": "2.1"},
             "hardware": {"cpu": "two"}}
    for job, source in zip(run.cells, (base, other), strict=False):
        job.record["provenance"] = {**source, "time": "2026-01-01T00:00:00+00:00", "threads": 1}
    groups = provenance.groups(run.cells[:2])
    sentences = " ".join(page.warnings(run, groups))
    for part in ("more than one commit: aaaaaaaaaaaa, bbbbbbbbbbbb", "uncommitted changes",
                 "different versions of: torch", "2 machines", "2 of 12 cells have no result"):
        assert part in sentences, part
    assert len(groups) == 2 and groups[0]["machine"] == "one, 2 cores"
    same = page.warnings(run, provenance.groups(run.cells[:1]))
    assert not any("more than one commit" in s or "machines" in s for s in same)


@pytest.mark.slow
@pytest.mark.formats
def test_formats_that_nobody_asks_for_any_more_are_removed(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.dataset("set5", "Set5", 2)
    for model in "ab":
        builder.model(model, model.upper())
        builder.cell("sr-x2@1", "set5", model, {"psnr": [33.0, 34.0], "ssim": [0.9, 0.9]})
    for formats, kinds in ((["svg", "pdf"], {"png", "svg", "pdf"}), ([], {"png"})):
        page = report.build(tmp_path, builder.plan | {"formats": formats})
        assert {path.name for path in (tmp_path / "figures").iterdir()} == {
            f"distributions.{kind}" for kind in kinds}
        inside = {one.get("download") for one in Reader(page.read_text()).links()}
        assert {f"distributions.{kind}" for kind in kinds} == {
            name for name in inside if name and name.startswith("distributions")}


def test_importing_the_stage_imports_no_figures():
    code = ("import irbench.report, sys; "
            "sys.exit(bool({'matplotlib', 'seaborn', 'torch', 'pandas'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_figure_is_there_as_soon_as_its_page(built):
    page = built[1]["report.html"].decode()
    # one decoded later leaves an empty box when a page is opened, and on a picture of it
    assert "<img" in page and 'decoding="async"' not in page and 'loading="lazy"' not in page


@pytest.mark.slow
def test_the_best_of_a_set_names_who_shares_its_rank(tmp_path):
    build = papers_run(tmp_path)
    source = report.build(tmp_path, build.plan).read_text()
    run = collect.collect(tmp_path, build.plan)
    found = page.headline(run, tables.build(run))
    alike = {(one["column"].protocol, one["column"].dataset): (one["row"].name, one["alike"])
             for one in found}
    # Compacter wins on some images and loses on others; bicubic always loses, but eight images are
    # too few for the correction of so many comparisons
    assert alike["sr-x2@1", "urban100"] == ("SwinIR", ["Compacter"])
    unsure = {one["unsure"] for one in found if one["column"].dataset == "urban100"}
    assert "not separable with 8 images" in unsure
    assert "over Bicubic, not separable with 8 images</small>" in source
    for others in {tuple(others) for _, others in alike.values() if others}:
        words = f"not significantly better than {', '.join(others)}</small>"
        assert source.count(words) == sum(tuple(one) == others for _, one in alike.values())
    assert "without a significant difference to the best" in source


@pytest.mark.slow
def test_heads_and_coverage_on_the_page_are_those_of_the_files(tmp_path):
    build = papers_run(tmp_path)
    source = report.build(tmp_path, build.plan).read_text()
    for table in tables.build(collect.collect(tmp_path, build.plan)):
        *groups, last = table.headings()
        head = source.partition(f'id="table-of-{table.anchor}"')[2].partition("</thead>")[0]
        found = re.findall(r'<th [^>]*colspan="(\d+)"[^>]*>(.*?)</th>', head)
        assert found == [(str(width), label) for row in groups for label, width in row]
        assert re.findall(r'<th scope="col" data-set[^>]*>(.*?)</th>', head) == [
            label for label, _ in last]
