"""Every kind of job has one shape, and what goes wrong in one is raised or recorded."""

import contextlib
import inspect
import json
import threading

import pytest
import yaml

from irbench import plan
from irbench.core import locks, messages, records
from irbench.core.errors import Paused, Superseded, Unavailable, UserError
from irbench.core.run_folder import lock_of
from irbench.jobs import evaluate
from irbench.jobs import run as jobs
from irbench.jobs.result import USUAL, Result, failure, record_of, write
from irbench.plan import file as plan_file
from tests.helpers import tiny

KEY = "jpeg_gray-q10@1/tinyset/input"


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tiny.make(tmp_path)


@pytest.fixture
def cell(world):
    planned = plan.load(world)
    return planned, planned.cells[KEY]


def raising(monkeypatch, error):
    def fail(*_):
        raise error
    kind = jobs.Kind(fail)
    monkeypatch.setitem(jobs.KINDS, "cell", kind)


def test_every_kind_of_a_plan_has_a_module_of_one_shape(world):
    config = yaml.safe_load(world.read_text())
    config["attention_bench"] = {"n": [16], "k": [4]}
    world.write_text(yaml.safe_dump(config))
    kinds = {job.kind for job in plan.load(world).jobs()}
    assert kinds == set(jobs.KINDS)
    for kind in jobs.KINDS.values():
        assert list(inspect.signature(kind.run).parameters) == ["plan", "job", "settings"]


def test_a_job_returns_the_record_it_writes(cell):
    planned, job = cell
    record = jobs.do(planned, job)
    assert records.read(job.record) == json.loads(json.dumps(record))
    assert (record["status"], record["kind"], record["attempt"]) == ("ok", "cell", 0)
    assert [image["name"] for image in record["result"]["images"]] == ["img0", "img1", "img2"]
    assert record["result"] == evaluate.run(planned, job).result


def test_a_record_that_says_nothing_new_is_not_written_again(cell):
    planned, job = cell
    jobs.do(planned, job, USUAL)
    before = job.record.read_bytes()
    jobs.do(planned, job, USUAL)  # other seconds
    assert job.record.read_bytes() == before


@pytest.mark.parametrize("error, raised, status, reason", [
    (Unavailable("no weights"), Unavailable, "unavailable", "no weights"),
    (Paused("stopped"), Paused, "paused", "stopped"),
    (UserError("bad"), UserError, "failed", "bad"),
    (OSError(28, "No space left"), UserError, "failed", "[Errno 28] No space left"),
    (MemoryError(), UserError, "failed", "MemoryError: "),
    (KeyError(7), KeyError, "failed", "KeyError: 7"),
])
def test_what_goes_wrong_is_raised_or_recorded(cell, monkeypatch, capsys, error, raised, status,
                                               reason):
    planned, job = cell
    raising(monkeypatch, error)
    with pytest.raises(raised) as caught:
        jobs.do(planned, job, USUAL)
    assert type(caught.value) is raised
    assert not job.record.exists()
    assert "Traceback" not in capsys.readouterr().err
    record = jobs.do(planned, job, USUAL, on_failure="record")
    assert records.read(job.record) == record
    assert (record["status"], record["reason"], record["attempt"]) == (status, reason, 0)
    # a pause is no failure
    assert jobs.do(planned, job, USUAL, on_failure="record")["attempt"] == (status != "paused")
    # a defect is shown whole: nobody else will
    assert ("Traceback" in capsys.readouterr().err) == (raised is KeyError)
    assert failure(error).status == status


