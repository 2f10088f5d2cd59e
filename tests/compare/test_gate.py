"""The gate: what fails it, what does not, and that it says which cell, by how much and why."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbench.compare import baseline, gate, gate_formats, loading, tolerances
from irbench.compare.gate import ADVICE, IMPROVEMENT, NOTE, REGRESSION
from irbench.compare.runs import CellData, RunData
from irbench.core import statistics
from irbench.core.errors import UserError
from tests.helpers import compare_fixtures as fixtures
from tests.helpers.compare_fixtures import CELL, KEY, PROFILE, X2, X4, K, both, edit, shift

OURS = tolerances.load()


@pytest.fixture
def world(tmp_path):
    """A baseline file and a run to change."""
    folder = fixtures.make(tmp_path)
    baseline.write(tmp_path / "base.json", loading.load(folder))
    return tmp_path / "base.json", folder


def held(world, limits=OURS, **options):
    return gate.check(*map(loading.load, world), limits, **options)


def after(world, change, path=CELL, **options):
    edit(world[1], path, change)
    return held(world, **options)


def one(result, level=REGRESSION):
    found, = result.findings_of(level)
    return found


def test_the_same_run_passes(world):
    result = held(world)
    assert result.code == 0 and result.findings == () and len(result.compared) == 7


# -- quality -----------------------------------------------------------------------------------

@pytest.mark.parametrize(("metric", "by", "code"), [
    ("psnr", -0.021, 1), ("psnr", -0.019, 0), ("psnr", 0.5, 0), ("ssim", -0.00052, 1),
    ("ssim", -0.00048, 0), ("lpips", 0.0021, 1), ("lpips", 0.0019, 0), ("lpips", -0.05, 0)])
def test_a_mean_that_moved_for_the_worse_by_more_than_its_tolerance_fails(world, metric, by, code):
    result = after(world, shift(metric, every=by))
    assert result.code == code and (code == 0 or one(result).metric == metric)


def test_exactly_the_tolerance_passes():
    limits = {"mean": 0.02, "image": 0.02}
    for start in (30.0, 27.13, 41.9):
        assert not quality([start], [start - 0.02], limits)
        assert quality([start], [start - 0.0201], limits)
        assert not findings([start], [start + 0.02], limits)
        gain, = findings([start], [start + 0.0201], limits)
        assert gain.level == IMPROVEMENT


def test_one_broken_image_fails_though_the_mean_rose(world):
    result = after(world, both(shift("psnr", every=0.2), shift("psnr", 0, 0, 0, -0.9)))
    found = one(result)
    assert "1 of 8 images" in found.message and "image3 -0.700 dB" in found.message
    assert [image.name for image in found.images] == ["image3"] and found.tolerance == 0.1
    assert result.code == 1


def test_a_regression_lists_only_the_images_that_lost(world):
    found = one(after(world, shift("psnr", 0.01, 0.0, -0.9)))
    assert [image.name for image in found.images] == ["image2"]


def test_a_metric_without_a_tolerance_does_not_hide_the_next(world, tmp_path):
    edit(world[1], CELL, shift("ssim", every=-0.01))
    assert one(held(world, read(tmp_path, "quality: {psnr: null}"))).metric == "ssim"


def test_a_gain_is_reported_and_passes(world):
    result = after(world, shift("psnr", every=0.3))
    assert result.code == 0 and "better by more than 0.02 dB" in one(result, IMPROVEMENT).message


def test_the_message_names_what_a_person_needs(world):
    result = after(world, both(shift("psnr", -0.5, -0.9, -0.4),
                               lambda r: r["spec"]["model"]["options"].update(k=32)))
    found = one(result)
    assert found.key == KEY and found.difference == pytest.approx(-0.225)
    assert "33.295 -> 33.070 dB (-0.225)" in found.message and "0.02 dB" in found.message
    assert "image1 -0.900 dB, image0 -0.500 dB, image2 -0.400 dB" in found.message
    assert found.changes == ("model options.k: 64 -> 32",)


def test_another_machine_raises_no_false_alarm(world):
    paths = [path.relative_to(world[1]) for kind in ("cells", "profiles")
             for path in sorted((world[1] / kind).rglob("*.json"))]
    for i, path in enumerate(paths):
        edit(world[1], path, both(fixtures.other_machine, shift(
            "psnr", *(0.001 * (-1) ** (i + j) for j in range(8))) if "cells" in path.parts
            else lambda _: None))
    for options in ({}, {"speed": True}):
        result = held(world, **options)
        assert result.code == 0 and len(result.compared) == 7
        assert not result.findings_of(IMPROVEMENT) and not result.findings_of(ADVICE)


def quality(*args):
    """The regressions of one cell."""
    return [found for found in findings(*args) if found.level == REGRESSION]


def findings(base, new, limits=None, metric="psnr"):
    """What the gate says of one cell."""
    sides = [RunData("r", "r", {"p@1/d/m": CellData(
        "p@1", "d", "m", "ok", "", {metric: sum(scores) / len(scores)},
        {f"i{k}": {metric: v} for k, v in enumerate(scores)})}, {}, {}, "r")
        for scores in (base, new)]
    ours = replace(OURS, common={**OURS.common, "quality": {metric: limits}}) if limits else OURS
    return gate.check(*sides, ours).findings


ROWS = st.lists(st.tuples(st.floats(10, 50), st.floats(-1, 1)), min_size=1, max_size=20)


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_it_fails_exactly_if_mean_or_an_image_fell_too_far(rows):
    base, new = [v for v, _ in rows], [v + d for v, d in rows]
    differences = [b - a for a, b in zip(base, new, strict=True)]
    mean = sum(new) / len(new) - sum(base) / len(base)
    near = min(abs(mean + 0.02), *(abs(d + 0.1) for d in differences), 1)
    if near > 1e-6:
        assert bool(quality(base, new)) == (mean < -0.02 or min(differences) < -0.1)


@given(st.lists(st.tuples(st.floats(10, 50), st.floats(-0.0199, 1)), min_size=1, max_size=20))
@settings(max_examples=30, deadline=None)
def test_nothing_that_fell_by_less_fails(rows):
    assert not quality([v for v, _ in rows], [v + d for v, d in rows])


# -- pictures that changed by less -------------------------------------------------------------

def other_weights(record):
    record["resolved"]["checkpoint"] = "2" * 64


OTHERS = {      # what other weights change in each image, and the finding by default and if strict
    "rounded to 8 bit": ((0.015, -0.01, 0.02, 0.0, 0.06), ADVICE, REGRESSION),
    "better by more, but not for real": ((0.9, -0.05, -0.05, -0.05), ADVICE, REGRESSION),
    "better for real, by little": ((0.003,) * 8, ADVICE, REGRESSION),
    "worse for real, by little": ((-0.003,) * 8, ADVICE, REGRESSION),
    "better for real": ((0.3,) * 8, IMPROVEMENT, IMPROVEMENT),
    "the same but for rounding": ((0.0005, -0.0004), None, None),
    "worse": ((-0.03,) * 8, REGRESSION, REGRESSION),
    "one image much worse": ((0.0,) * 7 + (-0.12,), REGRESSION, REGRESSION)}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("case", OTHERS)
def test_other_weights_pass_unless_they_are_worse(world, case, strict):
    by, *levels = OTHERS[case]
    result = after(world, both(other_weights, shift("psnr", *by)), strict_weights=strict)
    level = levels[strict]
    assert result.code == (level == REGRESSION)
    assert level in {f.level for f in result.findings} if level else not result.findings
    if level:
        assert result.findings[-1].changes == ("weights: 111111111111 -> 222222222222",)


def test_the_finding_on_other_weights_says_what_they_do_to_the_scores(world):
    def message(*by, **how):
        return after(world, both(other_weights, shift("psnr", *by)), **how).findings[0].message

    assert message(*(0.003,) * 8).startswith(
        "the weights differ from the baseline, and no metric is significantly worse: PSNR of 8 of 8"
        " images changed")
    assert held(world).findings[0].tolerance == 0
    assert "PSNR is significantly worse, but within its tolerance" in message(*(-0.006,) * 8)
    assert "update the baseline" in message(*(-0.006,) * 8)


@pytest.mark.parametrize(("weights", "strict", "code"), [
    ("2", False, 0), ("2", True, 1), ("1", False, 1)])
def test_other_weights_may_lose_one_image_if_the_mean_is_really_better(weights, strict, code):
    sides = []
    for digest, scores in (("1", [30.0] * 20), (weights, [30.15] * 19 + [29.8])):
        made = {"protocol": {}, "data": None, "model": {}, "weights": digest, "training": {},
                "settings": {}, "code": None}
        sides.append(RunData("r", "r", {"p@1/d/m": CellData(
            "p@1", "d", "m", "ok", "", {"psnr": sum(scores) / 20},
            {f"i{k}": {"psnr": v} for k, v in enumerate(scores)}, {}, made)}, {}, {}, "r"))
    assert gate.check(*sides, OURS, strict_weights=strict).code == code


def test_a_tolerances_file_can_ask_for_really_better_weights(world, tmp_path):
    after(world, both(other_weights, shift("psnr", *(0.003,) * 8)))
    assert held(world).code == 0
    strict = tmp_path / "strict.yaml"
    strict.write_text(f"overrides: [{{match: '{KEY}', reason: fixed, weights: {{gate: true}}}}]")
    assert held(world, tolerances.load(strict)).code == 1


def trained(record):
    record["spec"]["model"].update(checkpoint={"kind": "trained"}, training={"recipe": "demo"})


@pytest.mark.parametrize("sides", ["both", "run"])
def test_weights_trained_in_the_run_may_differ(world, sides):
    edit(world[1], CELL, trained)
    if sides == "both":
        baseline.write(world[0], loading.load(world[1]))
    result = after(world, both(other_weights, shift("psnr", 0.015, -0.01, 0.02)))
    assert result.code == 0 and result.findings == ()


def test_pictures_that_only_code_changed_are_advice_unless_asked(world):
    change = both(shift("psnr", 0.0, 0.006), lambda r: r["spec"].update(code="x"))
    found = one(after(world, change), ADVICE)
    assert ("PSNR of 1 of 8 images changed by more than 0.005 dB, most image1 +0.006"
            in found.message)
    assert "code of cells" in found.changes[0] and held(world).code == 0
    assert one(held(world, exact=True)).key == KEY
    limits = replace(OURS, common={**OURS.common, "exact": {**OURS.common["exact"],
                                                            "psnr": None}})
    assert held(world, limits, exact=True).code == 0


def test_scores_that_moved_by_exactly_what_exactness_allows_are_no_change(world):
    result = after(world, both(shift("psnr", 0.005), lambda r: r["spec"].update(code="x")),
                   exact=True)
    assert result.findings == ()


def test_a_side_that_does_not_know_its_inputs_has_no_other_weights(world):
    base, new = map(loading.load, world)
    base.cells[KEY] = replace(base.cells[KEY], inputs={})
    assert gate.check(base, new, OURS).findings == ()
    edit(world[1], CELL, shift("psnr", 0.003))
    assert gate.check(base, loading.load(world[1]), OURS).code == 0


def test_other_options_are_no_matter_of_exactness(world):
    result = after(world, both(shift("psnr", 0.006), lambda r: r["spec"]["model"][
        "options"].update(k=63)), exact=True)
    assert result.findings == ()


def test_scores_on_other_data_are_not_compared_but_the_same_scores_are(world):
    def other_data(record):
        record["spec"]["dataset"]["sha256"] = "9" * 64

    assert after(world, other_data).findings == ()      # stored again: the same images
    found = one(after(world, shift("psnr", every=3.0)))     # easier images are not a gain
    assert "not compared: other data under the same name" in found.message
    assert "update the baseline" in found.message and KEY not in held(world).compared


def test_weights_better_on_a_single_image_are_not_significantly_better(world):
    found = one(after(world, both(other_weights, shift("psnr", 0.9, -0.05, -0.05, -0.05)),
                      strict_weights=True))
    assert "significantly better" in found.message
    assert "not significant over 8 images" in found.message


# -- what has no result ------------------------------------------------------------------------

@pytest.mark.parametrize(("change", "words"), [
    (fixtures.fail(), "failed: ran out of memory"),
    (fixtures.fail("unavailable", "no weights."), "unavailable: no weights. Run"),
    (lambda r: r["result"]["images"].pop(), "1 only in the baseline (image7)"),
    (lambda r: r["spec"]["protocol"]["metric"].update(crop=0), "another definition of sr-x2@1")])
def test_a_cell_that_cannot_be_compared_fails_the_gate(world, change, words):
    result = after(world, change)
    found = one(result)
    assert words in found.message and found.key == KEY and result.code == 1
    assert KEY not in result.compared and "BASE" not in found.message


def test_a_missing_cell_fails_if_the_config_asks_for_it(world):
    (world[1] / CELL).unlink()
    assert "asks for it" in one(held(world)).message
    (world[1] / "config.json").unlink()
    assert "no config.json" in one(held(world)).message


def test_a_baseline_without_a_result_cannot_fail_the_run(world, tmp_path):
    """A run as the baseline: its failures count for nothing, whether the run has them or not."""
    folder = fixtures.make(tmp_path, "other")
    for path in (CELL, PROFILE, f"cells/{X4}/set8/bicubic.json"):
        edit(folder, path, fixtures.fail())
    result = gate.check(loading.load(folder), loading.load(world[1]), OURS)
    assert result.code == 0
    assert {found.key for found in result.findings_of(NOTE)} == {
        KEY, f"{X2}/semanir", f"{X4}/set8/bicubic"}
    for path in (CELL, PROFILE, f"cells/{X2}/set8/{K}.json"):
        (world[1] / path).unlink()
    result = gate.check(loading.load(folder), loading.load(world[1]), OURS)
    assert one(result).key == f"{X2}/set8/{K}"      # the only one that the baseline has


def ask_for(world, *models):
    path = world[1] / "config.json"
    config = json.loads(path.read_text())
    for group in config["cells"]:
        group["models"] = list(models)
    path.write_text(json.dumps(config))


def test_a_cell_that_the_config_does_not_ask_for_is_a_note(world):
    ask_for(world, "bicubic")
    result = held(world)
    assert result.code == 0 and result.compared == (f"{X2}/set8/bicubic", f"{X4}/set8/bicubic")
    assert {f.key for f in result.findings_of(NOTE)} == {
        KEY, f"{X2}/set8/{K}", f"{X4}/set8/semanir", f"{X2}/semanir", f"{X4}/semanir"}
    assert "not in this run" in result.findings_of(NOTE)[0].message
    assert held(world, complete=True).code == 1


def test_nothing_in_common_is_no_success(world):
    ask_for(world, "other")
    result = held(world)
    assert result.code == 3 and not result.compared and len(result.findings_of(NOTE)) == 7


def test_profiles_in_common_alone_are_no_success_if_both_sides_have_scores(world):
    base, new = map(loading.load, world)
    other = {key.replace("/set8/", "/set9/"): cell for key, cell in base.cells.items()}
    result = gate.check(replace(base, cells=other), new, OURS)
    assert result.code == 3 and set(result.compared) == set(base.profiles)
    assert gate_formats.sentence(result).startswith(
        "No score was compared: the run and the baseline have no cell in common (2 profiles comp")
    # profiles alone are all that there is to compare
    assert gate.check(replace(base, cells={}), new, OURS).code == 0


def test_what_only_the_run_has_is_no_matter(world):
    base, new = map(loading.load, world)
    assert gate.check(replace(base, cells={}, profiles={}), new, OURS).code == 3


def without(metric, reason):
    def change(record):
        for image in record["result"]["images"]:
            image[metric] = None
        record["result"]["missing"] = {metric: reason}
        if reason is None:
            record["spec"]["metrics"].remove(metric)
    return change


@pytest.mark.parametrize(("reason", "level", "words"), [
    ("no LPIPS weights here.", REGRESSION, "no LPIPS: no LPIPS weights here. To ignore"),
    (None, NOTE, "does not ask for it"),
    ("image0: identical to the target, lpips is infinite", NOTE,
     "or the target reached the output")])
def test_a_metric_that_vanished(world, reason, level, words):
    result = after(world, without("lpips", reason))
    assert words in one(result, level).message and result.code == (level == REGRESSION)


def test_a_metric_that_the_config_does_not_ask_for_fails_where_all_is_asked_for(world):
    result = after(world, without("lpips", None), complete=True)
    assert result.code == 1 and "no LPIPS" in one(result).message


def test_a_cell_that_nothing_is_held_against_is_not_compared(world, tmp_path):
    limits = read(tmp_path, "quality: {psnr: null, ssim: null, lpips: null}")
    result = held(world, limits)
    assert KEY not in result.compared
    assert any("not compared with a tolerance" in f.message for f in result.findings_of(NOTE))
    base = replace(loading.load(world[0]), profiles={})
    assert gate.check(base, loading.load(world[1]), limits).code == 3


def test_cells_that_nothing_watches_are_named(world):
    base = loading.load(world[0])
    del base.cells[KEY]
    assert KEY in one(gate.check(base, loading.load(world[1]), OURS), NOTE).message


# -- size and speed ----------------------------------------------------------------------------

@pytest.mark.parametrize(("field", "value", "level"), [
    ("parameters", 392_201, REGRESSION), ("parameters", 392_199, IMPROVEMENT),
    ("macs", 1_600_000_001, REGRESSION), ("macs", 1_500_000_000, IMPROVEMENT)])
def test_counts_may_not_grow(world, field, value, level):
    result = after(world, lambda r: r["result"].update({field: value}), PROFILE)
    assert one(result, level).metric == field and result.code == (level == REGRESSION)


def test_a_growth_of_exactly_what_is_allowed_passes(world, tmp_path):
    limits = read(tmp_path, "size: {parameters: 0.1}")
    for parameters, code in ((431_420, 0), (431_421, 1)):       # of 392,200
        edit(world[1], PROFILE, lambda r, n=parameters: r["result"].update(parameters=n))
        assert held(world, limits).code == code


def test_macs_of_another_size_are_no_matter(world):
    result = after(world, lambda r: (r["result"]["input"].update(height=128),
                                     r["result"].update(macs=9e9)), PROFILE)
    assert result.code == 0 and "another size" in one(result, NOTE).message


def slow(factor, memory=1):
    def change(record):
        record["result"]["latency_ms"]["samples"] = [
            factor * s for s in record["result"]["latency_ms"]["samples"]]
        record["result"]["peak_memory_bytes"] = int(memory * 2**27)
    return change


def test_speed_is_advice_unless_asked(world):
    result = after(world, slow(1.3, 1.5), PROFILE)
    assert result.code == 0
    assert {f.metric for f in result.findings_of(ADVICE)} == {"latency", "memory"}
    assert held(world, speed=True).code == 1
    gated = replace(OURS, common={**OURS.common, "speed": {**OURS.common["speed"], "gate": True}})
    assert held(world, gated).code == 1


def test_a_little_slower_or_faster_is_nothing(world):
    assert after(world, slow(1.15), PROFILE, speed=True).findings == ()
    assert one(after(world, slow(0.6), PROFILE, speed=True), IMPROVEMENT).metric == "latency"


def test_speed_of_other_hardware_is_not_compared_and_reported_when_it_counts(world):
    result = after(world, fixtures.other_machine, PROFILE, speed=True)
    assert result.code == 0 and "not comparable: device cpu -> cuda" in one(result, NOTE).message


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize(("before", "now", "factor"), [
    (1.04, 0.86, 0.1), (1.04, 0.86, 10), (1.04, 0.0, 10), (0.0, 0.86, 10), (0.0, 0.86, 0.1)])
@pytest.mark.parametrize("speed", [False, True])
def test_a_disturbed_latency_is_a_note(tmp_path, kind, before, now, factor, speed):
    base, new = fixtures.make(tmp_path), fixtures.make(tmp_path, "new")
    edit(base, PROFILE, fixtures.disturbed(before))
    edit(new, PROFILE, fixtures.disturbed(now, factor))
    if kind == "file":
        baseline.write(tmp_path / "base.json", loading.load(base))
        base = tmp_path / "base.json"
    result = held((base, new), speed=speed)
    finding, = result.findings
    marks = [" ?" * (cores > 0) for cores in (before, now)]
    assert result.code == 0 and finding.level == NOTE and finding.key in result.compared
    assert finding.message.startswith(
        f"latency 12.5{marks[0]} -> {12.5 * factor:.4g}{marks[1]} ms: not compared: disturbed (")
    assert "BASE" not in finding.message
    assert result.undecided == "1 latency not compared: disturbed by other work"


def test_memory_counts_although_a_latency_was_disturbed(world):
    result = after(world, both(slow(1.3, 1.5), fixtures.disturbed(0.9)), PROFILE, speed=True)
    assert one(result).metric == "memory" and one(result, NOTE).metric == "latency"


def test_a_latency_that_vanished_fails_where_speed_counts(world):
    change = lambda r: r["result"]["latency_ms"].update(samples=[])     # noqa: E731
    assert after(world, change, PROFILE).code == 0
    assert "no latency in this run" in one(held(world, speed=True)).message


def test_slower_by_too_few_samples_for_a_test_is_reported_where_speed_counts(world):
    change = lambda r: r["result"]["latency_ms"].update(samples=[1e3, 1e3 + 1])  # noqa: E731
    base = loading.load(world[0])
    key = f"{X2}/semanir"
    base.profiles[key] = replace(base.profiles[key], latency=(1.0, 1.1))
    edit(world[1], PROFILE, change)
    result = gate.check(base, loading.load(world[1]), OURS, speed=True)
    assert "2 samples on one side cannot give a p below 0.01" in one(result, NOTE).message


def test_a_failed_profile_fails(world):
    message = one(after(world, fixtures.fail(), PROFILE)).message
    assert message.endswith("ran out of memory. Run the workflow again.")
    (world[1] / CELL).write_text("{")       # its reason says what to do, once
    message, = (f.message for f in held(world).findings_of(REGRESSION) if f.key == KEY)
    assert message.endswith("To replace the file, run again.")


# -- tolerances --------------------------------------------------------------------------------

def read(tmp_path, text):
    (tmp_path / "t.yaml").write_text(text)
    return tolerances.load(tmp_path / "t.yaml")


def test_a_file_changes_what_it_names(world, tmp_path):
    edit(world[1], CELL, shift("psnr", every=-0.03))
    assert held(world).code == 1
    limits = read(tmp_path, "quality: {psnr: {mean: 0.05}}")
    assert held(world, limits).code == 0
    assert limits.for_key("a/b/c")["quality"]["psnr"] == {"mean": 0.05, "image": 0.1}
    assert limits.for_key("a/b/c")["quality"]["ssim"] == OURS.common["quality"]["ssim"]


@pytest.mark.parametrize(("match", "code"), [
    ("sr-x2@1/set8/semanir", 0), ("sr-*/*/semanir", 0), ("sr-x4@*/*/*", 1), ("*/*/semanir.*", 1),
    ("*/set9/*", 1)])
def test_an_override_is_for_the_cells_it_fits(world, tmp_path, match, code):
    edit(world[1], CELL, shift("psnr", every=-0.3))
    limits = read(tmp_path, f"overrides: [{{match: '{match}', reason: why, "
                            "quality: {psnr: null}}]")
    assert held(world, limits).code == code


def test_an_override_of_a_profile_and_the_last_that_fits_counts(world, tmp_path):
    edit(world[1], PROFILE, lambda r: r["result"].update(parameters=400_000))
    first = "{match: '*/*/*', reason: a, size: {parameters: 0.1}}"
    assert held(world, read(tmp_path, f"overrides: [{first}]")).code == 0
    second = "{match: 'sr-x2@1/*/semanir', reason: b, size: {parameters: 0.01}}"
    found = one(held(world, read(tmp_path, f"overrides: [{first}, {second}]")))
    assert found.tolerance == 0.01


def test_an_override_that_matches_nothing_is_reported(world, tmp_path):
    limits = read(tmp_path, "overrides: [{match: 'sr-x9@1/*/*', reason: a}]")
    assert any("sr-x9@1/*/*' matches nothing" in f.message
               for f in held(world, limits).findings_of(NOTE))


def test_what_a_file_loosens_is_reported(world, tmp_path):
    limits = read(tmp_path, "quality: {psnr: {mean: 9}, lpips: null}\n"
                            "overrides: [{match: '*/*/semanir', reason: trained anew}]")
    first, second = (f.message for f in held(world, limits).findings_of(NOTE))
    assert "t.yaml changes irbench's tolerances" in first
    assert "quality.psnr.mean 0.02 -> 9" in first and "quality.lpips" in first
    assert "has other tolerances for */*/semanir: trained anew." in second


@pytest.mark.parametrize(("text", "part"), [
    ("qualty: {}", "unknown key 'qualty'. Did you mean 'quality'?"),
    ("quality: {psnr: {maen: 1}}", "quality.psnr: unknown key 'maen'. Did you mean 'mean'?"),
    ("quality: {psnr: {mean: -1}}", "quality.psnr.mean: -1 is less than 0"),
    ("quality: {psnr: {mean: .nan}}", "quality.psnr.mean is not a finite number"),
    ("quality: {psnr: much}", "expected object or null"),
    ("quality: {psnr: {mean: null}}", "expected number"),
    ("speed: {latency: 0.5}", "0.5 is less than 1"), ("speed: {p: 0}", "speed.p"),
    ("overrides: [{match: 'a/b/c'}]", "overrides[0]: missing key 'reason'"),
    ("overrides: [{match: 'a/b', reason: x}]", "is not PROTOCOL/DATASET/MODEL"),
    ("- 1", "top level: expected object"), ("a: {", "not valid YAML"),
    ("size: {macs: 1}\nsize: {}", "'size' is defined twice")])
def test_a_wrong_file_is_refused_with_its_place(tmp_path, text, part):
    with pytest.raises(UserError) as error:
        read(tmp_path, text)
    assert part in str(error.value) and "t.yaml" in str(error.value)


def test_no_such_file_and_an_empty_one(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        tolerances.load(tmp_path / "absent.yaml")
    assert read(tmp_path, "") == OURS


def test_defaults_are_those_of_the_issue():
    means = {m: v["mean"] for m, v in OURS.common["quality"].items()}
    assert means.items() >= {"psnr": 0.02, "ssim": 0.0005, "lpips": 0.002}.items()
    assert OURS.common["size"] == {"parameters": 0, "macs": 0}
    assert OURS.common["speed"]["gate"] is False


def perfect(name, psnr):
    """A change of a record: one image has the PSNR of a number, or none as it equals its target."""
    def change(record):
        record["result"]["images"][0][name] = psnr
        if psnr is None:
            record["result"]["missing"] = {name: f"image0: identical to the target, {name} is "
                                                 "infinite"}
    return change


@pytest.mark.parametrize(("before", "now", "code"), [
    (None, 20.0, 1), (None, 79.9, 1), (None, 80.0, 0), (None, None, 0), (30.0, None, 0)])
def test_an_image_that_equalled_its_target_and_no_longer_does(world, before, now, code):
    edit(world[1], CELL, perfect("psnr", before))
    baseline.write(world[0], loading.load(world[1]))
    result = after(world, perfect("psnr", now))
    assert result.code == code
    if code:
        assert "image0: identical to the target in the baseline, not in this run" in one(
            result).message


def test_a_metric_that_is_undefined_now_is_a_regression(world):
    result = after(world, without("lpips", "image0: lpips is None"))
    assert result.code == 1 and "no LPIPS: image0: lpips is None" in one(result).message


# -- words ---------------------------------------------------------------------------------------

@pytest.mark.parametrize(("word", "images", "words"), [
    (statistics.REAL, 8, " (real over 8 images)"),
    (statistics.NOISE, 8, " (the limit decides; not significant over 8 images)"),
    (statistics.NOISE, 4, " (the limit decides; not significant over 4 images, too few to show "
                          "significance)")])
def test_a_limit_and_a_test_that_differ_do_not_contradict_each_other(word, images, words):
    assert tolerances.limit_text(word, SimpleNamespace(n=images)) == words
