"""Places that cannot be read or written: one message, exit code 2, no traceback."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import yaml

from irbench import cli
from irbench.catalog.manifest import read_manifest
from irbench.core import digests, files
from irbench.core.errors import UserError
from irbench.data import folders, sets
from irbench.imaging import photo
from irbench.imaging.images import read_image, size_of
from irbench.weights import storage
from tests.helpers import tiny

EVAL = ["eval", "--protocol", "sr-x2", "--dataset", "tinyset", "--model", "bicubic"]


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    return tmp_path


def told(capsys, *words):
    """Run a command that must fail with exit code 2; return its last message."""
    capsys.readouterr()
    assert cli.main(list(words)) == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text.splitlines()[-1]


def test_a_file_in_place_of_the_results_folder(world, capsys):
    (world / "results").write_text("")
    message = told(capsys, *EVAL)
    assert message.startswith("irbench: results/tiny/") and "not written" in message
    assert "Not a directory. A file stands where a folder should be" in message
    assert "Not a directory" in told(capsys, *EVAL, "--log", "results/tiny/log")
    assert "Not a directory" in told(capsys, "report")


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"a: \0", b"[" * 99_999])
@pytest.mark.parametrize("words", [
    ("eval", "--protocol", "sr-x2", "--dataset", "x", "--model", "y", "--config", "bad"),
    ("list", "models", "--config", "bad"), ("verify", "--config", "bad"),
    ("data", "check", "x", "--config", "bad"), ("report", "--config", "bad"),
    ("check", "--baseline", "bad"),
    ("anchors", "--file", "bad"), ("eval", "--plan", "bad", "--protocol", "sr-x2", "--dataset",
                                   "x", "--model", "y")])
def test_a_file_that_is_none_in_every_place_that_takes_one(world, capsys, words, content):
    if content is None:
        (world / "bad").mkdir()
    else:
        (world / "bad").write_bytes(content)
    assert "bad" in told(capsys, *words)


@pytest.fixture
def hurried():
    """End a test that waits for ever."""
    def late(*_):
        pytest.fail("it waits")
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("key, value", [
    ("plugins", ["bad"]), ("metric_plugins", ["bad"]), ("catalog_paths", ["bad"]),
    ("models", {"bicubic": {}, "tiny": {"checkpoint": "bad.pth"}}), (None, None)])
def test_a_pipe_that_nobody_writes_to_in_a_config(world, capsys, hurried, key, value):
    for name in ("bad", "bad.pth"):
        os.mkfifo(world / name)
    if key is None:
        assert "A pipe, a socket or a device" in told(capsys, *EVAL, "--config", "bad")
        return
    config = yaml.safe_load((world / "config.yaml").read_text())
    config |= {key: value, "cells": [{"protocol": "sr-x2", "datasets": ["tinyset"],
                                      "models": ["bicubic", "tiny"]}]}
    (world / "config.yaml").write_text(yaml.safe_dump(config))
    assert "bad" in told(capsys, *EVAL[:-1], "tiny")


def test_a_pipe_in_every_place_of_a_command(world, capsys, hurried):
    for name in ("bad", "bad.py", "bad.pth", "bad.json"):
        os.mkfifo(world / name)
    restore = ["restore", "images", "--output", "out", "--protocol", "sr-x2", "--model"]
    for words in (["anchors", "--file", "bad"], [*EVAL, "--plan", "bad.json"],
                  [*restore, "bad.py:X"], [*restore, "bad.pth"], ["verify", "--config", "bad"],
                  ["checkpoints", "import", "bad.pth"], ["check", "--baseline", "bad.json"],
                  ["compare", "bad.json", "bad"], ["table", "sr", "--run", "bad"],
                  ["restore", "bad", "--output", "out", "--protocol", "sr-x2", "--model",
                   "bicubic"]):
        assert "bad" in told(capsys, *words)


def test_a_pipe_and_a_device_for_every_reader(world, hurried):
    os.mkfifo(world / "pipe")
    (world / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        path = world / name
        for read in (read_manifest, read_image, photo.read, storage.read_header,
                     lambda path: storage.read(path, ""), files.read_json, frozen_list):
            with pytest.raises((UserError, ValueError), match="pipe, a socket or a device"):
                read(path)
        assert size_of(path) == 0 and photo.made_with(path) == ("", "")
        with pytest.raises(OSError, match="pipe, a socket or a device"):
            digests.file_digest(path)
        path.unlink()
        path.mkdir()
        with pytest.raises(IsADirectoryError):
            digests.file_digest(path)


def frozen_list(path):
    entry = next(iter(sets.catalog((str(Path.cwd() / "datasets.yaml"),)).values()))
    with mock.patch.object(folders, "frozen_path", lambda _: path):
        return folders.frozen(entry)


def test_a_full_log_costs_no_result(world, capsys):
    assert cli.main([*EVAL, "--log", "/dev/full"]) == 0
    assert "/dev/full: no more messages are written to it" in capsys.readouterr().err
    assert list((world / "results").rglob("bicubic.json"))


@pytest.mark.parametrize("words", [["list", "datasets"], ["info", "set5"]])
def test_output_that_cannot_be_written_is_one_message(world, words):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        ended = subprocess.run([sys.executable, "-m", "irbench", *words], stdout=full, check=False,
                               stderr=subprocess.PIPE, text=True, timeout=60)
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 2 and "No space left on device. Make room" in ended.stderr


def test_a_terminal_that_knows_ascii_only(world):
    """A title is printed as escapes; a path that no call of the system takes is one message."""
    config = yaml.safe_load((world / "config.yaml").read_text())
    config["run"] = "r1"
    config["catalog_paths"] = [str(world), "kätäloge"]
    (world / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), "utf-8")
    (world / "kätäloge").mkdir()
    ended = subprocess.run(
        [sys.executable, "-m", "irbench", "status", "config.yaml"], check=False, timeout=60,
        capture_output=True, env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0",
                                  "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""})
    assert ended.returncode == 2 and b"Traceback" not in ended.stderr
    assert rb"k\xe4t\xe4loge" in ended.stderr and b"Set LC_ALL=C.UTF-8" in ended.stderr


def test_every_text_is_printed_whatever_the_terminal_knows(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    cli.main(["list", "models"])
    print("T\xefny \u2014 \udc80")
    stream.flush()
    assert stream.buffer.getvalue().endswith(b"T\\xefny \\u2014 \\udc80\n")


def test_the_home_of_a_user_who_does_not_exist(world, capsys):
    assert "~nobody-of-this-name/c.yaml: no such file" in told(
        capsys, *EVAL, "--no-config", "--catalog", "~nobody-of-this-name/c.yaml")


@pytest.mark.parametrize("words", [
    ["restore", "", "--output", "out", "--model", "bicubic", "--protocol", "sr-x2"],
    ["restore", "images", "--output", "", "--model", "bicubic", "--protocol", "sr-x2"],
    ["init", ""], ["table", "sr", "--run", ""], ["run", "config.yaml", "--profile", ""],
    ["score", "", "", "--protocol", "sr-x2"], ["history", ""], ["anchors", "--only", ""]])
def test_an_empty_argument_is_not_the_current_folder(world, capsys, words):
    before = set(world.rglob("*"))
    assert "an argument is empty (after " in told(capsys, *words)
    assert set(world.rglob("*")) == before


def test_a_folder_with_the_config_of_the_run_is_no_profile(world, capsys):
    assert "is the config of the run" in told(capsys, "run", "config.yaml", "--profile", ".")
