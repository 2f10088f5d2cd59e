"""A Slurm cluster for tests (.ci/slurm starts one), and the workflow on it, as a user runs it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from tests.helpers import tiny
from tests.helpers.paths import ROOT

# a network without weights that, on its first image, waits for as many others as there are GPUs,
# and one whose training is slow as long as the file of its option is there
CARDS = '''CARDS = {
    "meeting": {
        "title": "Meeting", "builder": "build_meeting", "tasks": ["sr"], "in_paper": False,
        "note": "a model for tests", "source": "made up", "learned": False, "options": {},
    },
    "slow": {
        "title": "Slow", "builder": "build_slow", "tasks": ["sr"], "in_paper": False,
        "note": "a model for tests", "source": "made up", "learned": True,
        "options": {"width": 4, "strength": 0.1, "slow_while": "slow"},
    },
'''
PLUGIN = tiny.PLUGIN.replace("CARDS = {\n", CARDS) + '''

import os
import time
from pathlib import Path

FOLDER = Path(__file__).parent


class Meeting(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        (FOLDER / "met").mkdir(exist_ok=True)
        (FOLDER / "met" / os.environ.get("SLURM_JOB_ID", "none")).touch()
        until = time.monotonic() + 600
        while len(list((FOLDER / "met").iterdir())) < 8 and time.monotonic() < until:
            time.sleep(0.1)
        return F.interpolate(x, scale_factor=self.scale, mode="nearest")


class Slow(Tiny):
    def __init__(self, scale, channels, width, strength, slow_while):
        super().__init__(scale, channels, width, strength)
        self.file = FOLDER / slow_while

    def forward(self, x):
        if self.training and self.file.exists():
            time.sleep(1.0)
        return super().forward(x)


def build_meeting(task, scale, channels):
    return Meeting(scale)


def build_slow(task, scale, channels, width, strength, slow_while):
    return Slow(scale, channels, width, strength, slow_while)
'''


def make(folder: Path, **changes) -> Path:
    """Write the tiny world with these networks, and a profile; return the config's path."""
    config = tiny.make(folder, metrics=["ssim"], keep_images=False, device="auto", **changes)
    (folder / "tiny_model.py").write_text(PLUGIN)
    profile = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())
    profile["set-threads"] = dict.fromkeys(profile["set-threads"], 1)
    profile["set-resources"]["train"]["gpu"] = 0    # those are for the cells that meet
    profile["slurm-init-seconds-before-status-checks"] = 1
    (folder / "profile").mkdir()
    (folder / "profile" / "config.yaml").write_text(yaml.safe_dump(profile))
    return config


def start(folder: Path, config: str, log: str) -> subprocess.Popen:
    """Start ``irbench run`` with the folder's profile; its output goes to a file."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                   "PYTHONPATH": str(ROOT)}
    with (folder / log).open("a") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "irbench", "run", config, "--profile", "profile"], cwd=folder,
            env=environment, stdout=output, stderr=output, start_new_session=True)


def wait_for(condition, what: str, seconds: float = 600):
    """Return what a function returns once that is true."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.2)
    return found


def run(*command: str) -> str:
    """Run one of Slurm's commands."""
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def jobs(rule: str, folder: Path, *states: str, name: str = "") -> list[str]:
    """Return the numbers of a folder's jobs of a rule that are in the queue.

    ``name`` is a part of what the rule's wildcards stand for.
    """
    lines = run("squeue", "--noheader", "--format", "%i|%T|%k|%Z").splitlines()
    rows = [line.split("|") for line in lines]
    return [number for number, state, comment, where in rows
            if comment.startswith(f"rule_{rule}") and name in comment and where == str(folder)
            and (not states or state in states)]


def ended(number: str) -> list[str]:
    """Return how each attempt of a job ended, the first one first."""
    lines = run("sacct", "--noheader", "--parsable2", "--duplicates", "--allocations", "--jobs",
                number, "--format", "state").splitlines()
    return [line for line in lines if line not in ("RUNNING", "PENDING")]


def kill(number: str) -> None:
    """Kill every process of a job, as the kernel or a broken node does."""
    for line in run("scontrol", "listpids", number).splitlines()[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(line.split()[0]), signal.SIGKILL)
