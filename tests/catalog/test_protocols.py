import re
from dataclasses import replace

import numpy as np
import pytest
import yaml

from irbench.catalog import degradations, protocols, published
from irbench.core.errors import UserError

PAPERS = {  # task -> levels of the issue, as the papers report them
    "sr": ["x2", "x3", "x4"], "denoise_gray": ["sigma15", "sigma25", "sigma50"],
    "denoise_color": ["sigma15", "sigma25", "sigma50"], "jpeg_gray": ["q10", "q20", "q30", "q40"],
    "jpeg_color": ["q10", "q20", "q30", "q40"], "demosaic": ["rggb"],
    "deblur": ["motion", "synthetic"], "derain": ["streak", "synthetic"],
    "lowlight": ["lol", "synthetic"],
    "weather": ["mixed", "native", "synthetic_drops", "synthetic_snow"],
    "denoise_real": ["polyu", "sidd", "dnd"], "dehaze": ["reside"],  # not of the papers
}


def test_the_catalog_holds_what_both_papers_report():
    have = {}
    for protocol in protocols.catalog().values():
        have.setdefault(protocol.task, set()).add(protocol.level)
    assert have == {task: set(levels) for task, levels in PAPERS.items()}


def test_levels_are_those_of_the_published_figures():
    known = {(p.task, p.level) for p in protocols.catalog().values()}
    rows = published.load()
    assert {(row.task.removesuffix("_light"), row.level) for row in rows} <= known


def test_how_each_task_is_scored_never_changes_under_an_id():
    """Colour, Y rounded, border, SSIM: what makes a figure comparable with the printed one."""
    valid, volume = "gaussian11_valid", "gaussian11_3d"
    scored = {
        "sr-x2@1": ("y", False, 2, valid), "sr-x3@1": ("y", False, 3, valid),
        "sr-x4@1": ("y", False, 4, valid), "sr-x2@2": ("y", False, 2, valid),
        "sr-x3@2": ("y", False, 3, valid), "sr-x4@2": ("y", False, 4, valid),
        "denoise_gray": ("gray", True, 0, valid),
        "denoise_color": ("rgb", False, 0, valid), "jpeg_gray": ("gray", True, 0, valid),
        "jpeg_color": ("rgb", False, 0, valid), "demosaic": ("rgb", False, 10, valid),
        "deblur": ("rgb", False, 0, volume), "derain": ("y", True, 0, valid),
        "lowlight": ("rgb", False, 0, valid), "weather": ("y", False, 0, valid),
        "denoise_real-polyu@1": ("rgb", False, 0, valid),
        # MATLAB's ssim of the toolkits
        "denoise_real": ("rgb", False, 0, volume), "dehaze": ("rgb", False, 0, valid),
    }
    for protocol in protocols.catalog().values():
        metric = protocol.metric
        assert (metric.color, metric.y_rounded, metric.crop, metric.ssim) == (
            scored.get(protocol.id) or scored[protocol.task]), protocol.id
    converted = {p.id for p in protocols.catalog().values() if p.metric.gray_files == "converted"}
    assert converted == {"sr-x2@2", "sr-x3@2", "sr-x4@2"}
    full = {p.id for p in protocols.catalog().values() if p.gray == "full_range"}
    assert full == {f"denoise_gray-sigma{sigma}@2" for sigma in (15, 25, 50)}


def test_a_published_id_keeps_its_definition():
    """A field that came later does not change the fingerprints of earlier protocols."""
    assert protocols.get("sr-x2@1").definition()["metric"] == {
        "color": "y", "y_rounded": False, "crop": 2, "ssim": "gaussian11_valid"}
    assert set(protocols.get("denoise_gray-sigma15@1").definition()) == {
        "id", "title", "task", "level", "degradation", "color", "seed", "metric", "source"}


