"""Figures and tables of speed: k, scaling, attention; their files, and strange text in them."""

import json
import re

import pytest
from matplotlib.text import Text
from PIL import Image

from irbench import report
from irbench.present import style
from irbench.present.latex import to_latex
from irbench.present.markdown import to_markdown
from irbench.report.page import embed
from irbench.report.plots import attention, ksweep, latency, quality, scaling
from irbench.report.tables import sheets
from tests.helpers import report_fast
from tests.helpers import report_fixtures as fixtures
from tests.helpers.latex import balanced, columns_of
from tests.helpers.pages import Reader, files
from tests.helpers.report_fast import collected, edit, lines, row


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return collected(report_fast.fast_run(tmp_path_factory.mktemp("fast")))


# -- k -------------------------------------------------------------------------------------------

def test_only_variants_in_k_alone_are_in_the_figure_of_k(run):
    assert ksweep.members(run) == {"semanir": {8: "semanir.k8", 16: "semanir.k16",
                                               32: "semanir.k32", 64: "semanir",
                                               128: "semanir.k128"}}
    found, = ksweep.rows(run)
    assert found.psnr["set5"] == {8: 33.1, 16: 34.9, 32: 35.4, 64: 35.5, 128: 35.52}
    assert found.p50[64] == 210.0 and found.macs[8] == 40_480_000_000 and not found.missing
    drawn, = ksweep.draw(run).figures
    for part in ("MACs", "k keys of the dictionary only", "SemanIR-S: 64", "Some CPU"):
        assert part in drawn.caption, part


def test_points_of_k_without_a_value_are_named(tmp_path):
    builder = report_fast.fast_run(tmp_path)
    edit(builder, "profiles/sr-x2@1/semanir.k8.json", lambda r: r.update(threads=9))
    (tmp_path / "profiles/sr-x2@1/semanir.k16.json").unlink()
    (tmp_path / "cells/sr-x2@1/set5/semanir.k32.json").unlink()
    found, = ksweep.rows(collected(builder))
    assert sorted(found.p50) == [32, 64, 128] and 32 not in found.psnr["set5"]
    caption = ksweep.draw(collected(builder)).figures[0].caption
    for part in ("latency and MACs at k = 8 (measured on", "at k = 16 (not computed)",
                 "PSNR on Set5 at k = 32 (not computed)"):
        assert part in caption, part


# -- scaling -------------------------------------------------------------------------------------

def test_scaling_names_points_without_a_value(run):
    found, = scaling.rows(run)
    assert found.conditions == {"size": "Some CPU, float32, batch 1, 1 thread",
                                "batch": "Some CPU, float32, 3×64×64, 1 thread"}  # noqa: RUF001
    assert [x for x, _ in found.curves["size"]["semanir"].points] == [64**2, 96**2, 128**2]
    drawn, = scaling.draw(run).figures
    for part in ("512×512 (out of memory", "1.05 ± 0.03", "Some CPU"):  # noqa: RUF001
        assert part in drawn.caption + drawn.alt, part
    assert "No fit: fewer than three points." in drawn.caption


@pytest.mark.parametrize(("exponent", "shown"), [
    ({}, "no fit"), ({"value": 1.0, "low": None, "high": None}, "1.00"),
    ({"value": 1.234, "low": 1.134, "high": 1.334}, "1.23 ± 0.10"),
])
def test_exponents(exponent, shown):
    assert scaling.interval(exponent) == shown


def test_the_fitted_line_is_the_one_of_least_squares():
    curve = scaling.Curve("a", [(10, 3.0), (100, 40.0), (1000, 250.0)], {"value": 0.9604})
    (x0, y0), (x1, y1) = scaling._line(curve)
    assert (x0, x1) == (10, 1000) and y1 / y0 == pytest.approx(100**0.9604)
    assert y0 * y1 == pytest.approx((3.0 * 40.0 * 250.0) ** (2 / 3))    # through the mean


def test_conditions_and_tasks_share_no_panel(tmp_path, monkeypatch):
    builder = fixtures.Builder(tmp_path)
    for i, (name, threads) in enumerate((("sr-x2@1", 1), ("sr-x2@1", 2), ("jpeg_gray-q10@1", 1))):
        builder.model(f"m{i}", f"M{i}")
        builder.profile(name, f"m{i}", {"threads": threads, "sweep": report_fast.sweep(9.0)})
    run = collected(builder)
    assert len(scaling.rows(run)) == 3
    monkeypatch.setattr(scaling, "MAX_ROWS", 2)
    assert [d.stem for d in scaling.draw(run).figures] == ["scaling-sr", "scaling-jpeg_gray"]


