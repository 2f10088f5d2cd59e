"""The README's example works, and what it links to exists."""

import re

import yaml

from irbench import cli, plan
from irbench.core import records
from irbench.imaging.images import write_png
from tests.helpers import tiny
from tests.helpers.paths import ROOT

TEXT = (ROOT / "README.md").read_text()


def block(language, holding=""):
    """The first example in a language, or the first that holds a text."""
    return next(found for found in re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)
                if holding in found)


def test_the_example_model_is_trained_and_evaluated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    (tmp_path / "my_model.py").write_text(block("python"))
    example = yaml.safe_load(block("yaml", "plugins: [my_model.py]"))
    # as printed, but on the tests' little images and for a few steps
    training = example["models"]["my-model"]["training"]
    training |= {"data": ["tinytrain"], "steps": 3, "patch": 16, "batch": 2}
    example["cells"][0]["datasets"] = ["tinyset"]
    config = {"run": "example", "catalog_paths": [str(tmp_path)], "metrics": ["ssim"], **example}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    names = ["--protocol", "denoise_color-sigma25", "--model", "my-model"]
    assert cli.main(["train", *names]) == 0
    assert cli.main(["eval", *names, "--dataset", "tinyset"]) == 0
    record = next((tmp_path / "results/example/cells").rglob("*.json"))
    assert 0 < records.read(record)["result"]["mean"]["ssim"] < 1


def test_the_example_of_variants_is_three_more_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny.make(tmp_path, models=yaml.safe_load(block("yaml", "variants:"))["models"],
                       cells=[{"protocol": "sr-x2", "datasets": ["photos"],
                               "models": ["semanir-light"]}])
    planned = plan.load(config)
    assert [name.rpartition("/")[2] for name in planned.cells] == [
        "semanir-light", "semanir-light.k8", "semanir-light.bf16", "semanir-light.tiles"]
    assert len(planned.trainings) == 1


def test_the_example_dataset_and_protocol_are_one_entry_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(2):
        write_png(tmp_path / "street" / f"photo{i}.png", tiny.photo(i, 40, 48))
    (tmp_path / "my_catalog.yaml").write_text(block("yaml", "sigma75@1"))
    example = yaml.safe_load(block("yaml", "catalog_paths: [my_catalog.yaml]"))
    config = {"run": "example", "metrics": ["psnr"], "models": {"input": {}}, **example}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    cell = ["--protocol", "denoise_color-sigma75", "--dataset", "street", "--model", "input"]
    assert cli.main(["eval", *cell]) == 0
    record = records.read(next((tmp_path / "results/example/cells").rglob("input.json")))
    # noise of sigma 75, clipped and rounded: above 20 log10(255/75) = 10.6 dB, and not by far
    assert [image["name"] for image in record["result"]["images"]] == ["photo0", "photo1"]
    assert 10.6 < record["result"]["mean"]["psnr"] < 13


def test_the_example_of_other_peoples_weights_is_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path, models=yaml.safe_load(block("yaml", "external:"))["models"],
              cells=[{"protocol": "denoise_gray-sigma25", "datasets": ["tinyset"],
                      "models": ["my-dncnn"]}])
    job = plan.load("config.yaml").find("cell", protocol="denoise_gray-sigma25",
                                        dataset="tinyset", model="my-dncnn")
    assert job.spec["model"]["arch"] == "external"


def test_tables_are_whole_and_name_each_verb_once():
    tables = re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE)
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1, table
    verbs = [line.split("|")[1] for line in tables[0].splitlines()[2:]]
    assert "irbench train" in " ".join(verbs)
    assert len(set(verbs)) == len(verbs)


def test_links_and_files_named_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        if "://" not in target:
            assert (ROOT / target).exists(), target
    for path in re.findall(r"`((?:irbench|workflow|tests|benchmarks|profiles)/[^`\s]*)`", TEXT):
        assert (ROOT / path).exists(), path