def test_versions_know_whose_weights_serve_them_and_what_they_train_as(tmp_path):
    x2, gray = protocols.get("sr-x2@2"), protocols.get("denoise_gray-sigma25@2")
    assert (x2.serves, x2.training_id) == (("sr-x2@1",), "sr-x2@1")
    assert protocols.get("sr-x2@1").serves == ("sr-x2@2",)
    # another gray source makes other training images, but the same noise
    assert (gray.serves, gray.training_id) == (("denoise_gray-sigma25@1",), gray.id)
    entry = x2.definition()
    scored = {**entry, "metric": {**entry["metric"], "crop": 8, "ssim": "uniform7"}}
    made = {**entry, "degradation": {"kind": "jpeg", "quality": 10}}
    (tmp_path / "protocols.yaml").write_text(yaml.safe_dump({"protocols": {
        name: {k: v for k, v in one.items() if k != "id"}
        for name, one in (("sr-x2@7", scored), ("sr-x2@8", made))}}))
    scored, made = (protocols.get(name, (str(tmp_path),)) for name in ("sr-x2@7", "sr-x2@8"))
    assert (scored.serves, scored.training_id) == (("sr-x2@1", "sr-x2@2"), "sr-x2@1")
    assert (made.serves, made.training_id) == ((), "sr-x2@8")
    assert scored.training_definition() | {"id": "sr-x2@1"} == (
        protocols.get("sr-x2@1").training_definition())
    assert protocols.Protocol.from_dict(scored.as_dict()) == scored


def test_only_gray_protocols_have_one_channel():
    assert {p.channels for p in protocols.catalog().values() if p.color == "gray"} == {1}
    assert {p.channels for p in protocols.catalog().values() if p.color != "gray"} == {3}


@pytest.mark.parametrize(("seed", "valid"), [(0, True), (2**32 - 1, True), (2**32, False),
                                             (-1, False), (True, False), (1.0, False)])
def test_a_seed_is_one_that_numpy_takes(tmp_path, seed, valid):
    noise = {"kind": "gaussian_noise", "sigma": 5}
    if valid:
        assert chain(tmp_path, noise, seed=seed).seed == seed
        np.random.RandomState(seed)
    else:
        with pytest.raises(UserError, match="valid for gaussian_noise: a whole number from 0"):
            chain(tmp_path, noise, seed=seed)


def test_synthetic_levels_say_so_and_no_others_do():
    for protocol in protocols.catalog().values():
        assert protocol.synthetic == ("synthetic" in protocol.level)
        assert not (protocol.synthetic and protocol.paired)
        if protocol.synthetic:
            assert "synthetic" in protocol.title
            assert "no published figure" in protocol.source
    paired = {p.id for p in protocols.catalog().values() if p.paired}
    assert paired == {"deblur-motion@1", "derain-streak@1", "lowlight-lol@1", "weather-mixed@1",
                      "weather-native@1", "denoise_real-polyu@1", "denoise_real-sidd@1",
                      "denoise_real-dnd@1", "dehaze-reside@1"}


def test_an_added_protocol_is_one_entry_and_leaves_the_others(tmp_path):
    before = protocols.catalog()
    entry = {"title": "Strong rain", "task": "derain", "level": "synthetic_strong",
             "degradation": {"kind": "rain_streaks", "density": 4, "length": 60, "angle": 10,
                             "opacity": 1, "layers": 2},
             "color": "rgb", "seed": 3, "source": "made for this test",
             "metric": {"color": "y", "y_rounded": True, "crop": 0, "ssim": "uniform7"}}
    (tmp_path / "protocols.yaml").write_text(
        yaml.safe_dump({"protocols": {"derain-synthetic_strong@1": entry}}))
    after = protocols.catalog((str(tmp_path),))
    assert {k: after[k] for k in before} == before
    added = after["derain-synthetic_strong@1"]
    assert added.synthetic and added.channels == 3 and added.scale == 1


def test_a_name_without_version_means_the_newest(tmp_path):
    assert protocols.get("sr-x2").id == "sr-x2@2"
    entry = protocols.get("sr-x2").definition()
    del entry["id"]
    (tmp_path / "protocols.yaml").write_text(yaml.safe_dump({"protocols": {"sr-x2@12": entry}}))
    assert protocols.get("sr-x2", (str(tmp_path),)).id == "sr-x2@12"
    assert protocols.get("sr-x2@1", (str(tmp_path),)).id == "sr-x2@1"


