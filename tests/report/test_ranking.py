"""Ranks by the mean, places by a paired test, and the mark on what it cannot tell from the best."""

import itertools
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbench.core import statistics
from irbench.core.metrics import METRICS
from irbench.present.html import to_html
from irbench.present.latex import to_latex
from irbench.present.markdown import to_markdown
from irbench.present.plain import to_text
from irbench.present.table import Column, Row, Value
from irbench.report import collect
from irbench.report.facts import ranking
from irbench.report.tables import tables
from tests.helpers import report_fixtures as fixtures

TEN = [30.0 + i for i in range(10)]


def shifted(scores, *apart):
    return [score + apart[i % len(apart)] for i, score in enumerate(scores)]


def rows_of_scores(rows, images):
    # differences of a few tenths of a dB around a common level of each image, as in real sets
    return st.lists(st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=images,
                             max_size=images), min_size=rows, max_size=rows)


def naive(scores, metric="psnr"):
    """The definition, written down: 1 + the rows that are really better, in a family of all pairs.
    """
    sign = -1 if metric == "lpips" else 1
    pairs = list(itertools.combinations(range(len(scores)), 2))
    found = statistics.corrected([statistics.verdict(
        [sign * (x - y) for x, y in zip(scores[a], scores[b], strict=True)], metric, str(a), str(b),
        least=METRICS[metric].alike) for a, b in pairs])
    lost = [b if one.mean > 0 else a for (a, b), one in zip(pairs, found, strict=True)
            if one.word == "real"]
    return [1 + lost.count(row) for row in range(len(scores))]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["psnr", "lpips"]), st.integers(1, 9).flatmap(
    lambda images: rows_of_scores(3, images)))
def test_a_place_is_one_more_than_the_rows_really_better(metric, scores):
    assert ranking.places(scores, metric) == naive(scores, metric)


