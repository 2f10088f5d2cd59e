"""How far two draws of the noise move a mean: the spread behind a verdict's tolerance.

Draws Gaussian noise on Set12 with several seeds and scores the noisy input and what DnCNN (weights
of its authors, sigma 25) makes of it. Reads the public sets (IRBENCH_MIRROR, or fetched) into a
temporary folder; prints one JSON document; changes nothing.

Try: ``python benchmarks/noise.py --draws 3``
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from spandrel import ModelLoader

from irbench.data import obtain, sets
from irbench.imaging import metrics
from irbench.imaging.images import to_float, to_uint8

SIGMA = 25


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=6)
    draws = parser.parse_args().draws
    means = {(what, metric): [] for what in ("input", "dncnn") for metric in ("psnr", "ssim")}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        def fetch(name):
            return obtain.fetch(sets.get(name), Path(folder), progress=False).images

        network = ModelLoader().load_from_file(str(fetch("weights_dncnn")[0].path)).model.eval()
        targets = [item.load() for item in fetch("set12")]
        for seed in range(draws):
            scores = {key: [] for key in means}
            for target in targets:
                noise = np.random.RandomState(seed).normal(0, SIGMA / 255, target.shape)
                noisy = (to_float(target) + noise).astype(np.float32)
                restored = network(torch.from_numpy(noisy).permute(2, 0, 1)[None])[0]
                for what, image in (("input", noisy),
                                    ("dncnn", restored.permute(1, 2, 0).numpy())):
                    image = to_uint8(image)
                    scores[what, "psnr"].append(metrics.psnr(image, target))
                    scores[what, "ssim"].append(metrics.ssim(image, target))
            for key, values in scores.items():
                means[key].append(float(np.mean(values)))
            print(f"draw {seed + 1} of {draws}", file=sys.stderr)
    print(json.dumps({f"{what} {metric}": {
        "means": [round(v, 5) for v in values],
        "deviation": round(float(np.std(values, ddof=1)), 5)}
        for (what, metric), values in means.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
