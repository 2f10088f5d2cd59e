"""What weights were trained on: known of trainings and of files that name it, else unknown."""

import hashlib
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
import yaml

from irbench import cli, plan
from irbench.catalog import protocols
from irbench.catalog.model import Model
from irbench.core import digests, files, records
from irbench.core.errors import UserError
from irbench.data import sets as datasets
from irbench.jobs import verify
from irbench.plan import file, trained_on
from irbench.report import collect
from irbench.report.facts import leakage
from irbench.report.page import page, provenance
from irbench.report.tables import tables
from irbench.weights import bundled, loading
from tests.helpers import sets, tiny

TITLE = "Tiny (not in any paper)"


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The tiny world, whose model comes from a file; the function writes it with some metadata."""
    monkeypatch.chdir(tmp_path)
    config = tiny.make(tmp_path, models={"bicubic": {}, "tiny": {"checkpoint": "w.safetensors"}},
                       cells=[{"protocol": "sr-x2", "datasets": ["tinyset"],
                               "models": ["bicubic", "tiny"]}])

    def write(**metadata):
        model = Model("tiny", "tiny", options={"width": 4})
        loading.save(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, model,
                         protocols.get("sr-x2"), **metadata)
        return plan.load(config)
    return write


def digest(name):
    return datasets.digest(datasets.get(name, ["datasets.yaml"]))


def collected(run):
    return collect.collect(run.folder, run.report_spec)


def test_a_file_that_names_its_sets_is_searched(world, tmp_path, capsys):
    shutil.copy(tmp_path / "images/test/img0.png", tmp_path / "images/train/copy.png")
    run = world(datasets=[{"name": "tinytrain", "sha256": digest("tinytrain")}])
    assert run.trained_on == {"sr-x2@2/bicubic": {}, "sr-x2@2/tiny": {"tinytrain": []}}
    (one, other), = run.leaks["tiny"].spec["pairs"]
    assert (one["name"], other["name"]) == ("tinytrain", "tinyset")
    assert (one["sha256"], one["here"]) == (digest("tinytrain"), "complete")
    assert list(run.data) == ["tinyset"] and not run.trainings
    assert cli.main(["data", "leak", "--on-failure", "record", "--supervised"]) == 0
    shown = collected(run)
    leaks = {cell.model: cell.leak for cell in shown.cells}
    assert leaks["bicubic"] == "" and "1 of 3 images is in tinytrain" in leaks["tiny"]
    assert any("marked and not ranked" in wording for wording in page.warnings(shown, []))
    assert leakage.LIMITS in shown.leaks.summary() and "unknown" not in shown.leaks.summary()


@pytest.mark.parametrize("sets", [
    None, [], ["tinytrain"], [{"name": "tinytrain"}], [{"name": "tinytrain", "sha256": None}],
    [{"name": "tinytrain", "sha256": "0" * 64}], [{"name": "nowhere", "sha256": "0" * 64}],
    "both"])
def test_what_is_not_known_is_told(world, capsys, sets):
    """Another version of a set, or only some of the sets: which images were seen is not known."""
    if sets == "both":
        sets = [{"name": "tinytrain", "sha256": digest("tinytrain")},
                {"name": "gone", "sha256": "0" * 64}]
    run = world(**({} if sets is None else {"datasets": sets}))
    assert run.trained_on["sr-x2@2/tiny"] is None and not run.leaks
    assert list(run.data) == ["tinyset"]
    assert collected(run).leaks.summary() == (
        f"The training data of {TITLE} are unknown and not compared. If you know the sets, name "
        "them in the config (trained_on).")
    assert cli.main(["data", "leak"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["leaks"], found["unknown"]) == (None, ["tiny"])


def test_what_only_a_file_names_is_not_fetched_to_be_searched(world, tmp_path, capsys):
    catalog = yaml.safe_load((tmp_path / "datasets.yaml").read_text())
    image = tmp_path / "images/train/img10.png"
    catalog["datasets"]["far"] = {"title": "Far", "use": "train", "manifest": "far.csv"}
    (tmp_path / "datasets.yaml").write_text(yaml.safe_dump(catalog))
    (tmp_path / "far.csv").write_text(sets.HEAD + sets.line(
        sha256=digests.file_digest(image), size=str(image.stat().st_size)))
    run = world(datasets=[{"name": "far", "sha256": digest("far")}], exclude={"far": ["a"]})
    assert run.trained_on["sr-x2@2/tiny"] == {"far": ["a"]} and "far" not in run.data
    code, shown, found = searched(capsys)
    assert (code, found["leaks"]) == (3, None)
    assert "NOT COMPARED" in shown and "irbench data fetch far" in shown
    wording = page.warnings(collected(run), [])
    assert any("the training set far is not downloaded. Run irbench data fetch far, then" in one
               for one in wording)
    # once it is here, the search is made anew
    (tmp_path / "data/far/hr").mkdir(parents=True)
    shutil.copy(image, tmp_path / "data/far/hr/a.png")
    again = plan.load(tmp_path / "config.yaml")
    assert again.leaks["tiny"].fingerprint != run.leaks["tiny"].fingerprint
    assert searched(capsys)[0] == 0


def test_a_third_partys_file_is_of_unknown_data(world, tmp_path):
    config = tiny.make(tmp_path, cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["tiny", "swinir-m"]}],
        models={"swinir-m": {}, "tiny": {"training": {
            "recipe": "demo", "data": ["tinytrain"], "steps": 2, "patch": 16}}})
    run = plan.load(config)
    assert run.trained_on == {"sr-x2@2/tiny": {"tinytrain": []}, "sr-x2@2/swinir-m": None}
    assert cli.main(["data", "leak", "--on-failure", "record", "--supervised"]) == 0
    wording = collected(run).leaks.summary()
    assert wording.startswith("Training sets (tinytrain for Tiny (not in any paper)) were compared")
    assert "The training data of SwinIR-M are unknown and not compared." in wording


# -- images left out -------------------------------------------------------------------------------

@pytest.fixture
def copied(tmp_path):
    """A test image is in the training set too, as copy.png."""
    def copy():
        shutil.copy(tmp_path / "images/test/img0.png", tmp_path / "images/train/copy.png")
    return copy


def searched(capsys):
    """Make the run's record as the workflow does; return what the command tells, and its code."""
    assert cli.main(["data", "leak", "--on-failure", "record", "--supervised"]) == 0
    capsys.readouterr()
    code = cli.main(["data", "leak"])
    lines = capsys.readouterr().out.splitlines()
    return code, "\n".join(lines[:-1]), json.loads(lines[-1])