def test_an_id_is_never_redefined(tmp_path):
    entry = protocols.get("sr-x2").definition()
    del entry["id"]
    (tmp_path / "protocols.yaml").write_text(yaml.safe_dump({"protocols": {"sr-x2@1": entry}}))
    with pytest.raises(UserError, match="already defined.*raise the number"):
        protocols.catalog((str(tmp_path),))


def test_unknown_names_get_near_ones():
    with pytest.raises(UserError, match=r"unknown protocol 'sr_x2'.*'sr-x2'"):
        protocols.get("sr_x2")


@pytest.mark.parametrize(("name", "message"), [
    ("sr-x2@9", r"^unknown protocol 'sr-x2@9'\. .*Valid: sr-x2@1, sr-x2@2\.$"),
    ("sr-x", r"^[^@]*Did you mean 'sr-x.' or 'sr-x.' or 'sr-x.'\? Valid: [^@]*\.$"),
    ("denoise", r"^[^@]*Did you mean 'denoise_gray-sigma15' or 'denoise_color-sigma15' or "
     r"'denoise_real-\w+'\? Valid: [^@]*\.$"),
    ("jpeg", r"Did you mean 'jpeg_gray-q10' or 'jpeg_color-q10'\? "),  # one of each of two tasks
    ("derain", r"Did you mean 'derain-streak' or 'derain-synthetic' or "),  # of one task: spelling
    ("de", r"Did you mean 'denoise_\S+' or 'denoise_\S+' or 'demosaic-rggb'\? ")])   # six tasks
def test_each_protocol_is_listed_once(name, message):
    with pytest.raises(UserError, match=message):
        protocols.get(name)


