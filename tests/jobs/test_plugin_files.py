"""What a plugin's code uses beside its own imports counts: a changed file makes records stale."""

import json
import os
import py_compile
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import irbench
from irbench import plan
from irbench.core import digests, plugin_files
from irbench.jobs import run as jobs
from irbench.jobs import verify
from irbench.jobs.result import RunSettings
from irbench.report import collect
from tests.helpers import tiny


@pytest.fixture(autouse=True)
def own_modules(tmp_path):
    """Let no module of one test's folder stay for the next test, whose files have the same names.
    """
    yield
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.startswith(str(tmp_path)):
            del sys.modules[name]


CODE = """
import importlib, importlib.util, json, os, sys
from pathlib import Path
import numpy as np
import torch
from torch import nn
{head}
HERE = Path(__file__).parent
CARDS = {{"net": {{"title": "Net", "builder": "build", "tasks": ["denoise_color"],
                 "in_paper": False, "source": "tests", "learned": {learned}}}}}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        {init}

    def forward(self, x):
        {forward}
        return x + 0.1 * self.conv(x)


def build(task, scale, channels):
    {build}
    return Net()
"""
PATH = 'sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))'


def arrays(path, value):
    {".npy": lambda: np.save(path, np.full(2, value)),
     ".pth": lambda: torch.save({"gain": torch.tensor(value)}, path),
     ".safetensors": lambda: save_file({"gain": torch.tensor(value)}, path),
     ".json": lambda: path.write_text(json.dumps(value)),
     ".txt": lambda: path.write_text(str(value)), ".lib": lambda: path.write_text(str(value)),
     ".py": lambda: path.write_text(f"GAIN = {value}  # a remark\n")}[path.suffix]()


# how the file is used: where in the code, the statement, the file
WAYS = {
    "sys.path in the head": ("head", f"{PATH}\nimport uf_head", "lib/uf_head.py"),
    "sys.path.append in the builder": (
        "build", f"{PATH.replace('insert(0, ', 'append(')}; import uf_build",
        "lib/uf_build.py"),
    "a computed name": ("head", f'{PATH}\nimportlib.import_module("uf_" + "named")',
                        "lib/uf_named.py"),
    "a file by its path": (
        "head", 'one = importlib.util.spec_from_file_location("uf_path", Path(__file__).parent / '
        '"lib/uf_path.py"); two = importlib.util.module_from_spec(one); '
        "one.loader.exec_module(two)", "lib/uf_path.py"),
    "json in the head": ("head", 'json.load(open(Path(__file__).with_name("a.json")))', "a.json"),
    "npy at construction": ("init", 'np.load(HERE / "a.npy")', "a.npy"),
    "pth at construction": ("init", 'torch.load(HERE / "a.pth")', "a.pth"),
    "safetensors at construction": (
        "init", 'from safetensors.torch import load_file; load_file(HERE / "data" / '
        '"a.safetensors")', "data/a.safetensors"),
    "a compiled library": (     # what is no library is refused after it was looked at
        "init", "import contextlib, ctypes\n        with contextlib.suppress(OSError): "
        'ctypes.CDLL(str(HERE / ("a" + ".lib")))', "a.lib"),
    "text in the forward pass": ("forward", '(HERE / "a.txt").read_text()', "a.txt"),
}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Return a function that writes a plugin and plans a run with it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)

    def make(learned=False, **parts):
        entry = {"training": {"recipe": "demo", "data": ["tinytrain"], "steps": 2, "patch": 12,
                              "batch": 2}} if learned else {}
        path = tiny.make(tmp_path, models={"net": entry}, cells=[
            {"protocol": "denoise_color-sigma25", "datasets": ["tinyset"], "models": ["net"]}],
            metrics=["psnr"], plugins=["net.py"], keep_images=False)
        (tmp_path / "net.py").write_text(CODE.format(**{
            "learned": learned, **dict.fromkeys(("head", "init", "forward", "build"), "pass"),
            **parts}))
        return path
    return make


def run(path, kind="cell"):
    planned = plan.load(path)
    job = next(one for one in planned.jobs() if one.kind == kind)
    return job, jobs.do(planned, job, RunSettings())


