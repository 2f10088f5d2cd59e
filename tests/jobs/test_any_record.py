"""Whatever lies in a record's place: verify and Snakemake's report name it and go on."""

import json

import pytest

from irbench import plan, snakefile
from irbench.jobs import verify
from irbench.jobs.result import Result, record_of, write
from tests.helpers import tiny
from tests.helpers.sealed import seal

GROUPS = {"cell": "cells", "profile": "profiles", "training": "trainings", "leaks": "leaks",
          "data": "data"}
RESULTS = {"cell": {"images": tiny.IMAGES, "mean": {}}, "data": {"count": 3}, "training": {
    "checkpoint": {"file": "gone.safetensors", "sha256": "0" * 64}}}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A planned run whose records say that all went well."""
    monkeypatch.chdir(tmp_path)
    planned = plan.load(tiny.make(tmp_path))
    for job in planned.jobs():
        write(job, record_of(job, Result(RESULTS.get(job.kind, {}))))
    return planned


def numbers(record):
    """Numbers where irbench writes objects, with digests that fit."""
    return seal({**record, "result": dict.fromkeys(record["result"], 3.5) | {
        "mean": 7, "checkpoint": 7, "count": "many", "pairs": 7, "macs": "many"}})


def titles(problems):
    """The jobs that problems are of."""
    return {problem.partition(": ")[0] for problem in problems}


@pytest.mark.parametrize(("damage", "words"), [
    (lambda record: "", "not readable as JSON"),
    (lambda record: "[" * 10**5, "not readable as JSON"),
    (lambda record: "[1]", "it is not a JSON object"),
    (lambda record: json.dumps({**record, "result": {**record["result"], "x": 1}}),
     "the result does not match its digest; the file was edited or damaged"),
    (lambda record: json.dumps({**record, "reason": [1]}), "'reason' is missing or not in the"),
    (lambda record: json.dumps(numbers(record)), "not in the form that irbench writes"),
    (lambda record: json.dumps(seal({**record, "key": {"dataset": "other"}})),
     "the record is of"),
])
def test_a_bad_record_is_named_and_costs_no_other(run, damage, words):
    for job in run.jobs():
        if job.kind == "leaks" and words == "the record is of":
            continue            # a run has one; its key is the run's name, which places nothing
        good = job.record.read_text()
        before = titles(verify.check(run)) - {job.title}
        job.record.write_text(damage(json.loads(good)))
        found = verify.check(run)
        assert any(problem.startswith(f"{job.title}: {job.record}: ") and words in problem
                   for problem in found), job.title
        # the other jobs have no other problem, except the cells of a training
        assert titles(found) - {job.title} == before
        label = snakefile.labels(run, GROUPS[job.kind], list(job.key.values()))["result"]
        assert label.startswith("n/a: "), label
        job.record.write_text(good)
