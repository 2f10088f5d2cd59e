"""The examples of four pages work: they are planned, trained and evaluated on little images."""

import torch
import yaml

from irbench import cli, plan
from irbench.core import records
from irbench.data import sets
from irbench.imaging.images import write_png
from irbench.jobs.result import Result, record_of, write
from irbench.models import registry
from tests.helpers import tiny
from tests.helpers.snippets import block, inline

MODEL, DATA, COST = "docs/my-model.md", "docs/my-data.md", "docs/cost.md"
METRICS = "docs/metrics.md"


def test_the_example_model_is_trained_and_evaluated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    (tmp_path / "my_model.py").write_text(block(MODEL, "python"))
    example = yaml.safe_load(block(MODEL, "yaml", "plugins: [my_model.py]"))
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


def test_the_example_of_own_weights_gives_a_table_beside_published_methods(
        tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    (tmp_path / "my_net.py").write_text(block(MODEL, "python", "my_net.py"))
    network = registry.get("my-net", ("my_net.py",)).load()("sr", 2, 3)
    torch.save(network.state_dict(), "my_weights.pth")
    text = block(MODEL, "yaml", "plugins: [my_net.py]")
    example = yaml.safe_load(text)
    example["cells"][0]["datasets"] = ["tinyset"]       # images that are here
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(
        {"catalog_paths": [str(tmp_path)], "metrics": ["ssim"], **example}))
    assert cli.main(["eval", "--protocol", "sr-x2", "--dataset", "tinyset", "--model",
                     "my-net"]) == 0
    (tmp_path / "config.yaml").write_text(text)         # as printed, with made-up scores
    planned, score = plan.load("config.yaml"), {"psnr": 31.25, "ssim": 0.9}
    for job in planned.cells.values():
        images = [{"name": row.name, "height": 8, "width": 8, **score, "file": None}
                  for row in sets.manifest(planned.entry("set5")) if row.role == "hr"]
        write(job, record_of(job, Result({"images": images, "mean": score, "missing": {}})))
    capsys.readouterr()
    words = next(code for code in inline(MODEL) if code.startswith("irbench table")).split()
    assert cli.main([*words[1:], "--metrics", "psnr"]) == 0
    printed = capsys.readouterr().out
    assert "SwinIR" in printed and "IMDN" in printed and "31.25" in printed


def test_the_example_of_variants_is_three_more_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny.make(tmp_path, models=yaml.safe_load(block(COST, "yaml", "variants:"))["models"],
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
    (tmp_path / "my_catalog.yaml").write_text(block(DATA, "yaml", "sigma75@1"))
    example = yaml.safe_load(block(DATA, "yaml", "catalog_paths: [my_catalog.yaml]"))
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
    tiny.make(tmp_path, models=yaml.safe_load(block(MODEL, "yaml", "external:"))["models"],
              cells=[{"protocol": "denoise_gray-sigma25", "datasets": ["tinyset"],
                      "models": ["my-dncnn"]}])
    job = plan.load("config.yaml").find("cell", protocol="denoise_gray-sigma25",
                                        dataset="tinyset", model="my-dncnn")
    assert job.spec["model"]["arch"] == "external"


def test_the_example_metric_is_scored_beside_the_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(block(METRICS, "python", "mine.py"))
    example = yaml.safe_load(block(METRICS, "yaml", "metric_plugins"))
    tiny.make(tmp_path, **example)
    cell = ["--protocol", "sr-x2", "--dataset", "tinyset", "--model", "bicubic"]
    assert cli.main(["eval", *cell]) == 0
    mean = records.read(next((tmp_path / "results/tiny/cells").rglob("bicubic.json")))[
        "result"]["mean"]
    assert list(mean) == ["psnr", "ssim", "mae"]
    # the mean absolute error is at most the root of the mean squared one
    assert 0 < mean["mae"] <= 255 * 10 ** (-mean["psnr"] / 20) * 1.2
