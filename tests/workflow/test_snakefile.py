"""What the Snakefile asks of the package, without Snakemake."""

import dataclasses
import re
from types import SimpleNamespace

import pytest
import yaml

from irbench import plan, snakefile
from irbench.core import locks
from irbench.core.run_folder import lock_of, partial_of
from irbench.imaging.images import write_png
from irbench.jobs import life, needs
from irbench.jobs.result import Result, record_of, write
from tests.helpers import tiny


def workflow(cells=None, cores=4, main=True, local=True, resources=()):
    """Stand in for Snakemake's object, as far as a run asks it.

    As it is while rules are read: without an executor, and ``local_exec`` is true in any case.
    """
    given = {"evaluate": {"cells": SimpleNamespace(value=cells)}} if cells else {}
    return SimpleNamespace(
        is_main_process=main, local_exec=True, executor_plugin=None, global_resources={},
        dag_settings=SimpleNamespace(until=frozenset()),
        resource_settings=SimpleNamespace(
            cores=cores, nodes=None if local else 100, resources=dict(resources),
            _parsed_overwrite_threads={},
            _parsed_overwrite_resources=given))


def test_the_config_of_a_run_keeps_its_order(tmp_path, monkeypatch):
    """Names in no alphabetical order: the report's rows and its digest follow the config's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locks, "_claims", [])
    training = {"recipe": "demo", "data": ["tinyset"], "steps": 4}
    config = tiny.make(tmp_path, models={"tiny": {"training": training, "variants": {
        "strong": {"options": {"strength": 0.5}}, "bf16": {"inference": {"dtype": "bfloat16"}}}}},
        cells=[{"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["tiny"]}])
    planned = plan.load(config)
    left = lock_of(next(iter(planned.trainings.values())).record)   # its process was killed
    left.parent.mkdir(parents=True)
    left.touch()
    apart = []
    monkeypatch.setattr(life, "handle_apart", lambda: apart.append("SIGTERM"))
    snakefile.Workload(workflow(), planned).begin()
    assert not left.exists() and apart
    again = plan.load(planned.run_folder.config)
    assert [name.rpartition("/")[2] for name in planned.cells] == [
        "tiny", "tiny.strong", "tiny.bf16"]
    assert list(again.cells) == list(planned.cells)
    assert again.report_fingerprint == planned.report_fingerprint


def names(count):
    return [f"set{number}" for number in range(count)]


@pytest.fixture
def many(tmp_path, monkeypatch):
    """A plan of two protocols with unequal lists of sets."""
    monkeypatch.chdir(tmp_path)
    config = tiny.make(tmp_path, models={"bicubic": {}, "input": {}}, cells=[
        {"protocol": "sr-x2", "datasets": names(5), "models": ["bicubic"]},
        {"protocol": "jpeg_gray-q10", "datasets": names(3), "models": ["input"]},
        {"protocol": "jpeg_gray-q20", "datasets": names(3), "models": ["input"]}])
    catalog = yaml.safe_load((tmp_path / "datasets.yaml").read_text())
    catalog["datasets"] = dict.fromkeys(names(5), catalog["datasets"]["tinyset"])
    (tmp_path / "datasets.yaml").write_text(yaml.safe_dump(catalog))
    return plan.load(config)


@pytest.mark.parametrize(("cells", "sizes"), [
    (1, [1] * 5), (2, [1, 2, 2]), (3, [2, 3, 3]), (None, [2, 3, 3]), (8, [5, 3])])
def test_cells_of_a_model_and_protocol_share_jobs(many, cells, sizes):
    """Each cell is in one job, jobs are of nearly equal size, and one rule finds each record."""
    work = snakefile.Workload(workflow(cells), many)
    made = [(one, protocol, model) for one in work.batches
            for protocol, models in one.models.items() for model in models]
    found = [f"{protocol}/{name}/{model}" for one, protocol, model in made
             for name in one.datasets]
    assert sorted(found) == sorted(many.cells)
    assert sorted({one.rule: len(one.datasets) for one in work.batches}.values()) == sorted(sizes)
    for one, protocol, model in made:
        for name in one.datasets:
            path = f"{protocol}/{name}/{model}.json"
            matching = [other.rule for other in work.batches for dataset in other.datasets
                        if re.fullmatch(rf"({other.protocols})/{dataset}/([^/]+)\.json", path)]
            assert matching == [one.rule]
    assert set(work.workflow.resource_settings._parsed_overwrite_resources) == (
        {one.rule for one in work.batches} | {"evaluate_part"} if cells else set())


def test_a_job_computes_only_the_cells_without_a_current_record(many, monkeypatch):
    work = snakefile.Workload(workflow(5), many)
    monkeypatch.setattr(type(work.records), "problem", lambda _, job: (
        "missing" if job.key["dataset"] in stale else None))
    wildcards = SimpleNamespace(protocol="sr-x2@2", model="bicubic")
    stale = ["set1", "set4"]
    batch = work.batches[0]
    assert work.each(batch, "dataset")(wildcards) == stale
    assert work.logs(batch)(wildcards) == [
        f"results/tiny/logs/cells/sr-x2@2/{name}/bicubic.log" for name in stale]
    stale = []      # asked for all the same, as by --force: the command looks at each record
    assert work.each(batch, "dataset")(wildcards) == names(5)


@pytest.mark.parametrize(("most", "sizes"), [(None, [4]), (4, [4]), (3, [2, 2]), (1, [1] * 4)])
def test_profiles_share_jobs(tmp_path, monkeypatch, most, sizes):
    """Each profile is in one job; what is set for the first rule holds for all."""
    monkeypatch.chdir(tmp_path)
    config = tiny.make(tmp_path, models={"tiny": {"checkpoint": "w.safetensors", "variants": {
        f"v{number}": {"options": {"strength": number + 2.0}} for number in range(3)}}},
        cells=[{"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["tiny"]}])
    planned = plan.load(config)
    asked = workflow()
    if most:
        asked.resource_settings._parsed_overwrite_resources["profile"] = {
            "profiles": SimpleNamespace(value=most)}
    work = snakefile.Workload(asked, planned)
    assert [len(one.names) for one in work.profiles] == sizes
    assert [name for one in work.profiles for name in one.names] == list(planned.profiles)
    assert [one.rule for one in work.profiles] == ["profile", "profile2", "profile3",
                                                   "profile4"][:len(sizes)]
    assert set(asked.resource_settings._parsed_overwrite_resources) == (
        {one.rule for one in work.profiles} if most else set())
    stale = list(planned.profiles.values())[1]
    monkeypatch.setattr(type(work.records), "problem",
                        lambda _, job: "missing" if job == stale else None)
    batch = next(one for one in work.profiles if "sr-x2@2/tiny.v0" in one.names)
    assert work.each(batch, "model")(SimpleNamespace()) == ["tiny.v0"]
    assert work.logs(batch)(SimpleNamespace()) == [
        "results/tiny/logs/profiles/sr-x2@2/tiny.v0.log"]


def test_a_run_without_profiles_has_no_rule_for_them(many):
    assert snakefile.Workload(workflow(), many).profiles == []


def split(folder, top=None, group=None, **changes):
    """The parts of a run with one model of weights, which has a compiled variant, and bicubic."""
    given = {name: value for name, value in (("shards", top),) if value}
    training = {"recipe": "demo", "data": ["tinytrain"], "steps": 4}
    config = tiny.make(folder, models={"bicubic": {}, "tiny": {
        "training": training, "variants": {"fast": {"inference": {"compile": True}}}}}, cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["bicubic", "tiny"],
         **({"shards": group} if group else {})},
        {"protocol": "sr-x4", "datasets": ["tinyset"], "models": ["bicubic"]}], **given, **changes)
    return plan.load(config)


@pytest.mark.parametrize(("top", "group", "first", "second"), [
    (None, None, 1, 1), (2, None, 2, 2), (None, 3, 3, 1), (2, 1, 1, 2), (8, None, 3, 3),
    ({"images": 2}, None, 2, 2), ({"images": 3}, None, 1, 1), ({"images": 1}, 2, 2, 3)])
def test_cells_are_split_as_the_config_says(tmp_path, monkeypatch, top, group, first, second):
    """Three images are three parts at most; what a compiler makes may depend on earlier images."""
    monkeypatch.chdir(tmp_path)
    planned = split(tmp_path, top, group)
    assert snakefile.Workload(workflow(), planned).parts.counts == {
        name: count for name, count in (
            ("sr-x2@2/tinyset/bicubic", first), ("sr-x2@2/tinyset/tiny", first),
            ("sr-x4@2/tinyset/bicubic", second)) if count > 1}


def test_splitting_changes_no_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before, after = (split(tmp_path, *how) for how in ((), (2, {"images": 1})))
    assert [(job.title, job.fingerprint) for job in before.jobs()] == [
        (job.title, job.fingerprint) for job in after.jobs()]
    assert before.report_fingerprint == after.report_fingerprint


def test_a_set_of_unknown_size_is_split_by_number_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planned = split(tmp_path, 5, {"images": 1})
    planned.data["tinyset"].spec["count"] = None
    assert snakefile.Workload(workflow(), planned).parts.counts == {"sr-x4@2/tinyset/bicubic": 5}


def test_cells_in_parts_do_not_keep_others_waiting(many):
    made = snakefile.batches.made_of(many, 4, {"sr-x2@2/set1/bicubic", "sr-x2@2/set3/bicubic"})
    assert [one.datasets for one in made if "sr-x2@2" in one.models] == [
        ("set0", "set2", "set4"), ("set1", "set3")]


def test_what_killed_processes_left_of_parts_is_removed(tmp_path, monkeypatch):
    """Of cells that are done; of others, what was done counts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locks, "_claims", [])
    work = snakefile.Workload(workflow(), split(tmp_path, 2))
    done, other = (work.plan.cells[f"sr-x2@2/tinyset/{model}"] for model in ("bicubic", "tiny"))
    monkeypatch.setattr(type(work.records), "problem",
                        lambda _, job: None if job is done else "missing")
    of_done, of_other = ({partial_of(job.record).name, partial_of(job.record, "1-of-3").name}
                         for job in (done, other))
    notes = {path.rpartition("/")[2] for job in (done, other) for path in work.parts.notes(job)}
    assert "tiny.partial-2-of-2.note" in notes
    folder = done.record.parent
    folder.mkdir(parents=True)
    for name in (*of_done, *of_other, *notes, "bicubic.lock-1-of-2", "tiny.lock-2-of-2"):
        (folder / name).touch()
    with locks.hold(folder / "tiny.lock-2-of-2", lambda seconds: None):
        work.begin()
        assert {path.name for path in folder.iterdir()} == of_other | {"tiny.lock-2-of-2"}


