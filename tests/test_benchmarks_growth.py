"""The benchmarks of growing runs work: their made-up records are current, so nothing would run."""

import json
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT


@pytest.mark.slow   # starts seven processes
def test_a_run_of_made_up_records_is_complete(tmp_path):
    what = ["plan", "status", "verify", "compare", "history"]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "growth.py", "--cells", "50", "--what", *what],
        cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout.splitlines()[-1])["runs"]
    assert found["cells"] == 50 and all(found[name] > 0 for name in what)
    assert "page_mb" not in found       # no report was made
