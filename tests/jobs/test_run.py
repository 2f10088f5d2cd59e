"""Every kind of job has one shape, and what goes wrong in one is raised or recorded."""

import inspect
import json
import sys

import pytest
import yaml

from irbench import plan
from irbench.core import records
from irbench.core.errors import Paused, Unavailable, UserError
from irbench.jobs import evaluate
from irbench.jobs import run as jobs
from irbench.jobs.result import USUAL, Result, failure, record_of, write
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
    jobs.do(planned, job, USUAL, attempt=1)
    assert records.read(job.record)["attempt"] == 1


@pytest.mark.parametrize("error, raised, status, reason", [
    (Unavailable("no weights"), Unavailable, "unavailable", "no weights"),
    (Paused("stopped"), Paused, "unavailable", "stopped"),
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
    record = jobs.do(planned, job, USUAL, on_failure="record", attempt=2)
    assert records.read(job.record) == record
    assert (record["status"], record["reason"], record["attempt"]) == (status, reason, 2)
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


@pytest.mark.parametrize("code, left, expected", [
    ("raise SystemExit(0)", False, "ended with exit code 0 and left no result; see its messages"),
    ("raise SystemExit(2)", False, "ended with exit code 2"),
    ("import os; os.kill(os.getpid(), 9)", False, "ended by signal 9 (out of memory?)"),
    ("raise SystemExit(0)", True, None),
    ("raise SystemExit(130)", False, None),
])
def test_a_process_of_its_own_leaves_a_record(cell, code, left, expected):
    _, job = cell
    write(job, record_of(job, Result({"images": [], "mean": {}})))
    if left:
        code = f"open({str(job.record)!r}, 'w').write('its own')\n{code}"
    ended, record = jobs.supervise(job, [sys.executable, "-c", code], attempt=3)
    if expected is None:
        assert (ended, record) == (130 if "130" in code else 0, None)
        assert job.record.exists() == left  # the old record is gone in any case
        assert not left or job.record.read_text() == "its own"
        return
    assert ended == 0
    assert records.read(job.record) == record
    assert (record["status"], record["attempt"]) == ("failed", 3)
    assert expected in record["reason"]
