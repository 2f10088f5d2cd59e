"""Times that are shown only where the samples carry them: percentiles, lines, exponents."""

import csv
import io

import pytest

from irbench.present import style
from irbench.present.markdown import to_markdown
from irbench.present.tidy import to_csv
from irbench.report.plots import attention, latency, scaling
from irbench.report.tables import sheets
from tests.helpers import report_fast
from tests.helpers import report_fixtures as fixtures
from tests.helpers.report_fast import collected


def test_a_percentile_is_printed_from_enough_samples_only(tmp_path):
    """A p90 from 64 samples, a p99 from 662; what a record of an older version says is ignored."""
    for counts, titles in (((2, 63), []), ((2, 64), ["p90"]), ((64, 662), ["p90", "p99"])):
        builder = fixtures.Builder(tmp_path / str(counts))
        for model, count in zip("ab", counts, strict=True):
            builder.model(model, model.upper())
            builder.profile("sr-x2@1", model, {"latency_ms": {
                "p50": 2.0, "p90": 3.0, "samples": [2.0] * count}})
        run = collected(builder)
        made = sheets.build(run)["profiles"]
        assert [c.title for c in made.columns if c.over == ("Latency",)] == [
            "p50", *titles, "passes"]
        assert ("needs 64 timed passes" in to_markdown(made)) == (counts == (2, 64))
        assert ("needs 662 timed passes" in to_markdown(made)) == (counts == (64, 662))
        rows = list(csv.DictReader(io.StringIO(to_csv(made))))
        assert [bool(row["latency_p90_ms"]) for row in rows] == [n >= 64 for n in counts]
        assert [bool(row["latency_p99_ms"]) for row in rows] == [n >= 662 for n in counts]
        [figure] = latency.draw(run).figures
        assert ("p90" in figure.caption) == bool(titles)


def test_the_attention_benchmark_marks_what_was_disturbed(tmp_path, monkeypatch):
    figures = {}
    monkeypatch.setattr(style, "save",
                        lambda figure, _, stem, kinds: figures.setdefault(stem, figure))
    result = report_fast.bench_result((64, 256), (16, 32))
    for one in (*result["rows"], *result["build"]):
        if one["latency_ms"]:
            one["latency_ms"]["busy_elsewhere"] = 1.3 if one["n"] == 256 else 0.05
    builder = fixtures.Builder(tmp_path)
    builder.bench(result)
    run = collected(builder)
    made = attention.sheet(run)
    marked = [[any("1.3 cores busy" in made.notes[mark] for mark in value.marks)
               for value in row.entries if "ms" not in value.shown] for row in made.rows]
    assert [any(row) for row in marked] == [False, False, True, True]
    [drawn] = attention.draw(run).figures
    assert "(hollow, without a line): N = 256 (1.3 cores)." in drawn.caption
    times = [{(line.get_linestyle(), str(line.get_markerfacecolor()) == "none")
               for line in ax.lines if line.get_marker() != "None"}
             for ax in figures["attention"].axes[:2]]
    assert times == [{("-", False)}, {("None", True)}]     # N = 64, N = 256


def swept(cores, busy=0.0, exponent=True):
    """A profile with a sweep of four sizes; ``cores``: the load at each; None: not recorded."""
    sizes = [{"height": side, "width": side, "batch": 1, "peak_memory_bytes": None, "missing": {},
              "latency_ms": {"p50": side**2 / 1e3, "samples": [1.0], **(
                  {} if load is None else {"busy_elsewhere": load})}}
             for side, load in zip((32, 48, 64, 96), cores, strict=True)]
    fitted = {"value": 1.0, "low": 0.98, "high": 1.02}
    return {"latency_ms": {"p50": 2.0, "samples": [2.0], "busy_elsewhere": busy}, "sweep": {
        "size": {"points": sizes, "exponent": fitted if exponent else None}, "batch": {}}}


@pytest.mark.parametrize(("profile", "ends", "hollow", "label"), [
    (swept([0.0, 0.1, 0.0, 0.0]), (1024, 9216), [], "1.00 ± 0.02"),
    (swept([0.0, 0.0, 0.0, 1.0]), (1024, 4096), [9216], "1.00 ± 0.02"),
    (swept([1.0, 1.0, 0.0, 0.0], exponent=False), None, [1024, 2304], "no fit"),
    # an older record: the load is known of the whole profile only, the exponent is of all points
    (swept([None] * 4, busy=1.0), None, [1024, 2304, 4096, 9216], "no fit"),
    (swept([None] * 4), (1024, 9216), [], "1.00 ± 0.02")])
def test_no_line_and_no_exponent_rest_on_disturbed_points(tmp_path, monkeypatch, profile, ends,
                                                          hollow, label):
    figures = []
    monkeypatch.setattr(style, "save", lambda figure, *_: figures.append(figure))
    builder = fixtures.Builder(tmp_path)
    builder.model("a", "A")
    builder.profile("sr-x2@1", "a", profile)
    [drawn] = scaling.draw(collected(builder)).figures
    ax = figures[0].axes[0]
    lines = [line for line in ax.lines if line.get_linestyle() == "-" and len(line.get_xdata())]
    assert [tuple(line.get_xdata()) for line in lines] == ([ends] if ends else [])
    assert [x for line in ax.lines if str(line.get_markerfacecolor()) == "none"
            for x in line.get_xdata()] == hollow
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [f"A: {label}"]
    assert ("Hollow points" in drawn.caption) == bool(hollow)
    assert (f"{len(hollow)} of 4 points" in drawn.caption) == bool(hollow)
