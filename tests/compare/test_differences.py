"""Two runs side by side: what moved, whether it is real, and what changed in the inputs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbench.compare import baseline, differences, inputs, loading
from irbench.compare.differences import UNEXPLAINED
from irbench.compare.runs import CellData
from tests.helpers import compare_fixtures as fixtures
from tests.helpers.compare_fixtures import CELL, KEY, PROFILE, X2, both, edit, shift


@pytest.fixture
def pair(tmp_path):
    return fixtures.make(tmp_path), fixtures.make(tmp_path, "new")


def compared(pair):
    return differences.compare(*map(loading.load, pair))


def cell_of(pair, change):
    edit(pair[1], CELL, change)
    return next(cell for cell in compared(pair).cells if cell.key == KEY)


def metric_of(pair, change, name="psnr"):
    return next(m for m in cell_of(pair, change).metrics if m.name == name)


def test_a_run_and_itself_differ_in_nothing(pair):
    found = compared((pair[0], pair[0]))
    assert len(found.cells) == 5 and len(found.profiles) == 2 and found.compared == 7
    assert all(one.same and not one.changes for one in (*found.cells, *found.profiles))
    assert {m.word for cell in found.cells for m in cell.metrics} == {"no change"}


@pytest.mark.parametrize(("name", "by", "word", "direction"), [
    ("psnr", -0.05, "real", "worse"), ("psnr", 0.05, "real", "better"),
    ("lpips", -0.05, "real", "better"), ("lpips", 0.05, "real", "worse"),
    ("ssim", -0.01, "real", "worse"), ("psnr", 0.0009, "no change", "")])
def test_a_shift_of_every_image_is_real_and_has_a_direction(pair, name, by, word, direction):
    found = metric_of(pair, shift(name, every=by), name)
    assert (found.word, found.direction) == (word, direction)
    assert found.difference == pytest.approx(by) and found.paired.n == 8


def test_many_comparisons_are_corrected_for_their_number(pair):
    """All eight images gain, so p is 2 / 256: enough for 3 comparisons, not for 15."""
    def all_up(record):
        for image in record["result"]["images"]:
            for name in ("psnr", "ssim", "lpips"):
                image[name] += 0.01
    first, *others = [stored.relative_to(pair[1]) for stored in sorted(
        (pair[1] / "cells").rglob("*.json"))]
    edit(pair[1], first, all_up)
    alone = compared(pair)
    real = [m for cell in alone.cells for m in cell.metrics if m.word == "real"]
    assert alone.tests == len(real) == 3 and {m.paired.p for m in real} == {2 / 256}
    assert {round(m.paired.adjusted, 9) for m in real} == {3 * 2 / 256}
    for other in others:
        edit(pair[1], other, all_up)
    many = compared(pair)
    assert many.tests == 15
    assert {m.word for cell in many.cells for m in cell.metrics} == {"not significant"}


def test_images_that_go_both_ways_are_noise(pair):
    found = metric_of(pair, shift("psnr", 0.3, -0.4, 0.2, -0.1, 0.1, -0.2, 0.05, 0.01))
    assert found.word == "not significant"
    assert [image.name for image in found.images[:3]] == ["image1", "image5", "image3"]


def test_of_lpips_the_image_that_rose_most_is_the_worst(pair):
    assert metric_of(pair, shift("lpips", 0, 0.1, -0.15), "lpips").images[0].name == "image1"


@pytest.mark.parametrize(("change", "part"), [
    (lambda r: r["result"]["images"].pop(), "1 only in BASE (image7)"),
    (lambda r: r["result"]["images"][0].update(name="new"), "1 only in NEW (new)"),
    (lambda r: r["result"]["images"].append({**r["result"]["images"][0], "name": "more"}),
     "1 only in NEW (more)"),
    (lambda r: r["spec"]["protocol"]["metric"].update(crop=0), "sr-x2@1: metric.crop 2 -> 0"),
    (fixtures.fail(), "no result in NEW: failed: ran out of memory")])
def test_what_cannot_be_compared_says_why(pair, change, part):
    found = cell_of(pair, change)
    assert part in found.reason and not found.metrics and not found.same


def test_another_version_of_a_protocol_is_another_cell(pair):
    old = pair[1] / CELL
    new = pair[1] / CELL.replace("@1", "@2")
    new.parent.mkdir(parents=True)
    edit(pair[1], CELL, lambda r: (r["key"].update(protocol="sr-x2@2"),
                                   r["spec"]["protocol"].update(id="sr-x2@2")))
    old.rename(new)
    (pair[1] / "config.json").unlink()
    found = compared(pair)
    assert KEY not in [cell.key for cell in found.cells]
    assert "sr-x2@2, another version" in found.only_base[KEY]
    assert f"{X2}/set8/semanir".replace("@1", "@2") in found.only_new


def test_a_metric_that_one_side_lacks_is_reported(pair):
    def without(record):
        for image in record["result"]["images"]:
            image["lpips"] = None
        record["result"]["missing"] = {"lpips": "no weights"}
    found = metric_of(pair, without, "lpips")
    assert found.new is None and found.paired is None and "no weights" in found.note


# -- inputs ------------------------------------------------------------------------------------

@pytest.mark.parametrize(("change", "words"), [
    (lambda r: r["spec"]["model"]["options"].update(k=32), "model options.k: 64 -> 32"),
    (lambda r: r["spec"]["model"]["inference"].update(dtype="bfloat16"),
     "model inference.dtype: float32 -> bfloat16"),
    (lambda r: r["resolved"].update(checkpoint="2" * 64),
     "weights: 111111111111 -> 222222222222"),
    (lambda r: r["spec"]["dataset"].update(sha256="f" * 64), "-> ffffffffffff"),
    (lambda r: r["spec"].update(seed=7), "settings seed: 0 -> 7"),
    (lambda r: (r["spec"].update(code="x"), r["provenance"]["packages"].update(torch="3.0")),
     "library versions: torch 2.15.0 -> 3.0"),
    (lambda r: (r["spec"].update(code="x"), r["provenance"]["git"].update(commit="b" * 40)),
     "commit aaaaaaa -> bbbbbbb"),
    (lambda r: (r["spec"].update(code="x"), r["provenance"]["git"].update(dirty=True)),
     "uncommitted changes in NEW"),
    (lambda r: r["spec"].update(code="x"), "the records give no details")])
def test_what_changed_in_the_inputs_is_named(pair, change, words):
    found = cell_of(pair, both(shift("psnr", every=-1.0), change))
    assert len(found.changes) == 1 and words in found.changes[0] and not found.remark


def plugin(code, irbench="a" * 64, **files):
    """Make a cell that of a network of the user's, whose record has the parts of its code."""
    return lambda r: (r["spec"].update(code=code * 64), r["provenance"].update(
        code={"irbench": irbench, "files": {f"{name}.py": one for name, one in files.items()}}))


