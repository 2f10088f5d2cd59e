"""A run folder with variants, a reference, sweeps, tiles, dictionaries and the benchmark."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

from irbench.present.table import Table, Value
from irbench.present.tidy import to_csv
from irbench.report import collect
from irbench.report.run import Run
from tests.helpers.report_fixtures import INFERENCE, Builder
from tests.helpers.sealed import seal


def collected(builder: Builder) -> Run:
    return collect.collect(builder.folder, builder.plan)


def row(made: Table, *names: str) -> dict[tuple[str, str], Value]:
    """The first row whose first values are these, by the columns' common heads and titles."""
    found = next(r for r in made.rows if [v.shown for v in r.values][:len(names)] == list(names))
    return {("".join(c.over), c.title): v
            for c, v in zip(made.all_columns, found.values, strict=True)}


def lines(made: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(made))))


def edit(builder: Builder, path: str, change: Callable[[dict], None]) -> None:
    """Change a record's result in place."""
    file = builder.folder / path
    record = json.loads(file.read_text())
    change(record["result"])
    file.write_text(json.dumps(seal(record)))


def bench_result(sizes: tuple = (64, 256, 1024), keys: tuple = (64, 128, 256, 512)) -> dict:
    """Times that grow as N² or N k; Triton and one memory are missing."""
    rows, build = [], []
    shape = {"windows": 4, "heads": 6, "head_dim": 30}

    def add(name, n, k, ms, mib, reason=""):
        timed = ms and {"p50": ms, "samples": [ms * 0.9, ms, ms * 1.1]}
        rows.append({"implementation": name, "n": n, "k": k, **shape, "latency_ms": timed,
                     "peak_memory_bytes": mib and int(mib * 2**20),
                     "peak_memory_of": mib and "process RSS growth", "reason": reason})
    for n in sizes:
        add("dense", n, None, n * n * 4e-5, n / 16)
        for k in (k for k in keys if k < n):
            add("reference", n, k, n * n * 3e-4, n * n / 8e3)
            add("mask", n, k, n * n * 6e-5, n * n / 1.6e4)
            add("gather", n, k, n * k * 2e-3, None if k == 512 else n * k / 500,
                "out of memory while measuring memory" if k == 512 else "")
            add("triton", n, k, None, None, "Triton needs a CUDA device; none is here.")
            build.append({"n": n, "k": k, "peak_memory_bytes": int(n * n / 1e4 * 2**20),
                          "latency_ms": {"p50": n * n * 5e-5, "samples": [n * n * 5e-5] * 3}})
    return {"rows": rows, "build": build, "device": "cpu", "device_name": "Some CPU",
            "dtype": "float32", "threads": 2}


def sweep(ms: float, memory: bool = True) -> dict:
    """A sweep whose latency grows a little faster than the pixels; the largest size is missing."""
    def point(side, batch, p50):
        gone = {"latency_ms": "out of memory: 512 x 512 needs more than there is"}
        return {"height": side, "width": side, "batch": batch, "peak_memory_bytes": None,
                "latency_ms": p50 and {"p50": p50, "samples": [p50] * 3},
                "missing": {} if p50 else gone}
    sizes = [point(s, 1, ms * (s / 64) ** 2.1) for s in (64, 96, 128)]
    return {"size": {"points": [*sizes, point(512, 1, None)] if memory else sizes,
                     "exponent": {"value": 1.05, "low": 1.02, "high": 1.08}, "reason": ""},
            "batch": {"points": [point(64, b, ms * b**0.9) for b in (1, 2)], "exponent": None,
                      "reason": "an exponent needs 3 points that were timed; there are 2"}}


def health(stages: int, n: int = 256, k: int = 64) -> list[dict]:
    return [{"stage": f"stages.{i}.dictionary", "n": n, "k": min(n, k),
             "self": None if k >= n else 0.97 - 0.1 * i,
             "used": None if k >= n else 0.98 - 0.02 * i,
             "overlap": None if k >= n or i == 0 else 0.6 + 0.05 * i} for i in range(stages)]


