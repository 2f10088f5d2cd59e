"""How fast pixels are worked on beside the network: MATLAB's bicubic next to Pillow's, PNG files.

Ratios in one process, in turns, of CPU time, so that a busy machine disturbs them little. Bicubic:
uint8 at half and twice the size, next to Pillow's own bicubic (no antialiasing in float, other
rounding: the pixels differ, only the time is compared). PNG: ``put_png`` next to the fastest of
Pillow and OpenCV at several levels whose file is not larger. Writes a table to stderr and one JSON
document as the last line of stdout.

Try: ``python benchmarks/images.py photo.png``
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from irbench.core import machine
from irbench.imaging import images
from irbench.inference import allocator

GOALS = {"bicubic x1/2": 3.0, "bicubic x2": 3.0, "PNG": 1.5}


def in_turns(calls: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of CPU time of each call; they take turns."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            begun = time.thread_time()
            call()
            if turn:    # the first is for warming up
                spent[name].append(1000 * (time.thread_time() - begun))
    return {name: statistics.median(times) for name, times in spent.items()}


def bicubic(image: np.ndarray, scale: float, rounds: int) -> dict:
    """Compare MATLAB's bicubic with Pillow's."""
    size = [round(side * scale) for side in image.shape[1::-1]]
    picture = Image.fromarray(image)
    spent = in_turns({
        "irbench": lambda: images.imresize(image, scale),
        "pillow": lambda: np.asarray(picture.resize(size, Image.Resampling.BICUBIC))}, rounds)
    return {"ms": spent["irbench"], "rival": "Pillow", "rival_ms": spent["pillow"]}


def png(image: np.ndarray, rounds: int) -> dict:
    """Compare the encoder of pictures with the fastest one whose file is not larger."""
    bgr = np.ascontiguousarray(image[..., ::-1])

    def pillow(level: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", compress_level=level)
        return buffer.getvalue()

    filters = ("SUB", "UP", "PAETH")
    rivals = {f"Pillow {level}": lambda level=level: pillow(level) for level in (1, 2, 3)}
    rivals |= {f"OpenCV {level} {name}": lambda level=level, name=name: cv2.imencode(".png", bgr, (
        cv2.IMWRITE_PNG_COMPRESSION, level, cv2.IMWRITE_PNG_FILTER,
        getattr(cv2, f"IMWRITE_PNG_FILTER_{name}")))[1] for level in (1, 2) for name in filters}
    own = len(images._encoded(image))
    rivals = {name: call for name, call in rivals.items() if len(call()) <= own}
    spent = in_turns({"irbench": lambda: images._encoded(image), **rivals}, rounds)
    rival = min(rivals, key=spent.__getitem__)
    return {"ms": spent["irbench"], "rival": rival, "rival_ms": spent[rival],
            "bytes_a_value": round(own / image.size, 4),
            "default_pillow_ms": in_turns({"default": lambda: pillow(6)}, 1)["default"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path, help="a colour photograph, best of 2040x1356 pixels")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    allocator.keep()
    image = images.to_rgb(images.read_image(arguments.image))
    small = np.ascontiguousarray(image[:image.shape[0] // 2, :image.shape[1] // 2])
    rows = {"bicubic x1/2": bicubic(image, 0.5, arguments.rounds),
            "bicubic x2": bicubic(small, 2, arguments.rounds), "PNG": png(image, arguments.rounds)}
    print(f"{'':<14}{'ms':>8}{'rival':>18}{'ms':>8}{'ratio':>7}{'goal':>6}", file=sys.stderr)
    for name, row in rows.items():
        row["ratio"] = round(row["ms"] / row["rival_ms"], 2)
        print(f"{name:<14}{row['ms']:>8.1f}{row['rival']:>18}{row['rival_ms']:>8.1f}"
              f"{row['ratio']:>7.2f}{GOALS[name]:>6}", file=sys.stderr)
    print(json.dumps({"size": image.shape, "rows": rows, "goals": GOALS,
                      **machine.provenance(1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
