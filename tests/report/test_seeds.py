"""Rows of several seeds of one training: mean and spread, and a verdict that rests on them."""

import csv
import io

import pytest

from irbench import report
from irbench.report import collect
from irbench.report.facts import verdict
from irbench.report.tables import files, sheets, summary, tables
from tests.helpers import report_fixtures as fixtures

X2 = "sr-x2@1"


def seeded(folder, psnr, *, failed=(), images=2):
    """A run of one model; ``psnr``: the mean of each seed, None: the seed has no cell."""
    build = fixtures.Builder(folder, "seeds", "all")
    build.dataset("set5", "Set5", images)
    build.model("bicubic", "Bicubic", learned=False)
    build.cell(X2, "set5", "bicubic", {"psnr": [33.0] * images, "ssim": [0.9] * images})
    for number, mean in enumerate(psnr, 1):
        name = "semanir" if number == 1 else f"semanir.seed{number}"
        build.model(name, "SemanIR" + (f" (seed {number})" if number > 1 else ""), **{
            "published_as": "SemanIR-S", "checkpoint": {"kind": "trained"},
            "training": fixtures.recipe(recipe="short"), "options": {"k": 64},
            **({"seed_of": "semanir", "seed": number} if number > 1 else {})})
        build.training(X2, name)
        if number in failed:
            build.cell(X2, "set5", name, status="failed", reason="ran out of memory.")
        else:
            half = images // 2
            build.cell(X2, "set5", name, {"psnr": [mean - 1] * half + [mean + 1] * half,
                                          "ssim": [0.94] * images})
    return build


def collected(build):
    return collect.collect(build.folder, build.plan)


def lines(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_is_the_mean_of_its_seeds_with_their_spread(tmp_path):
    build = seeded(tmp_path, [35.2, 35.3, 35.1])
    table = tables.build(collected(build))[0]
    assert [row.key for row in table.measured] == ["bicubic", "semanir"]
    row = table.measured[1]
    assert (row.sub, row.origin) == ("3 seeds", "trained here for 150 steps on a CPU")
    assert (row.entries[0].full, row.entries[0].seeds) == ("35.20 ± 0.100", 3)
    assert row.entries[1].full == "0.9400 ± 0.0000"
    assert "±: sample standard deviation over the seeds" in table.caption
    printed = files.texts([table])
    assert "35.20 ± 0.100" in printed["md"] and r"35.20 $\pm$ 0.100" in printed["tex"]
    measured = next(line for line in lines(printed["csv"])
                    if line["model"] == "semanir" and line["metric"] == "psnr")
    assert float(measured["value"]) == pytest.approx(35.2)
    assert (measured["shown"], measured["spread"], measured["seeds"]) == ("35.20", "0.100", "3")


def test_each_seed_has_its_line_in_the_summary_and_in_the_table_of_trainings(tmp_path):
    run = collected(seeded(tmp_path, [35.2, 35.3, 35.1]))
    found = {line["model"]: line for line in lines(summary.summary(run))}
    assert [found[name]["psnr_db"] for name in ("semanir", "semanir.seed2", "semanir.seed3")] == [
        "35.2", "35.3", "35.1"]
    assert [found[name]["seed"] for name in found] == ["", "1", "2", "3"]
    assert found["semanir.seed3"]["seed_of"] == "semanir"
    first = found["semanir"]
    assert float(first["psnr_mean_of_seeds_db"]) == pytest.approx(35.2)
    assert float(first["psnr_spread_of_seeds_db"]) == pytest.approx(0.1)
    assert found["semanir.seed2"]["verdict"] == found["semanir.seed2"]["seeds"] == ""
    made = sheets.build(run)["training"]
    assert [(row.name, row.values[5].shown) for row in made.rows] == [
        ("SemanIR", "35.20"), ("SemanIR (seed 2)", "35.30"), ("SemanIR (seed 3)", "35.10")]


@pytest.mark.parametrize("lost", [1, 2])
def test_a_seed_without_a_result_is_named(tmp_path, lost):
    build = seeded(tmp_path, [35.2, 35.4, 35.3], failed=(lost,))
    table = tables.build(collected(build))[0]
    entry = table.measured[1].entries[0]
    known = [one for number, one in enumerate([35.2, 35.4, 35.3], 1) if number != lost]
    assert float(entry.shown) == pytest.approx(sum(known) / 2, abs=0.005) and entry.seeds == 2
    assert [table.notes[mark] for mark in entry.marks] == [
        f"mean of 2 of 3 seeds (seed {lost}: ran out of memory)"]


def test_without_any_result_the_row_says_why(tmp_path):
    table = tables.build(collected(seeded(tmp_path, [35.2, 35.4], failed=(1, 2))))[0]
    entry = table.measured[1].entries[0]
    assert entry.shown == "n/a" and "ran out of memory" in entry.reason


def judged(folder, psnr, **how):
    found = verdict.all_verdicts(collected(seeded(folder, psnr, **how)))
    return next(one for one in found if one.metric == "psnr")


def printed(folder):
    return judged(folder, [35.0]).figure.value


def test_a_verdict_on_several_seeds_rests_on_their_spread(tmp_path):
    """Half a dB below the paper: unexplained for one seed, within reach of three that differ."""
    paper = printed(tmp_path / "0")
    one = judged(tmp_path / "1", [paper - 0.5])
    assert one.word == "differs" and "with one seed the spread" in one.reason
    wide = judged(tmp_path / "2", [paper - 0.65, paper - 0.5, paper - 0.35])
    assert wide.word == "within noise" and wide.measured == pytest.approx(paper - 0.5)
    assert wide.tolerance == pytest.approx(4.30265 * 0.15 * (4 / 3) ** 0.5, rel=1e-4)
    assert "3 seeds; the standard deviation between them is 0.150 dB" in wide.reason
    narrow = judged(tmp_path / "3", [paper - 0.51, paper - 0.5, paper - 0.49])
    assert narrow.word == "differs" and "3 seeds" in narrow.reason
    assert judged(tmp_path / "4", [paper - 0.1, paper + 0.1, paper]).word == "reproduced"


def test_a_seed_that_failed_leaves_no_measured_spread(tmp_path):
    found = judged(tmp_path, [35.0, 35.1], failed=(2,))
    assert found.word == "differs" and "with one seed" in found.reason


def test_the_images_of_seeds_are_averaged_for_ranks(tmp_path):
    run = collected(seeded(tmp_path, [35.2, 35.4]))
    row = next(cell for cell in run.rows if cell.model == "semanir")
    assert row.scores("psnr") == pytest.approx({"image0": 34.3, "image1": 36.3})
    assert len(run.cells) == 3 and len(run.rows) == 2


@pytest.mark.formats
@pytest.mark.slow
def test_a_report_with_seeds_is_built_and_names_them(tmp_path):
    build = seeded(tmp_path, [35.2, 35.3, 35.1])
    build.profile(X2, "semanir")
    page = report.build(tmp_path, build.plan).read_text()
    assert "35.20 ± 0.100" in page and "SemanIR (seed 3)" in page
    assert "35.20 ± 0.100" in (tmp_path / "tables/verdicts.md").read_text()
    assert "35.20 ± 0.100" in (tmp_path / "tables/efficiency.md").read_text()
