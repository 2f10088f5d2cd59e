"""A cell in parts: several jobs score its images, and the record is that of one job."""

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from irbench import cli, plan
from irbench.core import locks, machine, records
from irbench.core.errors import UserError
from irbench.core.run_folder import lock_of, part_lock_of, partial_of, partials_of
from irbench.inference.options import DEFAULT
from irbench.inference.tiling import Tiled
from irbench.jobs import parts
from irbench.jobs import run as jobs
from irbench.jobs.cells.parts import Part
from irbench.jobs.result import RunSettings
from irbench.models import interface
from tests.helpers import tiny
from tests.helpers.stops import Stops

CELL = "sr-x2@2/tinyset/bicubic"
OF_A_JOB = {"seconds", "provenance"}    # all that splitting may change of a record


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tiny.make(tmp_path, keep_images=True)


@pytest.fixture
def cell(world):
    planned = plan.load(world)
    return planned, planned.cells[CELL]


def part(cell, number, count, on_failure="stop", **options):
    return parts.do(*cell, RunSettings(part=Part(number, count), **options), on_failure=on_failure)


def whole(cell, on_failure="stop", **options):
    return jobs.do(*cell, RunSettings(**options), on_failure=on_failure)


def pictures(cell):
    folder = cell[0].folder / "images"
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.png")}


def lasting(record):
    return {name: value for name, value in record.items() if name not in OF_A_JOB}


@pytest.fixture
def undisturbed(cell):
    """The record of the cell in one job, and its pictures; nothing of the run stays."""
    record = whole(cell)
    found = lasting(record), pictures(cell)
    assert len(found[1]) == 9
    shutil.rmtree(cell[0].folder)
    return found


@pytest.mark.parametrize(("count", "order", "workers"), [
    (1, [1], 0), (2, [1, 2], 0), (2, [2, 1], 2), (3, [3, 1, 2], 0), (5, [5, 4, 3, 2, 1], 0)])
def test_the_record_is_that_of_one_job(cell, undisturbed, monkeypatch, count, order, workers):
    found = [part(cell, number, count, workers=workers) for number in order]
    assert sum(one["result"]["count"] for one in found) == 3
    assert not cell[1].record.exists()
    calls = Stops(monkeypatch)
    record = whole(cell)
    assert calls.count == 0
    assert (lasting(record), pictures(cell)) == undisturbed
    assert set(record["seconds"]) == {"load", "forward", "score", "write"}
    assert records.read(cell[1].record) == record
    assert [path.name for path in cell[1].record.parent.iterdir()] == ["bicubic.json"]


def test_the_seconds_of_all_processes_are_added_up(cell):
    told = []
    for number in (1, 2):
        part(cell, number, 2)
        lines = partial_of(cell[1].record, Part(number, 2)).read_text().splitlines()[1:]
        told += [json.loads(line[65:])["seconds"]["forward"] for line in lines]
    assert len(told) == 3
    assert whole(cell)["seconds"]["forward"] == pytest.approx(sum(told), abs=1e-3)


@pytest.mark.parametrize(("first", "second", "left"), [
    (((1, 2), (2, 2)), ((1, 3), (2, 3), (3, 3)), 0),    # other parts have done all
    (((2, 2),), ((1, 3), (2, 3), (3, 3)), 1), (((3, 3),), ((1, 2), (2, 2)), 2),
    (((1, 2),), (), 2)])    # the config splits no longer
def test_another_number_of_parts_goes_on(cell, undisturbed, monkeypatch, first, second, left):
    for one in first:
        part(cell, *one)
    calls = Stops(monkeypatch)
    for one in second:
        part(cell, *one)
    record = whole(cell)
    assert calls.count == left
    assert (lasting(record), pictures(cell)) == undisturbed
    assert partials_of(cell[1].record) == []


