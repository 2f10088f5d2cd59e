"""What ``irbench`` and ``make`` say to somebody who does not know them; completion by the shell."""

import argparse
import ast
import re
import shutil
import subprocess

import pytest

from irbench import cli
from tests.helpers.paths import ROOT


def choices(parser):
    """The verbs, or the actions of a verb, with their parsers."""
    return next((one.choices for one in parser._actions
                 if isinstance(one, argparse._SubParsersAction)), {})


VERBS = choices(cli._parser())


def test_alone_it_prints_its_help(capsys):
    assert cli.main([]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: irbench ") and "irbench run" in text
    for verb in cli.VERBS:
        assert re.search(rf"^    {verb.NAME}\b", text, re.M), verb.NAME


@pytest.mark.parametrize("verb", [name for name, parser in VERBS.items() if choices(parser)])
def test_a_verb_with_actions_prints_its_help_alone(verb, capsys):
    assert cli.main([verb]) == 2
    text = capsys.readouterr().err
    assert all(action in text for action in choices(VERBS[verb]))


def test_a_wrong_verb_or_action_is_an_error():
    for words in (["rnu"], ["data", "lsit"], ["eval"], ["--no-such-option"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert ended.value.code == 2


def test_make_alone_prints_its_targets():
    if not shutil.which("make"):
        pytest.skip("no make")
    alone, named = (subprocess.run(["make", *words], cwd=ROOT, text=True, capture_output=True,
                                   check=True).stdout for words in ([], ["help"]))
    assert alone == named
    text = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", text, re.M)[1].split()) - {"help"}
    assert set(re.findall(r"^make (\w+)", alone, re.M)) == targets


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_every_verb(shell, capsys):
    pytest.importorskip("shtab")
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(verb.NAME in script for verb in cli.VERBS)
    assert "--protocol" in script


def test_bash_completes_a_verb(capsys, tmp_path):
    pytest.importorskip("shtab")
    if not shutil.which("bash"):
        pytest.skip("no bash")
    assert cli.main(["completion", "bash"]) == 0
    script = tmp_path / "irbench.sh"
    script.write_text(capsys.readouterr().out)
    code = (f"source {script}; COMP_WORDS=(irbench pro); COMP_CWORD=1; "
            "$(complete -p irbench | sed 's/.*-F \\([^ ]*\\).*/\\1/') irbench pro irbench; "
            "echo ${COMPREPLY[@]}")
    done = subprocess.run(["bash", "-c", code], text=True, capture_output=True, timeout=30)
    assert done.stdout.strip() == "profile", done.stderr


def test_without_its_package_completion_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "shtab", None)
    assert cli.main(["completion", "bash"]) == 2
    assert "pip install shtab" in capsys.readouterr().err


def texts(path):
    """The strings of a module, with X for what a message fills in."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(one.value if isinstance(one, ast.Constant) else "X"
                          for one in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_commands_in_messages_name_options_that_exist():
    found = set()
    for path in sorted((ROOT / "irbench").rglob("*.py")):
        for text in texts(path):
            for verb, rest in re.findall(r"\birbench ([a-z]+)\b([^.;:,`()\n]*)", text):
                if verb not in VERBS:
                    continue            # a sentence about irbench
                parsers = [VERBS[verb], *choices(VERBS[verb]).values()]
                known = {option for one in parsers for option in one._option_string_actions}
                unknown = set(re.findall(r"(?<=\s)--[a-z-]+", rest)) - known
                assert not unknown, f"{path}: irbench {verb}{rest}"
                found.add(verb)
    assert len(found) > 15


def test_no_message_needs_a_checkout():
    """Snakemake alone finds the workflow only in a checkout; ``irbench run`` does everywhere."""
    for path in sorted((ROOT / "irbench").rglob("*.py")):
        for text in texts(path):
            assert "snakemake --" not in text or "snakemake --report" in text, f"{path}: {text}"
