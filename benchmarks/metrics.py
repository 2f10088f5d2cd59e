"""How fast PSNR and SSIM are next to plain implementations with scipy and to pyiqa's.

100 pairs of BSD100 (each image and its bicubic x2 reconstruction), on Y with two pixels cut, as the
protocol sr-x2 scores them. All implementations are given the same float64 planes of Y; what it
takes to make these is timed apart, and a second ratio has it on both sides. For each pair they take
their turn in an order drawn anew, in one thread, whose CPU time is taken: on a machine that is busy
otherwise it differs less from one run to the next than wall time, which is given too.

The figures must agree to 1e-4: else the exit code is 1. Ours and scipy's are one formula in
float64. pyiqa's sets negative contrast-structure terms to zero, of which these pairs have few. Its
class computes in float64; its function is also timed in float32, which is far faster.

BSD100 comes from ``--data-root``, from IRBENCH_MIRROR, or else synthetic images of the same size
take its place, and the output says so. Writes a table to stderr and one JSON document as the last
line of stdout.

Try: ``python benchmarks/metrics.py --pairs 10``
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import spread
import torch
from cell import bsd100
from pyiqa.archs.psnr_arch import psnr as pyiqa_psnr
from pyiqa.archs.ssim_arch import ssim as pyiqa_ssim
from scipy.ndimage import gaussian_filter
from scipy.signal import convolve2d, fftconvolve

from irbench.catalog import protocols
from irbench.core import machine
from irbench.core.errors import UserError
from irbench.imaging import degrade, metrics
from irbench.imaging.images import imresize, read_image, to_uint8
from irbench.inference import allocator

PROTOCOL = protocols.get("sr-x2")
OURS, LUMA = "irbench", "(luma of both)"
GOAL, TOLERANCE = 3.0, 1e-4
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
Pair = tuple[np.ndarray, np.ndarray]
Score = Callable[[np.ndarray, np.ndarray], tuple[float, float]]


def make_pairs(folder: Path) -> list[Pair]:
    """Return (reconstruction, image) of every image, uint8 (H, W, 3)."""
    pairs = []
    for path in sorted(folder.iterdir()):
        target = degrade.prepare_target(read_image(path), PROTOCOL)
        small = degrade.degrade(target, PROTOCOL)
        pairs.append((to_uint8(imresize(small, PROTOCOL.scale)), target))
    return pairs


# -- the implementations: two planes of Y, float64 (H, W, 1), to PSNR and SSIM ------------------

def ours(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    return metrics.psnr(a, b), metrics.ssim(a, b)


def plain(blur: Callable[[np.ndarray], np.ndarray]) -> Score:
    """PSNR and SSIM with five weighted means, each by ``blur``: (H, W) to (H - 10, W - 10)."""
    def score(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
        a, b = a[..., 0], b[..., 0]
        ma, mb, aa, bb, ab = blur(a), blur(b), blur(a * a), blur(b * b), blur(a * b)
        va, vb, cov = aa - ma**2, bb - mb**2, ab - ma * mb
        similar = (2 * ma * mb + C1) * (2 * cov + C2) / ((ma**2 + mb**2 + C1) * (va + vb + C2))
        return 10 * np.log10(255**2 / np.mean((a - b) ** 2)), similar.mean()

    return score


def pyiqa(dtype: torch.dtype) -> Score:
    """pyiqa's functions in a floating-point type."""
    def score(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
        a, b = (torch.from_numpy(plane).to(dtype)[None, None, ..., 0] for plane in (a, b))
        return (float(pyiqa_psnr(a, b, data_range=255.0)),
                float(pyiqa_ssim(a, b, data_range=255.0)))

    return score


def implementations() -> dict[str, Score]:
    x = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    window = np.outer(x, x) / x.sum() ** 2
    return {
        OURS: ours,
        "scipy gaussian_filter": plain(
            lambda plane: gaussian_filter(plane, 1.5, radius=5)[5:-5, 5:-5]),
        "scipy fftconvolve": plain(lambda plane: fftconvolve(plane, window, "valid")),
        "scipy convolve2d": plain(lambda plane: convolve2d(plane, window, "valid")),
        "pyiqa float32": pyiqa(torch.float32),
        "pyiqa float64": pyiqa(torch.float64),
    }


# -- the comparison ----------------------------------------------------------------------------

def measure(pairs: list[Pair]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Score all pairs in turns.

    Returns:
        Name to milliseconds of CPU and wall (pairs, 2); name to PSNR and SSIM (pairs, 2).
    """
    allocator.keep()  # as irbench's commands do; else all pay for asking the system, by chance
    scorers = implementations()
    spent, scores = ({name: [] for name in scorers} for _ in range(2))
    rng = np.random.default_rng(0)  # what ran before decides what the caches hold
    spent[LUMA] = []
    for turn, pair in enumerate([pairs[0], *pairs]):  # the first is for warming up
        planes, *took = timed(lambda *images: [metrics.planes(i, PROTOCOL) for i in images], pair)
        if turn:
            spent[LUMA].append(took)
        for name in rng.permutation(list(scorers)):
            found, *took = timed(scorers[name], planes)
            if turn:
                spent[name].append(took)
                scores[name].append(found)
    return tuple({name: np.array(values, float) for name, values in group.items()}
                 for group in (spent, scores))


def timed(call: Callable, arguments: Sequence) -> tuple[object, float, float]:
    """Return what a call returns, its milliseconds of CPU and those of wall time."""
    cpu, wall = time.thread_time(), time.perf_counter()
    found = call(*arguments)
    return found, 1000 * (time.thread_time() - cpu), 1000 * (time.perf_counter() - wall)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--data-root", help="the folder that holds bsd100/; default: fetched "
                        "from IRBENCH_MIRROR into a temporary folder")
    arguments = parser.parse_args()
    if not 1 <= arguments.pairs <= 100:
        parser.error("--pairs must be 1 to 100")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            what = bsd100(Path(folder) / "images", arguments.data_root, arguments.pairs)
            pairs = make_pairs(Path(folder) / "images")
    except UserError as error:
        parser.error(str(error))
    spent, scores = measure(pairs)
    rows = {name: summary(times, spent[OURS]) for name, times in spent.items()}
    for name, found in scores.items():
        psnr, ssim = found.mean(axis=0)
        rows[name] |= {"psnr": round(float(psnr), 6), "ssim": round(float(ssim), 8),
                       "largest_difference": float(np.abs(found - scores[OURS]).max())}
    rival = min((name for name in scores if name != OURS), key=lambda name: rows[name]["p50_ms"])
    with_luma = np.median((spent[rival] + spent[LUMA])[:, 0] / (spent[OURS] + spent[LUMA])[:, 0])
    agree = all(rows[name]["largest_difference"] <= TOLERANCE for name in scores)
    print(f"PSNR and SSIM on Y of {what}, one thread ({spread.LEGEND})", file=sys.stderr)
    print(f"{'':<22}{'p50 ms':>9}{'low':>9}{'high':>9}{'wall':>9}{'x ours':>8}{'low':>7}{'high':>7}"
          f"{'PSNR':>10}{'SSIM':>10}{'differs':>10}", file=sys.stderr)
    for name, row in rows.items():
        scored = (f"{row['psnr']:>10.4f}{row['ssim']:>10.6f}{row['largest_difference']:>10.1e}"
                  if name in scores else "")
        print(f"{name:<22}{row['p50_ms']:>9.2f}{row['low_ms']:>9.2f}{row['high_ms']:>9.2f}"
              f"{row['wall_p50_ms']:>9.2f}{row['ratio']:>8.2f}{row['ratio_low']:>7.2f}"
              f"{row['ratio_high']:>7.2f}{scored}", file=sys.stderr)
    print(f"{rival} takes {rows[rival]['ratio']:.2f} times as long, with the luma on both sides "
          f"{with_luma:.2f}", file=sys.stderr)
    if not agree:
        print(f"the figures differ by more than {TOLERANCE}", file=sys.stderr)
    about = machine.provenance(1)
    print(json.dumps({"images": what, "rival": rival, "ratio": rows[rival]["ratio"],
                      "ratio_with_luma": round(float(with_luma), 2), "goal": GOAL, "agree": agree,
                      "implementations": rows, "hardware": about["hardware"],
                      "time": about["time"], "packages": machine.versions_of(
                          "numpy", "opencv-python-headless", "scipy", "torch", "pyiqa")}))
    return 0 if agree else 1


def summary(times: np.ndarray, own: np.ndarray) -> dict:
    """Summarise milliseconds (pairs, 2) of CPU and wall; ratios are those to ours, pair by pair."""
    figures = {}
    for key, values in (("_ms", times[:, 0]), ("", times[:, 0] / own[:, 0])):
        low, high = spread.ends(values)
        for word, value in (("p50", np.median(values)), ("low", low), ("high", high)):
            name = f"{word}{key}" if key else "ratio" + (f"_{word}", "")[word == "p50"]
            figures[name] = round(float(value), 3)
    return {**figures, "wall_p50_ms": round(float(np.median(times[:, 1])), 3)}


if __name__ == "__main__":
    sys.exit(main())
