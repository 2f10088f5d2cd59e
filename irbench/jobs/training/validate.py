"""Validation during a training: PSNR on images held out of the training sets, never a test set.

The value follows the protocol: rounding to uint8, colour and border. It uses at most 192x192
pixels of a few images, so it can only be compared within one training.

Reads the held-out images; writes nothing.
"""

from __future__ import annotations

import numpy as np

from irbench.catalog.protocols import Protocol
from irbench.imaging import metrics
from irbench.imaging.degrade import seed_of
from irbench.imaging.images import to_uint8
from irbench.jobs.training.data import SIDE, Patches


class Validator:
    """Scores a network on the held-out images, which are degraded once."""

    def __init__(self, patches: Patches, protocol: Protocol) -> None:
        """Degrade the images; ``about`` describes them."""
        self.protocol = protocol
        self.images = list(patches.validation())
        self.about = {"images": len(self.images), "names": [name for name, *_ in self.images],
                      "crop": f"at most {SIDE}x{SIDE} pixels of the middle",
                      "protocol": protocol.id, "metric": f"PSNR on {protocol.metric.color}, dB"}

    def __call__(self, network) -> float | None:
        """Return the mean PSNR in dB of a network in evaluation mode; None without images.

        It is also None if an image is restored perfectly, because its PSNR is infinite.
        """
        import torch

        from irbench.inference.seeding import seeded

        device = next(network.parameters()).device
        training = network.training
        network.eval()
        scores = []
        with torch.inference_mode():
            for name, degraded, target in self.images:
                x = torch.from_numpy(np.ascontiguousarray(degraded.transpose(2, 0, 1)))[None]
                with seeded(seed_of("validation", self.protocol.id, name)):
                    restored = network(x.to(device))[0]
                restored = restored.float().cpu().numpy().transpose(1, 2, 0)
                scores.append(metrics.psnr(*(metrics.planes(image, self.protocol)
                                             for image in (to_uint8(restored), target))))
        network.train(training)
        return None if not scores or None in scores else sum(scores) / len(scores)
