"""Jobs in a process of their own: a death costs the job in work, and no other."""

import os
import signal
import threading
import time

import pytest
import yaml

from irbench import plan
from irbench.core import locks, records
from irbench.jobs import life, supervise
from irbench.jobs.result import Result, record_of, write
from irbench.plan import file as plan_file
from tests.helpers import tiny


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """A plan, read from its file, and three of its cells."""
    monkeypatch.chdir(tmp_path)
    # torch, which another test may have loaded, is not used by these children
    monkeypatch.setattr(supervise, "_can_fork", lambda: True)
    monkeypatch.delenv(life.VARIABLE, raising=False)
    planned = plan.read(plan_file.write(plan.load(tiny.make(tmp_path))))
    return planned, list(planned.cells.values())[:3]


def done(job):
    return record_of(job, Result({"images": tiny.IMAGES, "mean": {}}))


def working(jobs, *deaths):
    """Return what a child does: write each record, but die instead where a death is given."""
    def work():
        numbers, begin = supervise.child(len(jobs))
        for number in numbers:
            begin(number)
            if number < len(deaths) and deaths[number]:
                deaths[number]()
            write(jobs[number], done(jobs[number]))
        begin(numbers.stop)
        return 0
    return work


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def statuses(jobs):
    return [records.read(job.record)["status"] if job.record.exists() else None for job in jobs]


@pytest.mark.parametrize(("death", "reason"), [
    (kill, "was ended by signal 9 (out of memory?) and left no result; see two.log"),
    (lambda: os.kill(os.getpid(), signal.SIGSEGV), "was ended by signal 11 and left no result"),
    (lambda: os._exit(3), "ended with exit code 3 and left no result"),
    (lambda: os._exit(0), "ended with exit code 0 and left no result"),
    (lambda: os._exit(2), "ended with exit code 2 and left no result"),
])
def test_a_death_costs_the_job_in_work_and_no_other(cells, death, reason):
    planned, jobs = cells
    work, logs = working(jobs, None, death), ["one.log", "two.log", "three.log"]
    assert supervise.supervise(planned, jobs, work, [], logs=logs) == 0
    assert statuses(jobs) == ["ok", "failed", "ok"]
    assert reason in records.read(jobs[1].record)["reason"]
    assert records.read(jobs[1].record)["attempt"] == 0
    assert supervise.supervise(planned, jobs[1:2], working(jobs[1:2], death), []) == 0
    assert records.read(jobs[1].record)["attempt"] == 1     # and again


def test_the_workflow_starts_a_job_again_that_lacked_memory(cells):
    planned, jobs = cells
    again = supervise.supervise(planned, jobs, working(jobs, None, kill), [], resubmit=True)
    assert again == supervise.AGAIN and statuses(jobs) == ["ok", "failed", "ok"]
    other = working(jobs, None, lambda: os._exit(2))
    assert supervise.supervise(planned, jobs, other, [], resubmit=True) == 0


