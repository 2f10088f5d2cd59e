"""``init`` and ``teacher`` in a config: the files that they mean, what is refused, the spec."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import yaml

from irbench import plan
from irbench.catalog import peers, protocols, recipe, recipes
from irbench.catalog.model import Model, teacher_of
from irbench.core import digests, records
from irbench.core.errors import UserError
from irbench.plan import config, training_inputs
from irbench.weights import bundled, loading
from tests.helpers import snippets, tiny

DCTLSA = peers.catalog()["dctlsa"]
BASE = {"recipe": "demo", "data": ["tinytrain"], "steps": 2, "patch": 16, "batch": 2}
# the fields that every recipe had before these two
ALWAYS = {"recipe", "steps", "seconds", "data", "patch", "batch", "accumulate", "phases",
          "optimiser", "lr", "matrix_lr", "warmup", "schedule", "milestones", "weight_decay",
          "betas", "grad_clip", "ema", "loss", "fft_weight", "precision", "levels", "exclude",
          "holdout", "validate_every", "save_every", "save_minutes", "spike", "workers", "unknown",
          "note"}


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Return a function that plans one training with some fields; it returns the training's job."""
    monkeypatch.chdir(tmp_path)

    def make(protocol="sr-x2", arch="tiny", models=(), folder="", **fields):
        where = tmp_path / folder
        where.mkdir(exist_ok=True)
        path = tiny.make(where, catalog_paths=[str(where)], plugins=[str(where / "tiny_model.py")],
                         models={"m": {"arch": arch, "training": {**BASE, **fields}},
                                 **dict(models)},
                         cells=[{"protocol": protocol, "datasets": ["tinyset"], "models": ["m"]}])
        found, = plan.load(path).trainings.values()
        return found
    return make


def write(path, width=4, arch="tiny", protocol="sr-x2", **header):
    """Write weights with irbench's header; return the file's digest."""
    return loading.save(path, {"first.weight": torch.ones(width, 3, 3, 3)},
                        Model(arch, arch, options={"width": width}), protocols.get(protocol),
                        **header)


def refused(planned, message, **fields):
    with pytest.raises(UserError) as caught:
        planned(**fields)
    assert message in str(caught.value)


# -- without them nothing changes ----------------------------------------------------------------

def test_a_recipe_without_them_is_the_plain_data_that_it_always_was(planned):
    job = planned()
    for one in (job.model.training.as_dict(), job.spec["model"]["training"]):
        assert set(one) == ALWAYS
    assert set(recipe.OF_FEW) <= recipes.FIELDS
    assert planned(init=None, teacher=None).spec == job.spec


# -- weights to begin with -----------------------------------------------------------------------

def test_a_file_counts_by_its_content_wherever_it_lies(planned, tmp_path):
    digest = write(tmp_path / "w.safetensors")
    job = planned(init="w.safetensors")
    assert job.model.training.init == {"kind": "file", "path": "w.safetensors", "sha256": digest}
    assert job.spec["model"]["training"]["init"] == {"kind": "file", "sha256": digest}
    shutil.copy(tmp_path / "w.safetensors", tmp_path / "other.safetensors")
    assert planned(init="other.safetensors").fingerprint == job.fingerprint
    assert planned(init={"path": "w.safetensors", "sha256": digest.upper()}
                   ).fingerprint == job.fingerprint
    assert planned().fingerprint != job.fingerprint
    write(tmp_path / "w.safetensors", steps=7)
    assert planned(init="w.safetensors").fingerprint != job.fingerprint


def test_a_path_is_relative_to_the_config_and_may_hold_the_level(planned, tmp_path):
    (tmp_path / "below").mkdir()
    write(tmp_path / "below" / "X2.safetensors")
    for init in ("{LEVEL}.safetensors", {"path": "{LEVEL}.safetensors"}):
        assert planned(folder="below", init=init).model.training.init["path"] == (
            "below/X2.safetensors")


def test_a_path_in_a_recipe_of_a_catalog_is_relative_to_the_catalog(planned, tmp_path):
    (tmp_path / "{own}").mkdir()
    write(tmp_path / "{own}" / "w.safetensors")
    (tmp_path / "{own}" / "recipes.yaml").write_text(yaml.safe_dump({"recipes": {"warm": {
        "base": "demo", "for": [{"tasks": ["sr"], "set": {"init": {"path": "w.safetensors"}}}]}}}))
    known = recipes.catalog([tmp_path / "{own}"])
    fitted = recipes.for_model(recipes.resolve({"recipe": "warm", "data": ["a"]}, "x", known),
                               "tiny", protocols.get("sr-x2"))
    assert fitted.init == {"path": f"{tmp_path}/{{{{own}}}}/w.safetensors"}


