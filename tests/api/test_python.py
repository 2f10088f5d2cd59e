"""The public names of irbench, as a program uses them."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import irbench
from irbench import plan
from irbench.core import records
from irbench.imaging.images import write_png
from irbench.jobs import run as jobs
from irbench.jobs.result import RunSettings
from tests.helpers import tiny
from tests.helpers.paths import ROOT
from tests.helpers.refusals import followed

CLASS = '''
import torch

class Net(torch.nn.Module):
    """Nearest neighbours, with a weight."""

    def __init__(self, scale, gain=1.0):
        super().__init__()
        self.scale = scale
        self.gain = torch.nn.Parameter(torch.tensor(gain))

    def forward(self, x):
        return self.gain * torch.nn.functional.interpolate(x, scale_factor=self.scale)
'''
PSNR = {"metrics": ["psnr"], "progress": False, "device": "cpu"}


class Twice(torch.nn.Module):
    """A user's own module, which counts the passes it is asked for."""

    passes = 0

    def forward(self, x):
        self.passes += 1
        return torch.nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """More threads than free processors make such small pictures slow."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(CLASS)
    return tiny.make(tmp_path)


@pytest.fixture(scope="module")
def compacter():
    return irbench.load_model("compacter", "sr-x2", device="cpu")


# -- the face ----------------------------------------------------------------------------------

def test_importing_irbench_loads_nothing_heavy():
    code = ("import sys, irbench; irbench.__version__; dir(irbench); "
            "print(*{'torch', 'numpy', 'pandas', 'PIL', 'yaml'} & {*sys.modules})")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""


def test_lists_and_one_score_need_no_torch():
    code = ("import sys, irbench, numpy; irbench.list_models('sr-x2'); irbench.list_protocols();"
            "irbench.list_datasets(); x = numpy.zeros((32, 32), 'uint8');"
            "irbench.psnr(x, x + 1, 'sr-x2'); print('torch' in sys.modules)")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


@pytest.mark.parametrize("name", irbench.__all__)
def test_every_public_name_is_typed_and_explained(name):
    found = getattr(irbench, name)
    assert inspect.getdoc(found)
    if inspect.isfunction(found):
        signature = inspect.signature(found)
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(one.annotation is not one.empty for one in signature.parameters.values())


def test_type_checkers_are_told_that_irbench_is_typed():
    assert (Path(irbench.__file__).parent / "py.typed").is_file()


def test_an_unknown_name_is_an_ordinary_error():
    with pytest.raises(AttributeError, match="no attribute 'restor'"):
        irbench.restor  # noqa: B018


# -- models ------------------------------------------------------------------------------------

def test_a_model_by_name_restores_arrays_images_and_paths_alike(compacter, tmp_path):
    picture = tiny.photo(0, 20, 26)
    found = compacter(picture)
    assert found.shape == (40, 52, 3) and found.dtype == np.uint8
    assert (compacter.scale, compacter.channels) == (2, 3)
    write_png(tmp_path / "p.png", picture)
    for same in (Image.fromarray(picture), tmp_path / "p.png", str(tmp_path / "p.png")):
        restored = irbench.restore(same, compacter)
        assert isinstance(restored, Image.Image)
        assert np.array_equal(np.asarray(restored), found)
    smooth = compacter(picture.astype(np.float32) / 255)
    assert smooth.dtype == np.float32 and abs(smooth * 255 - found).max() < 20
    assert np.array_equal(np.round(np.clip(smooth, 0, 1) * np.float64(255)), found)


def test_gray_stays_gray(compacter):
    picture = tiny.photo(0, 16, 18)[..., 0]
    found = compacter(picture)
    assert found.shape == (32, 36)
    colour = compacter(np.repeat(picture[..., None], 3, -1)).astype(float)
    assert abs(colour.mean(-1) - found).max() <= 1
    assert irbench.restore(Image.fromarray(picture), compacter).mode == "L"
    deep = compacter(picture.astype(np.uint16) * 257)
    assert deep.dtype == np.uint16 and abs(deep / 257 - found).max() <= 0.51


def test_alpha_and_profile_are_kept(compacter):
    picture = tiny.photo(0, 16, 18)
    alpha = np.zeros((16, 18), np.uint8)
    alpha[:, 9:] = 255
    image = Image.fromarray(np.dstack([picture, alpha]))
    image.info["icc_profile"] = b"profile"
    found = irbench.restore(image, compacter)
    assert found.mode == "RGBA" and found.info["icc_profile"] == b"profile"
    assert np.array_equal(np.asarray(found)[..., :3], compacter(picture))
    enlarged = np.asarray(found)[..., 3]
    assert enlarged[:, :12].max() == 0 and enlarged[:, 24:].min() == 255


@pytest.mark.parametrize("picture, message", [
    (np.zeros((8, 8, 3)) + 3, r"float64 with values from 3 to 3.*give array / 255\."),
    (np.full((8, 8), np.nan, np.float32), "float32 with NaN"),
    (np.zeros((8, 8, 3), np.int64), "type int64"),
    (np.zeros((3, 8, 8), np.uint8), r"channels first: give array.transpose\(1, 2, 0\)"),
    (np.zeros((8, 8, 4), np.uint8), "Pillow image to keep its alpha"),
    (np.zeros((1, 8, 8, 3), np.uint8), r"shape \(1, 8, 8, 3\)"),
    (np.zeros((1, 8, 3), np.uint8), "each side must be at least 2"),
    (np.zeros((0, 8, 3), np.uint8), "has no pixel"),
    (np.ma.masked_array(np.zeros((8, 8), np.uint8), np.eye(8)), "masked values"),
    (Image.new("CMYK", (8, 8)), "colour space CMYK"),
    ([[0, 1]], "type list"),
    ("missing.png", "missing.png: No such file"),
])
def test_a_picture_is_never_guessed(compacter, picture, message):
    with pytest.raises(irbench.UserError, match=message):
        compacter(picture)


@pytest.mark.parametrize("picture", [
    np.full((8, 9, 3), 3.0), np.linspace(0, 255, 72).reshape(8, 9), np.full((8, 9), -0.1),
    np.full((8, 9), 1.3, np.float32), np.linspace(-40, 300, 72).reshape(8, 9),
    np.zeros((3, 8, 9), np.uint8), np.zeros((4, 8, 9), np.uint8), np.zeros((1, 8, 9), np.uint8),
    np.zeros((8, 9, 4), np.uint8), np.ma.masked_array(np.zeros((8, 9), np.uint8), np.ones((8, 9)),
                                                      fill_value=7),
])
def test_the_code_of_a_refusal_makes_a_valid_picture(compacter, picture):
    assert compacter(followed(picture, compacter)).shape[:2] == (16, 18)


def test_colours_are_not_given_to_a_gray_model(world):
    gray = irbench.load_model("input", "denoise_gray-sigma25")
    picture = tiny.photo(0, 12, 14)
    with pytest.raises(irbench.UserError, match="has colours, and input restores gray"):
        gray(picture)
    same = np.repeat(picture[..., :1], 3, -1)
    assert np.array_equal(gray(same), same[..., :1])


@pytest.mark.parametrize("form", ["gray", "three equal channels"])
def test_gray_pictures_are_not_given_to_a_model_for_colour_noise(world, form):
    picture = np.repeat(tiny.photo(0, 12, 14)[..., :1], 3, -1)
    picture = picture[..., 0] if form == "gray" else picture
    colour = irbench.load_model("input", "denoise_color-sigma25")
    with pytest.raises(irbench.UserError, match=r"is gray.*with denoise_gray-sigma25"):
        colour(picture)
    for other in ("denoise_gray-sigma25", "jpeg_color-q10"):
        found = irbench.load_model("input", other)(picture)
        assert np.array_equal(found, picture if other[0] == "j" else picture[..., :1]
                              if picture.ndim == 3 else picture)
    picture.flat[0] ^= 1
    if form != "gray":
        assert np.array_equal(colour(picture), picture)


def test_a_picture_that_memory_cannot_hold_is_refused(monkeypatch):
    from irbench.inference import budget

    model = irbench.load_model("bicubic", "sr-x2")
    monkeypatch.setattr(budget, "available", lambda device: 1000)
    with pytest.raises(irbench.UserError, match="^the picture of 20 x 26 pixels .* GiB are"):
        model(tiny.photo(0, 20, 26))


@pytest.mark.parametrize("arguments, message", [
    (("nothing", "sr-x2"), "unknown model 'nothing'.*torch.nn.Module"),
    (("compacter", "sr-x9"), "unknown protocol 'sr-x9'.*'sr-x2'"),
    (("compacter",), "which protocol. It has weights for .*sr-x2"),
    (("compacter", "deblur-motion"), "no weights of compacter for deblur-motion"),
    (("bicubic", "denoise_gray-sigma25"), "it does sr"),
    (("missing.pth", "sr-x2"), "missing.pth: no such file"),
    (("missing.py:Net", "sr-x2"), "missing.py: No such file"),
    (("net.py", "sr-x2"), "net.py: which model. It registers none"),
    (("net.py:Nat", "sr-x2"), "unknown name 'Nat'. Did you mean 'Net'"),
    ((3, "sr-x2"), "a model of type int"),
    ((torch.nn.Conv2d(3, 3, 1, device="meta"), "sr-x2"), "meta tensors"),
])
def test_what_is_no_model_is_refused_with_what_is(world, arguments, message):
    with pytest.raises(irbench.UserError, match=message):
        irbench.load_model(*arguments)


def test_the_valid_models_are_listed_once(world):
    with pytest.raises(irbench.UserError) as caught:
        irbench.load_model("compactr", "sr-x2")
    text = str(caught.value)
    assert text.count("Valid") == 1 and "Did you mean 'compacter'" in text


def test_options_that_do_not_change_weights_may_differ():
    usual = irbench.load_model("semanir-light", "sr-x2", device="cpu")
    other = irbench.load_model("semanir-light", "sr-x2", options={"k": 8}, device="cpu")
    picture = tiny.photo(0, 16, 18)
    assert not np.array_equal(usual(picture), other(picture))
    assert usual.fingerprint != other.fingerprint
    with pytest.raises(irbench.UserError, match="width"):
        irbench.load_model("semanir-light", "sr-x2", options={"width": 8})


def test_a_plugin_a_class_and_a_file_of_weights(world):
    picture = tiny.photo(0, 12, 14)
    net = irbench.load_model("net.py:Net", "sr-x2", options={"gain": 0.5})
    assert abs(net(picture)[::2, ::2] - picture * 0.5).max() <= 0.5
    torch.save({"gain": torch.tensor(0.25)}, "net.pth")
    other = irbench.load_model("net.py:Net", "sr-x2", weights="net.pth")
    assert abs(other(picture)[::2, ::2] - picture * 0.25).max() <= 0.5
    torch.save({"gian": torch.tensor(0.25)}, "wrong.pth")
    with pytest.raises(irbench.UserError, match=r"wrong\.pth.*gain"):
        irbench.load_model("net.py:Net", "sr-x2", weights="wrong.pth")
    with pytest.raises(irbench.UserError, match=r"^net\.py:Net: unknown option 'gaan'\. Did you "
                       r"mean 'gain'\? Valid: .*gain"):
        irbench.load_model("net.py:Net", "sr-x2", options={"gaan": 1})


def test_the_bundled_file_by_its_path_is_the_bundled_model(compacter):
    from irbench.weights import bundled

    path = bundled.catalog()["compacter-sr-x2"].path
    found = irbench.load_model(path, device="cpu")
    assert found.protocol == compacter.protocol
    picture = tiny.photo(0, 12, 14)
    assert np.array_equal(found(picture), compacter(picture))


def test_a_module_is_copied_and_left_as_it_was(world):
    module = Twice().train()
    model = irbench.load_model(module, "sr-x2", device="cpu")
    picture = tiny.photo(0, 12, 14)
    assert np.array_equal(model(picture), picture.repeat(2, 0).repeat(2, 1))
    assert module.training and module.passes == 0
    with pytest.raises(irbench.UserError, match="identity: it returned a tensor of shape"):
        irbench.load_model(torch.nn.Identity(), "sr-x2")(picture)
    with pytest.raises(irbench.UserError, match="loaded for sr-x2@2, not for sr-x4"):
        irbench.restore(picture, model, "sr-x4")


# -- evaluate ----------------------------------------------------------------------------------

def without_files(image):
    return {name: value for name, value in image.items() if name != "kept"}


def test_evaluate_gives_the_pipelines_record(world):
    found = irbench.evaluate("bicubic", "tinyset", "sr-x2", metrics=["psnr", "ssim"], device="cpu",
                             catalog_paths=(world.parent,), progress=False)
    planned = plan.load(world)
    job = planned.cells["sr-x2@2/tinyset/bicubic"]
    want = jobs.compute(planned, job, RunSettings(device="cpu"))
    assert found.mean == want.result["mean"] and found.complete
    assert found.record["result"]["images"] == [
        {**image, "file": None} for image in map(without_files, want.result["images"])]
    assert [found.images.loc[image["name"], "psnr"] for image in want.result["images"]] == [
        image["psnr"] for image in want.result["images"]]
    assert {**found.record["spec"], "keep_images": True} == job.spec
    records.check(found.record, "it")
    assert not Path("results/python").exists()
    assert str(found).startswith("bicubic on tinyset under sr-x2@2: PSNR ")


def test_a_module_gives_the_value_of_its_plugin(world):
    """A module in memory is scored like the same network in a run."""
    catalog = {"catalog_paths": (str(world.parent),), **PSNR}
    module = irbench.evaluate(Twice(), "tinyset", "sr-x2", **catalog)
    assert module.record["key"]["model"] == "twice"
    as_class = irbench.evaluate("net.py:Net", "tinyset", "sr-x2", **catalog)
    loaded = irbench.evaluate(irbench.load_model("net.py:Net", "sr-x2"), "tinyset", **catalog)
    assert module.mean == as_class.mean == loaded.mean
    older = irbench.evaluate(irbench.load_model("net.py:Net", "sr-x2"), "tinyset", "sr-x2@1",
                             **catalog)
    assert older.protocol == "sr-x2@1" and older.mean == loaded.mean    # no file is gray
    assert module.record["resolved"]["checkpoint"] != as_class.record["resolved"]["checkpoint"]


def test_a_quick_look_never_counts_as_the_set(world):
    found = irbench.evaluate("bicubic", "tinyset", limit=2, catalog_paths=(world.parent,), **PSNR)
    assert len(found.images) == 2 and not found.complete
    assert found.record["spec"]["limit"] == 2
    assert "2 images of the set, not its mean" in str(found)
    whole = irbench.evaluate("bicubic", "tinyset", limit=3, catalog_paths=(world.parent,), **PSNR)
    assert whole.complete and "limit" not in whole.record["spec"]
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(irbench.UserError, match="limit is"):
            irbench.evaluate("bicubic", "tinyset", limit=wrong)
    with pytest.raises(irbench.UserError, match="limit and run exclude"):
        irbench.evaluate("bicubic", "tinyset", limit=1, run="mine")


def test_a_record_is_kept_if_asked_for(world):
    before = torch.get_num_threads()
    found = irbench.evaluate("bicubic", "tinyset", run="mine", catalog_paths=(world.parent,),
                             threads=1, **PSNR)
    assert torch.get_num_threads() == before
    run = irbench.load_run("results/mine")
    assert run.cells.loc[0, "psnr"] == found.mean["psnr"]
    assert list(run.images["name"]) == ["img0", "img1", "img2"]


@pytest.mark.parametrize("changes, message", [
    ({"dataset": "tinysat"}, "^dataset: unknown dataset 'tinysat'. Did you mean 'tinyset'"),
    ({"dataset": "tinytrain"}, "is a train set"),
    ({"protocol": "deblur-motion"}, "clean images only"),
    ({"metrics": ["psnr", "pnsr"]}, "^metrics: unknown metric 'pnsr'"),
    ({"device": "tpu"}, "unknown device 'tpu'"),
    ({"run": "Results!"}, "the name 'Results!' is not valid"),
    ({"inference": {"tile": "big"}}, "tile"),
    ({"threads": 0}, "threads is 0"), ({"threads": "2"}, "threads is '2'"),
    ({"dataset": None}, "dataset is None"),
])
def test_what_cannot_be_evaluated_is_refused(world, changes, message):
    for model in ("net.py:Net", Twice()):
        given = {"dataset": "tinyset", "protocol": "sr-x2", "catalog_paths": (world.parent,),
                 **PSNR, **changes}
        with pytest.raises(irbench.UserError, match=message):
            irbench.evaluate(model, **given)


# -- runs and lists ----------------------------------------------------------------------------

def test_a_run_is_read_as_data_frames(world):
    planned = plan.load(world)
    for key in ("sr-x2@2/tinyset/bicubic", "jpeg_gray-q10@1/tinyset/input"):
        jobs.do(planned, planned.cells[key], RunSettings(device="cpu"))
    folder = planned.folder
    broken = folder / "cells/sr-x2@2/tinyset/broken.json"
    broken.write_text("{")
    run = irbench.load_run(folder)
    cells = run.cells.set_index("model")
    assert list(cells["status"]) == ["ok", "ok", "damaged"]
    record = records.read(folder / "cells/sr-x2@2/tinyset/bicubic.json")
    assert cells.loc["bicubic", "psnr"] == record["result"]["mean"]["psnr"]
    assert cells.loc["bicubic", "count"] == 3
    assert "not readable" in cells.loc["broken", "reason"]
    assert len(run.images) == 6
    page = (ROOT / "docs/python.md").read_text()
    for name in ("profiles", "trainings"):      # without a record, too, so that a program can go on
        told, = re.findall(rf"^\| `{name}` \| (.*) \|$", page, re.M)
        frame = getattr(run, name)
        assert frame.empty and list(frame.columns) == re.findall(r"`(\w+)`", told)
    with pytest.raises(irbench.UserError, match="no such folder"):
        irbench.load_run("results/none")
    with pytest.raises(irbench.UserError, match="it has no records"):
        irbench.load_run(".")


def test_profiles_and_trainings_are_data_frames(world):
    planned = plan.load(world)
    jobs.do(planned, planned.trainings["sr-x2@1/tiny"], RunSettings(device="cpu"))
    jobs.do(planned, planned.profiles["sr-x2@2/tiny"], RunSettings(device="cpu"))
    run = irbench.load_run(planned.folder)
    profile, training = run.profiles.iloc[0], run.trainings.iloc[0]
    assert profile["parameters"] > 0 and profile["latency_ms"] > 0 and profile["height"] == 16
    assert training["steps"] == 12 and Path(training["checkpoint"]).is_file()
    assert profile["parameters"] == training["parameters"]
    model = irbench.load_model("tiny_model.py:tiny", "sr-x2", weights=training["checkpoint"])
    assert model(tiny.photo(0, 8, 8)).shape == (16, 16, 3)


def test_lists_name_what_can_be_loaded(world):
    assert {"bicubic", "compacter", "swinir-m"} <= {*irbench.list_models("sr-x2")}
    assert "input" not in irbench.list_models("sr-x2")
    assert "semanir-b" in irbench.list_models()
    assert "semanir-b" not in irbench.list_models("sr-x2")     # it has no weights
    assert "tiny" in irbench.list_models(plugins=("tiny_model.py",))
    assert "sr-x2@1" in irbench.list_protocols("sr")
    assert not [one for one in irbench.list_protocols("sr") if not one.startswith("sr-")]
    assert "set5" in irbench.list_datasets("sr")
    assert "tinyset" in irbench.list_datasets(catalog_paths=(world.parent,))


def test_one_name_counts_as_a_list_of_one(world):
    world = world.parent
    assert irbench.evaluate("bicubic", "tinyset", "sr-x2", metrics="psnr", limit=1,
                            catalog_paths=str(world / "datasets.yaml")).mean.keys() == {"psnr"}
    assert irbench.list_models(plugins=world / "tiny_model.py") == irbench.list_models(
        plugins=[str(world / "tiny_model.py")])
    for listed in (irbench.list_datasets, irbench.list_protocols):
        assert listed(catalog_paths=str(world)) == listed(catalog_paths=(world,))
    assert irbench.score(world / "images/test", world / "images/test",
                         "denoise_color-sigma25", metrics="ssim").mean == {"ssim": 1.0}
    with pytest.raises(irbench.UserError, match="^metrics: unknown metric 'psnrr'"):
        irbench.evaluate("bicubic", "tinyset", "sr-x2", metrics="psnrr", catalog_paths=str(world))
