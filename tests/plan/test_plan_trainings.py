"""Trainings in the plan: a blind one serves a range of levels, as one job with one fingerprint."""

import json

import pytest
import yaml

from irbench import cli, plan
from irbench.catalog import protocols, recipes
from irbench.core import digests, files, records
from irbench.core.errors import UserError
from irbench.jobs import verify
from irbench.plan import external
from tests.helpers import tiny
from tests.helpers.sealed import seal

LEVELS = ("denoise_color-sigma15", "denoise_color-sigma25", "denoise_color-sigma50")
BLIND = {"recipe": "demo", "data": ["tinytrain"], "steps": 2, "patch": 16, "batch": 2,
         "levels": {"sigma": [15, 50]}}
NAME = "denoise_color-blind@1/tiny"


def make(folder, under=LEVELS, models=("tiny",), **changes):
    """A run of the tiny model under some protocols, trained blind unless changed."""
    entry = {"training": {**BLIND, **changes}, "profile": False,
             "variants": {"strong": {"options": {"strength": 0.5}}}}
    return tiny.make(folder, metrics=["ssim"], keep_images=False, models={
        name: {"arch": "tiny", **entry} for name in models},
        cells=[{"protocol": level, "datasets": ["tinyset"], "models": list(models)}
               for level in under])


def more_protocols(folder, **entries):
    """Add protocols like denoise_color-sigma25@1, changed, to the catalog of a folder."""
    usual = protocols.get("denoise_color-sigma25").definition()
    usual.pop("id")
    (folder / "protocols.yaml").write_text(yaml.safe_dump({"protocols": {
        name.replace("__", "-").replace("_v", "@"): {**usual, **change}
        for name, change in entries.items()}}))


# -- one job for a range ---------------------------------------------------------------------------

def test_one_training_serves_a_range_whatever_is_planned_in_whatever_order(tmp_path):
    found = set()
    for levels in (LEVELS, LEVELS[::-1], LEVELS[1:], LEVELS[:1], LEVELS[1:2], LEVELS[2:]):
        run = plan.load(make(tmp_path, levels))
        assert list(run.trainings) == list(run.scopes) == [NAME]
        job = run.trainings[NAME]
        assert job.record == run.folder / "training/denoise_color-blind@1/tiny.json"
        assert job.title == "training denoise_color-blind@1 / tiny"
        for level in levels:
            assert run.training_of(f"{level}@1", "tiny") is job
        found.add((job.fingerprint, json.dumps(run.scopes[NAME].definition())))
        assert len(run.cells) == 2 * len(levels) and len(run.jobs()) == 2 * len(levels) + 4
    assert len(found) == 1


def test_its_fingerprint_follows_the_range(tmp_path):
    prints = [plan.load(make(tmp_path, levels={"sigma": [15, high]})).trainings[NAME].fingerprint
              for high in (50, 55)]
    assert prints[0] != prints[1]


def test_a_variant_has_its_bases_blind_weights(tmp_path):
    run = plan.load(make(tmp_path))
    assert run.training_of("denoise_color-sigma15@1", "tiny.strong") is run.trainings[NAME]
    assert run.training_of("denoise_color-sigma15@1", "bicubic") is None
    assert run.training_of("sr-x2@2", "tiny") is None
    assert run.trained_on["denoise_color-sigma50@1/tiny.strong"] == {"tinytrain": []}


def test_models_with_other_ranges_are_apart(tmp_path):
    path = make(tmp_path, models=("tiny", "wide"))
    value = yaml.safe_load(path.read_text())
    value["models"]["wide"] = {"arch": "tiny", "profile": False, "training": {
        **BLIND, "levels": {"sigma": [5, 75]}}}
    path.write_text(yaml.safe_dump(value))
    run = plan.load(path)
    assert {name: scope.degradation["sigma"] for name, scope in run.scopes.items()} == {
        NAME: [15, 50], "denoise_color-blind@1/wide": [5, 75]}
    for name, scope in run.scopes.items():
        assert run.trainings[name].spec["protocol"]["degradation"] == scope.degradation


