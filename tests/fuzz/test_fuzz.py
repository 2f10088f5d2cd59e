"""No file that a person can hand over gives a traceback, a hang or a half-written file.

A few inputs are tried by default. Ten thousand of them, by command (about 20 minutes):

    IRBENCH_FUZZ=10000 pytest tests/fuzz -n 0
"""

import contextlib
import io
import itertools
import json
import math
import shutil

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, note
from hypothesis import strategies as st
from PIL import Image

from irbench import cli, plan
from irbench.catalog import manifest, protocols, reader
from irbench.compare import baseline, gate, gate_formats, loading, tolerances
from irbench.core import digests, files, headers, records
from irbench.core.errors import UserError
from irbench.data import sets
from irbench.imaging import images
from irbench.plan import file as plan_file
from irbench.weights import storage
from tests.fuzz import hostile
from tests.fuzz.hostile import EACH, damaged, documents, settle
from tests.helpers import compare_fixtures, tiny

COUNTER = itertools.count()     # a new name for each input, since catalogs are read once by name
CATALOG = {
    "datasets": {
        "here": {"title": "Here", "use": "test", "tasks": ["sr"], "source": "made",
                 "local": {"folder": "images/test"}},
        "listed": {"title": "Listed", "use": "test", "tasks": [], "source": "made",
                   "manifest": "listed.csv"},
        "pairs": {"title": "Pairs", "use": "test", "tasks": ["deblur"], "source": "made",
                  "local": {"folder": "images", "input": "test/*.png", "target": "train/*.png"}},
        "archived": {"title": "Archived", "use": "train", "tasks": [], "source": "made",
                     "archive": {"urls": [{"url": "https://x.invalid/a.zip", "sha256": "0" * 64}],
                                 "images": "**/*.png"}}},
    "protocols": dict(list(reader.parse(reader.BUILTIN / "protocols.yaml")[
        "protocols"].items())[::9])}
MANIFEST = "role,file,url,sha256,bytes\n" + "".join(
    f"hr,img{k}.png,https://x.invalid/{k}.png,{str(k) * 64},{k + 10}\n" for k in range(4))
TOLERANCES = {"quality": {"psnr": {"mean": 0.02, "image": 0.1}, "ssim": None},
              "exact": {"gate": True, "psnr": 0.01}, "weights": {"gate": True},
              "size": {"parameters": 0.1}, "speed": {"gate": False, "latency": 1.5, "p": 0.05},
              "overrides": [{"match": "sr-*/*/compacter", "reason": "x",
                             "quality": {"psnr": {"mean": 1}}}]}
HEADER = {
    "arch": "tiny", "protocol": "sr-x2@1", "options": {"width": 4}, "parameters": 1300,
    "title": "Tiny", "steps": 12, "seconds": 1.5, "data": ["tinytrain"], "device": "cpu",
    "levels": {"sigma": [15, 50]}, "exclude": {"a": ["b"]}, "recipe": {"recipe": "demo", "lr": 0.1},
    "hardware": {"device": "cpu", "threads": 1, "processes": 1, "device_name": "x"},
    "scores": [{"protocol": "sr-x2@1", "dataset": "set5", "count": 5, "psnr": 33.1}]}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a config and a run, as working directory."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "listed.csv").write_text(MANIFEST)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tiny.make_everything(folder)
        compare_fixtures.make(folder, "run")
        baseline.write(folder / "base.json", loading.load(folder / "run"))
        yield folder


@pytest.fixture(scope="module")
def network(world):
    """The weights of a tiny network, by name."""
    return {"first.weight": torch.zeros(4, 3, 3, 3), "first.bias": torch.ones(4),
            "last.weight": torch.zeros(12, 4, 3, 3), "last.bias": torch.zeros(12)}


def command(*words):
    """Run irbench as a person does; return its exit code."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = settle(cli.main, list(map(str, words)))
    assert code in (0, 1, 2, 3) and "Traceback" not in err.getvalue(), err.getvalue()
    return code


def yaml_text(value):
    """Return a document as YAML, or as JSON where YAML's writer refuses it."""
    try:
        return yaml.safe_dump(value, allow_unicode=True, sort_keys=False)
    except yaml.YAMLError:
        return json.dumps(value)


# -- configs, catalogs, manifests --------------------------------------------------------------

@given(st.data())
@EACH
def test_configs(world, data):
    sound = yaml.safe_load((world / "config.yaml").read_text())
    value = data.draw(documents(sound))
    path = world / f"config{next(COUNTER)}.yaml"
    path.write_text(yaml_text(value))
    made = settle(plan.load, path, folder=world)
    if not isinstance(made, UserError):
        # what is planned can be written and read again, in a folder that a run may have
        assert made.folder.parent.name == "results" and "/" not in made.config["run"]
        settle(plan_file.write, made, folder=world)
        assert [job.spec for job in plan_file.read(made.run_folder.plan).jobs()] == [
            job.spec for job in made.jobs()]
        shutil.rmtree(made.folder)
    path.unlink()


@given(st.data())
@EACH
def test_plans(world, data):
    """The file that each job of the workflow reads."""
    path = world / "results" / "tiny" / "plan.json"
    if not path.exists():
        plan_file.write(plan.load("config.yaml"))
    sound = path.read_text()
    try:
        path.write_text(json.dumps(data.draw(documents(json.loads(sound)))))
        found = settle(plan_file.read, path)
        if not isinstance(found, UserError):
            settle(found.jobs)
    finally:
        path.write_text(sound)


@given(st.data())
@EACH
def test_configs_as_bytes(world, data):
    path = world / f"bytes{next(COUNTER)}.yaml"
    path.write_bytes(data.draw(damaged((world / "config.yaml").read_bytes())))
    settle(plan.load, path, folder=world)
    path.unlink()


