"""Augmentation by smooth fields: of a coil's sensitivity, of an elastic map, and of a coarser scan."""

import functools

import cv2
import numpy as np

#: Degree of the polynomial of a bias field along each side.
_DEGREE = 3
#: Control points of an elastic map along each side.
_POINTS = 4
#: By which factors a slice is made coarser.
_COARSER = (1.5, 3.0)


def add_bias_field(images: np.ndarray, rng: np.random.Generator, largest: float) -> None:
    """Multiply each image by a smooth field of its own, as the sensitivity of a coil does, in place.

    All channels of an image have one field, since all are taken by one coil. Background (0) stays.

    Args:
        images: Array of shape `(batch, height, width, channels)`, float32.
        rng: Where the random numbers come from.
        largest: The field lies between exp(-largest) and exp(largest); each image draws its strength up to that.

    Example:
        >>> images = np.ones((1, 8, 8, 2), "float32")
        >>> add_bias_field(images, np.random.default_rng(0), 0.3)
        >>> bool((abs(np.log(images)) <= 0.3001).all())
        True

    Reference:
        A polynomial of low degree: Van Leemput et al. 1999, doi 10.1109/42.811268; MONAI's and TorchIO's bias fields.
    """
    strengths = rng.uniform(0, largest, len(images)).astype(np.float32)
    for image, strength in zip(images, strengths, strict=True):
        image *= bias_field(*image.shape[:2], rng, strength)[..., np.newaxis]


def bias_field(height: int, width: int, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Draw the smooth field by which a coil's sensitivity multiplies an image.

    Args:
        height: Of the image.
        width: Of the image.
        rng: Where the random numbers come from.
        strength: The largest absolute logarithm of the field.

    Returns:
        Array of shape `(height, width)`, float32.

    Example:
        >>> field = bias_field(8, 8, np.random.default_rng(0), 0.3)
        >>> round(float(abs(np.log(field)).max()), 4)
        0.3

    Reference:
        As for `add_bias_field`.
    """
    weights = rng.standard_normal((_DEGREE + 1, _DEGREE + 1), np.float32)
    field = _polynomials(height) @ weights @ _polynomials(width).T
    field *= np.float32(strength) / np.abs(field).max()
    return cv2.exp(field)


@functools.lru_cache(maxsize=8)
def _polynomials(side: int) -> np.ndarray:
    return np.polynomial.legendre.legvander(np.linspace(-1, 1, side), _DEGREE).astype(np.float32)


def elastic_maps(matrices: np.ndarray, height: int, width: int, rng: np.random.Generator, largest: float) -> np.ndarray:
    """Bend affine maps, so that one interpolation does both.

    Args:
        matrices: Affine maps from old to new pixels `(batch, 2, 3)`.
        height: Of the images.
        width: Of the images.
        rng: Where the random numbers come from.
        largest: Largest displacement as a share of each side; each image draws its own up to that.

    Returns:
        Array of shape `(batch, height, width, 2)`, float32: column and row from which each new pixel comes.

    Example:
        >>> still = np.array([[[1.0, 0, 0], [0, 1, 0]]])
        >>> elastic_maps(still, 8, 8, np.random.default_rng(0), 0.0)[0, 2, 5].tolist()
        [5.0, 2.0]

    Reference:
        Displaced control points, as in Ronneberger, Fischer, Brox 2015, arXiv:1505.04597.
    """
    count, sides = len(matrices), np.float32([width, height])
    rows, columns = np.arange(height, dtype=np.float32)[:, np.newaxis], np.arange(width, dtype=np.float32)
    strengths = rng.uniform(0, largest, count).astype(np.float32)
    points = rng.uniform(-1, 1, (count, _POINTS, _POINTS, 2)).astype(np.float32)
    maps = np.empty((count, height, width, 2), np.float32)
    for target, matrix, strength, own in zip(maps, matrices, strengths, points, strict=True):
        bend = cv2.resize(own, (width, height), interpolation=cv2.INTER_CUBIC)
        bend *= sides * (strength / np.abs(bend).max())
        back = cv2.invertAffineTransform(matrix).astype(np.float32)
        for axis in range(2):
            target[..., axis] = back[axis, 0] * columns + back[axis, 1] * rows + back[axis, 2] + bend[..., axis]
    return maps


def lower_resolution(images: np.ndarray, rng: np.random.Generator, probability: float) -> None:
    """Bring some images to fewer pixels and back, as of a coarser scan, in place.

    Args:
        images: Array of shape `(batch, height, width, channels)`, float32.
        rng: Where the random numbers come from.
        probability: Of each image. The factor is drawn from 1.5 to 3.

    Example:
        >>> images = np.eye(12, dtype="float32")[np.newaxis, ..., np.newaxis]
        >>> lower_resolution(images, np.random.default_rng(0), 1.0)
        >>> bool(images.max() < 0.9)
        True
    """
    chosen, factors = rng.random(len(images)) < probability, rng.uniform(*_COARSER, len(images))
    for index in np.flatnonzero(chosen):
        make_coarser(images[index], factors[index])


def make_coarser(image: np.ndarray, factor: float) -> None:
    """Bring an image to fewer pixels and back, in place.

    Args:
        image: Array of shape `(height, width, channels)`, float32.
        factor: How many times as long the sides of a pixel become.

    Example:
        >>> image = np.arange(4, dtype="float32").reshape(1, 4, 1).repeat(4, axis=0)
        >>> make_coarser(image, 4)
        >>> image[0, :, 0].tolist()
        [1.5, 1.5, 1.5, 1.5]
    """
    height, width, channels = image.shape
    small = tuple(max(1, round(side / factor)) for side in (width, height))
    # OpenCV averages at most four channels at once.
    for start in range(0, channels, 4):
        part = image[..., start : start + 4]
        coarse = cv2.resize(np.ascontiguousarray(part), small, interpolation=cv2.INTER_AREA)
        part[...] = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).reshape(part.shape)
