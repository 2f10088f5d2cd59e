"""The paths of a config are relative to its file; which keys hold paths, the schema says."""

import json

import pytest
import yaml

from irbench import cli, plan
from irbench.core import records
from irbench.core.run_folder import RunFolder
from irbench.plan import config, places, shipped
from tests.helpers import tiny
from tests.helpers.paths import ROOT

# keys that take text which is not a path; a new key belongs here, or gets a format in the schema
NOT_PATHS = {
    "arch", "data", "datasets", "device", "dtype", "exclude", "formats", "implementations",
    "metrics", "models", "protocol", "protocols", "published", "published_as", "recipe",
    "references", "run", "sha256", "tile", "title", "trained_on", "url", "weights_key"}
SCHEMA = json.loads((ROOT / "irbench/catalog/config.schema.json").read_text())


def texts(schema, path=()):
    """Yield (path of keys, format) of everything in the schema that may be text."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    types = schema.get("type", ())
    if "string" in types or "enum" in schema:
        yield path, schema.get("format")
    for one in schema.get("oneOf", ()):
        yield from texts(one, path)
    for key, one in schema.get("properties", {}).items():
        yield from texts(one, (*path, key))
    for key in ("additionalProperties", "items"):
        if isinstance(schema.get(key), dict):
            yield from texts(schema[key], (*path, "*" if key == "additionalProperties" else 0))


FOUND = {path: kind for path, kind in texts(SCHEMA) if kind}
PATHS = sorted(FOUND, key=str)


def test_every_key_with_text_is_known_to_be_a_path_or_not():
    assert {next(key for key in reversed(path) if key not in (0, "*"))
            for path, kind in texts(SCHEMA) if not kind} <= NOT_PATHS
    assert {".".join(map(str, path)) for path in PATHS} == {
        "data_root", "catalog_paths.0", "plugins.0", "metric_plugins.0", "models.*.external",
        "models.*.outputs", "models.*.checkpoint", "models.*.checkpoint.path"}


def nested(path, text):
    """Return a config, of which nothing else is given, with a text at a path of keys."""
    for key in reversed(path):
        text = [text] if key == 0 else {("m" if key == "*" else key): text}
    return text


def reached(value, path):
    for key in path:
        value = value["m" if key == "*" else key]
    return value


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_a_path_is_relative_to_the_file(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "sub" / "{x}" / "c.yaml"
    file.parent.mkdir(parents=True)

    def read(text, given=file):
        file.write_text(yaml.safe_dump(nested(path, text)))
        return reached(config.read(given), path)

    template = FOUND[path] == "path-template"
    folder = "sub/{{x}}" if template else "sub/{x}"
    # the same for every way to name the file
    for given in (file, "sub/{x}/c.yaml", "./sub/../sub/{x}/c.yaml"):
        assert read("one/two", given) == f"{folder}/one/two"
    assert read("../two") == f"{folder}/../two"
    for same in ("/abs/x", "~/x", ""):
        assert read(same) == same
    if template:
        assert read("https://example.org/x") == "https://example.org/x"
        assert read("bundled") == "bundled"
    other = tmp_path / "elsewhere"
    other.mkdir()
    monkeypatch.chdir(other)
    folder = tmp_path / folder
    assert read("one/two") == read("one/two", "../sub/{x}/c.yaml") == f"{folder}/one/two"
    monkeypatch.chdir(file.parent)
    assert read("one/two") == read("one/two", "c.yaml") == "one/two"


def test_values_of_a_wrong_kind_are_left_to_the_check(tmp_path):
    file = tmp_path / "c.yaml"
    for value in ([1], 3, {"plugins": "x.py", "models": ["m"]}, {"models": {"m": None}},
                  {"models": {"m": {"checkpoint": 3}}, "data_root": ["x"]}):
        file.write_text(yaml.safe_dump(value))
        assert config.read(file) == value


def test_a_cell_of_a_config_elsewhere_is_the_same_cell(tmp_path, monkeypatch, capsys):
    """Run from above and from beside the config: plugins, catalogs and data are found, and equal.

    A run keeps its config with paths that are valid where it was made.
    """
    beside = tmp_path / "mine"
    tiny.make(beside, data_root="sets", catalog_paths=["datasets.yaml"],
              plugins=["tiny_model.py"])
    cell = ["--protocol", "jpeg_gray-q10", "--dataset", "tinyset", "--model", "input"]

    def evaluate(folder, file):
        monkeypatch.chdir(folder)
        assert cli.main(["eval", "--config", str(file), *cell]) == 0
        return records.read(folder / json.loads(capsys.readouterr().out)["record"])

    above = evaluate(tmp_path, "mine/config.yaml")
    assert evaluate(beside, "config.yaml")["result"] == above["result"]
    monkeypatch.chdir(tmp_path)
    planned = plan.load("mine/config.yaml")
    assert planned.config["data_root"] == "mine/sets"
    kept = RunFolder.of_run("tiny").config
    kept.write_text(json.dumps(planned.config))
    for here, file in ((tmp_path, kept), (tmp_path / "mine", tmp_path / kept)):
        monkeypatch.chdir(here)
        again = config.load(file)
        assert here / again["data_root"] == tmp_path / "mine/sets"
        assert here / again["plugins"][0] == tmp_path / "mine/tiny_model.py"


def test_the_configs_of_irbench_use_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paper = shipped.configs()["paper"]
    assert places.base_of(paper) == ""
    assert config.load(paper)["models"]["semanir-s"]["checkpoint"].startswith("weights/")
    assert places.base_of(tmp_path / "x" / paper.name) == "x"
