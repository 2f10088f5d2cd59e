"""Faults made on purpose in a real restoration: the gate names the cell of each, and only that.

Every score here is computed by ``irbench eval`` with weights bundled with irbench, on crops of real
photographs; no record is edited. What the faults cost was measured (crops of 128 x 128, mean PSNR
in dB, in brackets the image that moved most):

    a shift by one pixel                      -6.1
    BGR for RGB                               -8.9; turned back behind the network: -0.08 (0.27)
    a seam of tiles not written               -4.1
    a tile lost                               -5.1 at sr-x2; one of many at jpeg: -0.007 (0.028)
    k halved                                  -0.07 (0.15)
    weights rounded to 8 bit                  -0.03 (0.07) at denoising, +0.02 (0.065) at sr-x2
    AVX-512 or plain SSE, one or two threads  below 0.0001 in every image
"""

import json
import os
import subprocess
import sys

import pytest

from irbench import cli
from irbench.catalog import protocols
from irbench.core import records
from irbench.inference import tiling
from tests.helpers import planted
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A world whose cells are as they should be, and its baseline."""
    folder = planted.make(tmp_path_factory.mktemp("good"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        planted.evaluate(*planted.every())
        assert cli.main(["baseline", "write", "results/crops", "--output", "crops.json"]) == 0
    return folder


@pytest.fixture
def world(good, tmp_path, monkeypatch):
    """A copy of it, as working directory."""
    planted.copy(good, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(capsys, *arguments, stored=True):
    """Return the gate's exit code, and of each cell with a regression the messages.

    It judges scores as they are stored: a fault in code that several cells use makes the cells
    not evaluated anew outdated, too, and the gate would name them for that.
    """
    capsys.readouterr()
    code = cli.main(["check", "results/crops", "--baseline", "crops.json", "--format", "json",
                     *(["--stored"] if stored else []), *arguments])
    result = json.loads(capsys.readouterr().out)
    found = {}
    for one in result["findings"]:
        if one["level"] == "regression":
            found.setdefault(one["key"], []).append(one["message"])
    return code, found


def key(cell):
    """The name of a cell, PROTOCOL/MODEL, in a comparison."""
    protocol, model = cell.split("/")
    return f"{protocols.get(protocol).id}/crops/{model}"


def scores(folder):
    """Return the scores of every image of a run's cells."""
    return {"/".join(path.parts[-3:]): [(image["psnr"], image["ssim"]) for image in
                        records.read(path)["result"]["images"]]
            for path in sorted((folder / "results/crops/cells").glob("*/*/*.json"))}


@pytest.mark.parametrize(("fault", "cell"), [
    ("shift", "sr-x2/compacter"), ("bgr", "sr-x2/compacter"), ("bgr inside", "sr-x2/compacter"),
    ("lost tile", "sr-x2/tiled"), ("lost tile", "jpeg_color-q10/tiled")])
def test_a_fault_in_the_code_is_caught(world, capsys, fault, cell):
    planted.settle(world, fault)
    planted.evaluate(cell)
    code, found = check(capsys)
    assert code == 1
    assert list(found) == [key(cell)]


def test_cells_that_a_fault_reaches_and_nobody_evaluated_are_named_outdated(world, capsys):
    planted.settle(world, "shift")
    planted.evaluate("sr-x2/compacter")
    code, found = check(capsys, stored=False)
    assert (code, set(found)) == (1, {
        "sr-x2@2/crops/compacter", "sr-x2@2/crops/tiled", "jpeg_color-q10@1/crops/tiled"})
    assert all("outdated" in " ".join(messages) for name, messages in found.items()
               if name.endswith("tiled"))


def test_a_seam_of_tiles_that_is_not_written_is_caught(world, capsys, monkeypatch):
    """Off by one where tiles are blended: a row between two tiles belongs to neither."""
    weights = tiling.Cut.weights

    def short(self, length, scale):
        found = weights(self, length, scale)
        for value, (start, _) in zip(found[1:], self.spans(length)[1:], strict=True):
            value[scale * self.overlap // 2] = 0
            assert start > 0
        return found

    monkeypatch.setattr(tiling.Cut, "weights", short)
    planted.evaluate("jpeg_color-q10/tiled")
    code, found = check(capsys)
    assert (code, list(found)) == (1, ["jpeg_color-q10@1/crops/tiled"])


def test_half_of_k_is_caught(world, capsys):
    planted.settle(world, **{"semanir-light": {"options": {"k": 16}}})
    planted.evaluate("sr-x2/semanir-light")
    code, found = check(capsys)
    assert (code, list(found)) == (1, ["sr-x2@2/crops/semanir-light"])


@pytest.mark.parametrize(("cell", "asked"), [
    ("denoise_color-sigma25/semanir-light", []), ("sr-x2/compacter", ["--strict-weights"])])
def test_weights_rounded_to_8_bit_are_caught(world, capsys, cell, asked):
    """In the second cell the mean PSNR gains 0.02 dB, which only ``--strict-weights`` fails."""
    protocol, model = cell.split("/")
    name = f"{model}-{protocols.get(protocol).id}"
    state = planted.rounded(planted.tensors(planted.WEIGHTS[name]))
    planted.save(world / f"{name}.safetensors", state)
    planted.evaluate(cell)
    if asked:
        assert check(capsys) == (0, {})
    code, found = check(capsys, *asked)
    assert (code, list(found)) == (1, [key(cell)])


def test_the_same_run_twice_is_no_change(world, good, capsys):
    planted.evaluate(*planted.every())
    assert scores(world) == scores(good)
    assert check(capsys, stored=False) == (0, {})
    assert cli.main(["compare", "crops.json", "results/crops"]) == 0
    assert "no change" in capsys.readouterr().out


def test_other_hardware_raises_no_alarm(world, good, capsys):
    """Other instructions of the processor and another number of threads: other roundings."""
    other = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41",
             "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
    program = "from tests.helpers import planted; planted.evaluate(*planted.every())"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120,
                   env={**os.environ, **other, "PYTHONPATH": str(ROOT)})
    now, before = scores(world), scores(good)
    # the arithmetic really is another
    assert now != before
    assert all(abs(a - b) < 1e-4 for name in now
               for one, other in zip(now[name], before[name], strict=True)
               for a, b in zip(one, other, strict=True))
    assert check(capsys) == (0, {})
    assert check(capsys, "--exact") == (0, {})
