"""A world small enough for tests: three little images, a model of one layer, a config."""

from pathlib import Path

import numpy as np
import yaml

from irbench.imaging.images import write_png

PLUGIN = '''
import torch
from torch import nn
import torch.nn.functional as F

CARDS = {
    "tiny": {
        "title": "Tiny (not in any paper)", "builder": "build",
        "tasks": ["sr", "denoise_color", "jpeg_gray"], "in_paper": False,
        "note": "a model for tests", "source": "made up", "learned": True,
        "options": {"width": 4, "strength": 0.1}, "free": ["strength"],
        "dtypes": ["float32", "float64", "bfloat16"],
    },
}


class Tiny(nn.Module):
    def __init__(self, scale, channels, width, strength):
        super().__init__()
        self.scale, self.strength = scale, strength
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.last = nn.Conv2d(width, channels * scale**2, 3, padding=1)

    def forward(self, x):
        up = F.interpolate(x, scale_factor=self.scale, mode="nearest")
        if self.training:  # something random, to be the same after an interruption
            up = up + 0.01 * torch.rand_like(up)
        last = self.last(F.gelu(self.first(x)))
        return up + self.strength * F.pixel_shuffle(last, self.scale)


def build(task, scale, channels, width, strength):
    return Tiny(scale, channels, width, strength)
'''


SEMANIR = {"arch": "semanir-light",
           "options": {"width": 12, "stages": 1, "layers": 1, "k": 16, "skip": "none"},
           "training": {"recipe": "demo", "data": ["tinytrain"], "steps": 2, "patch": 16,
                        "batch": 2},
           "variants": {"k8": {"options": {"k": 8}}}}
IMAGES = [{"name": f"img{number}"} for number in range(3)]      # of tinyset, in a cell's result
BENCH = {"n": [16], "k": [4], "windows": 1, "heads": 2, "head_dim": 4, "samples": 2,
         "implementations": ["mask"]}
SWEEP = {"sizes": [8, 16, 24], "batches": [1, 2], "samples": 2}


def photo(seed: int, h: int, w: int) -> np.ndarray:
    """A smooth random image: uint8 (h, w, 3)."""
    y, x = np.mgrid[:h, :w] / 8
    rng = np.random.default_rng(seed)
    waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0.3, 2, (3, 3))]
    return (127 + 100 * np.stack(waves, -1)).astype(np.uint8)


def make(folder: Path, **changes) -> Path:
    """Write images, catalog, plugin and config.yaml into a folder; return the config's path."""
    for i, size in enumerate([(24, 30), (31, 26), (28, 28)]):
        write_png(folder / "images" / "test" / f"img{i}.png", photo(i, *size))
        write_png(folder / "images" / "train" / f"img{i + 10}.png", photo(i + 10, *size))
    catalog = {
        "tinyset": {"title": "Tiny set", "use": "test", "tasks": [],
                    "source": "made for tests", "local": {"folder": "images/test"}},
        "tinytrain": {"title": "Tiny training set", "use": "train", "tasks": [],
                      "source": "made for tests", "local": {"folder": "images/train"}},
    }
    (folder / "datasets.yaml").write_text(yaml.safe_dump({"datasets": catalog}))
    (folder / "tiny_model.py").write_text(PLUGIN)
    config = {
        "run": "tiny", "catalog_paths": [str(folder)], "plugins": [str(folder / "tiny_model.py")],
        "metrics": ["psnr", "ssim"], "keep_images": True, "device": "cpu",
        "models": {
            "input": {}, "bicubic": {},
            "tiny": {"training": {"recipe": "demo", "data": ["tinytrain"], "steps": 12,
                                  "patch": 16, "batch": 2, "save_every": 4}},
        },
        "cells": [
            {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["bicubic", "tiny"]},
            {"protocol": "jpeg_gray-q10", "datasets": ["tinyset"], "models": ["input", "tiny"]},
        ],
        "profile": {"height": 16, "width": 16, "warmup": 1, "samples": 3},
        **changes,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def make_everything(folder: Path) -> Path:
    """The same with what a run may have beside cells: a variant, a sweep, a benchmark."""
    path = make(folder)
    config = yaml.safe_load(path.read_text())
    config["models"]["tiny"]["profile"] = False
    config["models"]["sem"] = SEMANIR
    config["cells"][1]["models"] = ["input", "sem"]
    config["profile"]["sweep"] = SWEEP
    config["attention_bench"] = BENCH
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path
