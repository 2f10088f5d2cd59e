"""The stages of ``gpu.py``: what each of them runs. A stage is one process of this program.

Reads   the given images; the tests, in this checkout.
Writes  STAGE.json in ``out``, anew after each finding, so that a killed stage leaves what it found;
        everything else in the current folder, which is ``out``/work.

Try: ``benchmarks/gpu.sh check --device cpu --tiny --only attention --out /tmp/gpu``
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import gpu_data
import torch
from gpu import has
from gpu_findings import Findings, count

from irbench.catalog import protocols
from irbench.core import machine, messages
from irbench.core.errors import Paused, Unavailable, UserError
from irbench.core.statistics import percentile
from irbench.inference import allocator
from irbench.jobs import bench, run
from irbench.jobs.profiling import profile
from irbench.jobs.result import RunSettings
from irbench.jobs.training import processes
from irbench.plan import Job, Plan

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "torchvision", "triton", "numpy", "pillow", "opencv-python-headless",
            "safetensors", "accelerate", "fvcore", "spandrel", "pyiqa", "jsonschema", "pytest",
            "scikit-image", "snakemake")
SWINIR = ("swinir-s-random", "swinir-m-random")     # spandrel's, with random weights
INFERENCE = {"bf16": {"dtype": "bfloat16"}, "channels-last": {"channels_last": True}}
COMPILED = {"compiled": {"compile": True}}
# how the steps of a training are run -> recipe, and settings of the run
STEPS = {"float32": ({}, {}), "bf16": ({"precision": "bf16"}, {}),
         "channels-last": ({}, {"channels_last": True}), "tf32": ({}, {}),
         "graph": ({}, {"graph": True}), "muon": ({"optimiser": "muon", "matrix_lr": 8}, {}),
         "graph, muon": ({"optimiser": "muon", "matrix_lr": 8}, {"graph": True}),
         "bf16, muon": ({"precision": "bf16", "optimiser": "muon", "matrix_lr": 8}, {})}
STEPS_COMPILED = {"bf16, compiled": ({"precision": "bf16"}, {"compile": True}),
                  "compiled": ({}, {"compile": True})}
WARM = 10       # steps that do not count in a speed


# -- the stages ----------------------------------------------------------------------------------

def check_machine(found: Findings) -> None:
    """Note versions and devices; prepare the images."""
    about = machine.provenance(found.threads)
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    found.put(**about, versions=machine.versions_of(*PACKAGES), cuda=torch.version.cuda,
              gpus=[{"name": one.name, "memory_bytes": one.total_memory,
                     "capability": f"{one.major}.{one.minor}"} for one in gpus])
    device = found.device()
    if device == "cpu" and found.settings["device"] == "auto":
        found.problem(f"no GPU is used: {found.all['device_reason']}. Everything below ran on the "
                      "CPU; --device cpu asks for that")
    images = gpu_data.images(found.settings)
    found.put(images=images, short=f"torch {torch.__version__}, {found.all['device_name']}, "
                                   f"{count(len(images['names']), 'image')} {images['of']}")


def check_tests(found: Findings) -> None:
    """Run the tests marked gpu, of the files that hold some."""
    import pytest

    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py"))
             if "mark.gpu" in path.read_text()]
    seen: dict[str, str] = {}

    class Watch:
        """Notes the outcome of every test at once: a time limit may come."""

        def pytest_runtest_logreport(self, report) -> None:
            if report.when == "call" or report.outcome != "passed":
                seen[report.nodeid] = report.outcome
                print(f"{report.outcome}: {report.nodeid}", flush=True)
                if report.outcome == "failed":
                    text = str(report.longrepr).strip().split("\n")[-1]
                    found.problem(f"{report.nodeid}: {text[:300]}")
                counts = Counter(seen.values())
                found.put(outcomes=seen, short=", ".join(f"{n} {how}" for how, n in
                                                         sorted(counts.items())))

        def pytest_collectreport(self, report) -> None:
            if report.outcome == "failed":
                found.problem(f"{report.nodeid} cannot be collected: "
                              f"{str(report.longrepr).strip().splitlines()[-1][:300]}")

    device, work = found.device(), Path.cwd()
    words = ["-m", "gpu", "-o", "addopts=", "-p", "no:cacheprovider", "-q", "--tb=short",
             "--continue-on-collection-errors", "--basetemp", str(work / "pytest")]
    if device == "cuda" and has("xdist"):  # compilers run side by side
        words += ["-n", str(min(4, found.settings["cores"]))]
    with chdir(ROOT):
        code = pytest.main([*map(str, files[:1] if found.tiny else files), *words],
                           plugins=[Watch()])
    if code not in (0, 1, 5):   # passed, failed, nothing collected
        found.problem(f"pytest ended with exit code {int(code)}")
    elif device == "cuda" and "passed" not in seen.values():
        found.problem("no test ran")


def check_attention(found: Findings) -> None:
    """Measure all attention implementations, one N at a time."""
    device = found.device()
    sizes = {64: [16, 64], 256: [64, 128], 1024: [64, 128, 256, 512]}
    if found.tiny:
        sizes = {16: [4]}
    shape = ({"windows": 1, "heads": 2, "head_dim": 4, "samples": 1} if found.tiny else
             {"windows": 16, "heads": 6, "head_dim": 30, "samples": 20})
    for dtype in ("float32", "bfloat16"):
        for n, k in sizes.items():
            with found.part(f"{dtype}, N = {n}"):
                result = bench.measure({"n": [n], "k": k, **shape, "warmup": 2, "dtype": dtype,
                                        "implementations": ["mask", "reference"]
                                        if found.tiny else None}, found.run_settings())
                for row in result["rows"] + [{"implementation": "dictionary", **one}
                                             for one in result["build"]]:
                    found.row("rows", dtype=dtype, implementation=row["implementation"], n=n,
                              k=row["k"], p50_ms=(row["latency_ms"] or {}).get("p50"),
                              peak_bytes=row["peak_memory_bytes"], error=row.get("max_error"),
                              reason=row["reason"])
                    if row["reason"] and device == "cuda":
                        found.problem(f"{row['implementation']} at {dtype}, N = {n}, k = "
                                      f"{row['k']}: {row['reason'][:200]}")
                found.put(ratios=[*found.all.get("ratios", []),
                                  *({"dtype": dtype, **one} for one in result["ratios"])])
    best = [one for one in found.all.get("ratios", []) if one["dtype"] == "float32"]
    if best:
        found.put(short=f"fastest at N = {best[-1]['n']}, k = {best[-1]['k']}: "
                        f"{best[-1]['best']}, {best[-1]['best_over_dense'] or 0:.2f} times dense")


def check_profiles(found: Findings) -> None:
    """Profile the bundled models, in several forms, and SwinIR; the plainest forms first."""
    first, size = protocols.get("sr-x2").id, gpu_data.profile_size(found.tiny)
    wanted = gpu_data.bundled_models(("sr",) if found.tiny else None)
    references = [name for name in SWINIR if has("spandrel")]
    if not references:
        found.note("SwinIR: needs the package spandrel, which cannot be imported")
    models, cells = {}, []
    for protocol, entries in sorted(wanted.items(), key=lambda item: item[0] != first):
        stem = "" if protocol == first else f"-{protocol.partition('@')[0]}"
        named = {f"{arch}{stem}": {"arch": arch, **entry} for arch, entry in entries.items()}
        if protocol == first and not found.tiny:
            named["semanir-s"] = {"arch": "semanir-s", "training": {
                "recipe": "demo", "data": [gpu_data.SET]}}
        if protocol == first:
            named |= {f"{name}-{how}": {**entry, "inference": options}
                      for how, options in INFERENCE.items() for name, entry in named.items()}
        models |= named
        cells.append({"protocol": protocol, "datasets": [gpu_data.SET], "models": list(named)})
        if found.tiny:
            references = references[:1]
            break
    profile_all(found, models, cells, {**size, "references": references})
    found.put(short=", ".join(f"{row['model']} {row['p50_ms']:.3g} ms"
                              for row in found.all.get("rows", [])[:4]))


def profile_all(found: Findings, models: dict, cells: list[dict], section: dict) -> None:
    """Profile every model of a run; the plain forms first, of those the first protocol."""
    planned = gpu_data.plan(found.settings, models=models, cells=cells, profile=section)
    forms, first = {*INFERENCE, *COMPILED}, cells[0]["protocol"]
    for job in sorted(planned.profiles.values(), key=lambda job: (
            any(job.key["model"].endswith(how) for how in forms), job.key["protocol"] != first)):
        with found.part(f"{job.key['model']} under {job.key['protocol']}"):
            result = run.compute(planned, job, found.run_settings()).result
            found.row("rows", model=job.key["model"], protocol=job.key["protocol"],
                      p50_ms=result["latency_ms"]["p50"],
                      p90_ms=percentile(result["latency_ms"]["samples"], 90),
                      peak_bytes=result["peak_memory_bytes"], macs=result["macs"],
                      parameters=result["parameters"], energy=result["energy"],
                      attention=result["attention"], clock_mhz=result["clock_mhz"],
                      precision=result["precision"], missing=result["missing"])
        free()


def free() -> None:
    """Give unused memory of the GPU back, and forget compiled code."""
    if "torch._dynamo" in sys.modules:     # its import takes seconds
        torch._dynamo.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# -- steps of trainings --------------------------------------------------------------------------

def check_steps(found: Findings, arch: str) -> None:
    """Train a few steps in each form that needs no compiler; compare loss and speed."""
    rows = train_steps(found, arch, STEPS)
    found.put(short=", ".join(f"{row['form']} {row['images_per_s']:.0f} images/s" for row in rows
                              if row["images_per_s"]))
    plain = next((row for row in rows if row["form"] == "float32"), None)
    for row in rows:
        if plain and row["loss"] > 1.25 * plain["loss"]:
            found.problem(f"{row['form']}: the loss is {row['loss']:.4g}, in float32 "
                          f"{plain['loss']:.4g}")


def check_compiled(found: Findings) -> None:
    """Train and profile compiled networks, SwinIR's aside."""
    if found.tiny:
        torch._dynamo.config.disable = True
        found.note("nothing is compiled with --tiny: a compiler takes minutes on a CPU")
    first = protocols.get("sr-x2").id
    for arch, entry in gpu_data.bundled_models(("sr",))[first].items():
        rows = train_steps(found, arch, STEPS_COMPILED)
        found.put(short="; ".join(filter(None, [found.all.get("short"), f"{arch}: " + ", ".join(
            f"{row['form']} {row['images_per_s'] or 0:.0f} images/s, first step "
            f"{row['first_step_s']:.0f} s" for row in rows)])))
        profiled = {arch: {"arch": arch, **entry, "inference": COMPILED["compiled"]}}
        profile_all(found, profiled, [{"protocol": first, "datasets": [gpu_data.SET],
                                       "models": [arch]}], gpu_data.profile_size(found.tiny))


