"""What planning reads, it reads once, however many cells, protocols and sets a run has."""

import importlib.metadata
import json
import math
from importlib import util
from pathlib import Path

import pytest

from irbench import plan
from irbench.catalog import manifest, reader
from irbench.core import digest_cache, digests
from irbench.models import registry
from irbench.weights import storage


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "planning.py"
    spec = util.spec_from_file_location("benchmark_of_planning", path)
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """How often each thing is read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    counts = {}

    def watch(module, name):
        real = getattr(module, name)

        def count(*args, **kwargs):
            counts[name] = counts.get(name, 0) + 1
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, count)

    watch(importlib.metadata, "entry_points")
    watch(reader, "parse")
    watch(manifest, "_row")
    watch(storage, "read_header")
    watch(digests, "file_digest")
    yield counts
    forget()


def forget():
    for known in (registry._cards, registry._entry_points, manifest._rows):
        known.cache_clear()


def planned(folder, counted):
    """Plan the config of a folder and look up each of its sets; return what that has read."""
    counted.clear()
    forget()
    run = plan.load(folder / "config.yaml")
    for job in run.cells.values():
        assert run.entry(job.key["dataset"]).name == job.key["dataset"]
    return len(run.cells), dict(counted)


@pytest.mark.parametrize("many", [False, True])
def test_planning_reads_no_more_for_more_cells(benchmark, counted, tmp_path, monkeypatch, many):
    read = []
    for sets in (3, 12):
        folder = tmp_path / str(sets)
        assert benchmark.write_run(folder, sets, many) == (sets if many else sets * 25)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(digest_cache, "SETTLED_NS", -1)
        cells, counts = planned(folder, counted)
        assert cells == (sets if many else sets * 25)
        assert counts["file_digest"] >= sets  # each image; the rest is code
        # what is read only once in a process is known now
        read.append(planned(folder, counted)[1])
    assert read[0] == read[1]
    assert read[0]["entry_points"] == 1
    # config, the catalog for datasets and protocols, ours and the run's, and the run's for peers,
    # recipes, printed values and names of tasks; no image
    assert read[0]["parse"] == 9
    assert "file_digest" not in read[0]


def test_weights_and_the_sets_they_name_are_read_once(counted, tmp_path, monkeypatch):
    protocols = ["denoise_color-sigma15", "denoise_color-sigma25", "denoise_color-sigma50"]
    read = []
    for used in (protocols[:1], protocols):
        (tmp_path / "config.yaml").write_text(json.dumps({
            "run": "r", "profile": {"references": []},
            "models": {name: {"arch": "compacter", "options": {"skip": "input"},
                              "checkpoint": "bundled"} for name in ("a", "b")},
            "cells": [{"protocol": protocol, "datasets": ["photos"], "models": ["a", "b"]}
                      for protocol in used]}))
        monkeypatch.chdir(tmp_path)
        read.append(planned(tmp_path, counted)[1])
    # one file serves all three levels, which the catalog of bundled weights says
    assert read[0]["read_header"] == read[1]["read_header"] == 1
    assert read[0]["_row"] == read[1]["_row"] > 0


def test_the_exponent_is_that_of_the_power(benchmark):
    sizes = [100, 500, 2000]
    assert benchmark.exponent(sizes, [0.1 * n ** 1.5 for n in sizes]) == 1.5
    assert benchmark.exponent(sizes, [3.0, 3.0, 3.0]) == 0
    assert benchmark.exponent([100], [1.0]) is None
    assert benchmark.exponent(sizes, [-0.01, 0.0, 1.0]) is None  # less than the start of Python


@pytest.mark.slow
def test_the_benchmark_runs_to_its_end(benchmark, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["planning.py", "--cells", "25", "--sets", "2",
                                     "--repeats", "1"])
    assert benchmark.main() == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [(row["cells"], row["sets"]) for row in found["runs"]] == [(25, 1), (2, 2)]
    for row in found["runs"]:
        assert all(math.isfinite(row[name]) for name in ("planning", "first"))
        assert all(row[name] > 0.3 for name in ("dry", "noop", "cell"))
