"""Files that a command is told to write: nobody's own file is lost, and no output another's."""

import argparse
import json
from pathlib import Path

import pytest

from irbench import cli
from irbench.catalog import citations
from irbench.cli import output
from irbench.core import records
from tests.helpers import tiny

RECORD = json.dumps(records.make("data", {"dataset": "x"}, {}, result={"count": 1}))
# name of a file -> what it holds; no command may write over it
OWN = {
    "config.yaml": "run: mine\n", "model.py": "import torch\n", "Snakefile": "rule all:\n",
    "README.md": "# Mine\n", "requirements.txt": "torch\n", "LICENSE": "MIT\n",
    "paper.tex": "\\documentclass{article}\n", "page.html": "<!DOCTYPE html><p>Mine</p>",
    "refs.bib": "@book{mine2020,\n  title = {Mine},\n}\n", "files.csv": "path,sha256\na,b\n",
    "config.json": json.dumps({"models": {}, "cells": []}), "record.json": RECORD,
    "catalog.json": json.dumps({"datasets": {}}), "other.json": "[1]", "broken.json": "{",
    "baseline.json": json.dumps({"baseline_version": 1}), "pom.xml": "<project/>",
    "weights.safetensors": "no header", "picture.png": "\x89PNG"}
WORDS = {   # option -> the command that has it
    "table --output": ("table", "sr", "--latex", "--output"),
    "table --cite": ("table", "sr", "--cite"),
    "cite --output": ("cite", "--output"),
    "compare --output": ("compare", "results/tiny", "results/tiny", "--output"),
    "check --output": ("check", "--baseline", "b.json", "--output"),
    "score --json": ("score", "a", "b", "--protocol", "sr-x2", "--json"),
    "score --csv": ("score", "a", "b", "--protocol", "sr-x2", "--csv"),
    "eval --output": ("eval", "--protocol", "sr-x2", "--dataset", "tinyset", "--model", "bicubic",
                      "--limit", "1", "--output"),
    "eval --log": ("eval", "--protocol", "sr-x2", "--dataset", "tinyset", "--model", "bicubic",
                   "--log"),
    "report --log": ("report", "--log"),
    "checkpoints --output": ("checkpoints", "export", "--protocol", "sr-x2", "--model", "tiny",
                             "--output")}
MAY = {("eval --output", "record.json")}    # its own kind: the record of an earlier quick look


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    (tmp_path / "config.yaml").rename("tiny.yaml")
    return tmp_path


@pytest.mark.parametrize("option", WORDS)
def test_nobodys_own_file_is_written_over(world, capsys, option):
    for name, text in OWN.items():
        if (option, name) in MAY:
            continue
        Path(name).write_text(text)
        assert cli.main([*WORDS[option], name]) == 2
        message = capsys.readouterr().err
        assert message.startswith(f"irbench: {WORDS[option][-1]} {name}: not written, because")
        assert "Name another file" in message and "Traceback" not in message
        assert Path(name).read_text() == text
        Path(name).unlink()


@pytest.mark.parametrize("words", [
    ("table", "sr", "--output", "t.tex", "--cite", "./t.tex"),
    ("score", "a", "b", "--protocol", "sr-x2", "--json", "x/../s.json", "--csv", "s.json"),
    ("compare", "a", "b", "--output", "d.md", "--output", "d.md"),
    ("eval", "--protocol", "sr-x2", "--dataset", "tinyset", "--model", "bicubic", "--limit", "1",
     "--output", "r.json", "--log", "link.json")])
def test_two_outputs_have_two_places(world, capsys, words):
    Path("x").mkdir()
    Path("link.json").symlink_to("r.json")
    assert cli.main(list(words)) == 2
    assert "the same file" in capsys.readouterr().err
    assert not [name for name in ("t.tex", "s.json", "d.md", "r.json") if Path(name).exists()]


def test_a_folder_is_no_file(world, capsys):
    for words in WORDS.values():
        for folder in (".", "/", "images"):
            assert cli.main([*words, folder]) == 2
            assert "this is a folder; name a file." in capsys.readouterr().err


def test_what_a_command_wrote_it_may_write_again(world, capsys):
    """Citations, a record, a log, and files that are empty or new."""
    Path("empty.bib").touch()
    for words in (["cite", "--all", "--output", "all.bib"], ["cite", "--all", "--output", "refs"],
                  ["cite", "--all", "--output", "empty.bib"],
                  ["eval", "--config", "tiny.yaml", *WORDS["eval --output"][1:], "r.json",
                   "--log", "eval.log"]):
        assert cli.main(words) == 0
        assert cli.main(words) == 0
    assert Path("all.bib").read_text().count("@") == len(citations.load()["entries"])
    assert json.loads(Path("r.json").read_text())["kind"] == "cell"
    assert "tinyset" in Path("eval.log").read_text()


def test_the_records_of_a_run_are_not_to_be_replaced(world, capsys):
    """Neither by a record, nor by another file with a name as outputs have it."""
    run = Path("results/tiny")
    for name in ("config.json", "plan.json", "cells/a.json", "summary.csv", "tables/sr.tex"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(RECORD if name.startswith("cells") else "{}")
    for option, name in (("eval --output", "cells/a.json"), ("score --csv", "summary.csv"),
                         ("table --output", "tables/sr.tex"), ("score --json", "config.json")):
        assert cli.main([*WORDS[option], str(run / name)]) == 2
        assert "belongs to the run tiny" in capsys.readouterr().err
    assert not output._held(output.NamedFile("--log", "log", (".log",)), run / "logs/report.log")


def test_every_file_that_an_option_names_for_writing_is_checked():
    """By the help of the options of all verbs: what is written is one of ``named_files``."""
    def parsers(parser):
        yield parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for one in action.choices.values():
                    yield from parsers(one)

    # these check by themselves: a folder, a baseline, results of restoring
    apart = {"irbench restore", "irbench history", "irbench baseline write"}
    found = set()
    for parser in parsers(cli._parser()):
        known = {one.option for one in parser.get_default("named_files") or ()}
        for action in parser._actions:
            option = action.option_strings[-1] if action.option_strings else ""
            # some verbs have --json and --csv without a value: formats of what they print
            if action.nargs != 0 and option in ("--output", "--cite", "--csv", "--log", "--json"):
                assert option in known or parser.prog in apart, parser.prog
                found.add(option)
    assert found == {"--output", "--cite", "--csv", "--log", "--json"}