def test_an_exit_of_a_models_code_is_a_failure_and_never_success(cell, monkeypatch):
    planned, job = cell
    raising(monkeypatch, SystemExit(0))
    message = "the model's code ended the job: SystemExit: it ends the program (exit code 0)"
    with pytest.raises(UserError) as caught:
        jobs.do(planned, job, USUAL)
    assert message in str(caught.value) and not job.record.exists()
    record = jobs.do(planned, job, USUAL, on_failure="record")
    assert record["status"] == "failed" and message in record["reason"]
    raising(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        jobs.do(planned, job, USUAL, on_failure="record")


def test_a_result_that_no_record_can_hold_is_a_failure(cell, monkeypatch):
    planned, job = cell
    monkeypatch.setitem(jobs.KINDS, "cell", jobs.Kind(lambda *_: Result({"mean": float("nan")})))
    with pytest.raises(UserError, match="nan"):
        jobs.do(planned, job, USUAL)
    record = jobs.do(planned, job, USUAL, on_failure="record")
    assert record["status"] == "failed" and "nan" in record["reason"]


def test_a_process_that_another_reports_for_writes_nothing(cell, monkeypatch):
    planned, job = cell
    monkeypatch.setitem(jobs.KINDS, "cell", jobs.Kind(lambda *_: None))
    assert jobs.do(planned, job, USUAL) is None
    assert not job.record.exists()


def test_the_device_is_the_configs_unless_settings_name_one(cell, monkeypatch):
    planned, job = cell
    seen, asked = [], []
    monkeypatch.setitem(jobs.KINDS, "cell", jobs.Kind(
        lambda plan, job, settings: seen.append(settings.device)))
    monkeypatch.setattr(jobs, "pick_device", lambda name: asked.append(name) or f"the {name}")
    planned.config["device"] = "auto"
    jobs.compute(planned, job)
    jobs.compute(planned, job, USUAL)
    assert asked == ["auto", "cpu"]
    assert seen == ["the auto", "the cpu"]


@pytest.mark.parametrize("earlier", [True, False])
def test_a_pause_is_recorded_only_where_there_is_no_result(cell, monkeypatch, earlier):
    planned, job = cell
    if earlier:     # a result of older inputs
        write(job, record_of(job, Result({"images": tiny.IMAGES, "mean": {}},
                                         spec={**job.spec, "code": "older"})))

    def pause(*_):
        raise Paused("stopped after step 3; the state is saved")

    monkeypatch.setitem(jobs.KINDS, "cell", jobs.Kind(pause))
    with pytest.raises(Paused) if earlier else contextlib.nullcontext():
        jobs.do(planned, job, USUAL, on_failure="record")
    assert records.read(job.record)["status"] == ("ok" if earlier else "paused")


def test_a_folder_in_a_records_place_is_set_aside(cell):
    _, job = cell
    (job.record / "something").mkdir(parents=True)
    write(job, done(job))
    assert records.read(job.record)["kind"] == "cell"
    assert (job.record.with_name("input.json.1") / "something").is_dir()


# -- one process a job, and only what the run asks for -------------------------------------------

def done(job):
    return record_of(job, Result({"images": tiny.IMAGES, "mean": {}}))


def test_a_job_of_a_run_waits_for_another_process_and_takes_its_result(cell, monkeypatch):
    """The other process is an orphan of a killed run, or was started by hand."""
    planned, job = cell
    monkeypatch.setitem(jobs.KINDS, "cell", jobs.Kind(lambda *_: pytest.fail("done twice")))
    monkeypatch.setattr(locks, "EVERY", 0.01)
    waits = threading.Event()
    monkeypatch.setattr(messages, "say", lambda text: waits.set()
                        if "waiting for another process" in text else None)
    path = lock_of(job.record)
    path.parent.mkdir(parents=True)
    found, other = [], path.open("a")
    locks.lock(other)
    thread = threading.Thread(target=lambda: found.append(
        jobs.do(planned, job, USUAL, on_failure="record")))
    thread.start()
    assert waits.wait(30)
    write(job, done(job))
    other.close()
    thread.join(30)
    assert found == [records.read(job.record)] and not path.exists()


def test_a_job_of_a_run_that_is_done_by_now_is_left_as_it_is(cell, monkeypatch):
    """As when a scheduler starts it again, or a run before had submitted it, too."""
    planned, job = cell
    write(job, done(job))
    monkeypatch.setitem(jobs.KINDS, "cell", jobs.Kind(lambda *_: Result({"images": [],
                                                                         "mean": {"x": 1}})))
    assert jobs.do(planned, job, USUAL, on_failure="record") == records.read(job.record)
    assert records.read(job.record)["result"]["mean"] == {}


def test_by_hand_it_gives_up_and_says_so(cell, monkeypatch):
    planned, job = cell
    monkeypatch.setattr(jobs, "LET_GO", 0.05)
    lock_of(job.record).parent.mkdir(parents=True)
    with lock_of(job.record).open("a") as other:
        locks.lock(other)
        with pytest.raises(UserError, match=r"another process runs it .*input\.lock"):
            jobs.do(planned, job, USUAL)


def change_plan(world, **changes):
    """Plan the run anew, with another config."""
    config = yaml.safe_load(world.read_text())
    config.update(changes)
    world.write_text(yaml.safe_dump(config))
    plan_file.write(plan.load(world))


NEW_PLANS = {
    "the same": ({}, True),
    "other cells beside it": ({"cells": [{"protocol": "jpeg_gray-q10", "datasets": ["tinyset"],
                                          "models": ["input"]}]}, True),
    "fewer metrics": ({"metrics": ["ssim"]}, True),
    "another option": ({"keep_images": False}, False),
    "no such cell": ({"cells": [{"protocol": "sr-x2", "datasets": ["tinyset"],
                                 "models": ["bicubic"]}]}, False),
}


@pytest.mark.parametrize("name", NEW_PLANS)
def test_a_job_writes_only_what_the_plan_still_asks_for(cell, world, monkeypatch, name):
    changes, asked = NEW_PLANS[name]
    planned = plan.read(plan_file.write(cell[0]))
    job = plan_file.settled(planned, planned.cells[KEY])

    def work(*_):
        change_plan(world, **changes)
        return Result({"images": tiny.IMAGES, "mean": {}})

    monkeypatch.setitem(jobs.KINDS, "cell", jobs.Kind(work))
    for on_failure in ("record", "stop"):
        if asked:
            assert jobs.do(planned, job, USUAL, on_failure=on_failure) == records.read(job.record)
            job.record.unlink()
        else:
            with pytest.raises(Superseded, match="no longer asks"):
                jobs.do(planned, job, USUAL, on_failure=on_failure)
            assert not job.record.exists()


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("{")])
def test_without_a_plan_nothing_is_asked_for(cell, damage):
    planned = plan.read(plan_file.write(cell[0]))
    assert planned.asks_for(planned.cells[KEY])
    damage(planned.run_folder.plan)
    assert not planned.asks_for(planned.cells[KEY])
    assert cell[0].asks_for(planned.cells[KEY])     # planned from a config: by hand
