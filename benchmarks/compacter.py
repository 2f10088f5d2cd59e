"""How much faster irbench's Compacter is than the straightforward version, with the same output.

The straightforward version is ``plain_compacter.py``, with the same weights. Both run in this
process, in turns, and what is reported is the median over the rounds of (plain / irbench), so above
1 irbench is faster. Two more versions stand between them: ``plain, lazy``, in which the permutes
move nothing until something asks for it (its maps then happen to lie with the channels last, which
suits the convolutions), and irbench's own definition on whole images (``irbench.models.strips``
off), which is what training and a GPU run. Fails (exit code 1) where outputs differ by more than
1e-5.

Reads nothing, writes a table to stderr and one JSON document as the last line of stdout. With
``--training`` a step is timed instead: forward and backward of a batch of patches. ``--where``
says where the time goes, by operation, in passes of its own.

Try: ``python benchmarks/compacter.py --size 64 --rounds 5``
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from unittest import mock

import numpy as np
import plain_compacter
import spread
import torch
from latency import by_operation
from torch import Tensor, nn

from irbench.core import machine
from irbench.inference import allocator, memory
from irbench.jobs.profiling import profile
from irbench.models import strips
from irbench.models.compacter import compacter

CLOSE = 1e-5  # of outputs in about 0 .. 1, float32
PATCHES = (8, 48)  # of a training step: how many, their side


class With(nn.Module):
    """A model that runs with another function in a module."""

    def __init__(self, model: nn.Module, module: ModuleType, name: str, function: Callable):
        super().__init__()
        self.model, self.change = model, (module, name, function)

    def forward(self, x: Tensor) -> Tensor:
        with mock.patch.object(*self.change):
            return self.model(x)


def build(scale: int) -> dict[str, nn.Module]:
    """Build the straightforward version, irbench's in whole images, and irbench's: one function."""
    torch.manual_seed(0)
    model = compacter("sr", scale, 3)
    plain = plain_compacter.load(plain_compacter.plain(scale, 3), model.state_dict())
    lazy = With(plain, plain_compacter, "channels_first", lambda x: x.permute(0, 3, 1, 2))
    whole = With(model, strips, "apply_to", lambda x: False)
    return {"plain": plain.eval(), "plain, lazy": lazy, "irbench, whole": whole,
            "irbench": model.eval()}


def measure(runs: dict[str, Callable[[], object]], *, rounds: int, warmup: int) -> dict:
    """Time all in turns; return name → p50 in ms and how many times as fast as plain."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(warmup + rounds):
        for name, run in runs.items():
            ms = profile.timed(run, "cpu")
            if turn >= warmup:
                spent[name].append(ms)
    found = {}
    for name in runs:
        ratios = np.divide(spent["plain"], spent[name])
        low, high = spread.ends(ratios)
        found[name] = {"p50_ms": round(float(np.median(spent[name])), 3),
                       "ratio": round(float(np.median(ratios)), 3),
                       "ratio_low": round(low, 3), "ratio_high": round(high, 3)}
    return found


def inference(models: dict[str, nn.Module], x: Tensor, arguments: argparse.Namespace) -> dict:
    """Compare outputs, times and memory of a forward pass without gradients."""
    runs = {name: partial(model, x) for name, model in models.items()}
    with torch.inference_mode():
        expected = runs["plain"]()
        apart = {name: float((run() - expected).abs().max()) for name, run in runs.items()}
        found = measure(runs, rounds=arguments.rounds, warmup=arguments.warmup)
        for name, run in runs.items():
            found[name]["difference"] = apart[name]
            found[name]["peak_memory_bytes"] = memory.peak(run, "cpu")[0]
            if arguments.where:
                found[name]["where"] = by_operation(models[name], x, "cpu")
    return found


def training(models: dict[str, nn.Module], scale: int, arguments: argparse.Namespace) -> dict:
    """Compare the times of forward and backward, and the gradients, on a batch of patches."""
    number, side = PATCHES
    x, target = torch.rand(number, 3, side, side), torch.rand(number, 3, scale * side, scale * side)

    def step(model: nn.Module) -> Tensor:
        model.zero_grad()
        (model(x) - target).abs().mean().backward()
        return next(p.grad for n, p in model.named_parameters() if n.endswith("extract.weight"))

    models = {name: models[name] for name in ("plain", "plain, lazy", "irbench")}
    expected = step(models["plain"]).clone()
    apart = {name: float((step(model) - expected).abs().max() / expected.abs().max())
             for name, model in models.items()}
    found = measure({name: partial(step, model) for name, model in models.items()},
                    rounds=arguments.rounds, warmup=arguments.warmup)
    for name in models:  # relative: a gradient's scale is its own
        found[name].update(difference=apart[name], peak_memory_bytes=None)
    return found


def show(found: dict) -> None:
    """Print the tables to stderr."""
    def say(text: str) -> None:
        print(text, file=sys.stderr)

    say(f"{'version':<16}{'times as fast':>14}{'low':>7}{'high':>7}{'p50 ms':>10}{'MiB':>7}"
        f"{'difference':>12}\n{spread.LEGEND}")
    for name, row in found.items():
        bytes_ = row["peak_memory_bytes"]
        say(f"{name:<16}{row['ratio']:>14.2f}{row['ratio_low']:>7.2f}{row['ratio_high']:>7.2f}"
            f"{row['p50_ms']:>10.1f}{'n/a' if bytes_ is None else round(bytes_ / 2**20):>7}"
            f"{row['difference']:>12.1e}")
    for name, row in found.items():
        spent = row.get("where", {})
        if spent:
            say(f"\n{name}, ms a pass by operation (of {sum(spent.values()):.1f})")
        for part, ms in spent.items():
            say(f"  {part:<52}{ms:>10.2f}{100 * ms / sum(spent.values()):>7.1f} %")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--size", type=int, default=256, help="side of the input in pixels")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=2, help="rounds that are not counted")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--training", action="store_true", help="time a training step")
    parser.add_argument("--where", action="store_true", help="say where the time goes")
    arguments = parser.parse_args()
    for name, least in (("scale", 2), ("size", 2), ("rounds", 1), ("warmup", 0), ("threads", 1)):
        if getattr(arguments, name) < least:
            parser.error(f"--{name} must be at least {least}")
    if arguments.training and arguments.where:
        parser.error("--where looks at a forward pass; leave out --training")
    allocator.keep()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own messages
    torch.set_num_threads(arguments.threads)
    models = build(arguments.scale)
    x = torch.rand(1, 3, arguments.size, arguments.size)
    found = (training(models, arguments.scale, arguments) if arguments.training
             else inference(models, x, arguments))
    show(found)
    about = machine.provenance(arguments.threads)
    print(json.dumps({"scale": arguments.scale, "size": arguments.size, "rounds": arguments.rounds,
                      "training": arguments.training, "device": "cpu", "dtype": "float32",
                      "hardware": about["hardware"], "time": about["time"],
                      "threads": arguments.threads, "torch": torch.__version__, "models": found}))
    limit = 1e-3 if arguments.training else CLOSE
    return int(max(row["difference"] for row in found.values()) > limit)


if __name__ == "__main__":
    sys.exit(main())
