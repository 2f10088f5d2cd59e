"""A wrong type at any leaf of a record is a sentence for its own place, never a traceback."""

import json

import pytest

from irbench.compare import (
    differences,
    formats,
    gate,
    gate_formats,
    history,
    history_tables,
    runs,
    tolerances,
)
from irbench.core import files, records
from irbench.report import collect
from irbench.report.facts import verdict
from irbench.report.page import provenance
from irbench.report.tables import sheets, summary, tables
from tests.helpers import mutants
from tests.helpers import report_fixtures as fixtures
from tests.helpers.report_fast import sweep

X2 = "sr-x2@1"
PATHS = {"cell": f"cells/{X2}/set5/net.json", "training": f"training/{X2}/net.json",
         "profile": f"profiles/{X2}/net.json", "leaks": "leaks.json",
         "bench": "benches/attention.json"}
ROW = {"implementation": "mask", "n": 16, "k": 4, "windows": 1, "heads": 2, "head_dim": 4,
       "latency_ms": {"p50": 1.0, "p90": 1.5, "samples": [1.0, 1.5]}, "peak_memory_bytes": 9,
       "peak_memory_of": "process", "max_error": 0.0, "reason": ""}


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    """A run with one record of each kind, as full as irbench writes them."""
    build = fixtures.Builder(tmp_path_factory.mktemp("leaf") / "run")
    build.dataset("set5", "Set5", 2)
    build.model("net", "Net", checkpoint={"kind": "trained"},
                training={"recipe": "short", "data": ["photos"], "steps": 9, "seconds": None})
    more = {"device": "cpu", "threads": 1, "inference": fixtures.INFERENCE, "tiling": {"images": 1},
            "dictionary": [{"stage": "1", "n": 4, "k": 2, "self": 0.5, "used": 0.5,
                            "overlap": 0.1}]}
    build.cell(X2, "set5", "net", {"psnr": [33.0, 34.0], "ssim": [0.9, 0.91]}, more=more)
    build.training(X2, "net", {"validation": [{"step": 5, "psnr": 30.0}], "device": "cpu",
                               "best": {"step": 5, "psnr": 30.0}, "processes": 1})
    build.profile(X2, "net", {"sweep": sweep(10.0), "inference": fixtures.INFERENCE})
    build.leaks([("photos", "a", "set5", "image1", "near")], [("photos", "set5", 9, 2)],
                [("photos", "other", "not here")])
    build.bench({"rows": [ROW], "build": [ROW], "device": "cpu", "device_name": "CPU",
                 "dtype": "float32", "threads": 1})
    return build


def read_everywhere(build, base, limits):
    """Let every reader of records see the run, and print what it made of it."""
    run = collect.collect(build.folder, build.plan)
    tables.build(run)
    sheets.build(run)
    summary.summary(run)
    verdict.all_verdicts(run)
    provenance.groups([*run.cells, *run.trainings.values(), *run.profiles.values()])
    new = runs.of_folder(build.folder)
    compared = differences.compare(base, new)
    for printer in (formats.text, formats.markdown, formats.json, formats.junit):
        printer(compared)
    gated = gate.check(base, new, limits)
    for printer in gate_formats.FORMATS.values():
        printer(gated)
    history_tables.terminal(history.read(build.folder.parent))


def check(builder, kind, every):
    path = builder.folder / PATHS[kind]
    good = path.read_text()
    base, limits = runs.of_folder(builder.folder), tolerances.load()
    try:
        for where, value, record in mutants.accepted(json.loads(good), every):
            files.write_json(path, record)
            try:
                read_everywhere(builder, base, limits)
            except Exception as error:
                raise AssertionError(f"{kind}: {where} = {value!r}: {error!r}") from error
    finally:
        path.write_text(good)


@pytest.mark.parametrize("kind", sorted(PATHS))
def test_some_leaves(builder, kind):
    check(builder, kind, 97)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(PATHS))
def test_all_leaves(builder, kind):
    check(builder, kind, 1)


@pytest.mark.parametrize("path", [
    ("provenance", "hardware", "cpu"), ("provenance", "git", "dirty"), ("provenance", "time"),
    ("spec", "model", "title"), ("spec", "model", "training", "data"), ("spec", "dataset", "name"),
    ("spec", "protocol", "metric", "crop"), ("result", "images", 0, "psnr"),
    ("result", "inference", "dtype"), ("seconds", "load")])
def test_a_wrong_type_is_said(builder, path):
    record = json.loads((builder.folder / PATHS["cell"]).read_text())
    said = records._problem(mutants.mutant(record, path, {"a": 1}))
    name = path[1] if path[0] == "result" else path[0]
    assert said.startswith(f"'{name}'") and said.endswith("in the form that irbench writes")
