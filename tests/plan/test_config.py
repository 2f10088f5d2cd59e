import sys
from dataclasses import replace

import pytest
import yaml

from irbench import plan
from irbench.core.errors import Superseded, UserError
from irbench.plan import config
from tests.helpers import tiny


def test_defaults_are_filled_in(tmp_path):
    full = config.load(tiny.make(tmp_path))
    assert full["seed"] == 0
    assert full["data_root"] == "data"
    assert full["profile"]["batch"] == 1
    assert full["report"] == {"published": "all", "differences": False, "plots": 8,
                              "formats": ["png"]}
    assert config.check(full) == full


def edit(folder, change):
    path = tiny.make(folder)
    value = yaml.safe_load(path.read_text())
    change(value)
    path.write_text(yaml.safe_dump(value))
    return path


def put(*keys_and_value):
    *keys, last, new = keys_and_value

    def change(value):
        for key in keys:
            value = value[key]
        value[last] = new
    return change


def test_a_plugin_without_cards_is_blamed_on_plugins_and_not_on_a_model(tmp_path):
    (tmp_path / "net.py").write_text("class Net: pass\n")
    path = edit(tmp_path, lambda value: value["plugins"].append(str(tmp_path / "net.py")))
    with pytest.raises(UserError, match=r"plugins: plugin .*net.py: no CARDS found. .* `irbench "
                                        r"init` writes an example, and docs/my-model.md") as caught:
        plan.load(path)
    assert "models." not in str(caught.value)


def test_a_section_alone_is_completed_too(tmp_path):
    """``irbench bench`` has options of a section, but no config."""
    usual = config.load(edit(tmp_path, lambda value: value.pop("profile")))["profile"]
    assert usual["batch"] == 1
    assert config.section("profile") == usual
    assert config.section("profile", {"batch": 3}) == {**usual, "batch": 3}
    # its options that take words, with all of them
    assert config.choices("attention_bench")["dtype"] == ["float32", "float16", "bfloat16"]
    assert set(config.choices("attention_bench")) == {"dtype", "implementations"}
    assert config.choices("profile") == {}
    with pytest.raises(UserError, match="^profile.batch: 0 is not valid; it takes a number of at "
                                        "least 1"):
        config.section("profile", {"batch": 0})