@pytest.mark.parametrize(("change", "message"), [
    ({"colour": "rgb"}, "unknown colour"),
    ({"color": "bgr"}, "unknown color 'bgr'.*Valid: gray, rgb"),
    ({"metric": {"color": "y"}}, "metric: missing crop, ssim, y_rounded"),
    ({"gray": "full"}, "unknown gray 'full'.*full_range, matlab_y"),
    ({"gray": "full_range"}, "gray is 'full_range', but only color gray"),
    ({"metric": {"color": "y", "y_rounded": True, "crop": 2, "ssim": "uniform7",
                 "gray_files": "yes"}}, "unknown metric gray_files 'yes'.*converted, y"),
    ({"metric": {"color": "rgb", "y_rounded": True, "crop": 2, "ssim": "uniform7",
                 "gray_files": "converted"}}, "only metric color y treats gray files"),
    ({"degradation": {"kind": "matlab_bicubc", "scale": 2}}, "Did you mean 'matlab_bicubic'"),
    ({"degradation": {"kind": "matlab_bicubic", "scale": 1}},
     "scale is 1; valid: 1.1 to 8 with at most one decimal"),
    ({"degradation": {"kind": "jpeg"}}, "degradation: missing quality"),
    ({"seed": "none"}, "seed is 'none'; valid for matlab_bicubic: null"),
    ({"seed": 0}, "seed is 0; valid for matlab_bicubic: null"),
    ({"degradation": {"kind": "gaussian_noise", "sigma": 5}}, "seed is None; valid for gaussian"),
    ({"degradation": {"kind": ["x"]}}, "unknown degradation"),
    ({"degradation": {"kind": "matlab_bicubic", "scale": 2.25}}, "scale is 2.25; valid: 1.1 to 8"),
    ({"degradation": {"kind": "subsample", "scale": 2.5}}, "scale is 2.5; valid: whole numbers 2"),
    ({"degradation": {"kind": "gaussian_blur", "sigma": 1, "size": 8}},
     "size is 8; valid: odd numbers 3 to 201"),
    ({"degradation": {"kind": "gaussian_blur", "sigma": float("nan"), "size": 7}}, "sigma is "),
    ({"degradation": []}, "valid is a list of 1 to 10 steps"),
    ({"degradation": [{"kind": "round"}] * 11}, "valid is a list of 1 to 10 steps"),
    ({"degradation": [{"kind": "round"}, 3]}, "step 2: valid is a mapping with a kind"),
    ({"degradation": [3]}, "needs a kind, or is a list of steps"),
    ({"degradation": [{"kind": "round"}, {"quality": 3}]}, "step 2: valid is a mapping with a"),
    ({"degradation": [{"kind": "round"}, {"kind": "jpg", "quality": 3}]},
     "step 2: unknown degradation 'jpg'. Did you mean 'jpeg'"),
    ({"degradation": [{"kind": "round"}, {"kind": "jpeg", "quality": 0}]},
     "step 2: quality is 0; valid: whole numbers 1 to 100"),
    ({"degradation": [{"kind": "round"}, {"kind": "jpeg"}]}, r"step 2 \(jpeg\): missing quality"),
    ({"degradation": [{"kind": "round", "to": 8}, {"kind": "round"}]}, "unknown to"),
    ({"degradation": [{"kind": "round"}, {"kind": "paired"}]},
     "step 2: unknown degradation 'paired'"),
    ({"degradation": [{"kind": "round"}, {"kind": "steps", "steps": []}]},
     "step 2: unknown degradation 'steps'"),
    ({"degradation": [{"kind": "matlab_bicubic", "scale": 5}, {"kind": "subsample", "scale": 4}]},
     "all steps together reduce the sides by 20; valid: at most 16"),
    ({"degradation": [{"kind": "matlab_bicubic", "scale": 1.1}, {"kind": "matlab_bicubic",
                                                                  "scale": 1.3}]},
     "whole sides only if the target's are multiples of 143; valid: at most 128"),
    ({"degradation": [{"kind": "matlab_bicubic", "scale": 4}, {"kind": "matlab_bicubic",
                                                               "scale": 4.1}]},
     "reduce the sides by 16.4; valid: at most 16"),
    ({"degradation": [{"kind": "subsample", "scale": 3}, {"kind": "matlab_bicubic",
                                                          "scale": 4.3}]}, "multiples of 129"),
    ({"degradation": {"kind": "steps", "steps": [{"kind": "round"}], "quality": 5}},
     "degradation: unknown quality"),
    ({"degradation": {"kind": "steps"}}, "degradation: missing steps"),
    ({"degradation": [{"kind": "mosaic", "pattern": "rggb"}, {"kind": "round"}]},
     "step 1: a mosaic is the last step"),
    ({"degradation": [{"kind": "gaussian_noise", "sigma": 5}, {"kind": "jpeg", "quality": 9}]},
     "seed is None; valid for gaussian_noise, jpeg: a whole number"),
    ({"color": "gray"}, "metric color 'y' does not fit color 'gray'"),
    ({"metric": {"color": "y", "y_rounded": "no", "crop": 2, "ssim": "gaussian11_valid"}},
     "y_rounded is 'no'; valid: true, false"),
    ({"title": 3}, "title is 3; valid: a text"),
    ({"source": ["x"]}, r"source is \['x'\]; valid: a text"),
    ({"borrows": 5}, "borrows is 5; valid: a text"),
    ({"title": "Rain\n"}, "valid: one line of text"),
    ({"level": "x3"}, "the id must begin with sr-x3"),
])
def test_broken_entries_are_explained(tmp_path, change, message):
    entry = {**protocols.get("sr-x2").definition(), **change}
    del entry["id"]
    (tmp_path / "protocols.yaml").write_text(yaml.safe_dump({"protocols": {"sr-x2@2": entry}}))
    with pytest.raises(UserError, match=message):
        protocols.catalog((str(tmp_path),))


def entry_of(kind, **changes):
    """Return a valid entry of a kind, changed; seeds are as the kind needs them."""
    of_kind = [p for p in protocols.catalog().values() if p.degradation["kind"] == kind]
    like = of_kind[0] if of_kind else protocols.get("deblur-motion")
    entry = like.definition()
    del entry["id"]
    own = entry["degradation"] if of_kind else {"kind": kind}
    degradation = {**own, **changes.pop("degradation", {})}
    return like.id.replace("@1", "@9"), {**entry, "degradation": degradation, **changes}


