"""Recipes: the catalog, what a config may change, and what is refused, in which words."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from irbench import plan
from irbench.catalog import protocols, recipe, recipes
from irbench.core.errors import UserError
from tests.helpers import trainings

X2 = protocols.get("sr-x2")


def resolve(**changes):
    return recipes.resolve({"recipe": "demo", "data": ["photos_train"], **changes}, "here")


# -- the catalog ---------------------------------------------------------------------------------

@pytest.mark.parametrize("name", recipes.catalog())
def test_a_recipe_of_the_catalog_is_complete(name):
    resolved = recipes.resolve({"recipe": name}, "x")
    assert set(resolved.as_dict()) - set(recipe.OF_FEW) == (
        recipes.FIELDS | {"recipe", "for"}) - set(recipe.OF_FEW)
    for one in resolved.cases:
        assert set(one) <= {"models", "tasks", "at", "set"}
        assert set(one["set"]) <= recipes.FIELDS
        assert set(one.get("tasks", ())) <= {p.task for p in protocols.catalog().values()}


def test_every_field_is_explained_at_the_head_of_the_catalog():
    head = recipes.CATALOG.read_text().split("\ndefaults:")[0]
    assert not {field for field in recipes.FIELDS if f" {field}" not in head}


@pytest.mark.parametrize(("name", "arch", "protocol", "expected"), [
    ("compacter", "compacter", "sr-x4", {"loss": "l1_fft", "fft_weight": 0.1, "patch": 256,
                                         "data": ["div2k_train"], "levels": None}),
    ("compacter", "compacter", "denoise_color-sigma25", {
        "levels": {"sigma": [15, 50]},
        "data": ["div2k_train", "flickr2k", "bsds500_train", "bsds500_test", "wed"]}),
    ("compacter", "compacter", "lowlight-lol", {"data": ["lol_v1_train"]}),
    ("compacter", "compacter", "derain-streak", {"data": ["rain13k"]}),
    ("semanir", "semanir-s", "sr-x2", {"loss": "l1", "lr": 2e-4, "steps": 500000,
                                       "optimiser": "adamw", "weight_decay": 1e-4}),
    ("semanir", "semanir-unet", "jpeg_color-q10", {"loss": "charbonnier", "levels": None}),
    ("semanir-blind", "semanir-unet", "jpeg_color-q10", {"loss": "charbonnier",
                                                         "levels": {"quality": [10, 40]}}),
    ("short", "compacter", "jpeg_gray-q20", {"levels": {"quality": [10, 40]}}),
])
def test_what_the_recipes_are_for_each_task(name, arch, protocol, expected):
    sets = {} if name != "short" else {"data": ["photos_train"]}
    fitted = recipes.for_model(recipes.resolve({"recipe": name, **sets}, "x"), arch,
                        protocols.get(protocol))
    assert {field: getattr(fitted, field) for field in expected} == expected


def test_deblurring_has_two_phases():
    fitted = recipes.for_model(recipes.resolve({"recipe": "semanir"}, "x"), "semanir-unet",
                        protocols.get("deblur-motion"))
    assert len(fitted.phases) == 2


# -- what a config changes -----------------------------------------------------------------------

def test_a_change_of_the_config_wins_over_what_a_recipe_sets_for_a_task():
    jpeg = protocols.get("jpeg_color-q10")
    own = recipes.resolve({"recipe": "short", "data": ["a"], "levels": None}, "x")
    assert recipes.for_model(own, "compacter", jpeg).levels is None
    own = recipes.resolve({"recipe": "compacter", "data": ["a"]}, "x")
    assert recipes.for_model(own, "compacter", X2).data == ["a"]


def test_an_overlay_is_for_its_models_tasks_and_levels_only():
    resolved = replace(resolve(), cases=[
        {"models": ["m"], "tasks": ["sr"], "at": ["x2"], "set": {"lr": 5.0}}])
    assert recipes.for_model(resolved, "m", X2).lr == 5.0
    for arch, protocol in (("other", "sr-x2"), ("m", "sr-x3"), ("m", "jpeg_gray-q10")):
        assert recipes.for_model(resolved, arch, protocols.get(protocol)).lr == resolved.lr
    assert "for" not in recipes.for_model(resolved, "m", X2).as_dict()


def test_a_budget_of_one_kind_replaces_the_other():
    assert resolve().steps == 120
    assert (resolve(seconds=9).steps, resolve(seconds=9).seconds) == (None, 9)


def test_a_bare_no_is_the_precision_and_no_truth_value():
    precision = yaml.safe_load("precision: no")
    assert resolve(**precision).precision == "no"


@pytest.mark.parametrize(("changes", "message"), [
    ({"recipe": "dmo"}, "unknown recipe 'dmo'. Did you mean 'demo'"),
    ({"step": 3}, "unknown key 'step'. Did you mean 'steps'"),
    ({"for": []}, "unknown key 'for'"),
    ({"steps": 3, "seconds": 3}, "either steps or seconds as the budget, not both"),
    ({"steps": None}, "not neither"),
    ({"steps": 0}, "steps is 0; valid: a whole number >= 1 or null"),
    ({"steps": 2.5}, "steps is 2.5"),
    ({"steps": True}, "steps is True"),
    ({"seconds": float("nan")}, "seconds is nan"),
    ({"patch": 4}, "patch is 4; valid: a whole number >= 8"),
    ({"patch": None}, "patch is None"),
    ({"lr": 0}, "lr is 0; valid: a number > 0"),
    ({"lr": "fast"}, "lr is 'fast'; valid: a number > 0."),
    (yaml.safe_load("lr: 1e-3"), "> 0. YAML reads it as a text: write 1.0e-3."),
    (yaml.safe_load("weight_decay: 2.5E4"), "write 2.5e+4."),
    ({"grad_clip": 0}, "grad_clip is 0; valid: a number > 0 or null"),
    ({"warmup": 1}, "warmup is 1; valid: a number >= 0, below 1"),
    ({"ema": 1.0}, "ema is 1.0; valid: a number >= 0 or null, below 1"),
    ({"spike": 0.5}, "spike is 0.5"),
    ({"weight_decay": float("inf")}, "weight_decay is inf"),
    ({"loss": "l3"}, "unknown loss 'l3'"),
    ({"optimiser": "adamv"}, "Did you mean"),
    ({"schedule": None}, "unknown schedule None"),
    ({"precision": "fp8"}, "Valid: bf16, fp16, no"),
    ({"betas": [0.9]}, "betas is [0.9]; valid: two numbers"),
    ({"betas": [0.9, 1]}, "betas is [0.9, 1]"),
    ({"note": 5}, "note is 5; valid: a text"),
    ({"unknown": "lr"}, "unknown is 'lr'; valid: a list of fields"),
    ({"unknown": [[1]]}, "here: unknown: unknown field [1]. Valid: "),
    ({"unknown": ["lrr"]}, "unknown field 'lrr'. Did you mean 'lr'"),
    ({"batch": 8, "accumulate": 3}, "a batch of 8 cannot be made in 3 equal parts"),
    ({"milestones": [0.5, 0.2]}, "milestones is [0.5, 0.2]; valid: shares of the budget"),
    ({"milestones": ["a", 0.5]}, "milestones is ['a', 0.5]"),
    ({"milestones": 0.5}, "milestones is 0.5"),
    ({"milestones": [1]}, "milestones is [1]"),
    ({"phases": []}, "phases is []; valid: null, or a list of at least two"),
    ({"phases": [{"patch": 8}, {"from": 0.5}]}, "phases[0] is {'patch': 8}; valid: a mapping"),
    ({"phases": [{"from": 0}, {"from": 0.5, "loss": "l1"}]}, "phases[1]: unknown key 'loss'"),
    ({"phases": [{"from": 0}, {"from": 0.5, "patch": 2}]}, "phases[1]: patch is 2"),
    ({"phases": [{"from": 0.1}, {"from": 0.5}]}, "the phases begin at [0.1, 0.5]"),
    ({"phases": [{"from": 0}, {"from": "late"}]}, "the phases begin at [0, 'late']"),
    ({"phases": [{"from": 0}, {"from": 0.5}, {"from": 0.5}]}, "the phases begin at"),
    ({"batch": 8, "accumulate": 2, "phases": [{"from": 0}, {"from": 0.5, "batch": 3}]},
     "phases[1]: a batch of 3 cannot be made in 2 equal parts"),
    ({"levels": {"sigma": [50, 15]}}, "levels is {'sigma': [50, 15]}; valid: null, or one range"),
    ({"levels": {"sigma": [0, 15]}}, "levels is"),
    ({"levels": {"sigma": [1, float("inf")]}}, "levels is"),
    ({"levels": {"quality": [10, 101]}}, "levels is"),
    ({"levels": {"quality": [10.5, 40]}}, "whole numbers from 1 to 100"),
    ({"levels": {"scale": [2, 4]}}, "levels is"),
    ({"levels": {"sigma": [1, 2], "quality": [1, 2]}}, "levels is"),
    ({"exclude": ["302003"]}, "exclude is ['302003']; valid: a mapping"),
    ({"exclude": {"a": "302003"}}, "exclude is {'a': '302003'}"),
    ({"exclude": {"a": [302003]}}, "exclude is {'a': [302003]}"),
    ({"data": []}, "data is []; valid: a list of datasets, each once"),
    ({"data": ["a", "a"]}, "data is ['a', 'a']"),
])
def test_what_is_wrong_is_said(changes, message):
    with pytest.raises(UserError) as error:
        resolve(**changes)
    assert str(error.value).startswith("here: ")
    assert message in str(error.value)


@pytest.mark.parametrize(("config", "message"), [
    ({"protocol": "jpeg_color-q10", "levels": {"sigma": [15, 50]}},
     "trains for sigma from 15 to 50 of denoise_gray and denoise_color; jpeg_color-q10@1 is not"),
    ({"protocol": "denoise_color-sigma25", "levels": {"sigma": [30, 50]}},
     "denoise_color-sigma25@1 is not among them"),
    ({"protocol": "sr-x3"}, "patch 16 is not divisible by the scale 3 of sr-x3@2"),
    ({"patch": 18, "protocol": "sr-x3", "phases": [{"from": 0}, {"from": 0.5, "patch": 20}]},
     "patch 20 is not divisible by the scale 3"),
    ({"exclude": {"tinytrian": ["img10"]}}, "unknown dataset 'tinytrian'"),
])
def test_what_does_not_fit_the_protocol_or_the_sets_is_refused_when_planning(
        tmp_path, monkeypatch, config, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="models.thin.training|thin") as error:
        plan.load(trainings.make(tmp_path, **config))
    assert message in str(error.value)


def test_a_training_without_sets_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = trainings.make(tmp_path)
    config = yaml.safe_load(path.read_text())
    del config["models"]["thin"]["training"]["data"]
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="recipe demo names no training sets for sr. Give `data`"):
        plan.load(path)


# -- over the budget -----------------------------------------------------------------------------

def test_the_learning_rate_rises_then_falls_to_zero():
    settings = resolve(lr=2.0, warmup=0.1)
    rates = [recipes.learning_rate(settings, share) for share in np.linspace(0, 1, 101)]
    assert rates[0] == pytest.approx(0.02)
    assert max(rates) == rates[10] == 2.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(1.0)      # half a cosine is at half its height half-way
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_milestones_halve_the_learning_rate():
    settings = resolve(lr=8.0, warmup=0, schedule="milestones", milestones=[0.5, 0.75])
    rates = [recipes.learning_rate(settings, share) for share in (0, 0.49, 0.5, 0.74, 0.75, 1)]
    assert rates == [8, 8, 4, 4, 2, 2]


def test_phases_change_patch_batch_and_rate():
    settings = resolve(lr=8.0, batch=4, patch=16, warmup=0, schedule="milestones", phases=[
        {"from": 0, "batch": 8}, {"from": 0.5, "patch": 32, "lr": 1.0}])
    assert [(now.batch, now.patch) for now in (recipes.in_phase(settings, s) for s in (
        0, 0.49, 0.5, 1))] == [(8, 16), (8, 16), (4, 32), (4, 32)]
    assert [recipes.learning_rate(settings, s) for s in (0.49, 0.5)] == [8.0, 1.0]


# -- blind trainings -----------------------------------------------------------------------------

def test_one_blind_training_serves_all_levels_in_its_range():
    blind = resolve(levels={"sigma": [15, 50]})
    at15, at25, gray = map(protocols.get, ("denoise_color-sigma15", "denoise_color-sigma25",
                                           "denoise_gray-sigma25"))
    sigma = blind.levels
    assert recipes.scope(sigma, at15) == recipes.scope(sigma, at25) == "denoise_color-blind@1"
    assert recipes.scope(sigma, gray) == "denoise_gray-blind@2"
    assert recipes.scope(resolve().levels, at25) == "denoise_color-sigma25@1"
    assert recipes.trained_for(blind, at15) == recipes.trained_for(blind, at25)
    trained = recipes.trained_for(blind, at25)
    assert trained.degradation == {"kind": "gaussian_noise", "sigma": [15, 50]}
    assert (trained.id, trained.level) == ("denoise_color-blind@1", "blind")
    assert recipes.trained_for(resolve(), at25) == at25


def test_versions_that_only_score_differently_are_trained_once():
    old, new = map(protocols.get, ("sr-x2@1", "sr-x2@2"))
    assert recipes.scope(None, old) == recipes.scope(None, new) == "sr-x2@1"
    trained = [recipes.trained_for(resolve(), one).training_definition() for one in (old, new)]
    assert trained[0] == trained[1] and trained[0]["id"] == "sr-x2@1"
    assert not {"metric", "seed", "title", "source"} & set(trained[0])


@pytest.mark.parametrize(("levels", "protocol", "covered"), [
    ({"sigma": [15, 50]}, "denoise_color-sigma15", True),
    ({"sigma": [15, 50]}, "denoise_gray-sigma50", True),
    ({"sigma": [20, 50]}, "denoise_color-sigma15", False),
    ({"quality": [10, 40]}, "jpeg_gray-q40", True),
    ({"quality": [10, 40]}, "denoise_color-sigma15", False),
    ({"sigma": [15, 50]}, "sr-x2", False),
    (None, "denoise_color-sigma15", False)])
def test_what_a_blind_range_covers(levels, protocol, covered):
    assert recipes.covers(levels, protocols.get(protocol)) is covered
