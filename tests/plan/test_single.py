"""One model or cell without a config file has the job that it has in a run with one."""

import pytest

from irbench import plan
from irbench.catalog import protocols
from irbench.core.errors import UserError
from irbench.plan import single
from tests.helpers import tiny

TRAINING = {"recipe": "demo", "data": ["tinytrain"], "patch": 16, "seeds": 3}
VARIANTS = {"strong": {"options": {"strength": 0.5}}, "bf16": {"inference": {"dtype": "bfloat16"}}}
ENTRIES = {
    "tiny": {"arch": "tiny", "checkpoint": "w.pt"},
    # the variant is meant, and of several seeds the first
    "tiny.bf16": {"arch": "tiny", "checkpoint": "w.pt", "variants": VARIANTS},
    "m": {"arch": "tiny", "training": TRAINING},
    "m.bf16": {"arch": "tiny", "training": TRAINING, "variants": VARIANTS},
}


@pytest.fixture
def given(tmp_path, monkeypatch):
    """The settings of the tiny world, as a program gives them."""
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    return single.settings(catalog_paths=(str(tmp_path),), metrics=["psnr"], device=None,
                           plugins=(str(tmp_path / "tiny_model.py"),))


def test_settings_are_complete_and_of_no_model(given, tmp_path):
    assert (given["run"], given["models"], given["cells"]) == ("python", {}, [])
    assert given["metrics"] == ["psnr"] and given["catalog_paths"] == [str(tmp_path)]
    assert given["device"] == "auto" == single.settings()["device"]     # None: the default
    with pytest.raises(UserError, match="settings: metrics"):
        single.settings(metrics=3)


@pytest.mark.parametrize("name", ENTRIES)
def test_a_cell_is_that_of_a_run(given, tmp_path, name):
    entry = ENTRIES[name]
    planned, job = single.cell_of(given, name.partition(".")[0], entry, "sr-x2", "tinyset")
    run = plan.load(tiny.make(
        tmp_path, models={name.partition(".")[0]: entry}, metrics=["psnr"], keep_images=False,
        cells=[{"protocol": "sr-x2", "datasets": ["tinyset"], "models": [name.partition(".")[0]]}]))
    assert job.model.name == name and not planned.profiles
    assert job.spec == run.find("cell", protocol="sr-x2", dataset="tinyset", model=name).spec
    assert planned.cells[f"sr-x2@2/tinyset/{name}"] is job


@pytest.mark.parametrize("name", ENTRIES)
def test_a_model_is_that_of_its_cell_without_a_set(given, name):
    protocol = protocols.get("sr-x2")
    planned, job = single.model_of(given, name.partition(".")[0], ENTRIES[name], protocol)
    _, cell = single.cell_of(given, name.partition(".")[0], ENTRIES[name], "sr-x2", "tinyset")
    assert job.model == planned.models[name] == cell.model
    assert (job.kind, job.key) == ("cell", {"protocol": "sr-x2@2", "dataset": "-", "model": name})
    assert {**cell.spec, "dataset": None} == {**job.spec, "dataset": None}
    assert planned.protocols == {"sr-x2@2": protocol} and not planned.cells


def test_a_module_in_memory_has_a_cell(given):
    protocol = protocols.get("sr-x2")
    planned, job = single.module_of(given, "net", "Net", protocol, "tinyset")
    assert (job.model.name, job.model.title) == ("net", "Net")
    assert job.spec["dataset"]["name"] == "tinyset" and job.spec["dataset"]["sha256"]
    assert planned.entry("tinyset").name == "tinyset"
    assert job.record.as_posix().startswith("results/python/")
    planned, job = single.module_of(given, "net", "Net", protocol)      # to run it
    assert job.key["dataset"] == "-" and job.spec["dataset"] is None and not planned.known
    _, other = single.module_of(given, "net", "Net", protocol, made_with={"gain": 2})
    assert other.spec["model"]["options"] == {"gain": 2} and other.spec != job.spec


@pytest.mark.parametrize(("dataset", "message"), [
    ("tinysett", "unknown dataset 'tinysett'.*Did you mean 'tinyset'"),
    ("tinytrain", "'tinytrain' is a train set, not a test set")])
def test_a_set_that_cannot_be_scored(given, dataset, message):
    with pytest.raises(UserError, match=message):
        single.module_of(given, "net", "Net", protocols.get("sr-x2"), dataset)


@pytest.mark.parametrize(("entry", "dataset", "message"), [
    ({"arch": "tiny", "checkpoint": "w.pt"}, "nowhere", "dataset: unknown dataset 'nowhere'"),
    ({"arch": "tiny", "checkpoint": "w.pt", "options": {"wide": 3}}, "tinyset", "options")])
def test_a_message_names_the_argument_and_no_config(given, entry, dataset, message):
    with pytest.raises(UserError) as raised:
        single.cell_of(given, "mine", entry, "sr-x2", dataset)
    assert str(raised.value).startswith(message), raised.value


def test_a_message_that_names_no_config_stays(given, tmp_path):
    (tmp_path / "broken.py").write_text("CARDS = 3\n")
    with pytest.raises(UserError, match=r"broken\.py"):
        single.cell_of({**given, "plugins": [str(tmp_path / "broken.py")]}, "mine",
                       {"arch": "tiny", "checkpoint": "w.pt"}, "sr-x2", "tinyset")


def test_a_profile_is_that_of_a_run(given, tmp_path):
    entry = {"arch": "tiny", "checkpoint": "w.pt"}
    run = plan.load(tiny.make(
        tmp_path, models={"tiny": entry}, metrics=["psnr"], profile={}, device="auto",
        cells=[{"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["tiny"]}]))
    planned, cell = single.model_of(given, "tiny", entry, protocols.get("sr-x2"))
    job = single.profile_of(planned, cell)
    assert (job.kind, job.key) == ("profile", {"protocol": "sr-x2@2", "model": "tiny"})
    assert job.spec == run.find("profile", **job.key).spec
    _, bicubic = single.model_of(given, "bicubic", {}, protocols.get("sr-x2"))
    with pytest.raises(UserError, match="bicubic has no weights, so there is no profile"):
        single.profile_of(planned, bicubic)
