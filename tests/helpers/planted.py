"""Restorations with a fault planted on purpose, computed by irbench itself: for test_planted.py.

A world is a folder with a config, a plugin and a run of five cells on crops of real photographs,
by weights bundled with irbench. A fault is a change of code, options or weights, as somebody might
make it by mistake; then the cell that it touches is evaluated anew.
"""

import shutil
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

from irbench import cli
from irbench.core import digests, files
from irbench.imaging.images import write_png
from irbench.plan import config
from irbench.weights import bundled, storage

SIDE = 128  # pixels of a crop
# the network of irbench/models/compacter.py, with a place for what goes wrong around it
PLUGIN = '''
import torch
from irbench.models import compacter

CARDS = {
    "wrapped": {
        "title": "Compacter, wrapped", "builder": "build", "tasks": ["sr", "jpeg_color"],
        "in_paper": False, "source": "a test", "learned": True, "options": {"skip": "input"},
    },
}


def build(task, scale, channels, **options):
    network = compacter.compacter(task, scale, channels, **options)
    inner, calls, lost = network.forward, [0], []

    def forward(x):
        calls[0] += 1
        FAULT
        return inner(x)

    network.forward = forward
    return network
'''
CODE = {
    "": "pass",
    "shift": "return torch.roll(inner(x), 1, dims=-1)",
    "bgr": "return inner(x.flip(1))",
    "bgr inside": "return inner(x.flip(1)).flip(1)",
    # the second of all tiles, in each pass over its image
    "lost tile": "lost.extend([x.clone()] if calls[0] == 2 else []); "
                 "return inner(x) * (not any(torch.equal(x, one) for one in lost))",
}
MODELS = {
    "compacter": {"arch": "wrapped", "checkpoint": "compacter-{protocol}.safetensors"},
    "semanir-light": {"checkpoint": "semanir-light-{protocol}.safetensors"},
    "tiled": {"arch": "wrapped", "checkpoint": "compacter-{protocol}.safetensors",
              "inference": {"tile": 48}},
}
WEIGHTS = {  # in the world -> of irbench
    "compacter-sr-x2@2": "compacter-sr-x2", "semanir-light-sr-x2@2": "semanir-light-sr-x2",
    "compacter-jpeg_color-q10@1": "compacter-jpeg_color-blind",
    "semanir-light-denoise_color-sigma25@1": "semanir-light-denoise_color-blind"}
CELLS = {"sr-x2": ["compacter", "semanir-light", "tiled"], "jpeg_color-q10": ["tiled"],
         "denoise_color-sigma25": ["semanir-light"]}


def photographs() -> dict[str, np.ndarray]:
    """The centres of the four photographs of the default run: uint8 (128, 128, 3)."""
    import skimage

    found = {}
    for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"):
        image = np.asarray(Image.open(Path(skimage.__file__).parent / "data" / name))
        top, left = ((length - SIDE) // 2 for length in image.shape[:2])
        found[Path(name).stem] = image[top:top + SIDE, left:left + SIDE]
    return found


def make(folder: Path) -> Path:
    """Write images, catalog, plugin, weights and config of a world; return its folder."""
    for name, image in photographs().items():
        write_png(folder / "images" / f"{name}.png", image)
    (folder / "datasets.yaml").write_text(yaml.safe_dump({"datasets": {"crops": {
        "title": "Crops", "use": "test", "tasks": [], "source": "a test",
        "local": {"folder": "images"}}}}))
    for name, source in WEIGHTS.items():
        save(folder / f"{name}.safetensors", tensors(source))
    settle(folder)
    return folder


def tensors(name: str) -> dict[str, torch.Tensor]:
    """The weights of a bundled file."""
    path = bundled.FOLDER / f"{name}.safetensors"
    return storage.tensors(path, path.read_bytes())


def save(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Write weights that say of themselves no more than names and values."""
    path.write_bytes(storage.pack(state, {}))


def rounded(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Every tensor with 255 levels from minus to plus its largest value."""
    def levels(value):
        step = value.float().abs().max().clamp_min(1e-12) / 127
        return ((value.float() / step).round() * step).to(value.dtype)

    return {name: levels(value) for name, value in state.items()}


def settle(folder: Path, fault: str = "", **models: dict) -> None:
    """Write plugin and config; ``models`` changes entries, ``fault`` the code around a network."""
    plugin = folder / f"wrapped_{fault.replace(' ', '_') or 'well'}.py"  # Python keeps modules
    plugin.write_text(PLUGIN.replace("FAULT", CODE[fault]))
    (folder / "config.yaml").write_text(yaml.safe_dump({
        "run": "crops", "catalog_paths": [str(folder)], "plugins": [str(plugin)],
        "metrics": ["psnr", "ssim"], "device": "cpu",
        "models": {name: {**model, "profile": False, **models.get(name, {})}
                   for name, model in MODELS.items()},
        "cells": [{"protocol": protocol, "datasets": ["crops"], "models": names}
                  for protocol, names in CELLS.items()]}))
    settings = config.load(folder / "config.yaml")
    files.write_atomic(folder / "results/crops/config.json", digests.canonical(settings) + "\n")


def evaluate(*cells: str) -> None:
    """Evaluate cells, PROTOCOL/MODEL, of the world in the working directory."""
    for cell in cells:
        protocol, model = cell.split("/")
        assert cli.main(["eval", "--protocol", protocol, "--dataset", "crops",
                         "--model", model]) == 0


def every() -> list[str]:
    """All cells of a world."""
    return [f"{protocol}/{model}" for protocol, models in CELLS.items() for model in models]


def copy(world: Path, to: Path) -> Path:
    """Copy a world: its files, and its records as they are."""
    shutil.copytree(world, to, copy_function=shutil.copy2, dirs_exist_ok=True)
    return to
