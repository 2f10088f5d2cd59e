"""The files a training leaves: its state, damaged or another's, its best weights, a full disk."""

import errno
import os

import pytest
import torch

from irbench import plan
from irbench.catalog import recipes
from irbench.core import records
from irbench.core.errors import UserError
from irbench.core.files import atomic_path
from irbench.jobs import training
from irbench.jobs.training import engine, state
from tests.helpers import trainings
from tests.helpers.trainings import again, change, job, result, stop_after, train


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_damaged_state_gives_way_to_the_one_before(folder, monkeypatch, capsys):
    config = trainings.make(folder)
    assert train(config) == 0
    whole = result(config)["checkpoint"]
    again(config)
    with monkeypatch.context() as patch:
        stop_after(patch, 9)
        assert train(config) == 3
    path = job(config).record.with_suffix(".state")
    data_of = bytearray(path.read_bytes())
    data_of[len(data_of) // 2] ^= 1                     # one bit
    path.write_bytes(data_of)
    capsys.readouterr()
    assert train(config) == 0
    wording = capsys.readouterr().err
    assert "thin.state: not readable (the checksum does not match)" in wording
    assert "thin.state.previous: continuing after step 8" in wording
    assert result(config)["checkpoint"] == whole
    again(config)
    path.write_bytes(b"")
    path.with_name(f"{path.name}.previous").write_bytes(b"damaged")
    assert train(config) == 0
    assert result(config)["checkpoint"] == whole


def test_a_state_of_another_recipe_is_not_continued(folder, monkeypatch, capsys):
    config = trainings.make(folder)
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert train(config) == 3
    change(config, lr=0.002)
    assert train(config) == 0
    assert "from another recipe, data or code; not continued" in capsys.readouterr().err
    assert result(config)["curve"][0]["step"] == 1


def test_a_recipe_changed_and_changed_back_goes_on(folder, monkeypatch, capsys):
    config = trainings.make(folder, lr=0.001)
    assert train(config) == 0
    whole = result(config)["checkpoint"]
    again(config)
    path, own = job(config).record.with_suffix(".state"), job(config).fingerprint

    def files():
        return sorted(one.name for one in path.parent.glob("*.state*"))

    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        assert train(config) == 3
    assert files() == ["thin.state", "thin.state.previous"]
    change(config, lr=0.002)
    other = job(config).fingerprint
    with monkeypatch.context() as patch:
        stop_after(patch, 9)            # three saves, each in the place of the one before
        assert train(config) == 3
    assert f"thin.state: kept as thin.state.{own[:8]}" in capsys.readouterr().err
    assert files() == sorted(["thin.state", f"thin.state.{own[:8]}", "thin.state.previous"])
    assert state.read(path)["fingerprint"] == other
    change(config, lr=0.001)
    assert job(config).fingerprint == own
    assert train(config) == 0
    assert f"thin.state.{own[:8]}: continuing after step 6" in capsys.readouterr().err
    assert result(config)["checkpoint"] == whole
    # its own is gone, the other's waits
    assert files() == [f"thin.state.{other[:8]}"]
    assert state.read(path.parent / files()[0])["step"] == 9
    change(config, lr=0.002)
    assert train(config) == 0
    assert "continuing after step 9" in capsys.readouterr().err
    assert files() == []


def test_best_weights_of_an_older_training_do_not_stay(folder):
    config = trainings.make(folder, steps=2, holdout=1, validate_every=1)
    assert train(config) == 0
    best = plan.load(config).folder / result(config)["best"]["file"]
    assert best.exists()
    change(config, validate_every=None)
    assert train(config) == 0
    assert result(config)["best"] is None
    assert not best.exists()


def test_a_full_disk_is_named_and_leaves_no_half_written_file(folder, monkeypatch, capsys):
    config = trainings.make(folder)
    path = job(config).record.with_suffix(".csv")
    write = type(path).write_bytes

    def full(self, content):
        if self.suffix != ".csv":
            return write(self, content)
        write(self, content[:9])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
    with monkeypatch.context() as patch:
        patch.setattr(type(path), "write_bytes", full)
        assert train(config) == 2
    wording = capsys.readouterr().err
    assert f"{path}: not written: No space left on device. Make room for it, then" in wording
    assert not list(path.parent.glob(".thin.*"))
    assert not path.exists()
    assert train(config) == 0           # from the state that was saved before the curve
    assert "continuing after step 4" in capsys.readouterr().err


def test_only_a_lack_of_room_is_called_so(tmp_path):
    with pytest.raises(PermissionError), atomic_path(tmp_path / "a"):
        raise PermissionError(errno.EPERM, "no")
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        with pytest.raises(UserError, match="a: not written: "), \
                atomic_path(tmp_path / "a"):
            raise OSError(code, os.strerror(code))
    assert not list(tmp_path.iterdir())


def test_processes_that_found_different_states_are_refused():
    class Two:
        device = "cpu"

        def gather(self, step):
            return torch.cat([step, step * 0])
    one = state.State(torch.nn.Linear(1, 1), recipes.resolve(
        {"recipe": "demo", "optimiser": "adamw"}, "x"), "", "here.state")
    engine.check_together(Two(), one)
    one.step = 7
    with pytest.raises(UserError, match="here.state: the processes found .* different steps, 7, 0"):
        engine.check_together(Two(), one)


def test_a_finished_training_whose_record_is_lost_is_not_trained_again(folder, monkeypatch, capsys):
    """The workflow keeps its state until it has seen the record."""
    config = trainings.make(folder)
    assert train(config, "--on-failure", "record", "--supervised") == 0
    one = job(config)
    whole, kept = result(config), one.record.with_suffix(f".state.{one.fingerprint[:8]}")
    assert [path.name for path in kept.parent.glob("*.state*")] == [kept.name]
    one.record.unlink()
    monkeypatch.setattr(state.State, "update", lambda *_: pytest.fail("trained again"))
    assert train(config, "--on-failure", "record", "--supervised") == 0
    assert "continuing after step 12" in capsys.readouterr().err
    again = result(config)
    assert {**again, "waiting": None} == {**whole, "waiting": None}
    record = records.read(one.record)
    training.forget(plan.load(config).run_folder, record)
    assert not list(kept.parent.glob("*.state*"))
    training.forget(plan.load(config).run_folder, record)   # by whoever sees it next


def test_the_state_of_another_training_is_not_forgotten(folder, monkeypatch):
    config = trainings.make(folder)
    assert train(config) == 0
    record = records.read(job(config).record)
    change(config, lr=0.002)
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        assert train(config) == 3
    path = job(config).record.with_suffix(".state")
    training.forget(plan.load(config).run_folder, record)
    assert path.exists()
