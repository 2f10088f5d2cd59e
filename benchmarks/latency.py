"""How slow a model is next to a reference: a plain convolutional network, or SwinIR.

Milliseconds of one machine say little about another, and on a shared machine little about the next
minute. So the reference runs in the same process, in turns with the models, and what is reported
is the median of the ratios of each round. Reads nothing, writes a table to stderr and one JSON
document as the last line of stdout.

``--where`` also says where the time goes, in passes of its own: by operation (torch's profiler, its
own time without that of operations it calls) and by class of module (its own time without that of
modules inside; hooks between them cost a little).

Try: ``python benchmarks/latency.py --models compacter --size 64 --rounds 10``
     ``python benchmarks/latency.py --models semanir-s --reference swinir-m-random --size 64
     --threads 2 --where``
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter

import numpy as np
import spread
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity

from irbench.core import machine
from irbench.core.errors import UserError
from irbench.inference import allocator
from irbench.jobs.profiling import macs, profile
from irbench.models import registry

PLAIN = "plain-25"  # 3x3 convolutions of 48 channels between the first and the last
PASSES = 3  # that --where looks at
SHOWN = 10  # rows of its tables


def plain() -> nn.Module:
    """Build the plain reference: (B, 3, H, W) to (B, 3, 2H, 2W), 25 + 2 convolutions with ReLU."""
    body = [layer for _ in range(25) for layer in (nn.Conv2d(48, 48, 3, padding=1), nn.ReLU())]
    return nn.Sequential(nn.Conv2d(3, 48, 3, padding=1), *body,
                         nn.Conv2d(48, 12, 3, padding=1), nn.PixelShuffle(2))


def build(names: list[str], options: dict, device: str) -> dict[str, nn.Module]:
    """Build the x2 networks named; options are those of the models whose cards have them."""
    found = {}
    for name in names:
        if name == PLAIN:
            model = plain()
        else:
            card = registry.get(name)
            own = {key: value for key, value in options.items() if key in card.options}
            model = card.load()("sr", 2, 3, **own)
        found[name] = model.to(device).eval()
    unused = [key for key in options
              if not any(key in registry.get(name).options for name in names if name != PLAIN)]
    if unused:
        raise UserError(f"--options: none of the models has {', '.join(unused)}.")
    return found


def measure(models: dict[str, nn.Module], reference: str, x: Tensor, *, rounds: int, warmup: int,
            device: str) -> dict:
    """Time all models in turns; return name → p50 in ms, ratio to the reference and its spread."""
    spent = {name: [] for name in models}
    with torch.inference_mode():
        for turn in range(warmup + rounds):
            for name, model in models.items():
                ms = profile.timed(lambda model=model: model(x), device)
                if turn >= warmup:
                    spent[name].append(ms)
    found = {}
    for name, model in models.items():
        ratios = np.divide(spent[name], spent[reference])
        low, high = spread.ends(ratios)
        counted = macs.count(model, (x,))
        found[name] = {"p50_ms": round(float(np.median(spent[name])), 3),
                       "ratio": round(float(np.median(ratios)), 3),
                       "ratio_low": round(low, 3), "ratio_high": round(high, 3),
                       "parameters": sum(p.numel() for p in model.parameters()),
                       "macs": counted.total, "macs_by_kind": counted.by_kind,
                       "macs_keys_only": counted.keys_only}
    return found


# -- where the time goes -----------------------------------------------------------------------

def where(model: nn.Module, x: Tensor, device: str) -> dict:
    """Return the ms a pass by operation and by class of module, the largest first."""
    with torch.inference_mode():
        return {"operation": by_operation(model, x, device),
                "class of module": by_module(model, x, device)}


def by_operation(model: nn.Module, x: Tensor, device: str) -> dict[str, float]:
    """Return operation → ms a pass, of the device's own time, without what it calls."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == "cuda")
    model(x)
    with torch.profiler.profile(activities=activities) as found:
        for _ in range(PASSES):
            model(x)
    spent = {row.key: (row.self_device_time_total if device == "cuda"
                       else row.self_cpu_time_total) / 1000 / PASSES
             for row in found.key_averages()}
    return largest(spent)