def found(path, job):
    """What verify and the report say of the record of a job, planned anew."""
    planned = plan.load(path)
    job = next(one for one in planned.jobs() if one.key == job.key and one.kind == job.kind)
    shown = collect.collect(planned.folder, planned.report_spec)
    cell = shown.cells[0] if job.kind == "cell" else None
    return verify.Records(planned).find(job), cell


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_a_plugin_uses_counts(world, tmp_path, way):
    place, statement, name = WAYS[way]
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    arrays(file, 0.9)
    path = world(**{place: statement})
    job, record = run(path)
    assert [one["file"] for one in record["resolved"][plugin_files.NOTED]] == [name]
    state, cell = found(path, job)
    assert state.state == verify.CURRENT and cell.status == "ok"
    arrays(file, 0.5)
    state, cell = found(path, job)
    assert state.state == "stale" and name in state.reason
    assert cell.status == "outdated" and name in cell.reason
    file.unlink()
    assert found(path, job)[0].state == "stale"
    arrays(file, 0.9)
    assert found(path, job)[0].state == verify.CURRENT


def test_prose_in_a_module_does_not_count(world, tmp_path):
    (tmp_path / "lib").mkdir()
    file = tmp_path / "lib/uf_prose.py"
    file.write_text("GAIN = 1  # one\n")
    path = world(head=f"{PATH}\nimport uf_prose")
    job, _ = run(path)
    file.write_text("GAIN = 1  # another remark\n")
    assert found(path, job)[0].state == verify.CURRENT


def test_a_file_that_is_looked_for_in_vain_counts_once_it_comes(world, tmp_path):
    path = world(build="\n    ".join(["try:", '    open(HERE / "more.txt")',
                                      "except FileNotFoundError:", "    pass"]))
    job, record = run(path)
    assert record["resolved"][plugin_files.NOTED] == [{"file": "more.txt", "sha256": None}]
    (tmp_path / "more.txt").write_text("1")
    assert found(path, job)[0].state == "stale"


def test_files_that_it_imports_by_a_statement_and_of_libraries_are_not_noted(world, tmp_path,
                                                                             monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "beside.py").write_text("GAIN = 1\n")
    path = world(head="import beside, wave", init="import sqlite3; open('/proc/stat').close(); "
                 "open('new.txt', 'w').close(); open('new.txt').close(); os.remove('new.txt')")
    assert plugin_files.NOTED not in run(path)[1]["resolved"]


def test_trainings_and_profiles_note_them_too(world, tmp_path):
    arrays(tmp_path / "a.json", 1.0)
    path = world(learned=True, init='json.load(open(HERE / "a.json"))')
    done = [run(path, kind) for kind in ("training", "cell", "profile")]
    for _, record in done:
        assert [one["file"] for one in record["resolved"][plugin_files.NOTED]] == ["a.json"]
    arrays(tmp_path / "a.json", 2.0)
    assert {found(path, job)[0].state for job, _ in done} == {"stale"}


METRIC = """
import os, sys
from pathlib import Path
{head}
METRICS = {{"mine": {{"title": "Mine", "function": "mine"}}}}


def mine(restored, target):
    return {value}
"""


@pytest.mark.parametrize("head, value, name", [
    (f"{PATH}\nimport uf_metric", "uf_metric.GAIN", "lib/uf_metric.py"),
    ("", 'float(Path(__file__).with_name("v.txt").read_text())', "v.txt")])
def test_metrics_note_them_too(tmp_path, monkeypatch, head, value, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "met.py").write_text(METRIC.format(head=head, value=value))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    arrays(tmp_path / name, 1.0)
    path = tiny.make(tmp_path, models={"bicubic": {}}, metrics=["psnr", "mine"], cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["bicubic"]}],
        metric_plugins=["met.py"])
    job, record = run(path)
    assert record["result"]["mean"]["mine"] == 1
    assert found(path, job)[0].state == verify.CURRENT
    arrays(tmp_path / name, 2.0)
    assert name in found(path, job)[0].reason


def test_a_module_that_another_plugin_imported_before_counts_for_both(world, tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/uf_shared.py").write_text(
        'GAIN = open(__file__.replace("uf_shared.py", "g.txt")).read()\n')
    (tmp_path / "lib/g.txt").write_text("1")
    names = []
    for remark in ("A = 1", "A = 2"):   # another file of code, thus another plugin
        path = world(head=f"{PATH}\nimport uf_shared\n{remark}")
        moved = tmp_path / f"net{remark[-1]}.py"
        (tmp_path / "net.py").rename(moved)
        path.write_text(path.read_text().replace("net.py", moved.name))
        record = run(path)[1]
        names.append([one["file"] for one in record["resolved"][plugin_files.NOTED]])
    assert names == [["lib/g.txt", "lib/uf_shared.py"]] * 2