def test_bundled_weights_by_protocol_and_by_name(planned):
    one = bundled.catalog()["compacter-sr-x2"]
    assert planned(arch="compacter", init="bundled").model.training.init == {
        "kind": "file", "path": str(one.path), "sha256": one.sha256}
    assert planned("sr-x3", arch="compacter", patch=18, init={"bundled": "compacter-sr-x2"}
                   ).model.training.init["sha256"] == one.sha256
    blind = planned("denoise_color-sigma25", arch="compacter", levels={"sigma": [15, 50]},
                    init="bundled")
    assert blind.model.training.init["sha256"] == (
        bundled.catalog()["compacter-denoise_color-blind"].sha256)


@pytest.mark.parametrize("order", [1, -1])
def test_of_blind_and_other_bundled_weights_those_like_the_training_are_taken(planned, monkeypatch,
                                                                              order):
    blind = bundled.catalog()["compacter-denoise_color-blind"]
    single = replace(blind, name="single", protocol="denoise_color-sigma25@1", levels=None,
                     sha256="a" * 64)
    known = {one.name: one for one in (blind, single)[::order]}
    monkeypatch.setattr(bundled, "catalog", lambda: known)
    for levels, wanted in (({"sigma": [15, 50]}, blind), (None, single)):
        job = planned("denoise_color-sigma25", arch="compacter", levels=levels, init="bundled")
        assert job.model.training.init["sha256"] == wanted.sha256


def test_a_url_has_a_digest(planned):
    init = {"url": "https://example.org/{level}.safetensors", "sha256": "A" * 64}
    job = planned(init=init)
    assert job.model.training.init == {"kind": "url", "sha256": "a" * 64,
                                       "url": "https://example.org/x2.safetensors"}
    assert "url" not in job.spec["model"]["training"]["init"]


@pytest.mark.parametrize(("init", "message"), [
    ("none.safetensors", "m: training.init: none.safetensors: no such file. Correct the path"),
    ("images", "images is a folder, not a file of weights"),
    ("https://example.org/a.pth", "init: a URL needs the digest of its file: {url: https://exa"),
    ({"url": "https://example.org/a.pth"}, "init: `url` needs `sha256`, the digest of the file"),
    ({"url": "w.pth", "sha256": "a" * 64}, "init: 'w.pth' is not a URL. Give a file with `path`."),
    ({"path": "w.pth", "sha256": "12"}, "init: sha256 is '12'; valid are 64 hexadecimal digits"),
    ({"path": "a", "url": "b"}, "valid: null, bundled, a path, {bundled: NAME}"),
    ({"sha256": "a" * 64}, "valid: null, bundled, a path, {bundled: NAME}"),
    ({"path": "a", "weigths_key": "b"}, "Did you mean 'weights_key'?"),
    ({"bundled": "compacter-sr-x2", "sha256": "a" * 64}, "bundled weights need nothing beside"),
    ({"bundled": "compacter-x2"}, "Did you mean 'compacter-sr-x2'"),
    ("", "init is ''; valid"), (7, "init is 7; valid"), ({}, "init is {}; valid"),
    ("bundled", "no weights of tiny for sr-x2@2 are bundled. Give a file"),
    ({"bundled": "compacter-sr-x2"}, "holds weights of compacter; none of them fits tiny"),
    ("{what}.pth", "may only contain {protocol}"),
    ("broken.safetensors", "broken.safetensors: not a safetensors file"),
])
def test_first_weights_that_are_refused_when_planning(planned, tmp_path, init, message):
    (tmp_path / "w.pth").write_bytes(b"weights")
    (tmp_path / "broken.safetensors").write_bytes(b"weights")
    refused(planned, message, init=init)


def test_a_file_that_is_another_one_than_stated(planned, tmp_path):
    digest = write(tmp_path / "w.safetensors")
    refused(planned, f"its SHA-256 is {digest}, expected {'a' * 64}", init={
        "path": "w.safetensors", "sha256": "a" * 64})
    # without the file the plan stands: the digest says what it was
    assert planned(init={"path": "gone.safetensors", "sha256": digest})


def test_no_bundled_weights_for_a_protocol_names_the_others(planned, monkeypatch):
    there = {name: one for name, one in bundled.catalog().items() if "x3" not in name}
    monkeypatch.setattr(bundled, "catalog", lambda: there)
    refused(planned, "no weights of compacter for sr-x3@2 are bundled. Begin with those for "
            "another task or level: {bundled: compacter-", protocol="sr-x3", arch="compacter",
            patch=18, init="bundled")


# -- a teacher -----------------------------------------------------------------------------------

def test_a_peer_as_the_teacher(planned):
    job = planned(teacher={"model": "dctlsa", "weight": 0.5})
    teacher = teacher_of(job.model.training)
    assert (teacher.title, teacher.external, teacher.checkpoint.sha256) == (
        "DCTLSA", True, DCTLSA.sha256["x2"])
    held = job.spec["model"]["training"]["teacher"]
    assert held == {"weight": 0.5, "arch": "external", "options": {}, "checkpoint": {
        "kind": "external", "sha256": DCTLSA.sha256["x2"]}}
    assert planned(teacher={"model": "dctlsa", "weight": 0.6}).fingerprint != job.fingerprint
    # its network counts as code of the training
    assert job.spec["code"] != planned().spec["code"]
    x4 = planned("sr-x4", teacher={"model": "dctlsa", "weight": 0.5})
    assert teacher_of(x4.model.training).checkpoint.sha256 == DCTLSA.sha256["x4"]


