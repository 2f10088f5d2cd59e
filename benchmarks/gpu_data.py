"""What the stages of ``gpu.py`` work on: images, plans of runs, and the sets of a training.

Reads   the folder that ``--data`` names.
Writes  the current folder: copies of a few images, a catalog of sets, links to whole sets.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from irbench import plan as plans
from irbench.catalog import protocols, recipes
from irbench.catalog.datasets import DatasetEntry
from irbench.catalog.protocols import Protocol
from irbench.core.errors import UserError
from irbench.core.files import write_json
from irbench.data import sets
from irbench.data.tree import SUFFIXES
from irbench.imaging.images import read_image, write_png
from irbench.plan import Job, Plan, config
from irbench.weights import bundled, serving

SET, FEW = "given", "few"   # all images of a check; two of them, cut to SMALL
SMALL = 256                 # pixels
COUNT = 24                  # images of a check
LEAST = 128                 # pixels: the smallest side of an image that a check takes
CATALOG = "datasets.yaml"   # of a check
TRAINING = "training.yaml"  # of a training
ROOT = "data"               # data_root of all runs
# options of networks for --tiny
TINY = {"compacter": {"width": 12, "layers": 1, "heads": 1},
        "semanir-light": {"width": 12, "stages": 1, "layers": 1, "k": 16, "skip": "none"}}


# -- images of a check ---------------------------------------------------------------------------

def images(settings: dict) -> dict:
    """Put the images of a check into ``images/`` and ``images-few/``; done once.

    Returns ``names``, and ``of``, their source in words.

    Raises:
        UserError: the folder has no image that can be used.
    """
    index = Path("images.json")
    key = {"data": settings["data"], "tiny": settings["tiny"]}
    if index.is_file() and (about := json.loads(index.read_text()))["key"] == key:
        return about
    for name in ("images", "images-few"):
        shutil.rmtree(name, ignore_errors=True)
        Path(name).mkdir()
    about = {"key": key, **(_given(settings) if settings["data"] else _made_up(settings["tiny"]))}
    for name in about["names"][:2]:
        write_png(Path("images-few") / name,
                  read_image(Path("images") / name)[:SMALL, :SMALL])
    entry = {"use": "test", "source": about["of"]}
    Path(CATALOG).write_text(yaml.safe_dump({"datasets": {
        SET: {**entry, "title": "The given images", "local": {"folder": "images"}},
        FEW: {**entry, "title": "The corners of two of them", "local": {"folder": "images-few"}}}}))
    write_json(index, about)    # last: it says that the others are complete
    return about


def _given(settings: dict) -> dict:
    folder, size = Path(settings["data"]), 64 if settings["tiny"] else None
    found = [path for path in find_images(folder) if side(path) >= (size or LEAST)]
    if not found:
        raise UserError(f"--data {folder}: no image of at least {size or LEAST}x{size or LEAST} "
                        f"pixels is in it or below it. Valid: {', '.join(SUFFIXES)}.")
    wanted = 3 if settings["tiny"] else COUNT
    names = []
    for i in sorted({round(j * (len(found) - 1) / max(1, wanted - 1)) for j in range(wanted)}):
        try:
            image = read_image(found[i])
        except UserError as error:  # damaged, or of a kind that irbench does not take
            print(f"left out: {error}", flush=True)
            continue
        names.append(f"{len(names):03d}_{found[i].stem}.png")
        write_png(Path("images") / names[-1], image[:size, :size])
    if not names:
        raise UserError(f"--data {folder}: none of the images in it can be read.")
    return {"names": names, "of": f"of {len(found)} in {folder}"}


def find_images(folder: Path) -> list[Path]:
    """Return all image files in a folder and below it, sorted; links to folders are followed."""
    return sorted(path for where, _, files in os.walk(folder, followlinks=True)
                  for path in (Path(where) / name for name in files)
                  if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))


def side(path: Path) -> int:
    """Return the smaller side in pixels; 0 for a file that is not an image."""
    try:
        with Image.open(path) as image:
            return min(image.size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0


def _made_up(tiny: bool) -> dict:
    """Draw smooth waves with noise: they show that something runs, not how well it restores."""
    height, width = (64, 72) if tiny else (256, 320)
    names = []
    y, x = np.mgrid[:height, :width] / 8
    for i in range(3 if tiny else 8):
        rng = np.random.default_rng(i)
        waves = np.stack([np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0.1, 2, (3, 3))], -1)
        noise = rng.normal(0, 8, waves.shape)
        names.append(f"made_up_{i}.png")
        write_png(Path("images") / names[-1], np.clip(127 + 90 * waves + noise, 0, 255).astype(
            np.uint8))
    return {"names": names, "of": "made up, for want of --data"}


# -- plans ---------------------------------------------------------------------------------------

def plan(settings: dict, *, run: str = "check", **parts: object) -> Plan:
    """Plan a run on the images of a check. ``parts`` are sections of a config."""
    images(settings)
    return _build(settings, run, [CATALOG], **parts)


def _build(settings: dict, run: str, catalogs: list[str], **parts: object) -> Plan:
    given = {"run": run, "data_root": ROOT, "device": settings["device"], "metrics": ["psnr"],
             "catalog_paths": catalogs, **parts}
    return plans.build(config.complete(given))


def training(settings: dict, arch: str, recipe: dict, *, run: str) -> tuple[Plan, Job]:
    """Plan a training from its beginning, in a run of its own.

    The seed of the weights depends on the model's name, so equal trainings need separate runs.
    """
    planned = plan(settings, run=run, models={arch: {
        "options": TINY[arch] if settings["tiny"] else {}, "training": recipe}},
        cells=[{"protocol": "sr-x2", "datasets": [SET], "models": [arch]}])
    job, = planned.trainings.values()
    if not os.environ.get("LOCAL_RANK"):    # else another process may have begun
        shutil.rmtree(planned.folder, ignore_errors=True)
    return planned, job


def bundled_models(only: tuple[str, ...] | None = None) -> dict[str, dict[str, dict]]:
    """Return protocol -> name -> entry of a config, for the bundled weights."""
    wanted: dict[str, dict[str, dict]] = {}
    known = [one for one in protocols.catalog().values() if not one.paired]
    for one in bundled.catalog().values():
        fitting = [p for p in known if serving.is_for(dataclasses.asdict(one), p)]
        if fitting and (only is None or fitting[0].task in only):
            protocol = fitting[len(fitting) // 2]  # of a blind model's levels the middle one
            wanted.setdefault(protocol.id, {})[one.arch] = {
                "options": one.options, "checkpoint": "bundled"}
    return wanted


def profile_size(tiny: bool) -> dict:
    """Return the sizes of a config's section ``profile``."""
    return ({"height": 24, "width": 24, "warmup": 1, "samples": 2} if tiny else
            {"height": 256, "width": 256, "warmup": 3, "samples": 30})


