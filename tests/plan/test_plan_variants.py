"""Variants, inference, references and benchmarks in the plan of a run."""

import json

import pytest
import yaml

from irbench import cli, plan
from irbench.catalog.model import Checkpoint, Inference
from irbench.core import digests, files, records
from irbench.core.errors import Unavailable, UserError
from irbench.jobs import verify
from irbench.plan import config, variants
from irbench.report.facts import kinds
from irbench.weights import loading
from tests.helpers import tiny

VARIANTS = {"strong": {"options": {"strength": 0.5}}, "bf16": {"inference": {"dtype": "bfloat16"}}}
REFERENCE = '''
CARDS = {
    "racer": {"title": "Racer", "builder": "build", "tasks": ["sr"], "levels": {"sr": ["x2"]},
              "in_paper": False, "note": "random weights", "source": "a test", "learned": False,
              "reference": True},
}
'''


def edit(folder, change=lambda value: None, variants=VARIANTS):
    """Make the tiny world with variants of its model, changed."""
    path = tiny.make(folder)
    value = yaml.safe_load(path.read_text())
    if variants is not None:
        value["models"]["tiny"]["variants"] = json.loads(json.dumps(variants))
    change(value)
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    return path


def jobs(path):
    return {f"{job.kind} {'/'.join(job.key.values())}": job for job in plan.load(path).jobs()}


def fingerprints(path):
    return {name: job.fingerprint for name, job in jobs(path).items()}


# -- what they become --------------------------------------------------------------------------

def test_a_variant_is_scored_and_profiled_wherever_its_base_is_and_never_trained(tmp_path):
    found = jobs(edit(tmp_path))
    expected = {f"{kind}{name}" for kind in (
        "cell sr-x2@2/tinyset/", "cell jpeg_gray-q10@1/tinyset/", "profile sr-x2@2/",
        "profile jpeg_gray-q10@1/") for name in ("tiny.strong", "tiny.bf16")}
    assert {name for name in found if "tiny." in name} == expected
    assert set(found) - expected == set(jobs(edit(tmp_path / "plain", variants=None)))


def test_a_variant_says_what_it_is(tmp_path):
    run = plan.load(edit(tmp_path))
    base, strong, bf16 = (run.models[name] for name in ("tiny", "tiny.strong", "tiny.bf16"))
    assert list(run.models)[-3:] == ["tiny", "tiny.strong", "tiny.bf16"]
    assert base.base is base.variant is None
    assert base.inference == Inference()
    assert strong.base == bf16.base == "tiny"
    assert strong.variant == {"options": {"strength": 0.5}, "inference": {}}
    assert strong.options == {"width": 4, "strength": 0.5}
    assert strong.base_options == base.options == {"width": 4, "strength": 0.1}
    assert strong.title == "Tiny (not in any paper; strength = 0.5)"
    assert strong.note == "a model for tests; variant: strength = 0.5, weights of tiny"
    assert bf16.variant == {"options": {}, "inference": {"dtype": "bfloat16"}}
    assert bf16.inference == Inference(dtype="bfloat16")
    assert bf16.title == "Tiny (not in any paper; bfloat16)"
    assert bf16.note == "a model for tests; variant: dtype = bfloat16, weights of tiny"
    for variant in (strong, bf16):
        assert variant.training == base.training
        assert variant.checkpoint == Checkpoint("trained")


def test_a_paper_describes_no_variant_and_no_other_number_type(tmp_path):
    def change(value):
        value["models"] = {
            "compacter": {"checkpoint": "c", "variants": {"bf16": {"inference": {
                "dtype": "bfloat16"}}, "tiles": {"inference": {"tile": 64}}}},
            "quick": {"arch": "compacter", "checkpoint": "c", "inference": {"dtype": "bfloat16"},
                      "variants": {"exact": {"inference": {"dtype": "float32"}}}}}
        value["cells"] = [{"protocol": "sr-x2", "datasets": ["tinyset"],
                           "models": ["compacter", "quick"]}]
    models = plan.load(edit(tmp_path, change, None)).models
    assert models["compacter"].in_paper and models["compacter"].note == ""
    assert models["compacter"].published_as
    assert not any(m.in_paper for name, m in models.items() if name != "compacter")
    assert models["compacter.tiles"].title == "Compacter (tiles of 64)"
    assert models["compacter.tiles"].published_as == ""
    assert models["quick"].note == "option dtype = bfloat16"
    assert models["quick"].title == "Compacter"
    # back to what the card says, yet with the weights of another row
    assert models["quick.exact"].title == "Compacter (default inference)"
    assert models["quick.exact"].note == "variant: weights of quick"