@pytest.mark.parametrize(("kind", "change", "message"), [
    ("mosaic", {"degradation": {"pattern": "bggr"}}, "unknown pattern 'bggr'.*Valid: rggb"),
    ("mosaic", {"color": "gray", "metric": {"color": "gray", "y_rounded": True, "crop": 0,
                                            "ssim": "gaussian11_valid"}},
     "color is 'gray'; a mosaic is of colours"),
    ("mosaic", {"seed": 0}, "seed is 0; valid for mosaic: null"),
    ("paired", {"seed": 0}, "seed is 0; valid for paired: null"),
    ("paired", {"degradation": {"multiple": 0}}, "multiple is 0; valid: whole numbers 1 to 256"),
    ("paired", {"degradation": {"multiple": None}}, "multiple is None; valid"),
    ("paired", {"degradation": {"longest": 1.5}},
     "longest is 1.5; valid: whole numbers 16 to 65536 or null"),
    ("paired", {"degradation": {"scale": 9}}, "scale is 9; valid: whole numbers 1 to 8"),
    ("paired", {"degradation": {"scale": 2, "multiple": 16}}, "pairs of scale 2 are never resized"),
    ("paired", {"degradation": {"scale": 2, "longest": 64}}, "pairs of scale 2 are never resized"),
    ("paired", {"degradation": {"factor": 2}}, "degradation: unknown factor"),
    ("motion_blur", {"seed": None}, "seed is None; valid for motion_blur: a whole number"),
    ("motion_blur", {"degradation": {"bend": 1.5}}, "bend is 1.5; valid: 0 to 1"),
    ("motion_blur", {"degradation": {"length": float("nan")}}, "length is not a finite number"),
    ("rain_streaks", {"degradation": {"layers": 2.5}}, "layers is 2.5; valid: whole numbers 1 to"),
    ("rain_streaks", {"degradation": {"angle": -1}}, "angle is -1; valid: 0 to 60"),
    ("low_light", {"degradation": {"exposure": 0}}, "exposure is 0; valid: 0.001 to 1"),
    ("low_light", {"degradation": {"photons": "many"}}, "photons is 'many'; valid: 10 to 1e"),
    ("snow", {"degradation": {"haze": True}}, "haze is True; valid: 0 to 0.9"),
    ("drops", {"degradation": {"magnification": 0}}, "magnification is 0; valid: 1 to 20"),
    ("paired", {"metric": {"color": "y", "y_rounded": True, "crop": 0, "ssim": "gaussian11_3d"}},
     "gaussian11_3d runs over the three colours; it needs metric color rgb, not 'y'"),
    ("paired", {"metric": {"color": "rgb", "y_rounded": True, "crop": 0, "ssim": "uniform8"}},
     "unknown ssim variant 'uniform8'.*'uniform7'"),
])
def test_broken_entries_of_the_other_kinds_are_explained(tmp_path, kind, change, message):
    key, entry = entry_of(kind, **change)
    (tmp_path / "protocols.yaml").write_text(yaml.safe_dump({"protocols": {key: entry}}))
    with pytest.raises(UserError, match=message):
        protocols.catalog((str(tmp_path),))