@pytest.mark.parametrize(("change", "message"), [
    (put("sede", 1), r"top level: unknown key 'sede'. Did you mean 'seed'\? Valid keys: .*cells"),
    (put("models", "tiny", "weights", "w.pth"), "unknown key 'weights'. Did you "
     "mean 'checkpoint' or"),
    (put("models", "tiny", "arch", "NET.PY:A"), r"by `plugins: \[NET.PY\]` and a card of it"),
    (put("models", "tiny", "arch", "a\nb.py:A"), r"by `plugins: \[a\nb.py\]` and a card of it"),
    (put("models", "tiny", "arch", "my_net.py:Net"), "models.tiny.arch: 'my_net.py:Net' is not a "
     r"model's name. .* `plugins: \[my_net.py\]` and a card .*docs/my-model.md"),
    (put("models", "My.py", {}), r"models: 'My.py' is not .*`plugins: \[My.py\]`"),
    (put("seed", "x"), "seed: expected integer, found 'x'"),
    (put("metrics", "psnr"), r"metrics: expected a list, found 'psnr'. Write \[psnr\]\."),
    (put("run", "My Run"), "run: the name 'My Run' is not valid"),
    (put("report", {"formats": ["png", "gif"]}), r"report.formats\[1\]: 'gif' is not valid. Valid: "
                                                 "png, pdf"),
    (put("device", "tpu"), "device: 'tpu' is not valid. Valid: auto, cpu, cuda"),
    (put("profile", {"hieght": 3}), "profile: unknown key 'hieght'. Did you mean 'height'"),
    (put("cells", 0, "models", ["tinny"]), r"cells\[0\].models: unknown model 'tinny'. Did you"),
    (put("cells", 0, "datasets", ["set55"]), r"cells\[0\].datasets: unknown dataset 'set55'. Did"),
    (put("cells", 0, "protocol", "sr-x9"), r"cells\[0\]: unknown protocol 'sr-x9'"),
    (put("cells", 0, "protocol", "srr-x2"), "unknown protocol 'srr-x2'. Did you mean 'sr-x2'"),
    (put("cells", 0, "datasets", ["tinytrain"]), "'tinytrain' is a train set, not a test set"),
    (put("cells", 0, "models", ["input"]), r"input \(input\) cannot do sr-x2@2: it does denoise"),
    (put("plugins", []), r"unknown model 'tiny'\..* A model of your own needs its file under `pl"),
    (put("models", "compactr", {}), "models.compactr: unknown model 'compactr'. Did you mean"),
    (put("models", "tiny", {}), "needs either `training`.*or `checkpoint`"),
    (put("models", "bicubic", {"checkpoint": "a"}), "bicubic has no weights; remove checkpoint"),
    (put("models", "tiny", "options", {"widht": 3}), "unknown option of tiny 'widht'. Did you"),
    (put("models", "tiny", "training", "recipe", "dmo"), "unknown recipe 'dmo'. Did you mean"),
    (put("models", "tiny", "training", "step", 3), "unknown key 'step'. Did you mean 'steps'"),
    (put("models", "tiny", "training", "lr", "1e-3"), "lr is '1e-3'; valid: a number > 0"),
    (put("models", "tiny", "training", "seconds", 3), "either steps or seconds.*not both"),
    (put("models", "tiny", "training", "patch", 17), "patch 17 is not divisible by the scale 2"),
    (put("models", "tiny", "training", "data", ["nope"]), "unknown dataset 'nope'"),
    (put("models", "tiny", "checkpoint", 3), "models.tiny.checkpoint: give bundled, a path, or a "),
    (put("plugins", ["nowhere.py"]), "plugin .*nowhere.py: No such file"),
    (put("models", "tiny", "training", "data", ["weights_dncnn"]), "is a weights set, not a train"),
    (put("models", "tiny", "training", "data", []), "training.data: it is empty"),
    (put("models", "tiny", "training", "lr", float("nan")), "lr is not a finite number"),
    (put("models", "tiny", "training", "betas", 5), "betas is 5; valid: two numbers"),
    (put("models", "tiny", "training", "warmup", 5), "warmup is 5; valid: .*below 1"),
    (put("report", {"published": ["SwinIRR"]}), "report.published: .*Did you mean 'SwinIR'"),
    (put("shards", 0), "shards: 0 is not valid. Valid: a whole number of parts from 1 to 1000"),
    (put("shards", {"pixels": 3}), "shards: {'pixels': 3} is not valid. Valid: a whole number"),
    (put("cells", 0, "shards", 2.0), r"cells\[0\].shards: 2.0 is not valid. Valid: a whole"),
    (put("report", {"published": 3}), "report.published: 3 is not valid. Valid: all, none, or a"),
    (lambda value: value.update({"foo": 3}), "unknown key"),
    (lambda value: value.pop("models"), "top level: missing key 'models'"),
    (put("metrics", ["psnr", "psnr"]), r"metrics: \['psnr', 'psnr'\] contains a duplicate"),
    (put("seed", -1), "seed: -1 is not valid; it takes a number of at least 0"),
    (put("attention_bench", {"n": [20000]}), r"n\[0\]: 20000 .*number of at most 16384"),
    (put("run", "tiny\n"), r"run: the name 'tiny\\n' is not valid"),
    (put("models", "tiny\n", {}), r"models: the name 'tiny\\n' is not valid"),
    (put("models", "tiny", "variants", {"x\n": {"options": {"k": 2}}}), r"name 'x\\n' is not"),
    (put("models", "tiny", "arch", "tiny\n"), r"models.tiny.arch: the name 'tiny\\n' is not"),
    (put("cells", 0, "protocol", "sr-x2@1\n"), r"unknown protocol 'sr-x2@1\\n'"),
    (put("cells", 0, "datasets", ["tinyset\n"]), r"unknown dataset 'tinyset\\n'"),
    (put("run", "anchors"), "run: the name 'anchors' is reserved, because irbench uses results"),
    (put("run", "readme.md"), "run: the name 'readme.md' is reserved"),
    (lambda value: value.update({1: 2}), "the key 1 is not a text; write it in quotes"),
])
def test_mistakes_are_explained(tmp_path, change, message):
    path = edit(tmp_path, change)
    with pytest.raises(UserError, match=message) as caught:
        plan.load(path)
    assert str(path) in str(caught.value) or "plugin" in str(caught.value)


def test_a_rule_of_the_schema_without_words_of_its_own_is_explained_by_the_library():
    error = next(config._validator({"const": 1}).iter_errors(2))
    assert config._explain(error) == "top level: 1 was expected."


