import os
import pty
import re
import subprocess
import sys
import termios
import threading
import time

import numpy as np
import pytest

from irbench.core import messages
from tests.helpers.paths import ROOT

WORK = """
import sys, time
from irbench.core import messages
messages.EVERY = 0.2
messages.log_to(sys.argv[1])
if sys.argv[2] == "plain":
    messages.plain()
for i in messages.track(range(1000), "work", 1000):
    time.sleep(0.001)
    if i == 500:
        messages.say("half of it")
with messages.Progress("download set", 5_000_000, unit="B") as progress:
    for _ in range(50):
        progress.advance(100_000)
        time.sleep(0.01)
print('{"done": 1000}')
"""
LINE = re.compile(r"work: \d+/1000, [\d.]+ it/s(, about \d+ s left)?"
                  r"|download set: [\d.]+ of 5.0 MB, [\d.]+ MB/s(, about \d+ s left)?|half of it")


def test_progress_tells_rate_and_time_left(monkeypatch, capsys):
    clock = iter(np.arange(0, 4000, 30.0))
    monkeypatch.setattr(messages.time, "monotonic", lambda: float(next(clock)))
    assert list(messages.track(range(3), "work", 12, 9)) == [0, 1, 2]
    assert capsys.readouterr().err.splitlines() == [
        "work: 10/12, 30.0 s/it, about 60 s left", "work: 11/12, 30.0 s/it, about 30 s left",
        "work: 12/12, 30.0 s/it"]
    assert list(messages.track_seconds([0.0, 30.0], "work", 9000)) == [0.0, 30.0]
    assert capsys.readouterr().err == "work: 30 of 9000 s, 30.0 s/it, about 2.5 h left\n"
    assert list(messages.track(range(2), "work", None)) == [0, 1]
    assert capsys.readouterr().err == "work: 1, 30.0 s/it\nwork: 2, 30.0 s/it\n"
    with messages.Progress("set", None, unit="B") as progress:
        progress.advance(3e7)
        progress.advance(-2e7)      # begun anew
    assert capsys.readouterr().err == "set: 30.0 MB, 1.0 MB/s\nset: 10.0 MB, 0.2 MB/s\n"
    assert messages.rate(0.25) == "4.0 it/s"


def test_the_time_left_of_pictures_goes_by_pixels_and_a_large_one_is_named(monkeypatch, capsys):
    """Five photographs, the second of 12 megapixels: not "about 40 s left" after the first."""
    now = [0.0]
    monkeypatch.setattr(messages.time, "monotonic", lambda: now[0])
    pictures = [messages.Sized(f"{i}.jpg", pixels)
                for i, pixels in enumerate([3e5, 12e6, 3e5, 3e5, 6e5])]
    for picture in messages.track(pictures, "work", 5, pictures=pictures):
        now[0] += picture.pixels / 3e4
    assert capsys.readouterr().err.splitlines() == [
        "work: now 0.jpg, 0.3 megapixels", "work: 1/5, 10.0 s/it, about 7 min left",
        "work: now 1.jpg, 12.0 megapixels, about 7 min", "work: 2/5, 205.0 s/it, about 40 s left",
        "work: 3/5, 140.0 s/it, about 30 s left", "work: 4/5, 107.5 s/it, about 20 s left",
        "work: 5/5, 90.0 s/it"]
    unknown = [messages.Sized("a", 0), messages.Sized("b", 0)]
    for _ in messages.track(unknown, "work", 2, pictures=unknown):      # as if they were alike
        now[0] += 20
    assert capsys.readouterr().err.splitlines()[0] == "work: 1/2, 20.0 s/it, about 20 s left"


def test_a_terminal_shows_the_share_of_pixels_and_the_count_of_pictures(monkeypatch, capsys):
    monkeypatch.setattr(messages.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(messages, "SILENT", 0.1)
    pictures = [messages.Sized("a", 1e5), messages.Sized("b", 9e5)]
    for _ in messages.track(pictures, "work", 2, pictures=pictures):
        time.sleep(0.15)
    message = capsys.readouterr().err
    assert re.search(r"work: +0%\|.*, 0/2\]", message)
    assert re.search(r"work: +10%\|.*, 1/2\]", message)
    assert re.search(r"work: now b, 0\.9 megapixels, about \d+ s\n", message)


def test_a_terminal_shows_a_live_line_for_a_budget_in_seconds(monkeypatch, capsys):
    monkeypatch.setattr(messages.sys.stderr, "isatty", lambda: True, raising=False)
    spent = (time.sleep(0.15) or one for one in (0.0, 5.0))     # it is drawn every 0.1 s at most
    assert list(messages.track_seconds(spent, "work", 10)) == [0.0, 5.0]
    message = capsys.readouterr().err
    assert "work:" in message
    assert "it/s, about 5 s left" in message


def test_many_threads_report_one_work(monkeypatch):
    with messages.Progress("work", 4000) as progress:
        threads = [threading.Thread(target=lambda: [progress.advance() for _ in range(1000)])
                   for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert progress.done == 4000


def do(tmp_path, how, stderr):
    """Start the work; return the process."""
    return subprocess.Popen([sys.executable, "-c", WORK, str(tmp_path / "log.txt"), how],
                            env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
                            stdout=subprocess.PIPE, stderr=stderr)


def through_a_terminal(tmp_path, how):
    """Return what the work writes to stdout and to a terminal."""
    ours, theirs = pty.openpty()
    if how != "unknown width":
        termios.tcsetwinsize(theirs, (24, 100))
    process = do(tmp_path, how, theirs)
    os.close(theirs)
    shown = b""
    try:
        while more := os.read(ours, 4096):
            shown += more
    except OSError:     # how Linux says that the other side is closed
        pass
    os.close(ours)
    return process.communicate()[0], shown.decode()


def test_a_pipe_and_a_log_get_plain_lines_at_intervals(tmp_path):
    """Not one of each of 1,000 items, and nothing on stdout, which is data."""
    out, err = do(tmp_path, "live", subprocess.PIPE).communicate()
    assert out == '{"done": 1000}\n'
    lines = err.splitlines()
    assert lines == (tmp_path / "log.txt").read_text().splitlines()
    assert all(map(LINE.fullmatch, lines)) and "\r" not in err
    assert len([line for line in lines if line.startswith("work")]) >= 2
    assert any(line.startswith("download") for line in lines) and len(lines) < 200


def test_a_terminal_gets_one_line_that_is_rewritten(tmp_path):
    out, shown = through_a_terminal(tmp_path, "live")
    assert out == '{"done": 1000}\n'
    assert shown.count("\r") > 10
    assert re.search(r"work: +\d+%\|.*\d+/1000 \[\d+:\d+<\d+:\d+", shown)
    assert re.search(r"download set: +\d+%.*B/s", shown)
    # only the message ends a line; in the end the live line is gone
    left = shown.replace("\r\n", "\n").split("\n")
    assert [line.rpartition("\r")[2].strip() for line in left] == ["half of it", ""]
    assert all(map(LINE.fullmatch, (tmp_path / "log.txt").read_text().splitlines()))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["plain", "unknown width"])
def test_jobs_that_share_a_terminal_write_lines(tmp_path, how):
    _, shown = through_a_terminal(tmp_path, how)
    assert "%|" not in shown
    assert all(map(LINE.fullmatch, shown.splitlines()))