LIMITS = {  # kind -> parameter -> the smallest and the largest valid value
    "matlab_bicubic": {"scale": (1.1, 8)}, "gaussian_noise": {"sigma": (0, 255)},
    "jpeg": {"quality": (1, 100)},
    "paired": {"multiple": (1, 256), "longest": (16, 65536), "scale": (1, 8)},
    "motion_blur": {"length": (1, 100), "bend": (0, 1), "gamma": (1, 3)},
    "rain_streaks": {"density": (0, 20), "length": (2, 200), "angle": (0, 60), "opacity": (0, 1),
                     "layers": (1, 6)},
    "low_light": {"exposure": (0.001, 1), "gamma": (1, 3), "photons": (10, 1_000_000),
                  "read_noise": (0, 1000)},
    "snow": {"density": (0, 20), "size": (1, 50), "motion": (0, 50), "opacity": (0, 1),
             "haze": (0, 0.9)},
    "drops": {"count": (0, 1000), "radius": (2, 200), "magnification": (1, 20), "blur": (0, 20),
              "opacity": (0, 1)},
    "gaussian_blur": {"sigma": (0.1, 50), "size": (3, 201)}, "subsample": {"scale": (2, 8)},
}
# the smallest step that a parameter can take, where it is not .0001
STEP = {"quality": 1, "multiple": 1, "longest": 1, "layers": 1, ("gaussian_blur", "size"): 2,
        "scale": 1, ("matlab_bicubic", "scale"): 0.1}


def test_all_limits_are_tested():
    limited = {(kind, name) for kind, parameters in degradations.DEGRADATIONS.items()
               for name, low, _ in parameters if low is not None}
    assert limited == {(kind, name) for kind in LIMITS for name in LIMITS[kind]}


@pytest.mark.parametrize("kind", LIMITS)
def test_each_kind_takes_its_limits_and_nothing_beyond(kind):
    """A catalog that was valid stays valid, and what was refused stays refused."""
    for name, (low, high) in LIMITS[kind].items():
        alone = {"kind": kind} | {one: ends[0] for one, ends in LIMITS[kind].items()}
        if name == "scale" and kind == "paired":
            alone["longest"] = None     # pairs with a scale are never resized
        elif kind == "paired":
            del alone["scale"]
        for end, beyond in ((low, -1), (high, 1)):
            degradations.check("here", alone | {name: end})
            step = STEP.get((kind, name), STEP.get(name, 0.0001))
            valid = re.escape(f"{low:g} to {high:g}")
            with pytest.raises(UserError, match=f"here: {name} is .*; valid: .*{valid}"):
                degradations.check("here", alone | {name: end + beyond * step})


def chain(tmp_path, degradation, seed=None, level="own"):
    """Return the protocol of a user's catalog with this degradation."""
    entry = {**protocols.get("sr-x2").definition(), "degradation": degradation, "seed": seed,
             "level": level}
    del entry["id"]
    (tmp_path / "steps.yaml").write_text(yaml.safe_dump({"protocols": {f"sr-{level}@1": entry}}))
    return protocols.catalog((str(tmp_path / "steps.yaml"),))[f"sr-{level}@1"]


def test_a_list_of_steps_is_a_degradation(tmp_path):
    given = [{"kind": "gaussian_blur", "sigma": 1.6, "size": 7}, {"kind": "subsample", "scale": 3},
             {"kind": "gaussian_noise", "sigma": 5}, {"kind": "jpeg", "quality": 40}]
    own = chain(tmp_path, given, seed=0)
    assert own.steps == tuple(given) and own.kinds == tuple(step["kind"] for step in given)
    assert (own.scale, own.unit, own.paired, own.synthetic) == (3, 3, False, False)
    # as stored in a plan or a record, and as such in a catalog again
    assert protocols.Protocol.from_dict(own.as_dict()) == own
    assert chain(tmp_path, own.definition()["degradation"], seed=0) == own
    assert chain(tmp_path, [*given, {"kind": "snow", "density": 1, "size": 9, "motion": 6,
                                     "opacity": 0.9, "haze": 0}], seed=0).synthetic
    # a list of one step is that step
    assert chain(tmp_path, [given[2]], seed=0).degradation == given[2]
    assert chain(tmp_path, {"kind": "steps", "steps": [given[2]]}, seed=0).degradation == given[2]
    degradations.check("here", {"kind": "steps", "steps": [given[2]]})
    # a mosaic may be the last of several
    assert chain(tmp_path, [given[0], {"kind": "mosaic", "pattern": "rggb"}]).kinds[1] == "mosaic"