def test_a_class_of_a_file_without_cards_has_all_its_files_in_the_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    (tmp_path / "beside.py").write_text("GAIN = 1\n")
    (tmp_path / "plain.py").write_text(
        "import torch, beside\n\n\nclass Net(torch.nn.Module):\n"
        "    def forward(self, x):\n        open('a.txt').close()\n        return x * 1.0\n")
    (tmp_path / "a.txt").write_text("1")
    monkeypatch.syspath_prepend(str(tmp_path))
    record = irbench.evaluate("plain.py:Net", "tinyset", "denoise_color-sigma25", limit=1,
                              metrics=["psnr"], catalog_paths=(str(tmp_path),)).record
    noted = {one["file"]: one["sha256"] for one in record["resolved"][plugin_files.NOTED]}
    assert sorted(noted) == ["a.txt", "beside.py", "plain.py"] and all(noted.values())


@pytest.mark.parametrize("noted", [None, 5, "text", [5], [{}], {"a": 1}])
def test_a_record_of_another_form_is_no_error(noted):
    assert plugin_files.changed({plugin_files.NOTED: noted}) == []
    assert plugin_files.changed({}) == []


def test_a_hostile_name_is_a_changed_file():
    for name in ("a\0b", "/dev/zero", "/dev/zero/x", "a" * 5000, "\udcff"):
        assert plugin_files.changed({plugin_files.NOTED: [
            {"file": name, "sha256": "0" * 64}]}) == [name]


def test_files_that_an_earlier_process_noted_count(tmp_path, monkeypatch):
    """A cell that goes on after a stop does not read again what only finished images needed."""
    monkeypatch.chdir(tmp_path)
    plugin, data = tmp_path / "earlier.py", tmp_path / "table.json"
    plugin.write_text("x = 1\n")
    data.write_text("[1]")
    assert plugin_files.used([plugin]) == []
    noted = [{"file": "table.json", "sha256": digests.file_digest(data)}]
    plugin_files.recall(plugin, {plugin_files.NOTED: noted})
    assert plugin_files.used([plugin]) == noted


def test_an_edited_module_or_file_counts_in_the_same_process(tmp_path, monkeypatch):
    """A notebook evaluates, its user edits a file beside the network, and it evaluates again."""
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    edited = {"session_inner.py": "GAIN = {}\n", "session.txt": "{}", "session_net.py":
              "import torch\nfrom session_outer import GAIN\nTEXT = float(open('session.txt')"
              ".read())\n\n\nclass Net(torch.nn.Module):\n    def forward(self, x):\n"
              "        return x * GAIN * TEXT * {}\n"}
    (tmp_path / "session_outer.py").write_text("from session_inner import GAIN\n")
    for name, text in edited.items():
        (tmp_path / name).write_text(text.format(1.0))

    def evaluated():
        return irbench.evaluate("session_net.py:Net", "tinyset", "denoise_color-sigma25", limit=1,
                                metrics=["psnr"], catalog_paths=(str(tmp_path),), run=None)

    def digests_of(found):
        return {one["file"]: one["sha256"] for one in found.record["resolved"][plugin_files.NOTED]}

    found = [evaluated()]
    for gain, name in ((0.9, "session_inner.py"), (0.8, "session.txt"), (0.7, "session_net.py")):
        (tmp_path / name).write_text(edited[name].format(gain))     # of the same size
        found.append(evaluated())
        (before, now) = map(digests_of, found[-2:])
        assert {file for file in now if now[file] != before[file]} == {name}
    values = [one.mean["psnr"] for one in found]
    assert len(set(values)) == 4 and values == sorted(values, reverse=True)


def test_a_file_edited_while_the_code_runs_is_noted_as_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    data, plugin = tmp_path / "while.txt", tmp_path / "while_net.py"
    data.write_text("1")
    plugin.write_text("GAIN = open('while.txt').read()\n")
    before = digests.file_digest(data)
    plugin_files.load(plugin, "plugin")
    data.write_text("2")
    noted = plugin_files.used([plugin])
    assert noted == [{"file": "while.txt", "sha256": before}]
    assert plugin_files.changed({plugin_files.NOTED: noted}) == ["while.txt"]


@pytest.mark.parametrize("write", ["open(NAME, 'w').write('2')", "Path(NAME).write_text('2')",
                                   "Path('t').write_text('2'); os.replace('t', NAME)"])