@pytest.mark.parametrize(("exclude", "leaks"), [
    ({"tinytrain": ["copy"]}, False), ({"tinytrain": ["img10"]}, True), ({}, True), (None, True),
    ({"elsewhere": ["copy"]}, True)])
def test_a_file_that_names_images_left_out(world, copied, capsys, exclude, leaks):
    copied()
    named = {} if exclude is None else {"exclude": exclude}
    run = world(datasets=[{"name": "tinytrain", "sha256": digest("tinytrain")}], **named)
    assert run.trained_on["sr-x2@2/tiny"] == {"tinytrain": (exclude or {}).get("tinytrain", [])}
    code, shown, found = searched(capsys)
    assert (code, found["leaks"]) == ((1, 1) if leaks else (0, 0))
    pair, = found["pairs"]
    who = ["sr-x2@2/tiny"]
    assert (pair["trained_by"], pair["left_out_by"]) == ((who, []) if leaks else ([], who))
    assert ("1 in common" in shown) == leaks
    assert ("1 left out of the training" in shown) != leaks


@pytest.mark.parametrize("exclude", [
    {"tinytrain": ["nobody"]}, {"tinytrain": 3}, ["tinytrain"], "copy", {"tinytrain": [["copy"]]}])
def test_a_header_that_leaves_out_what_is_not_there_is_not_believed(world, copied, exclude):
    copied()
    run = world(datasets=[{"name": "tinytrain", "sha256": digest("tinytrain")}], exclude=exclude)
    assert run.trained_on["sr-x2@2/tiny"] is None


TRAINING = {"recipe": "demo", "data": ["tinytrain"], "steps": 2, "patch": 16, "batch": 2}


