"""Augmentation of images and masks together: one affine map and one interpolation a slice."""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Augmentation:
    """Random rotation, flip, zoom and shift, then contrast, of normalised slices and their masks.

    What comes into view from outside is background (0), never a mirror image: that would copy tumours to the border.

    Args:
        rotate: Largest angle in degrees, either way.
        flip: Probability of a left-right flip.
        zoom: Largest change of scale: 0.15 draws from 1/1.15 to 1.15.
        shift: Largest shift as a share of the side, either way.
        intensity: Largest change of each channel's gain and gamma: 0.2 draws each from 1/1.2 to 1.2. Background (0)
            stays where it is.
        noise: Largest standard deviation of Gaussian noise; tissue is 1.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> images, masks = np.ones((2, 16, 16, 3), "float32"), np.ones((2, 16, 16), "uint8")
        >>> [array.shape for array in Augmentation()(images, masks, rng)]
        [(2, 16, 16, 3), (2, 16, 16)]
    """

    rotate: float = 15.0
    flip: float = 0.5
    zoom: float = 0.15
    shift: float = 0.06
    intensity: float = 0.2
    noise: float = 0.03

    def __call__(
        self, images: np.ndarray, masks: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Augment a batch.

        Args:
            images: Array of shape `(batch, height, width, channels)`, float32, background 0.
            masks: Array of shape `(batch, height, width)`, uint8.
            rng: Where the random numbers come from.

        Returns:
            New arrays of the same shapes and dtypes.
        """
        moved_images, moved_masks = np.empty_like(images), np.empty_like(masks)
        size = (images.shape[2], images.shape[1])
        for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
            matrix = self._matrix(rng, *size)
            cv2.warpAffine(image, matrix, size, moved_images[index], cv2.INTER_LINEAR, cv2.BORDER_CONSTANT)
            self._contrast(moved_images[index], rng)
            cv2.warpAffine(mask, matrix, size, moved_masks[index], cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)
        return moved_images, moved_masks

    def _matrix(self, rng: np.random.Generator, width: int, height: int) -> np.ndarray:
        angle = np.deg2rad(rng.uniform(-self.rotate, self.rotate))
        scale = _factor(rng, self.zoom)
        mirror = -1.0 if rng.random() < self.flip else 1.0
        shift = rng.uniform(-self.shift, self.shift, 2) * (width, height)
        linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * (mirror, 1.0)
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        return np.column_stack([linear, centre + shift - linear @ centre])

    def _contrast(self, image: np.ndarray, rng: np.random.Generator) -> None:
        """Change gain and gamma and add noise, in place."""
        if self.intensity:
            channels = image.shape[-1]
            gamma, gain = _factor(rng, self.intensity, channels), _factor(rng, self.intensity, channels)
            np.maximum(image, 0, out=image)
            np.power(image, gamma.astype(np.float32), out=image)
            image *= gain.astype(np.float32)
        if self.noise:
            # OpenCV draws three times as fast as NumPy; its generator is the thread's own. One channel to it, since a
            # number is the spread of the first channel alone.
            cv2.setRNGSeed(int(rng.integers(2**31 - 1)))
            grain = np.empty((image.shape[0], image.shape[1] * image.shape[2]), np.float32)
            cv2.randn(grain, 0, rng.uniform(0, self.noise))
            image += grain.reshape(image.shape)


def _factor(rng: np.random.Generator, spread: float, count: int | None = None) -> np.ndarray | float:
    """Draw factors between 1 / (1 + spread) and 1 + spread, evenly in their logarithm."""
    return np.exp(rng.uniform(-1, 1, count) * np.log1p(spread))
