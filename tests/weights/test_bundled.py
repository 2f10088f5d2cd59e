"""The weights that come with irbench: each file is what the catalog says, and a model finds its."""

import shutil

import pytest

from irbench import cli, plan
from irbench.catalog import protocols
from irbench.catalog.model import Checkpoint, Model
from irbench.core import digests, records
from irbench.core.errors import Unavailable, UserError
from irbench.jobs import run as jobs
from irbench.models import registry
from irbench.weights import bundled, loading, serving, storage
from tests.helpers import tiny

SMALL = {"width": 12, "layers": 1}


def options(**more):
    return {**registry.get("compacter").options, **SMALL, **more}


def check(one):
    """A bundled file is the one that is listed, for its scope, in half precision, and fits."""
    header = storage.header_of(one.path, one.path.read_bytes())
    assert digests.file_digest(one.path) == one.sha256
    assert one.path.stat().st_size == one.bytes
    assert (header["arch"], header["protocol"], header["levels"], header["options"]) == (
        one.arch, one.protocol, one.levels, one.options)
    assert one.name == bundled.name_of(one.arch, one.protocol)
    served = [p for p in protocols.catalog().values() if serving.is_for(header, p)]
    assert served if one.levels else {p.id for p in served} == {
        one.protocol, *protocols.get(one.protocol).serves}
    model = Model(one.name, one.arch, options=one.options)
    network = loading.build(model, served[0])
    shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
    stored = storage.shapes(one.path)
    assert {name: shape for name, (_, shape) in stored.items()} == shapes
    assert {kind for kind, _ in stored.values()} <= {"F16", "I64"}
    loading.load(network, one.path, model, served[0], one.sha256)


@pytest.mark.parametrize("one", bundled.catalog().values(), ids=lambda one: one.name)
def test_each_bundled_file_is_what_is_listed_and_tells_its_story(one):
    check(one)
    header = storage.read_header(one.path)
    assert header["steps"] > 0 and header["seconds"] > 0 and header["images_seen"] > 0
    assert header["validation"] and header["scores"] and header["command"] and header["recipe"]
    # the only image of BSDS500 that a test set used here holds, too (Set5)
    assert "302003" in header["exclude"]["bsds500_train"]
    assert not any(entry["shared"] for entry in header["leaks"] or ())


def test_all_files_are_listed_and_small_enough():
    listed = {one.path for one in bundled.catalog().values()}
    assert listed == set(bundled.FOLDER.glob("*.safetensors"))
    assert sum(path.stat().st_size for path in listed) <= bundled.LIMIT == 25_000_000


# -- a made-up catalog -----------------------------------------------------------------------------

@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "FOLDER", tmp_path / "weights")
    monkeypatch.setattr(bundled, "CATALOG", tmp_path / "weights.yaml")
    monkeypatch.chdir(tmp_path)
    bundled.FOLDER.mkdir()
    bundled.rewrite()
    return bundled.FOLDER


def put(scope, levels=None, protocol=None, name=None, **more):
    """Add a file of small random weights for a scope."""
    model = Model("c", "compacter", options=options(**more))
    network = loading.build(model, protocols.get(protocol or scope))
    state = {key: value.half() for key, value in network.state_dict().items()}
    path = bundled.FOLDER / f"{name or bundled.name_of('compacter', scope)}.safetensors"
    path.write_bytes(storage.pack(state, {
        "model": "c", "arch": "compacter", "options": model.options, "protocol": scope,
        "levels": levels, "steps": 5}))
    return path


def blind():
    return put("denoise_color-blind@1", {"sigma": [15, 50]}, "denoise_color-sigma25")


def test_a_made_up_catalog_lists_its_files(folder):
    put("sr-x2@1")
    blind()
    found = bundled.rewrite()
    assert list(found) == ["compacter-denoise_color-blind", "compacter-sr-x2"]
    assert bundled.catalog() == found
    for one in found.values():
        check(one)
    before = bundled.CATALOG.read_bytes()
    bundled.rewrite()
    assert bundled.CATALOG.read_bytes() == before


@pytest.mark.parametrize(("protocol", "name"), [
    ("sr-x2", "compacter-sr-x2"), ("denoise_color-sigma15", "compacter-denoise_color-blind"),
    ("denoise_color-sigma25", "compacter-denoise_color-sigma25"),
    ("denoise_color-sigma50", "compacter-denoise_color-blind")])
