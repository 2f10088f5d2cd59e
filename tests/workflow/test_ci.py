"""The quality gate for GitHub Actions: pinned, without rights, and of commands that there are."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from irbench import cli, plan
from tests.helpers import tiny
from tests.helpers.paths import ROOT

FILE = ROOT / "workflow" / "ci" / "quality-gate.yml"
TEXT = FILE.read_text()
GATE = yaml.safe_load(TEXT)
STEPS = GATE["jobs"]["gate"]["steps"]
PLUGIN = '''
from torch import nn

CARDS = {"larger": {"title": "Larger", "builder": "build", "tasks": ["sr"], "in_paper": False,
                    "source": "a test", "learned": False}}


class Larger(nn.Upsample):
    def forward(self, x):
        x = super().forward(x)
        return x


def build(task, scale, channels):
    return Larger(scale_factor=scale)
'''


def script(name):
    return next(step["run"] for step in STEPS if step.get("name") == name)


def commands(program):
    """Every command of a program in the file, its comments too, as a list of arguments."""
    values = {f"${name}": value for name, value in GATE["env"].items()}
    lines = [line.removeprefix("#").strip() for line in TEXT.splitlines()
             if re.match(rf"\s*(#  |run:|irbench|) *(run: )?{program} ", line)]
    lines = [line.removeprefix("run: ") for line in lines]
    return [[values.get(word, word) for word in shlex.split(line)] for line in lines]


def test_the_jobs_may_only_read_and_run_code_that_cannot_be_moved():
    assert GATE["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in GATE["jobs"].values())
    assert "pull_request_target" not in GATE[True]  # YAML takes a bare `on` for true
    used = [step["uses"] for step in STEPS if "uses" in step]
    assert {one.split("@")[0] for one in used} == {
        f"actions/{name}" for name in ("checkout", "setup-python", "cache", "upload-artifact")}
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", one) for one in used)
    assert all(re.search(rf"{one}  # v\d+\.\d+\.\d+\n", TEXT) for one in used)
    # what a pull request can choose (titles, branches) must not become part of a script
    assert not [step for step in STEPS if "${{" in step.get("run", "")]


def test_every_command_is_one_of_irbench():
    found = commands("irbench")
    assert {words[1] for words in found} == {"check", "baseline"}
    for words in found:
        cli._parser().parse_args(words[1:])
    assert commands("snakemake")


def test_the_files_it_names_are_of_the_default_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert str(plan.load(GATE["env"]["CONFIG"]).folder) == GATE["env"]["RUN"]
    assert (ROOT / "requirements.lock").exists() and (ROOT / "pyproject.toml").exists()
    assert re.search(r"^STAMP := \$\(VENV\)/\.complete$", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.slow
def test_the_gate_as_the_steps_run_it(tmp_path):
    """The steps' own scripts: a run that is as its baseline, then one of a model with a fault."""
    plugin = tmp_path / "larger.py"
    plugin.write_text(PLUGIN)
    config = tiny.make(tmp_path, models={"mine": {"arch": "larger"}}, metrics=["ssim"],
                       keep_images=False, plugins=[str(plugin)], cells=[
                           {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["mine"]}])
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                   "CONFIG": str(config), "BASELINE": "tiny.json",
                   "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    evaluate = "irbench eval --config config.yaml --protocol sr-x2 --dataset tinyset --model mine"

    def run(text):
        return subprocess.run(["bash", "-e", "-c", text], cwd=tmp_path, env=environment,
                              capture_output=True, text=True, timeout=120)

    def gate():
        checked = run(script("Compare with the baseline"))
        assert run(script("Show the outcome")).returncode == 0
        assert "<testsuite" in (tmp_path / "gate.xml").read_text()
        return checked.returncode, checked.stdout, (tmp_path / "summary.md").read_text()

    first = run(f"{evaluate} && irbench baseline write results/tiny --output tiny.json")
    assert first.returncode == 0, first.stderr
    code, annotations, summary = gate()
    assert code == 0, annotations
    assert "::error" not in annotations
    assert "No regression" in summary
    plugin.write_text(PLUGIN.replace("return x", "return x.roll(1, -1)"))
    assert run(evaluate).returncode == 0
    code, annotations, summary = gate()
    assert code == 1
    error = next(line for line in annotations.splitlines() if line.startswith("::error"))
    assert "sr-x2@2/tinyset/mine" in error
    assert "sr-x2@2/tinyset/mine" in summary