def test_a_variant_has_the_training_sets_of_its_base(tmp_path):
    found = plan.load(edit(tmp_path)).trained_on
    assert found["sr-x2@2/tiny.strong"] == found["sr-x2@2/tiny"] == {"tinytrain": []}


def test_a_variant_may_keep_to_some_protocols(tmp_path):
    for given in ("sr-x2", "sr-x2@2"):
        found = jobs(edit(tmp_path, variants={"few": {
            "options": {"strength": 0.2}, "protocols": [given]}}))
        assert {name for name in found if "tiny.few" in name} == {
            "cell sr-x2@2/tinyset/tiny.few", "profile sr-x2@2/tiny.few"}


def test_third_party_weights_have_variants_of_inference(tmp_path):
    def change(value):
        value["models"]["swinir-s"] = {"variants": {"fast": {"inference": {
            "dtype": "bfloat16", "channels_last": True}}}}
        value["cells"][0]["models"].append("swinir-s")
    run = plan.load(edit(tmp_path, change))
    cell = run.find("cell", protocol="sr-x2", dataset="tinyset", model="swinir-s.fast")
    base = run.find("cell", protocol="sr-x2", dataset="tinyset", model="swinir-s")
    assert cell.model.checkpoint == base.model.checkpoint
    assert cell.model.inference.channels_last and not base.model.inference.channels_last
    assert cell.model.title == "SwinIR-S (light; bfloat16, channels last)"
    assert run.models["swinir-s.fast"].published_as == ""


def test_a_self_ensemble_has_a_plus_and_no_printed_values_of_a_single_pass(tmp_path):
    def change(value):
        value["models"] |= {
            "swinir-s": {"variants": {"plus": {"inference": {"self_ensemble": True}},
                                      "half": {"inference": {"self_ensemble": True,
                                                             "dtype": "bfloat16"}}}},
            "swinir-m": {"inference": {"self_ensemble": True},
                         "variants": {"one": {"inference": {"self_ensemble": False}}}}}
    models = plan.load(edit(tmp_path, change)).models
    assert models["swinir-s.plus"].title == "SwinIR-S+ (light)"
    assert models["swinir-s.half"].title == "SwinIR-S+ (light; bfloat16)"
    assert "self-ensemble (mean over 8 flips and rotations)" in models["swinir-s.plus"].note
    assert models["swinir-m"].title == "SwinIR-M+"
    assert models["swinir-m"].published_as == ""    # printed for one forward pass: SwinIR
    assert models["swinir-m.one"].title == "SwinIR-M (default inference)"
    assert "self-ensemble" not in models["swinir-m.one"].note
    assert not kinds.competes(models["swinir-m"])


def test_a_self_ensemble_of_a_mosaic_is_refused(tmp_path):
    def change(value):
        value["models"]["malvar"] = {"inference": {"self_ensemble": True}}
        value["cells"].append({"protocol": "demosaic-rggb", "datasets": ["tinyset"],
                               "models": ["malvar"]})
    with pytest.raises(UserError, match="self_ensemble is not possible under demosaic-rggb@1"):
        plan.load(edit(tmp_path, change))


# -- mistakes ----------------------------------------------------------------------------------

def variant(**entry):
    return lambda value: value["models"]["tiny"].update(variants={"v": entry})


def model(**entry):
    return lambda value: value["models"].update(entry)


def swinir(**entry):
    def change(value):
        value["models"]["swinir-s"] = {"variants": {"v": entry}}
    return change


