"""A GPU in one command: its arguments, its time limits, and both uses on a CPU in a tiny form."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from irbench.imaging.images import write_png
from tests.helpers import tiny
from tests.helpers.paths import ROOT

FOLDER = ROOT / "benchmarks"
SHELL = FOLDER / "gpu.sh"
# packages of pyproject.toml, and of a test, that a machine with a GPU may lack
OPTIONAL = ("snakemake", "pyiqa", "lpips", "spandrel", "fvcore", "jsonschema", "pytest",
            "torchvision", "skimage", "matplotlib", "seaborn", "pandas", "jinja2",
            "tabulate", "pooch", "requests", "triton")
BLOCKER = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            return None
        return super().find_spec(name, path, target)

sys.meta_path[:] = [Without if one is PathFinder else one for one in sys.meta_path]
"""
# a stage that behaves as its name says
STAGES = """
import json, os, signal, subprocess, sys, time
from pathlib import Path

name, settings = sys.argv[1], json.loads(sys.argv[2])
path = Path(settings["out"], name + ".json")
path.write_text(json.dumps({"status": "running", "rows": [1]}))
print(name, "begins", flush=True)
if name == "hangs":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    path.write_text(json.dumps({"status": "running", "rows": [1, 2], "child": child.pid}))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
if name == "crashes":
    raise ValueError("it broke")
if name == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
path.write_text(json.dumps({"status": "ok", "reason": "", "rows": [1], "short": "one row"}))
"""