def train_steps(found: Findings, arch: str, wanted: dict) -> list[dict]:
    """Train a few steps in each of some forms; return the rows of those that worked."""
    device = found.device()
    steps = 3 if found.tiny else 50
    recipe = {"recipe": "short", "steps": steps, "data": [gpu_data.SET], "exclude": {},
              "holdout": 0, "validate_every": None, "save_every": 1000, "optimiser": "adamw",
              "spike": None, "workers": 0 if found.tiny else min(4, found.settings["cores"] - 1),
              "batch": 2 if found.tiny else 16, "patch": 32 if found.tiny else 96}
    forms = {how: form for how, form in wanted.items() if not (
        (device == "cpu" and ("tf32" in how or "graph" in how))
        or ("muon" in how and not hasattr(torch.optim, "Muon")))}   # torch before 2.9
    rows = []
    for how, (own, settings) in forms.items():
        with found.part(f"{arch}, {how}"):
            planned, job = gpu_data.training(found.settings, arch, {**recipe, **own},
                                             run=f"steps-{''.join(filter(str.isalnum, how))}")
            rows.append({"model": arch, "form": how, **steps_of(planned, job, found, how == "tf32",
                                                                settings)})
            found.row("steps", **rows[-1])
        free()
    return rows


def steps_of(planned: Plan, job: Job, found: Findings, tf32: bool, settings: dict) -> dict:
    """Run one training; return losses, speed (without the first steps) and peak memory."""
    cuda, before = found.device() == "cuda", torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else before)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    try:
        result = run.compute(planned, job, found.run_settings(**settings)).result
    finally:
        torch.set_float32_matmul_precision(before)
    curve = result["curve"]
    warm = min(WARM, len(curve) - 1)
    seconds = curve[-1]["seconds"] - curve[warm - 1]["seconds"]
    taken = (curve[-1]["step"] - curve[warm - 1]["step"]) * job.model.training.batch
    losses = [point["loss"] for point in curve]
    return {"images_per_s": round(taken / seconds, 2) if seconds > 0 else None,
            "first_step_s": curve[0]["seconds"], "seconds": result["seconds"],
            "loss": statistics.fmean(losses[-10:]), "waiting": result["waiting"],
            "peak_bytes": torch.cuda.max_memory_allocated() if cuda else None,
            "batch": job.model.training.batch, "patch": job.model.training.patch,
            "losses": losses}