@pytest.mark.parametrize(("change", "message"), [
    (variant(options={"width": 5}), r"models.tiny.variants.v.options: 'width' changes the weights "
     r"of tiny, .*those of tiny. Free options of tiny: strength\."),
    (variant(options={"strenght": 1}), "v.options: unknown option of tiny 'strenght'. Did you"),
    (variant(options={"strength": "much"}), "strength is 'much'; it takes a number, as 0.1"),
    (variant(options={"strength": True}), "strength is True; it takes a number"),
    (variant(options={"strength": 0.1}), "v: it is equal to tiny. .*Free options of tiny: streng"),
    (variant(inference={"dtype": "float32"}), "v: it is equal to tiny"),
    (variant(inference={"dtype": "float16"}), "v.inference: .* does not run in dtype 'float16'"),
    (variant(inference={"dtype": "int8"}), "v.inference.dtype: 'int8' is not valid. Valid: float3"),
    (variant(inference={"tiles": 3}), "v.inference: unknown key 'tiles'. Did you mean 'tile'"),
    (variant(inference={"tile": "none"}), "v.inference: tile is 'none'; it takes auto, off or"),
    (variant(inference={"self_ensemble": 8}), "self_ensemble: expected boolean, found 8"),
    (variant(option={"strength": 1}), "variants.v: unknown key 'option'. Did you mean 'options'"),
    (variant(), "variants.v: it is empty"),
    (variant(inference={"compile": True}, protocols=["sr-x4"]),
     "v.protocols: tiny has no cell under 'sr-x4'. Its protocols: jpeg_gray-q10@1, sr-x2@2"),
    (variant(inference={"compile": True}, protocols=[]), "v.protocols: it is empty"),
    (lambda value: value["models"]["tiny"].update(variants={"A b": {}}), "the name 'A b' is not"),
    (model(**{"tiny.strong": {"arch": "bicubic"}}), "'tiny.strong' is used twice"),
    (lambda value: value["cells"][0]["models"].append("tiny.strong"),
     r"cells\[0\].models: tiny.strong is a variant; it runs wherever tiny does.*Name tiny\."),
    (lambda value: value["cells"][0]["models"].append("tiny.strongg"),
     r"cells\[0\].models: unknown model 'tiny.strongg'.*Valid: bicubic, input, tiny\."),
    (swinir(options={"k": 1}), "swinir-s has third-party weights.*Only `inference` of swinir-s"),
    (swinir(inference={"compile": False}), "it is equal to swinir-s.*Only `inference` of swin"),
    (model(bicubic={"variants": {"v": {"options": {"k": 1}}}}), "unknown option of bicubic 'k'"),
    (model(bicubic={"inference": {"dtype": "bfloat16"}}),
     "bicubic.inference: this model does not run in dtype 'bfloat16'"),
    (model(bicubic={"inference": {"overlap": -1}}), "bicubic.inference: overlap is -1"),
    (model(fast={"arch": "racer"}), "models.fast: racer is a speed reference.*profile.refer"),
    (lambda value: value["profile"].update(references=["racerr"]),
     "profile.references: unknown reference 'racerr'. Did you mean 'racer'"),
    (lambda value: value["profile"].update(references=["tiny"]), "unknown reference 'tiny'"),
    (lambda value: (value["profile"].update(references=["racer"]), value["models"].update(
        racer={"arch": "bicubic"})), "'racer' is also a name under `models`. Rename that"),
    (lambda value: (value["profile"].update(references=["racer"]), value["cells"].pop(0)),
     r"racer supports none of the profiled protocols of this run \(jpeg_gray-q10@1\); "
     "it supports sr"),
    (lambda value: (value["profile"].update(references=["racer"]),
                    value["models"]["tiny"].update(profile=False)), "of this run .there are none"),
    (lambda value: value["profile"].update(sweep={"size": [3]}), "sweep: unknown key 'size'. Did"),
    (lambda value: value["profile"].update(sweep={"sizes": []}), "sweep.sizes: it is empty"),
    (lambda value: value["profile"].update(sweep={"sizes": [8, 1]}), r"sizes\[1\]: 1 is not valid"),
    (lambda value: value["profile"].update(sweep={"batches": [2, 2]}), "contains a duplicate"),
    (lambda value: value.update(attention_bench={"N": [4]}), "attention_bench: unknown key 'N'"),
    (lambda value: value.update(attention_bench={"n": [0]}), r"attention_bench.n\[0\]: 0 is not"),
    (lambda value: value.update(attention_bench={"implementations": ["flash"]}),
     r"implementations\[0\]: 'flash' is not valid. Valid: reference, mask, gather, flex, triton"),
])
def test_mistakes_are_explained(tmp_path, change, message):
    def all_of(value):
        value["plugins"].append(str(tmp_path / "racer.py"))
        change(value)
    tmp_path.joinpath("racer.py").write_text(REFERENCE)
    path = edit(tmp_path, all_of)
    with pytest.raises(UserError, match=message) as caught:
        plan.load(path)
    assert str(path) in str(caught.value)


