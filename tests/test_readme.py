"""The README's example works, and what it links to exists."""

import re
from pathlib import Path

import yaml

from irbench import cli, records
from tests import tiny

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


def block(language):
    return re.search(rf"```{language}\n(.*?)```", TEXT, re.S)[1]


def test_the_example_model_is_trained_and_evaluated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    (tmp_path / "my_model.py").write_text(block("python"))
    example = yaml.safe_load(block("yaml"))
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


def test_links_and_files_named_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        if "://" not in target:
            assert (ROOT / target).exists(), target
    for path in re.findall(r"`((?:irbench|workflow|tests|benchmarks|profiles)/[^`\s]*)`", TEXT):
        assert (ROOT / path).exists(), path