@given(st.data())
@EACH
def test_catalogs(world, data):
    path = world / f"catalog{next(COUNTER)}.yaml"
    path.write_text(yaml_text(data.draw(documents(CATALOG))))
    found = settle(sets.catalog, [path], world / "data", folder=world)
    settle(protocols.catalog, (str(path),))
    if not isinstance(found, UserError):
        for name in set(CATALOG["datasets"]) & set(found):
            settle(sets.state, found[name], world / "data", folder=world)
    path.unlink()


@given(damaged(MANIFEST.encode()))
@EACH
def test_manifests(world, content):
    path = world / f"manifest{next(COUNTER)}.csv"
    path.write_bytes(content)
    rows = settle(manifest.read_manifest, path)
    if not isinstance(rows, UserError):
        assert all(row.bytes > 0 and "/" not in row.file and "\n" not in row.file for row in rows)
        assert len({(row.role, row.name) for row in rows}) == len(rows) > 0
    path.unlink()


# -- records, tolerances, baselines ------------------------------------------------------------

@given(st.data())
@EACH
def test_records(world, data):
    """A record whose digests fit, as of another program; the run with it can still be judged."""
    place = world / "run" / data.draw(st.sampled_from(
        [compare_fixtures.CELL, compare_fixtures.PROFILE]))
    sound = place.read_text()
    value = data.draw(documents(json.loads(sound)))
    if isinstance(value, dict) and data.draw(st.booleans()):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            value["fingerprint"] = digests.fingerprint(
                {"spec": value["spec"], "resolved": value["resolved"]})
            value["result_digest"] = records.result_digest(value["result"])
    try:
        place.write_text(json.dumps(value))
        note(place.name)
        found = settle(records.read, place)
        if not isinstance(found, UserError):
            assert found["schema_version"] == records.SCHEMA_VERSION
        judged = settle(judge, world)
        assert isinstance(judged, UserError) or json.loads(gate_formats.json(judged))
        for form in gate_formats.FORMATS.values():
            if not isinstance(judged, UserError):
                form(judged)
    finally:
        place.write_text(sound)


def judge(world, base="base.json", limits=None):
    return gate.check(loading.load(world / base), loading.load(world / "run"),
                      limits or tolerances.load())


@given(st.data())
@EACH
def test_tolerances(world, data):
    path = world / f"tolerances{next(COUNTER)}.yaml"
    path.write_text(yaml_text(data.draw(documents(TOLERANCES))))
    limits = settle(tolerances.load, path)
    if not isinstance(limits, UserError):
        assert all(math.isfinite(number) for number in numbers(limits.common))
        settle(judge, world, "base.json", limits)
    path.unlink()


def numbers(value):
    if isinstance(value, dict):
        for inner in value.values():
            yield from numbers(inner)
    elif isinstance(value, int | float):
        yield value


@given(st.data())
@EACH
def test_baselines(world, data):
    path = world / f"base{next(COUNTER)}.json"
    path.write_text(json.dumps(data.draw(documents(json.loads(
        (world / "base.json").read_text())))))
    settle(judge, world, path.name, folder=world)
    path.unlink()


# -- images ------------------------------------------------------------------------------------

def encoded(suffix, mode, **how):
    made = Image.fromarray(tiny.photo(3, 24, 30)).convert(mode)
    out = io.BytesIO()
    made.save(out, suffix, **how)
    return out.getvalue()


IMAGES = [encoded("PNG", "RGB"), encoded("PNG", "L"), encoded("PNG", "P"), encoded("BMP", "RGB"),
          encoded("JPEG", "RGB"), encoded("TIFF", "RGB"), encoded("TIFF", "L"),
          encoded("PPM", "RGB"), encoded("WEBP", "RGB", lossless=True)]


@given(st.sampled_from(IMAGES).flatmap(damaged))
@EACH
def test_images(content):
    image = settle(images.decode, content, "an image")
    if not isinstance(image, UserError):
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] in (1, 3)
        assert image.size


# -- checkpoints and cards ---------------------------------------------------------------------

@given(st.data())
@EACH
def test_checkpoints(world, network, data):
    out = io.BytesIO()
    torch.save(network, out)
    sound = data.draw(st.sampled_from([storage.pack(network, HEADER), out.getvalue()]))
    path = world / f"weights{next(COUNTER)}.pth"
    path.write_bytes(data.draw(damaged(sound)))
    code = command("checkpoints", "import", path, "--model", "tiny", "--protocol", "sr-x2",
                   "--config", "config.yaml", "--data-root", "imports")
    left = [one for one in (world / "imports").rglob("*") if one.is_file()]
    assert len(left) == (code == 0), left
    for one in left:        # whole, and as read again
        assert settle(storage.read_header, one)["arch"] == "tiny"
    shutil.rmtree(world / "imports", ignore_errors=True)
    path.unlink()


@given(st.data())
@EACH
def test_cards(world, network, data):
    header = data.draw(documents(HEADER))
    if not isinstance(header, dict):
        header = {"arch": header}
    headers.checked(header)
    headers.wrong(header)
    path = world / f"card{next(COUNTER)}.safetensors"
    try:
        path.write_bytes(storage.pack(network, header))
    except ValueError:      # NaN: not a header that JSON can hold
        return
    command("checkpoints", "show", path, "--config", "config.yaml")
    command("checkpoints", "show", path, "--config", "config.yaml", "--json")
    path.unlink()


def test_the_number_of_targets_is_right():
    """The inputs asked for are divided among the targets."""
    assert sum(name.startswith("test_") for name in globals()) - 1 == hostile.TARGETS
    assert files.TEMPORARY.fullmatch(".a.0123abcd.json")
