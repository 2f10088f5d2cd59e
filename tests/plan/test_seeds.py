"""Several seeds of one training: one more job each, and none of the others is done again."""

import pytest
import yaml

from irbench import plan
from irbench.compare import planned
from irbench.core.errors import UserError
from tests.helpers import tiny

TRAINING = {"recipe": "demo", "data": ["tinytrain"], "steps": 2, "patch": 16, "batch": 2}
VARIANTS = {"strong": {"options": {"strength": 0.5}}}
X2 = "sr-x2@2"


def make(folder, seeds=None, **changes):
    training = {**TRAINING, **({} if seeds is None else {"seeds": seeds})}
    return tiny.make(folder, metrics=["psnr"], models={
        "tiny": {"arch": "tiny", "training": training, "variants": VARIANTS}}, cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["tiny"]}], **changes)


def prints(run):
    return {job.title: job.fingerprint for job in run.jobs() if job.kind != "leaks"}


def test_each_seed_has_a_training_and_cells_of_its_own(tmp_path):
    run = plan.load(make(tmp_path, 3))
    assert list(run.trainings) == [f"sr-x2@1/{name}" for name in ("tiny", "tiny.seed2",
                                                                 "tiny.seed3")]
    assert [job.spec["seed"] for job in run.trainings.values()] == [0, 1, 2]
    assert list(run.cells) == [f"{X2}/tinyset/{name}" for name in (
        "tiny", "tiny.seed2", "tiny.seed3", "tiny.strong")]
    # one architecture has one speed; variants run the weights of the first seed
    assert list(run.profiles) == [f"{X2}/tiny", f"{X2}/tiny.strong"]
    assert run.training_of(X2, "tiny.seed3") is run.trainings["sr-x2@1/tiny.seed3"]
    assert run.models["tiny.seed2"].title.endswith("(not in any paper; seed 2)")
    assert len({job.fingerprint for job in run.trainings.values()}) == 3


def test_more_seeds_do_no_job_again(tmp_path):
    """The first seed is the same training as without ``seeds``, to the fingerprint."""
    none, one, two, four = (prints(plan.load(make(tmp_path, n))) for n in (None, 1, 2, 4))
    assert none == one and one.items() < two.items() < four.items()
    assert len(four) == len(none) + 2 * 3


def test_the_seed_of_the_run_moves_all_seeds(tmp_path):
    run = plan.load(make(tmp_path, 2, seed=5))
    assert [job.spec["seed"] for job in run.trainings.values()] == [5, 6]


def test_a_plan_in_a_file_keeps_the_seeds(tmp_path, monkeypatch):
    from irbench.plan import file

    monkeypatch.chdir(tmp_path)
    run = plan.load(make(tmp_path, 2))
    again = file.read(file.write(run))
    assert prints(again) == prints(run)
    assert again.models["tiny.seed2"] == run.models["tiny.seed2"]


@pytest.mark.parametrize(("change", "words"), [
    ({"seeds": 0}, "models.tiny.training.seeds"), ({"seeds": "3"}, "models.tiny.training.seeds"),
    ({"seeds": 2, "sedes": 1}, "'sedes'")])
def test_bad_numbers_of_seeds_are_refused(tmp_path, change, words):
    path = make(tmp_path)
    config = yaml.safe_load(path.read_text())
    config["models"]["tiny"]["training"].update(change)
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=words):
        plan.load(path)


def test_a_seed_is_no_model_of_a_cell_and_has_no_profile(tmp_path):
    path = make(tmp_path, 2)
    config = yaml.safe_load(path.read_text())
    config["cells"][0]["models"] = ["tiny.seed2"]
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="another seed; it runs wherever tiny does. Name tiny"):
        plan.load(path)
    run = plan.load(make(tmp_path, 2))
    with pytest.raises(UserError, match="as fast as 'tiny', another seed of the same training"):
        run.find("profile", protocol="sr-x2", model="tiny.seed2")
    assert run.find("training", protocol="sr-x2", model="tiny.seed2").spec["seed"] == 1


def test_a_variant_must_not_take_the_name_of_a_seed(tmp_path):
    path = make(tmp_path, 2)
    config = yaml.safe_load(path.read_text())
    config["models"]["tiny"]["variants"] = {"seed2": VARIANTS["strong"]}
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="'tiny.seed2' is used twice"):
        plan.load(path)


@pytest.mark.parametrize("taken", ["tiny.best", "tiny.seed2.best"])
def test_a_model_must_not_take_the_place_of_the_best_weights_of_another(tmp_path, taken):
    path = make(tmp_path, 2)
    config = yaml.safe_load(path.read_text())
    entry = config["models"]["tiny"]
    config["models"][taken] = {"arch": "tiny", "training": {**entry["training"], "seeds": 1}}
    path.write_text(yaml.safe_dump(config))
    other = taken.removesuffix(".best")
    with pytest.raises(UserError, match=f"models.{taken}: .* best weights of '{other}'"):
        plan.load(path)
    config["models"][taken] = {"arch": "bicubic"}       # which has no file of weights
    path.write_text(yaml.safe_dump(config))
    assert plan.load(path)


def test_a_comparison_knows_the_seeds_that_a_config_asks_for(tmp_path):
    run = plan.load(make(tmp_path, 3))
    asked = planned.from_config(run.config, {X2})
    assert asked.wanted() == sorted(run.cells)
    assert all(asked.cell(*key.split("/")) for key in run.cells)
    assert not asked.cell(X2, "tinyset", "tiny.seed4")
    assert [asked.profile(X2, name) for name in ("tiny", "tiny.strong", "tiny.seed2")] == [
        True, True, False]
