"""One profile for each architecture and options, however many weights a run has for them."""

import csv
import json
from pathlib import Path

import pytest

from irbench import cli, plan
from irbench.cli import results
from irbench.compare import loading
from irbench.core.errors import UserError
from irbench.plan import file as plan_file
from tests.helpers import tiny


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = {"first": {"arch": "tiny", "checkpoint": "a.pth", "title": "First"},
              "second": {"arch": "tiny", "checkpoint": "b.pth", "title": "Second"},
              "wider": {"arch": "tiny", "checkpoint": "a.pth", "options": {"width": 5}},
              "half": {"arch": "tiny", "checkpoint": "a.pth", "inference": {"tile": 8}},
              "third": {"arch": "tiny", "training": {"recipe": "demo", "data": ["tinytrain"],
                                                     "steps": 2}}}
    return tiny.make(tmp_path, models=models, cells=[
        {"protocol": protocol, "datasets": ["tinyset"], "models": list(models)}
        for protocol in ("sr-x2", "jpeg_gray-q10")])


def test_models_that_differ_in_weights_only_share_a_profile(world):
    planned = plan.load(world)
    assert list(planned.profiles) == [f"{protocol}/{name}" for protocol in (
        "sr-x2@2", "jpeg_gray-q10@1") for name in ("first", "wider", "half")]
    assert planned.costs == {f"{protocol}/{name}": f"{protocol}/first" for protocol in (
        "sr-x2@2", "jpeg_gray-q10@1") for name in ("second", "third")}
    read = plan_file.read(plan_file.write(planned))
    assert read.costs == planned.costs
    for one in (planned, read):
        assert one.find("profile", protocol="sr-x2", model="third").key["model"] == "first"
        assert one.find("profile", protocol="sr-x2", model="wider").key["model"] == "wider"
        with pytest.raises(UserError, match="unknown profile job"):
            one.find("profile", protocol="sr-x2", model="thirds")


def test_comparing_and_the_gate_know_the_profile_of_each(world, capsys):
    """A baseline made before profiles were shared still finds all of them."""
    planned = plan.load(world)
    plan_file.write(planned)
    planned.run_folder.config.write_text(json.dumps(planned.config))
    for name in ("first", "wider", "half"):
        assert cli.main(["profile", "--protocol", "sr-x2", "--model", name]) == 0
    for run in (loading.load("results/tiny"), results.of_config(str(world), stored=False)):
        assert list(run.profiles) == [f"sr-x2@2/{name}" for name in (
            "first", "half", "second", "third", "wider")]
        assert run.profiles["sr-x2@2/third"].latency == run.profiles["sr-x2@2/first"].latency
        assert {one.status for one in run.profiles.values()} == {"ok"}
    capsys.readouterr()
    assert cli.main(["compare", "results/tiny", "--models", "second", "wider", "--format",
                     "json"]) == 0
    found, = json.loads(capsys.readouterr().out)["profiles"]
    assert found["parameters"]["base"] == 556 < found["parameters"]["new"]
    planned.run_folder.plan.write_text('{"costs": {"a": 1, "b/c": [2]}}')      # damaged
    assert len(loading.load("results/tiny").profiles) == 3


def test_the_report_shows_the_cost_of_each_and_where_it_was_measured(world):
    assert cli.main(["profile", "--protocol", "sr-x2", "--model", "second"]) == 0
    assert [path.name for path in Path("results/tiny/profiles").rglob("*.json")] == ["first.json"]
    assert cli.main(["report"]) == 0
    lines = Path("results/tiny/tables/efficiency.csv").read_text().splitlines()
    rows = {row["model"]: row for row in csv.DictReader(lines)
            if row["protocol"] == "sr-x2@2"}
    costs = ("parameters", "macs", "latency_p50_ms", "profile_record")
    assert rows["first"]["parameters"] == "556"
    for name in ("second", "third"):
        assert [rows[name][cost] for cost in costs] == [rows["first"][cost] for cost in costs]
    assert rows["wider"]["macs"] == ""      # not measured yet
    for table in ("efficiency", "profiles", "operations"):
        text = Path(f"results/tiny/tables/{table}.md").read_text()
        assert "cost measured with First, which has the same architecture and options" in text
