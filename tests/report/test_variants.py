"""What the report shows of variants and references, profiles and dictionaries."""

import csv
import io

import pytest

from irbench.catalog.model import Model
from irbench.present import style, text
from irbench.report.facts import kinds, verdict
from irbench.report.plots import attention, ksweep, quality, scaling
from irbench.report.tables import costs, dictionary, summary, tables, variants
from tests.helpers import report_fast
from tests.helpers import report_fixtures as fixtures
from tests.helpers.report_fast import collected, edit, lines, row


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return collected(report_fast.fast_run(tmp_path_factory.mktemp("fast")))


# -- variants are not the papers' models ---------------------------------------------------------

def test_variants_stand_below_their_base_and_are_not_ranked(run):
    table, light = tables.build(run)
    assert light.stem == "sr_light"
    assert [r.key for r in table.measured] == [
        "semanir", "semanir.k8", "semanir.k16", "semanir.k32", "semanir.k128", "semanir.bf16",
        "compacter", "compacter.fast"]
    ranks = {r.key: r.entries[0].rank for r in table.measured}
    assert ranks == dict.fromkeys(ranks, "") | {"semanir": "best", "compacter": "second"}
    best = next(r for r in table.measured if r.key == "semanir.k128")      # 35.52, the highest
    assert best.entries[0].shown == "35.52" and best.entries[0].number is None
    assert "not in the paper, not ranked" in table.notes[best.marks[0]]
    assert best.origin == "trained here for 150 steps on a CPU" and best.heads[1].shown == "392 K"


def test_variants_get_no_verdict(run):
    assert {v.cell.model for v in verdict.all_verdicts(run)} == {"semanir", "compacter"}
    lines = {r["model"]: r for r in csv.DictReader(io.StringIO(summary.summary(run)))
            if r["dataset"] == "set5"}
    assert lines["semanir"]["verdict"].startswith("differs")
    variant = lines["semanir.bf16"]
    assert (variant["verdict"], variant["published_psnr_db"]) == ("", "")
    assert (variant["base"], variant["changes"]) == ("semanir", "bfloat16")


@pytest.mark.parametrize(("spec", "expected"), [
    ({}, True), ({"base": None, "variant": None}, True),
    ({"base": "a", "variant": {"options": {}, "inference": {}}}, True),     # nothing is changed
    ({"base": "a", "variant": {"options": {"k": 8}, "inference": {}}}, False),
    ({"base": "a", "variant": {"options": {}, "inference": {"dtype": "float16"}}}, False),
    ({"reference": True}, False),
])
def test_who_competes(spec, expected):
    peer = Model(**{"name": "a", "arch": "external", "published_as": "DRUNet*", **spec})
    assert kinds.competes(peer) is expected
    assert verdict.is_counterpart(peer, "DRUNet*") is expected


def test_cells_in_tiles_or_another_dtype_are_marked(run):
    table = tables.build(run)[0]
    notes = {(r.key, c.dataset): [table.notes[m] for m in e.marks] for r in table.measured
             for c, e in zip(table.columns, r.entries, strict=True) if c.metric == "psnr"}
    assert notes["semanir", "set5"] == notes["compacter", "photos"] == []
    assert notes["semanir", "photos"] == [
        "restored in tiles of 192×192 input pixels with an overlap of 32 "  # noqa: RUF001
        "(1 of 2 images): the whole image needs about 9.1 GiB and 6.0 GiB may be used"]
    assert notes["compacter.fast", "set5"] == ["computed in bfloat16, compiled"]
    assert next(r for r in table.measured if r.key == "semanir").entries[2].rank == "best"
    tiled = {r["model"]: r["tiled_images"] for r in csv.DictReader(io.StringIO(
        summary.summary(run))) if r["dataset"] == "photos"}
    assert (tiled["semanir"], tiled["compacter"], tiled["compacter.fast"]) == ("1", "0", "")


def test_inference_in_words():
    assert text.inference({}) == ""
    assert text.inference({"tile": 256, "dtype": "float32", "compile": False, "overlap": None,
                           "memory_gib": 6, "channels_last": True}) == (
        "float32, channels last, not compiled, tiles of 256, usual overlap, at most 6 GiB")
    assert text.inference({"new": 3}) == "new = 3"


def test_figures_of_quality_leave_variants_out_and_state_it(run):
    found, _ = quality.rows(run)
    assert found and all(set(row.psnr) == {"semanir", "compacter"} for row in found)
    assert any("SemanIR-S (k = 8)" in sentence for sentence in quality.draw(run).left_out)


# -- the table of variants -----------------------------------------------------------------------

def test_differences_have_signs_and_ratios(run):
    made = variants.sheet(run)
    bf16 = row(made, "SemanIR-S (bfloat16)", "sr-x2@1", "Set5")
    assert [v.shown for v in bf16.values()][3:] == [
        "35.50", "-0.003", "0.9450", "0.0000", "210 ms", "140 ms", "0.67×"]  # noqa: RUF001
    assert row(made, "SemanIR-S (k = 128)", "sr-x2@1", "Photos")[
        "PSNR (dB)", "difference"].shown == "+0.020"
    line = next(r for r in lines(made) if (r["variant"], r["dataset"]) == ("semanir.k8", "set5"))
    assert (line["changes"], line["psnr_difference_db"], line["latency_ratio"]) == (
        "k = 8", "-2.4", "0.957143")
    assert "Some CPU" in line["latency_condition"]