def test_a_recipe_may_be_blind_for_some_tasks_only(tmp_path, monkeypatch):
    known = recipes.catalog()
    monkeypatch.setattr(recipes, "catalog", lambda *paths: {"some": {**known["demo"], "for": [
        {"tasks": ["denoise_color"], "set": {"levels": {"sigma": [15, 50]}, "batch": 4}},
        {"tasks": ["sr"], "at": ["x4"], "set": {"steps": 7}},
        {"models": ["another"], "set": {"steps": 9}}]}})
    training = {"recipe": "some", "data": ["tinytrain"], "patch": 16}
    run = plan.load(tiny.make(tmp_path, models={"tiny": {"training": training}}, cells=[
        {"protocol": name, "datasets": ["tinyset"], "models": ["tiny"]}
        for name in (*LEVELS, "sr-x2", "sr-x4")]))
    usual = known["demo"]["steps"]
    assert {name: (job.model.training.steps, job.model.training.batch)
            for name, job in run.trainings.items()} == {
        NAME: (usual, 4), "sr-x2@1/tiny": (usual, known["demo"]["batch"]),
        "sr-x4@1/tiny": (7, known["demo"]["batch"])}
    # a cell depends on the recipe as it is for its task
    assert run.cells["sr-x4@2/tinyset/tiny"].model.training.steps == 7
    assert all(job.model.training.cases is None for job in run.cells.values())


def test_versions_with_other_inputs_do_not_share(tmp_path):
    more_protocols(tmp_path, denoise_color__sigma25_v2={
        "degradation": {"kind": "gaussian_noise", "sigma": 26}})
    run = plan.load(make(tmp_path, ("denoise_color-sigma15", "denoise_color-sigma25@1",
                                    "denoise_color-sigma25@2")))
    assert set(run.trainings) == {NAME, "denoise_color-blind@2/tiny"}
    assert run.training_of("denoise_color-sigma25@2", "tiny").key["protocol"].endswith("@2")
    # without a version the newest is meant, as of protocols
    assert run.find("training", protocol="denoise_color-blind", model="tiny") is run.trainings[
        "denoise_color-blind@2/tiny"]
    assert run.find("training", protocol="denoise_color-blind@1", model="tiny") is run.trainings[
        NAME]


def test_a_change_of_scoring_alone_neither_trains_again_nor_orphans_weights(tmp_path, monkeypatch):
    """Train under version 1, then plan version 2 and both: the training and its weights stay."""
    monkeypatch.chdir(tmp_path)

    def planned(*versions):
        return plan.load(make(tmp_path, [f"sr-x2@{v}" for v in versions], levels=None))

    old, new, both = planned(1), planned(2), planned(1, 2)
    for run in (old, new, both):
        assert list(run.trainings) == ["sr-x2@1/tiny"]
        job = run.trainings["sr-x2@1/tiny"]
        assert job.fingerprint == old.trainings["sr-x2@1/tiny"].fingerprint
        assert job.record == old.trainings["sr-x2@1/tiny"].record
        assert run.scopes["sr-x2@1/tiny"].id == "sr-x2@1"
    assert new.training_of("sr-x2@2", "tiny").key["protocol"] == "sr-x2@1"
    for given in ("sr-x2", "sr-x2@1", "sr-x2@2"):
        assert new.find("training", protocol=given, model="tiny") == new.trainings["sr-x2@1/tiny"]
    planned(1)
    assert cli.main(["train", "--protocol", "sr-x2", "--model", "tiny"]) == 0
    trained = records.read(old.trainings["sr-x2@1/tiny"].record)["result"]["checkpoint"]["sha256"]
    planned(2)
    assert cli.main(["eval", "--protocol", "sr-x2", "--dataset", "tinyset", "--model", "tiny"]) == 0
    cell = records.read(new.cells["sr-x2@2/tinyset/tiny"].record)
    assert cell["resolved"]["checkpoint"] == trained
    assert not [why for why in verify.check(new) if "training" in why]