# -- the pipeline --------------------------------------------------------------------------------

def check_evaluation(found: Findings) -> None:
    """Evaluate bundled models on the images; compare with the CPU and with bfloat16."""
    device = found.device()
    models, cells = {}, []
    for protocol, entries in gpu_data.bundled_models(("sr",) if found.tiny else None).items():
        named = {f"{arch}-{protocol.partition('@')[0]}": {"arch": arch, **entry}
                 for arch, entry in entries.items()}
        models |= named
        cells.append({"protocol": protocol, "datasets": [gpu_data.SET, gpu_data.FEW],
                      "models": list(named)})
    cells.sort(key=lambda group: group["protocol"] != protocols.get("sr-x2").id)
    halves = {f"{name}-bf16": {**models[name], "inference": {"dtype": "bfloat16"}}
              for name in cells[0]["models"]}
    models |= halves
    cells[0]["models"] += halves
    metrics = ["psnr"] + ["ssim"] * has("cv2")
    planned = gpu_data.plan(found.settings, models=models, cells=cells[:1] if found.tiny else cells,
                            metrics=metrics)
    for job in planned.cells.values():
        if job.key["dataset"] == gpu_data.SET and job.key["model"] not in halves:
            with found.part(job.title):
                record = run.do(planned, job, found.run_settings(), on_failure="stop")
                result = record["result"]
                found.row("cells", **job.key, **result["mean"], images=len(result["images"]),
                          tiles=max(one["tiles"] for one in result["images"]),
                          seconds=record["seconds"], record=str(job.record))
    on_cpu: dict[str, list[float]] = {}
    for job in planned.cells.values():  # a second set, of two small images, also on the CPU
        if job.key["dataset"] != gpu_data.FEW or job.key["protocol"] != cells[0]["protocol"]:
            continue
        with found.part(f"{job.title}, compared"):
            half, name = job.key["model"] in halves, job.key["model"].removesuffix("-bf16")
            plain = planned.cells["/".join({**job.key, "model": name}.values())]
            if name not in on_cpu:
                on_cpu[name] = scores_of(planned, plain, "cpu", found.threads)
            apart = max(abs(a - b) for a, b in zip(
                on_cpu[name], scores_of(planned, job, device, found.threads), strict=True))
            found.row("compared", model=job.key["model"], against="float32 on the CPU",
                      largest_psnr_difference_db=round(apart, 5))
            if apart > (0.3 if half else 0.01):
                found.problem(f"{job.title}: PSNR differs by {apart:.3f} dB from the CPU's")
    done = found.all.get("cells", [])
    found.put(short=f"{count(len(done), 'cell')}" + "".join(
        f", {one['model']} {one['psnr']:.2f} dB" for one in done[:2] if one["psnr"]))