def test_a_part_that_was_stopped_goes_on(cell, undisturbed, monkeypatch):
    with monkeypatch.context() as patch:
        Stops(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            part(cell, 2, 2)
    calls = Stops(monkeypatch)
    assert part(cell, 2, 2)["result"] == {"part": "2/2", "count": 2}
    assert calls.count == 1
    assert lasting(whole(cell)) == undisturbed[0]
    assert calls.count == 2     # of part 1, which was never begun


def test_the_cell_does_what_a_killed_part_has_not(cell, undisturbed, monkeypatch):
    with monkeypatch.context() as patch:
        Stops(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            part(cell, 2, 2)
    lines = partial_of(cell[1].record, Part(2, 2))
    lines.write_text(lines.read_text() + '0123 {"entry": {"na')     # was written as it died
    calls = Stops(monkeypatch)
    assert lasting(whole(cell)) == undisturbed[0]
    assert calls.count == 2


@pytest.mark.parametrize("error", [UserError("a bad network"), ValueError("a bug")])
def test_a_failure_is_the_cells(cell, monkeypatch, capsys, error):
    """A part says it, and writes no record; the cell has that of a job for all images."""
    with monkeypatch.context() as patch:
        Stops(patch, 0, error)
        for number in (1, 2):
            found = part(cell, number, 2, on_failure="record")
            assert (found["status"], found["result"]["count"]) == ("failed", None)
            assert str(error) in found["reason"]
        assert not cell[1].record.exists()
        with pytest.raises(type(error), match=str(error)):
            part(cell, 1, 2)
        failed = whole(cell, on_failure="record")
    assert str(error) in failed["reason"] and str(error) in capsys.readouterr().err
    assert whole(cell, on_failure="record")["status"] == "ok"


def test_a_model_that_ends_its_process_is_no_success(cell, monkeypatch):
    Stops(monkeypatch, 0, SystemExit(0))
    with pytest.raises(UserError, match="ended the job"):
        part(cell, 1, 2)
    assert part(cell, 1, 2, on_failure="record")["status"] == "failed"


@pytest.mark.parametrize("change", ["threads", "picture", "machine", "spec"])
def test_only_images_with_the_same_bits_are_taken_over(cell, undisturbed, monkeypatch, change):
    part(cell, 1, 1)
    options, left = {}, 3
    if change == "threads":
        options = {"threads": 2}
    elif change == "picture":
        next((cell[0].folder / "images").rglob("bicubic/img1.png")).unlink()
        left = 1
    elif change == "machine":
        monkeypatch.setattr(machine, "basis", lambda: {"cpu": "another"})
    else:
        cell = cell[0], replace(cell[1], spec={**cell[1].spec, "code": "another"})
    calls = Stops(monkeypatch)
    record = whole(cell, **options)
    assert calls.count == left
    assert (record["result"], pictures(cell)) == (undisturbed[0]["result"], undisturbed[1])


def test_equal_nodes_with_other_memory_count_as_one_machine(monkeypatch):
    before = machine.basis()
    monkeypatch.setattr(machine, "_hardware", lambda: {
        **before["hardware"], "memory_bytes": 1})
    assert machine.basis() == before


def test_a_part_has_nothing_to_do_when_the_cell_is_done(cell, monkeypatch):
    record = whole(cell)
    calls = Stops(monkeypatch)
    found = part(cell, 1, 2, on_failure="record")
    assert (found["status"], found["result"]["count"], calls.count) == ("ok", None, 0)
    partial_of(cell[1].record, Part(1, 2)).touch()      # of a part that ended too late
    assert whole(cell, on_failure="record") == record
    assert partials_of(cell[1].record) == []


def test_a_cell_and_a_part_of_it_are_never_done_at_once(cell, monkeypatch):
    monkeypatch.setattr(jobs, "LET_GO", 0.0)
    nothing = lambda seconds: None      # noqa: E731
    with (locks.hold(part_lock_of(cell[1].record, Part(2, 4)), nothing),
          pytest.raises(UserError, match="a part of it: another process runs it")):
        whole(cell)     # a part of another number may also write pictures
    with (locks.hold(part_lock_of(cell[1].record, Part(1, 2)), nothing),
          pytest.raises(UserError, match="part 1 of 2: another process")):
        part(cell, 1, 2)
    with (locks.hold(lock_of(cell[1].record), nothing),
          pytest.raises(UserError, match="bicubic: another process")):
        part(cell, 1, 2)
    with locks.hold(part_lock_of(cell[1].record, Part(2, 2)), nothing):
        part(cell, 1, 2)
    assert whole(cell)["status"] == "ok"
    assert list(cell[1].record.parent.glob("*lock*")) == []


def test_tiles_of_parts_are_recorded_as_those_of_one_process():
    network = torch.nn.Conv2d(3, 3, 3, padding=1)
    options = replace(DEFAULT, tile=64)
    images = [torch.rand(1, 3, *size) for size in (
        (40, 40), (99, 150), (130, 70), (50, 60), (66, 64))]

    def restored(images):
        tiled = Tiled(network, options)
        states = []
        with torch.inference_mode():
            for image in images:
                tiled(image)
                states.append(json.loads(json.dumps(tiled.state())))
        return tiled, states

    one, _ = restored(images)
    assert one.record()["images"] == 3
    for at in range(len(images) + 1):
        states = [*restored(images[:at])[1], *restored(images[at:])[1]]
        joined = Tiled(network, options)
        for state in states:
            joined.continue_from(state)
        assert joined.record() == one.record()


def test_the_first_reason_and_the_least_size_that_ran_out_of_memory_are_kept():
    joined = Tiled(torch.nn.Conv2d(3, 3, 3))
    for reason, number in (("a", 9), ("b", 4), ("c", 7)):
        joined.continue_from({"cut": None, "reasons": {"memory": reason}, "too_many": number,
                              "observed": None})
    state = joined.state()
    assert (state["reasons"], state["too_many"]) == ({"memory": "a"}, 4)


@pytest.mark.parametrize(("done", "told"), [((2, 1), 1), ((1, 2), 1), ((2,), 9)])
def test_what_was_observed_of_the_first_image_is_told(cell, monkeypatch, done, told):
    """By whichever process restored it."""
    for number in (*done, 9):
        monkeypatch.setattr(interface, "diagnose", lambda network, number=number: (
            contextlib.nullcontext([{"n": number}])))
        record = part(cell, number, 2) if number in done else whole(cell)
    assert record["result"]["dictionary"] == [{"n": told}]


# -- which images, and the command -------------------------------------------------------------

@pytest.mark.parametrize(("images", "count"), [(0, 1), (1, 3), (3, 2), (1111, 8), (7, 7), (5, 9)])
def test_parts_are_all_images_once_and_nearly_equal(images, count):
    spans = [Part(number, count).of(images) for number in range(1, count + 1)]
    assert [one for span in spans for one in span] == list(range(images))
    assert max(map(len, spans)) - min(map(len, spans)) <= 1


@pytest.mark.parametrize("text", [
    "0/2", "3/2", "1", "1/0", "a/b", "1/2/3", "-1/2", "1/1001", "²/3"])
def test_a_text_that_names_no_part_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        cli.main(["eval", "--protocol", "sr-x2", "--dataset", "a", "--model", "bicubic",
                  f"--part={text}"])
    assert "2/4 for the second of four" in capsys.readouterr().err


EVAL = ["eval", "--protocol", "sr-x2", "--dataset", "tinyset", "--model", "bicubic"]


def test_the_command_for_parts_and_then_for_the_cell(world, capsys):
    for number in (1, 2):
        assert cli.main([*EVAL, "--part", f"{number}/2"]) == 0
        assert json.loads(capsys.readouterr().out) == {
            "record": None, "status": "ok", "reason": None, "part": f"{number}/2",
            "count": number}
    assert cli.main(EVAL) == 0
    shown = capsys.readouterr()
    assert "3 of 3 images are done already" in shown.err
    assert Path(json.loads(shown.out)["record"]).exists()


@pytest.mark.parametrize("more", [["--limit", "2"], ["--no-config"]])
def test_a_part_needs_a_run(world, capsys, more):
    assert cli.main([*EVAL, "--part", "1/2", *more]) == 2
    assert "--part needs a run to write to" in capsys.readouterr().err
