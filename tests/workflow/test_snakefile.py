"""What the Snakefile asks of the package, without Snakemake."""

from types import SimpleNamespace

from irbench import plan, snakefile
from irbench.core import locks
from irbench.core.run_folder import lock_of
from tests.helpers import tiny


def test_the_config_of_a_run_keeps_its_order(tmp_path, monkeypatch):
    """Names in no alphabetical order: the report's rows and its digest follow the config's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locks, "_claims", [])
    training = {"recipe": "demo", "data": ["tinyset"], "steps": 4}
    config = tiny.make(tmp_path, models={"tiny": {"training": training, "variants": {
        "strong": {"options": {"strength": 0.5}}, "bf16": {"inference": {"dtype": "bfloat16"}}}}},
        cells=[{"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["tiny"]}])
    planned = plan.load(config)
    left = lock_of(next(iter(planned.trainings.values())).record)   # its process was killed
    left.parent.mkdir(parents=True)
    left.touch()
    snakefile.Workload(SimpleNamespace(), planned).begin()
    assert not left.exists()
    again = plan.load(planned.run_folder.config)
    assert [name.rpartition("/")[2] for name in planned.cells] == [
        "tiny", "tiny.strong", "tiny.bf16"]
    assert list(again.cells) == list(planned.cells)
    assert again.report_fingerprint == planned.report_fingerprint
