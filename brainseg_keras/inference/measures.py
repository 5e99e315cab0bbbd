"""What a mask measures: area or volume, largest diameter, and how sure the network was of it."""

import math
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Measures:
    """Figures of one mask.

    Args:
        tumour_size: How many pixels of a lone slice, or voxels of a volume, are marked.
        size_unit: `pixels` or `voxels`.
        tumour_ml: Their volume in millilitres, or None where the files do not say their size.
        largest_diameter: Longest line within one slice, in `diameter_unit`.
        diameter_unit: `mm` or `pixels`.
        confidence: Mean probability of the marked pixels; with none, 1 minus the largest probability.
    """

    tumour_size: int
    size_unit: str
    tumour_ml: float | None
    largest_diameter: float
    diameter_unit: str
    confidence: float


def measure(
    mask: np.ndarray, tumour: np.ndarray, spacing: tuple[float, float, float] | None, *, slices: int | None = None
) -> Measures:
    """Measure a mask.

    Args:
        mask: Array of shape `(slices, height, width)`; above 0 is tumour.
        tumour: Probability of tumour, of the same shape.
        spacing: Millimeters between slices, rows and columns, or None.
        slices: How many the scan has, of which the mask may be a part; default as many as the mask.

    Returns:
        The figures.

    Example:
        >>> measure(np.ones((1, 2, 2), "uint8"), np.full((1, 2, 2), 0.75), (10.0, 5.0, 5.0)).tumour_ml
        1.0
    """
    marked = mask > 0
    pixels = int(np.count_nonzero(marked))
    return Measures(
        pixels,
        "pixels" if (slices or len(mask)) == 1 else "voxels",
        None if spacing is None else pixels * math.prod(spacing) / 1000,
        _largest_of(marked, None if spacing is None else spacing[1:]),
        "pixels" if spacing is None else "mm",
        mean_confidence(marked, tumour),
    )


def mean_confidence(marked: np.ndarray, tumour: np.ndarray) -> float:
    """Say how sure a network was of a mask.

    Args:
        marked: The mask, bool.
        tumour: Probability of tumour, of the same shape.

    Returns:
        Mean probability of the marked pixels; with none, 1 minus the largest probability.

    Example:
        >>> mean_confidence(np.array([True, True, False]), np.array([0.5, 1.0, 0.25]))
        0.75
    """
    pixels = np.count_nonzero(marked)
    # A product, where picking the pixels would take most of the time of a large volume.
    return float(tumour.ravel() @ marked.ravel().astype(tumour.dtype) / pixels if pixels else 1 - tumour.max(initial=0))


def _largest_of(marked: np.ndarray, spacing: tuple[float, float] | None) -> float:
    """Measure the slices whose bounding box leaves room for a longer line, the largest box first."""
    sides = [_extent(marked.any(axis=axis)) * step for axis, step in zip((2, 1), spacing or (1.0, 1.0), strict=True)]
    diagonals, longest = np.hypot(*sides), 0.0
    for index in np.argsort(-diagonals):
        if diagonals[index] <= longest:
            break
        longest = max(longest, largest_diameter(marked[index], spacing))
    return longest


def _extent(hit: np.ndarray) -> np.ndarray:
    """Count from the first to the last hit of each row, `(rows, places)`; 0 without any."""
    return np.where(hit.any(axis=1), hit.shape[1] - hit[:, ::-1].argmax(axis=1) - hit.argmax(axis=1), 0)


def largest_diameter(mask: np.ndarray, spacing: tuple[float, float] | None = None) -> float:
    """Measure the longest line between two pixels of a slice's mask, edge to edge along it.

    Args:
        mask: Array of shape `(height, width)`.
        spacing: Millimeters between rows and columns; None gives pixels.

    Returns:
        Length, 0 for an empty mask.

    Example:
        >>> largest_diameter(np.ones((1, 3), bool), (1.0, 2.0))
        6.0
    """
    mask = np.asarray(mask, bool)
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return 0.0
    # The ends of each row have the same hull as all pixels.
    ends = [mask[rows].argmax(axis=1), mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)]
    points = np.stack([np.tile(rows, 2), np.concatenate(ends)], axis=-1).astype(np.int32)
    steps = np.array((1.0, 1.0) if spacing is None else spacing)
    hull = cv2.convexHull(points)[:, 0] * steps
    gaps = hull[:, np.newaxis] - hull[np.newaxis]
    lengths = np.linalg.norm(gaps, axis=-1)
    first, second = np.unravel_index(lengths.argmax(), lengths.shape)
    direction = np.abs(gaps[first, second])
    # From center to center, and half a pixel at each end.
    half = steps.min() if not direction.any() else float(direction @ steps / direction.sum())
    return float(lengths[first, second] + half)
