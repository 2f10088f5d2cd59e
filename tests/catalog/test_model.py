"""Models, checkpoints, inference and recipes: plain data and back, and nothing unknown."""

import json
from dataclasses import FrozenInstanceError

import pytest

from irbench import plan
from irbench.catalog import protocols, recipes
from irbench.catalog.model import Checkpoint, Inference, Model
from irbench.catalog.recipes import Recipe
from irbench.core.errors import UserError
from tests.helpers.paths import ROOT

CONFIGS = ["config.yaml", *(str(p.relative_to(ROOT)) for p in sorted(
    (ROOT / "workflow" / "configs").glob("*.yaml")))]
RECIPE = recipes.resolve({"recipe": "demo", "data": ["a"]}, "here")
MODEL = Model("b.k8", "b", "B", options={"k": 8}, checkpoint=Checkpoint("trained"), base="b",
              training=recipes.for_model(RECIPE, "b", protocols.get("sr-x2")),
              base_options={"k": 64}, variant={"options": {"k": 8}, "inference": {}})
JOB = plan.Job("cell", {"protocol": "p"}, {"seed": 0}, ROOT / "a.json", MODEL)


def through_json(value):
    return json.loads(json.dumps(value, allow_nan=False))


@pytest.mark.parametrize("path", CONFIGS)
def test_every_model_of_a_plan_is_the_same_from_its_plain_data(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    run = plan.load(path)
    assert run.models and run.cells
    for model in run.models.values():
        assert Model.from_dict(through_json(model.as_dict())) == model
    for job in run.jobs():
        assert job.model is None or Model.from_dict(through_json(job.model.as_dict())) == job.model


@pytest.mark.parametrize(("checkpoint", "plain"), [
    (Checkpoint(), {"kind": "none"}),
    (Checkpoint("trained"), {"kind": "trained"}),
    (Checkpoint("bundled"), {"kind": "bundled"}),
    (Checkpoint("file", path="a"), {"kind": "file", "path": "a", "sha256": None}),
    (Checkpoint("url", url="u", sha256="0"), {"kind": "url", "url": "u", "sha256": "0"}),
    (Checkpoint("external", peer="p"), {"kind": "external", "peer": "p"}),
    (Checkpoint("external", peer="p", url="u", needs="n"),
     {"kind": "external", "peer": "p", "url": "u", "sha256": None, "needs": "n"}),
    # in a spec, where a file whose digest is known may lie anywhere
    (Checkpoint("file", sha256="0"), {"kind": "file", "sha256": "0"}),
])
def test_what_is_told_of_a_checkpoint(checkpoint, plain):
    assert checkpoint.as_dict() == plain
    assert Checkpoint.from_dict(plain) == checkpoint


def test_the_keys_that_records_hold():
    plain = MODEL.as_dict()
    assert list(plain) == ["name", "arch", "title", "in_paper", "note", "published_as", "learned",
                           "options", "checkpoint", "training", "inference", "base",
                           "base_options", "variant"]
    assert plain["checkpoint"] == {"kind": "trained"}
    assert plain["inference"] == {"dtype": "float32", "channels_last": False, "compile": False,
                                  "tile": "auto", "overlap": None, "memory_gib": None,
                                  "self_ensemble": False}
    always = recipes.FIELDS - {"init", "teacher"}     # told of trainings that use them
    assert set(plain["training"]) == always | {"recipe"}
    assert set(RECIPE.as_dict()) == always | {"recipe", "for"}
    assert Recipe.from_dict(RECIPE.as_dict()) == RECIPE
    assert Model("a", "a", reference=True).as_dict()["reference"] is True


def test_a_model_of_which_little_is_told_has_defaults():
    assert Model.from_dict({"name": "a", "arch": "b", "training": None}) == Model("a", "b")


def test_a_variant_has_the_weights_of_its_base():
    assert (MODEL.owner, MODEL.trained_options) == ("b", {"k": 64})
    base = Model("b", "b", options={"k": 64})
    assert (base.owner, base.trained_options) == ("b", {"k": 64})
    assert base.external is False and Model("c", "external").external is True


def test_in_what_a_way_of_inference_differs():
    assert Inference(dtype="float16", tile=64).unlike(Inference(tile=64)) == {"dtype": "float16"}
    assert Inference().unlike(Inference(tile=64)) == {"tile": "auto"}


@pytest.mark.parametrize(("kind", "given", "message"), [
    (Model, {**MODEL.as_dict(), "bse": "b"}, "model b.k8: unknown key 'bse'. Did you mean 'base'"),
    (Model, {**MODEL.as_dict(), "checkpoint": {"kind": "file", "pat": "a"}},
     "checkpoint: unknown key 'pat'. Did you mean 'path'"),
    (Model, {**MODEL.as_dict(), "inference": {"tiles": 3}}, "inference: unknown key 'tiles'"),
    (Model, {**MODEL.as_dict(), "training": {**RECIPE.as_dict(), "step": 3}},
     "recipe demo: unknown key 'step'. Did you mean 'steps'"),
    (Model, {"name": "a"}, "model a: missing key 'arch'"),
    (Model, {"name": "a", "arch": "a", "training": {"recipe": "demo"}},
     "recipe demo: missing key 'steps'"),
    (Checkpoint, {"kind": "fil"}, "checkpoint: unknown kind 'fil'. Did you mean 'file'"),
    (Inference, [], "inference: .. is not a mapping"),
])
def test_what_is_unknown_or_missing_is_refused_by_name(kind, given, message):
    with pytest.raises(UserError, match=message):
        kind.from_dict(given)


@pytest.mark.parametrize(("one", "field"), [
    (MODEL, "arch"), (MODEL.checkpoint, "path"), (MODEL.inference, "tile"), (RECIPE, "steps"),
    (JOB, "model")])
def test_nothing_changes_what_a_plan_has_made(one, field):
    with pytest.raises(FrozenInstanceError):
        setattr(one, field, None)
