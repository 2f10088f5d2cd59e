"""Little datasets for tests: lines of manifests, catalog entries, images."""

from pathlib import Path

import numpy as np
import yaml

from irbench.data import sets
from irbench.imaging.images import write_png

HEAD = "role,file,url,sha256,bytes\n"
SHA = "a" * 64


def line(role="hr", file="a.png", url="https://host.invalid/a.png", sha256=SHA, size="5") -> str:
    """Return a line of a manifest."""
    return f"{role},{file},{url},{sha256},{size}\n"


def photo(seed: int, h: int = 6, w: int = 8) -> np.ndarray:
    """Return noise: uint8 (h, w, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


def make(folder: Path, manifest: str | None = None, name: object = "mine",
          root: str | Path = "data", **fields) -> sets.DatasetEntry:
    """Write a user's catalog with one entry into a folder and read it."""
    written = {"title": "Mine", "use": "test", **fields}
    if manifest is not None:
        (folder / "mine.csv").write_text(manifest)
        written["manifest"] = "mine.csv"
    path = folder / "datasets.yaml"
    path.write_text(yaml.safe_dump({"datasets": {name: written}}))
    return sets.catalog([path], root)[name]


def images(folder: Path, *names: str, h: int = 6, w: int = 8) -> Path:
    """Write an image of each name, all different, into a folder and return it."""
    for name in names:
        write_png(folder / name, photo(sum(map(ord, f"{folder.name}/{name}")), h, w))
    return folder