def by_module(model: nn.Module, x: Tensor, device: str) -> dict[str, float]:
    """Return class of module → ms a pass, without the modules inside it."""
    spent: Counter[str] = Counter()
    running: list[str] = []
    since = 0.0

    def mark() -> None:
        """Give the time since the last mark to the module that runs."""
        nonlocal since
        if device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        if running:
            spent[running[-1]] += 1000 * (now - since) / PASSES
        since = now

    def enter(module: nn.Module, inputs: tuple) -> None:
        mark()
        running.append(type(module).__name__)

    def leave(module: nn.Module, inputs: tuple, output: object) -> None:
        mark()
        running.pop()

    hooks = [hook for module in model.modules() for hook in (
        module.register_forward_pre_hook(enter), module.register_forward_hook(leave))]
    try:
        for _ in range(PASSES):
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return largest(spent)


def largest(spent: dict[str, float]) -> dict[str, float]:
    """Return the largest rows, in order, and the sum of the others."""
    rows = sorted(spent.items(), key=lambda row: -row[1])
    found = {name: round(ms, 3) for name, ms in rows[:SHOWN]}
    return {**found, "others": round(sum(ms for _, ms in rows[SHOWN:]), 3)}


# -- the program -------------------------------------------------------------------------------

def show(found: dict, reference: str) -> None:
    """Print the tables to stderr."""
    def say(text: str) -> None:
        print(text, file=sys.stderr)

    say(f"{'model':<18}{'ratio':>8}{'low':>8}{'high':>8}{'p50 ms':>10}{'GMACs':>8}{'k only':>8}"
        f"{'params':>10}   (ratio to {reference})\n{spread.LEGEND}")
    for name, row in found.items():
        say(f"{name:<18}{row['ratio']:>8.2f}{row['ratio_low']:>8.2f}{row['ratio_high']:>8.2f}"
            f"{row['p50_ms']:>10.1f}{row['macs'] / 1e9:>8.2f}{row['macs_keys_only'] / 1e9:>8.2f}"
            f"{row['parameters']:>10}")
    for name, row in found.items():
        for kind, spent in row.get("where", {}).items():
            total = sum(spent.values())
            say(f"\n{name}, ms a pass by {kind} (of {total:.1f})")
            for part, ms in spent.items():
                say(f"  {part:<52}{ms:>10.2f}{100 * ms / total:>7.1f} %")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["compacter"], help="registered x2 models")
    parser.add_argument("--reference", default=PLAIN,
                        help=f"{PLAIN}, swinir-m-random, swinir-s-random or another x2 model")
    parser.add_argument("--options", type=json.loads, default={},
                        help='of the models, as JSON: {"attention": "gather", "k": 64}')
    parser.add_argument("--size", type=int, default=128, help="side of the input in pixels")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3, help="rounds that are not counted")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--where", action="store_true", help="say where the time goes")
    arguments = parser.parse_args()
    for name, least in (("size", 2), ("rounds", 1), ("warmup", 0), ("threads", 1)):
        if getattr(arguments, name) < least:
            parser.error(f"--{name} must be at least {least}")
    if not isinstance(arguments.options, dict):
        parser.error("--options takes a JSON object")
    allocator.keep()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own messages
    try:
        device, reason = profile.pick_device(arguments.device)
        torch.set_num_threads(arguments.threads)
        print(f"device {device}: {reason}; {arguments.threads} threads", file=sys.stderr)
        names = list(dict.fromkeys([arguments.reference, *arguments.models]))
        models = build(names, arguments.options, device)
        x = torch.rand(1, 3, arguments.size, arguments.size, device=device)
        found = measure(models, arguments.reference, x, rounds=arguments.rounds,
                        warmup=arguments.warmup, device=device)
        if arguments.where:
            for name, model in models.items():
                found[name]["where"] = where(model, x, device)
    except UserError as error:
        parser.error(str(error))
    show(found, arguments.reference)
    about = machine.provenance(arguments.threads)
    print(json.dumps({"reference": arguments.reference, "options": arguments.options,
                      "size": arguments.size, "rounds": arguments.rounds,
                      "device": device, "hardware": about["hardware"], "time": about["time"],
                      "threads": arguments.threads, "torch": torch.__version__, "models": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