def scores_of(planned: Plan, job: Job, device: str, threads: int) -> list[float]:
    """Evaluate a cell without writing its record; return the PSNR of each image."""
    result = run.compute(planned, job, RunSettings(device=device, threads=threads)).result
    return [one["psnr"] for one in result["images"]]


def check_processes(found: Findings) -> None:
    """Share one training between two processes, each with its GPU, and compare the loss."""
    device = found.device()
    if device == "cuda" and torch.cuda.device_count() < 2:
        raise Unavailable(f"two GPUs are needed; there is {torch.cuda.device_count()}")
    alone = run.compute(*small_training(found.settings, "alone"), found.run_settings()).result
    planned, job = small_training(found.settings, "shared")
    code = processes.launch([sys.executable, "-u", __file__, "worker",
                             json.dumps(found.settings)], 2, found.threads)
    if code:
        raise UserError(f"a process of the shared training ended with exit code {code}")
    shared = planned.run_folder.load("training", job.key).record["result"]
    found.put(processes=shared["processes"], losses=[alone["final_loss"], shared["final_loss"]],
              seconds_of=[alone["seconds"], shared["seconds"]],
              short=f"{shared['processes']} processes, loss {shared['final_loss']:.5f}, "
                    f"one {alone['final_loss']:.5f}")
    if shared["processes"] != 2 or abs(alone["final_loss"] - shared["final_loss"]) > 1e-3:
        found.problem("the shared training differs from that of one process")


