"""Build run folders of synthetic records, as the other stages would write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from irbench.catalog import protocols, recipes
from irbench.core import digests, files, records
from tests.helpers.paths import ROOT

INFERENCE = {"dtype": "float32", "channels_last": False, "compile": False, "tile": "auto",
             "overlap": None, "memory_gib": None}
TITLES = {"sr": "Super-resolution", "denoise_color": "Colour denoising", "jpeg_gray": "JPEG"}


def protocol(name: str) -> dict:
    """A definition with the fields of the catalog, for an id TASK-LEVEL@VERSION."""
    task, rest = name.split("-")
    if task not in TITLES:
        return protocols.get(name).definition()
    level = rest.partition("@")[0]
    number = int("".join(c for c in level if c.isdigit()))
    kind = {"sr": {"kind": "matlab_bicubic", "scale": number},
            "denoise_color": {"kind": "gaussian_noise", "sigma": number},
            "jpeg_gray": {"kind": "jpeg", "quality": number}}[task]
    color = {"sr": "y", "denoise_color": "rgb", "jpeg_gray": "gray"}[task]
    return {"id": name, "title": f"{TITLES[task]} {level}", "task": task, "level": level,
            "degradation": kind, "color": "gray" if color == "gray" else "rgb",
            "seed": 0 if task == "denoise_color" else None,
            "metric": {"color": color, "y_rounded": False, "crop": number if task == "sr" else 0,
                       "ssim": "gaussian11_valid"},
            "source": "the toolkits"}


def recipe(**fields) -> dict:
    """A whole recipe, as plans and records have it; what is not given is the catalog's."""
    return recipes.for_model(recipes.resolve({"data": ["photos"], **fields}, "here"), "any",
                       protocols.get("lowlight-lol")).as_dict()