# -- fingerprints ------------------------------------------------------------------------------

def put(**entry):
    return lambda value: value["models"]["tiny"].update(entry)


TRAINING = {"recipe": "demo", "data": ["tinytrain"], "steps": 13, "patch": 16, "batch": 2}


@pytest.mark.parametrize(("change", "affected"), [
    (put(variants={**VARIANTS, "third": {"options": {"strength": 2}}}), ()),
    (put(variants={**VARIANTS, "strong": {"options": {"strength": 0.6}}}), ("tiny.strong",)),
    (put(variants={**VARIANTS, "bf16": {"inference": {"dtype": "float64"}}}), ("tiny.bf16",)),
    (put(variants={**VARIANTS, "bf16": {"inference": {"dtype": "bfloat16", "compile": False}}}),
     ()),
    # the inference options of a base do not change weights; a variant inherits what it does not set
    (put(inference={"channels_last": True}),
     ("cell tiny", "profile tiny", "tiny.strong", "tiny.bf16")),
    (put(inference={"dtype": "bfloat16"}, variants={"strong": VARIANTS["strong"]}),
     ("cell tiny", "profile tiny", "tiny.strong")),
    (put(training=TRAINING), ("training", "cell tiny", "cell tiny.strong", "cell tiny.bf16")),
    # the option of the base is one of its training; a variant that sets it is scored anew
    (put(options={"strength": 0.2}),
     ("training", "cell tiny", "profile tiny", "cell tiny.strong", "tiny.bf16")),
    (lambda value: value["profile"].update(sweep={"sizes": [8]}), ("profile",)),
    (lambda value: value.update(attention_bench={}), ()),
    (lambda value: value["profile"].update(references=["swinir-s-random"]), ()),
])
def test_a_change_touches_only_what_depends_on_it(tmp_path, change, affected):
    before = fingerprints(edit(tmp_path / "a"))
    after = fingerprints(edit(tmp_path / "b", change))
    changed = {name for name in before if name in after and before[name] != after[name]}

    def hit(name):
        kind, model = name.split()[0], name.rpartition("/")[2]
        return any(model == one if " " not in one and one.startswith("tiny.") else
                   (kind, model) == tuple(one.split()) if " " in one else kind == one
                   for one in affected)
    assert changed == {name for name in before if name in after and hit(name)}


def test_planned_specs_are_plain_data(tmp_path):
    run = plan.load(edit(tmp_path, lambda value: value.update(attention_bench={})))
    assert json.loads(json.dumps(run.report_spec)) == run.report_spec
    for job in run.jobs():
        assert json.loads(json.dumps(job.spec)) == job.spec


# -- profiles and benchmarks -------------------------------------------------------------------

def test_a_sweep_is_off_unless_asked_for_and_then_complete(tmp_path):
    assert config.load(edit(tmp_path))["profile"]["sweep"] is None
    full = config.load(edit(tmp_path, lambda value: value["profile"].update(
        sweep={"batches": [1, 2]})))
    assert full["profile"]["sweep"] == {"sizes": [64, 96, 128], "batches": [1, 2], "samples": 3}
    assert config.check(full) == full
    job = plan.build(full).find("profile", protocol="sr-x2", model="tiny.bf16")
    assert job.spec["profile"]["sweep"] == full["profile"]["sweep"]
    assert job.model.inference.dtype == "bfloat16"


def test_references_are_profiled_where_they_can_be_and_nothing_else(tmp_path):
    run = plan.load(edit(tmp_path, lambda value: value["profile"].update(
        references=["swinir-s-random"])))
    mine = [job for job in run.jobs() if "swinir-s-random" in job.key.values()]
    assert [job.title for job in mine] == ["profile sr-x2@2 / swinir-s-random"]
    assert "references" not in mine[0].spec["profile"]
    spec = run.report_spec
    assert spec["references"] == ["swinir-s-random"]
    assert spec["models"]["swinir-s-random"]["reference"] is True
    assert spec["models"]["swinir-s-random"]["note"]
    assert {"protocol": "sr-x2@2", "model": "swinir-s-random"} in spec["profiles"]


