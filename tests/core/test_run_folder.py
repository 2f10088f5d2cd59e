"""Where the files of a run lie, and that no other module builds a path of them."""

import ast
import json
import re
from pathlib import Path

import pytest

from irbench.core import files, records, run_folder
from irbench.core.run_folder import RunFolder
from tests.helpers.paths import ROOT

KEYS = {
    "data": {"dataset": "set5"}, "training": {"protocol": "sr-x2@1", "model": "net"},
    "cell": {"protocol": "sr-x2@1", "dataset": "set5", "model": "net.k8"},
    "profile": {"protocol": "sr-x2@1", "model": "net.k8"}, "bench": {"bench": "attention"},
    "leaks": {"run": "demo"}}
RESULTS = {"data": {"count": 5}, "training": {"checkpoint": {"file": "f", "sha256": "0"}},
           "cell": {"images": [], "mean": {}}}


@pytest.mark.parametrize(("kind", "path"), [
    ("data", "data/set5.json"), ("training", "training/sr-x2@1/net.json"),
    ("cell", "cells/sr-x2@1/set5/net.k8.json"), ("profile", "profiles/sr-x2@1/net.k8.json"),
    ("bench", "benches/attention.json"), ("leaks", "leaks.json")])
def test_a_record_has_its_place_and_is_found_there(tmp_path, kind, path):
    folder, key = RunFolder(tmp_path), KEYS[kind]
    assert folder.load(kind, key).missing and not list(folder.each(kind))
    record = records.make(kind, key, {"x": 1}, result=RESULTS.get(kind, {}))
    assert folder.write(record) == tmp_path / path == folder.record(kind, key)
    (tmp_path / path).with_name(f".{Path(path).name}.x1.json").touch()      # being written
    assert [one.record for one in folder.each(kind)] == [record]
    assert folder.load(kind, key) == run_folder.Stored(
        {name: key[name] for name in run_folder.parts(kind)}, path, record)
    assert folder.pattern(kind).format_map(key) == str(tmp_path / path)
    assert folder.log(kind).format_map(key) == str((tmp_path / "logs" / path).with_suffix(".log"))
    assert RunFolder.of_record(tmp_path / path, kind) == folder
    assert run_folder.kind_of(path) == kind
    assert folder.has(kind) == ("/" in path)


@pytest.mark.parametrize(("change", "reason"), [
    (lambda r: r.update(key={**r["key"], "model": "other"}),
     "the record is of cell sr-x2@1 / set5 / other, not of cell sr-x2@1 / set5 / net.k8"),
    (lambda r: r.update(kind="profile"), "the record is of profile"),
    (lambda r: r["result"].update(mean={"psnr": 3.0}), "does not match its digest"),
    (lambda r: r.update(schema_version=3), "schema_version is 3, this irbench reads 1 to 2")])
def test_a_record_that_cannot_be_used_is_a_problem_in_words(tmp_path, change, reason):
    folder, key = RunFolder(tmp_path), KEYS["cell"]
    record = records.make("cell", key, {"x": 1}, result={"images": [], "mean": {}})
    change(record)
    files.write_json(folder.record("cell", key), record)
    other = records.make("cell", {**key, "dataset": "set14"}, {"x": 1}, status="failed",
                         reason="out of memory")
    folder.write(other)
    good, bad = folder.each("cell")
    assert good.record == other and not good.problem
    assert bad.record is None and not bad.missing
    assert bad.problem.startswith("cells/sr-x2@1/set5/net.k8.json: ") and reason in bad.problem
    assert bad.problem.endswith("To replace the file, run again.")


@pytest.mark.parametrize(("kind", "change"), [
    ("cell", {"images": 3}), ("cell", {"images": [{"name": 1}]}), ("cell", {"mean": None}),
    ("cell", {"images": [{"name": "a", "psnr": "high"}]}), ("cell", {"mean": [1]}),
    ("cell", {"mean": {"psnr": 10**400}}), ("cell", {"missing": {"psnr": 3}}),
    ("cell", {"dictionary": [{"n": "many"}]}), ("data", {"count": "many"}),
    ("training", {"checkpoint": {"file": "f"}}), ("training", {"curve": [{"step": 1}]}),
    ("training", {"best": {"step": 1, "psnr": None}}), ("profile", {"latency_ms": [1]}),
    ("profile", {"latency_ms": {"samples": ["fast"]}}), ("profile", {"macs": True}),
    ("cell", {"missing": {"psnr": [1]}}),
    ("profile", {"sweep": {"size": {"points": [1]}}}), ("bench", {"rows": [1]}),
    ("leaks", {"pairs": [{"train": "a"}]})])
def test_a_result_of_another_form_is_no_record(tmp_path, kind, change):
    result = RESULTS.get(kind, {}) | change
    with pytest.raises(Exception, match="of its result is missing or not in the form"):
        records.make(kind, KEYS[kind], {}, result=result)


def test_the_files_of_a_training_lie_together(tmp_path):
    folder, key = RunFolder(tmp_path), KEYS["training"]
    state = folder.beside(key, run_folder.STATE)
    assert state == tmp_path / "training/sr-x2@1/net.state"
    assert run_folder.previous(state).name == "net.state.previous"
    assert run_folder.aside(state, "0123456789").name == "net.state.01234567"
    assert {path.parent for path in (state, folder.beside(key, run_folder.CURVE), folder.beside(
        key, run_folder.LOCK), folder.record("training", key))} == {state.parent}
    for path in (run_folder.previous(state), state):
        assert not folder.keys("training", run_folder.STATE)
        files.write_atomic(path, "")
    assert folder.keys("training", run_folder.STATE) == [key]
    weights = [folder.weights(*key.values(), best=best) for best in (True, False)]
    assert [path.name for path in weights] == ["net.best.safetensors", "net.safetensors"]
    for path in weights:
        files.write_atomic(path, "")
    assert folder.all_weights() == weights
    assert [run.path for run in run_folder.runs(tmp_path.parent)].count(tmp_path) == 1


