"""Distances between the surfaces of two masks, in 2-D or 3-D. NumPy and SciPy only.

A mask's surface is its pixels that touch what is not mask through a face (or lie at the border of the volume). Both
masks empty is distance 0 and surface Dice 1. One empty, a missed or an invented tumour, costs the diagonal of the whole
volume, which no real distance reaches: answering nothing never improves a mean. (The 373.13 mm of BraTS is this rule.)
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from brainseg_keras.errors import InputError


class SurfaceDistances:
    """Distances from each mask's surface to the other's: measured once, read in several ways.

    Args:
        y_true: Mask, 2-D or 3-D, bool or 0/1.
        y_pred: Mask of the same shape.
        spacing: Size of a pixel along each axis, in the order of the array's axes; default 1, which gives pixels.

    Raises:
        InputError: Shapes differ, or a spacing that is not above 0.

    Example:
        >>> truth, answer = np.zeros((1, 5, 5), bool), np.zeros((1, 5, 5), bool)
        >>> truth[0, 1, 1] = answer[0, 1, 3] = True
        >>> SurfaceDistances(truth, answer, spacing=(5, 2, 2)).hausdorff()
        4.0
    """

    def __init__(self, y_true: np.ndarray, y_pred: np.ndarray, spacing: Sequence[float] | None = None):
        truth, answer = np.asarray(y_true, bool), np.asarray(y_pred, bool)
        if truth.shape != answer.shape:
            raise InputError(f"y_true and y_pred must have one shape. Received: {truth.shape} and {answer.shape}.")
        steps = np.ones(truth.ndim) if spacing is None else np.asarray(spacing, float)
        if steps.shape != (truth.ndim,) or not (steps > 0).all():
            raise InputError(f"spacing is {truth.ndim} numbers above 0, one an axis. Received: {spacing!r}.")
        #: Length of the volume's diagonal: the cost of a missed or an invented tumour.
        self.diagonal = float(np.linalg.norm(np.array(truth.shape) * steps))
        self._either = bool(truth.any() or answer.any())
        self._both = bool(truth.any() and answer.any())
        if self._both:
            box = _bounding_box(truth | answer)
            truth_surface, answer_surface = _surface(truth[box]), _surface(answer[box])
            self._from_truth = ndimage.distance_transform_edt(~answer_surface, sampling=steps)[truth_surface]
            self._from_answer = ndimage.distance_transform_edt(~truth_surface, sampling=steps)[answer_surface]

    def hausdorff(self, percentile: float = 95) -> float:
        """Give the larger of the two directed percentiles of distance; 100 is the Hausdorff distance itself.

        Args:
            percentile: Between 0 and 100; the 95th forgives a few stray pixels.

        Returns:
            In the spacing's unit; the diagonal if one mask is empty, 0 if both are.
        """
        if not self._both:
            return self.diagonal if self._either else 0.0
        return float(max(np.percentile(d, percentile) for d in (self._from_truth, self._from_answer)))

    def average(self) -> float:
        """Give the average symmetric surface distance: the mean over both surfaces pooled.

        Returns:
            In the spacing's unit; the diagonal if one mask is empty, 0 if both are.

        Reference:
            Heimann et al. 2009, doi 10.1109/TMI.2009.2013851.
        """
        if not self._both:
            return self.diagonal if self._either else 0.0
        return float(np.concatenate([self._from_truth, self._from_answer]).mean())

    def surface_dice(self, tolerance: float) -> float:
        """Give the share of both surfaces that lies within a tolerance of the other.

        Args:
            tolerance: In the spacing's unit.

        Returns:
            Between 0 and 1; 0 if one mask is empty, 1 if both are.

        Reference:
            Nikolov et al. 2021, doi 10.2196/26151; here surfaces are counted in pixels.
        """
        if not self._both:
            return 0.0 if self._either else 1.0
        near = (self._from_truth <= tolerance).sum() + (self._from_answer <= tolerance).sum()
        return float(near / (self._from_truth.size + self._from_answer.size))


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Where the mask is: distances between points inside a box need nothing from outside it."""
    return ndimage.find_objects(mask.astype(np.uint8))[0]


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)
