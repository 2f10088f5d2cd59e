"""Quality against cost: the Pareto front is one, and only costs that compare share an axis."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from irbench.present import style
from irbench.report import collect
from irbench.report.plots import pareto, quality
from tests.helpers import report_fixtures as fixtures

X2, X3, NOISE = "sr-x2@1", "sr-x3@1", "denoise_color-sigma25@1"


def collected(builder):
    return collect.collect(builder.folder, builder.plan)


def stems(drawing):
    return [figure.stem for figure in drawing.figures]


# -- the front -----------------------------------------------------------------------------------

# few values, so that ties are met
places = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=2),
                         st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12)


@given(places)
def test_the_front_is_what_nothing_dominates(points):
    front = pareto.front(points)
    costs = [points[name][0] for name in front]
    assert costs == sorted(costs) and len(set(front)) == len(front)
    for name, (cost, psnr) in points.items():
        beaten = any(c <= cost and q >= psnr and (c < cost or q > psnr)
                     for c, q in points.values())
        assert (name in front) == (not beaten)
    assert bool(front) == bool(points)


@given(places)
def test_a_dominated_model_changes_no_front(points):
    front = pareto.front(points)
    if front:
        cost, psnr = points[front[0]]
        assert pareto.front({**points, "worse": (cost + 1, psnr)}) == front
        assert "twin" in pareto.front({**points, "twin": (cost, psnr)})    # a tie stays
        assert pareto.front({n: points[n] for n in front}) == front


@given(places, st.integers(0, 3))
def test_the_steps_are_the_best_that_each_cost_allows(points, least):
    corners = pareto.steps(points, least, 9, -1)
    assert bool(corners) == bool(points)
    if not points:
        return
    assert corners[0][0] >= least and corners[0][1] == -1 and corners[-1][0] == 9
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        assert x0 <= x1 and y0 <= y1 and (x0 == x1 or y0 == y1)    # to the right, or up
    for cost in range(least, 9):
        here = max((y for x, y in corners if x <= cost), default=-1)
        assert here == max((q for c, q in points.values() if c <= cost), default=-1)


def test_ticks_are_round_and_not_too_many():
    assert style.round_numbers(0.9, 5000) == [1, 10, 100, 1000]
    assert style.round_numbers(90, 1100) == [100, 300, 1000]
    assert style.round_numbers(0.25, 0.9) == [0.3, 0.4, 0.6]


@given(st.floats(-6, 12), st.floats(0.15, 9))
def test_ticks_lie_in_the_range_in_order(power, decades):
    low, high = 10 ** power, 10 ** (power + decades)
    ticks = style.round_numbers(low, high)
    assert 2 <= len(ticks) <= 10 and ticks == sorted(set(ticks))
    assert all(low <= tick <= high for tick in ticks)


# -- what a row shows ----------------------------------------------------------------------------

def test_a_row_per_protocol_and_dataset(tmp_path):
    run = collected(fixtures.small_run(tmp_path))
    found, omitted = quality.rows(run)
    assert [(r.protocol, r.dataset) for r in found] == [
        (X2, "photos"), (X2, "set5"), (X3, "set5"), (NOISE, "photos")]
    x2 = found[1]
    assert x2.psnr["compacter"] == 35.5 and x2.lines == {"bicubic": 33.5}
    assert {kind: x2.costs[kind]["compacter"] for kind in quality.COSTS} == {
        "parameters": 392_200, "macs": 1_600_000_000, "latency": 12.5}
    assert x2.printed["Compacter"] == (393_000.0, 38.24) and "bicubic" not in x2.printed
    assert x2.points("parameters")["bicubic"] == (0.0, 33.5)
    assert "bicubic" not in x2.points("macs") and "Compacter" not in x2.points("parameters")
    assert set(found[2].costs) == {"parameters"}            # its profile failed: unknown
    assert not omitted
    drawing = quality.draw(run)
    assert stems(drawing) == ["quality"]
    caption = drawing.figures[0].caption
    for part in ("1×3×64×64", "not measured here", "they are not in the front",  # noqa: RUF001
                 "Compacter on sr-x3@1 (MACs)", "Some CPU, float32, 3×64×64"):  # noqa: RUF001
        assert part in caption, part
    assert "denoise_color-sigma25@1 on Photos" in drawing.left_out[-1]     # one model, no paper


def test_what_lies_far_below_is_named_and_not_drawn():
    row = quality.Tradeoff("p", "d", "", "sr", psnr={"a": 31.0, "b": 32.0},
                      lines={"near": 28.5, "far": 20.0})
    assert row.near() == {"near": 28.5}


def test_only_what_lies_below_is_named(tmp_path, monkeypatch):
    builder = fixtures.Builder(tmp_path)
    builder.dataset("photos", "Photos", 1)
    for model, psnr in (("a", 31.0), ("b", 32.0), ("near", 28.5), ("far", 20.0)):
        builder.model(model, model.upper(), learned=len(model) == 1)
        builder.cell(X2, "photos", model, {"psnr": [psnr], "ssim": [0.9]})
    for model in ("a", "b"):
        builder.profile(X2, model)
    kept = []
    monkeypatch.setattr(style, "save", lambda figure, folder, stem, kinds: kept.append(figure))
    quality.draw(collected(builder))
    texts = [text.get_text() for ax in kept[0].axes for text in ax.texts]
    assert [words for words in texts if "below" in words] == ["FAR: 20.00 dB, below"]
    assert [text.get_text() for text in kept[0].legends[0].get_texts()] == [
        "A", "B", "NEAR (no weights)", "Pareto front (measured here)"]


def test_costs_on_different_conditions_share_no_axis(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.dataset("photos", "Photos", 1)
    for i, model in enumerate(("a", "b", "c")):
        builder.model(model, model.upper())
        builder.cell(X2, "photos", model, {"psnr": [33.0 + i], "ssim": [0.9]})
        builder.profile(X2, model, {"threads": 2 if model == "b" else 1, "input": {
            "batch": 1, "channels": 3, "height": 64 if model != "c" else 128, "width": 64}})
    run = collected(builder)
    row, = quality.rows(run)[0]
    assert list(row.costs["macs"]) == ["a", "b"]            # one input size, most models
    assert list(row.costs["latency"]) == ["a"]              # one thread count and size
    caption = quality.draw(run).figures[0].caption
    for part in ("C, sr-x2@1: MACs on another condition (1×3×128×64)",  # noqa: RUF001
                 "B, sr-x2@1: latency on another condition (Some CPU, float32, 3×64×64, "  # noqa: RUF001
                 "batch 1, 2 threads)"):
        assert part in caption
    assert "Unknown, so not shown" not in caption


def test_a_cost_that_nobody_has_is_not_claimed(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.dataset("photos", "Photos", 1)
    for model in ("a", "b"):
        builder.model(model, model.upper())
        builder.cell(X2, "photos", model, {"psnr": [33.0], "ssim": [0.9]})
        builder.training(X2, model)
    caption = quality.draw(collected(builder)).figures[0].caption
    assert caption.startswith("PSNR (dB) against the number of parameters of the models")
    assert "No model here has a known number of MACs or ms of latency." in caption
    assert "MACs are for" not in caption and "Unknown, so not shown" not in caption


def test_a_model_without_a_count_is_named_not_guessed(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.dataset("photos", "Photos", 1)
    builder.model("a", "Model A")
    builder.cell(X2, "photos", "a", {"psnr": [33.0], "ssim": [0.9]})
    drawing = quality.draw(collected(builder))
    assert not drawing.figures and not (tmp_path / "figures").exists()
    assert "Model A (sr-x2@1)" in drawing.left_out[0]


def test_a_model_alone_is_no_comparison(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.dataset("photos", "Photos", 1)
    builder.model("a", "Model A")
    builder.cell(X2, "photos", "a", {"psnr": [33.0], "ssim": [0.9]})
    builder.profile(X2, "a")
    drawing = quality.draw(collected(builder))
    assert not drawing.figures and "sr-x2@1 on Photos" in drawing.left_out[-1]


def test_a_figure_per_task_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(style, "HEIGHT", 6.0)
    drawing = quality.draw(collected(fixtures.small_run(tmp_path)))
    assert stems(drawing) == ["quality-sr-x2@1", "quality-sr-x3@1"]
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {
        f"{stem}.svg" for stem in stems(drawing)}
