"""Snakemake's own report: which table and row a file gets, and the page in a browser."""

import html
import json
import re
import shutil
import subprocess
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from irbench import cli, plan, snakefile
from irbench.jobs import outcome
from irbench.snakefile import rows as labelled
from tests.helpers import tiny
from tests.helpers.workflow import snakemake

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# what a reader does: open every table, then the description of every file
READER = """<script>
const seen = [], wrong = [];
window.addEventListener("error", event => wrong.push(event.message));
console.error = (...words) => wrong.push(words.join(" "));
window.addEventListener("load", async () => {
  const show = async act => { act(); await new Promise(done => setTimeout(done, 20)); };
  while (!app) await show(() => {});
  for (const [category, tables] of Object.entries(categories))
    for (const [table, files] of Object.entries(tables)) {
      await show(() => app.setView({navbarMode: "menu"}));
      await show(() => app.setView({navbarMode: "subcategory", category, subcategory: table}));
      const rows = [...document.querySelectorAll("tbody tr")].map(row =>
        [...row.children].map(value => value.textContent.trim())).filter(row => row.join(""));
      seen.push({category, table, files: files.length, rows});
    }
  for (const path of Object.keys(results)) await show(() => app.showResultInfo(path));
  const page = document.createElement("pre");
  page.id = "seen";
  page.textContent = JSON.stringify({seen, wrong, captions: results});
  document.body.appendChild(page);
});
</script>"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two sets and three models, two without weights, made without Snakemake.

    Of the columns of the cells only the sets' would be a switch, and no row has a counterpart.
    """
    folder = tmp_path_factory.mktemp("world")
    models = {"bicubic": {}, **{
        name: {"arch": "tiny", "checkpoint": f"{name}</script>.safetensors", "profile": False}
        for name in ("late", "later")}}
    config = tiny.make(folder, metrics=["ssim"], keep_images=False, models=models, cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset", "tinytoo"], "models": list(models)}])
    catalog = yaml.safe_load((folder / "datasets.yaml").read_text())
    catalog["datasets"]["tinytoo"] = catalog["datasets"]["tinyset"] | {
        "title": "Tiny too", "local": {"folder": "images/train"}}
    (folder / "datasets.yaml").write_text(yaml.safe_dump(catalog))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        common = ["--config", str(config), "--on-failure", "record"]
        for dataset in ("tinyset", "tinytoo"):
            assert cli.main(["data", "fetch", dataset, *common]) == 0
            for model in models:
                assert cli.main(["eval", "--protocol", "sr-x2", "--dataset", dataset,
                                 "--model", model, *common]) == 0
        assert cli.main(["report", "--config", str(config)]) == 0
    return folder


@pytest.mark.slow
def test_every_record_has_a_row_of_its_task(world, monkeypatch):
    monkeypatch.chdir(world)
    run = plan.load("config.yaml")
    rows = {key: snakefile.labels(run, "cells", key.split("/")) for key in run.cells}
    assert all(list(row) == ["task", "level", "dataset", "model", "result"]
               for row in rows.values())
    good, late = (rows[f"sr-x2@2/tinytoo/{model}"] for model in ("bicubic", "late"))
    assert [good[name].rstrip() for name in ("task", "level")] == ["sr", "x2"]
    assert re.fullmatch(r"SSIM 0\.\d{4}", good["result"])
    assert late["result"].startswith("n/a: checkpoint late(/script).safetensors: no such file")
    assert snakefile.subcategory(run, "cells", ["sr-x2@2", "tinyset", "late"]) == "sr"
    assert snakefile.labels(run, "data", ["tinytoo"]) == {
        "data": "tinytoo", "run": "tiny\u00a0", "result": "3 images\u00a0"}
    assert snakefile.subcategory(run, "data", ["tinytoo"]) == "data"


@pytest.mark.slow
def test_a_file_says_which_task_level_and_set_it_is_about(world, monkeypatch, tmp_path):
    monkeypatch.chdir(world)
    run = plan.load("config.yaml")
    for name in ("crops-sr-x2@2-tinyset", "crops-sr-x2@2-tinytoo", "latency", "scaling-sr",
                 "training"):
        (tmp_path / f"{name}.png").touch()

    def row(name):
        return [value.rstrip() for value in
                snakefile.file_labels(run, tmp_path, name, "png").values()]

    assert row("crops-sr-x2@2-tinytoo") == ["crops-sr-x2@2-tinytoo", "sr", "x2", "tinytoo"]
    assert row("scaling-sr") == ["scaling-sr", "sr", "all", "all"]
    assert row("latency") == ["latency", "all", "all", "all"]
    marked = [name for name in ("latency", "scaling-sr", "training") if labelled.MARK in
              snakefile.file_labels(run, tmp_path, name, "png")["task"]]
    assert marked == ["training"]
    assert snakefile.drawing("crops-sr-x2@2-tinyset") != snakefile.drawing("latency")


@pytest.mark.parametrize(("kind", "result", "words"), [
    ("cell", {"mean": {"psnr": 30.126, "ssim": 0.91234, "lpips": None}},
     "PSNR 30.13 dB, SSIM 0.9123"),
    ("cell", {"mean": {"psnr": None}}, "no metric"),
    ("profile", {"parameters": 392220, "macs": 8695578624}, "392.2 k parameters, 8.70 GMACs"),
    ("profile", {"parameters": 600, "macs": None}, "0.6 k parameters"),
    ("profile", {"parameters": None, "macs": None}, "neither parameters nor MACs are known"),
    ("training", {"steps": 120, "final_loss": 0.03}, "120 steps, final loss 0.0300"),
    ("bench", {"rows": [1, 2]}, "2 rows"),
    ("leaks", {"pairs": []}, "0 pairs of equal or similar images"),
    ("leaks", {"pairs": [{}], "not_compared": [{"train": "a", "test": t, "reason": "gone"}
                                               for t in ("b", "b", "c")]},
     "1 pair of equal or similar images; not compared: a with b, a with c (the report says why)"),
])
def test_a_result_has_its_unit_and_what_is_unknown_is_left_out(kind, result, words):
    assert outcome.OUTCOMES[kind](result) == words


def test_no_reason_breaks_the_page_or_a_wildcard():
    row = labelled._row({"result": "n/a: options {'k': 3}\nnext</script>" + "x " * 200,
                                 "other": "a"}, last=False)
    assert row["result"].startswith("n/a: options ('k': 3) next(/script)x x")
    assert row["result"].endswith(" ...") and len(row["result"]) <= labelled.LONGEST


@given(st.lists(st.tuples(*[st.sampled_from("abc")] * 4), min_size=1, max_size=8, unique=True))
def test_no_column_becomes_a_switch(table):
    """What Snakemake 9.27 makes a switch of, as its abstract_results.js says."""
    rows = [list(labelled._row(dict(enumerate(values)), last=not place).values())
            for place, values in enumerate(table)]
    switches = []
    for column in list(zip(*rows, strict=True))[1:]:
        counts = Counter(column)
        if len(counts) == 2 and set(counts.values()) == {len(rows) / 2}:
            switches.append(column)
    assert len(switches) != 1


@pytest.mark.slow
def test_the_report_as_an_archive_also_with_cells_that_are_unavailable(world):
    code, output = snakemake(world, "--configfile", str(world / "config.yaml"),
                             "--report", "own.zip")
    assert code == 0, output
    with zipfile.ZipFile(world / "own.zip") as archive:
        names = [Path(name).name for name in archive.namelist()]
    assert {"report.html", "summary.csv", "late.json", "sr.csv", "sr.md", "sr.tex"} <= set(names)
    assert names.count("late.json") == names.count("later.json") == 2


@pytest.mark.browser
@pytest.mark.slow
def test_every_table_of_the_page_opens(world, tmp_path):
    if not CHROMIUM:
        pytest.skip("no Chromium")
    code, output = snakemake(world, "--configfile", str(world / "config.yaml"),
                             "--report", "own.html")
    assert code == 0, output
    text = (world / "own.html").read_text()
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="http', text)
    (tmp_path / "own.html").write_text(text.replace("<head>", "<head>" + READER, 1))
    dump = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/p",
         "--virtual-time-budget=20000", "--dump-dom", (tmp_path / "own.html").as_uri()],
        capture_output=True, text=True, timeout=60).stdout
    found = re.search(r'<pre id="seen">(.*?)</pre>', dump, re.DOTALL)
    assert found, dump[-2000:]
    reported = json.loads(html.unescape(found[1]))
    assert reported["wrong"] == []
    tables = {(one["category"], one["table"]): one for one in reported["seen"]}
    assert all(len(one["rows"]) == one["files"] for one in tables.values())
    assert {"Overview", "Tables", "Cells", "Datasets"} <= {category for category, _ in tables}
    cells = tables["Cells", "sr"]["rows"]
    assert [row[:4] for row in cells] == [
        ["sr", "x2", dataset, model] for dataset in ("tinyset", "tinytoo")
        for model in ("bicubic", "late", "later")]
    caption = reported["captions"]["results/tiny/cells/sr-x2@2/tinytoo/late.json"]["caption"]
    assert all(name in html.unescape(caption) for name in ("late", "sr-x2@2"))
