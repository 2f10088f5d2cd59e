"""``irbench profile``: the threads that it takes, and what it says to people and programs."""

import json
from pathlib import Path

import pytest
import yaml

import irbench
from irbench import cli
from irbench.core import machine, records
from irbench.jobs import threads
from tests.helpers import tiny

TINY = ["--protocol", "sr-x2", "--model", "tiny"]
RECORD = Path("results/tiny/profiles/sr-x2@2/tiny.json")


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    return tmp_path


def profile(capsys, *words):
    """Return what a person reads, and the JSON."""
    capsys.readouterr()
    assert cli.main(["profile", *words]) == 0
    done = capsys.readouterr()
    return done.err, json.loads(done.out)


def measured(path=RECORD):
    return records.read(path)["result"]["threads"]


def test_measured_again_a_profile_has_the_threads_of_its_record(world, capsys):
    """Else it would drop out of the plots of its run, where the workflow takes all cores."""
    profile(capsys, *TINY, "--threads", "3")
    said, _ = profile(capsys, *TINY)
    assert "profile sr-x2@2 / tiny: 3 threads, as in the record that it replaces (" in said
    assert measured() == 3
    assert list(irbench.load_run("results/tiny").profiles["threads"]) == [3]


def test_a_first_profile_has_the_threads_of_the_others(world, capsys, monkeypatch):
    profile(capsys, "--protocol", "jpeg_gray-q10", "--model", "tiny", "--threads", "3")
    said, _ = profile(capsys, *TINY)
    assert "3 threads, as in the other profile of the run (" in said and measured() == 3
    # of another machine neither the record nor the others count
    monkeypatch.setattr(machine, "processor", lambda: ("another", 64))
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    said, _ = profile(capsys, *TINY)
    assert "2 threads, all cores, as in the workflow, since no record" in said and measured() == 2


def test_threads_that_the_others_do_not_have_are_said(world, capsys):
    first, _ = profile(capsys, *TINY, "--threads", "2")
    same, _ = profile(capsys, "--protocol", "jpeg_gray-q10", "--model", "tiny", "--threads", "2")
    assert "warning" not in first + same
    for more in ([], ["--on-failure", "record", "--supervised"]):
        RECORD.unlink()     # a current record is not measured again with --on-failure record
        said, _ = profile(capsys, *TINY, "--threads", "1", *more)
        assert ("warning: 1 thread, but the run's other profile on this kind of machine: "
                "2 threads. Such latencies do not compare" in said)
        assert measured() == 1


def test_the_threads_of_a_gpu_are_no_matter(world, capsys):
    profile(capsys, "--protocol", "jpeg_gray-q10", "--model", "tiny", "--threads", "2")
    planned = irbench.plan.load("config.yaml")
    job = planned.profiles["sr-x2@2/tiny"]
    assert threads.differing(planned, job, 1, "cpu") and not threads.differing(
        planned, job, 1, "cuda:0")


def test_a_benchmark_has_the_threads_of_its_run(world, capsys):
    config = yaml.safe_load(Path("config.yaml").read_text())
    Path("config.yaml").write_text(yaml.safe_dump(config | {"attention_bench": tiny.BENCH}))
    profile(capsys, *TINY, "--threads", "3")
    for more, why in (([], "3 threads, as in the other profile of the run"),
                      (["--threads", "2"], ""),
                      ([], "2 threads, as in the record that it replaces")):
        assert cli.main(["bench", "attention", "--config", "config.yaml", *more]) == 0
        assert why in capsys.readouterr().err
    assert measured(Path("results/tiny/benches/attention.json")) == 2