@pytest.mark.parametrize("form", ["run", "baseline"])
@pytest.mark.parametrize(("change", "words"), [
    (plugin("2", my_net="2" * 64, layers="3" * 64), "code of my_net.py"),
    (plugin("2", my_net="2" * 64), "code of my_net.py, layers.py"),
    (plugin("2", irbench="b" * 64, my_net="1" * 64, layers="3" * 64),
     "code of cells or libraries: the records give no details"),
    (both(plugin("2", irbench="b" * 64, my_net="2" * 64, layers="3" * 64),
          lambda r: r["provenance"]["git"].update(commit="b" * 40)),
     "code of my_net.py; code of cells or libraries: code (commit aaaaaaa -> bbbbbbb)"),
    (both(plugin("2", my_net="2" * 64, layers="3" * 64),
          lambda r: r["provenance"]["packages"].update(torch="3.0")),
     "code of my_net.py; code of cells or libraries: library versions: torch 2.15.0 -> 3.0"),
    (lambda r: (r["spec"].update(code="2" * 64), r["provenance"].pop("code", None)),
     "code of cells or libraries: NEW does not tell my_net.py from irbench's code")])
def test_a_changed_file_of_the_user_is_named(pair, tmp_path, form, change, words):
    edit(pair[0], CELL, plugin("1", my_net="1" * 64, layers="3" * 64))
    base = pair[0]
    if form == "baseline":
        base = tmp_path / "base.json"
        baseline.write(base, loading.load(pair[0]))
    edit(pair[1], CELL, both(shift("psnr", every=-1.0), change))
    found = next(cell for cell in compared((base, pair[1])).cells if cell.key == KEY)
    assert found.changes == (words,)


