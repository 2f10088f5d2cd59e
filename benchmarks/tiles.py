"""A large image through a model within a memory budget: which tiles, how much memory, how long.

The model has random weights, whose values cost nothing. The image is a file, or smooth random
values of the size asked for. The tiles are chosen by the budget as an evaluation would choose them
(``irbench/inference/tiling.py``, ``tile: auto``). Peak memory is that of the whole process by the
kernel's
high-water mark (VmHWM; Linux): program, weights, input, output and what a tile needs. Progress and
a table go to stderr, one JSON document is the last line of stdout. A 4K image through SemanIR-S
takes hours on two cores; ``--max-tiles`` ends after some, with nothing said of the others.

Try: ``python benchmarks/tiles.py --model semanir-light --height 400 --width 600 --memory-gib 0.7``
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from irbench.core import machine
from irbench.core.errors import UserError
from irbench.imaging.images import read_image, to_float, to_rgb
from irbench.inference import allocator, memory
from irbench.inference import options as inference
from irbench.inference.budget import GIB
from irbench.inference.prepare import prepare
from irbench.inference.tiling import Tiled
from irbench.jobs.profiling import profile
from irbench.models import registry


class Enough(Exception):
    """As many tiles are done as were asked for."""


class Watch:
    """Follows the tiles: seconds and peak memory of each; told by ``Tiled`` as each is done."""

    def __init__(self, most: int | None) -> None:
        self.most, self.seconds, self.peak = most, [], 0
        self.begun = self.last = time.perf_counter()
        self.total = 0

    def __call__(self, done: int, total: int) -> None:
        now = time.perf_counter()
        if done == 1:  # an earlier try may have run out of memory
            self.seconds = []
        self.seconds.append(now - self.last)
        self.last, self.total = now, total
        self.look()
        left = (total - done) * float(np.mean(self.seconds))
        print(f"tile {done} of {total}: {self.seconds[-1]:.1f} s, about {left / 60:.1f} min left, "
              f"{self.peak / GIB:.2f} GiB at most so far", file=sys.stderr, flush=True)
        if self.most and done >= self.most:
            raise Enough

    def look(self) -> None:
        """Read the high-water mark; measuring what a tile needs restarts it, so read it often."""
        lines = Path("/proc/self/status").read_text().splitlines()
        mark = next(line for line in lines if line.startswith("VmHWM"))
        self.peak = max(self.peak, int(mark.split()[1]) * 1024)


def picture(path: str | None, height: int, width: int) -> torch.Tensor:
    """Return the input, float32 (1, 3, h, w) in [0, 1]: a file, or smooth random values."""
    if path:
        image = to_float(to_rgb(read_image(path)))
        return torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, max(2, height // 16), max(2, width // 16), generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")


def measure(a: argparse.Namespace, device: str) -> dict:
    """Restore the image; return what was chosen and what it cost."""
    card = registry.get(a.model)
    task = "sr" if a.scale > 1 else "denoise_color"
    torch.manual_seed(0)
    options = inference.resolve({"dtype": a.dtype, "tile": a.tile or "auto", "overlap": a.overlap,
                                 "memory_gib": None if a.tile else a.memory_gib}, "tiles.py")
    network = prepare(card.load()(task, a.scale, 3), options, device, card.dtypes)
    x = picture(a.image, a.height, a.width)
    watch = Watch(a.max_tiles)
    watch.look()
    tiled = Tiled(network, options, device, done=watch)
    complete, finite = True, None
    start = time.perf_counter()
    with torch.inference_mode():
        try:
            y = tiled(x.to(device))
            finite = all(bool(row.isfinite().all()) for row in y[0, 0])  # not a copy of it all
        except Enough:
            complete = False
    watch.look()
    tiles, how = watch.seconds, tiled.record()
    return {"input": list(x.shape[-2:]), "scale": a.scale, "complete": complete, "finite": finite,
            "tiles": watch.total or 1, "tiles_done": len(tiles) or 1, "tiling": how,
            "seconds": round(time.perf_counter() - start, 1),
            "seconds_a_tile": round(float(np.median(tiles)), 2) if tiles else None,
            "peak_gib": round(watch.peak / GIB, 3), "allowed_gib": options.memory_gib,
            "inference": options.as_dict()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="semanir-s", help="a registered model")
    parser.add_argument("--scale", type=int, default=2, choices=[1, 2, 3, 4])
    parser.add_argument("--height", type=int, default=2160, help="of the input in pixels")
    parser.add_argument("--width", type=int, default=3840)
    parser.add_argument("--image", help="a file in place of random values")
    parser.add_argument("--memory-gib", type=float, default=6, help="for the whole process")
    parser.add_argument("--tile", type=int, help="side of the tiles, in place of the budget's")
    parser.add_argument("--overlap", type=int, help="default: as the tiling chooses")
    parser.add_argument("--max-tiles", type=int, help="end after so many")
    parser.add_argument("--dtype", default="float32", choices=inference.DTYPES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="auto, cpu or cuda")
    arguments = parser.parse_args()
    for name, least in (("height", 2), ("width", 2), ("threads", 1), ("max_tiles", 1)):
        if (value := getattr(arguments, name)) is not None and value < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}")
    allocator.keep()
    if not memory.CLEAR_REFS.exists():
        parser.error("peak memory is read from /proc, which only Linux has")
    try:
        device, reason = profile.pick_device(arguments.device)
        torch.set_num_threads(arguments.threads)
        print(f"device {device}: {reason}; {arguments.threads} threads", file=sys.stderr)
        found = measure(arguments, device)
    except UserError as error:
        parser.error(str(error))
    for name in ("input", "tiles", "tiles_done", "seconds", "seconds_a_tile", "peak_gib",
                 "allowed_gib"):
        print(f"{name:<16}{found[name]}", file=sys.stderr)
    print(f"{'tiling':<16}{(found['tiling'] or {}).get('reason', 'the whole image')}",
          file=sys.stderr)
    about = machine.provenance(arguments.threads)
    print(json.dumps({"model": arguments.model, "device": device, **found,
                      "threads": arguments.threads, "hardware": about["hardware"],
                      "time": about["time"], "torch": torch.__version__}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