def train_two(tmp_path, **changes):
    """A run with two trainings: "careful" leaves the copy out, unless changed; "tiny" does not."""
    careful = {**TRAINING, "exclude": {"tinytrain": ["copy"]}, **changes}
    return tiny.make(tmp_path, models={
        "tiny": {"training": TRAINING},
        "careful": {"arch": "tiny", "training": careful, "variants": {
            "strong": {"options": {"strength": 0.5}}}}},
        cells=[{"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["tiny", "careful"]}])


def test_trainings_of_one_run_are_told_apart(world, tmp_path, copied, capsys):
    run = plan.load((copied(), train_two(tmp_path))[1])
    careful = {"tinytrain": ["copy"]}
    assert run.trained_on == {
        "sr-x2@2/tiny": {"tinytrain": []}, "sr-x2@2/careful": careful,
        "sr-x2@2/careful.strong": careful}
    code, shown, found = searched(capsys)
    assert (code, found["leaks"]) == (1, 1)
    pair, = found["pairs"]
    assert (pair["trained_by"], pair["left_out_by"]) == (
        ["sr-x2@2/tiny"], ["sr-x2@2/careful", "sr-x2@2/careful.strong"])
    assert ("left out by sr-x2@2/careful, sr-x2@2/careful.strong, trained on by sr-x2@2/tiny"
            in shown)
    # the record is of whole sets: leaving another image out searches nothing again
    before = next(iter(run.leaks.values()))
    assert records.read(before.record)["result"]["pairs"][0].keys() == {
        "train", "test", "train_image", "test_image", "kind", "distance", "bits", "position"}
    again = plan.load(train_two(tmp_path, exclude={"tinytrain": ["img11"]}))
    assert next(iter(again.leaks.values())).fingerprint == before.fingerprint
    assert again.trainings["sr-x2@1/careful"].fingerprint != run.trainings[
        "sr-x2@1/careful"].fingerprint
    assert again.trainings["sr-x2@1/tiny"].fingerprint == run.trainings["sr-x2@1/tiny"].fingerprint


def test_the_report_marks_only_those_who_trained_on_it(world, tmp_path, copied, capsys):
    run = plan.load((copied(), train_two(tmp_path))[1])
    searched(capsys)
    leaks = {cell.model: cell.leak for cell in collected(run).cells}
    assert "1 of 3 images is in tinytrain" in leaks["tiny"]
    assert leaks["careful"] == leaks["careful.strong"] == ""


def test_the_header_of_a_training_says_what_it_left_out(world, tmp_path, copied, capsys):
    copied()
    path = train_two(tmp_path)
    assert cli.main(["train", "--protocol", "sr-x2", "--model", "careful"]) == 0
    value = yaml.safe_load(path.read_text())
    shutil.copy("results/tiny/checkpoints/sr-x2@1/careful.safetensors", "w.safetensors")
    value["models"]["careful"] = {"arch": "tiny", "checkpoint": "w.safetensors"}
    path.write_text(yaml.safe_dump(value))
    assert plan.load(path).trained_on["sr-x2@2/careful"] == {"tinytrain": ["copy"]}


@pytest.mark.parametrize(("change", "wording"), [
    ({"exclude": {"tinytrian": ["copy"]}}, "models.careful.training.exclude: unknown dataset "
     "'tinytrian'. Did you mean 'tinytrain'"),
    ({"exclude": {"tinytrain": ["copy", "cpoy"]}}, "models.careful.training.exclude: dataset "
     "'tinytrain' has no image 'cpoy'"),
    ({"exclude": {"tinytrain": ["copy.png"]}}, "has no image 'copy.png'. Give file "
     "names without their extension"),
    ({"exclude": ["copy"]}, "exclude is .'copy'.; valid: a mapping"),
])
def test_what_cannot_be_left_out_is_an_error_at_planning(world, tmp_path, copied, change, wording):
    copied()
    with pytest.raises(UserError, match=wording):
        plan.load(train_two(tmp_path, **change))


def test_what_a_recipe_leaves_out_of_other_sets_does_not_matter(world, tmp_path):
    """The catalog's recipe names an image of BSDS500; here something else is trained on."""
    training = {"recipe": "short", "data": ["tinytrain"], "patch": 16, "holdout": 1}
    run = plan.load(tiny.make(tmp_path, models={"tiny": {"training": training}}, cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["tiny"]}]))
    assert run.trained_on == {"sr-x2@2/tiny": {"tinytrain": []}}
    job, = run.trainings.values()
    assert job.model.training.exclude == {}
    cell, = run.cells.values()
    assert cell.model.training == job.model.training


def test_a_target_is_left_out_with_the_last_of_its_inputs(tmp_path):
    """Two hazy inputs a clear image: names in `exclude` are those of the inputs."""
    for name in ("hazy/1_a.png", "hazy/1_b.png", "hazy/2_a.png", "clear/1.png", "clear/2.png"):
        sets.images(tmp_path / name.split("/")[0], name.split("/")[1])
    entry = sets.make(tmp_path, local={"folder": ".", "hr": "clear/*.png", "input": "hazy/*.png"},
                      match={"input": "_[ab]$"})
    assert trained_on.left_out(entry, ["1_a"], "here") == []
    assert trained_on.left_out(entry, ["1_b", "1_a"], "here") == ["1"]
    assert trained_on.left_out(entry, ["2_a"], "here") == ["2"]
    with pytest.raises(UserError, match="here: dataset 'mine' has no image '2'"):
        trained_on.left_out(entry, ["2"], "here")


def test_what_is_left_out_of_a_missing_set_is_taken_as_named(tmp_path):
    entry = sets.make(tmp_path, local={"folder": "nowhere"})
    assert trained_on.left_out(entry, ["b", "a", "b"], "here") == ["a", "b"]


# -- declared in the config ------------------------------------------------------------------------

LEFT_OUT = {"data": ["tinytrain"], "exclude": {"tinytrain": ["copy"]}}


def declare(tmp_path, entry, **models):
    """Write a config with an entry of the model tiny, and return its plan."""
    names = ["bicubic", "tiny", *models]
    return plan.load(tiny.make(
        tmp_path, models={"bicubic": {}, "tiny": {"arch": "tiny", **entry}, **models},
        cells=[{"protocol": "sr-x2", "datasets": ["tinyset"], "models": names}]))


@pytest.mark.parametrize("entry", [
    {"checkpoint": "w.safetensors", "trained_on": ["tinytrain"]},
    {"checkpoint": {"path": "w.safetensors", "trained_on": ["tinytrain"]}},
    {"checkpoint": {"path": "w.safetensors"}, "trained_on": {"data": ["tinytrain"]}}])
def test_declared_sets_are_searched_and_shown(world, tmp_path, copied, capsys, entry):
    copied()
    world()
    variants = {"variants": {"strong": {"options": {"strength": 0.5}}}}
    run = declare(tmp_path, {**entry, **variants},
                  careful={"arch": "tiny", "checkpoint": "w.safetensors", "trained_on": LEFT_OUT})
    assert run.trained_on == {
        "sr-x2@2/bicubic": {}, "sr-x2@2/tiny": {"tinytrain": []},
        "sr-x2@2/tiny.strong": {"tinytrain": []}, "sr-x2@2/careful": {"tinytrain": ["copy"]}}
    assert list(run.data) == ["tinyset"]        # no job for the set: it is not fetched for this
    code, _, found = searched(capsys)
    assert (code, found["leaks"], found["unknown"]) == (1, 1, [])
    shown = collected(file.read(file.write(run)))
    leaks = {cell.model: cell.leak for cell in shown.cells}
    assert leaks["bicubic"] == leaks["careful"] == ""
    assert "1 of 3 images is in tinytrain" in leaks["tiny"] == leaks["tiny.strong"]
    assert "unknown" not in shown.leaks.summary()
    notes = {row.key: " ".join(table.notes[mark] for mark in row.heads[0].marks)
             for table in tables.build(shown) if table.stem == "sr"
             for block in table.blocks for row in block.rows}
    declared = "trained on tinytrain (declared in the config"
    assert "trained on" not in notes["bicubic"]
    assert f"{declared})" in notes["tiny"] and f"{declared})" in notes["tiny.strong"]
    assert f"{declared}; left out: copy of tinytrain)" in notes["careful"]
    for cell in shown.cells[1:]:
        origin = dict(provenance.Origins(shown, shown.cells).facts(cell))
        assert "on tinytrain (declared in the config" in origin["Training"], cell.model


def test_a_declaration_changes_no_job_but_the_search(world, tmp_path, copied):
    copied()
    world()
    entry = {"checkpoint": {"path": "w.safetensors"}}
    before = declare(tmp_path, entry)
    after = declare(tmp_path, {**entry, "trained_on": LEFT_OUT})
    assert [(job.title, job.fingerprint) for job in before.jobs()] == [
        (job.title, job.fingerprint) for job in after.jobs() if job.kind != "leaks"]
    assert not before.leaks and after.leaks


@pytest.mark.parametrize("entry", [
    {"external": "w.pth"}, {"outputs": "pictures"}, {"arch": "swinir-m"},
    {"arch": "tiny", "checkpoint": {"url": "https://host.invalid/w.pth", "sha256": "a" * 64}}])
def test_sets_can_be_declared_of_every_kind_of_foreign_model(world, tmp_path, entry):
    run = plan.load(tiny.make(tmp_path, models={"other": {**entry, "trained_on": ["tinytrain"]}},
                              cells=[{"protocol": "sr-x2", "datasets": ["tinyset"],
                                      "models": ["other"]}]))
    assert run.trained_on == {"sr-x2@2/other": {"tinytrain": []}}
    shown = collected(run)
    assert "on tinytrain (declared in the config)" in dict(
        provenance.Origins(shown, shown.cells).facts(shown.cells[0]))["Training"]


def test_sets_that_a_file_names_are_kept_beside_declared_ones(world, tmp_path):
    """A declaration can add sets, and cannot hide that an image was seen, or a set."""
    world(datasets=[{"name": "tinytrain", "sha256": digest("tinytrain")}],
          exclude={"tinytrain": ["img10"]})
    entry = {"checkpoint": "w.safetensors"}
    both = declare(tmp_path, {**entry, "trained_on": ["photos_train"]})
    assert both.trained_on["sr-x2@2/tiny"] == {"tinytrain": ["img10"], "photos_train": []}
    seen = declare(tmp_path, {**entry, "trained_on": {
        "data": ["tinytrain"], "exclude": {"tinytrain": ["img10", "img11"]}}})
    assert seen.trained_on["sr-x2@2/tiny"] == {"tinytrain": ["img10"]}


def test_a_declared_set_that_is_not_here_is_told_with_the_command(world, tmp_path, capsys):
    world()
    run = declare(tmp_path, {"checkpoint": "w.safetensors", "trained_on": ["bsds500_train"]})
    assert "bsds500_train" not in run.data
    code, shown, found = searched(capsys)
    assert (code, found["leaks"]) == (3, None)
    assert "NOT COMPARED" in shown
    assert any(f"Leak check skipped for {TITLE}: the training set bsds500_train is not downloaded. "
               "Run irbench data fetch bsds500_train, then" in one
               for one in page.warnings(collected(run), []))


@pytest.mark.parametrize(("entry", "wording"), [
    ({"trained_on": ["tinytrian"]}, "models.tiny: trained_on: unknown dataset 'tinytrian'. Did you "
     "mean 'tinytrain'"),
    ({"trained_on": ["weights_dncnn"]}, "'weights_dncnn' is a weights set, not a set of images"),
    ({"trained_on": "tinytrain"}, r"trained_on: 'tinytrain' is not valid. Valid: a list of dat"),
    ({"trained_on": []}, "trained_on: .. is not valid"),
    ({"trained_on": {"exclude": {}}}, "trained_on: .* is not valid. Valid: .*mapping with data"),
    ({"trained_on": {"data": ["tinytrain"], "exclude": {"tinytrain": [302003]}}}, "in quotes"),
    ({"trained_on": {"data": ["tinytrain"], "exclude": {"tinyset": ["a"]}}},
     "trained_on.exclude: unknown dataset 'tinyset'.*Valid: tinytrain"),
    ({"trained_on": {"data": ["tinytrain"], "exclude": {"tinytrain": ["nobody"]}}},
     "models.tiny: trained_on.exclude: dataset 'tinytrain' has no image 'nobody'"),
    ({"checkpoint": {"path": "w", "trained_on": 3}}, "checkpoint: give bundled, .*and trained_on"),
    ({"checkpoint": {"path": "w", "trained_on": ["tinytrain"]}, "trained_on": ["tinytrain"]},
     "'trained_on' is given twice"),
    ({"arch": "compacter", "checkpoint": "bundled", "options": {"skip": "input"},
      "trained_on": ["tinytrain"]}, "'trained_on' does not apply to bundled weights"),
    ({"arch": "bicubic", "checkpoint": None, "trained_on": ["tinytrain"]}, "has no weights"),
    ({"checkpoint": None, "training": {"recipe": "demo", "data": ["tinytrain"]},
      "trained_on": ["tinytrain"]}, "'trained_on' does not apply to a training, whose sets are"),
])
def test_what_cannot_be_declared_is_refused(world, tmp_path, entry, wording):
    entry = {"checkpoint": "w.safetensors", **entry}
    with pytest.raises(UserError, match=wording):
        declare(tmp_path, {key: value for key, value in entry.items() if value is not None})


# -- bundled and fetched weights -------------------------------------------------------------------

def test_bundled_weights_name_their_sets(world, tmp_path, copied, capsys, monkeypatch):
    copied()
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    monkeypatch.setattr(bundled, "CATALOG", tmp_path / "weights.yaml")
    plugins = (str(tmp_path / "tiny_model.py"),)
    model = Model("tiny", "tiny", options={"width": 4, "strength": 0.1})
    protocol = protocols.get("sr-x2")
    for name, exclude in (("tiny-sr-x2", {"tinytrain": ["copy"]}), ("tiny-sr-x4", {})):
        network = loading.build(model, protocols.get(name.removeprefix("tiny-")), plugins)
        loading.save(tmp_path / f"{name}.safetensors", network.state_dict(), model,
                         protocols.get(name.removeprefix("tiny-")), levels=None, exclude=exclude,
                         datasets=[{"name": "tinytrain", "sha256": digest("tinytrain")}])
    bundled.rewrite()
    run = plan.load(tiny.make(tmp_path, models={"tiny": {"checkpoint": "bundled"}}, cells=[
        {"protocol": name, "datasets": ["tinyset"], "models": ["tiny"]}
        for name in ("sr-x2", "sr-x4")]))
    assert run.trained_on == {f"{protocol.id}/tiny": {"tinytrain": ["copy"]},
                              "sr-x4@2/tiny": {"tinytrain": []}}
    searched(capsys)
    leaks = {cell.protocol: cell.leak for cell in collected(run).cells}
    assert leaks["sr-x2@2"] == "" and "is in tinytrain" in leaks["sr-x4@2"]


def test_verify_finds_weights_that_were_altered_after_the_run(world, tmp_path):
    """Of bundled weights the plan knows the digest by their catalog."""
    run = world()
    cell = run.cells["sr-x2@2/tinyset/tiny"]
    files.write_json(cell.record, records.make(
        "cell", cell.key, cell.spec, resolved={"checkpoint": "b" * 64},
        result={"images": tiny.IMAGES, "mean": {}}))

    def found():
        return [one for one in verify.check(run) if one.startswith(cell.title)]
    assert found() == []
    with (tmp_path / "w.safetensors").open("ab") as handle:
        handle.write(b"0")
    assert found() == [f"{cell.title}: its weights, w.safetensors, are missing or were altered; "
                       "get the file again"]
    (tmp_path / "w.safetensors").unlink()
    assert len(found()) == 1


def test_fetched_weights_are_known_once_they_are_here(world, tmp_path):
    world(datasets=[{"name": "tinytrain", "sha256": digest("tinytrain")}])
    data = (tmp_path / "w.safetensors").read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    config = tiny.make(tmp_path, cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["tiny"]}],
        models={"tiny": {"checkpoint": {"url": "https://host.invalid/w.safetensors",
                                        "sha256": sha256}}})
    assert plan.load(config).trained_on == {"sr-x2@2/tiny": None}
    place = tmp_path / "data" / "checkpoints" / f"{sha256[:16]}.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(data)
    assert plan.load(config).trained_on == {"sr-x2@2/tiny": {"tinytrain": []}}


