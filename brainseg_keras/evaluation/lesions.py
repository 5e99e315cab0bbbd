"""Lesions: connected parts of a mask, and which of them were found. NumPy and SciPy only."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LesionCounts:
    """How many lesions were found, missed and invented.

    Args:
        found: Lesions of the truth that the answer overlaps, by one pixel or more.
        missed: Lesions of the truth that it does not.
        invented: Parts of the answer that overlap no lesion.
        hits: Parts of the answer that overlap one.

    Example:
        >>> LesionCounts(found=1, missed=1, invented=0, hits=1).recall
        0.5
    """

    found: int
    missed: int
    invented: int
    hits: int

    @property
    def recall(self) -> float:
        """Share of the lesions that were found; without lesions 1 if none was invented, else 0."""
        if self.found + self.missed:
            return self.found / (self.found + self.missed)
        return float(self.invented == 0)

    @property
    def precision(self) -> float:
        """Share of the answer's parts that overlap a lesion; without parts 1 if no lesion was missed, else 0."""
        if self.hits + self.invented:
            return self.hits / (self.hits + self.invented)
        return float(self.missed == 0)


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Find the smallest box that holds all of a mask.

    Args:
        mask: Array of any number of axes, bool or 0/1, not empty.

    Returns:
        A slice for each axis.

    Example:
        >>> bounding_box(np.array([[0, 0, 0], [0, 1, 1]]))
        (slice(1, 2, None), slice(1, 3, None))
    """
    bounds = []
    for axis in range(np.ndim(mask)):
        others = tuple(other for other in range(np.ndim(mask)) if other != axis)
        indices = np.flatnonzero(np.any(mask, axis=others))
        bounds.append(slice(int(indices[0]), int(indices[-1]) + 1))
    return tuple(bounds)


def label_lesions(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the connected parts of a mask; pixels that touch by a corner belong together.

    Args:
        mask: Array of any number of axes, bool or 0/1.

    Returns:
        Numbers from 1 on, 0 outside, and how many parts there are.

    Example:
        >>> label_lesions(np.eye(3))[1]
        1
    """
    # Half a second to load, and a network whose masks keep all their parts does without.
    from scipy import ndimage

    mask = np.asarray(mask, bool)
    return ndimage.label(mask, structure=np.ones((3,) * mask.ndim))


def count_lesions(y_true: np.ndarray, y_pred: np.ndarray) -> LesionCounts:
    """Count lesions that were found, missed and invented.

    Args:
        y_true: Mask, bool or 0/1.
        y_pred: Mask of the same shape.

    Returns:
        The counts.

    Example:
        >>> count_lesions(np.array([1, 1, 0, 1]), np.array([0, 1, 0, 0])).missed
        1
    """
    lesions, number = label_lesions(y_true)
    parts, answers = label_lesions(y_pred)
    both = (lesions > 0) & (parts > 0)
    found, hits = len(np.unique(lesions[both])), len(np.unique(parts[both]))
    return LesionCounts(found, number - found, answers - hits, hits)