def test_a_model_of_the_config_as_the_teacher(planned, tmp_path):
    digest = write(tmp_path / "w.safetensors", width=6)
    own = {"arch": "tiny", "checkpoint": "w.safetensors", "options": {"width": 6}, "title": "Big",
           "inference": {"self_ensemble": True}}
    job = planned(models={"big": own}, teacher={"model": "big", "weight": 1})
    teacher = teacher_of(job.model.training)
    assert (teacher.arch, teacher.options["width"], teacher.checkpoint.sha256) == (
        "tiny", 6, digest)
    assert teacher.title.startswith("Big") and teacher.inference.self_ensemble
    assert not plan.load(tmp_path / "config.yaml").profiles.keys() - {"sr-x2@2/m"}
    # the plan of a run as a file holds all of it
    text = json.dumps(job.model.as_dict())
    assert teacher_of(Model.from_dict(json.loads(text)).training) == teacher


@pytest.mark.parametrize(("fields", "message"), [
    ({"protocol": "denoise_color-sigma25", "levels": {"sigma": [15, 50]}},
     "m: training.teacher: a blind training cannot have a teacher"),
    ({"protocol": "denoise_color-sigma25"}, "the input of each patch is drawn anew"),
    ({"model": "hat"}, "hat (peer hat) cannot do sr-x2@2: its weights are for sr at x4."),
    ({"model": "swinir-m"}, "the digest of the weights of swinir-m is not known. Give them as a "
                            "model of the config"),
    ({"model": "m"}, "m is trained in this run. Train it first"),
    ({"model": "bicubic", "models": {"bicubic": {}}}, "bicubic has no weights"),
    ({"model": "given", "models": {"given": {"outputs": "images"}}}, "its result images"),
    ({"model": "dctsla"}, "Did you mean 'dctlsa'"),
    ({"model": "own", "models": {"own": {"external": "gone.pth"}}},
     "the digest of the weights of own is not known: gone.pth: no such file"),
    ({"weight": 0}, "a weight above 0, at most 1"), ({"weight": 1.5}, "a weight above 0, at most"),
    ({"weight": True}, "a weight above 0, at most 1"), ({"weight": None}, "weight above 0, at mos"),
    ({"model": 5}, "valid: null, or {model: NAME, weight: 0.5}"),
])
def test_teachers_that_are_refused(planned, fields, message):
    teacher = {"model": fields.pop("model", "dctlsa"), "weight": fields.pop("weight", 0.5)}
    refused(planned, message, teacher=teacher, **fields)


def test_other_keys_of_a_teacher_are_refused(planned):
    refused(planned, "valid: null, or {model: NAME", teacher={"model": "dctlsa", "wieght": 0.5})
    refused(planned, "valid: null, or {model: NAME", teacher="dctlsa")


def test_the_examples_of_the_page_on_training_can_be_planned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = []
    for one in snippets.of_page("docs/training.md"):
        if one.language == "yaml" and "cells:" in one.text:
            run = plan.build(config.check({"run": "page", **yaml.safe_load(one.text)}))
            found += [job.model.training for job in run.trainings.values()]
    warm, distilled = found
    assert warm.init["sha256"] == bundled.catalog()["compacter-sr-x2"].sha256
    assert teacher_of(distilled).title == "DCTLSA"


# -- what is current -----------------------------------------------------------------------------

def test_a_record_with_them_serves_the_plan_that_moved_or_renamed_them(planned, tmp_path):
    write(tmp_path / "w.safetensors")
    job = planned(init="w.safetensors", teacher={"model": "dctlsa", "weight": 0.5})
    (tmp_path / "w.safetensors").rename(tmp_path / "v.safetensors")
    own = {"external": DCTLSA.urls["x2"], "sha256": DCTLSA.sha256["x2"]}
    moved = planned(models={"t": own}, init="v.safetensors",
                    teacher={"model": "t", "weight": 0.5})
    assert records.serves(job.spec, moved.spec)
    assert digests.fingerprint(job.spec) == moved.fingerprint


@pytest.mark.parametrize("change", [{"base": "a"}, {"seed_of": "a", "seed": 2}])
def test_a_variant_or_another_seed_is_no_teacher(change):
    """Neither has weights of its own that a config could name."""
    models = {"a": Model("a", "tiny"), "a.b": Model("a.b", "tiny", **change)}
    none = SimpleNamespace(peers={})
    assert training_inputs._named("a", models, "here", none) is models["a"]
    with pytest.raises(UserError, match="here: unknown model 'a.b'"):
        training_inputs._named("a.b", models, "here", none)
