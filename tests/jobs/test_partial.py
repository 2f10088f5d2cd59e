"""A cell that was killed goes on at its first image that is not done, and gives the same record."""

import json
from dataclasses import replace

import pytest
import torch

from irbench import plan
from irbench.core.errors import UserError
from irbench.core.run_folder import partial_of
from irbench.inference.options import DEFAULT
from irbench.inference.tiling import Tiled
from irbench.jobs import run as jobs
from irbench.jobs.result import RunSettings
from tests.helpers import tiny
from tests.helpers.stops import Stops

CELL = "sr-x2@2/tinyset/bicubic"


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tiny.make(tmp_path, keep_images=True)


def do(config, **options):
    planned = plan.load(config)
    return jobs.do(planned, planned.cells[CELL], RunSettings(**options))


def stopped(world, monkeypatch, at, **options):
    """Run the cell until an interruption at an image; return its file of finished images."""
    with monkeypatch.context() as patch:
        Stops(patch, at)
        with pytest.raises(KeyboardInterrupt):
            do(world, **options)
    return partial_of(plan.load(world).cells[CELL].record)


@pytest.fixture
def undisturbed(world):
    record = do(world)
    (world.parent / record_path(world)).unlink()
    return record


def record_path(world):
    return plan.load(world).cells[CELL].record


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_stopped_cell_goes_on(world, undisturbed, monkeypatch, at, workers):
    partial = stopped(world, monkeypatch, at, workers=workers)
    lines = len(partial.read_text().splitlines()) - 1
    assert lines == at if not workers else 0 <= lines <= at     # some may be in threads
    calls = Stops(monkeypatch)
    again = do(world, workers=workers)
    assert calls.count == len(undisturbed["result"]["images"]) - lines
    assert (again["result"], again["result_digest"], again["fingerprint"]) == (
        undisturbed["result"], undisturbed["result_digest"], undisturbed["fingerprint"])
    assert set(again["seconds"]) == set(undisturbed["seconds"])
    assert not partial.exists()


def test_a_cell_that_failed_goes_on_too(world, undisturbed, monkeypatch):
    with monkeypatch.context() as patch:
        Stops(patch, 2, UserError("out of memory"))
        with pytest.raises(UserError, match="out of memory"):
            do(world)
    calls = Stops(monkeypatch)
    assert do(world)["result"] == undisturbed["result"]
    assert calls.count == len(undisturbed["result"]["images"]) - 2


DAMAGES = {
    "the last line is cut off": (lambda text: text[:-9], 1),
    "a value is edited": (lambda text: text.replace('"height"', '"heigth"', 1), 0),
    "a line is missing": (lambda text: "".join(text.splitlines(True)[::2]), 1),
    "the file is empty": (lambda text: "", 0),
    "it is no text of ours": (lambda text: "notes\n" * 3, 0),
    "it was made from something else": (lambda text: text.replace("basis", "other"), 0),
    "nothing": (lambda text: text, 2),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_only_whole_lines_count(world, undisturbed, monkeypatch, what):
    damage, left = DAMAGES[what]
    partial = stopped(world, monkeypatch, 2)
    partial.write_text(damage(partial.read_text()))
    calls = Stops(monkeypatch)
    assert do(world)["result"] == undisturbed["result"]
    assert calls.count == len(undisturbed["result"]["images"]) - left


def test_what_the_values_depend_on_is_compared(world, undisturbed, monkeypatch):
    """Other threads, another machine, an image whose picture is gone or altered."""
    for change, left in ((lambda: {"threads": 2}, 0), (other_machine(monkeypatch), 0),
                         (lose(undisturbed, world, 1), 1), (lose(undisturbed, world, 0), 1)):
        stopped(world, monkeypatch, 2)
        with monkeypatch.context() as patch:
            options = change() or {}
            calls = Stops(patch)
            assert do(world, **options)["result"] == undisturbed["result"]
        assert calls.count == len(undisturbed["result"]["images"]) - left
        record_path(world).unlink()


def other_machine(monkeypatch):
    from irbench.core import machine

    known = machine.basis()
    return lambda: monkeypatch.setattr(machine, "basis", lambda: {**known, "python": "3.0"})


def lose(record, world, number):
    def change():
        kept = record["result"]["images"][number]["kept"]
        path = plan.load(world).folder / next(iter(kept))
        path.write_bytes(path.read_bytes()[:-1])
    return change


def test_a_part_of_a_set_and_a_network_in_memory_keep_nothing(world):
    do(world, limit=2)
    assert not list(world.parent.glob("results/**/*.partial"))


def test_a_file_that_cannot_be_written_costs_nothing(world, undisturbed, capsys, monkeypatch):
    from irbench.jobs.cells import partial

    def full(path):
        if path.suffix == ".partial":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(partial.files, "set_folder_aside", full)
    assert do(world)["result"] == undisturbed["result"]
    assert "A stopped cell would begin anew" in capsys.readouterr().err


def test_tiles_are_recorded_as_if_never_stopped():
    network = torch.nn.Conv2d(3, 3, 3, padding=1)
    options = replace(DEFAULT, tile=64)
    images = [torch.rand(1, 3, 40, 40), torch.rand(1, 3, 99, 150), torch.rand(1, 3, 130, 70)]
    with torch.inference_mode():
        whole = Tiled(network, options)
        for image in images:
            whole(image)
        first, second = Tiled(network, options), Tiled(network, options)
        for image in images[:2]:
            first(image)
        second.continue_from(json.loads(json.dumps(first.state())))
        second(images[2])
    assert second.record() == whole.record()
    assert second.record()["images"] == 2
