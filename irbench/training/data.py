"""Training batches: random patches of clean images, degraded under the protocol, or of pairs.

Batch number n is a pure function of (seed, names, n): nothing needs saving to resume, and the
order in which batches are made never matters.
"""

from __future__ import annotations

import numpy as np

from irbench.degrade import align_pair, degrade, prepare_target, seed_of
from irbench.errors import UserError
from irbench.images import to_float
from irbench.protocols import Protocol


class Patches:
    """All training images decoded once, and the batches cut from them."""

    def __init__(self, images: list[np.ndarray] | list[tuple[np.ndarray, np.ndarray]],
                 names: list[str], protocol: Protocol, recipe: dict, seed: int) -> None:
        """Prepare the images.

        Args:
            images: uint8 (H, W, 1 or 3), decoded files; for a paired protocol pairs of them,
                (input, target).
            names: their names, for messages.
            protocol: fixes colour, scale and degradation.
            recipe: gives ``patch`` (side of the target in pixels) and ``batch``.
            seed: of the run.

        Raises:
            UserError: no image, one smaller than a patch, or a pair of two sizes.
        """
        self.protocol, self.patch, self.batch = protocol, recipe["patch"], recipe["batch"]
        self.seed = seed
        # of a clean image there is the target alone, else the input too; kept as uint8
        self.images = [self._prepare(image, name)
                       for image, name in zip(images, names, strict=True)]
        small = [name for name, (*_, target) in zip(names, self.images, strict=True)
                 if min(target.shape[:2]) < self.patch]
        if small or not images:
            raise UserError(f"training images smaller than the patch of {self.patch} pixels: "
                            f"{', '.join(small) or 'there is no image at all'}. "
                            "Lower `patch` or remove them.")

    def _prepare(self, image: np.ndarray | tuple[np.ndarray, np.ndarray],
                 name: str) -> tuple[np.ndarray, ...]:
        try:
            if self.protocol.paired:
                return align_pair(*image, self.protocol)
            return (prepare_target(image, self.protocol),)
        except UserError as error:
            raise type(error)(f"{name}: {error}") from None

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
        images = self.images[rng.randint(len(self.images))]
        top, left = (rng.randint(0, n - self.patch + 1) for n in images[-1].shape[:2])
        turns, mirrored = rng.randint(4), rng.randint(2)
        # input and target are cut and turned alike
        *given, target = (self._cut(image, top, left, turns, mirrored) for image in images)
        degraded = to_float(given[0]) if given else degrade(target, self.protocol, rng)
        return degraded, target.astype(np.float32) / 255

    def _cut(self, image: np.ndarray, top: int, left: int, turns: int,
             mirrored: int) -> np.ndarray:
        """Cut a patch and apply one of the eight symmetries of the square."""
        patch = np.rot90(image[top:top + self.patch, left:left + self.patch], turns)
        return np.ascontiguousarray(patch[:, ::-1] if mirrored else patch)
