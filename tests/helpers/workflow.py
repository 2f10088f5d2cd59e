"""Snakemake, run as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.paths import ROOT


def snakemake(folder, *arguments, wait=True):
    cores = () if "--report" in arguments else ("--cores", "2")   # as the README has it
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"),
         "--workflow-profile", str(ROOT / "profiles" / "default"), "--directory", str(folder),
         *cores, *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True)
    if not wait:
        return process
    output, _ = process.communicate(timeout=900)
    return process.returncode, output
