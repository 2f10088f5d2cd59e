"""How slow a model is next to a plain convolutional network of Compacter's multiply-adds.

Milliseconds of one machine say little about another, and on a shared machine little about the next
minute. So the reference runs in the same process, in turns with the models, and what is reported
is the median of the ratios of each round. Reads nothing, writes a table to stderr and one JSON
document as the last line of stdout.

Try: ``python benchmarks/latency.py --models compacter --size 64 --rounds 10``
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np
import torch
from torch import nn

from irbench import macs, profiling, records
from irbench.errors import UserError
from irbench.models import registry

REFERENCE = "plain-25"  # 3x3 convolutions of 48 channels between the first and the last


def plain() -> nn.Module:
    """Build the reference: (B, 3, H, W) to (B, 3, 2H, 2W), 25 + 2 convolutions with ReLU."""
    body = [layer for _ in range(25) for layer in (nn.Conv2d(48, 48, 3, padding=1), nn.ReLU())]
    return nn.Sequential(nn.Conv2d(3, 48, 3, padding=1), *body,
                         nn.Conv2d(48, 12, 3, padding=1), nn.PixelShuffle(2))


def measure(names: list[str], *, size: int, rounds: int, warmup: int, device: str) -> dict:
    """Time all models in turns; return name → p50 in ms, ratio to the reference and its spread."""
    x = torch.rand(1, 3, size, size, device=device)
    models = {REFERENCE: plain(), **{name: registry.get(name).load()("sr", 2, 3) for name in names}}
    models = {name: model.to(device).eval() for name, model in models.items()}
    spent = {name: [] for name in models}
    with torch.inference_mode():
        for turn in range(warmup + rounds):
            for name, model in models.items():
                ms = profiling.timed(lambda model=model: model(x), device)
                if turn >= warmup:
                    spent[name].append(ms)
    found = {}
    for name, model in models.items():
        low, middle, high = np.percentile(np.divide(spent[name], spent[REFERENCE]), [10, 50, 90])
        found[name] = {"p50_ms": round(float(np.median(spent[name])), 3),
                       "ratio": round(float(middle), 3),
                       "ratio_p10": round(float(low), 3), "ratio_p90": round(float(high), 3),
                       "parameters": sum(p.numel() for p in model.parameters()),
                       "macs": macs.count(model, (x,)).total}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["compacter"], help="registered x2 models")
    parser.add_argument("--size", type=int, default=128, help="side of the input in pixels")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3, help="rounds that are not counted")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    arguments = parser.parse_args()
    for name, least in (("size", 2), ("rounds", 1), ("warmup", 0), ("threads", 1)):
        if getattr(arguments, name) < least:
            parser.error(f"--{name} must be at least {least}")
    try:
        device, reason = profiling.pick_device(arguments.device)
        torch.set_num_threads(arguments.threads)
        print(f"device {device}: {reason}; {arguments.threads} threads", file=sys.stderr)
        found = measure(arguments.models, size=arguments.size, rounds=arguments.rounds,
                        warmup=arguments.warmup, device=device)
    except UserError as error:
        parser.error(str(error))
    print(f"{'model':<16}{'ratio':>8}{'p10':>8}{'p90':>8}{'p50 ms':>10}{'GMACs':>8}{'params':>10}",
          file=sys.stderr)
    for name, row in found.items():
        print(f"{name:<16}{row['ratio']:>8.2f}{row['ratio_p10']:>8.2f}{row['ratio_p90']:>8.2f}"
              f"{row['p50_ms']:>10.1f}{row['macs'] / 1e9:>8.2f}{row['parameters']:>10}",
              file=sys.stderr)
    about = records.provenance(arguments.threads)
    print(json.dumps({"reference": REFERENCE, "size": arguments.size, "rounds": arguments.rounds,
                      "device": device, "hardware": about["hardware"], "time": about["time"],
                      "threads": arguments.threads, "torch": torch.__version__, "models": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
