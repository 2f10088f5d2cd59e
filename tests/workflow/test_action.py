"""The Action that gates any repository, and this repository's own workflow: pinned, without rights,
and of commands that exist. Their scripts run as GitHub would run them."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from irbench import cli, plan
from tests.helpers import snippets, tiny
from tests.helpers.paths import ROOT

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = ACTION["runs"]["steps"]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
EXAMPLE = yaml.safe_load(snippets.block("docs/ci-gate.md", "yaml", "OWNER/irbench"))
FILES = {"action.yml": (ROOT / "action.yml").read_text(),
         "ci.yml": (ROOT / ".github/workflows/ci.yml").read_text(),
         "ci-gate.md": snippets.block("docs/ci-gate.md", "yaml", "OWNER/irbench")}
OURS = {"./", "OWNER/irbench@COMMIT"}
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


def jobs_steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def inputs_of(workflow):
    """What a workflow gives to the Action."""
    return next(step["with"] for step in jobs_steps(workflow) if step.get("uses") in OURS)


# -- their form --------------------------------------------------------------------------------

@pytest.mark.parametrize("name", FILES)
def test_other_actions_are_of_github_and_pinned_to_a_commit(name):
    used = re.findall(r"uses: (\S+)(.*)", FILES[name])
    for action, comment in used:
        if action not in OURS:
            assert re.fullmatch(r"actions/(checkout|setup-python|cache|upload-artifact)"
                                r"@[0-9a-f]{40}", action), action
            assert re.fullmatch(r"  # v\d+\.\d+\.\d+", comment), action
    # one version of each in all files, which is what someone has looked at
    pins = dict(one.split("@") for text in FILES.values()
                for one in re.findall(r"uses: (actions/\S+)", text))
    assert all(f"{action}@{commit}" in text for text in FILES.values()
               for action, commit in pins.items() if f"{action}@" in text)


@pytest.mark.parametrize("workflow", [WORKFLOW, EXAMPLE], ids=["own", "example"])
def test_jobs_may_only_read(workflow):
    assert workflow["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in workflow["jobs"].values())
    assert "pull_request_target" not in workflow[True]  # YAML takes a bare `on` for true
    for step in jobs_steps(workflow):
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("steps", [STEPS, jobs_steps(WORKFLOW)], ids=["action", "workflow"])
def test_nothing_that_a_pull_request_can_choose_is_part_of_a_script(steps):
    assert not [step for step in steps if "${{" in step.get("run", "")]


def test_the_action_has_the_form_that_github_asks_for():
    assert ACTION["runs"]["using"] == "composite"
    assert all(step["shell"] == "bash" for step in STEPS if "run" in step)
    for name, one in ACTION["inputs"].items():
        assert one["description"] and ("default" in one or one.get("required")), name
    named = {name for step in STEPS for name in re.findall(r"inputs\.([\w-]+)", str(step))}
    assert named == set(ACTION["inputs"])
    ids = {step["id"] for step in STEPS if "id" in step}
    assert set(re.findall(r"steps\.(\w+)\.", FILES["action.yml"])) <= ids


@pytest.mark.parametrize("workflow", [WORKFLOW, EXAMPLE], ids=["own", "example"])
def test_workflows_give_the_action_inputs_that_it_has(workflow):
    given = inputs_of(workflow)
    assert set(given) <= set(ACTION["inputs"])
    assert {name for name, one in ACTION["inputs"].items() if one.get("required")} <= set(given)


def test_the_page_lists_the_inputs_with_their_defaults():
    rows = re.findall(r"^\| `([a-z-]+)` \| (.*) \| (?:`(.*)`)? ?\|$",
                      (ROOT / "docs/ci-gate.md").read_text(), re.M)
    assert {name: default for name, _, default in rows} == {
        name: one.get("default", "") for name, one in ACTION["inputs"].items()}


def test_this_repository_gates_itself_with_files_that_it_has(monkeypatch):
    monkeypatch.chdir(ROOT)
    given = inputs_of(WORKFLOW)
    assert plan.load(given["config"]).cells
    words = ["check", "--baseline", given["baseline"], *given["options"].split()]
    arguments = cli._parser().parse_args(words)
    assert Path(arguments.baseline).exists() and Path(arguments.tolerances).exists()
    assert " ".join(given["options"].split()) in " ".join(
        (ROOT / ".ci/run").read_text().replace("\\\n", " ").replace(
            f"--baseline {given['baseline']}", "").split())


def test_the_commands_of_the_workflow_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for step in jobs_steps(WORKFLOW):
        for line in step.get("run", "").splitlines():
            program, *arguments = line.split()
            if program == "make":
                assert set(arguments) <= targets
            else:
                assert program == ".venv/bin/ruff" or (ROOT / program).exists(), line


# -- their scripts -----------------------------------------------------------------------------

class Runner:
    """Runs the steps of the Action as GitHub does: files of the environment, inputs, bash -eo."""

    def __init__(self, folder, inputs):
        self.repository, self.action = folder / "repository", folder / "action"
        self.inputs = {name: one.get("default", "") for name, one in ACTION["inputs"].items()}
        self.inputs |= inputs
        self.files = {name: folder / name.lower() for name in (
            "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY")}
        for path in (*self.files.values(), self.repository / "x", self.action / "x",
                     folder / "temp/x"):
            path.parent.mkdir(exist_ok=True)
        for path in self.files.values():
            path.touch()
        site = sysconfig.get_paths()["purelib"]
        self.environment = {
            **os.environ, **{name: str(path) for name, path in self.files.items()},
            "GITHUB_ACTION_PATH": str(self.action), "RUNNER_TEMP": str(folder / "temp"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{self.action}:{site}", "PIP_NO_INDEX": "1"}

    def run(self, name):
        """Run the script of a step; return what the process did."""
        step = next(one for one in STEPS if one.get("name") == name)
        given = {key: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda m: self.inputs[m[1]], value)
                 for key, value in step.get("env", {}).items()}
        added = self.files["GITHUB_PATH"].read_text().split()
        path = ":".join([*added, self.environment["PATH"]])
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.repository, env={**self.environment, **given, "PATH": path},
            capture_output=True, text=True, timeout=500)

    def text(self, name):
        return self.files[name].read_text()


@pytest.fixture
def runner(tmp_path):
    """A repository with a model of its own and tiny images, beside a checkout of the Action."""
    found = Runner(tmp_path, {"baseline": "baseline.json"})
    for name in ("Snakefile", "workflow", "profiles"):
        (found.action / name).symlink_to(ROOT / name)
    (found.repository / "larger.py").write_text(PLUGIN)
    tiny.make(found.repository, models={"mine": {"arch": "larger", "profile": False}},
              metrics=["ssim"], keep_images=False, plugins=["larger.py"],
              catalog_paths=["datasets.yaml"], cells=[
                  {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["mine"]}])
    return found


def shell(runner, text):
    done = subprocess.run(["bash", "-e", "-c", text], cwd=runner.repository,
                          env=runner.environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr


EVALUATE = "irbench eval --protocol sr-x2 --dataset tinyset --model mine"


@pytest.mark.slow   # starts several processes
def test_the_check_passes_fails_and_says_when_nothing_was_compared(runner):
    (runner.action / "irbench").symlink_to(ROOT / "irbench")
    check = "Compare with the baseline"
    shell(runner, f"{EVALUATE} && irbench baseline write results/tiny --output baseline.json")
    done = runner.run(check)
    assert done.returncode == 0, done.stderr
    assert "::error" not in done.stdout and "No regression" in runner.text("GITHUB_STEP_SUMMARY")
    (runner.repository / "larger.py").write_text(
        PLUGIN.replace("return x", "return x.roll(1, -1)"))
    shell(runner, EVALUATE)
    done = runner.run(check)
    assert done.returncode == 1
    error = next(line for line in done.stdout.splitlines() if line.startswith("::error"))
    assert "sr-x2@2/tinyset/mine" in error and error.endswith("changed: code of larger.py")
    assert "sr-x2@2/tinyset/mine" in runner.text("GITHUB_STEP_SUMMARY")
    assert "<testsuite" in (
        Path(runner.environment["RUNNER_TEMP"]) / "irbench-outcome/gate.xml").read_text()
    # options reach irbench as words: these tolerances let the fault pass
    (runner.repository / "loose.yaml").write_text(yaml.safe_dump({"overrides": [
        {"match": "*/*/mine", "reason": "a test", "quality": {"ssim": {"mean": 1, "image": 1}}}]}))
    runner.inputs["options"] = "--complete --tolerances loose.yaml"
    assert runner.run(check).returncode == 0
    runner.inputs["options"] = ""
    (runner.repository / "baseline.json").unlink()
    done = runner.run(check)
    error, = (line for line in done.stdout.splitlines() if line.startswith("::error"))
    assert done.returncode == 2 and error.startswith(
        "::error title=irbench check::exit code 2: invalid options or files%0A")
    assert "baseline.json" in error and "baseline.json" in done.stderr
    assert runner.text("GITHUB_OUTPUT").split() == ["code=0", "code=1", "code=0", "code=2"]


@pytest.mark.slow   # makes an environment and runs a workflow with its report
def test_all_scripts_in_order_in_a_repository_that_is_not_irbench(runner):
    """The lock is empty here: the packages are those of this environment; all else is real."""
    for name in ("pyproject.toml", "hatch_build.py", "config.yaml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, runner.action)
    shutil.copytree(ROOT / "irbench", runner.action / "irbench",
                    ignore=shutil.ignore_patterns("__pycache__"))
    (runner.action / "requirements.lock").write_text("# empty\n")
    scripts = [step["name"] for step in STEPS if "run" in step]
    assert scripts == ["Digest of the lock", "Install irbench", "Run the benchmark",
                       "Compare with the baseline"]
    for name in scripts[:2]:
        done = runner.run(name)
        assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"digest=[0-9a-f]{16}\n", runner.text("GITHUB_OUTPUT"))
    program, = (Path(one) / "irbench" for one in runner.text("GITHUB_PATH").split())
    site, = (program.parents[1] / "lib").glob("python*/site-packages")
    assert (site / "irbench/catalog/protocols.yaml").exists()
    done = runner.run("Run the benchmark")
    assert done.returncode == 0, done.stderr
    assert (runner.repository / "results/tiny/report.html").exists()
    shell(runner, "irbench baseline write results/tiny --output baseline.json")
    done = runner.run("Compare with the baseline")
    assert done.returncode == 0, done.stderr + done.stdout
    assert runner.text("GITHUB_OUTPUT").endswith("code=0\n")
    # a second time nothing is installed but irbench itself, and nothing runs again
    stamp = program.parents[1] / ".complete"
    before = stamp.stat().st_mtime_ns
    assert runner.run("Install irbench").returncode == 0
    assert stamp.stat().st_mtime_ns == before
    assert "Nothing to be done" in runner.run("Run the benchmark").stderr