def test_who_stops_a_job_finds_no_fault_of_its_model(cells):
    planned, jobs = cells
    stop = working(jobs, None, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert supervise.supervise(planned, jobs, stop, []) == 0
    assert statuses(jobs) == ["ok", "unavailable", "ok"]
    assert "it was interrupted" in records.read(jobs[1].record)["reason"]


def test_the_death_of_a_part_of_a_cell_leaves_no_record(cells, capsys):
    """The job for the cell goes on where the part ended, and says what becomes of it."""
    planned, jobs = cells
    before = outdated(jobs[0])
    for job in jobs[:2]:
        work = working([job], kill)
        assert supervise.supervise(planned, [job], work, [], records=False) == 0
        again = supervise.supervise(planned, [job], work, [], records=False, resubmit=True)
        assert again == supervise.AGAIN
    assert jobs[0].record.read_bytes() == before and not jobs[1].record.exists()
    assert "the process was ended by signal 9 (out of memory?)" in capsys.readouterr().err


def outdated(job):
    """Write a result of older inputs, which is to be computed again; return its bytes."""
    write(job, record_of(job, Result({"images": tiny.IMAGES, "mean": {}},
                                     spec={**job.spec, "code": "older"})))
    return job.record.read_bytes()


@pytest.mark.parametrize(("death", "code"), [
    *((lambda number=number: os.kill(os.getpid(), number), 128 + number)
      for number in (signal.SIGHUP, signal.SIGKILL, signal.SIGTERM)),
    (lambda: os._exit(3), 3)])
def test_a_signal_from_outside_never_replaces_a_result(cells, death, code, usual_signals):
    """A training exits with 3 after it has saved its state."""
    planned, jobs = cells
    before = outdated(jobs[1])
    assert supervise.supervise(planned, jobs, working(jobs, None, death), []) == code
    assert jobs[1].record.read_bytes() == before and statuses(jobs) == ["ok"] * 3


@pytest.mark.parametrize("death", [lambda: os.kill(os.getpid(), signal.SIGSEGV),
                                   lambda: os._exit(2), lambda: os._exit(0)])
def test_a_crash_replaces_a_result(cells, death):
    planned, jobs = cells
    outdated(jobs[0])
    assert supervise.supervise(planned, jobs[:1], working(jobs[:1], death), []) == 0
    assert statuses(jobs[:1]) == ["failed"]


def test_jobs_that_measure_their_process_have_one_each(cells, tmp_path, monkeypatch):
    """What they all need is imported before, once; a death costs its own job."""
    planned, jobs = cells
    monkeypatch.setattr(supervise, "_imported", False)
    imported = []

    def note():
        with (tmp_path / "pids").open("a") as file:
            file.write(f"{os.getpid()}\n")

    def note_and_die():
        note()
        kill()

    work = working(jobs, note, note_and_die, note)
    assert supervise.supervise(planned, jobs, work, [],
                               apart=lambda: imported.append(os.getpid())) == 0
    assert imported == [os.getpid()]
    assert statuses(jobs) == ["ok", "failed", "ok"]
    assert len({*(tmp_path / "pids").read_text().split(), str(os.getpid())}) == 4


@pytest.mark.parametrize("code", [2, supervise.AGAIN, supervise.INTERRUPTED])
def test_of_jobs_apart_the_code_of_each_counts(cells, monkeypatch, code):
    planned, jobs = cells
    monkeypatch.setattr(supervise, "_imported", False)
    work = working(jobs)
    ends = {supervise.INTERRUPTED: ["ok", None, None]}
    first = iter([code])

    def once():
        work()
        return next(first) if not jobs[1].record.exists() else 0

    found = supervise.supervise(planned, jobs, once, [], apart=lambda: None)
    assert found == (0 if code == 2 else code)
    assert statuses(jobs) == ends.get(code, ["ok"] * 3)


def test_what_children_share_is_imported_where_they_can_be_forks(monkeypatch):
    monkeypatch.setattr(supervise, "_imported", False)
    monkeypatch.setattr(supervise.sys, "platform", "darwin")
    calls = []
    supervise._import(lambda: calls.append(1))
    assert not calls and not supervise._can_fork()
    monkeypatch.setattr(supervise.sys, "platform", "linux")
    monkeypatch.setitem(supervise.sys.modules, "torch", object())   # may have been used
    supervise._import(lambda: calls.append(1))
    assert not calls and not supervise._can_fork()
    monkeypatch.delitem(supervise.sys.modules, "torch")
    supervise._import(lambda: calls.append(1))
    monkeypatch.setitem(supervise.sys.modules, "torch", object())
    assert calls and supervise._can_fork()


def test_a_death_after_the_last_record_costs_nothing(cells):
    planned, jobs = cells
    work = working(jobs)
    assert supervise.supervise(planned, jobs, lambda: work() or kill(), []) == 0
    assert statuses(jobs) == ["ok"] * 3


def test_what_another_process_did_meanwhile_is_no_failure(cells):
    planned, jobs = cells

    def written_elsewhere():
        write(jobs[0], done(jobs[0]))
        kill()

    assert supervise.supervise(planned, jobs, working(jobs, written_elsewhere), []) == 0
    assert statuses(jobs) == ["ok"] * 3


def test_an_interrupted_job_leaves_no_record(cells):
    planned, jobs = cells
    work = working(jobs, None, lambda: os._exit(supervise.INTERRUPTED))
    assert supervise.supervise(planned, jobs, work, []) == supervise.INTERRUPTED
    assert statuses(jobs) == ["ok", None, None]


def test_sigterm_reaches_the_child_and_leaves_the_rest_undone(cells, tmp_path):
    """As a scheduler sends it at a time limit: the next attempt does what is left."""
    planned, jobs = cells
    sleeps = tmp_path / "sleeps"

    def sleep():
        sleeps.touch()
        time.sleep(60)

    def tell():
        while not sleeps.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=tell)
    work = working(jobs, None, sleep)
    process = supervise._child      # the thread may start only after the fork

    def child(*arguments):
        threading.Timer(0.0, thread.start).start()
        return process(*arguments)

    supervise._child = child
    try:
        code = supervise.supervise(planned, jobs, work, [])
    finally:
        supervise._child = process
    thread.join()
    assert code == 128 + signal.SIGTERM and statuses(jobs) == ["ok", None, None]


def test_nothing_is_written_that_nobody_waits_for(cells, tmp_path, monkeypatch):
    planned, jobs = cells
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    config["cells"] = config["cells"][1:]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    plan_file.write(plan.load(tmp_path / "config.yaml"))
    assert supervise.supervise(planned, jobs[:1], working(jobs[:1], kill), []) == 0
    assert statuses(jobs[:1]) == [None]
    # its run has ended
    monkeypatch.setattr(life, "ended", lambda: True)
    assert supervise.supervise(planned, jobs[2:], working(jobs[2:], kill), []) == 0
    assert statuses(jobs[2:]) == [None]


def test_a_child_ends_with_its_supervisor_and_holds_no_lock(cells, tmp_path):
    planned, jobs = cells

    def look():
        (tmp_path / "seen").write_text(f"{len(life._watched())} {locks.passed_on()}")

    supervise.supervise(planned, jobs[:1], working(jobs[:1], look), [])
    assert (tmp_path / "seen").read_text() == "1 ({}, ())"
