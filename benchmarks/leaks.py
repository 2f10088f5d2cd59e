"""What the thresholds of ``irbench.data.leaks`` rest on: altered copies against different
photographs.

Reads the public test sets (IRBENCH_MIRROR, or fetched) into a temporary folder. Prints one JSON
document; changes nothing.

Try: ``python benchmarks/leaks.py``
"""

import io
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from irbench.data import leaks, obtain, sets

ALTERED = ("bsd68", "cbsd68", "set12", "photos", "photos_train", "mcmaster", "set5",
           "bsds500_test", "bsd100")
SETS = (*ALTERED, "set14", "kodak24", "classic5", "live1_gray", "live1_color", "bsds500_train")


def jpeg(image, quality):
    out = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(
        out, "JPEG", quality=quality)
    with Image.open(out) as decoded:
        return np.asarray(decoded).reshape(*image.shape[:2], -1)


def gray(image):
    y = image.astype(float).mean(axis=-1, keepdims=True)
    return np.round(y).astype(np.uint8)


CROPPED = "cbsd68"      # 481 x 321 pixels or upright
CUTS = (4, 8, 12, 16, 24)


COPIES = {
    "cut by 1 pixel": lambda a: a[1:, :-1],
    "cut by 2 pixels on each side": lambda a: a[2:-2, 2:-2],
    "cut by 4 pixels on each side": lambda a: a[4:-4, 4:-4],
    "JPEG quality 10": lambda a: jpeg(a, 10),
    "cut by 2 and JPEG quality 10": lambda a: jpeg(a[2:-2, 2:-2], 10),
    "mean of the channels": gray,
    "turned, cut by 2, quality 10": lambda a: jpeg(np.rot90(a[2:-2, 2:-2]), 10),
}


def one(pictures):
    """Signatures of reduced pictures alone, for compare()."""
    blank = tuple(str(i) for i in range(len(pictures)))
    return leaks.Signatures(blank, blank, blank, np.stack(pictures))


def best(train, test):
    """Highest correlation over the eight positions, and the bits that differ there: (N, M) each."""
    correlation = np.full((len(train.names), len(test.names)), -1.0)
    bits = np.zeros(correlation.shape, int)
    own, known = leaks.vectors(train.coefficients), leaks.hashes(train.coefficients)
    for position in leaks.POSITIONS:
        moved = leaks.move(test.coefficients, position)
        r = own @ leaks.vectors(moved).T
        b = np.bitwise_count(known[:, None] ^ leaks.hashes(moved)[None])
        bits, correlation = np.where(r > correlation, b, bits), np.maximum(correlation, r)
    return correlation, bits


def main():
    with tempfile.TemporaryDirectory() as folder:
        data = {name: obtain.fetch(sets.get(name), Path(folder), progress=False)
                for name in SETS}
        begun = time.perf_counter()
        known = {name: leaks.signatures(data[name], name, folder) for name in SETS}
        seconds = {"signatures": round(time.perf_counter() - begun, 2),
                   "images": sum(len(s.names) for s in known.values())}
        copies = {}
        for what, alter in COPIES.items():
            r, b = [], []
            for name in ALTERED:
                changed = [leaks.picture(alter(item.load())) for item in data[name].role("hr")]
                correlation, bits = best(known[name], one(changed))
                r += list(np.diagonal(correlation))
                b += list(np.diagonal(bits))
            copies[what] = {"images": len(r), "least_correlation": round(float(min(r)), 3),
                            "most_bits": int(max(b))}
        whole = known[CROPPED]
        cropped = {}
        for cut in CUTS:    # what the search finds, with its thresholds
            found = leaks.compare(whole, one([leaks.picture(item.load()[cut:-cut, cut:-cut])
                                              for item in data[CROPPED].role("hr")]))
            cropped[f"{cut} pixels of each side"] = sum(
                pair["train_image"] == whole.names[int(pair["test_image"])] for pair in found)
        pairs = []
        for one_set, other in itertools.combinations(SETS, 2):
            correlation, bits = best(known[one_set], known[other])
            pairs += [(round(float(correlation[i, j]), 3), int(bits[i, j]),
                       f"{one_set}/{known[one_set].names[i]} {other}/{known[other].names[j]}")
                      for i, j in np.argwhere(correlation > -1)]
    pairs.sort(reverse=True)
    same = [p for p in pairs if p[0] >= leaks.CORRELATION and p[1] <= leaks.BITS]
    rest = [p for p in pairs if p not in set(same)]
    print(json.dumps({
        "copies": copies, f"found_of_{CROPPED}_cut_by": cropped,
        "seconds": seconds, "pairs": len(pairs), "called_the_same": len(same),
        "least_alike_of_these": same[-4:], "most_alike_of_the_others": rest[:12],
        "most_alike_of_the_others_by_hash": [p for p in rest if p[1] <= leaks.BITS][:6],
    }, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