def test_another_gray_source_is_trained_anew(tmp_path):
    """Its training images differ, so it has a training of its own."""
    run = plan.load(tiny.make(tmp_path, models={"compacter": {
        "training": {"recipe": "demo", "data": ["tinytrain"]}, "profile": False}}, cells=[
            {"protocol": f"denoise_gray-sigma25@{version}", "datasets": ["tinyset"],
             "models": ["compacter"]} for version in (1, 2)]))
    fingerprints = {name: job.fingerprint for name, job in run.trainings.items()}
    assert set(fingerprints) == {f"denoise_gray-sigma25@{v}/compacter" for v in (1, 2)}
    assert len(set(fingerprints.values())) == 2


def test_a_path_with_the_protocols_name_finds_the_weights_of_another_version(tmp_path):
    template, folder = str(tmp_path / "w/{protocol}.safetensors"), tmp_path / "w"
    folder.mkdir()

    def filled(protocol):
        path = external.fill_path(template, protocols.get(protocol), "here")
        return path.rpartition("/")[2].removesuffix(".safetensors")

    assert filled("sr-x2@2") == "sr-x2@1"       # the name that its trainings have
    assert filled("denoise_gray-sigma25@2") == "denoise_gray-sigma25@2"
    for name in ("sr-x2@2", "denoise_gray-sigma25@1"):
        (folder / f"{name}.safetensors").touch()
    assert filled("sr-x2@2") == filled("sr-x2@1") == "sr-x2@2"
    assert filled("denoise_gray-sigma25@2") == "denoise_gray-sigma25@1"
    (folder / "sr-x2@1.safetensors").touch()
    assert filled("sr-x2@2") == "sr-x2@1"


# -- by hand ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("given", ["denoise_color-blind", "denoise_color-blind@1", *LEVELS])
def test_it_is_found_by_its_scope_and_by_each_protocol_it_serves(tmp_path, given):
    run = plan.load(make(tmp_path))
    assert run.find("training", protocol=given, model="tiny") is run.trainings[NAME]


@pytest.mark.parametrize(("key", "message"), [
    ({"protocol": "sr-x2", "model": "tiny"}, "unknown training job 'sr-x2@2/tiny'.*Valid: denoise"),
    ({"protocol": "denoise_color-blind", "model": "tny"}, "Did you mean 'denoise_color-blind@1/ti"),
    ({"protocol": "denoise_color-sigma15", "model": "tiny.strong"}, "has the weights of 'tiny'"),
    ({"protocol": "denoise_colour-blind", "model": "tiny"}, "Did you mean 'denoise_color-blind@1/"),
])
def test_what_is_not_trained_is_not_found(tmp_path, key, message):
    with pytest.raises(UserError, match=message):
        plan.load(make(tmp_path)).find("training", **key)


def test_the_weights_of_a_blind_training_are_those_of_every_level(tmp_path, monkeypatch):
    """train once, eval at two levels, verify; then the training has other weights."""
    monkeypatch.chdir(tmp_path)
    run = plan.load(make(tmp_path, LEVELS[:2]))
    assert cli.main(["train", "--protocol", "denoise_color-blind", "--model", "tiny"]) == 0
    for level in LEVELS[:2]:
        assert cli.main(["eval", "--protocol", level, "--dataset", "tinyset", "--model",
                         "tiny"]) == 0
    job = run.trainings[NAME]
    record = records.read(job.record)
    trained = record["result"]["checkpoint"]
    assert trained["file"] == "checkpoints/denoise_color-blind@1/tiny.safetensors"
    cells = [run.cells[f"{level}@1/tinyset/tiny"] for level in LEVELS[:2]]
    assert {records.read(cell.record)["resolved"]["checkpoint"] for cell in cells} == {
        trained["sha256"]}

    def wrong():
        found = [problem.split(": ") for problem in verify.check(run)]
        return {what: why for what, why in found if not why.startswith("not computed")}
    assert wrong() == {}
    weights = run.folder / trained["file"]
    weights.write_bytes(weights.read_bytes() + b"0")
    assert list(wrong()) == [job.title, *(cell.title for cell in cells)]
    record["result"]["checkpoint"] = {**trained, "sha256": digests.file_digest(weights)}
    files.write_json(job.record, seal(record))
    assert list(wrong()) == [cell.title for cell in cells]
    assert all(why.startswith("computed with other weights") for why in wrong().values())


