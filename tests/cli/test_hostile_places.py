"""Places that cannot be read or written: one message, exit code 2, no traceback."""

import subprocess
import sys

import pytest

from irbench import cli
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


def test_the_home_of_a_user_who_does_not_exist(world, capsys):
    assert "~nobody-of-this-name/c.yaml: no such file" in told(
        capsys, *EVAL, "--no-config", "--catalog", "~nobody-of-this-name/c.yaml")