def test_a_benchmark_is_a_job_like_any_other(tmp_path):
    run = plan.load(edit(tmp_path, lambda value: value.update(attention_bench={"n": [16]})))
    job = run.find("bench", bench="attention")
    assert job.record == run.folder / "benches" / "attention.json"
    assert job.spec["bench"]["n"] == [16] and job.spec["bench"]["windows"] == 4
    assert run.report_spec["benches"] == [{"bench": "attention"}]
    assert run.report_spec["fingerprints"]["benches/attention.json"] == job.fingerprint
    assert f"{job.title}: not computed ({job.record})" in verify.check(run)
    other = plan.load(edit(tmp_path, lambda value: value.update(attention_bench={"n": [25]})))
    assert other.benches["attention"].fingerprint != job.fingerprint
    assert not plan.load(edit(tmp_path)).benches
    assert plan.load(edit(tmp_path)).report_spec["benches"] == []


# -- weights -----------------------------------------------------------------------------------

def ready(run, name):
    protocol = run.protocols["sr-x2@2"]
    cell = run.find("cell", protocol="sr-x2", dataset="tinyset", model=name)
    return loading.ready(cell.model, protocol, run.folder, run.folder,
                             tuple(run.config["plugins"]))


def test_a_variant_runs_the_weights_of_its_base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = edit(tmp_path)
    run = plan.load(path)
    with pytest.raises(Unavailable, match=r"model tiny is not trained .* --model tiny\b"):
        ready(run, "tiny.strong")
    assert cli.main(["train", "--protocol", "sr-x2", "--model", "tiny.strong"]) == 2
    assert cli.main(["train", "--protocol", "sr-x2", "--model", "tiny"]) == 0
    base, strong = ready(run, "tiny"), ready(run, "tiny.strong")
    assert base[1] == strong[1]
    assert (base[0].strength, strong[0].strength) == (0.1, 0.5)
    assert all((strong[0].state_dict()[name] == value).all()
               for name, value in base[0].state_dict().items())
    # the same from a file, which names the options it was trained with
    weights = run.folder / "checkpoints" / "sr-x2@1" / "tiny.safetensors"
    weights = weights.rename(tmp_path / "w.safetensors")

    def given(**options):
        value = yaml.safe_load(path.read_text())
        value["models"]["tiny"] = {"checkpoint": str(weights), "variants": VARIANTS,
                                   "options": options}
        value["cells"].pop(1)
        (tmp_path / "file.yaml").write_text(yaml.safe_dump(value))
        return plan.load(tmp_path / "file.yaml")
    assert ready(given(), "tiny.strong")[1] == base[1]
    with pytest.raises(UserError, match="it is for options .*give the options it was trained with"):
        ready(given(strength=0.7), "tiny")
    with pytest.raises(UserError, match="but model tiny needs .*'strength': 0.7"):
        ready(given(strength=0.7), "tiny.strong")


def test_verify_knows_whose_weights_a_variant_has(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = plan.load(edit(tmp_path))
    training = run.trainings["sr-x2@1/tiny"]
    cell = run.find("cell", protocol="sr-x2", dataset="tinyset", model="tiny.strong")
    files.write_atomic(run.folder / "w.safetensors", "weights")
    own = digests.file_digest(run.folder / "w.safetensors")
    files.write_json(training.record, records.make(
        "training", training.key, training.spec, result={"checkpoint": {
            "file": "w.safetensors", "sha256": own}}))
    for digest, problem in ((own, []), ("a" * 64, ["computed with other weights"])):
        files.write_json(cell.record, records.make(
            "cell", cell.key, cell.spec, resolved={"checkpoint": digest},
            result={"images": tiny.IMAGES, "mean": {}}))
        found = [p for p in verify.check(run) if p.startswith(f"{cell.title}: computed")]
        assert [p.split(": ")[1].split(" than")[0] for p in found] == problem


def test_a_model_with_other_options_is_not_called_a_variant():
    """Its weights are its own; "Variants are not ranked" does not hold for it."""
    assert variants.note("A card.", {"skip": "input"}) == "A card; option skip = input"
    assert variants.note("A card.", {}) == "A card."
    assert variants.note("", {"k": 64, "skip": "input"}) == "options k = 64, skip = input"
    assert variants.note("", {"k": 64, "self_ensemble": True}).startswith(
        "option k = 64; with self-ensemble (")
    assert variants.note("", {"k": 8}, "semanir") == "variant: k = 8, weights of semanir"
    assert variants.note("A card.", {}) == "A card."
