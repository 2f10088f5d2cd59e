import numpy as np

from irbench.core import messages


def test_progress_tells_rate_and_time_left(monkeypatch, capsys):
    clock = iter(np.arange(0, 4000, 30.0))
    monkeypatch.setattr(messages.time, "monotonic", lambda: float(next(clock)))
    assert list(messages.track(range(3), "work", 12, 9)) == [0, 1, 2]
    assert capsys.readouterr().err.splitlines() == [
        "work: 10/12, 60.0 s/it, about 2 min left", "work: 11/12, 45.0 s/it, about 45 s left"]
    assert list(messages.track_seconds([0.0, 30.0], "work", 9000)) == [0.0, 30.0]
    assert capsys.readouterr().err == "work: 30 of 9000 s, 60.0 s/it, about 2.5 h left\n"
    assert messages.rate(0.25) == "4.0 it/s"


def test_a_terminal_shows_a_live_line_for_a_budget_in_seconds(monkeypatch, capsys):
    monkeypatch.setattr(messages.sys.stderr, "isatty", lambda: True, raising=False)
    assert list(messages.track_seconds([0.0, 5.0], "work", 10)) == [0.0, 5.0]
    message = capsys.readouterr().err
    assert "work:" in message
    assert "it/s, about 5 s left" in message
