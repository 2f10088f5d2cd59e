"""The wheel: its metadata, and the pipeline of an installed irbench far from any checkout."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
import yaml
from skimage import data

from irbench.core import records
from irbench.imaging.images import write_png
from irbench.plan import shipped, sources
from tests.helpers.paths import ROOT

NAME = "irbench-restoration"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def hook():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_become_absolute_and_others_stay(hook):
    text = ("![A picture](docs/a.png) and [a page](docs/b.md#part), [one](https://e.org/x.md), "
            "[below](#here), [mail](mailto:a@b.c), ![far](https://e.org/y.png)")
    assert hook.absolute(text, "https://github.com/o/n") == (
        "![A picture](https://raw.githubusercontent.com/o/n/main/docs/a.png) and "
        "[a page](https://github.com/o/n/blob/main/docs/b.md#part), [one](https://e.org/x.md), "
        "[below](#here), [mail](mailto:a@b.c), ![far](https://e.org/y.png)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nobody_is_told_to_install_the_other_irbench(page):
    """``irbench`` on PyPI is another project; ours is installed by its own name or from here."""
    told = re.findall(r"pip install[^\n`]*", page.read_text())
    assert not [line for line in told if re.search(r"\birbench(?!-restoration)\b(?!/)", line)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
                    "--no-build-isolation", "--wheel-dir", folder, ROOT], check=True)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_metadata_of_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        held = next(name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(held))
    assert metadata["Name"] == NAME
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    urls = dict(one.split(", ") for one in metadata.get_all("Project-URL"))
    assert urls == project["urls"]
    assert metadata.get_all("Classifier") and metadata["Keywords"]
    shown = metadata.get_payload()
    targets = re.findall(r"\]\(([^)\s]+)\)", shown)
    assert len(targets) > 5 and all(re.match(r"https?://|#", target) for target in targets)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", shown)
    assert pictures and all(one.startswith("https://raw.githubusercontent.com/")
                            for one in pictures)
    # every file of the workflow, once, and nothing of the tests
    inside = {name.removeprefix("irbench/pipeline/") for name in names
              if name.startswith("irbench/pipeline/")}
    tracked = {path.relative_to(ROOT).as_posix() for part in ("workflow", "profiles")
               for path in (ROOT / part).rglob("*") if path.is_file()}
    assert inside == {*tracked, "Snakefile", "config.yaml"}
    assert {name.partition("/")[0] for name in names} == {
        "irbench", held.partition("/")[0]}


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment with irbench alone; its other packages are those of this Python."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    place = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                           check=True, capture_output=True, text=True).stdout.strip()
    # a line of a .pth file is a folder of packages, but .pth files in that folder do not count:
    # so no editable irbench of this Python is seen
    Path(place, "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet",
                    "--no-deps", "--no-index", wheel], check=True)
    return folder


@pytest.mark.slow
def test_a_run_on_two_photographs_outside_the_checkout(installed, tmp_path):
    """All of it: catalog, bundled weights, records, report; the same code as in the checkout."""
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("PYTHONPATH", "IRBENCH_MIRROR", "VIRTUAL_ENV")}
    environment["PATH"] = "/usr/bin:/bin"       # the environment is not activated

    def irbench(*words):
        return subprocess.run([installed / "bin" / "irbench", *words], cwd=tmp_path, text=True,
                              env=environment, capture_output=True, timeout=900)

    for name in ("astronaut", "chelsea"):
        write_png(tmp_path / "photographs" / f"{name}.png", getattr(data, name)()[60:156, 90:218])
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"datasets": {"mine": {
        "title": "Mine", "use": "test", "tasks": [], "source": "scikit-image",
        "local": {"folder": "photographs"}}}}))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({
        "run": "two", "catalog_paths": ["mine.yaml"], "metrics": ["psnr", "ssim"],
        "models": {"bicubic": None, "compacter": {"options": {"skip": "input"},
                                                  "checkpoint": "bundled"}},
        "cells": [{"protocol": "sr-x2", "datasets": ["mine"], "models": ["bicubic", "compacter"]}],
        "profile": {"height": 32, "width": 32, "samples": 2}}))
    done = irbench("run", "--cores", "2")
    assert done.returncode == 0, done.stderr + done.stdout
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "run": "two", "report": "results/two/report.html", "jobs": 5, "without_result": 0}
    # the lines of the workflow show the scores
    assert re.search(r"cell sr-x2@2 / mine / bicubic: PSNR [\d.]+ dB, SSIM 0\.\d+ \(2 images",
                     done.stderr)
    page = (tmp_path / "results/two/report.html").read_text()
    assert "Compacter" in page
    record = records.read(tmp_path / "results/two/cells/sr-x2@2/mine/compacter.json")
    assert record["provenance"]["git"] is None      # not the commit of whatever lies around it
    means = {name: records.read(tmp_path / f"results/two/cells/sr-x2@2/mine/{name}.json")[
        "result"]["mean"]["psnr"] for name in ("bicubic", "compacter")}
    assert means["compacter"] > means["bicubic"] > 20
    # nothing is done twice, and the configs of irbench are known by name
    again = irbench("status")
    assert json.loads(again.stdout)["would_run"] == 0 and "report is current" in again.stderr
    planned = irbench("run", "--dry-run", "benchmark")
    assert planned.returncode == 0, planned.stderr
    assert "evaluate" in planned.stderr + planned.stdout
    assert irbench("init", "start").returncode == 0


@pytest.mark.slow
def test_an_installed_irbench_has_the_code_of_the_checkout(installed, tmp_path):
    """Its digests are those of the checkout, so that records move between the two."""
    code = ("import json, irbench; from irbench.plan import shipped, sources; print(json.dumps(["
            "irbench.__file__, str(shipped.home()), [sources.closure(kind).digest for kind in "
            "sources.ENTRIES]]))")
    done = subprocess.run([installed / "bin" / "python", "-c", code], cwd=tmp_path, text=True,
                          check=True, capture_output=True,
                          env={**os.environ, "PYTHONPATH": ""})
    where, home, digests = json.loads(done.stdout)
    assert Path(where).is_relative_to(installed) and Path(home).is_relative_to(installed)
    assert digests == [sources.closure(kind).digest for kind in sources.ENTRIES]
    assert shipped.home() == ROOT