def test_a_model_finds_its_file(folder, protocol, name):
    """One that was made for the very level comes before a blind one."""
    put("sr-x2@1")
    blind()
    put("denoise_color-sigma25@1")
    bundled.rewrite()
    assert bundled.find("compacter", protocols.get(protocol)).name == name


@pytest.mark.parametrize(("arch", "protocol", "message"), [
    ("compacter", "sr-x4", r"no weights of compacter for sr-x4@2 are bundled. Bundled weights of "
                           r"compacter: denoise_color-blind@1 \(sigma 15 to 50\), sr-x2@1\."),
    ("compacter", "denoise_gray-sigma25", "Bundled weights of compacter:"),
    ("semanir-light", "sr-x2", r"Bundled weights exist for: compacter\.")])
def test_what_is_not_bundled_is_refused_with_what_is(folder, arch, protocol, message):
    put("sr-x2@1")
    blind()
    bundled.rewrite()
    with pytest.raises(UserError, match=message):
        bundled.find(arch, protocols.get(protocol))


def test_nothing_bundled_is_said(folder):
    with pytest.raises(UserError, match=r"for sr-x2@2 are bundled\. No weights are bundled\."):
        bundled.find("compacter", protocols.get("sr-x2"))


def world(tmp_path, **model):
    return tiny.make(tmp_path, models={"bicubic": {}, "compacter": {
        "checkpoint": "bundled", "profile": False, **model}}, cells=[
        {"protocol": protocol, "datasets": ["tinyset"], "models": ["compacter"]}
        for protocol in ("sr-x2", "denoise_color-sigma25", "denoise_color-sigma50")])


def test_a_config_takes_bundled_weights(folder, tmp_path, capsys):
    files = [put("sr-x2@1"), *[blind()] * 2]
    bundled.rewrite()
    run = plan.load(world(tmp_path, options=SMALL, variants={"exact": {"options": {
        "dsgm": "gated"}}}))
    for job, path in zip(run.cells.values(), [f for f in files for _ in range(2)], strict=True):
        digest = digests.file_digest(path)
        assert job.model.checkpoint == Checkpoint("file", path=str(path), sha256=digest)
        assert job.spec["model"]["checkpoint"] == {"kind": "file", "sha256": digest}
    assert cli.main(["eval", "--protocol", "denoise_color-sigma50", "--dataset", "tinyset",
                     "--model", "compacter"]) == 0
    record = run.find("cell", protocol="denoise_color-sigma50", dataset="tinyset",
                      model="compacter").record
    assert records.read(record)["resolved"] == {
        "checkpoint": digests.file_digest(files[1]), "weights": {
            "model": "c", "arch": "compacter", "protocol": "denoise_color-blind@1",
            "levels": {"sigma": [15, 50]}, "steps": 5}}
    # a tampered file is refused by name
    shutil.copy(files[0], files[1])
    assert cli.main(["eval", "--protocol", "denoise_color-sigma25", "--dataset", "tinyset",
                     "--model", "compacter"]) == 2
    assert f"{files[1]}: its SHA-256 begins" in capsys.readouterr().err


def test_what_bundled_weights_were_trained_on_is_known(folder, tmp_path):
    path = put("sr-x2@1")
    blind()
    config = world(tmp_path, options=SMALL)
    from irbench.data import sets

    digest = sets.digest(sets.get("tinytrain", [str(tmp_path)]))
    header = storage.read_header(path)
    state = storage.tensors(path, path.read_bytes())
    path.write_bytes(storage.pack(state, {
        **header, "datasets": [{"name": "tinytrain", "sha256": digest}]}))
    bundled.rewrite()
    known = plan.load(config).trained_on
    assert list(known["sr-x2@2/compacter"]) == ["tinytrain"]
    assert known["denoise_color-sigma25@1/compacter"] is None


@pytest.mark.parametrize(("model", "message"), [
    ({}, r"models: compacter: the bundled weights compacter-sr-x2 were trained with other options "
         r'.layers: 1, width: 12.. Give `options: {"layers":1,"width":12}`'),
    ({"training": {"recipe": "demo", "data": ["tinytrain"]}}, "either `training`"),
])
def test_a_config_that_cannot_have_them_is_refused(folder, tmp_path, model, message):
    put("sr-x2@1")
    bundled.rewrite()
    with pytest.raises(UserError, match=message):
        plan.load(world(tmp_path, **model))


