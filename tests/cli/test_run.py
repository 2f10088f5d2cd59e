"""``irbench run`` and ``irbench init``: the pipeline from any folder, and what to start from."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from irbench import cli, plan
from irbench.cli import run
from irbench.core import files
from irbench.core.errors import UserError
from irbench.jobs import run as jobs
from irbench.models import registry
from irbench.plan import file as plan_file
from irbench.plan import shipped
from tests.helpers import tiny
from tests.helpers.paths import ROOT


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # its processes need the command, also where the environment is not activated
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def test_what_init_writes_is_a_plan_with_a_model_of_its_own(here, capsys):
    assert cli.main(["init", "mine"]) == 0
    done = capsys.readouterr()
    assert json.loads(done.out) == {"written": ["mine/config.yaml", "mine/my_model.py"]}
    assert done.err == "Run it: cd mine && irbench run\n"
    planned = plan.load("mine/config.yaml")     # from here, too
    assert [name.rpartition("/")[2] for name in planned.cells] == [
        "bicubic", "compacter", "my-model"]
    card = registry.get("my-model", tuple(planned.config["plugins"]))
    network = card.load()(task="sr", scale=2, channels=3, **card.options)
    assert network(torch.rand(1, 3, 5, 7)).shape == (1, 3, 10, 14)
    # what its comments offer is valid as well
    text = Path("mine/config.yaml").read_text()
    for comment in ("# variants: ", "# swinir-m:", "# theirs: "):
        assert comment in text
        text = text.replace(comment, comment[2:])
    Path("mine/config.yaml").write_text(text)
    assert {"swinir-m", "theirs", "my-model.tiles"} <= set(plan.load("mine/config.yaml").models)


def test_init_replaces_nothing(here, capsys):
    (here / "my_model.py").write_text("mine")
    assert cli.main(["init"]) == 2
    assert "my_model.py exists already; nothing was written" in capsys.readouterr().err
    assert not (here / "config.yaml").exists()


@pytest.mark.parametrize("name", ["config.yaml", "my_model.py"])
def test_init_does_not_replace_a_link_to_nothing(here, capsys, name):
    (here / name).symlink_to("elsewhere")
    assert cli.main(["init"]) == 2
    assert f"{name} exists already" in capsys.readouterr().err
    assert (here / name).is_symlink() and len(list(here.iterdir())) == 1


@pytest.mark.parametrize("words", [("init", "a\0b"), ("info", "\0"), ("report", "--config", "\0"),
                                   ("history", "\0"), ("data", "check", "\0")])
def test_the_character_nul_is_refused(here, capsys, words):
    assert cli.main([*words]) == 2
    assert "holds the character NUL" in capsys.readouterr().err
    assert not list(here.iterdir())


def test_a_config_is_a_file_or_one_that_comes_with_irbench(here, capsys):
    assert run._config(None) == ROOT / "config.yaml"
    assert "no config.yaml here" in capsys.readouterr().err
    assert run._config("benchmark") == ROOT / "workflow/configs/benchmark.yaml"
    with pytest.raises(UserError, match="unknown config 'papre'. Did you mean 'paper'"):
        run._config("papre")
    (here / "paper").write_text("")     # a file comes first
    (here / "config.yaml").write_text("")
    assert run._config("paper") == Path("paper")
    assert run._config(None) == Path("config.yaml")
    assert capsys.readouterr().err == ""
    assert cli.main(["run", "none.yaml"]) == 2
    assert "config none.yaml: No such file" in capsys.readouterr().err


def test_the_files_come_from_the_package_if_it_is_installed(tmp_path, monkeypatch):
    """As the wheel lays them out; without them the reason is said."""
    monkeypatch.setattr(shipped, "PLACES", (tmp_path / "irbench/pipeline", tmp_path))
    with pytest.raises(UserError, match="comes without its Snakefile"):
        shipped.home()
    shutil.copytree(ROOT / "workflow", tmp_path / "irbench/pipeline/workflow")
    shutil.copy(ROOT / "Snakefile", tmp_path / "irbench/pipeline")
    assert shipped.home() == tmp_path / "irbench/pipeline"
    assert {"default", "benchmark", "paper", "weights"} <= set(shipped.configs())


@pytest.mark.parametrize(("given", "folder"), [
    (None, ROOT / "profiles/default"), ("slurm", ROOT / "profiles/slurm"), ("mine", Path("mine"))])
def test_a_profile_is_a_folder_or_one_that_comes_with_irbench(here, monkeypatch, given, folder):
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: name)
    (here / "mine").mkdir()
    (here / "mine/config.yaml").write_text("")
    assert run._profile(given, here / "config.yaml") == ["--workflow-profile", folder]


def test_a_profile_that_is_not_there_is_an_error(here, capsys):
    tiny.make(here)
    assert cli.main(["run", "config.yaml", "--profile", "slrm"]) == 2
    assert "--profile slrm: no folder with a config.yaml there. Profiles that come with irbench: " \
        "default, slurm" in capsys.readouterr().err
    assert set(shipped.PROFILES) == {path.name for path in (ROOT / "profiles").iterdir()}


def test_an_executor_that_is_not_installed_is_named(here, monkeypatch, capsys):
    tiny.make(here)
    (here / "mine").mkdir()
    asked = []
    monkeypatch.setattr(run.importlib.util, "find_spec", asked.append)
    (here / "mine/config.yaml").write_text("executor: cluster-generic\njobs: 5\n")
    assert cli.main(["run", "config.yaml", "--profile", "mine"]) == 2
    said = capsys.readouterr().err
    assert "mine/config.yaml has the executor cluster-generic" in said
    assert "pip install 'snakemake-executor-plugin-cluster-generic'" in said
    assert asked == ["snakemake_executor_plugin_cluster_generic"]
    for text in ("executor: local", "jobs: 5", "[", "executor: [1]", ""):   # Snakemake's to refuse
        (here / "mine/config.yaml").write_text(text)
        assert run._profile("mine", here / "config.yaml") == ["--workflow-profile", Path("mine")]


@pytest.mark.parametrize(("device", "uuid", "gpu", "warned"), [
    ("auto", "0", None, True), ("auto", None, None, False), ("auto", "GPU-1", "H200", False),
    ("cpu", "0", None, False)])
def test_a_gpu_that_torch_cannot_use_is_told(here, monkeypatch, capsys, device, uuid, gpu, warned):
    tiny.make(here, models={"bicubic": None}, metrics=["ssim"], device=device, cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["bicubic"]}])
    workflow(monkeypatch, 0)
    planned = plan.load("config.yaml")
    plan_file.write(planned)
    files.write_json(planned.run_folder.config, planned.config)
    for job in planned.jobs():
        jobs.do(planned, job)
        record = json.loads(job.record.read_text())
        record["provenance"]["gpu_uuid"] = uuid
        record["provenance"]["hardware"]["gpu"] = gpu
        files.write_json(job.record, record)
    assert cli.main(["run"]) == 0
    said = capsys.readouterr().err
    assert ("came from the CPU, though the job was given a GPU" in said) == warned
    assert not warned or "First: sr-x2@2/tinyset/bicubic" in said


def test_the_rules_need_the_command(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setattr(run.sysconfig, "get_path", lambda _: "/nowhere")
    with pytest.raises(UserError, match="irbench is not on the PATH"):
        run._path()


def test_a_run_of_a_config_in_another_folder(here, capfd):
    """By Snakemake itself, which takes seconds; tests/test_wheel.py runs all of it."""
    tiny.make(here / "mine", models={"bicubic": None}, metrics=["psnr"], cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["bicubic"]}])
    assert cli.main(["run", "mine/config.yaml", "--cores", "1",
                     "--snakemake=results/tiny/data/tinyset.json --quiet progress"]) == 0
    done = capfd.readouterr()
    assert json.loads(done.out.splitlines()[-1]) == {
        "run": "tiny", "report": None, "jobs": 1, "without_result": 0}    # none was asked for
    assert Path("results/tiny/data/tinyset.json").is_file()
    assert yaml.safe_load(Path("results/tiny/config.json").read_text())["run"] == "tiny"
    assert cli.main(["run", "mine/config.yaml", "--snakemake='"]) == 2
    assert "Close the quotes" in capfd.readouterr().err


def test_a_missing_file_of_weights_is_told_when_planning(here, capfd):
    """Once for a model with variants, and the exit code stays 0: the other cells are computed."""
    (here / "x2.pth").touch()
    tiny.make(here, metrics=["psnr"], models={
        "bicubic": None, "some": {"arch": "tiny", "checkpoint": "{level}.pth"},
        "gone": {"arch": "tiny", "checkpoint": "nope.pth",
                 "variants": {"weak": {"options": {"strength": 0.2}}}}}, cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["bicubic", "gone", "some"]},
        {"protocol": "sr-x3", "datasets": ["tinyset"], "models": ["gone", "some"]}])
    told = ["models.gone: checkpoint nope.pth: no such file; its cells will have no result. "
            "Correct the path.",
            "models.some: checkpoint x3.pth: no such file; its cells under sr-x3@2 will have no "
            "result. Correct the path."]
    for words in (["plan"], ["run", "--dry-run", "--cores", "1"]):
        assert cli.main(words) == 0
        said = capfd.readouterr().err
        assert [one for one in said.splitlines() if one.startswith("models.")] == told


SNAKEMAKE = """
import pathlib, sys, time
pathlib.Path("begun").touch()
time.sleep(float(sys.argv[1]))
"""


def workflow(monkeypatch, seconds):
    """Run a program in the place of Snakemake that ends after some seconds, if nothing else.

    Return the list of the commands that it stands for.
    """
    asked = []

    def start(command, env):
        asked.append(command)
        return subprocess.Popen([sys.executable, "-S", "-c", SNAKEMAKE, str(seconds)], env=env)

    monkeypatch.setattr(run, "subprocess", SimpleNamespace(Popen=start))
    monkeypatch.setattr(run, "_path", lambda: "/usr/bin:/bin")
    return asked


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_run_says_what_is_kept(here, monkeypatch, capsys, number, code):
    tiny.make(here, models={"bicubic": None}, metrics=["ssim"], cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["bicubic"]}])

    def interrupted():
        """Send the signal to this process once the other one has begun; Ctrl-C reaches both."""
        Path("begun").unlink(missing_ok=True)
        workflow(monkeypatch, 60 if number == signal.SIGTERM else 0.5)

        def send():
            while not Path("begun").exists():
                time.sleep(0.01)
            os.kill(os.getpid(), number)

        threading.Thread(target=send, daemon=True).start()
        before = signal.getsignal(number)
        assert cli.main(["run"]) == code
        assert signal.getsignal(number) is before
        done = capsys.readouterr()
        assert done.out == ""
        return done.err.splitlines()[-1]

    if number == signal.SIGINT:     # as Snakemake ends after Ctrl-C
        monkeypatch.setattr(sys.modules[__name__], "SNAKEMAKE", SNAKEMAKE + "sys.exit(1)")
    assert interrupted() == ("irbench: interrupted. Nothing was begun. Run the same command again; "
                             "it continues.")
    planned = plan.load("config.yaml")
    plan_file.write(planned)
    jobs.do(planned, planned.data["tinyset"])
    planned.run_folder.report.write_text("page")
    assert interrupted() == (
        "irbench: interrupted. Kept in results/tiny: the results of 1 of 2 jobs, the saved states "
        "of trainings, the earlier report. Run the same command again; it continues.")


@pytest.mark.parametrize(("words", "quiet"), [
    ([], ["--dry-run", "--quiet", "rules", "reason", "host"]),
    (["--snakemake=--quiet all"], ["--dry-run", "--quiet", "all"]),
    (["--snakemake=-q"], ["--dry-run", "-q"])])
def test_a_dry_run_counts_and_names_the_verbs_that_say_more(here, monkeypatch, capsys, words,
                                                            quiet):
    tiny.make(here, cells=[{"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["bicubic"]}],
              models={"bicubic": None})
    asked = workflow(monkeypatch, 0)
    assert cli.main(["run", "--dry-run", *words]) == 0
    printed = capsys.readouterr()
    assert not printed.out and "irbench status config.yaml says what would run" in printed.err
    assert "irbench plan config.yaml lists the jobs" in printed.err
    command = list(map(str, asked[-1]))
    assert command[command.index("--dry-run"):] == quiet


def test_what_made_no_report_does_not_claim_one(here, monkeypatch, capsys):
    """A dry run by Snakemake's own option, its summaries, and a part of the run."""
    tiny.make(here, models={"bicubic": None}, metrics=["ssim"], cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["bicubic"]}])
    workflow(monkeypatch, 0)
    found = {"run": "tiny", "report": None, "jobs": 0, "without_result": 0}
    for words in (["--snakemake=-n"], ["--snakemake=--dry-run"], []):
        assert cli.main(["run", *words]) == 0
        assert json.loads(capsys.readouterr().out) == found
    planned = plan.load("config.yaml")
    plan_file.write(planned)
    files.write_json(planned.run_folder.config, planned.config)
    for job in planned.jobs():
        jobs.do(planned, job)
    assert cli.main(["run"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == found | {"jobs": 2}
    assert cli.main(["report"]) == 0
    assert cli.main(["run"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == found | {
        "jobs": 2, "report": "results/tiny/report.html"}
