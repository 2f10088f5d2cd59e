"""The figures of a history: which there are, what they hold, and that they come out the same."""

import datetime
from collections import Counter
from dataclasses import replace

import pytest

from irbench import cli
from irbench.compare import history, history_plot
from irbench.compare.steps import find
from irbench.present import style
from tests.helpers.histories import one_run

DAY = datetime.timedelta(days=1)
START = datetime.datetime(2026, 11, 1, 3, tzinfo=datetime.UTC)


@pytest.fixture
def made(tmp_path):
    """A history of one model whose PSNR falls at the third run, and what it writes."""
    for day in range(4):
        one_run(tmp_path / "runs", f"run{day}", day, 34.0 - (day >= 2))
    return tmp_path


def series(count, times, protocol="sr-x{}@1", values=None):
    """Histories by hand: ``count`` panels of one model."""
    values = values or [30.0] * len(times)
    points = [history.SeriesPoint(f"run{i}", time, "", value)
              for i, (time, value) in enumerate(zip(times, values, strict=True))]
    return history.History(
        "runs", [history.DatedRun(p.run, p.time, "", None) for p in points], [],
        [history.Series(protocol.format(i), "set5", "m", "psnr", "", points, find(values, 0.001))
         for i in range(count)])


@pytest.fixture
def figures(monkeypatch):
    """Figures are kept instead of written."""
    kept = {}
    monkeypatch.setattr(style, "save", lambda figure, folder, stem: kept.update({stem: figure}))
    return kept


@pytest.mark.slow
def test_output_has_tables_and_three_files_a_figure_the_same_each_time(made, capsys):
    out = made / "out"
    arguments = ["history", str(made / "runs"), "--metric", "psnr", "--output", str(out)]
    assert cli.main(arguments) == 0
    first = {path.relative_to(out): path.read_bytes() for path in out.rglob("*.*")}
    assert sorted(map(str, first)) == [
        *(f"figures/history-psnr.{kind}" for kind in ("pdf", "png", "svg")),
        "history.csv", "history.md"]
    assert cli.main(arguments) == 0
    assert first == {path.relative_to(out): path.read_bytes() for path in out.rglob("*.*")}
    printed = (out / "history.md").read_text()
    assert "](figures/history-psnr.png)" in printed
    assert "Lines of PSNR" in printed


def test_a_step_has_a_line_a_triangle_and_its_size(figures, tmp_path):
    made = series(1, [START + DAY * i for i in range(4)], values=[30.0, 30.0, 29.5, 29.5])
    (drawn,) = history_plot.draw(made, tmp_path)
    (ax,) = figures["history-psnr"].axes
    assert "-0.500" in [text.get_text() for text in ax.texts]
    assert Counter(line.get_marker() for line in ax.lines)["v"] == 1
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in dashed] == [
        history_plot.dates.date2num(START + DAY * 2)]
    assert ax.get_ylabel() == "PSNR (dB)"
    assert ax.get_xlabel() == "Time (UTC), 2026"
    assert "run2: -0.500 dB, worse" in drawn.alt


def test_latency_has_the_quartiles_of_each_run(made, figures):
    (drawn,) = history_plot.draw(history.read(made / "runs", {"metric": ["latency"]}), made)
    (ax,) = figures["history-latency"].axes
    bars = [line for line in ax.lines if list(line.get_ydata()) == pytest.approx([11.97, 12.03])]
    assert len(bars) == 4
    assert ax.get_ylabel() == "Latency, median (ms)"
    assert "quartiles" in drawn.caption


@pytest.mark.parametrize("busy", [{1}, {0, 1, 2, 3}])
def test_a_disturbed_latency_is_a_hollow_point_on_no_line(made, figures, busy):
    found = history.read(made / "runs", {"metric": ["latency"]})
    one, = found.series
    points = [replace(point, busy=1.0 if i in busy else 0.0) for i, point in enumerate(one.points)]
    (drawn,) = history_plot.draw(replace(found, series=[replace(one, points=points)]), made)
    (ax,) = figures["history-latency"].axes
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == "none"]
    assert [len(line.get_xdata()) for line in hollow] == [len(busy)]
    assert [len(line.get_xdata()) for line in ax.lines if line.get_linestyle() == "-"
            and line.get_marker() not in ("None", None)] == [4 - len(busy)] * (len(busy) < 4)
    assert "disturbed by other work" in [
        text.get_text() for text in figures["history-latency"].legends[0].get_texts()]
    assert "Hollow points: other processes" in drawn.caption


def test_runs_of_one_time_are_drawn_in_their_order(figures, tmp_path):
    history_plot.draw(series(1, [START] * 3), tmp_path)
    (ax,) = figures["history-psnr"].axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["run0", "run1", "run2"]
    assert list(ax.lines[0].get_xdata()) == [1, 2, 3]


def test_crowded_runs_are_drawn_in_their_order(figures, tmp_path):
    history_plot.draw(series(1, [START, START + DAY / 24, START + DAY * 300]), tmp_path)
    assert list(figures["history-psnr"].axes[0].lines[0].get_xdata()) == [1, 2, 3]


def test_many_panels_are_several_figures(figures, tmp_path):
    drawn = history_plot.draw(series(14, [START, START + DAY]), tmp_path)
    assert [one.stem for one in drawn] == ["history-psnr-1", "history-psnr-2"]
    assert [sum(ax.axison for ax in figures[one.stem].axes) for one in drawn] == [12, 2]


def test_one_run_alone_is_not_drawn(figures, tmp_path):
    assert history_plot.draw(series(2, [START]), tmp_path) == []
    assert not figures