def small_training(settings: dict, name: str) -> tuple[Plan, Job]:
    """Plan a small training in a run of its own: for one process, or for two."""
    recipe = {"recipe": "short", "steps": 3 if settings["tiny"] else 30, "data": [gpu_data.SET],
              "exclude": {}, "holdout": 0, "validate_every": None, "optimiser": "adamw",
              "batch": 2 if settings["tiny"] else 16, "patch": 32}
    return gpu_data.training(settings, "compacter", recipe, run=name)


def worker(settings: dict) -> None:
    """Be one process of the shared training."""
    if processes.rank():
        messages.mute()
    device, _ = profile.pick_device(settings["device"])
    run.compute(*small_training(settings, "shared"),
                RunSettings(device=device, threads=settings["threads"]))


# -- the process ---------------------------------------------------------------------------------

CHECKS: dict[str, Callable[[Findings], None]] = {
    "machine": check_machine, "tests": check_tests, "attention": check_attention,
    "profiles": check_profiles, "evaluation": check_evaluation, "processes": check_processes,
    "compiled": check_compiled,
    **{f"steps-{arch}": lambda found, arch=arch: check_steps(found, arch)
       for arch in ("compacter", "semanir-light")}}


def main(words: list[str]) -> int:
    """Run one stage; return 0 if nothing failed."""
    name, settings = words[0], json.loads(words[1])
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    allocator.keep()
    if name == "worker":
        worker(settings)
        return 0
    found = Findings(name, settings)
    found.put(time=time.strftime("%Y-%m-%dT%H:%M:%S%z"))
    try:
        if name == "train":
            import gpu_train

            gpu_train.train(found)
        else:
            CHECKS[name](found)
    except Paused as error:
        found.put(status="paused", reason=str(error))
        return 0
    except Unavailable as error:
        found.put(status="skipped" if name != "train" else "failed", reason=str(error))
        return 0
    except UserError as error:
        found.put(status="failed", reason=str(error))
        return 0
    if found.lost and not found.rows:   # every part was left out
        found.problem(found.lost[0])
    problems = found.all["problems"]
    more = f" (and {count(len(problems) - 1, 'more problem')})" if len(problems) > 1 else ""
    found.put(status="failed" if problems else "ok", reason=problems[0] + more if problems else "")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
