"""The commands: exit codes, files, formats, and what they do not import."""

import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from irbench import cli
from tests.helpers import compare_fixtures as fixtures
from tests.helpers import tiny
from tests.helpers.compare_fixtures import CELL, KEY, edit, shift


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fixtures.make(tmp_path)
    fixtures.make(tmp_path, "new")
    assert cli.main(["baseline", "write", "base", "--output", "base.json"]) == 0
    return tmp_path


def check(*more):
    return cli.main(["check", "--baseline", "base.json", *more])


def last(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_code_0(world, capsys):
    assert check("new") == 0
    assert last(capsys) == {"compared": 7, "regressions": 0, "improvements": 0, "advice": 0,
                            "exit_code": 0}
    assert cli.main(["compare", "base", "new"]) == 0
    assert last(capsys)["no_change"] == 5


def test_code_1(world, capsys):
    edit(world / "new", CELL, shift("psnr", every=-0.1))
    assert check("new") == 1
    out = capsys.readouterr().out
    assert KEY in out and json.loads(out.splitlines()[-1])["regressions"] == 1
    assert cli.main(["compare", "base", "new"]) == 0       # it judges, the gate decides


@pytest.mark.parametrize("arguments", [
    ["check", "new"], ["check", "--baseline", "absent.json", "new"],
    ["check", "--baseline", "base.json", "absent"],
    ["check", "--baseline", "base.json", "new", "--tolerances", "absent.yaml"],
    ["check", "--baseline", "base.json", "new", "--format", "pdf"],
    ["check", "--baseline", "base.json", "new", "--output", "out.pdf"],
    ["check", "--baseline", "base.json", "new", "--output", "new"],
    ["check", "--baseline", "base.json", "new", "--output", "base.json/under.md"],
    ["check", "--baseline", "new", "new"],              # a run is not its own baseline
    ["check", "--baseline", "base.json"], ["compare", "base"], ["compare", "base", "absent"],
    ["baseline"], ["baseline", "show", "absent"], ["baseline", "write", "base"],
    ["baseline", "write", "base", "--output", "base.json/under.json"]])
def test_code_2(world, capsys, arguments):
    try:
        code = cli.main(arguments)
    except SystemExit as error:         # argparse
        code = error.code
    error = capsys.readouterr().err
    assert code == 2 and error.startswith(("irbench: ", "usage: ")) and "Traceback" not in error


def test_code_3(world, capsys):
    (world / "new/config.json").write_text(json.dumps({
        "cells": [{"protocol": "sr-x3@1", "datasets": ["a"], "models": ["m"]}], "models": {}}))
    assert check("new") == 3
    assert "Nothing was compared" in capsys.readouterr().out
    other = fixtures.make(world, "other")
    for path in other.rglob(f"{fixtures.X2}/**/*.json"):
        path.unlink()
    for path in (world / "base").rglob(f"{fixtures.X4}/**/*.json"):
        path.unlink()
    assert cli.main(["compare", "base", "other"]) == 3


def test_a_defect_of_ours_is_no_regression(world, capsys, monkeypatch):
    from irbench.compare import gate

    monkeypatch.setattr(gate, "check", lambda *_, **__: 1 / 0)
    assert check("new") == 2
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_files_have_the_format_of_their_name_and_stdout_keeps_text(world, capsys):
    edit(world / "new", CELL, shift("psnr", every=-0.1))
    assert check("new", "--output", "a/gate.md", "--output", "gate.xml", "--output",
                 "gate.json") == 1
    assert last(capsys)["exit_code"] == 1
    assert (world / "a/gate.md").read_text().startswith("**irbench check: Regressions in 1 cell (")
    assert ElementTree.parse(world / "gate.xml").getroot().find(".//failure") is not None
    assert json.loads((world / "gate.json").read_text())["findings"][0]["key"] == KEY
    assert cli.main(["compare", "base", "new", "--output", "summary", "--format", "markdown"]) == 0
    assert (world / "summary").read_text().startswith("**5 cells")
    assert last(capsys)["worse"] == 1


def test_a_wrong_file_name_is_found_before_the_first_file_is_written(world, capsys):
    assert check("new", "--output", "first.md", "--output", "second.pdf") == 2
    assert not (world / "first.md").exists()


def test_other_formats_on_stdout(world, capsys):
    edit(world / "new", CELL, shift("psnr", every=-0.1))
    check("new", "--format", "json")
    assert last(capsys)["findings"][0]["metric"] == "psnr"
    check("new", "--format", "github", "--output", "gate.md")
    assert capsys.readouterr().out.startswith("::error ")
    assert (world / "gate.md").read_text().startswith("**")
    check("new", "--format", "junit")
    ElementTree.fromstring(capsys.readouterr().out.encode())
    cli.main(["compare", "base", "new", "--all"])
    assert capsys.readouterr().out.count("no change") >= 14


def test_the_same_files_give_the_same_bytes(world, capsys):
    texts = []
    for _ in range(2):
        cli.main(["compare", "base", "new", "--format", "json"])
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]


def run(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "irbench", *arguments], capture_output=True,
                          text=True, **options)


def test_no_heavy_import_and_a_closed_pipe_keeps_the_exit_code(world):
    edit(world / "new", CELL, shift("psnr", every=-0.1))
    code = ("import sys; from irbench import cli; code = cli.main(sys.argv[1:]); "
            "print({'torch', 'scipy', 'pandas', 'matplotlib'} & set(sys.modules)); sys.exit(code)")
    found = subprocess.run([sys.executable, "-c", code, "check", "--baseline", "base.json", "new"],
                           capture_output=True, text=True)
    assert found.returncode == 1 and found.stdout.endswith("set()\n")
    process = subprocess.Popen([sys.executable, "-m", "irbench", "check", "--baseline",
                                "base.json", "new"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.wait(30) == 1 and process.stderr.read() == ""
    process.stderr.close()


# -- the config's own run ----------------------------------------------------------------------

@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny.make(tmp_path)
    assert cli.main(["eval", "--protocol", "jpeg_gray-q10", "--dataset", "tinyset",
                     "--model", "input"]) == 0
    cli.main(["baseline", "write", "results/tiny", "--output", "base.json", "--partial"])
    return config


def test_without_a_run_it_is_that_of_the_config(evaluated, capsys):
    capsys.readouterr()
    assert check() == 0
    assert last(capsys)["compared"] == 1


def test_a_result_of_other_inputs_than_todays_is_none(evaluated, capsys):
    import yaml

    config = yaml.safe_load(evaluated.read_text())
    config["keep_images"] = not config["keep_images"]
    evaluated.write_text(yaml.safe_dump(config))
    capsys.readouterr()
    assert check() == 1
    assert "outdated: its keep_images changed since" in capsys.readouterr().out
    assert check("--stored") == 0
    assert check("results/tiny") == 0       # no config lies in it: it is what it is