def test_no_rule_asks_the_machine_that_the_workflow_is_started_on(many, monkeypatch):
    """A job may run on another one; only the machine that runs all of them is asked, for limits."""
    monkeypatch.setattr(snakefile.workload.gpus, "find", lambda: ("a", "b"))
    local = snakefile.Workload(workflow(cores=6), many)
    assert (local.cores, local.workflow.global_resources) == (6, {"gpu": 2})
    chosen = snakefile.Workload(workflow(resources={"gpu": 1}), many)
    assert chosen.workflow.global_resources == {}       # the user's choice
    began = workflow(local=False)
    began.executor_plugin, began.local_exec = "slurm", False
    for one in (workflow(local=False, cores=None), workflow(local=False), began,
                workflow(main=False)):
        cluster = snakefile.Workload(one, many)
        assert (cluster.cores, one.global_resources) == (1, {})
    assert [snakefile.Workload(workflow(), dataclasses.replace(
        many, config=many.config | {"device": device})).gpu
        for device in ("auto", "cuda", "cpu")] == [1, 1, 0]


def test_a_job_asks_for_more_memory_after_a_failure_and_not_after_a_pause(many):
    work = snakefile.Workload(workflow(1), many)
    job = many.cells["sr-x2@2/set0/bicubic"]
    wildcards = SimpleNamespace(protocol="sr-x2@2", model="bicubic")
    batch = next(one for one in work.batches if one.datasets == ("set0",))

    def asked(attempt=1):
        return work.memory("cells", batch)(wildcards, attempt)

    need = needs.memory(many, job)
    assert asked() == need and asked(2) == 2 * need     # no record: Snakemake counts
    for status, times in (("failed", 2), ("paused", 1)):
        write(job, record_of(job, Result(status=status, reason="so")))
        assert asked(7) == times * need
    write(job, record_of(job, Result(status="failed", reason="so"), 20))
    assert asked() == needs.MOST * need


def test_memory_follows_the_largest_image_and_the_kind_of_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planned = plan.load(tiny.make(tmp_path))
    plain, learned = (planned.cells[f"sr-x2@2/tinyset/{model}"] for model in ("bicubic", "tiny"))
    base = needs.memory(planned, plain)
    write_png(tmp_path / "images/test/large.png", tiny.photo(1, 1000, 1000))
    assert needs.memory(planned, plain) - base == needs.PLAIN
    assert needs.memory(planned, learned) - needs.BASE["cell"] == needs.LEARNED
