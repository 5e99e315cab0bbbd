"""Percentiles of pixels. Bytes are counted, not sorted: the same to the last bit in a fraction of the time."""

from collections.abc import Sequence

import cv2
import numpy as np


def percentiles(plane: np.ndarray, shares: Sequence[float], inside: np.ndarray | None = None) -> list[float]:
    """Give what `numpy.percentile` gives, to the last bit.

    Args:
        plane: Array of shape `(slices, height, width)`.
        shares: From 0 to 100.
        inside: Bool array of the same shape that says which pixels count; None counts all.

    Returns:
        For each share its percentile, interpolated between two pixels.

    Example:
        >>> percentiles(np.arange(5, dtype=np.uint8).reshape(1, 1, 5), [25, 100])
        [1.0, 4.0]
    """
    if plane.dtype != np.uint8:
        return np.percentile(plane if inside is None else plane[inside], shares).tolist()
    counts = np.zeros(256, np.int64)
    for index, pixels in enumerate(plane):
        chosen = None if inside is None else inside[index].view(np.uint8)
        # OpenCV counts in float32, which is exact for a slice and might not be for a volume.
        counts += np.int64(cv2.calcHist([np.ascontiguousarray(pixels)], [0], chosen, [256], [0, 256]).ravel())
    ends = np.cumsum(counts)
    return [_interpolate(ends, share / 100 * (ends[-1] - 1)) for share in shares]


def _interpolate(ends: np.ndarray, place: float) -> float:
    low, high = (int(np.searchsorted(ends, rank, side="right")) for rank in (np.floor(place), np.ceil(place)))
    part = place - np.floor(place)
    # From the nearer of the two, as NumPy does it.
    return float(high - (high - low) * (1 - part) if part >= 0.5 else low + (high - low) * part)


def exceeds(plane: np.ndarray, level: float) -> np.ndarray:
    """Say which pixels lie above a level, without making floats of bytes.

    Args:
        plane: Array of any shape.
        level: From 0 to 255 where the pixels are bytes.

    Returns:
        Bool array of the same shape.
    """
    return plane > (np.uint8(level) if plane.dtype == np.uint8 else level)