def test_no_config_no_yaml(tmp_path):
    with pytest.raises(UserError, match="No such file.*--config"):
        config.load(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(UserError, match="not valid YAML"):
        config.load(tmp_path / "bad.yaml")
    (tmp_path / "twice.yaml").write_text("run: a\nseed: 1\nseed: 2\n")
    with pytest.raises(UserError, match="line 3: 'seed' is defined twice"):
        config.load(tmp_path / "twice.yaml")
    (tmp_path / "binary.yaml").write_bytes(bytes(range(128, 256)))
    with pytest.raises(UserError, match="not a text file"):
        config.load(tmp_path / "binary.yaml")
    with pytest.raises(UserError, match="Is a directory"):
        config.load(tmp_path)
    (tmp_path / "list.yaml").write_text("[1]")
    with pytest.raises(UserError, match="top level: expected object"):
        config.load(tmp_path / "list.yaml")


# -- the plan ----------------------------------------------------------------------------------

def fingerprints(path):
    return {f"{job.kind} {'/'.join(job.key.values())}": job.fingerprint
            for job in plan.load(path).jobs()}


def test_a_run_has_the_jobs_its_config_asks_for(tmp_path):
    jobs = fingerprints(tiny.make(tmp_path))
    assert sorted(jobs) == sorted([
        "data tinyset", "data tinytrain",
        "training sr-x2@1/tiny", "training jpeg_gray-q10@1/tiny",
        "cell sr-x2@2/tinyset/bicubic", "cell sr-x2@2/tinyset/tiny",
        "cell jpeg_gray-q10@1/tinyset/input", "cell jpeg_gray-q10@1/tinyset/tiny",
        "profile sr-x2@2/tiny", "profile jpeg_gray-q10@1/tiny", "leaks tiny"])


def test_training_on_a_test_set_stops_no_run_but_is_looked_for(tmp_path):
    run = plan.load(edit(tmp_path, put("models", "tiny", "training", "data", ["tinyset"])))
    (one, other), = run.leaks["tiny"].spec["pairs"]
    assert one == other == run.data["tinyset"].spec["dataset"]


@pytest.mark.parametrize(("change", "affected"), [
    (put("models", "tiny", "training", "steps", 13), ("training", "cell tiny")),
    (put("models", "tiny", "options", {"width": 5}), ("training", "cell tiny", "profile")),
    (put("profile", "samples", 4), ("profile",)),
    (put("metrics", ["psnr"]), ("cell",)),
    (put("title", "Another title"), ()),
    (put("device", "auto"), ("profile",)),
])
def test_a_change_touches_only_what_depends_on_it(tmp_path, change, affected):
    before = fingerprints(tiny.make(tmp_path / "a"))
    path = edit(tmp_path / "b", change)
    # the same images and plugin in another folder: paths are in no fingerprint
    after = fingerprints(path)
    changed = {name for name in before if before[name] != after[name]}
    expected = {name for name in before
                if any(name.startswith(kind.split()[0]) and name.endswith(kind.split()[-1])
                       if " " in kind else name.startswith(kind) for kind in affected)}
    assert changed == expected


def test_code_is_part_of_a_fingerprint(tmp_path):
    path = tiny.make(tmp_path)
    before = fingerprints(path)
    plugin = tmp_path / "tiny_model.py"
    plugin.write_text(plugin.read_text() + "\n# a comment\n")
    assert fingerprints(path) == before
    plugin.write_text(plugin.read_text() + "\nCHANGED = 1\n")
    after = fingerprints(path)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {name for name in before if name.endswith("/tiny")}


def test_a_checkpoint_path_may_name_the_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = edit(tmp_path, put("models", "tiny", {"checkpoint": "{task}/{level}.safetensors"}))
    cell = plan.load(path).find("cell", protocol="sr-x2", dataset="tinyset", model="tiny")
    assert cell.spec["model"]["checkpoint"] == {
        "kind": "file", "path": "sr/x2.safetensors", "sha256": None}
    path = edit(tmp_path, put("models", "tiny", {"checkpoint": "{nothing}"}))
    with pytest.raises(UserError, match="may only contain"):
        plan.load(path)


def test_asking_for_a_job_that_is_not_there(tmp_path):
    run = plan.load(tiny.make(tmp_path))
    with pytest.raises(UserError, match="unknown cell job .*Valid: .*sr-x2@2/tinyset/tiny"):
        run.find("cell", protocol="sr-x2", dataset="tinyset", model="tinyy")
    # what a profile cannot be is no reason why there is no training
    run.config["models"]["tiny"]["profile"] = False
    with pytest.raises(UserError, match="unknown training job 'sr-x3@2/tiny'"):
        run.find("training", protocol="sr-x3", model="tiny")
    with pytest.raises(UserError, match="unknown dataset 'tinysett'. Did you mean 'tinyset'"):
        run.entry("tinysett")


def test_what_a_profile_of_a_seed_cannot_be_is_no_reason_for_its_training(tmp_path):
    run = plan.load(tiny.make(tmp_path, models={"tiny": {"training": {
        "recipe": "demo", "data": ["tinytrain"], "patch": 16, "seeds": 2}}}, cells=[
            {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["tiny"]}]))
    with pytest.raises(UserError, match="is as fast as 'tiny', another seed"):
        run.find("profile", protocol="sr-x2", model="tiny.seed2")
    with pytest.raises(UserError, match="unknown training job 'sr-x3@2/tiny.seed2'"):
        run.find("training", protocol="sr-x3", model="tiny.seed2")


def test_a_job_that_a_newer_plan_does_not_ask_for(tmp_path):
    run = plan.load(tiny.make(tmp_path))
    job = run.data["tinyset"]
    run.check_asked(job)
    with pytest.raises(Superseded, match="no longer asks for this; nothing was written"):
        replace(run, asks_for=lambda one: one is not job).check_asked(job)


@pytest.mark.parametrize(("entry", "name"), [
    ({"training": {"recipe": "demo", "data": ["tinytrain"], "patch": 16}}, "tiny"),
    ({"checkpoint": "w.pt"}, "tiny"),
    ({"checkpoint": "w.pt", "variants": {"k": {"options": {"strength": 0.5}}}}, "tiny.k")])
def test_a_profile_under_another_protocol_is_merely_not_asked_for(tmp_path, entry, name):
    """The model could have one, so no reason is given why it has none."""
    run = plan.load(tiny.make(tmp_path, models={"tiny": entry}, cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["tiny"]}]))
    assert run.find("profile", protocol="sr-x2", model=name).key["protocol"] == "sr-x2@2"
    with pytest.raises(UserError, match="unknown profile job 'sr-x4@2/tiny"):
        run.find("profile", protocol="sr-x4", model=name)
    with pytest.raises(UserError, match="its config asks for no bench jobs, so there is no 'atten"):
        run.find("bench", bench="attention")
    run.config["models"]["tiny"]["profile"] = False
    with pytest.raises(UserError, match=f"the model '{name}' has `profile: false`, so there is no"):
        run.find("profile", protocol="sr-x4", model=name)