@pytest.fixture(scope="module")
def modules():
    """The program's modules by their names, imported as the program does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield importlib.import_module


@pytest.fixture(scope="module")
def gpu(modules):
    return modules("gpu")


@pytest.fixture
def pretend(gpu, tmp_path, monkeypatch):
    """Let stages be those of ``STAGES``; run some, and return exit code and summary."""
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "gpu_stages.py").write_text(STAGES)
    monkeypatch.setattr(gpu, "HERE", folder)

    def run(*stages, **changes):
        made = tuple(gpu.Stage(name, seconds, "a test", needs, 0.2)
                     for name, seconds, needs in stages)
        monkeypatch.setattr(gpu, "STAGES", made)
        out = tmp_path / "out"
        code = gpu.main(["check", "--out", str(out), *changes.get("words", ())])
        return code, json.loads((out / "summary.json").read_text())
    return run


def run(*words, env=None, seconds=1500):
    """Run the program as a user does."""
    return subprocess.run([SHELL, *map(str, words)], capture_output=True, text=True,
                          timeout=seconds, env={**os.environ, "PYTHON": sys.executable,
                                                **(env or {})})


def gone(process: int) -> bool:
    """Whether a process has ended within a second; one that nobody has waited for counts."""
    for _ in range(50):
        try:
            if psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


# -- the command line ----------------------------------------------------------------------------

@pytest.mark.parametrize(("words", "message"), [
    ([], "required: command"),
    (["check"], "required: --out"),
    (["check", "--out", "{out}", "--data", "nowhere"], "--data nowhere: it does not exist"),
    (["check", "--out", "{out}", "--data", __file__], "not a folder"),
    (["check", "--out", f"{__file__}/x"], "--out"),
    (["check", "--out", "{out}", "--only", "profile"], "invalid choice: 'profile'"),
    (["check", "--out", "{out}", "--device", "tpu"], "invalid choice: 'tpu'"),
    (["check", "--out", "{out}", "--minutes", "0"], "'0' is not a number of minutes above 0"),
    (["check", "--out", "{out}", "--patience", "0"], "'0' is not a whole number of at least 1"),
    (["train", "compacter", "sr-x2", "--out", "{out}", "--data", "{out}"], "required: minutes"),
    (["train", "compacter", "sr-x2", "nan", "--out", "{out}", "--data", "{out}"], "'nan' is not"),
    (["train", "compacter", "sr-x2", "1", "--out", "{out}"], "required: --data"),
    (["train", "compacter", "sr-x2", "1", "--out", "{out}", "--data", "{out}", "--set", "[1]"],
     "'[1]' is not a JSON object"),
    (["train", "compacter", "sr-x2", "1", "--out", "{out}", "--data", "{out}", "--state", "x"],
     "--state x: it does not exist")])
def test_a_wrong_command_is_refused(gpu, tmp_path, capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        gpu.main([word.format(out=tmp_path) for word in words])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_an_old_python_is_told_so(gpu, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "LEAST", (99, 0))
    assert gpu.main(["check"]) == 2
    assert "needs Python 99.0 or newer; this is 3." in capsys.readouterr().err


def test_the_shell_script_finds_the_program_from_anywhere(tmp_path):
    done = subprocess.run([SHELL, "--help"], cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "PYTHON": sys.executable}, timeout=60)
    assert done.returncode == 0 and "check" in done.stdout and "train" in done.stdout


# -- stages --------------------------------------------------------------------------------------

def test_a_stage_that_fails_or_hangs_costs_only_itself(pretend, gpu, tmp_path, capsys):
    begun = time.monotonic()
    code, summary = pretend(("hangs", 1.5, ()), ("crashes", 30, ()), ("killed", 30, ()),
                            ("lacks", 30, ("no_such_package",)), ("works", 30, ()))
    assert time.monotonic() - begun < 60
    assert code == 1
    found = {one["stage"]: one for one in summary["stages"]}
    assert {name: one["status"] for name, one in found.items()} == {
        "hangs": "timed out", "crashes": "failed", "killed": "failed", "lacks": "skipped",
        "works": "ok"}
    assert found["hangs"]["reason"] == "it took longer than 1.5 s"
    assert found["hangs"]["rows"] == [1, 2]     # what it had found stays
    assert gone(found["hangs"]["child"])        # what it had started does not
    assert "exit code 1; last line: ValueError: it broke" in found["crashes"]["reason"]
    assert "killed by signal 9" in found["killed"]["reason"]
    assert found["lacks"]["reason"] == "needs no_such_package"
    for name, one in found.items():
        assert json.loads((tmp_path / "out" / f"{name}.json").read_text()) == one
    assert "works begins" in (tmp_path / "out" / "works.log").read_text()
    shown = capsys.readouterr()
    assert "works begins" in shown.err and "one row" in shown.err
    assert json.loads(shown.out.splitlines()[-1]) == summary


def test_what_is_skipped_is_no_failure_unless_nothing_is_left(pretend):
    code, _ = pretend(("works", 30, ()), ("lacks", 30, ("no_such_package",)))
    assert code == 0
    code, _ = pretend(("lacks", 30, ("no_such_package",)))
    assert code == 1


def test_when_the_time_of_all_is_used_up_the_rest_is_skipped(pretend, gpu, monkeypatch):
    monkeypatch.setattr(gpu, "RESERVE", 0.0)
    code, summary = pretend(("hangs", 60, ()), ("works", 60, ()), words=["--minutes", "0.03"])
    assert code == 1
    assert [one["status"] for one in summary["stages"]] == ["timed out", "skipped"]
    assert "time of the whole check was used up" in summary["stages"][1]["reason"]


def test_a_signal_ends_the_stage_that_runs_and_what_it_started(tmp_path):
    program = tmp_path / "program"
    program.mkdir()
    (program / "gpu_stages.py").write_text(STAGES)
    start = (f"import sys; sys.path.insert(0, {str(FOLDER)!r}); import gpu; from pathlib import "
             f"Path; gpu.HERE = Path({str(program)!r}); gpu.STAGES = (gpu.Stage('hangs', 300, "
             "'', (), 0.2), gpu.Stage('works', 9, '')); sys.exit(gpu.main(['check', '--out', "
             f"{str(tmp_path / 'out')!r}]))")
    process = subprocess.Popen([sys.executable, "-c", start], stderr=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL)
    path, deadline = tmp_path / "out" / "hangs.json", time.monotonic() + 60
    while not (path.exists() and "child" in path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child = json.loads(path.read_text())["child"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    assert gone(child)
    stages = json.loads((tmp_path / "out" / "summary.json").read_text())["stages"]
    assert [one["status"] for one in stages] == ["interrupted"]


def test_the_limits_of_the_important_stages_fit_into_the_time_of_all(gpu):
    names = [stage.name for stage in gpu.STAGES]
    assert names == ["machine", "tests", "attention", "profiles", "steps-compacter",
                     "steps-semanir-light", "evaluation", "processes", "compiled"]
    assert sum(stage.seconds for stage in gpu.STAGES[:6]) < 60 * gpu.LIMIT - gpu.RESERVE


# -- data and recipe -----------------------------------------------------------------------------

@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty current folder, as a stage has."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def settings(data, **changes):
    return {"data": data and str(data), "tiny": True, "device": "cpu", "threads": 1, "cores": 2,
            "minutes": 9.0, "recipe": {}, "options": {}, "model": "compacter", **changes}


def test_images_of_a_check_come_from_anywhere_below_a_folder(modules, work, tmp_path):
    data = tmp_path / "data"
    for i, place in enumerate(("a/hr/x.png", "b/c/x.png", "y.PNG", "small.png")):
        side = 40 if place == "small.png" else 80
        write_png(data / place, tiny.photo(i, side, 90))
    (data / "broken.jpg").write_bytes(b"no image")
    (data / "truncated.png").write_bytes((data / "y.PNG").read_bytes()[:3000])
    (data / "notes.txt").write_text("no image")
    about = modules("gpu_data").images(settings(data))
    assert about["names"] == ["000_x.png", "001_y.png"]     # of three: one turned out broken
    assert sorted(path.name for path in (work / "images").iterdir()) == about["names"]
    assert modules("gpu_data").images(settings(data)) == about


def test_a_folder_without_images_is_refused_and_none_is_no_problem(modules, work, tmp_path):
    from irbench.core.errors import UserError

    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match=r"data: no image of at least 64x64 pixels .*\.png"):
        modules("gpu_data").images(settings(tmp_path / "data"))
    about = modules("gpu_data").images(settings(None))
    assert len(about["names"]) == 3 and "made up" in about["of"]


def test_a_training_takes_sets_of_irbench_or_any_folder(modules, work, tmp_path, monkeypatch):
    from irbench.catalog import protocols
    from irbench.data import sets

    gpu_data, data = modules("gpu_data"), tmp_path / "data"
    for name in ("302003", "a", "b"):
        write_png(data / "bsds500_train" / "hr" / f"{name}.png", tiny.photo(1, 40, 40))
    recipe = {"recipe": "short", "steps": 2, "patch": 16, "batch": 2, "holdout": 0}
    protocol = protocols.get("sr-x2")
    # not the complete set: a folder like any other, without the image that is in a test set
    _, job = gpu_data.own_training(settings(data), protocol, recipe)
    assert job.model.training.data == ["given"]
    assert job.model.training.exclude == {"given": ["302003"]}
    # the complete set, under its own name
    monkeypatch.setattr(sets, "state", lambda entry, root: "complete")
    _, job = gpu_data.own_training(settings(data), protocol, recipe)
    assert job.model.training.data == ["bsds500_train"]
    assert job.model.training.exclude == {"bsds500_train": ["302003"]}
    assert (work / "data" / "bsds500_train" / "hr" / "a.png").exists()


def test_a_test_set_does_not_train_for_its_own_task(modules):
    from irbench.catalog import protocols
    from irbench.data import sets

    fits = modules("gpu_data")._fits
    entry = sets.get("bsds500_test")
    assert fits(entry, protocols.get("sr-x2"))
    assert not fits(entry, protocols.get("jpeg_color-q10"))
    assert not fits(sets.get("gopro_train"), protocols.get("sr-x2"))


@pytest.mark.parametrize(("minutes", "seconds"), [(1, 45), (9, 480), (60, 3540)])
def test_the_recipe_fits_into_the_minutes(modules, minutes, seconds):
    from irbench.catalog import protocols, recipes

    recipe_for = modules("gpu_train").recipe_for
    given = settings(None, tiny=False, minutes=minutes)
    recipe = recipe_for(given, protocols.get("sr-x2"), "cpu", 321)
    assert (recipe["seconds"], recipe["patch"], recipe["precision"]) == (seconds, 96, "no")
    assert recipes.resolve({**recipe, "data": ["given"]}, "here").steps is None


def test_patches_fit_into_the_smallest_image_and_any_field_can_be_set(modules, monkeypatch):
    import torch

    from irbench.catalog import protocols

    recipe_for = modules("gpu_train").recipe_for
    x4 = protocols.get("sr-x4")
    assert recipe_for(settings(None, tiny=False), x4, "cpu", 1000)["patch"] == 192
    assert recipe_for(settings(None, tiny=False), x4, "cpu", 100)["patch"] == 96
    assert recipe_for(settings(None, tiny=False, recipe={"patch": 64, "lr": 1.0}), x4, "cpu",
                      100)["patch"] == 64
    monkeypatch.delattr(torch.optim, "Muon")
    assert recipe_for(settings(None), x4, "cpu", 100)["optimiser"] == "adamw"


def test_numbers_that_json_lacks_become_texts(modules):
    plain = modules("gpu_findings").without_nan({"a": [1.0, float("nan")], "b": (float("inf"),)})
    assert plain == {"a": [1.0, "nan"], "b": ["inf"]}


# -- plans of the sizes for a GPU, which no test here runs ---------------------------------------

@pytest.fixture(scope="module")
def planned(modules, tmp_path_factory):
    """Let stages plan what they would run on a GPU; return stage -> jobs, and their problems."""
    from irbench.core.errors import Unavailable

    stages, findings = modules("gpu_stages"), modules("gpu_findings")
    folder, found = tmp_path_factory.mktemp("planned"), {}
    (folder / "work").mkdir()

    def compute(plan, job, settings, **_):
        found.setdefault(name, []).append((job, settings))
        raise Unavailable("not run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder / "work")
        patch.setattr(stages.run, "compute", compute)
        patch.setattr(stages.run, "do", compute)
        for name in ("profiles", "steps-compacter", "steps-semanir-light", "evaluation",
                     "compiled"):
            stage = findings.Findings(name, settings(None, tiny=False, cores=4, out=str(folder)))
            stages.CHECKS[name](stage)
            assert stage.all["problems"] == []
            assert len(stage.lost) == len(found[name]) and not stage.rows
    return found


def test_all_bundled_models_are_profiled_and_evaluated(planned):
    from irbench.weights import bundled

    archs = sorted(one.arch for one in bundled.catalog().values())
    plain = [job for job, _ in planned["profiles"] if not job.model.inference.unlike(
        type(job.model.inference)()) and not job.model.reference and job.model.arch != "semanir-s"]
    assert sorted(job.model.arch for job in plain) == archs
    assert sorted(job.model.arch for job, _ in planned["evaluation"]
                  if job.key["dataset"] == "given") == archs
    first = [job.key["model"] for job, _ in planned["profiles"][:5]]
    assert first == ["compacter", "semanir-light", "semanir-s", "swinir-s-random",
                     "swinir-m-random"]
    assert all(job.spec["profile"]["height"] == 256 for job, _ in planned["profiles"])
    # the CPU's values come first, and these fail here
    few = {(job.key["model"], how.device) for job, how in planned["evaluation"]
           if job.key["dataset"] == "few"}
    assert few == {("compacter-sr-x2", "cpu"), ("semanir-light-sr-x2", "cpu")}


def test_steps_are_taken_in_every_form(planned):
    for arch in ("compacter", "semanir-light"):
        forms = [(job.model.training.precision, job.model.training.optimiser, how.channels_last)
                 for job, how in planned[f"steps-{arch}"]]
        assert forms == [("no", "adamw", False), ("bf16", "adamw", False), ("no", "adamw", True),
                         ("no", "muon", False), ("bf16", "muon", False)]
        assert all(job.model.training.steps == 50 for job, _ in planned[f"steps-{arch}"])
        compiled = [(job, how) for job, how in planned["compiled"] if job.model.arch == arch]
        assert [how.compile for job, how in compiled if job.kind == "training"] == [True, True]
        assert [job.model.inference.compile for job, _ in compiled
                if job.kind == "profile"] == [True]


# -- from end to end, on the CPU -----------------------------------------------------------------

@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(4):
        image = tiny.photo(i, 72, 80) // 2 + rng.integers(0, 60, (72, 80, 3), np.uint8)
        write_png(folder / f"p{i}.png", image)
    return folder


@pytest.mark.minutes
def test_a_whole_check(tmp_path, pictures):
    done = run("check", "--device", "cpu", "--tiny", "--patience", 8, "--threads", 1,
               "--data", pictures, "--out", tmp_path / "out")
    summary = json.loads(done.stdout.splitlines()[-1])
    found = {one["stage"]: one for one in summary["stages"]}
    assert {name: (one["status"], one["reason"]) for name, one in found.items()} == (
        dict.fromkeys(found, ("ok", "")))
    assert len(found) == 9 and done.returncode == 0
    assert set(found["tests"]["outcomes"].values()) == {"skipped"}
    models = [row["model"] for row in found["profiles"]["rows"]]
    assert models[:2] == ["compacter", "semanir-light"] and "swinir-s-random" in models
    for arch in ("compacter", "semanir-light"):
        rows = {row["form"]: row for row in found[f"steps-{arch}"]["steps"]}
        assert list(rows) == ["float32", "bf16", "channels-last", "muon", "bf16, muon"]
        assert rows["channels-last"]["losses"] == pytest.approx(rows["float32"]["losses"], rel=1e-4)
        assert rows["bf16"]["losses"] != rows["float32"]["losses"]
    assert found["processes"]["processes"] == 2
    assert len(found["compiled"]["steps"]) == 4 and len(found["compiled"]["rows"]) == 2
    assert all(row["psnr"] > 20 and row["images"] == 3 for row in found["evaluation"]["cells"])


@pytest.mark.minutes
def test_a_check_without_the_packages_that_are_not_needed(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BLOCKER.replace("{names}", repr(set(OPTIONAL))))
    done = run("check", "--device", "cpu", "--tiny", "--patience", 8, "--threads", 1,
               "--out", tmp_path / "out", "--only", "machine", "tests", "attention", "profiles",
               "steps-compacter", "evaluation", env={"PYTHONPATH": str(tmp_path)})
    summary = json.loads(done.stdout.splitlines()[-1])
    found = {one["stage"]: one for one in summary["stages"]}
    skipped = {name: one["reason"] for name, one in found.items() if one["status"] != "ok"}
    assert skipped == {"tests": "needs pytest"} and done.returncode == 0
    assert any("spandrel" in note for note in found["profiles"]["notes"])
    assert "fvcore" in found["profiles"]["rows"][0]["missing"]["macs"]
    assert found["evaluation"]["cells"]


@pytest.mark.slow
def test_a_training_leaves_weights_that_irbench_loads(tmp_path, pictures):
    from irbench.weights import storage

    done = run("train", "compacter", "sr-x2", 1, "--device", "cpu", "--tiny", "--threads", 1,
               "--options", '{"width": 12, "layers": 1, "heads": 1}', "--data", pictures,
               "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    header = storage.read_header(tmp_path / "out" / "compacter-sr-x2.safetensors")
    assert (header["protocol"], header["steps"], header["arch"]) == ("sr-x2@1", 4, "compacter")
    found = json.loads((tmp_path / "out" / "train.json").read_text())
    assert found["files"] == ["compacter-sr-x2.safetensors", "compacter-sr-x2.best.safetensors",
                              "compacter-sr-x2.csv", "compacter-sr-x2.record.json"]
    assert "4 steps" in found["short"]


@pytest.mark.slow
def test_a_training_that_is_stopped_leaves_its_state_and_goes_on_from_it(tmp_path, pictures):
    def train(name, *more):
        return run("train", "compacter", "sr-x2", 1, "--device", "cpu", "--tiny", "--threads", 1,
                   "--options", '{"width": 12, "layers": 1, "heads": 1}', "--data", pictures,
                   "--set", '{"steps": 1000000}', "--stop-after", 0.01, "--out", tmp_path / name,
                   *more)
    done = train("first")
    assert done.returncode == 3, done.stderr
    state = tmp_path / "first" / "compacter-sr-x2.state"
    assert state.is_file()
    done = train("second", "--state", state)
    assert done.returncode == 3
    assert "continuing after step" in (tmp_path / "second" / "train.log").read_text()


@pytest.mark.slow
def test_a_wrong_name_is_explained(tmp_path, pictures):
    done = run("train", "compactor", "sr-x2", 1, "--device", "cpu", "--tiny", "--data", pictures,
               "--out", tmp_path)
    assert done.returncode == 1
    reason = json.loads((tmp_path / "train.json").read_text())["reason"]
    assert "compacter" in reason and "Traceback" not in done.stderr