# -- nobody else builds such a path --------------------------------------------------------------

NAMES = {pattern.partition("/")[0] for pattern in run_folder.PLACES.values()} - {"data"} | {
    "results", "leaks.json", "config.json", "plan.json", "report.html", "summary.csv", "tables",
    "figures", "images", "logs", "checkpoints", "tensorboard", ".state", ".lock", "_input",
    "_target", ".report", ".anchors", "anchors.csv", "anchors.json", "anchors.md"}
CALLS = {"Path", "joinpath", "glob", "rglob", "with_name", "with_suffix", "relative_to", "join",
         "open", "RunFolder"}
# lines that name no file of a run: the folder of fetched weights below data_root, and torch's own
ELSEWHERE = re.compile(r'''data_root("\])?\)? / "checkpoints"|"hub" / "checkpoints"''')


def first(node):
    """The text that an expression of a path begins with, as far as it is written there."""
    if isinstance(node, ast.JoinedStr):
        node = node.values[0] if node.values else node
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def built(tree):
    """Yield (line, text) of all text from which a path is built: after a slash, in a call, in an
    f-string that goes on with one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            yield from ((side.lineno, first(side)) for side in (node.left, node.right))
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in CALLS:
                yield from ((one.lineno, first(one)) for one in node.args)
        elif isinstance(node, ast.JoinedStr) and len(node.values) > 1:
            text = first(node)
            if re.fullmatch(r"[\w./]+/", text):     # f"cells/{...}", not a sentence
                yield node.lineno, text


def offences(source):
    lines = source.splitlines()
    return [(line, lines[line - 1].strip()) for line, text in built(ast.parse(source))
            if NAMES & set(text.split("/")) and not ELSEWHERE.search(lines[line - 1])]


@pytest.mark.parametrize("line", [
    'folder / "cells" / name', 'Path("results", run)', 'run.folder / f"figures/{stem}.png"',
    'folder.glob("training/*/*.json")', 'path.with_suffix(".state")', 'f"profiles/{a}/{b}.json"',
    'f"results/{run}/report.html"', '(folder / "leaks.json").read_text()'])
def test_the_rule_sees_a_path_of_a_run(line):
    assert offences(line)


@pytest.mark.parametrize("line", [
    'data_root / "checkpoints" / name', 'Path(plan.config["data_root"]) / "checkpoints"',
    'model["training"]', 'f"tables are {a}"', 'folder / "decoded"', '"results/RUN"'])
def test_the_rule_lets_other_paths_be(line):
    assert not offences(line)


# file -> why it names a path that the rule takes for one of a run
JUSTIFIED = {
    "data/archives.py": "the lock of an unpacked archive, below data_root",
    "plan/shipped.py": "the folder of Snakemake's profiles, beside the Snakefile",
}


def test_no_module_but_run_folder_builds_a_path_of_a_run():
    package = ROOT / "irbench"
    found = {path.relative_to(package).as_posix(): offences(path.read_text(encoding="utf-8"))
             for path in sorted(package.rglob("*.py")) if path.name != "run_folder.py"}
    assert {name: lines for name, lines in found.items()
            if lines and name not in JUSTIFIED} == {}
    assert all(found[name] for name in JUSTIFIED)       # the list holds no more than is needed


@pytest.mark.parametrize("path", [ROOT / "Snakefile", *sorted(
    (ROOT / "workflow" / "rules").glob("*.smk"))], ids=lambda path: path.name)
def test_no_rule_does_either(path):
    code = re.sub(r'"""(?s:.*?)"""|#.*', "", path.read_text())
    texts = re.findall(r'"([^"\n]*)"', code)
    assert [text for text in texts if "/" in text and " " not in text
            and NAMES & set(re.split(r"[/{}]", text))] == []


# -- records of version 1 ------------------------------------------------------------------------

OLD = RunFolder(Path(__file__).with_name("records_v1"))


def test_records_of_version_1_load_and_are_migrated_in_memory():
    found = [one for kind in run_folder.PLACES for one in OLD.each(kind)]
    assert not [one.problem for one in found if one.problem]
    kinds = [one.record["kind"] for one in found]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "data": 2, "training": 2, "cell": 6, "profile": 2, "bench": 1, "leaks": 1}
    for one in found:
        kept = json.loads((OLD.path / one.place).read_text())
        assert kept["schema_version"] == 1 and "result_digest" not in kept
        assert one.record["schema_version"] == records.SCHEMA_VERSION
        assert {**one.record, "schema_version": 1, "result_digest": None} == {
            **kept, "result_digest": None}
        records.check(one.record, "migrated")
    assert [one.place for one in found if one.record["status"] == "unavailable"] == [
        "cells/sr-x2@1/tinyset/late.json"]


def test_a_record_of_version_1_that_was_edited_in_its_inputs_is_refused(tmp_path):
    kept = json.loads(OLD.record("cell", key := {
        "protocol": "sr-x2@1", "dataset": "tinyset", "model": "tiny"}).read_text())
    kept["spec"]["metrics"] = ["psnr"]
    files.write_json(RunFolder(tmp_path).record("cell", key), kept)
    assert "the fingerprint does not match" in RunFolder(tmp_path).load("cell", key).problem


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "\U0001f600" * 62 + ".png", "a." + "b" * 250])
def test_a_file_with_the_longest_name_is_written(tmp_path, name):
    files.write_atomic(tmp_path / name, "text")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["text"]
    assert (tmp_path / name).is_file()
