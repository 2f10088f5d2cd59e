"""Runs of one model on several days."""

import datetime
import json

from tests.helpers.compare_fixtures import X2
from tests.helpers.report_fixtures import Builder

START = datetime.datetime(2026, 11, 1, 3, tzinfo=datetime.UTC)


def stamp(folder, when, commit, only="**/*.json"):
    """Set the times and commits of a run's records, which are not part of their fingerprints."""
    for path in folder.glob(only):
        record = json.loads(path.read_text())
        record["provenance"] |= {"time": when.isoformat(), "git": {
            "commit": commit * 40, "dirty": False} if commit else None}
        path.write_text(json.dumps(record))


def one_run(root, name, day, psnr=34.0, parameters=400_000, latency=12.0, commit="a", **profile):
    """A run of one model on one set, with a profile."""
    build = Builder(root / name, name)
    build.dataset("set5", "Set5", 2)
    build.model("compacter", "Compacter")
    build.cell(X2, "set5", "compacter", {"psnr": [psnr - 1, psnr + 1], "ssim": [0.93, 0.95]})
    build.profile(X2, "compacter", {"parameters": parameters, "latency_ms": {
        "p50": latency, "p90": latency, "warmup": 3,
        "samples": [latency * (1 + i / 100) for i in (-1, 0, 0, 1)]}, **profile})
    stamp(build.folder, START + datetime.timedelta(days=day), commit)
    return build
