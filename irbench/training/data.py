"""Training batches: random patches of clean images, degraded under the protocol.

Batch number n is a pure function of (seed, names, n): nothing needs saving to resume, and the
order in which batches are made never matters.
"""

from __future__ import annotations

import hashlib

import numpy as np

from irbench.degrade import degrade, prepare_target
from irbench.errors import UserError
from irbench.protocols import Protocol


def seed_of(*parts: object) -> int:
    """Hash names and numbers into a 32-bit seed."""
    text = "\0".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "little")


class Patches:
    """All training images decoded once, and the batches cut from them."""

    def __init__(self, images: list[np.ndarray], names: list[str], protocol: Protocol,
                 recipe: dict, seed: int) -> None:
        """Prepare the images.

        Args:
            images: uint8 (H, W, 1 or 3), decoded files.
            names: their names, for messages.
            protocol: fixes colour, scale and degradation.
            recipe: gives ``patch`` (side of the target in pixels) and ``batch``.
            seed: of the run.

        Raises:
            UserError: no image, or one smaller than a patch.
        """
        self.protocol, self.patch, self.batch = protocol, recipe["patch"], recipe["batch"]
        self.seed = seed
        self.images = [prepare_target(image, protocol) for image in images]
        small = [n for n, im in zip(names, self.images, strict=True)
                 if min(im.shape[:2]) < self.patch]
        if small or not images:
            raise UserError(f"training images smaller than the patch of {self.patch} pixels: "
                            f"{', '.join(small) or 'there is no image at all'}. "
                            "Lower `patch` or remove them.")

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the inputs and targets of a step.

        Returns:
            float32 (B, C, patch/scale, patch/scale) and float32 (B, C, patch, patch).
        """
        pairs = [self._sample(np.random.RandomState(
            seed_of(self.seed, self.protocol.id, step, i))) for i in range(self.batch)]
        inputs, targets = zip(*pairs, strict=True)
        return tuple(np.ascontiguousarray(np.stack(part).transpose(0, 3, 1, 2))
                     for part in (inputs, targets))

    def _sample(self, rng: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
        # every image equally often, whatever its size, as the published toolkits do
        image = self.images[rng.randint(len(self.images))]
        top, left = (rng.randint(0, n - self.patch + 1) for n in image.shape[:2])
        patch = image[top:top + self.patch, left:left + self.patch]
        # the eight symmetries of the square
        patch = np.rot90(patch, rng.randint(4))
        if rng.randint(2):
            patch = patch[:, ::-1]
        patch = np.ascontiguousarray(patch)
        return degrade(patch, self.protocol, rng), patch.astype(np.float32) / 255