def test_a_sweep_without_any_latency(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.plan["profile"] = {"sweep": {"sizes": [64]}}
    builder.model("a", "A")
    builder.profile("sr-x2@1", "a", {"sweep": {"batch": {"points": []}, "size": {"points": [
        {"height": 64, "width": 64, "batch": 1, "latency_ms": None, "missing": "no memory."}]}}})
    drawing = scaling.draw(collected(builder))
    assert not drawing.figures and "64×64 (no memory)" in drawing.left_out[0]  # noqa: RUF001


# -- attention -----------------------------------------------------------------------------------

def test_attention_is_set_against_dense(run):
    made = attention.sheet(run)
    found = row(made, "1024", "512")
    time, memory = "Time, p50 in ms (over dense)", "Peak memory, MiB"
    assert found[time, "dense"].shown == "41.9"
    assert found[time, "mask"].shown == "62.9 (1.50×)"  # noqa: RUF001
    assert found[time, "mask"].rank == "best"
    assert found[time, "dictionary"].shown == "52.4"
    assert found[memory, "gather"].reason == "gather: out of memory while measuring memory"
    assert found[time, "triton"].reason == "triton: Triton needs a CUDA device; none is here"
    assert "values are not known here" in made.caption
    for part in ("Some CPU, float32, 2 threads", "windows 4, heads 6, head dimension 30"):
        assert part in made.caption
    line = next(r for r in lines(made) if (r["n"], r["k"], r["implementation"])
                == ("256", "64", "gather"))
    assert line["time_over_dense"] == "12.5" and line["device_name"] == "Some CPU"


def test_the_figure_of_attention_names_what_is_missing(run):
    drawn, = attention.draw(run).figures
    assert "triton (Triton needs a CUDA device; none is here: 6 points)" in drawn.caption
    assert "gather (out of memory while measuring memory: N = 1024, k = 512)" in drawn.caption
    assert "not known" in drawn.caption and "N = 256, mask: 3.93 ms at k = 64" in drawn.alt


def test_a_peak_of_zero_and_many_sizes(tmp_path):
    builder = fixtures.Builder(tmp_path)
    result = report_fast.bench_result((16, 32, 64, 128), (8,))
    for line in result["rows"]:
        if line["implementation"] == "mask":
            line["peak_memory_bytes"] = 0
    builder.bench(result)
    run = collected(builder)
    assert "cannot be shown on a log scale: mask" in attention.draw(run).figures[0].caption
    assert row(attention.sheet(run), "16", "8")["Peak memory, MiB", "mask"].shown == "0"


def test_a_benchmark_without_result_says_why(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.bench(status="failed", reason="out of memory.")
    drawing = attention.draw(collected(builder))
    assert not drawing.figures and "out of memory" in drawing.left_out[0]
    source = report.build(tmp_path, builder.plan).read_text()
    assert 'id="attention"' in source and "benches/attention.json" in source


# -- files and page ------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def built(tmp_path_factory):
    builder = report_fast.fast_run(tmp_path_factory.mktemp("built"))
    (builder.folder / "figures").mkdir(exist_ok=True)
    for stale in ("ksweep-old.png", "scaling-old.pdf", "latency-old.svg", "mine.png"):
        (builder.folder / "figures" / stale).write_text("of an earlier plan")
    builder.plan["formats"] = ["pdf", "svg"]
    report.build(builder.folder, builder.plan)
    return builder, files(builder.folder)


@pytest.mark.slow
@pytest.mark.formats
def test_the_same_records_give_the_same_bytes(built):
    """In another process, too: tests/report/test_page.py."""
    builder, first = built
    report.build(builder.folder, json.loads(json.dumps(builder.plan, sort_keys=True)))
    assert {name for name, content in files(builder.folder).items()
            if first.get(name) != content} == set()


def test_what_is_written_and_what_is_removed(built):
    names = set(built[1])
    assert {f"tables/{stem}.{kind}" for stem in fixtures.GOLDEN_SHEETS
            for kind in ("md", "tex", "csv")} <= names
    figures = {n.removeprefix("figures/") for n in names if n.startswith("figures/")}
    assert figures == {"mine.png", *(
        f"{stem}.{kind}" for kind in ("png", "pdf", "svg")
        for stem in ("quality", "latency", "distributions", "training", "ksweep", "scaling",
                     "attention"))}


@pytest.mark.parametrize("stem", ["attention", "ksweep", "scaling"])
def test_figures_are_ready_for_print(built, stem):
    with Image.open(built[0].folder / "figures" / f"{stem}.png") as image:
        assert round(image.info["dpi"][0]) == 300 and "Software" not in image.info
        assert len(image.convert("L").getcolors(256)) > 16
    raw = built[1][f"figures/{stem}.pdf"]
    assert b"/Type3" not in raw and not re.search(rb"/(CreationDate|Producer|Creator)\b", raw)


def test_the_page_stands(built):
    source = built[1]["report.html"].decode()
    reader = Reader(source)
    for part in ("2 models, 6 variants, 1 reference,", "reference: random weights, speed only",
                 "Health of the key-semantic dictionaries", "astronaut of scikit-image",
                 "cells were computed in tiles or with other settings than plain float32"):
        assert part in reader.text, part
    assert len(reader.ids) == len(set(reader.ids))
    for _, name, value in reader.attributes:
        if name == "href" and value.startswith("#"):
            assert value[1:] in reader.ids, value
        assert name not in ("src", "srcset") or value.startswith("data:")
    tables = {f"table-{stem}" for stem in fixtures.GOLDEN_SHEETS}
    assert {"variants", "profiles", "attention", *tables} <= set(reader.ids)


# -- formats -------------------------------------------------------------------------------------

def test_a_latency_taken_beside_other_work_says_so(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.model("a", "A")
    builder.dataset("set5", "Set5", 1)
    builder.cell("sr-x2@1", "set5", "a", {"psnr": [33.0], "ssim": [0.9]})
    for busy, words in ((1.04, "other processes kept 1.0 cores busy"), (0.03, ""), (None, "")):
        builder.profile("sr-x2@1", "a", {"latency_ms": {
            "p50": 2.0, "samples": [2.0, 2.0], "busy_elsewhere": busy}})
        table = to_markdown(sheets.build(collected(builder))["profiles"])
        assert words in table and ("busy" in table) == bool(words)


def test_figures_and_ratios_of_disturbed_latencies_are_marked(tmp_path, monkeypatch):
    figures = {}
    monkeypatch.setattr(style, "save",
                        lambda figure, _, stem, kinds: figures.setdefault(stem, figure))
    builder = fixtures.Builder(tmp_path)
    builder.model("a", "A", options={"k": 4})
    builder.variant("a", "k8", "A8", {"k": 8})
    builder.dataset("set5", "Set5", 1)
    for model, busy in (("a", 1.04), ("a.k8", 0.03)):
        builder.cell("sr-x2@1", "set5", model, {"psnr": [33.0], "ssim": [0.9]})
        builder.profile("sr-x2@1", model, {"latency_ms": {
            "p50": 2.0, "samples": [2.0, 2.0], "busy_elsewhere": busy},
            "macs_keys_only": 9})
    run = collected(builder)
    for figure, how in ((latency, "marked '?'"), (ksweep, "hollow, without a line"),
                        (quality, "marked '?', not in the Pareto front")):
        [caption] = [one.caption for one in figure.draw(run).figures]
        assert f"not reliable ({how}): A on sr-x2@1 (1.0 cores)." in caption, figure
    marks = {stem: [label.get_text() for label in figure.findobj(Text) if "?" in label.get_text()]
             for stem, figure in figures.items()}
    assert marks == {"latency": ["2 ms?"], "quality": ["?"], "ksweep": []}
    # k = 4 was disturbed: nothing leads to it, and it is hollow
    lines = [(list(line.get_xdata()), line.get_linestyle(), line.get_markerfacecolor())
             for line in figures["ksweep"].axes[1].lines if line.get_marker() == "o"]
    assert [(ks, style, look == "none") for ks, style, look in lines] == [
        ([4], "None", True), ([8], "-", False)]
    table = to_markdown(sheets.build(run)["variants"])
    assert "other processes kept 1.0 cores busy" in table and "one of the two" in table


def test_a_ratio_to_a_disturbed_reference_says_so(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.model("a", "A")
    builder.reference("slow", "Slow")
    for busy in (1.04, 0.03):
        for model, cores in (("a", 0.0), ("slow", busy)):
            builder.profile("sr-x2@1", model, {"latency_ms": {
                "p50": 2.0, "samples": [2.0, 2.0], "busy_elsewhere": cores}})
        made = sheets.build(collected(builder))["profiles"]
        [ratio] = [row.values[5] for row in made.rows if row.name == "A"]
        assert ratio.shown.startswith("1.00")
        assert [made.notes[mark] for mark in ratio.marks] == [latency.ONE_DISTURBED] * (busy > 1)


STRANGE = "*50% of \\cost_{a} & #1 ~ $x$ [b] <script> |d|\n`f`"


def strange(folder):
    builder = fixtures.Builder(folder)
    builder.model("a", STRANGE, options={"k": 8})
    builder.variant("a", "v", "v", {"k": STRANGE})
    builder.dataset("set5", STRANGE, 1)
    for model in ("a", "a.v"):
        builder.cell("sr-x2@1", "set5", model, {"psnr": [33.0], "ssim": [0.9]})
    builder.profile("sr-x2@1", "a", {
        "device_name": STRANGE, "dictionary": [{"stage": STRANGE, "n": 9, "k": 3, "self": 0.5,
                                                "used": 0.5, "overlap": None}],
        "dictionary_of": STRANGE, "attention": {"implementation": STRANGE, "reason": STRANGE},
        "energy": {"joules_per_image": 1.0, "method": STRANGE}})
    builder.profile("sr-x2@1", "a.v", status="failed", reason=STRANGE)
    result = report_fast.bench_result((16,), (8,))
    result["rows"][-1].update(implementation=STRANGE, reason=STRANGE)
    builder.bench(result)
    return builder


@pytest.mark.formats
def test_strange_text_breaks_no_format(tmp_path):
    built = sheets.build(collected(strange(tmp_path)))
    assert set(built) == set(fixtures.GOLDEN_SHEETS)
    for made in built.values():
        source = to_latex([made])
        balanced(source.partition("\n")[2])
        assert source.isascii()
        printed = 0
        for part in source.split(r"\toprule")[1:]:
            filled = [line for line in part.partition(r"\bottomrule")[0].splitlines()
                      if line.endswith(r"\\")]
            [columns] = {columns_of(line) for line in filled}
            printed += columns - bool(printed)      # the first stands in every part
            assert not any(re.match(r"\s*[*\[]", line) for line in filled)
        assert printed == len(made.all_columns)
        bars = [line for line in to_markdown(made).splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in bars}) == 1
        assert "<script" not in to_markdown(made)
        assert all(len(line) == len(made.fields) for line in made.lines)
    page = report.build(tmp_path, strange(tmp_path).plan).read_text()
    assert page.count("<script") == len(embed.scripts()) + 2     # with its data; none of a user's
    assert STRANGE not in page


def test_conditions_name_what_differs():
    result = {"device": "cuda", "device_name": "GPU", "inference": {"dtype": "bfloat16"},
              "threads": 4, "input": {"batch": 2, "channels": 3, "height": 8, "width": 9}}
    assert latency.condition(result) == "GPU, bfloat16, 3×8×9, batch 2"  # noqa: RUF001
    assert latency.condition({}, ("size", "batch")) == "unknown device, dtype unknown"
    tf32 = {**result, "inference": {"dtype": "float32"}, "precision": {"matmul": "tf32"}}
    assert latency.circumstances(tf32)["dtype"] == "float32 (TF32 products)"


def test_a_title_without_room_gives_way_to_the_name(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.model("light", "A model with a long title (ours, not in the paper)", options={"k": 4})
    builder.variant("light", "k8", "k = 8", {"k": 8})
    for model in ("light", "light.k8"):
        builder.profile("sr-x2@1", model)
    run = collected(builder)
    labels = [latency.label(run, model, {}, 24) for model in ("light", "light.k8")]
    assert labels == ["light", "light.k8"]
    assert latency.label(run, "light", {"inference": {"compile": True}}, 99) == (
        "A model with a long title (ours, not in the paper) (compiled)")