def test_a_variant_without_result_has_its_reason(run):
    gone = row(variants.sheet(run), "Compacter (bfloat16, compiled)", "sr-x2@1", "Photos")
    assert gone["PSNR (dB)", "difference"].shown == "n/a"
    assert gone["PSNR (dB)", "difference"].reason == "variant: no C++ compiler was found"
    assert gone["PSNR (dB)", "base"].shown == "32.90"


@pytest.mark.parametrize(("change", "reason"), [
    ({"threads": 2}, "1 thread, variant on"), ({"device_name": "B"}, "Some CPU"),
    ({"input": {"batch": 2, "channels": 3, "height": 64, "width": 64}}, "batch 2"),
])
def test_latencies_of_two_conditions_have_no_ratio(tmp_path, change, reason):
    builder = report_fast.fast_run(tmp_path)
    edit(builder, "profiles/sr-x2@1/semanir.bf16.json", lambda result: result.update(change))
    ratio = row(variants.sheet(collected(builder)), "SemanIR-S (bfloat16)")[
        "Latency, p50", "variant / base"]
    assert ratio.shown == "n/a" and reason in ratio.reason


def test_a_run_without_variants_has_no_such_table(tmp_path):
    assert variants.sheet(collected(fixtures.small_run(tmp_path))) is None


# -- profiles ------------------------------------------------------------------------------------

def test_ratios_to_a_reference_need_one_condition(run):
    made = costs.speed(run)
    head = ("p50 over that of", "swinir-s-random")
    assert row(made, "SemanIR-S")[head].shown == "1.75×"  # noqa: RUF001
    other = row(made, "SemanIR-S (bfloat16)")[head]
    assert other.shown == "n/a" and "another dtype (float32)" in other.reason
    reference = next(r for r in made.rows if r.name.startswith("SwinIR-S"))
    assert reference.sub == "reference: random weights, speed only"
    assert made.rows[-1] is reference
    assert "random weights" in made.caption


def test_a_missing_reference_is_a_reason(tmp_path):
    builder = report_fast.fast_run(tmp_path)
    builder.profile("sr-x3@1", "compacter")
    run = collected(builder)
    found = next(r for r in costs.speed(run).rows if [v.shown for v in r.values][:2] == [
        "Compacter", "sr-x3@1"])
    assert any("not measured under this protocol" in value.reason for value in found.values)


def test_throughput_energy_and_attention(run):
    made = costs.speed(run)
    assert row(made, "Compacter")["Throughput", "images/s"].shown == "25.00"
    joules = row(made, "Compacter")["Energy", "J/image"]
    assert joules.shown == "1.25" and made.notes[joules.marks[0]] == "energy by RAPL of package-0"
    none = row(made, "SemanIR-S")["Energy", "J/image"]
    assert none.shown == "n/a" and "no energy counter" in none.reason
    chosen = row(made, "SemanIR-S")["", "Attention"]
    assert chosen.shown == "mask" and "on a CPU" in made.notes[chosen.marks[0]]


def test_operations(run):
    made = costs.operations(run)
    mine = row(made, "SemanIR-S")
    assert (mine["MACs", "total"].shown, mine["MACs", "keys only"].shown,
            mine["MACs by kind", "linear"].shown, mine["MACs by kind", "other"].shown) == (
        "50 G", "44 G", "25 G", "0")
    assert "One MAC is about two FLOPs" in made.caption


def test_records_without_the_new_keys_still_show(tmp_path):
    run = collected(fixtures.small_run(tmp_path))
    made = costs.speed(run)
    assert row(made, "Compacter")["Throughput", "images/s"].reason == (
        "the record holds no throughput")
    assert row(made, "Compacter", "sr-x3@1")["Latency", "p50"].reason == (
        "failed: ran out of memory")
    assert row(made, "Compacter")["", "Attention"].reason.startswith("the record is older")
    keys = row(costs.operations(run), "Compacter")["MACs", "keys only"]
    assert (keys.shown, keys.reason) == (
        "n/a", "the record is older than the count of MACs over keys only")
    assert dictionary.sheet(run) is None and attention.sheet(run) is None
    for module in (scaling, ksweep, attention):
        assert module.draw(run) == style.Drawing()


# -- dictionaries --------------------------------------------------------------------------------

def test_health_says_what_it_was_measured_on(run):
    made = dictionary.sheet(run)
    first = row(made, "SemanIR-S")
    assert first["", "Measured on"].shown == "astronaut of scikit-image"
    assert made.rows[0].sub == "untrained weights"
    assert [first["Stage", str(i)].shown for i in (1, 2)] == ["97 %", "87 %"]
    overlap = made.rows[2].values
    assert [v.shown for v in overlap[5:8]] == ["kept from before", "n/a", "65 %"]
    cell = next(r for r in lines(made) if r["source"] == "cell" and r["model"] == "semanir.k8")
    assert (cell["measured_on"], cell["k"], cell["self_selection"], cell["weights"]) == (
        "Set5, image0", "8", "0.97", "weights trained here")


def test_dense_stages_have_no_health(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.model("a", "A")
    builder.profile("sr-x2@1", "a", {"dictionary": report_fast.health(2, n=64, k=64)})
    made = dictionary.sheet(collected(builder))
    assert {v.shown for r in made.rows for v in r.values[6:]} == {"n/a"}
    assert all("so no keys are chosen" in note for note in made.notes.values())


def test_a_profile_in_tiles_is_marked(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.model("a", "A")
    builder.profile("sr-x2@1", "a", {"tiles": 9})
    for made in costs.sheets(collected(builder)):
        assert "in 9 tiles" in made.notes[made.rows[0].marks[0]]
