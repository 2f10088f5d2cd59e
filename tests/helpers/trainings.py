"""Trainings for tests: a network of convolutions and one matrix, a config, and how to run them."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path

import yaml

from irbench import cli, plan
from irbench.core import records
from tests.helpers import tiny

PLUGIN = '''
import torch
from torch import nn
import torch.nn.functional as F

CARDS = {
    "thin": {
        "title": "Thin (not in any paper)", "builder": "build",
        "tasks": ["sr", "denoise_color", "jpeg_color"], "in_paper": False,
        "note": "a model for tests", "source": "made up", "learned": True,
        "options": {"noise": 0.01}, "dtypes": ["float32"],
    },
}


class Thin(nn.Module):
    def __init__(self, scale, channels, noise):
        super().__init__()
        self.scale, self.noise = scale, noise
        self.first = nn.Conv2d(channels, 6, 3, padding=1)
        self.mix = nn.Linear(6, 6)
        self.last = nn.Conv2d(6, channels * scale**2, 3, padding=1)

    def forward(self, x):
        up = F.interpolate(x, scale_factor=self.scale, mode="nearest")
        if self.training and self.noise:  # something random, the same after an interruption
            up = up + self.noise * torch.rand_like(up)
        y = F.gelu(self.first(x))
        y = self.mix(y.movedim(1, -1)).movedim(-1, 1)
        return up + 0.1 * F.pixel_shuffle(self.last(y), self.scale)


def build(task, scale, channels, noise):
    return Thin(scale, channels, noise)
'''
PLAIN = {"recipe": "demo", "data": ["tinytrain"], "steps": 12, "patch": 16, "batch": 4,
         "optimiser": "adamw", "ema": None, "save_every": 4, "save_minutes": 60, "holdout": 0,
         "validate_every": None}


class Held:
    """Images in memory, as decoded.Images shows them; numbered names unless given."""

    def __init__(self, images, names=None):
        self.names = names or [f"a.i{k}" for k in range(len(images))]  # as datasets name them
        self.images, self.shapes = images, [list(image.shape) for image in images]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i]


def make(folder: Path, protocol: str = "sr-x2", noise: float = 0.01, seed: int = 0,
         **recipe) -> Path:
    """Write a config with one training into a folder; return its path."""
    folder.mkdir(exist_ok=True)
    training = {**PLAIN, **recipe}
    if "seconds" in recipe:
        del training["steps"]
    path = tiny.make(folder, seed=seed,
                     models={"thin": {"options": {"noise": noise}, "training": training}},
                     cells=[{"protocol": protocol, "datasets": ["tinyset"], "models": ["thin"]}])
    (folder / "tiny_model.py").write_text(PLUGIN)
    return path


def job(config: Path) -> plan.Job:
    """The training of a config."""
    found, = plan.load(config).trainings.values()
    return found


def train(config: Path, *more: str) -> int:
    """Train as the command line does; return the exit code."""
    return cli.main(["train", "--config", str(config), "--protocol", job(config).key["protocol"],
                     "--model", "thin", *more])


def result(config: Path) -> dict:
    """What the training's record says."""
    record = records.read(job(config).record)
    assert record["status"] == "ok", record["reason"]
    return record["result"]


def outcome(config: Path) -> dict:
    """What of a training's result is the same each time: all but how long it took."""
    found = result(config)
    return {**{field: found[field] for field in ("checkpoint", "best", "images_seen")},
            **{field: [{**point, "seconds": 0} for point in found[field]]
               for field in ("curve", "validation")}}


def change(config: Path, **recipe) -> None:
    """Change fields of the recipe."""
    found = yaml.safe_load(config.read_text())
    found["models"]["thin"]["training"].update(recipe)
    config.write_text(yaml.safe_dump(found))


def again(config: Path) -> None:
    """Forget the record, so that nothing but a new training can give a result."""
    job(config).record.unlink()


def stop_after(monkeypatch, step):
    """Ask the training to stop after a step, as a signal does."""
    from irbench.jobs.training import engine  # imports torch

    class Asked:
        taken = 0

        def __enter__(self):
            def asked():
                self.taken += 1
                return self.taken == step
            return asked

        def __exit__(self, *_):
            pass
    monkeypatch.setattr(engine, "gentle_end", Asked)


class Apart:
    """A training in a process (and process group) of its own, forked with torch imported."""

    def __init__(self, config: Path, *more: str, dies: tuple[tuple[str, ...], int] | None = None):
        """Start it.

        Args:
            config: of the training.
            more: options of ``irbench train``.
            dies: names of Python files and n: it kills itself before the n-th line of theirs.
        """
        context = multiprocessing.get_context("forkserver")
        # the last is what torch imports at an optimiser's first step, and takes longest
        context.set_forkserver_preload(["irbench.cli", "irbench.jobs.training.loop",
                                        "irbench.jobs.training.engine", "torch._dynamo"])
        self.process = context.Process(target=_apart, args=(config, more, dies))
        self.process.start()

    def code(self) -> int:
        """Wait for its end; return the exit code, negative for a signal."""
        self.process.join(60)
        assert self.process.exitcode is not None, "the training did not end"
        return self.process.exitcode


def _apart(config: Path, more: tuple[str, ...], dies: tuple[tuple[str, ...], int] | None) -> None:
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # what a process by itself would have
    os.chdir(config.parent)
    if dies:
        _die_at(*dies)
    sys.exit(train(config, *more))


def _die_at(files: tuple[str, ...], count: int) -> None:
    def lines(frame, event, _):
        nonlocal count
        count -= event == "line"
        if not count:
            os.kill(os.getpid(), signal.SIGKILL)
        return lines

    sys.settrace(lambda frame, *_: lines if frame.f_code.co_filename.endswith(files) else None)
