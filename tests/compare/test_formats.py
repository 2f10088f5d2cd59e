"""What people and machines read of a comparison and of the gate; the texts are kept as files."""

import json
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from irbench.compare import baseline, differences, formats, gate, gate_formats, loading, tolerances
from irbench.present import ci, plain
from tests.helpers import compare_fixtures as fixtures
from tests.helpers.compare_fixtures import CELL, KEY, PROFILE, X2, X4, both, edit, shift

GOLDEN = Path(__file__).parent / "golden"
SUFFIX = {"text": "txt", "markdown": "md", "json": "json", "junit": "xml", "github": "github"}


def planted(folder):
    """One of each: worse, better, noise, one image, unexplained, refused, failed, gone, new."""
    fixtures.make(folder)
    new = fixtures.make(folder, "new")
    edit(new, CELL, both(shift("psnr", every=-0.3), shift("psnr", 0, 0, -0.8), shift(
        "ssim", every=-0.004), lambda r: r["spec"]["model"]["options"].update(k=32)))
    edit(new, f"cells/{X2}/set8/semanir.k8.json", both(
        shift("psnr", 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, -0.3),
        lambda r: r["resolved"].update(checkpoint="2" * 64)))
    edit(new, f"cells/{X4}/set8/semanir.json", shift("psnr", every=0.5))
    edit(new, f"cells/{X4}/set8/bicubic.json", lambda r: r["spec"]["protocol"]["metric"].update(
        crop=0))
    edit(new, f"cells/{X2}/set8/bicubic.json", fixtures.fail(
        reason="a | b <c>\x1b[31m\x0bd\nsecond line"))
    edit(new, PROFILE, lambda r: (r["result"].update(parameters=400_000, macs=1_500_000_000),
                                  r["result"]["latency_ms"].update(samples=[15.0 + i / 9 for i
                                                                            in range(20)])))
    edit(new, f"profiles/{X4}/semanir.json", fixtures.other_machine)
    return folder / "base", new


def rendered(folder, monkeypatch) -> dict[str, str]:
    planted(folder)
    monkeypatch.chdir(folder)
    found = differences.compare(loading.load("base"), loading.load("new"))
    held = gate.check(loading.load("base"), loading.load("new"), tolerances.load())
    return {**{f"compare.{SUFFIX[name]}": printer(found)
               for name, printer in formats.FORMATS.items()},
            "compare_all.txt": formats.text(found, everything=True),
            **{f"check.{SUFFIX[name]}": printer(held)
               for name, printer in gate_formats.FORMATS.items()}}