# -- mistakes --------------------------------------------------------------------------------------

@pytest.mark.parametrize(("under", "changes", "message"), [
    (("denoise_color-sigma15",), {"levels": {"sigma": [20, 50]}},
     r"models.tiny.training: recipe demo trains for sigma from 20 to 50 of .*denoise_color; "
     r"denoise_color-sigma15@1 is not among them. Choose a recipe for it, or other `levels`\."),
    (("sr-x2",), {}, "sr-x2@2 is not among them"),
    (("jpeg_gray-q10",), {}, "jpeg_gray-q10@1 is not among them"),
    (("denoise_color-sigma15",), {"levels": {"quality": [10, 40]}}, "not among them"),
    (LEVELS, {"levels": {"sigma": [50, 15]}}, "levels is .*valid: null, or one range"),
    (("sr-x4",), {"levels": None, "patch": 18}, "patch 18 is not divisible by the scale 4"),
    (("sr-x2",), {"levels": None, "phases": [{"from": 0}, {"from": 0.5, "patch": 17}]},
     "patch 17 is not divisible by the scale 2"),
    (LEVELS, {"exclude": {"tinyset": ["img0"]}}, "training.exclude: unknown dataset 'tinyset'"),
])
def test_mistakes_are_explained_at_planning(tmp_path, under, changes, message):
    path = make(tmp_path, under, **changes)
    with pytest.raises(UserError, match=message) as caught:
        plan.load(path)
    assert str(path) in str(caught.value)


def test_levels_that_are_trained_otherwise_cannot_share(tmp_path, monkeypatch):
    """A protocol of one's own with another convention, and a recipe that is another at a level."""
    more_protocols(tmp_path, denoise_color__sigma30_v1={
        "level": "sigma30", "degradation": {"kind": "gaussian_noise", "sigma": 30},
        "color": "gray", "metric": {"color": "gray", "y_rounded": True, "crop": 0,
                                    "ssim": "gaussian11_valid"}})
    with pytest.raises(UserError, match=r"models.tiny.training: one blind training denoise_color-"
                       r"blind@1/tiny cannot serve denoise_color-sigma30@1 .*differ in color\."):
        plan.load(make(tmp_path, (*LEVELS, "denoise_color-sigma30")))
    known = recipes.catalog()
    monkeypatch.setattr(recipes, "catalog", lambda *paths: {"demo": {**known["demo"], "for": [
        {"at": ["sigma50"], "set": {"lr": 1e-5}}]}})
    with pytest.raises(UserError, match=r"cannot serve denoise_color-sigma50@1 .*in training\."):
        plan.load(make(tmp_path))


def test_checking_data_knows_the_sets_of_recipes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    known = recipes.catalog()
    monkeypatch.setattr(recipes, "catalog", lambda *paths: {"demo": {**known["demo"], "for": [
        {"tasks": ["sr"], "set": {"data": ["tinytrain"]}}]}})
    path = tiny.make(tmp_path, models={"tiny": {"training": {"recipe": "demo", "patch": 16}}},
                     cells=[{"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["tiny"]}])
    assert plan.load(path).trained_on == {"sr-x2@2/tiny": {"tinytrain": []}}
    assert cli.main(["data", "check"]) == 0
    assert [one["dataset"] for one in json.loads(capsys.readouterr().out)["sets"]] == [
        "tinyset", "tinytrain"]