@pytest.mark.parametrize(("before", "expected"), [
    (None, None), ({}, {"own": ["a", "b"], "both": ["a", "b"]}),
    ({"both": ["b", "c"], "old": ["d"]}, {"own": ["a", "b"], "both": ["b"], "old": ["d"]})])
def test_weights_have_seen_what_the_weights_that_they_began_with_have_seen(monkeypatch, before,
                                                                           expected):
    monkeypatch.setattr(trained_on, "left_out", lambda entry, images, where: sorted(images))
    recipe = SimpleNamespace(data=("own", "both"), init={"kind": "file", "path": "w"},
                             exclude={"own": ["b", "a"], "both": ["b", "a"]})
    asked = []
    assert trained_on.of_model(
        SimpleNamespace(learned=True, training=recipe), dict.fromkeys(recipe.data),
        lambda checkpoint: asked.append(checkpoint.path) or before, "here") == expected
    assert asked == ["w"]


def test_a_model_excludes_images_of_its_own_sets():
    jobs = [SimpleNamespace(key={"model": name}, model=SimpleNamespace(
        training=SimpleNamespace(data=(f"set_{name}",)))) for name in ("a", "b")]

    def check(dataset):
        trained_on.check_excluded({"a": {"training": {"exclude": {dataset: ["x"]}}}}, jobs, "here")

    check("set_a")
    with pytest.raises(UserError, match="here: models.a.training.exclude: unknown dataset 'set_b'"):
        check("set_b")