def test_what_cannot_be_bundled_is_refused(folder, monkeypatch):
    before = bundled.CATALOG.read_bytes()
    path = put("sr-x2@1", name="mine")
    with pytest.raises(UserError, match="according to its header it is compacter-sr-x2"):
        bundled.rewrite()
    path.write_bytes(storage.pack({}, {"arch": "compacter"}))
    with pytest.raises(UserError, match="its header names no protocol and no options"):
        bundled.rewrite()
    path.write_bytes(storage.pack({}, {"arch": "compacter", "protocol": "sr-x2@1",
                                                "options": {}, "steps": "many"}))
    with pytest.raises(UserError, match=r"its header is broken \(steps\)"):
        bundled.rewrite()
    path.unlink()
    put("sr-x2@1")
    monkeypatch.setattr(bundled, "LIMIT", 1000)
    with pytest.raises(UserError, match="MB of weights; at most 0.001 MB are bundled"):
        bundled.rewrite()
    assert bundled.CATALOG.read_bytes() == before


def test_a_file_takes_the_place_of_its_like_only(folder, monkeypatch):
    first, other = put("sr-x2@1"), put("sr-x2@1", ratio=1, name="other")
    data, header = other.read_bytes(), storage.read_header(other)
    other.unlink()
    bundled.rewrite()
    before = first.read_bytes(), bundled.CATALOG.read_bytes()

    def kept():
        return (first.read_bytes(), bundled.CATALOG.read_bytes()) == before

    with pytest.raises(UserError, match=r"the bundled weights have other options \(ratio: 2\)"):
        bundled.add(data, header)
    assert kept()
    same = put("sr-x2@1").read_bytes()
    first.write_bytes(before[0])
    assert bundled.add(same, storage.read_header(first)) == first
    assert bundled.catalog()["compacter-sr-x2"].sha256 == digests.file_digest(first)
    before = first.read_bytes(), bundled.CATALOG.read_bytes()
    monkeypatch.setattr(bundled, "LIMIT", 1000)
    with pytest.raises(UserError, match="at most 0.001 MB are bundled"):
        bundled.add(same + b" ", storage.read_header(first))
    assert kept()
    with pytest.raises(UserError, match="according to its header it is compacter-sr-x2"):
        bundled.add(same, {**storage.read_header(first), "protocol": "sr-x9@1"})
    assert kept() and list(folder.iterdir()) == [first]


@pytest.mark.parametrize("text", ["[1, 2]", "a: {arch: b}", "a: b: c"])
def test_a_broken_catalog_is_said_so(folder, text):
    bundled.CATALOG.write_text(text)
    with pytest.raises(UserError, match="not a catalog of weights .*install irbench again"):
        bundled._read.__wrapped__(bundled.CATALOG, None)


def test_the_catalog_that_is_shipped_is_of_the_files_that_are_shipped(tmp_path, monkeypatch):
    shipped = bundled.CATALOG.read_bytes()
    monkeypatch.setattr(bundled, "CATALOG", tmp_path / "weights.yaml")
    bundled.rewrite()
    assert bundled.CATALOG.read_bytes() == shipped


def test_missing_weights_name_those_that_come_with_irbench(tmp_path, monkeypatch):
    """Where a config forgets them, and where its file is missing; not where there are none."""
    monkeypatch.chdir(tmp_path)
    cells = [{"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["compacter"]}]

    def planned(**models):
        return plan.load(tiny.make(tmp_path, models=models, cells=[
            {**cells[0], "models": list(models)}]))

    with pytest.raises(UserError, match=r"from a file\)\. irbench comes with weights for it: "
                       r'`checkpoint: bundled` and `options: {"skip":"input"}`\.$'):
        planned(compacter=None)
    with pytest.raises(UserError, match=r"from a file\)\.$"):
        planned(**{"semanir-b": None})
    for name, options, beside in (("compacter", {}, ' and `options: {"skip":"input"}`'),
                                  ("compacter", {"skip": "input"}, "")):
        run = planned(**{name: {"checkpoint": "none.pth", "options": options}})
        with pytest.raises(Unavailable) as caught:
            jobs.compute(run, next(iter(run.cells.values())))
        assert str(caught.value) == (
            "checkpoint none.pth: no such file. Correct the path of models.compacter. "
            f"irbench comes with weights for it: `checkpoint: bundled`{beside}.")
