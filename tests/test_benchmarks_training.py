"""The benchmark of training runs: engine and plain loops, in turns, on a package's photographs."""

import json
from importlib import util

import numpy as np
import pytest

from tests.helpers.paths import ROOT

FOLDER = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)  # of the modules it imports from beside it
        spec = util.spec_from_file_location("benchmark_of_training", FOLDER / "training.py")
        module = util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def run(benchmark, capsys, *words):
    assert benchmark.main(["--pairs", "1", "--steps", "2", "--device", "cpu", "--patch", "16",
                           "--batch", "2", *words]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.slow
def test_all_three_train_in_turns(benchmark, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("IRBENCH_MIRROR", raising=False)
    monkeypatch.chdir(tmp_path)
    taken = []
    take = benchmark.PlainLoop.take
    monkeypatch.setattr(benchmark.PlainLoop, "take",
                        lambda self, steps: taken.append(steps) or take(self, steps))
    options = {"width": 12, "layers": 1, "heads": 1, "restoration": "unshuffle"}
    found = run(benchmark, capsys, "--options", json.dumps(options))
    assert list(found["loops"]) == ["engine", "plain loop", "plain loop, network"]
    assert taken == [2] * 4  # two plain loops, one turn to warm up and one that counts
    assert found["loops"]["engine"]["ratio"] == 1
    for row in found["loops"].values():
        assert row["images_per_s"] > 0
        assert 0 < row["waiting"] < 1
        assert row["ratio_min"] <= row["ratio"] <= row["ratio_max"]
    assert found["plain_sample_ms"]["decode"] > 0
    assert found["images"] == {"set": "photos_train", "count": 10}
    assert not list(tmp_path.iterdir())  # nothing is left where one happens to be


def test_a_ratio_is_of_two_blocks_of_one_turn(benchmark):
    turns = {"engine": [9, 1, 2, 4], "plain loop": [1, 2, 6, 4]}
    spent = {name: np.array([(wall, 2 * wall) for wall in walls], float)
             for name, walls in turns.items()}
    found = benchmark.summary(spent, {"engine": 1.6, "plain loop": 6.5}, 10)
    assert found["plain loop"]["ratio"] == found["plain loop"]["cpu_ratio"] == 2
    assert (found["plain loop"]["ratio_min"], found["plain loop"]["ratio_max"]) == (1, 3)
    assert found["plain loop"]["images_per_s"] == 2.5
    assert found["plain loop"]["waiting"] == 0.5
    assert found["engine"]["waiting"] == 0.1


@pytest.mark.parametrize("protocol", ["sr-x2", "denoise_color-sigma25"])
def test_a_plain_sample_fits_and_its_input_belongs_to_its_target(benchmark, tmp_path, protocol):
    from irbench.catalog import protocols
    from irbench.imaging.images import write_png
    from tests.helpers import tiny

    write_png(tmp_path / "a.png", tiny.photo(0, 41, 50))
    protocol = protocols.get(protocol)
    data = benchmark.PlainImages([tmp_path / "a.png"], protocol, 16)
    for _ in range(8):
        degraded, target = (t.numpy() for t in data[0])
        side = 16 // protocol.scale
        assert degraded.shape == (3, side, side)
        assert target.shape == (3, 16, 16)
        blocks = target.reshape(3, side, protocol.scale, side, protocol.scale).mean((2, 4))
        assert np.abs(degraded - blocks).mean() < 0.1
    assert data.samples == 8


def test_bad_options_are_refused(benchmark, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["--model", "compactor", "--pairs", "1"])
    assert "compacter" in capsys.readouterr().err
