"""GPUs of a machine: pretended by a program in place of nvidia-smi."""

import json
import os
import subprocess
import sys

import pytest

from irbench import cli
from irbench.core import machine
from irbench.inference import gpus
from tests.helpers.paths import ROOT

TOLD = "\n".join(f"GPU-{number:08x}-aa, Pretend {number}, {1024 * (1 + number)}"
                 for number in range(8))


@pytest.fixture(autouse=True)
def pretend(tmp_path, monkeypatch):
    """Eight GPUs; their lock files lie in a folder of the test."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{TOLD}\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(gpus.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    monkeypatch.setattr(gpus, "_taken", [])
    gpus.installed.cache_clear()
    yield program
    for handle in gpus._taken:
        os.close(handle)
    gpus.installed.cache_clear()


def name(number):
    return f"GPU-{number:08x}-aa"


CODE = ("import sys; from irbench.inference import gpus\n"
        "print(*gpus.claim(int(sys.argv[1])), flush=True); sys.stdin.read()")


def another(count=1):
    """Another process that takes GPUs; return it and their names."""
    process = subprocess.Popen([sys.executable, "-c", CODE, str(count)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT)})
    return process, process.stdout.readline().split()


def test_the_machine_is_described(capsys):
    assert gpus.installed()[2] == gpus.Gpu(name(2), "Pretend 2", 3 * 2**30)
    assert gpus.find() == tuple(map(name, range(8)))
    assert cli.main(["info", "machine"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [gpu["uuid"] for gpu in told["gpus"]] == told["usable"] == list(map(name, range(8)))
    assert told["cores"] == machine.usable_cores() > 0


@pytest.mark.parametrize("program", ["", "exit 9", "echo No devices were found", "echo ,,,"])
def test_without_a_gpu_nothing_is_taken(pretend, program):
    pretend.write_text(f"#!/bin/sh\n{program}\n")
    assert gpus.installed() == gpus.find() == gpus.claim() == ()
    assert gpus.VISIBLE not in os.environ


def test_each_process_takes_others_until_it_ends(monkeypatch):
    """Also by kill -9: the kernel releases what it had."""
    first, took = another(6)
    assert took == [name(number) for number in range(6)]
    assert gpus.claim(3) == ()      # too few: none is kept
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    assert gpus.claim(2) == (name(6), name(7))
    assert os.environ[gpus.VISIBLE] == f"{name(6)},{name(7)}"
    assert gpus.claim(1) == ()      # it has them already
    monkeypatch.delenv(gpus.VISIBLE)
    _, none = another()
    assert none == []
    first.kill()
    first.wait()
    last, took = another()
    assert took == [name(0)]
    for process in (first, last):
        process.kill()
        process.wait()


def test_a_job_waits_for_a_free_gpu(monkeypatch):
    other, _ = another(8)
    waited = []

    def waiting(seconds):
        waited.append(seconds)
        other.kill()
        other.wait()

    assert gpus.claim(1, waiting) == (name(0),)
    assert len(waited) == 1


@pytest.mark.parametrize(("visible", "count", "taken"), [
    # a scheduler's or a user's choice
    ("3", 1, ()), ("2,5", 2, ()), ("", 1, ()), ("NoDevFiles", 1, ()),
    ("4,6", 1, ("4",)), (f"{name(1)}, {name(2)}", 1, (name(1),))])
def test_a_choice_that_was_made_holds(monkeypatch, visible, count, taken):
    monkeypatch.setenv(gpus.VISIBLE, visible)
    assert gpus.claim(count) == taken
    assert os.environ[gpus.VISIBLE] == (",".join(taken) or visible)


def test_a_number_and_a_uuid_name_one_gpu(monkeypatch):
    monkeypatch.setenv(gpus.VISIBLE, "0,1")
    other, took = another()
    assert took == ["0"]
    monkeypatch.delenv(gpus.VISIBLE)
    assert gpus.claim() == (name(1),)
    other.kill()
    other.wait()


def test_a_record_says_which_gpu(monkeypatch):
    assert machine.provenance()["gpu_uuid"] is None
    gpus.claim()
    assert machine.provenance()["gpu_uuid"] == name(0)
