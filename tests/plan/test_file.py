"""The plan as a file: what is written is read back, shared parts once, and sets settle later."""

import json

import pytest
import yaml

from irbench import cli, plan
from irbench.catalog.model import Model
from irbench.core import records
from irbench.core.errors import UserError
from irbench.imaging import backbones, metrics
from irbench.plan import compose, file
from tests.helpers import tiny
from tests.helpers.archives import zipped
from tests.helpers.paths import ROOT


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A run of everything, planned and written; jobs run in its folder."""
    monkeypatch.chdir(tmp_path)
    config = tiny.make_everything(tmp_path)
    return plan.load(config)


def equal(one, other):
    """Whether two plans have the same jobs and all that these ask of a plan."""
    assert one.config == other.config and one.folder == other.folder
    for group in file.GROUPS:
        assert dict(getattr(one, group)) == dict(getattr(other, group)), group
        assert len(getattr(one, group)) == len(getattr(other, group))
    for name in ("protocols", "scopes", "models", "trained_on"):
        assert dict(getattr(one, name)) == dict(getattr(other, name)), name
    assert one.references == other.references
    for name in one.data:
        assert one.entry(name) == other.entry(name)
    for job in one.cells.values():
        found = [each.training_of(job.key["protocol"], job.key["model"]) for each in (one, other)]
        assert found[0] == found[1]
    return True


def test_what_is_written_is_read_back(world):
    path = file.write(world)
    assert path.as_posix() == "results/tiny/plan.json"
    again = file.read(path)
    assert equal(world, again)
    for job in world.jobs():
        if job.kind != "leaks":
            assert again.find(job.kind, **job.key) == job
        assert file.settled(again, job) == job      # nothing has changed since


@pytest.mark.parametrize("name", ["config.yaml", *(
    path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "workflow/configs").glob("*")))])
def test_the_configs_that_come_with_irbench_are_read_back(name, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    run = plan.load(name)
    monkeypatch.chdir(tmp_path)
    assert equal(run, file.read(file.write(run)))


def test_what_jobs_share_is_written_once(world):
    text = file.write(world).read_text()
    for job in world.cells.values():
        assert text.count(job.spec["dataset"]["sha256"]) <= 3   # of the set, in pairs, of a record
    value = json.loads(text)
    shown = [json.dumps(one, sort_keys=True) for one in value["parts"]]
    assert len(set(shown)) == len(shown)
    specs = [spec for group in value["jobs"].values() for spec, _ in group.values()]
    assert all(type(number) is int for spec in specs for number in spec.values())
    cells = value["jobs"]["cells"].values()
    assert len({spec["metrics"] for spec, _ in cells}) == 1
    assert len({spec["protocol"] for spec, _ in cells}) == len(world.protocols)


def test_a_job_costs_no_more_in_a_large_run(world, monkeypatch):
    path = file.write(world)
    made = []
    real = Model.from_dict.__func__
    monkeypatch.setattr(Model, "from_dict",
                        classmethod(lambda cls, given: made.append(given) or real(cls, given)))
    monkeypatch.setattr(compose, "build", None)      # planning would call it
    read = file.read(path)
    job = read.find("cell", protocol="sr-x2@2", dataset="tinyset", model="bicubic")
    assert file.settled(read, job).spec == job.spec
    assert [one["name"] for one in made] == ["bicubic"]


@pytest.mark.parametrize(("text", "message"), [
    (None, "No such file"), ("{", "not a plan"), ("[]", "not a plan"), ("{}", "not a plan"),
    ('{"schema_version": 99}', "schema_version is 99, this irbench reads 3"),
])
def test_another_file_is_refused(tmp_path, text, message):
    path = tmp_path / "plan.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        file.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["sr-x2@2/tinyset", "sr-x2@2/tinyset/bicubic/more"])
def test_a_job_whose_name_has_not_its_parts_makes_no_plan(world, name):
    path = file.write(world)
    path.write_text(path.read_text().replace('"sr-x2@2/tinyset/bicubic":', f'"{name}":'))
    with pytest.raises(UserError, match="plan.json: not a plan. Run the workflow again"):
        dict(file.read(path).cells)


def test_a_plan_that_is_written_again_asks_for_the_same_jobs(world):
    """Also if the file is another one, as after a restart of the workflow."""
    read = file.read(file.write(world))
    text = world.run_folder.plan.read_text()
    world.run_folder.plan.unlink()
    world.run_folder.plan.write_text(text + " ")
    assert all(read.asks_for(job) for job in read.jobs())
    stored = json.loads(text)
    name = stored["jobs"]["cells"].popitem()[0]
    world.run_folder.plan.write_text(json.dumps(stored))
    assert [name for name, job in read.cells.items() if not read.asks_for(job)] == [name]


def test_a_set_that_comes_later_settles(tmp_path, monkeypatch):
    """Only specs that contain the set change, and they become those of the next plan."""
    monkeypatch.chdir(tmp_path)
    models = {"bicubic": {}, "tiny": {"profile": False, "training": {
        "recipe": "demo", "data": ["packed"], "patch": 16}}}
    config = tiny.make(tmp_path, models=models, cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset", "packed"], "models": list(models)}])
    catalog = yaml.safe_load((tmp_path / "datasets.yaml").read_text())
    catalog["datasets"]["packed"] = {"title": "Packed", "use": "test", "archive": {
        "files": [{"url": "https://host.invalid/p.zip"}], "hr": "**/*.png", "count": 3}}
    (tmp_path / "datasets.yaml").write_text(yaml.safe_dump(catalog))
    (tmp_path / "mirror" / "host.invalid").mkdir(parents=True)
    zipped(tmp_path / "mirror" / "host.invalid" / "p.zip",
           *((p.name, p.read_bytes()) for p in (tmp_path / "images" / "train").iterdir()))
    monkeypatch.setenv("IRBENCH_MIRROR", str(tmp_path / "mirror"))
    path = file.write(plan.load(config))
    before = file.read(path)
    assert before.data["packed"].spec["dataset"]["sha256"] is None
    assert cli.main(["data", "fetch", "packed", "--plan", str(path)]) == 0
    after = plan.load(config)
    assert records.read(after.data["packed"].record)["spec"] == after.data["packed"].spec
    changed = {job.title for job, now in zip(before.jobs(), after.jobs(), strict=True)
               if job.spec != now.spec}
    assert changed == {"data packed", "training sr-x2@1 / tiny", "cell sr-x2@2 / packed / bicubic",
                       "cell sr-x2@2 / packed / tiny", "leaks tiny"}
    for job, now in zip(before.jobs(), after.jobs(), strict=True):
        assert file.settled(before, job) == now
    file.write(after)       # which asks for the same jobs, now that the set is known
    assert all(before.asks_for(job) for job in before.jobs())
    assert cli.main(["eval", "--plan", str(path), "--protocol", "sr-x2@2", "--dataset", "packed",
                     "--model", "bicubic"]) == 0
    job = after.find("cell", protocol="sr-x2", dataset="packed", model="bicubic")
    assert records.read(job.record)["spec"] == job.spec


def test_the_weights_of_a_metric_that_come_later_settle(tmp_path, monkeypatch):
    """A cell computed after a file of weights has come says so, and the next plan agrees."""
    monkeypatch.chdir(tmp_path)
    weights = backbones.Found(None, None, "not here")
    monkeypatch.setitem(metrics.FILES, "lpips", lambda: weights)
    config = tiny.make(tmp_path, metrics=["psnr", "lpips"])
    before = file.read(file.write(plan.load(config)))
    cells = list(before.cells.values())
    assert {job.spec["lpips_weights"] for job in cells} == {None}
    weights = backbones.Found(tmp_path / "net.pth", "net-1234.pth", "here")
    after = plan.load(config)
    for job in cells:
        now = file.settled(before, job)
        assert now.spec["lpips_weights"] == "net-1234.pth"
        assert now == after.find("cell", **job.key)


def test_a_record_names_the_code_that_ran(world, tmp_path):
    path = file.write(world)
    plugin = tmp_path / "tiny_model.py"
    plugin.write_text(plugin.read_text().replace("0.01 *", "0.02 *"))
    before = file.read(path)
    after = plan.load("config.yaml")
    changed = [job for job, now in zip(before.jobs(), after.jobs(), strict=True) if job != now]
    assert changed and all(job.model.arch == "tiny" for job in changed)
    for job, now in zip(before.jobs(), after.jobs(), strict=True):
        assert file.settled(before, job) == now
