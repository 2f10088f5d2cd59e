"""Two seeds of one training from the config to the report, as a user runs them."""

import pytest
import yaml

from irbench import cli, plan
from irbench.core import records
from irbench.jobs import verify
from tests.helpers import tiny

TRAINING = {"recipe": "demo", "data": ["tinytrain"], "steps": 2, "patch": 16, "batch": 2}


@pytest.mark.slow
def test_two_seeds_from_the_training_to_the_table(tmp_path, monkeypatch, capsys):
    path = tiny.make(tmp_path, metrics=["psnr"], models={"tiny": {
        "arch": "tiny", "training": TRAINING, "profile": False}}, cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["tiny"]}])
    monkeypatch.chdir(tmp_path)

    def do(model):
        assert cli.main(["train", "--protocol", "sr-x2", "--model", model]) == 0
        assert cli.main(["eval", "--protocol", "sr-x2", "--dataset", "tinyset",
                         "--model", model]) == 0

    assert cli.main(["data", "fetch"]) == 0
    do("tiny")
    before = verify.check(plan.load(path))
    config = yaml.safe_load(path.read_text())
    config["models"]["tiny"]["training"]["seeds"] = 2
    path.write_text(yaml.safe_dump(config))
    run = plan.load(path)
    # what was done stays as it is; only the second seed is missing
    assert [one for one in verify.check(run) if "seed2" not in one] == before
    assert sum("seed2" in one for one in verify.check(run)) == 2
    do("tiny.seed2")
    assert verify.check(run) == before
    weights = [records.read(job.record)["result"]["checkpoint"]["sha256"]
               for job in run.trainings.values()]
    assert len(set(weights)) == 2
    assert cli.main(["report"]) == 0
    means = [records.read(job.record)["result"]["mean"]["psnr"] for job in run.cells.values()]
    table = (tmp_path / "results/tiny/tables/sr.md").read_text()
    assert f"{sum(means) / 2:.2f} ± {abs(means[0] - means[1]) / 2**0.5:.3f}" in table
    assert "2 seeds" in table and "seed 2" not in table
    assert "trained here for 2 steps on a CPU" in table
