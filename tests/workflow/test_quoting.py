"""Whatever enters a shell is quoted: no name, path or setting is a command, and spaces are kept."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest
from snakemake.utils import format as fill

from tests.helpers import tiny
from tests.helpers.paths import ROOT
from tests.helpers.workflow import snakemake

RULES = sorted([*(ROOT / "workflow" / "rules").glob("*.smk"), ROOT / "Snakefile"])
PLACEHOLDER = re.compile(r"(?<!\{)\{([a-z_.]+)(:q)?\}(?!\})")
HOSTILE = ["with space", "$(touch ran)", "`touch ran`", "a;touch ran", "it's", 'a"b', "a\nb", "{x}",
           "*", "-x", "$HOME", "a>ran", "\\", "~"]


def shells():
    """Yield (rule, the text of its shell command) of every rule of the workflow."""
    for path in RULES:
        for block in re.split(r"^ *(?=rule\b)", path.read_text(), flags=re.MULTILINE)[1:]:
            name = re.match(r"rule (\w+):", block) or re.match(r"()rule:", block)
            for text in re.findall(r"^ *shell:\s*\n((?: *[\"\'].*\n?)+)", block, re.MULTILINE):
                yield name[1] or path.stem, ast.literal_eval(f"({text})")


SHELLS = dict(shells())


def test_every_command_of_the_workflow_is_seen():
    text = "".join(path.read_text() for path in RULES)
    assert len(SHELLS) == len(re.findall(r"\bshell\b *:", text)) > 6
    assert not re.search(r"^    (run|script|notebook|wrapper):|\bshell\(", text, re.MULTILINE)


@pytest.mark.parametrize("rule", SHELLS)
def test_every_placeholder_is_quoted(rule):
    found = PLACEHOLDER.findall(SHELLS[rule])
    assert found and all(quoted for _, quoted in found), found
    assert len(found) == SHELLS[rule].count("{")       # none of another form


@pytest.mark.parametrize("rule", SHELLS)
def test_hostile_values_reach_the_command_as_they_are(rule, tmp_path):
    """The command is run by bash, with a program in place of irbench that prints its arguments."""
    program = tmp_path / "bin" / "irbench"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport json, sys\n"
                       "with open('told', 'a') as f: f.write(json.dumps(sys.argv[1:]) + '\\n')\n")
    program.chmod(0o755)
    commands = []
    for value in HOSTILE:
        given: dict = {}
        for name, _ in PLACEHOLDER.findall(SHELLS[rule]):
            first, _, rest = name.partition(".")
            given[first] = value if not rest else given.get(first, SimpleNamespace())
            if rest:
                setattr(given[first], rest, value)
        commands.append(fill(SHELLS[rule], **given))
    subprocess.run(["bash", "-euc", "\n".join(commands)], cwd=tmp_path, check=True,
                   stdout=subprocess.DEVNULL,
                   env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"})
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    count = len(PLACEHOLDER.findall(SHELLS[rule]))
    for value, arguments in zip(HOSTILE, told, strict=True):
        assert sum(one.removeprefix("--data-root=") == value for one in arguments) == count
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "told"}


@pytest.mark.slow       # Snakemake itself, as a user starts it
def test_a_command_in_data_root_is_a_path(tmp_path):
    value = "a b $(touch ran) {x} 'q"
    config = tiny.make(tmp_path, data_root=value)
    code, output = snakemake(tmp_path, "--configfile", str(config), "-n", "-p", "anchors")
    assert code == 0, output
    command = re.search(r"irbench anchors .*", output)[0]
    assert f"--data-root={value}" in shlex.split(command)