def test_the_texts_are_those_kept(tmp_path, monkeypatch):
    """To write them anew: IRBENCH_GOLDEN=1 pytest tests/compare/test_formats.py; then read them."""
    import os

    texts = rendered(tmp_path, monkeypatch)
    if os.environ.get("IRBENCH_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        for name, text in texts.items():
            (GOLDEN / name).write_text(text + "\n")
    assert {path.name for path in GOLDEN.iterdir()} == set(texts)
    for name, text in texts.items():
        assert text + "\n" == (GOLDEN / name).read_text(), name


@pytest.mark.parametrize("name", ["compare", "check"])
def test_junit_is_xml_that_counts_rightly(name):
    root = ElementTree.parse(GOLDEN / f"{name}.xml").getroot()
    suite, = root
    cases = suite.findall("testcase")
    assert root.tag == "testsuites" and int(suite.get("tests")) == len(cases) == 7
    for outcome in ("failure", "skipped"):
        number = sum(case.find(outcome) is not None for case in cases)
        assert int(suite.get(f"{outcome}s".replace("skippeds", "skipped"))) == number > 0 or (
            name == "check" and outcome == "skipped" and number == 0)
    assert len({(case.get("classname"), case.get("name")) for case in cases}) == 7


def test_no_text_breaks_the_xml():
    text = "\x00 \x1b[0m < & ]]> \ud800 \uffff 日本"
    for outcome in ("failure", "skipped", "passed"):
        root = ElementTree.fromstring(ci.junit("s", [(text, text, outcome, text, text)]))
        assert "日本" in root.find("testsuite/testcase").get("name")


def test_json_holds_everything_and_no_infinity():
    found = json.loads((GOLDEN / "compare.json").read_text(), parse_constant=pytest.fail)
    cell = next(c for c in found["cells"] if c["cell"] == KEY)
    assert cell["verdict"] == "worse" and cell["changes"] == ["model options.k: 64 -> 32"]
    psnr = cell["metrics"]["psnr"]
    assert psnr["worst"][0]["image"] == "image2" and psnr["interval"][1] < 0
    held = json.loads((GOLDEN / "check.json").read_text(), parse_constant=pytest.fail)
    assert held["exit_code"] == 1 and held["regressions"] == len(
        {f["key"] for f in held["findings"] if f["level"] == "regression"})


def test_a_regression_names_cell_metric_values_tolerance_images_and_cause():
    lines = (GOLDEN / "check.txt").read_text().split("Regressions:")[1]
    at = lines.index(f"{KEY}: mean PSNR")
    for words in ("33.295 -> 32.895 dB", "(-0.400)", "more than 0.02 dB",
                  "worst: image2 -1.100 dB", "changed: model options.k: 64 -> 32"):
        assert words in lines[at:], words


def test_markdown_tables_have_as_many_cells_in_each_row():
    for name in ("compare.md", "check.md"):
        tables = [line for line in (GOLDEN / name).read_text().splitlines()
                  if line.startswith("|")]
        assert {line.replace("\\|", "").count("|") for line in tables} <= {8, 10}
    assert "a \\| b \\<c>" in (GOLDEN / "check.md").read_text()


def test_annotations_stay_on_their_line():
    text = ci.annotation("error", "a: b, c", "100 %\nnext")
    assert text == "::error title=a%3A b%2C c::100 %25%0Anext"
    lines = (GOLDEN / "check.github").read_text().splitlines()
    assert sum(line.startswith("::error ") for line in lines) >= 4
    assert all(line.startswith("::") for line in lines[:-1])


def test_no_change_is_one_line(tmp_path):
    run = loading.load(fixtures.make(tmp_path))
    found = differences.compare(run, run)
    assert formats.text(found).endswith("5 cells: no change; 2 profiles: no change.")
    assert "no change" in formats.text(found, everything=True).splitlines()[5]
    held = gate.check(run, run, tolerances.load())
    assert gate_formats.text(held).endswith("No regression (5 cells and 2 "
                                           "profiles compared with the baseline).")


@pytest.mark.parametrize(("value", "text"), [(0.0, "0.000"), (-0.0001, "0.000"), (0.02, "+0.020"),
                                             (-1.5, "-1.500"), (None, "n/a")])
def test_a_difference_has_a_sign_unless_it_is_nothing(value, text):
    assert plain.change("psnr", value) == text


def result(*findings, compared=(KEY,), base=None):
    base = base or SimpleNamespace(cells={KEY: 0, "x/y/z": 0}, profiles={f"{X2}/semanir": 0},
                                   where="b.json", name="b", baseline=True, provenance={})
    return gate.GateResult(base, base, findings, compared)


@pytest.mark.parametrize(("compared", "words"), [
    ((KEY,), "1 cell"), ((KEY, "x/y/z"), "2 cells"), ((f"{X2}/semanir",), "1 profile"),
    ((KEY, "x/y/z", f"{X2}/semanir"), "2 cells and 1 profile")])
def test_the_outcome_says_what_was_compared_and_where_the_regressions_are(compared, words):
    assert gate_formats.sentence(result(compared=compared)) == (
        f"No regression ({words} compared with the baseline).")
    two = [gate.Finding(gate.REGRESSION, KEY, text) for text in ("PSNR fell.", "SSIM fell.")]
    assert gate_formats.sentence(result(*two, compared=compared)) == (
        f"Regressions in 1 cell ({words} compared with the baseline).")


@pytest.mark.parametrize(("options", "words"), [
    ([], "Advice"), (["--speed"], "Advice (fails the gate only with --speed)"),
    (["--exact", "--exact"], "Advice (fails the gate only with --exact)"),
    (["--strict-weights", "--exact"],
     "Advice (fails the gate only with --exact or --strict-weights)")])
def test_advice_names_the_options_that_apply_to_it(options, words):
    held = result(*(gate.Finding(gate.ADVICE, KEY, "words.", option=one)
                    for one in options or [""]))
    assert f"\n{words}:\n" in gate_formats.text(held)
    assert f"<summary>{words} ({len(options) or 1})</summary>" in gate_formats.markdown(held)


def test_what_is_worse_is_printed_first_and_the_outcome_last():
    held = result(*(gate.Finding(level, KEY, f"{level}.") for level in (
        gate.NOTE, gate.IMPROVEMENT, gate.ADVICE, gate.REGRESSION)))
    lines = gate_formats.text(held).splitlines()
    assert [lines.index(f"{gate_formats.TITLES[one]}:") for one in (
        gate.REGRESSION, gate.ADVICE, gate.IMPROVEMENT, gate.NOTE)] == [3, 6, 9, 12]
    assert lines[-1].startswith("Regressions in 1 cell")


def test_every_format_shows_a_disturbed_latency_and_judges_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base, new = fixtures.make(tmp_path), fixtures.make(tmp_path, "new")
    edit(base, PROFILE, fixtures.disturbed(1.04, 10))
    edit(new, PROFILE, fixtures.disturbed(0.86))
    baseline.write(tmp_path / "base.json", loading.load(base))
    for first in ("base", "base.json"):
        found = differences.compare(loading.load(first), loading.load("new"))
        for name, printer in formats.FORMATS.items():
            text = printer(found)
            assert "not compared" in text and "faster" not in text and "real" not in text, name
            assert name == "json" or ("125 ?" in text and "12.5 ?" in text), name
            assert "1.0 cores busy elsewhere in BASE, 0.9 in NEW" in text, name
        data = json.loads(formats.json(found))
        profile = next(one for one in data["profiles"] if one["profile"] in PROFILE)
        assert profile["latency_ms"] == {
            "base": 125.0, "new": 12.5, "factor": None, "p": None, "p_corrected": None,
            "verdict": "not compared", "busy_elsewhere": {"base": 1.04, "new": 0.86},
            "note": "disturbed (1.0 cores busy elsewhere in BASE, 0.9 in NEW)"}
        assert formats.sentence(found).endswith(
            "2 profiles: no change; 1 latency not compared: disturbed by other work.")
        held = gate.check(loading.load(first), loading.load("new"), tolerances.load(), speed=True)
        for name, printer in gate_formats.FORMATS.items():
            text = printer(held)
            assert "better" not in text and "update the baseline" not in text, name
            assert "::" not in text and "not compared: disturbed" in text, name
        assert gate_formats.counts(held)["improvements"] == 0
        assert gate_formats.github(held) == (
            "No regression (5 cells and 2 profiles compared with the baseline). 1 latency not "
            "compared: disturbed by other work.")