@pytest.mark.parametrize(("scales", "scale", "unit"), [
    ([2], 2, 2), ([2.5], 2.5, 5), ([1.1], 1.1, 11), ([2, 2], 4, 4), ([1.5, 2], 3, 3),
    ([2, 1.5], 3, 6), ([1.5, 1.5], 2.25, 9), ([2.5, 2], 5, 5), ([3.0], 3, 3),
    # the most that is allowed: 16 in all, and sides of 128 pixels that are cut off
    ([4, 4], 16, 16), ([1.6, 3.2], 5.12, 128)])
def test_sides_stay_whole_through_all_steps(tmp_path, scales, scale, unit):
    own = chain(tmp_path, [{"kind": "matlab_bicubic", "scale": one} for one in scales])
    assert (own.scale, own.unit) == (scale, unit) and isinstance(own.scale, type(scale))
    side = unit
    for one in scales:
        side = round(side / one, 9)
        assert side == int(side)


@pytest.mark.parametrize(("given", "fixed"), [
    ([("matlab_bicubic", 2)], True), ([("matlab_bicubic", 2.5)], False),
    ([("subsample", 2)], False), ([("matlab_bicubic", 2), ("subsample", 2)], False)])
def test_patches_are_cut_from_one_input_only_where_their_corners_are_whole_pixels(tmp_path, given,
                                                                                  fixed):
    own = chain(tmp_path, [{"kind": kind, "scale": scale} for kind, scale in given])
    assert own.fixed_input is fixed
    assert protocols.get("deblur-motion").fixed_input is True       # pairs
    assert protocols.get("denoise_color-sigma25").fixed_input is False


@pytest.mark.parametrize(("task", "level", "given", "scale"), [
    ("sr", "realsr_x4", {}, 4), ("sr", "x3_own", {}, 1), ("sr", "drealsr", {"scale": 2}, 2),
    ("deblur", "motion_x2", {}, 1), ("dewarp", "any", {"scale": 1}, 1)])
def test_pairs_have_the_scale_that_is_given_or_that_of_the_level(tmp_path, task, level, given,
                                                                 scale):
    _, entry = entry_of("paired")
    entry |= {"task": task, "level": level, "degradation": {"kind": "paired", **given}}
    (tmp_path / "protocols.yaml").write_text(
        yaml.safe_dump({"protocols": {f"{task}-{level}@1": entry}}))
    got = protocols.catalog((str(tmp_path),))[f"{task}-{level}@1"]
    assert got.scale == scale
    assert got.degradation == {"kind": "paired", "multiple": 1, "longest": None,
                               **({"scale": scale} if scale > 1 else {})}


def test_a_definition_gives_the_protocol_back():
    for protocol in protocols.catalog().values():
        alone = replace(protocol, serves=(), trained_as="")     # these follow from the catalog
        assert protocols.Protocol.from_dict(protocol.definition()) == alone
        assert protocols.Protocol.from_dict(protocol.as_dict()) == protocol
    broken = {**protocols.get("sr-x2").definition(), "colour": "rgb"}
    with pytest.raises(UserError, match="sr-x2.*colour"):
        protocols.Protocol.from_dict(broken)


@pytest.mark.parametrize("crop", [-1, 1.5, True, "2", None])
def test_a_border_is_a_whole_number_of_pixels(tmp_path, crop):
    entry = protocols.get("sr-x2").definition()
    del entry["id"]
    entry["metric"]["crop"] = crop
    (tmp_path / "protocols.yaml").write_text(yaml.safe_dump({"protocols": {"sr-x2@99": entry}}))
    with pytest.raises(UserError, match="metric.crop is .*a border in pixels, >= 0"):
        protocols.catalog((str(tmp_path),))


@pytest.mark.parametrize("key", ["sr-x2", "sr-x2@0", "sr-x2@1 ", "SR-x2@1", "sr@1"])
def test_an_id_has_task_level_and_version(tmp_path, key):
    entry = protocols.get("sr-x2").definition()
    del entry["id"]
    (tmp_path / "protocols.yaml").write_text(yaml.safe_dump({"protocols": {key: entry}}))
    with pytest.raises(UserError, match="an id has the form TASK-LEVEL@VERSION"):
        protocols.catalog((str(tmp_path),))