def test_a_program_can_complete_its_own_config_without_jsonschema(monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    own = {"run": "mine", "models": {"bicubic": None}, "cells": []}
    found = config.complete(own)
    assert found["models"] == {"bicubic": {}} and found["data_root"] == "data"
    assert found["profile"]["samples"] > 1


@pytest.mark.parametrize("title", ["a\nb", "\x1b[31m", "a\u202eb", "\u2028"])
@pytest.mark.parametrize("model", [False, True])
def test_a_title_is_one_line(title, model):
    value = {"run": "r", "models": {"bicubic": {"title": title} if model else {}},
             "cells": [{"protocol": "sr-x2", "datasets": ["set5"], "models": ["bicubic"]}],
             **({} if model else {"title": title})}
    where = "models.bicubic.title" if model else "title"
    with pytest.raises(UserError, match=f"here: {where}: .*valid is one line of text"):
        config.check(value, "here")


def test_profile_false_is_said_of_every_model(tmp_path):
    entry = {"run": "r", "models": {"bicubic": None, "compacter": {
        "options": {"skip": "input"}, "checkpoint": "bundled"}},
        "cells": [{"protocol": "sr-x2", "datasets": ["set5"], "models": ["bicubic", "compacter"]}]}
    assert plan.build(config.check(entry)).profiles
    full = config.check(entry | {"profile": False})
    planned = plan.build(full)
    assert planned.cells and not planned.profiles
    assert full == config.check(full)       # as the run's folder keeps it
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(entry | {"profile": False}))
    assert not plan.load(tmp_path / "config.yaml").profiles
    assert entry["models"]["bicubic"] is None
    with pytest.raises(UserError, match="profile: expected object, found True"):
        config.check(entry | {"profile": True})
    with pytest.raises(UserError, match="top level: expected object, found False"):
        config.check(False)
