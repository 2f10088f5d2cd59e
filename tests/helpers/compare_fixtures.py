"""Small runs to compare: two protocols, a set of eight images, two models with weights."""

from __future__ import annotations

import functools
import json
import math
import shutil
import tempfile
from pathlib import Path

from irbench.core import files
from tests.helpers.report_fixtures import Builder
from tests.helpers.sealed import seal

X2, X4 = "sr-x2@1", "sr-x4@1"
NET, K, CUBIC = "semanir", "semanir.k8", "bicubic"
IMAGES = [f"image{i}" for i in range(8)]
CELL = f"cells/{X2}/set8/{NET}.json"
PROFILE = f"profiles/{X2}/{NET}.json"
KEY = f"{X2}/set8/{NET}"


_kept = tempfile.TemporaryDirectory()       # the run, made once


def make(folder: Path, name: str = "base") -> Path:
    """Write a whole run and the config that asks for it; return its folder."""
    shutil.copytree(_made(), folder / name)
    return folder / name


@functools.cache
def _made() -> Path:
    name = "base"
    folder = Path(_kept.name) / name
    build = Builder(folder, name)
    build.dataset("set8", "Set8", 8)
    build.model(CUBIC, "Bicubic", learned=False)
    build.model(NET, "SemanIR", checkpoint={"kind": "file", "sha256": "1" * 64},
                options={"k": 64, "width": 60}, inference={"dtype": "float32"})
    build.variant(NET, "k8", "k = 8", {"k": 8})
    for protocol, level in ((X2, 0.0), (X4, -4.0)):
        for model, gain in ((CUBIC, 0.0), (NET, 2.0), (K, 1.5)):
            if (protocol, model) == (X4, K):
                continue
            build.cell(protocol, "set8", model, {
                "psnr": [30 + level + gain + 0.37 * i for i in range(8)],
                "ssim": [0.9 + level / 100 + gain / 100 + 0.001 * i for i in range(8)],
                "lpips": [0.2 - level / 100 - gain / 100 + 0.001 * i for i in range(8)]},
                images=IMAGES, metrics=("psnr", "ssim", "lpips"))
        build.profile(protocol, NET)
    config = {"title": f"The run {name}", "catalog_paths": [], "cells": [
        {"protocol": "sr-x2", "datasets": ["set8"], "models": [CUBIC, NET]},
        {"protocol": X4, "datasets": ["set8"], "models": [CUBIC, NET]}],
        "models": {CUBIC: {}, NET: {"variants": {"k8": {"options": {"k": 8},
                                                         "protocols": ["sr-x2"]}}}},
        "profile": {"references": []}}
    (folder / "config.json").write_text(json.dumps(config))
    for path in folder.rglob("*.json"):
        if path.name != "config.json":
            edit(folder, path.relative_to(folder), settle)
    return folder


def settle(record: dict) -> None:
    """The same machine, code and weights in every test, whatever runs it."""
    record["provenance"] = {
        "time": "2026-01-02T03:04:05+00:00", "irbench": "0.1.0", "python": "3.11.7",
        "git": {"commit": "a" * 40, "dirty": False},
        "packages": {"torch": "2.15.0", "numpy": "2.4.6"}, "threads": 1,
        "hardware": {"platform": "Linux x86_64", "cpu": "Some CPU", "cores": 2,
                     "memory_bytes": 2**34, "gpu": None}}
    record["seconds"] = {}
    if record["kind"] == "cell":
        record["result"]["device"] = "cpu"
    if record["kind"] == "cell" and record["spec"]["model"]["learned"]:
        record["resolved"]["checkpoint"] = "1" * 64


def edit(folder: Path, path: str | Path, change) -> None:
    """Change a record and make it whole again: means and digests fit."""
    record = json.loads((folder / path).read_text())
    change(record)
    if record["kind"] == "cell" and record["result"]:
        images = record["result"]["images"]
        for metric in ("psnr", "ssim", "lpips"):
            scores = [image[metric] for image in images]
            record["result"]["mean"][metric] = (None if None in scores or not scores
                                                else math.fsum(scores) / len(scores))
    files.write_json(folder / path, seal(record))


def shift(metric: str, *by: float, every: float | None = None):
    """Move the scores of the first images, or of every image."""
    def change(record: dict) -> None:
        images = record["result"]["images"]
        for image, step in zip(images, [every] * len(images) if every is not None else by,
                               strict=False):
            image[metric] += step
    return change


def disturbed(cores: float, factor: float = 1):
    """Times of a profile that other processes disturbed, and slowed down by a factor."""
    def change(record: dict) -> None:
        times = record["result"]["latency_ms"]
        times.update(busy_elsewhere=cores, samples=[factor * s for s in times["samples"]])
    return change


def fail(status: str = "failed", reason: str = "ran out of memory"):
    """Leave a record without a result."""
    return lambda record: record.update(status=status, reason=reason, result=None)


def both(*changes):
    """One change after the other."""
    def change(record: dict) -> None:
        for one in changes:
            one(record)
    return change


def other_machine(record: dict) -> None:
    """As if computed on a machine with a GPU and newer libraries that enter no digest."""
    record["provenance"]["hardware"].update(cpu="Other CPU", gpu="NVIDIA H200")
    record["provenance"]["packages"].update(matplotlib="9", numpy="9")
    if record["result"] and record["kind"] in ("cell", "profile"):
        record["result"]["device"] = "cuda"
        if record["kind"] == "profile":
            record["result"].update(device_name="NVIDIA H200", peak_memory_of="CUDA allocator")
            record["result"]["latency_ms"]["samples"] = [1.0 + i / 50 for i in range(20)]
