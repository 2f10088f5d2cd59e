"""Files of weights as a config names them: placeholders, digests by level, one set of several."""

import hashlib

import pytest
import yaml

from irbench import plan
from irbench.catalog import protocols
from irbench.core.errors import UserError
from irbench.plan import external, models
from tests.helpers import tiny

SHA = {"sigma15": "1" * 64, "sigma25": "A" * 64}
CELLS = [{"protocol": f"denoise_color-sigma{level}", "datasets": ["tinyset"], "models": ["m"]}
         for level in (15, 25)]


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Return a function that plans a run with one model; its checkpoints by level."""
    monkeypatch.chdir(tmp_path)

    def make(entry, cells=CELLS):
        path = tiny.make(tmp_path, models={"m": entry}, cells=cells)
        return {key.partition("/")[0].partition("-")[2].partition("@")[0]: job.model.checkpoint
                for key, job in plan.load(path).cells.items()}
    return make


@pytest.mark.parametrize(("template", "path"), [
    ("w/{scale}.pt", "w/2.pt"), ("X{scale}.pt", "X2.pt"), ("{LEVEL}.pt", "X2.pt"),
    ("{TASK}_{level}.PTH", "SR_x2.PTH"), ("Deep/{protocol}.pth", "Deep/sr-x2@1.pth"),
    ("{{a}}{task}.pt", "{a}sr.pt")])
def test_placeholders(template, path):
    assert external.fill(template, protocols.get("sr-x2@1"), "here") == path


@pytest.mark.parametrize("template", ["{what}.pt", "{}.pt", "{0}.pt", "{level", "level}",
                                      "{level.__class__}", "{level!r}", "{level:>999999999}",
                                      "{level[0]}"])
def test_anything_else_in_braces_is_refused(template):
    with pytest.raises(UserError, match=r"here: the path .* may only contain \{prot"):
        external.fill(template, protocols.get("sr-x2"), "here")


@pytest.mark.parametrize("entry", [
    {"arch": "tiny", "checkpoint": {"path": "{LEVEL}.pt", "sha256": SHA}},
    {"arch": "tiny", "checkpoint": "{LEVEL}.pt", "sha256": SHA},
    {"external": "{LEVEL}.pt", "sha256": SHA}])
def test_each_level_has_a_digest_of_its_own(planned, entry):
    found = planned(entry)
    assert {level: (one.path, one.sha256) for level, one in found.items()} == {
        "sigma15": ("SIGMA15.pt", "1" * 64), "sigma25": ("SIGMA25.pt", "a" * 64)}


def test_a_url_is_filled_and_has_the_digest_of_its_level(planned):
    found = planned({"arch": "tiny", "checkpoint": {
        "url": "https://example.org/{level}.pth", "sha256": SHA}})
    assert (found["sigma25"].url, found["sigma25"].sha256) == (
        "https://example.org/sigma25.pth", "a" * 64)


def test_a_path_without_a_digest_has_that_of_its_file(planned, tmp_path):
    (tmp_path / "SIGMA15.pt").write_bytes(b"weights")
    found = planned({"arch": "tiny", "checkpoint": "{LEVEL}.pt"})
    assert found["sigma15"].sha256 == hashlib.sha256(b"weights").hexdigest()
    assert found["sigma25"].sha256 is None


def test_a_stated_digest_counts_whatever_the_file_holds(planned, tmp_path):
    """The job, which reads the file, refuses it then."""
    (tmp_path / "SIGMA15.pt").write_bytes(b"weights")
    found = planned({"arch": "tiny", "checkpoint": "{LEVEL}.pt", "sha256": SHA})
    assert found["sigma15"].sha256 == "1" * 64


def test_a_peer_is_for_its_own_task_alone(planned):
    """Weights for colour images have the levels of those for gray ones."""
    with pytest.raises(UserError, match="peer drunet-color.* cannot do denoise_gray-sigma25@2: its "
                                        "weights are for denoise_color at"):
        planned({"arch": "drunet-color"}, [
            {"protocol": "denoise_gray-sigma25", "datasets": ["tinyset"], "models": ["m"]}])


def test_the_set_of_weights_is_part_of_the_spec(planned, tmp_path):
    specs = set()
    for key in (None, "params"):
        entry = {"arch": "tiny", "checkpoint": "a.pt", **({"weights_key": key} if key else {})}
        assert planned(entry)["sigma15"].weights_key == key
        specs.add(plan.load(tmp_path / "config.yaml").cells[
            "denoise_color-sigma15@1/tinyset/m"].fingerprint)
    assert len(specs) == 2
    assert planned({"external": "a.pt", "weights_key": "params"})["sigma15"].weights_key == "params"


def test_what_a_model_cannot_do_is_said_with_the_reason(planned, tmp_path):
    entry = protocols.get("sr-x2").definition()
    del entry["id"]
    (tmp_path / "protocols.yaml").write_text(yaml.safe_dump({"protocols": {"sr-x2_5@1": {
        **entry, "level": "x2_5", "degradation": {"kind": "matlab_bicubic", "scale": 2.5}}}}))
    said = []
    for protocol in ("sr-x2_5", "jpeg_color-q10"):
        with pytest.raises(UserError, match="cannot do .*: it does sr, denoise_color") as caught:
            planned({"arch": "tiny", "checkpoint": "a.pt"}, [
                {"protocol": protocol, "datasets": ["tinyset"], "models": ["m"]}])
        said.append(str(caught.value).partition("no scale that is not whole, such as ")[2][:4])
    assert said == ["2.5 ", ""]


def test_bundled_weights_are_a_file_with_a_digest(planned, tmp_path):
    found = planned({"arch": "compacter", "options": {"skip": "input"}, "checkpoint": "bundled"})
    assert found["sigma15"].path == found["sigma25"].path       # one file for all levels
    assert len(found["sigma15"].sha256) == 64
    assert plan.load(tmp_path / "config.yaml").models["m"].checkpoint.kind == "bundled"


def test_a_model_of_a_plugin_is_the_users_own(planned, tmp_path):
    for arch, own in (("tiny", True), ("compacter", False)):
        planned({"arch": arch, "checkpoint": "a.pt"})
        assert plan.load(tmp_path / "config.yaml").models["m"].own == own


@pytest.mark.parametrize("entry", [{"external": "a.pt"}, {"outputs": "own"}])
def test_an_entry_names_the_printed_values_that_it_belongs_beside(planned, tmp_path, entry):
    planned({**entry, "published_as": "SwinIR"})
    assert plan.load(tmp_path / "config.yaml").models["m"].published_as == "SwinIR"
    planned(entry)
    assert plan.load(tmp_path / "config.yaml").models["m"].published_as == ""
    with pytest.raises(UserError, match="unknown published method 'SwimIR'.*'SwinIR'"):
        planned({**entry, "published_as": "SwimIR"})


@pytest.mark.parametrize(("entry", "message"), [
    ({"arch": "tiny", "checkpoint": {"path": "a.pt", "sha256": {"sigma15": "1" * 64}}},
     "`sha256` has no digest for the level sigma25; it has sigma15"),
    ({"arch": "tiny", "checkpoint": {"path": "a.pt", "sha256": "12"}}, "64 hexadecimal digits"),
    ({"arch": "tiny", "checkpoint": {"path": "a.pt", "sha256": {"sigma15": 7}}},
     "64 hexadecimal digits"),
    ({"arch": "tiny", "checkpoint": {"url": "https://a.org/a.pt"}}, "`url` needs `sha256`"),
    ({"arch": "tiny", "checkpoint": {"sha256": "1" * 64}}, "give either `path` or `url`"),
    ({"arch": "tiny", "checkpoint": {"path": "a", "url": "https://a.org/a", "sha256": "1" * 64}},
     "give either `path` or `url`, not both"),
    ({"arch": "tiny", "checkpoint": "a.pt", "training": {"recipe": "demo", "data": ["tinytrain"]}},
     "give either `training` .* or `checkpoint` .*, not both.*`init`"),
    ({"arch": "tiny", "checkpoint": {"trained_on": ["tinytrain"]}}, "give either `path` or `url`"),
    ({"arch": "tiny", "trained_on": ["tinytrain"]}, "needs either `training`"),
    ({"arch": "tiny", "checkpoint": {"path": "a", "sha256": "1" * 64}, "sha256": "1" * 64},
     "'sha256' is given twice"),
    ({"arch": "tiny", "checkpoint": "bundled", "weights_key": "params"},
     "'weights_key' goes with weights from a file"),
    ({"arch": "tiny", "sha256": "1" * 64, "training": {"recipe": "demo", "data": ["tinytrain"]}},
     "'sha256' goes with weights from a file"),
    ({"arch": "tiny", "checkpoint": "a.pt", "published_as": "SwinIR"},
     "'published_as' requires `external` or `outputs`"),
    ({"arch": "tiny", "checkpoint": {}}, "mapping with path or url"),
    ({"arch": "tiny", "checkpoint": {"path": "a", "key": "b"}}, "mapping with path or url"),
])
def test_entries_that_cannot_be_meant_are_refused(planned, entry, message):
    with pytest.raises(UserError, match=message):
        planned(entry)


def test_entries_are_yaml_as_the_readme_writes_it(planned):
    entry = yaml.safe_load("{arch: tiny, checkpoint: 'X{scale}.pt', weights_key: params}")
    assert planned(entry, [{"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["m"]}])[
        "x2"].path == "X2.pt"


@pytest.mark.parametrize("url", ["http://[::1", "http://", "http:///x.pth", "https://exa mple/x",
                                 "http://x:99999/a", "http://x:y/a", "http://a:b@/x", "://x",
                                 "http://x/{level", "x.pth", "ftp://x/y"])
def test_an_address_that_is_none_is_refused_when_planning(planned, url):
    for entry in ({"arch": "tiny", "checkpoint": {"url": url, "sha256": "1" * 64}},
                  {"external": url, "sha256": "1" * 64}):
        if "external" in entry and "://" not in url:
            continue    # a path
        with pytest.raises(UserError, match="not a URL|may only contain"):
            planned(entry)


def test_missing_files_of_weights_are_told_once_for_an_entry(tmp_path, monkeypatch, capsys):
    """Under which protocols, unless it is under all; nothing of a file that is here."""
    monkeypatch.chdir(tmp_path)
    other = {"m2": {"external": "m2.pth"}, "bicubic": {}}
    cells = [*({**cell, "models": ["m"]} for cell in CELLS),
             {"protocol": "sr-x2", "datasets": ["tinyset"], "models": list(other)}]
    entry = {"arch": "tiny", "checkpoint": {"path": "w/{level}.pt"}}
    path = tiny.make(tmp_path, models={"m": entry, **other}, cells=cells)

    def told():
        capsys.readouterr()
        models.say_missing(plan.load(path).cells.values())
        return capsys.readouterr().err.splitlines()

    (tmp_path / "w").mkdir()
    assert told() == [
        "models.m: checkpoint w/sigma15.pt, w/sigma25.pt: no such file; its cells will have no "
        "result. Correct the path.",
        "models.m2: checkpoint m2.pth: no such file; its cells will have no result. Correct the "
        "path."]
    (tmp_path / "m2.pth").touch()
    (tmp_path / "w/sigma15.pt").touch()
    assert told() == ["models.m: checkpoint w/sigma25.pt: no such file; its cells under "
                      "denoise_color-sigma25@1 will have no result. Correct the path."]
    (tmp_path / "w/sigma25.pt").touch()
    assert told() == []