def fast_run(folder: Path) -> Builder:
    """Variants in k and in dtype, a reference, sweeps, tiles, dictionaries, the benchmark."""
    build = Builder(folder, "fast", ["SemanIR-S", "Compacter"])
    build.plan["profile"] = {"sweep": {"sizes": [64, 96, 128, 512], "batches": [1, 2]}}
    build.dataset("set5", "Set5", 2)
    build.dataset("photos", "Photos", 2)
    trained = {"checkpoint": {"kind": "trained"}, "training": {"recipe": "short",
                                                               "data": ["photos"]}}
    build.model("semanir", "SemanIR-S", published_as="SemanIR-S", options={"k": 64}, **trained)
    build.model("compacter", "Compacter", published_as="Compacter", options={}, **trained)
    ks = {8: 33.1, 16: 34.9, 32: 35.4, 128: 35.52}
    for k in ks:
        build.variant("semanir", f"k{k}", f"k = {k}", {"k": k})
    build.variant("semanir", "bf16", "bfloat16", inference={"dtype": "bfloat16"})
    build.variant("compacter", "fast", "bfloat16, compiled",
                  inference={"dtype": "bfloat16", "compile": True})
    build.reference("swinir-s-random", "SwinIR-S (lightweight, random weights, for speed)")
    x2, bf16 = "sr-x2@1", {"dtype": "bfloat16"}

    def cell(dataset, model, psnr, **more):
        build.cell(x2, dataset, model, {"psnr": [psnr - 1, psnr + 1], "ssim": [0.94, 0.95]},
                   more={"inference": build.plan["models"][model].get("inference", INFERENCE),
                         "tiling": None, "dictionary": None, **more})
    tiles = {"size": [192, 192], "overlap": 32, "images": 1,
             "reason": "the whole image needs about 9.1 GiB and 6.0 GiB may be used"}
    for dataset, shift in (("set5", 0.0), ("photos", -2.3)):
        cell(dataset, "semanir", 35.5 + shift, dictionary=health(6),
             tiling=tiles if dataset == "photos" else None)
        for k, psnr in ks.items():
            cell(dataset, f"semanir.k{k}", psnr + shift, dictionary=health(6, k=k))
        cell(dataset, "semanir.bf16", 35.497 + shift)
        cell(dataset, "compacter", 35.2 + shift)
    cell("set5", "compacter.fast", 35.18)
    build.cell(x2, "photos", "compacter.fast", status="failed", reason="no C++ compiler was found.")
    for model in ("semanir", "compacter"):
        build.training(x2, model)

    def profile(model, ms, macs, keys, **more):
        build.profile(x2, model, {
            "latency_ms": {"p50": ms, "warmup": 2,      # one model has samples enough for a p90
                           "samples": [ms * 0.98, ms] * (40 if model == "compacter" else 1)},
            "macs": macs, "macs_keys_only": keys, "macs_by_kind": {
                "linear": macs // 2, "conv": macs // 5, "attention": macs // 5,
                "dictionary": macs - macs // 2 - 2 * (macs // 5), "other": 0},
            "inference": {**INFERENCE, **more.pop("inference", {})}, "throughput": {
                "images_per_s": 1000 / ms, "megapixels_per_s": 4.096 / ms},
            "energy": None, "missing": {"energy": "no energy counter of the CPU: no RAPL."},
            "attention": {"implementation": "mask", "reason": "on a CPU the mask is the fastest"},
            "dictionary": None, "dictionary_of": None, "sweep": None, **more})
    macs = 50 * 10**9
    profile("semanir", 210.0, macs, 44 * 10**9, sweep=sweep(210.0), dictionary=health(6),
            dictionary_of="astronaut of scikit-image")
    for k in ks:
        profile(f"semanir.k{k}", 200.0 + k / 8, macs, 40 * 10**9 + k * 6 * 10**7)
    profile("semanir.bf16", 140.0, macs, 44 * 10**9, dtype="bfloat16", inference=bf16)
    profile("compacter", 40.0, 3 * 10**9, 3 * 10**9, sweep=sweep(40.0, False), attention=None,
            energy={"joules_per_image": 1.25, "method": "RAPL of package-0"}, missing={})
    profile("compacter.fast", 28.0, 3 * 10**9, 3 * 10**9, dtype="bfloat16", attention=None,
            inference={**bf16, "compile": True})
    profile("swinir-s-random", 120.0, 30 * 10**9, 30 * 10**9, attention=None,
            parameters=878_000)
    build.bench(bench_result())
    return build