def test_prose_and_where_weights_lie_are_no_inputs(pair):
    found = cell_of(pair, lambda r: (r["spec"]["protocol"].update(title="x", source="y"),
                                     r["spec"]["model"].update(note="z", title="t")))
    assert found.changes == () and found.same


def test_a_result_that_changed_without_its_inputs_is_reported(pair):
    found = cell_of(pair, shift("psnr", every=-1.0))
    assert found.remark.startswith(UNEXPLAINED) and "not reproducible" in found.remark


def test_what_no_fingerprint_holds_is_a_hint(pair):
    found = cell_of(pair, both(shift("psnr", every=-1.0), fixtures.other_machine))
    for words in ("cpu Some CPU -> Other CPU", "gpu None -> NVIDIA H200", "device cpu -> cuda",
                  "numpy 2.4.6 -> 9"):
        assert words in found.remark
    assert "matplotlib" not in found.remark     # it computes no score


def test_files_of_two_commits_are_named_where_git_knows_them():
    from irbench.compare.inputs import _files

    assert _files("a" * 40, "b" * 40, "cell") == ()


PLAIN = st.recursive(st.none() | st.integers(0, 3) | st.sampled_from("abc"),
                     lambda inner: st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
                     max_leaves=8)


@given(PLAIN, PLAIN)
@settings(max_examples=80, deadline=None)
def test_differences_of_plain_data_are_none_of_equals_and_mirror(a, b):
    assert list(inputs.different(a, a)) == []
    there = [(path, x, y) for path, x, y in inputs.different(a, b)]
    assert [(path, y, x) for path, x, y in there] == list(inputs.different(b, a))


def test_a_part_is_compared_with_its_digest():
    part = {"recipe": "demo", "steps": 3}
    assert list(inputs.different(part, inputs.digest(part))) == []
    assert list(inputs.different(inputs.digest(part), {**part, "steps": 4}))


# -- scores in general -------------------------------------------------------------------------

def one_cell(scores, name="psnr"):
    images = {f"i{k}": {name: v} for k, v in enumerate(scores)}
    return CellData("p@1", "d", "m", "ok", "", {name: sum(scores) / len(scores)}, images)


SCORES = st.lists(st.tuples(st.floats(10, 50), st.floats(-2, 2)), min_size=1, max_size=12)


@given(SCORES)
@settings(max_examples=40, deadline=None)
def test_the_other_way_round_is_the_other_direction(rows):
    a, b = one_cell([v for v, _ in rows]), one_cell([v + d for v, d in rows])
    one, = differences.cell(a, b).metrics
    other, = differences.cell(b, a).metrics
    assert one.difference == pytest.approx(-other.difference)
    assert {one.direction, other.direction} in ({"better", "worse"}, {""})
    assert [i.difference for i in one.images] == sorted(i.difference for i in one.images)


