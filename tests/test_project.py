"""The project's own files agree with each other."""

import re
import tomllib

import pytest
import yaml

from irbench import plan
from irbench.plan import config
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
    assert have.pop("python") == "=3.11"
    assert have.pop("pip") == ""
    assert have == {CONDA.get(name, name): bound for name, bound in wanted().items()}


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


@pytest.mark.parametrize("path", ["config.yaml", "workflow/configs/benchmark.yaml",
                                  "workflow/configs/paper.yaml"])
def test_shipped_configs_are_valid(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert plan.load(path).cells


def test_no_scene_is_in_training_and_test(monkeypatch):
    monkeypatch.chdir(ROOT)
    for path in ("config.yaml", "workflow/configs/benchmark.yaml"):
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


def test_the_readme_names_every_verb_and_make_target():
    text = (ROOT / "README.md").read_text()
    from irbench.cli import _parser
    verbs = next(a for a in _parser()._actions if a.choices).choices
    for verb in verbs:
        assert f"`irbench {verb}" in text, verb
    for target in ("make reproduce", "make test"):
        assert target in text


def test_every_config_key_has_its_place_in_the_schema():
    for path in ("config.yaml", "workflow/configs/benchmark.yaml"):
        assert config.load(ROOT / path)["run"]