def test_a_file_that_the_code_itself_writes_counts_as_it_is_in_the_end(tmp_path, monkeypatch,
                                                                       write):
    monkeypatch.chdir(tmp_path)
    plugin = tmp_path / "keeper.py"
    plugin.write_text("import os\nfrom pathlib import Path\nNAME = 'cache.txt'\n\n\ndef work():\n"
                      f"    known = Path(NAME).is_file() and open(NAME).read()\n    {write}\n"
                      "    return open(NAME).read()\n")
    module = plugin_files.load(plugin, "plugin")
    for _ in range(2):
        with plugin_files.noting(plugin):
            module.work()
        noted = plugin_files.used([plugin])
        assert "cache.txt" in [one["file"] for one in noted]
        assert plugin_files.changed({plugin_files.NOTED: noted}) == []
        (tmp_path / "cache.txt").write_text("3")
        assert plugin_files.changed({plugin_files.NOTED: noted}) == ["cache.txt"]
        assert plugin_files.load(plugin, "plugin") is module


PLAIN = ("import torch\nimport helper\n\n\nclass Net(torch.nn.Module):\n"
         "    def forward(self, x):\n        return x * helper.GAIN\n")


def of(path, **more):
    return irbench.evaluate(f"{path}:Net", "tinyset", "denoise_color-sigma25", limit=1,
                            metrics=["psnr"], catalog_paths=(str(tiny_folder(path)),), **more)


def tiny_folder(path):
    return next(one for one in path.parents if (one / "datasets.yaml").exists())


def test_a_module_beside_a_plugin_is_found_however_irbench_is_started(tmp_path, monkeypatch):
    """Also one in a package, and its own package's; no folder is added to the path."""
    tiny.make(tmp_path)
    folder = tmp_path / "code"
    (folder / "parts").mkdir(parents=True)
    (folder / "helper.py").write_text("from parts.deep import GAIN\n")
    (folder / "parts/deep.py").write_text("import later_helper as l\nGAIN = l.GAIN\n")
    (folder / "later_helper.py").write_text("GAIN = 1.0\n")
    (folder / "net.py").write_text(PLAIN)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    noted = {one["file"] for one in of(folder / "net.py").record["resolved"][plugin_files.NOTED]}
    assert noted == {"code/net.py", "code/helper.py", "code/parts/deep.py", "code/later_helper.py"}
    assert sys.path == before


def test_two_modules_of_one_name_are_refused(tmp_path, monkeypatch):
    tiny.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "helper.py").write_text("GAIN = 1.0\n")
        (tmp_path / name / "net.py").write_text(PLAIN)
    of(tmp_path / "one/net.py")
    of(tmp_path / "one/net.py")
    with pytest.raises(irbench.UserError, match=r"two/net.py: it imports helper .*two/helper.py., "
                                                r"but helper is .*one/helper.py"):
        of(tmp_path / "two/net.py")


def test_a_stale_file_of_bytecode_is_not_used(tmp_path, monkeypatch):
    """It counts for every source of its size and second, as after `cp -p` or rsync."""
    tiny.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    helper = tmp_path / "helper.py"
    (tmp_path / "net.py").write_text(PLAIN)
    values = []
    for gain in ("1.0", "0.5"):
        helper.write_text(f"GAIN = {gain}\n")
        os.utime(helper, (10**9, 10**9))
        py_compile.compile(str(helper)) if gain == "1.0" else None
        for name in [name for name in sys.modules if name == "helper" or "irbench_net" in name]:
            del sys.modules[name]
        values.append(of(tmp_path / "net.py").mean["psnr"])
    assert values[0] > values[1] + 1


def test_the_digest_of_a_plugins_code_follows_an_edit_in_the_same_process(tmp_path):
    path = tiny.make(tmp_path)
    plugin, seen = tmp_path / "tiny_model.py", []
    text = plugin.read_text()
    for more in ("", "A = 1\n", "A = 2\n", ""):
        plugin.write_text(text + more)
        os.utime(plugin, (10**9, 10**9))    # of one size and time, too
        seen.append(plan.load(path).cells["sr-x2@2/tinyset/tiny"].spec["code"])
    assert len(set(seen)) == 3 and seen[0] == seen[3]


def test_an_edited_card_counts_in_the_same_process(tmp_path):
    path = tiny.make(tmp_path)
    plugin, seen = tmp_path / "tiny_model.py", []
    text = plugin.read_text()
    for title in ("Tiny 1", "Tiny 2"):
        plugin.write_text(text.replace("Tiny (not in any paper)", title))
        os.utime(plugin, (10**9, 10**9))
        seen.append(plan.load(path).models["tiny"].title)
    assert seen == ["Tiny 1", "Tiny 2"]
