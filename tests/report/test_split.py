"""Many panels become several figures: none is lost, none is too large, names differ."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irbench.report.plots import split


@dataclass
class Panel:
    protocol: str
    task: str
    number: int


def panels(protocols):
    return [Panel(name, name.partition("-")[0], i) for i, name in enumerate(protocols)]


@pytest.mark.parametrize("protocols, expected", [
    (["sr-x2@1"] * 4, ["quality"]),
    (["sr-x2@1"] * 3 + ["jpeg-q10@1"] * 2, ["quality-sr", "quality-jpeg"]),
    (["sr-x2@1"] * 3 + ["sr-x4@1"] * 3 + ["jpeg-q10@1"],
     ["quality-sr-x2@1", "quality-sr-x4@1", "quality-jpeg"]),
    (["sr-x2@1"] * 5, ["quality-sr-x2@1-1", "quality-sr-x2@1-2"]),
    ([], []),
])
def test_many_panels_become_several_figures(protocols, expected):
    parts = split.figures(panels(protocols), "quality", "Quality", 4)
    assert [stem for stem, _ in parts] == expected


@given(st.lists(st.sampled_from(["a-x@1", "a-y@1", "b-x@1", "c-x@2"]), max_size=20),
       st.integers(1, 6), st.lists(st.integers(1, 5), min_size=20, max_size=20))
def test_no_panel_is_lost_and_no_figure_too_large(protocols, most, sizes):
    found = panels(protocols)
    parts = split.figures(found, "s", "T", most, lambda panel: sizes[panel.number])
    assert sorted(p.number for part in parts.values() for p in part) == list(range(len(found)))
    assert all(part == sorted(part, key=lambda p: p.number) for part in parts.values())
    assert all(part for part in parts.values())
    assert all(sum(sizes[p.number] for p in part) <= most or len(part) == 1
               for part in parts.values())
    assert len({stem for stem, _ in parts}) == len({title for _, title in parts}) == len(parts)


@given(st.integers(0, 40), st.one_of(st.none(), st.integers(1, 12)))
def test_the_figures_asked_for_are_spread_and_the_others_are_told(count, most):
    parts = {f"figure-{i}": i for i in range(count)}
    left_out = []
    kept = split.asked(parts, most, left_out)
    assert list(kept.items()) == [one for one in parts.items() if one[0] in kept]
    if most is None or count <= most:
        assert kept == parts and left_out == []
    else:
        assert len(kept) == most and min(kept.values()) == 0
        assert f"{most} of {count} figures are drawn" in left_out[0]
        assert "--plots all" in left_out[0]
        gaps = [after - before for before, after in pairwise([*kept.values(), count])]
        assert max(gaps) - min(gaps) <= 1
