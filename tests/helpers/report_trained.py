"""A run folder with trainings: of one level, blind, paused; bundled weights; files with and without
a header."""

from __future__ import annotations

from pathlib import Path

from tests.helpers import report_fixtures as fixtures
from tests.helpers.report_fixtures import Builder

EXCLUDED = {"bsds500_train": ["302003"]}
ON = {"images": 8, "names": ["100007"], "crop": "at most 192x192 pixels of the middle"}
RECIPE = {"recipe": "short", "data": ["bsds500_train", "bsds500_test"], "steps": 400,
          "seconds": None, "loss": "l1_fft", "levels": None, "exclude": EXCLUDED,
          "note": "scaled to a CPU", "unknown": ["steps", "lr"]}


def validation_on(scope: str) -> dict:
    return {**ON, "metric": f"PSNR on {'y' if scope.startswith('sr') else 'rgb'}, dB",
            "protocol": scope}


def recipe(**changes) -> dict:
    return fixtures.recipe(**{**RECIPE, **changes})


def result(scope: str, steps: int, psnr: tuple[float, ...], **fields) -> dict:
    """A training's result: a falling loss, and validations spread over the steps."""
    every = steps // len(psnr)
    validation = [{"step": every * (i + 1), "psnr": value, "seconds": every * (i + 1) / 4}
                  for i, value in enumerate(psnr)]
    best = max(validation, key=lambda point: point["psnr"])
    curve = [{"step": s, "loss": 0.02 + 0.2 / (1 + s / 10) + 0.004 * (s * 7 % 3),
              "lr": 1e-3 * (1 - s / steps), "seconds": s / 4}
             for s in range(1, steps + 1, steps // 40)]
    return {"steps": steps, "seconds": steps / 4, "images": {"training": 391, "held_out": 8},
            "curve": curve, "validation": validation, "validation_on": validation_on(scope),
            "best": {**{k: best[k] for k in ("step", "psnr")}, "file": "x", "sha256": "0" * 64},
            "waiting": 0.0125, "processes": 1, **fields}


def header(scope: str, **fields) -> dict:
    """What a bundled file says of itself, as the record of a cell keeps it."""
    return {"model": "compacter", "arch": "compacter", "protocol": scope, "levels": None,
            "steps": 20_000, "recipe": recipe(steps=20_000), "exclude": EXCLUDED,
            "datasets": [{"name": "bsds500_train", "sha256": "1" * 64},
                         {"name": "bsds500_test", "sha256": "2" * 64}],
            "seconds": 19_080.0, "images_seen": 160_000, "parameters": 392_220,
            "images": {"training": 391, "held_out": 8}, "final_loss": 0.0123, "waiting": 0.002,
            "hardware": {"device": "cpu", "device_name": "Some CPU", "threads": 2,
                         "processes": 1},
            "validation": [[5000, 33.1], [10_000, 33.6], [20_000, 33.9]],
            "validation_on": validation_on(scope), **fields}


def trained_run(folder: Path) -> Builder:
    build = Builder(folder, "trained", ["Compacter"])
    for name, title in (("set5", "Set5"), ("cbsd68", "CBSD68"), ("photos", "Photos")):
        build.dataset(name, title, 2)
    build.model("bicubic", "Bicubic", learned=False, published_as="bicubic")
    build.model("compacter", "Compacter", published_as="Compacter",
                checkpoint={"kind": "trained"}, training=recipe())
    build.model("bundled", "Compacter, bundled", published_as="Compacter",
                checkpoint={"kind": "bundled"})
    build.model("light", "SemanIR light", in_paper=False, note="a size that no paper has",
                checkpoint={"kind": "file", "path": "light.safetensors"})
    build.model("foreign", "Foreign file", published_as="Compacter",
                checkpoint={"kind": "file", "path": "foreign.pth"})
    x2, x4, noise = "sr-x2@1", "sr-x4@1", "denoise_color-blind@1"

    def cell(name, dataset, model, psnr, **more):
        build.cell(name, dataset, model, {"psnr": [psnr - 1, psnr + 1], "ssim": [0.94, 0.95]},
                   **more)
    cell(x2, "set5", "bicubic", 33.68)
    for dataset in ("set5", "photos"):
        cell(x2, dataset, "compacter", 35.2)
        cell(x2, dataset, "bundled", 36.75, weights=header(x2))
    cell(x2, "set5", "light", 36.4, weights=header(x2, seconds=None, hardware={}, validation=[]))
    cell(x2, "set5", "foreign", 36.1)
    for level in ("sigma15", "sigma25"):
        cell(f"denoise_color-{level}@1", "cbsd68", "compacter", 30.4)
    cell("denoise_color-sigma25@1", "cbsd68", "bundled", 30.6, weights=header(
        noise, levels={"sigma": [15, 50]}, recipe=recipe(levels={"sigma": [15, 50]})))
    build.cell(x4, "set5", "compacter", status="unavailable",
               reason="its training unavailable: it is paused")
    build.training(x2, "compacter", result(x2, 400, (30.1, 32.4, 33.0, 32.9)))
    build.plan["models"]["compacter"] = {**build.plan["models"]["compacter"],
                                         "training": recipe(levels={"sigma": [15, 50]})}
    build.training(noise, "compacter", result(noise, 800, (28.0, 30.2), parameters=406_995))
    build.plan["models"]["compacter"]["training"] = recipe()
    build.training(x4, "compacter", status="unavailable", reason=(
        f"training {x4} / compacter: stopped after step 120 of 400; the state is saved, the same "
        "command goes on."))
    (folder / "training" / x4 / "compacter.state").write_bytes(b"state")
    build.leaks([("bsds500_train", "302003", "set5", "image1", "near")],
                [("bsds500_train", "set5", 200, 2), ("bsds500_test", "set5", 200, 2)])
    build.plan["trained_on"] = {
        f"{name}/{model}": {"bsds500_train": ["302003"], "bsds500_test": []}
        for name, model in ((x2, "compacter"), (x2, "bundled"), (x2, "light"))}
    return build