class Builder:
    """Writes records under ``folder`` and keeps the plan that asks for them."""

    def __init__(self, folder: Path, run: str = "demo", published: str | list = "all") -> None:
        self.folder = Path(folder)
        self.plan = {"run": run, "title": None, "cells": [], "trainings": [], "profiles": [],
                     "benches": [], "references": [], "profile": {}, "protocols": {},
                     "datasets": {}, "models": {}, "published": published}

    def model(self, name: str, title: str, **fields) -> str:
        if fields.get("training"):
            fields["training"] = recipe(**fields["training"])
        self.plan["models"][name] = {
            "name": name, "arch": name, "title": title, "in_paper": True, "note": "",
            "published_as": "", "learned": True, "options": {}, "checkpoint": {"kind": "none"},
            "training": None, **fields}
        return name

    def variant(self, base: str, name: str, title: str, options: dict | None = None,
                inference: dict | None = None) -> str:
        """The model BASE.NAME with other options or another way of inference."""
        of = self.plan["models"][base]
        return self.model(f"{base}.{name}", f"{of['title']} ({title})", **{
            **{k: of[k] for k in ("arch", "learned", "checkpoint", "training")},
            "in_paper": False, "note": f"variant: {title}, weights of {base}",
            "options": {**of["options"], **(options or {})}, "base": base,
            "base_options": of["options"],
            "inference": {**of.get("inference", INFERENCE), **(inference or {})},
            "variant": {"options": options or {}, "inference": inference or {}}})

    def reference(self, name: str, title: str) -> str:
        self.plan["references"].append(name)
        return self.model(name, title, learned=False, in_paper=False, reference=True,
                          note="Random weights: for latency, memory and MACs only.")

    def dataset(self, name: str, title: str, count: int, reason: str = "") -> str:
        """With a reason, the set is not here."""
        self.plan["datasets"][name] = {
            "title": title, "count": count, "source": "a package", "reason": reason,
            "sha256": None if reason else digests.fingerprint(name)}
        return name

    def leaks(self, pairs: list[tuple] = (), compared: list[tuple] = (),
              not_compared: list[tuple] = (), **fields) -> None:
        """``pairs``: train, image, test, image, kind; ``compared``: train, test, counts."""
        self.plan["leaks"] = [{"run": self.plan["run"]}]
        result = {
            "pairs": [{"train": a, "test": c, "train_image": b, "test_image": d, "kind": kind,
                       "distance": 0.0 if kind == "identical" else 0.0123, "bits": 0,
                       "position": ""} for a, b, c, d, kind in pairs],
            "compared": [{"train": a, "test": b, "train_images": m, "test_images": n}
                         for a, b, m, n in compared],
            "not_compared": [{"train": a, "test": b, "reason": why}
                             for a, b, why in not_compared]}
        good = fields.get("status", "ok") == "ok"
        self.write("leaks", "leaks.json", self.plan["leaks"][0], {"pairs": []},
                   fields.get("status", "ok"), fields.get("reason"), result if good else None,
                   {"compare": 0.1})

    def _spec(self, name: str, model: str) -> dict:
        self.plan["protocols"].setdefault(name, protocol(name))
        return {"protocol": self.plan["protocols"][name], "model": self.plan["models"][model],
                "seed": 0, "code": "c0de"}

    def cell(self, name: str, dataset: str, model: str, scores: dict | None = None, *,
             images: list[str] | None = None, status: str = "ok", reason: str | None = None,
             missing: dict | None = None, metrics: tuple = ("psnr", "ssim"),
             kept: bool = False, write: bool = True, more: dict | None = None,
             weights: dict | None = None) -> None:
        """``scores``: metric -> per-image values (None: no score), in the order of ``images``.

        ``more`` goes into the result: inference, tiling, dictionary; ``weights`` is the header of
        the file of the weights.
        """
        key = {"protocol": name, "dataset": dataset, "model": model}
        self.plan["cells"].append(key)
        spec = {**self._spec(name, model), "metrics": list(metrics), "lpips_weights": None,
                "keep_images": kept,
                "dataset": {"name": dataset,
                            "sha256": self.plan["datasets"][dataset]["sha256"]}}
        result = None
        if status == "ok" and write:
            count = self.plan["datasets"][dataset]["count"]
            images = images or [f"image{i}" for i in range(count)]
            result = {"images": [], "mean": {}, "missing": missing or {}, **(more or {})}
            for i, image in enumerate(images):
                result["images"].append({
                    "name": image, "height": 96, "width": 96,
                    **{m: scores[m][i] if m in scores else None
                       for m in dict.fromkeys(("psnr", "ssim", "lpips", *scores))},
                    "file": f"images/{name}/{dataset}/{model}/{image}.png" if kept else None})
            for m in dict.fromkeys(("psnr", "ssim", "lpips", *scores)):
                values = scores.get(m) or [None]
                result["mean"][m] = (None if None in values
                                     else float(np.mean(values)))
        if write:
            self.write("cell", f"cells/{name}/{dataset}/{model}.json", key, spec, status, reason,
                       result, {"load": 0.5, "forward": 1.25, "score": 0.75, "write": 0.01},
                       {"checkpoint": None, **({"weights": weights} if weights else {})})

    def training(self, name: str, model: str, result: dict | None = None, *,
                 status: str = "ok", reason: str | None = None) -> None:
        key = {"protocol": name, "model": model}
        self.plan["trainings"].append(key)
        blind = name.partition("@")[0].endswith("-blind")
        spec = {"protocol": {"id": name}, "model": self.plan["models"][model], "seed": 0,
                "code": "c0de"} if blind else self._spec(name, model)
        steps = (result or {}).get("steps", 150)
        default = {
            "steps": steps, "seconds": 41.0, "images_seen": steps * 8, "parameters": 392_200,
            "final_loss": 0.021, "checkpoint": {"file": f"checkpoints/{name}/{model}.safetensors",
                                                "sha256": "0" * 64},
            "curve": [{"step": s, "loss": 0.02 + 0.2 / (1 + s / 10), "lr": 2e-4,
                       "seconds": 0.27 * s} for s in range(0, steps + 1, max(1, steps // 15))],
            "device": "cpu", "device_name": "Some CPU"}
        self.write("training", f"training/{name}/{model}.json", key, spec,
                   status, reason, {**default, **(result or {})} if status == "ok" else None,
                   {"train": 41.0})

    def profile(self, name: str, model: str, result: dict | None = None, *,
                status: str = "ok", reason: str | None = None) -> None:
        key = {"protocol": name, "model": model}
        self.plan["profiles"].append(key)
        samples = [12.0 + 0.1 * (i * 7 % 11) for i in range(20)]
        default = {
            "parameters": 392_200, "macs": 1_600_000_000,
            "macs_by_kind": {"conv": 10**9, "linear": 6 * 10**8, "attention": 0,
                             "dictionary": 0, "other": 0}, "uncounted": {},
            "input": {"batch": 1, "channels": 3, "height": 64, "width": 64},
            "latency_ms": {"p50": 12.5, "p90": 12.9, "samples": samples, "warmup": 3},
            "peak_memory_bytes": 2**27, "peak_memory_of": "process RSS growth", "device": "cpu",
            "device_name": "Some CPU", "dtype": "float32", "threads": 1}
        self.write("profile", f"profiles/{name}/{model}.json", key, self._spec(name, model),
                   status, reason, {**default, **(result or {})} if status == "ok" else None,
                   {"count": 0.2, "time": 1.5})

    def bench(self, result: dict | None = None, *, status: str = "ok",
              reason: str | None = None) -> None:
        key = {"bench": "attention"}
        self.plan["benches"].append(key)
        self.write("bench", "benches/attention.json", key, {"bench": {}, "code": "c0de"}, status,
                   reason, result, {"measure": 3.0})

    def write(self, kind, path, key, spec, status, reason, result, seconds, resolved=None) -> None:
        files.write_json(self.folder / path, records.make(
            kind, key, spec, status=status, reason=reason, result=result, seconds=seconds,
            resolved=resolved, threads=1))

    def image(self, name: str, dataset: str, part: str, image: str, pixels: np.ndarray) -> None:
        path = self.folder / "images" / name / dataset / part / f"{image}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def small_run(folder: Path, published: str | list = "all") -> Builder:
    """Two tasks, two levels, four models: ties, an unavailable cell, a missing one, no LPIPS."""
    build = Builder(folder, published=published)
    build.dataset("set5", "Set5", 2)
    build.dataset("photos", "Photos", 2)
    build.model("bicubic", "Bicubic", learned=False, published_as="bicubic")
    build.model("compacter", "Compacter", published_as="Compacter",
                checkpoint={"kind": "trained"}, training={"recipe": "short", "data": ["photos"],
                                                          "steps": 150, "seconds": None})
    build.model("semanir", "SemanIR-S", published_as="SemanIR-S",
                checkpoint={"kind": "trained"}, training={"recipe": "short", "data": ["photos"],
                                                          "steps": 90, "seconds": None})
    build.model("tiny", "SemanIR tiny_50%", in_paper=False, note="a size that no paper has",
                checkpoint={"kind": "file"})
    all3 = ("psnr", "ssim", "lpips")
    no_lpips = {"lpips": "no LPIPS weights here"}
    x2, x3 = "sr-x2@1", "sr-x3@1"
    for dataset in ("photos", "set5"):
        build.cell(x2, dataset, "bicubic", {"psnr": [33.0, 34.0], "ssim": [0.93, 0.931],
                                            "lpips": [0.2, 0.22]}, metrics=all3)
        build.cell(x2, dataset, "compacter", {"psnr": [35.0, 36.0], "ssim": [0.95, 0.951],
                                              "lpips": [0.1, 0.12]}, metrics=all3)
        build.cell(x2, dataset, "semanir", {"psnr": [35.001, 36.001], "ssim": [0.94, 0.941]},
                   metrics=all3, missing=no_lpips)
    build.cell(x2, "photos", "tiny", status="unavailable", reason="weights tiny.pt: no such file")
    build.cell(x2, "set5", "tiny", write=False)
    build.cell(x3, "set5", "bicubic", {"psnr": [30.0, 31.0], "ssim": [0.86, 0.87]})
    build.cell(x3, "set5", "compacter", {"psnr": [31.0, 32.0], "ssim": [0.88, None]})
    noise = "denoise_color-sigma25@1"
    build.model("input", "Input", learned=False)
    build.cell(noise, "photos", "input", {"psnr": [20.2, 20.3], "ssim": [0.4, 0.42]})
    build.cell(noise, "photos", "compacter", {"psnr": [29.2, 29.5], "ssim": [0.84, 0.85]})
    for name, model, result in (
            (x2, "compacter", {}), (x3, "compacter", {"seconds": 44.0, "parameters": 398_700}),
            (x2, "semanir", {"steps": 90, "seconds": 7300.0, "parameters": 11_870_000}),
            (noise, "compacter", {"parameters": 406_995})):
        build.training(name, model, result)
    build.profile(x2, "compacter")
    build.profile(x2, "semanir", {"parameters": 11_870_000, "macs": 48_000_000_000,
                                  "latency_ms": {"p50": 210.0, "p90": 230.0, "warmup": 3,
                                                 "samples": [205.0, 210.0, 231.0]}})
    build.profile(x3, "compacter", status="failed", reason="ran out of memory")
    return build


def wide_run(folder: Path) -> Builder:
    """Other tasks: a leak, a set that is not here, synthetic degradations, verdicts."""
    build = Builder(folder, "wide")
    for name, title, count in (("set5", "Set5", 2), ("live1_color", "LIVE1", 2),
                               ("bsds500_test", "BSDS500 (test)", 2), ("mcmaster", "McMaster", 2),
                               ("set12", "Set12", 2), ("photos", "Photos", 2)):
        build.dataset(name, title, count)
    absent = "GoPro is not here: put its pairs into data/gopro (irbench data check gopro)."
    build.dataset("gopro", "GoPro", 1111, absent)
    build.dataset("hide", "HIDE", 2)
    build.model("input", "Input", learned=False, published_as="input")
    build.model("bicubic", "Bicubic", learned=False, published_as="Bicubic")
    build.model("malvar", "Malvar-He-Cutler", learned=False, published_as="Matlab")
    trained = {"checkpoint": {"kind": "trained"}}
    build.model("compacter", "Compacter", published_as="Compacter", **trained,
                training={"recipe": "short", "data": ["bsds500_test"]})
    build.model("unet", "SemanIR", published_as="SemanIR", **trained,
                training={"recipe": "short", "data": ["photos_train"]})
    build.model("drunet", "DRUNet", published_as="DRUNet*", arch="external", in_paper=False,
                note="third-party weights", checkpoint={"kind": "external"})

    def cell(name, dataset, model, psnr, ssim):
        build.cell(name, dataset, model, {"psnr": [psnr - 1, psnr + 1], "ssim": [ssim, ssim]})

    cell("sr-x2@1", "set5", "bicubic", 33.678, 0.93038)         # printed 33.66 .9299
    cell("sr-x2@1", "set5", "compacter", 36.2, 0.955)           # printed 38.24 .9619
    cell("jpeg_color-q10@1", "live1_color", "input", 25.693, 0.7433)    # printed 25.69 .7430
    cell("jpeg_color-q10@1", "bsds500_test", "input", 25.84, 0.741)
    cell("jpeg_color-q10@1", "bsds500_test", "compacter", 28.1, 0.8)
    cell("jpeg_color-q10@1", "bsds500_test", "drunet", 27.9, 0.79)
    cell("demosaic-rggb@1", "mcmaster", "malvar", 34.4, 0.93)   # printed 34.43
    cell("denoise_gray-sigma25@1", "set12", "drunet", 30.9, 0.88)       # printed with an asterisk
    cell("denoise_gray-sigma25@1", "set12", "compacter", 29.9, 0.86)
    for model in ("input", "unet"):
        build.cell("deblur-motion@1", "gopro", model, status="unavailable", reason=absent)
        cell("deblur-motion@1", "hide", model, 29.0, 0.91)
        cell("deblur-synthetic@1", "photos", model, 24.0, 0.8)
        cell("weather-synthetic_snow@1", "photos", model, 21.0, 0.7)
        cell("weather-synthetic_drops@1", "photos", model, 22.0, 0.7)
    for name, model in (("sr-x2@1", "compacter"), ("jpeg_color-q10@1", "compacter"),
                        ("deblur-synthetic@1", "unet")):
        build.training(name, model)
    build.leaks([("bsds500_test", "302003", "set5", "image1", "near"),
                 ("bsds500_test", "image0", "bsds500_test", "image0", "identical"),
                 ("bsds500_test", "image1", "bsds500_test", "image1", "identical")],
                [("bsds500_test", "set5", 2, 2), ("bsds500_test", "bsds500_test", 2, 2),
                 ("photos_train", "photos", 10, 2)], [("photos_train", "gopro", absent)])
    return build


GOLDEN = ROOT / "tests" / "report" / "golden"
GOLDEN_TABLES = ("sr", "denoise_color", "deblur", "deblur-synthetic")
GOLDEN_FORMS = ("sr", "sr_light", "denoise", "jpeg_color")      # golden/papers_STEM: other runs
GOLDEN_SHEETS = ("variants", "profiles", "operations", "dictionary", "attention", "efficiency")
GOLDEN_METHODS = ["RCAN", "IPT", "SemanIR-S", "Compacter", "bicubic", "DRUNet"]


def golden_tables(folder: Path) -> dict[str, str]:
    """File name -> text of the tables of five runs, of ``small_run`` with a few methods."""
    from irbench.report import collect
    from irbench.report.facts import verdict
    from irbench.report.tables import files, sheets, tables, verdicts
    from tests.helpers.report_fast import fast_run
    from tests.helpers.report_papers import papers_run
    from tests.helpers.report_trained import trained_run

    fast = sheets.build(collect.collect(folder / "fast", fast_run(folder / "fast").plan))
    small = tables.build(collect.collect(folder / "small",
                                         small_run(folder / "small", GOLDEN_METHODS).plan))
    wide = collect.collect(folder / "wide", wide_run(folder / "wide").plan)
    papers = tables.build(collect.collect(folder / "papers", papers_run(folder / "papers").plan))
    printed = {f"{name}{stem}.{suffix}": text
               for name, built, stems in (("", small, GOLDEN_TABLES[:2]),
                                          ("", tables.build(wide), GOLDEN_TABLES[2:]),
                                          ("papers_", papers, GOLDEN_FORMS))
               for stem in stems
               for suffix, text in files.texts([t for t in built if t.stem == stem]).items()}
    trained = sheets.build(collect.collect(folder / "trained",
                                           trained_run(folder / "trained").plan))
    printed |= {f"{stem}.{suffix}": text
                for stem in GOLDEN_SHEETS
                for suffix, text in files.texts([fast[stem]]).items()}
    printed |= {f"training.{suffix}": text
                for suffix, text in files.texts([trained["training"]]).items()}
    return {**printed, **{f"verdicts.{suffix}": text for suffix, text in
                          verdicts.texts(wide, verdict.all_verdicts(wide)).items()}}


if __name__ == "__main__":      # python -m tests.helpers.report_fixtures writes the golden files
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        for file, content in golden_tables(Path(temporary)).items():
            (GOLDEN / file).write_text(content)