@settings(max_examples=30, deadline=None)
@given(rows_of_scores(4, 7), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(scores, how):
    names = ["a", "b", "c", "d"]
    order = list(range(4))
    how.shuffle(order)
    found = ranking.places(scores, names=names)
    other = ranking.places([scores[i] for i in order], names=[names[i] for i in order])
    assert [found[i] for i in order] == other
    # nobody is better than the highest mean
    assert found[max(range(4), key=lambda i: sum(scores[i]))] == 1


def test_no_order_among_all_is_needed():
    """A is better than C on all images; B, between them, differs significantly from neither."""
    b = shifted(TEN, -0.4, 0.3)
    c = shifted(TEN, -0.2)
    assert ranking.places([TEN, b, c]) == [1, 1, 2]
    assert ranking.places([TEN, shifted(TEN, 0.4, -0.4), shifted(TEN, -2)]) == [1, 1, 3]


@pytest.mark.parametrize(("images", "expected"), [
    ([30.0], [1, 1]),               # one image says nothing of others
    ([30.0, 31.0], [2, 1]),         # a t-test decides
    (TEN, [2, 1])])
def test_few_images(images, expected):
    assert ranking.places([images, shifted(images, 0.5)]) == expected


def test_the_noise_of_machines_is_no_difference():
    assert ranking.places([TEN, shifted(TEN, 0.0009)]) == [1, 1]
    assert ranking.places([TEN, shifted(TEN, 0.0011)]) == [2, 1]
    assert ranking.places([[0.0] * 10, [METRICS["psnr"].alike] * 10]) == [1, 1]     # just so far
    assert ranking.places([TEN, shifted(TEN, 0.004)], shown=["34.50", "34.50"]) == [1, 1]
    # a third row is compared with both rows that look alike
    assert ranking.places([TEN, shifted(TEN, 0.004), shifted(TEN, 1)],
                          shown=["34.50", "34.50", "35.50"]) == [2, 2, 1]
    assert ranking.places([[], []]) == [1, 1]


def test_the_more_rows_the_surer_each_comparison_must_be():
    """Six images, all better by far: p is 1/32, enough for one comparison and not for one of three.
    """
    six = TEN[:6]
    assert ranking.places([six, shifted(six, 0.5, 0.6)]) == [2, 1]
    assert ranking.places([six, shifted(six, 0.5, 0.6), shifted(six, -0.5, -0.6)]) == [1, 1, 1]
    # ten images suffice for three
    assert ranking.places([TEN, shifted(TEN, 0.5, 0.6), shifted(TEN, -0.5, -0.6)]) == [2, 1, 3]


def test_all_columns_and_blocks_of_a_table_are_one_family(tmp_path):
    """Alone each column would rank its two rows apart. The caption states the number."""
    build = fixtures.Builder(tmp_path)
    build.dataset("photos", "Photos", 6)
    for name, more in (("a", 0.0), ("b", 0.5)):
        build.model(name, name.upper())
        for protocol in ("sr-x2@1", "sr-x3@1"):
            build.cell(protocol, "photos", name, {"psnr": shifted(TEN[:6], more, more + 0.1 * more),
                                                  "ssim": [0.9] * 6})
    found = tables.build(collect.collect(tmp_path, build.plan))
    assert len(found) == 2
    for table in found:
        assert places(table) == {"a": (1, "second"), "b": (1, "best")}
        assert close(table) == ["a"]
        assert "This table makes 2 comparisons." in table.caption
        assert "a paired t-test decides" not in table.caption       # six images are enough


def test_lower_is_better_for_lpips():
    scores = [[0.2] * 8, [0.1] * 8]
    assert ranking.places(scores, "lpips") == [2, 1]
    assert ranking.places(scores, "ssim") == [1, 2]


def test_hundreds_of_pairs_take_no_second():
    how = random.Random(0)
    level = [how.gauss(30, 3) for _ in range(100)]
    scores = [[x + 0.1 * row + how.gauss(0, 0.3) for x in level] for row in range(8)]
    began = time.process_time()
    for column in range(10):        # 280 pairs
        ranking.places(scores, names=[f"{column}/{row}" for row in range(8)])
    assert time.process_time() - began < 1.5    # 0.5 s where nothing else runs


# -- in tables -----------------------------------------------------------------------------------

@pytest.mark.parametrize("mean", [0.1, 0.13, 0.16, 0.2, 0.25, 0.3, -0.16])
def test_a_mean_far_from_zero_needs_no_bootstrap(mean):
    """Some differences of the other sign, and a mean from 3 to 9 standard errors from 0."""
    how = random.Random(1)
    scores = [[30.0] * 80, [30 + how.gauss(mean, 0.3) for _ in range(80)]]
    assert ranking.places(scores) == naive(scores) == ([2, 1] if mean > 0 else [1, 2])


@pytest.mark.parametrize("unit", [1, 1000])
@pytest.mark.parametrize("worst", [-0.25, -0.5, -0.6, -0.7, -0.8, -1.0, -1.5])
def test_one_bad_image_may_undo_many_good_ones(worst, unit):
    """Nineteen images are better, one is worse: the sign test is sure, the mean need not be."""
    scores = [[0.0] * 20, [0.1 * unit] * 19 + [worst * unit]]
    assert ranking.places(scores) == naive(scores)
    assert ranking.places(scores) == ([2, 1] if worst > -0.5 else [1, 1])
    assert ranking.places(scores[::-1]) == ranking.places(scores)[::-1]


def test_scores_of_other_images_are_not_compared():
    with pytest.raises(ValueError, match="shorter"):
        ranking.places([TEN, TEN[:-1]])


def table_of(folder, scores, **images):
    build = fixtures.Builder(folder)
    build.dataset("photos", "Photos", len(next(iter(scores.values()))))
    for name, psnr in scores.items():
        build.model(name, name.upper())
        build.cell("sr-x2@1", "photos", name, {"psnr": psnr, "ssim": [0.9] * len(psnr)},
                   images=images.get(name))
    return tables.build(collect.collect(folder, build.plan))[0]


def places(table):
    return {row.key: (row.entries[0].place, row.entries[0].rank) for row in table.measured}


def close(table, index=0):
    return [row.key for row in table.measured if row.entries[index].close]


def test_a_row_without_a_significant_difference_to_the_best_is_marked(tmp_path):
    wave = [0.5, -0.4, 0.3, -0.3, 0.2, -0.1, 0.1, -0.2, 0.4, -0.45]
    table = table_of(tmp_path, {
        "a": TEN, "b": [x + w for x, w in zip(TEN, wave, strict=True)], "c": shifted(TEN, -1.0)})
    assert places(table) == {"a": (1, "second"), "b": (1, "best"), "c": (3, "")}
    assert close(table) == ["a"]
    assert "fewer than 6" not in table.caption
    table.sentences = []        # those have the sign, too
    for printed in (to_markdown(table), to_html(table), to_latex([table]), to_text(table)):
        assert printed.count("≈") + printed.count("$\\approx$") == 1, printed


def test_images_are_matched_by_name(tmp_path):
    """In another order the same scores would look like differences of both signs."""
    names = [f"image{i}" for i in range(10)]
    table = table_of(tmp_path, {"a": TEN, "b": list(reversed(shifted(TEN, 0.5)))},
                     b=list(reversed(names)))
    assert places(table) == {"a": (2, "second"), "b": (1, "best")}


def test_the_caption_names_sets_of_few_images(tmp_path):
    table = table_of(tmp_path, {"a": [30.0, 31.0, 32.0], "b": [30.5, 31.5, 32.5]})
    assert places(table) == {"a": (2, "second"), "b": (1, "best")}
    assert "so a paired t-test decides (Photos: 3)" in table.caption


def test_one_image_is_no_comparison(tmp_path):
    """It says nothing of others, so it must not make the other comparisons of its table weaker."""
    table = table_of(tmp_path, {"a": [30.0], "b": [31.0]})
    assert places(table) == {"a": (1, "second"), "b": (1, "best")}
    assert close(table) == ["a"]
    assert "This table makes 0 comparisons." in table.caption


def test_one_image_and_one_row(tmp_path):
    table = table_of(tmp_path, {"a": [30.0]})
    assert places(table) == {"a": (1, "")}
    assert "so a paired t-test decides (Photos: 1)" in table.caption


@pytest.mark.parametrize(("metric", "expected"), [
    ("psnr", [(2, "second"), (1, "best"), (1, "best"), (3, ""), None]),
    ("lpips", [(2, "second"), (3, ""), (3, ""), (1, "best"), None])])
def test_printed_values_are_ranked_as_printed(metric, expected):
    values = [Value("0.20", number=0.2), Value("0.31", number=0.3141),
              Value("0.31", number=0.3099), Value("0.10", number=0.1), Value("n/a")]
    rows = [Row([], [value]) for value in values]
    ranking.printed(rows, [Column("x", metric=metric)])
    assert [(value.place, value.rank) for value in values[:-1]] == expected[:-1]
    assert not values[-1].rank


@pytest.mark.parametrize("more", [0.0, 0.02, 0.5])
def test_what_is_bold_is_what_the_caption_says(tmp_path, more):
    """Bold is the best mean as printed; where all are equal, nothing is bold or marked."""
    how = random.Random(3)
    noisy = [x + how.gauss(more, 0.3) for x in TEN] if more == 0.02 else shifted(TEN, more)
    table = table_of(tmp_path, {"a": TEN, "b": noisy, "c": list(TEN)})
    assert "Bold: the best mean of the column; underlined: the second; equal values share both." \
        in table.caption
    assert "≈: not the best, but no measured row is significantly better: p <" in table.caption
    for index in range(len(table.columns)):
        entries = [row.entries[index] for row in table.measured]
        order = sorted({float(one.shown) for one in entries}, reverse=True)
        for one in entries:
            at = order.index(float(one.shown))
            assert one.rank == (["best", "second", ""][at] if len(order) > 1 else "")
            assert one.close == (one.place == 1 and at > 0)


def test_nothing_to_point_out_where_all_are_alike(tmp_path):
    table = table_of(tmp_path, {"a": TEN, "b": list(TEN)})
    assert set(places(table).values()) == {(1, "")}
    # and SSIM, which is .9 for all
    assert {row.entries[1].place for row in table.measured} == {1}


def test_pairs_of_a_column_are_all_compared():
    scores = [shifted(TEN, 0.5 * i) for i in range(5)]
    for order in itertools.islice(itertools.permutations(range(5)), 0, 120, 17):
        assert ranking.places([scores[i] for i in order]) == [5 - i for i in order]