# -- the sets of a training ----------------------------------------------------------------------

def own_training(settings: dict, protocol: Protocol, recipe: dict) -> tuple[Plan, Job]:
    """Plan the training that ``gpu.py train`` asks for, on the data of ``--data``."""
    names, exclude = _training_sets(settings, protocol, recipe["recipe"])
    model = settings["model"]
    entry = {"options": settings["options"],
             "training": {"data": names, "exclude": exclude, **recipe}}
    test = SET if names == [SET] else None
    if test is None:    # a run needs a set to evaluate on; nothing is evaluated here
        test = next(name for name, one in sets.catalog((), ROOT).items() if one.use == "test"
                    and one.paired == protocol.paired and protocol.task in one.tasks
                    and name not in names)
    planned = _build(settings, "train", [TRAINING] if names == [SET] else [],
                     models={model: entry},
                     cells=[{"protocol": protocol.id, "datasets": [test], "models": [model]}])
    if not planned.trainings:
        raise UserError(f"model {model} has no weights to train.")
    job, = planned.trainings.values()
    return planned, job


def _fits(entry: DatasetEntry, protocol: Protocol) -> bool:
    """Whether a set may train for a protocol; a test set may, if it does not test this task."""
    meant = protocol.task in entry.tasks
    return entry.paired == protocol.paired and (meant if entry.use == "train" else not meant)


def _training_sets(settings: dict, protocol: Protocol, recipe: str) -> tuple[list[str], dict]:
    """Return the training's sets, and the images to leave out: irbench's own sets if there are any.

    A set of irbench counts if it lies complete in the folder; otherwise all images below the
    folder are one set. Images that the recipe leaves out are left out of either.
    """
    folder, root = Path(settings["data"]), Path(ROOT)
    root.mkdir(exist_ok=True)
    used = {name for one in recipes.catalog().values()
            for part in (one, *(case["set"] for case in one["for"]))
            for name in part.get("data") or ()}
    found = []
    for name, entry in sets.catalog((), root).items():
        if name not in used or not (folder / name).is_dir() or not _fits(entry, protocol):
            continue
        link = root / name
        if link.is_symlink():   # of an earlier run, maybe to another folder
            link.unlink()
        link.symlink_to(folder / name, target_is_directory=True)
        if sets.state(entry, root) in ("complete", "unchecked"):
            found.append(name)
        else:
            print(f"{folder / name}: not the complete set {name} of irbench", flush=True)
    left_out = recipes.catalog()[recipe]["exclude"]
    if found:
        return found, {name: left_out[name] for name in found if name in left_out}
    pattern = {"hr": "**/target/*", "input": "**/input/*"} if protocol.paired else {"hr": "**/*"}
    Path(TRAINING).write_text(yaml.safe_dump({"datasets": {SET: {
        "title": "Given images", "use": "test", "source": "a folder of images",
        "local": {"folder": str(folder), **pattern}}}}))
    stems = {path.stem for path in find_images(folder)}
    if not stems:
        raise UserError(f"--data {folder}: no image is in it or below it. Valid: "
                        f"{', '.join(SUFFIXES)}.")
    exclude = sorted(stems & {name for names in left_out.values() for name in names})
    print(f"{len(stems)} images in {folder}" + (f", {', '.join(exclude)} left out" if exclude
                                                else ""), flush=True)
    return [SET], {SET: exclude} if exclude else {}
