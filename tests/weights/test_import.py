"""Import other people's weights: architecture and protocol must be known or given, and fit."""

import pytest
import torch

from irbench.catalog import protocols
from irbench.core.errors import UserError
from irbench.weights import bundled, export, loading
from tests.helpers.weights import SIGMA, SR, built, equal, load, model


def imported(path, folder, plugin, **wanted):
    return export.import_weights(path, folder, export.Wanted(plugins=plugin, **wanted))


def test_a_state_dict_is_imported_for_a_named_model(plugin, tmp_path):
    state = built(plugin).state_dict()
    torch.save({"params_ema": state}, tmp_path / "Their Net v1.pth")
    path, header = imported(tmp_path / "Their Net v1.pth", tmp_path / "data", plugin, arch="tiny",
                            protocol="sr-x2")
    assert path == tmp_path / "data/checkpoints/their-net-v1.safetensors"
    assert header["imported"]["file"] == "Their Net v1.pth" and header["protocol"] == "sr-x2@1"
    assert equal(load(plugin, path), state)
    assert "datasets" not in header  # unknown
    again, _ = imported(tmp_path / "Their Net v1.pth", tmp_path / "data", plugin, arch="tiny",
                        protocol="sr-x2")
    assert again == path
    torch.save(built(plugin, seed=2).state_dict(), tmp_path / "Their Net v1.pth")
    with pytest.raises(UserError, match="other weights have this name. Choose another"):
        imported(tmp_path / "Their Net v1.pth", tmp_path / "data", plugin, arch="tiny",
                 protocol="sr-x2")


@pytest.mark.parametrize(("wanted", "message"), [
    ({}, "it has no header. Give --model and --protocol"),
    ({"arch": "tiny"}, "Give --model and --protocol"),
    ({"arch": "tinny", "protocol": "sr-x2"}, "unknown model 'tinny'. Did you mean 'tiny'"),
    ({"arch": "tiny", "protocol": "sr-x9"}, "unknown protocol"),
    ({"arch": "tiny", "protocol": "sr-x3"}, r"does not fit tiny for sr-x3@1: .*last.weight: \["),
    ({"arch": "tiny", "protocol": "demosaic-rggb"}, "tiny cannot do demosaic-rggb@1"),
    ({"arch": "tiny", "protocol": "sr-x2", "options": {"depth": 3}}, "unknown option of tiny"),
    ({"arch": "tiny", "protocol": "sr-x2", "options": {"width": -1}}, "do not fit tiny"),
    ({"arch": "tiny", "protocol": "sr-x2", "sha256": "0" * 64}, "expected 0000.*Get the right one"),
    ({"arch": "tiny", "protocol": "sr-x2", "name": "../x"}, "--name '../x': names hold"),
    ({"arch": "bicubic", "protocol": "sr-x2"}, "bicubic has no weights to import"),
])
def test_a_state_dict_that_does_not_fit_is_refused(plugin, tmp_path, wanted, message):
    torch.save(built(plugin).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=message):
        imported(tmp_path / "w.pth", tmp_path / "data", plugin, **wanted)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("option", "wanted"), [
    ("model", {"arch": "compacter"}), ("protocol", {"protocol": "sr-x3"}),
    ("options", {"options": {"width": 5}})])
def test_options_must_agree_with_the_header_of_an_own_file(plugin, tmp_path, option, wanted):
    path = tmp_path / "a.safetensors"
    loading.save(path, built(plugin).state_dict(), model(plugin), SR)
    with pytest.raises(UserError, match=f"a.safetensors: .*Omit --{option}"):
        imported(path, tmp_path / "data", plugin, **wanted)
    assert imported(path, tmp_path / "data", plugin, arch="tiny", protocol="sr-x2@2",
                    options={"width": 4})[0].name == "tiny-sr-x2.safetensors"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_not_imported(plugin, tmp_path, value):
    state = built(plugin).state_dict()
    state["last.bias"][3] = value
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match="w.pth: last.bias has values that are NaN or infinite"):
        imported(tmp_path / "w.pth", tmp_path / "data", plugin, arch="tiny", protocol="sr-x2")


def test_the_name_of_a_bundled_file_is_not_taken(plugin, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    loading.save(path, built(plugin).state_dict(), model(plugin), SR)
    monkeypatch.setattr(bundled, "catalog", lambda: {"tiny-sr-x2": None})
    with pytest.raises(UserError, match="--name tiny-sr-x2: bundled weights have this name"):
        imported(path, tmp_path / "data", plugin, name="tiny-sr-x2")
    assert imported(path, tmp_path / "data", plugin)[0].name == "tiny-sr-x2-imported.safetensors"


@pytest.mark.parametrize("protocol", ["denoise_color-sigma25", "denoise_color-blind",
                                      "denoise_color-blind@1"])
def test_a_blind_state_dict_is_imported_for_its_range(plugin, tmp_path, protocol):
    state = built(plugin, protocols.get("denoise_color-sigma25")).state_dict()
    torch.save(state, tmp_path / "w.pth")
    path, header = imported(tmp_path / "w.pth", tmp_path / "data", plugin, arch="tiny",
                            protocol=protocol, levels=SIGMA)
    assert (header["protocol"], header["levels"]) == ("denoise_color-blind@1", SIGMA)
    for level in (15, 25, 50):
        assert equal(load(plugin, path, protocols.get(f"denoise_color-sigma{level}")), state)
    # a file of ours knows its range
    assert imported(path, tmp_path / "data", plugin, name="again", protocol=protocol, levels=SIGMA)
    with pytest.raises(UserError, match="Omit --levels"):
        imported(path, tmp_path / "data", plugin, levels={"sigma": [15, 30]})


@pytest.mark.parametrize(("protocol", "levels", "message"), [
    ("denoise_color-blind", None, "give the range, such as --levels sigma=15,50"),
    ("denoise_color-blind", {"sigma": [50, 15]}, "sigma=50,15: valid is"),
    ("denoise_color-blind", {"sigma": [15, float("nan")]}, "valid is"),
    ("denoise_color-blind", {"loudness": [1, 2]}, "valid is"),
    ("denoise_color-blind", {"quality": [10, 40]}, "contains no level of --protocol"),
    ("denoise_color-blind@9", SIGMA, "contains no level of --protocol"),
    ("sr-x2", SIGMA, "contains no level of --protocol sr-x2"),
    ("denoise_color-sigma25", {"sigma": [30, 50]}, "contains no level of --protocol")])
def test_a_range_that_is_none_is_refused(plugin, tmp_path, protocol, levels, message):
    torch.save(built(plugin).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=message):
        imported(tmp_path / "w.pth", tmp_path / "data", plugin, arch="tiny", protocol=protocol,
                 levels=levels)