@given(st.lists(st.tuples(st.floats(10, 50), st.floats(-0.001, 0.001)), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_the_noise_of_another_machine_is_no_change(rows):
    cell = differences.cell(one_cell([v for v, _ in rows]),
                            one_cell([v + 0.999 * d for v, d in rows]))
    assert cell.same and not cell.remark


# -- profiles ----------------------------------------------------------------------------------

def profile_of(pair, change):
    edit(pair[1], PROFILE, change)
    return compared(pair).profiles[0]


def slower(factor):
    def change(record):
        samples = record["result"]["latency_ms"]
        samples["samples"] = [factor * s for s in samples["samples"]]
    return change


def test_counts_are_exact(pair):
    found = profile_of(pair, lambda r: r["result"].update(parameters=392_201))
    assert found.parameters == (392_200, 392_201) and not found.same


@pytest.mark.parametrize(("factor", "word"), [(1.3, "real"), (0.7, "real"), (1.0, "no change")])
def test_latency_is_a_factor_of_medians_with_a_test(pair, factor, word):
    found = profile_of(pair, slower(factor)).latency
    assert found.factor == pytest.approx(factor) and found.word == word
    assert (found.p < 0.05) == (word == "real")


@pytest.mark.parametrize(("change", "words"), [
    (lambda r: r["result"].update(device="cuda"), "device cpu -> cuda"),
    (lambda r: r["result"].update(dtype="bfloat16"), "dtype float32 -> bfloat16"),
    (lambda r: r["result"].update(threads=4), "threads 1 -> 4"),
    (lambda r: r["result"].update(inference={"compile": True}), "compile None -> True"),
    (lambda r: r["result"]["latency_ms"].update(samples=[]), "no latency in NEW")])
def test_latency_of_other_conditions_is_not_compared_and_says_why(pair, change, words):
    found = profile_of(pair, change)
    assert found.latency is None and words in found.apart and found.memory in (
        (None, None), (2**27, 2**27))
    assert found.parameters == (392_200, 392_200) and not found.reason


def test_macs_of_another_input_size_are_not_compared(pair):
    found = profile_of(pair, lambda r: (r["result"]["input"].update(height=128),
                                        r["result"].update(macs=5)))
    assert found.macs == (None, None) and "height 64 -> 128" in found.apart


def test_a_failed_profile_says_so(pair):
    assert "failed: ran out" in profile_of(pair, fixtures.fail()).reason


@pytest.mark.parametrize(("base", "new", "words"), [
    (1.04, 0.86, "disturbed (1.0 cores busy elsewhere in BASE, 0.9 in NEW)"),
    (1.04, 0.05, "disturbed (1.0 cores busy elsewhere in BASE)"),
    (0.0, 0.2, "disturbed (0.2 cores busy elsewhere in NEW)")])
def test_a_disturbed_latency_is_shown_and_not_compared(pair, base, new, words):
    edit(pair[0], PROFILE, fixtures.disturbed(base))
    profile = profile_of(pair, fixtures.disturbed(new, 9.5))
    found = profile.latency
    assert (found.word, found.note, found.factor, found.p) == ("not compared", words, None, None)
    assert (found.base, found.new) == pytest.approx((12.5, 118.75))
    assert profile.same and profile.memory == (2**27, 2**27)
    assert (compared(pair).timings, compared(pair).disturbed) == (0, 1)


@pytest.mark.parametrize("cores", [0.19, None])
def test_a_load_that_is_negligible_or_unknown_disturbs_nothing(pair, cores):
    assert profile_of(pair, fixtures.disturbed(cores, 9.5)).latency.word == "real"


def test_a_disturbed_run_and_itself_do_not_differ(pair):
    edit(pair[0], PROFILE, fixtures.disturbed(1.0))
    assert compared((pair[0], pair[0])).profiles[0].latency.word == "no change"


def two_models(pair, change):
    """Compare a network with its variant, whose cell is changed first."""
    edit(pair[0], f"cells/{X2}/set8/{fixtures.K}.json", change)
    run = loading.load(pair[0])
    found = differences.compare(loading.of_model(run, fixtures.NET, "A -> B"),
                                loading.of_model(run, fixtures.K, "A -> B"))
    return [change for change in found.cells[0].changes if "code" in change]


@pytest.mark.parametrize(("change", "expected"), [
    (lambda r: r["spec"].update(code="x"), []),
    (both(lambda r: r["spec"].update(code="x"),
          lambda r: r["provenance"]["git"].update(dirty=True)), []),
    (plugin("2", my_net="2" * 64), []),
    (both(plugin("2", my_net="2" * 64), lambda r: r["provenance"]["git"].update(commit="b" * 40)),
     ["code of cells or libraries: code (commit aaaaaaa -> bbbbbbb)"]),
    (both(lambda r: r["spec"].update(code="x"),
          lambda r: r["provenance"]["packages"].update(torch="3.0")),
     ["code of cells or libraries: library versions: torch 2.15.0 -> 3.0"])])
def test_the_own_code_of_two_models_is_no_change(pair, change, expected):
    assert two_models(pair, change) == expected


def test_of_two_models_of_the_user_their_own_files_are_named(pair):
    edit(pair[0], CELL, plugin("1", my_net="1" * 64))
    assert two_models(pair, plugin("2", other="2" * 64)) == ["code of my_net.py, other.py"]
    training = {"recipe": "short", "steps": 3}      # of models that the run trains
    for name in (fixtures.NET, fixtures.K):
        edit(pair[0], f"cells/{X2}/set8/{name}.json",
             lambda r: r["spec"]["model"].update(training=training))
    run = loading.load(pair[0])
    sides = [loading.of_model(run, name, "A -> B") for name in (fixtures.NET, fixtures.K)]
    for side, code in zip(sides, "12", strict=True):
        for cell in side.cells.values():
            cell.inputs["training"]["code"] = code
    assert not any("training" in change
                   for change in differences.compare(*sides).cells[0].changes)
