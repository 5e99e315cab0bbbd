"""Distances between the surfaces of two masks, in 2-D or 3-D. NumPy and SciPy only.

A mask's surface is its pixels that touch what is not mask through a face, or that lie at the border of what is
measured: through one of 4 sides in a slice, through one of 6 faces in a volume. Distances are from center to center.

How far two slices lie apart has to be known for a distance in 3-D, so there are three ways:

- a volume with spacing is measured in 3-D;
- a volume of several slices without spacing is measured slice by slice, each in 2-D and in pixels, and the distances of
  all its slices are pooled;
- a single slice is measured in 2-D, with spacing or without: in 3-D all of its mask would be surface.

Both masks empty is distance 0 and surface Dice 1. Where one is empty, in a volume that is measured in 3-D or in one of
the slices that are measured one by one, each surface pixel of the other costs the diagonal of that volume or slice,
which no real distance reaches: answering nothing never improves a patient. (The 373.13 mm of BraTS is this rule.)
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from brainseg_keras.errors import InputError


class SurfaceDistances:
    """Distances from each mask's surface to the other's: measured once, read in several ways.

    Args:
        y_true: Mask of one slice, `(height, width)`, or of several, `(slices, height, width)`; bool or 0/1.
        y_pred: Mask of the same shape.
        spacing: Size of a pixel along each axis, in the order of the array's axes; None where it is not known, which
            gives pixels, and measures several slices one by one. Voxels that are cubes have a spacing of (1, 1, 1).

    Raises:
        InputError: Shapes differ or have other axes, or a spacing that is not above 0.

    Example:
        >>> truth, answer = np.zeros((2, 5, 5), bool), np.zeros((2, 5, 5), bool)
        >>> truth[0, 1, 1] = answer[0, 1, 3] = True
        >>> found = SurfaceDistances(truth, answer, spacing=(5, 2, 2))
        >>> found.dimension, found.hausdorff()
        (3, 4.0)
        >>> found = SurfaceDistances(truth, answer)
        >>> found.dimension, found.hausdorff()
        (2, 2.0)
    """

    def __init__(self, y_true: np.ndarray, y_pred: np.ndarray, spacing: Sequence[float] | None = None):
        truth, answer = np.asarray(y_true, bool), np.asarray(y_pred, bool)
        if truth.shape != answer.shape or truth.ndim not in (2, 3):
            raise InputError(
                "y_true and y_pred must have one shape, (height, width) or (slices, height, width). Received: "
                f"{truth.shape} and {answer.shape}."
            )
        steps = None if spacing is None else np.asarray(spacing, float)
        if steps is not None and (steps.shape != (truth.ndim,) or not (steps > 0).all()):
            raise InputError(f"spacing is {truth.ndim} numbers above 0, one an axis. Received: {spacing!r}.")
        whole = truth.ndim == 3 and len(truth) > 1 and steps is not None
        #: 3 where the distances were measured in a volume, 2 where in slices.
        self.dimension = 3 if whole else 2
        if whole or truth.ndim == 2:
            truth, answer = truth[np.newaxis], answer[np.newaxis]
        steps = np.ones(self.dimension) if steps is None else steps[-self.dimension :]
        #: Length of the diagonal of the volume, or of a slice: what a missed or an invented tumour costs.
        self.diagonal = float(np.linalg.norm(np.array(truth.shape[1:]) * steps))
        pairs = [self._measure(t, a, steps) for t, a in zip(truth, answer, strict=True) if t.any() or a.any()]
        self._from_truth, self._from_answer = map(np.concatenate, zip(*pairs, strict=True)) if pairs else ((), ())

    def _measure(self, truth: np.ndarray, answer: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Distances between points inside a box need nothing from outside it.
        box = ndimage.find_objects((truth | answer).astype(np.uint8))[0]
        truth, answer = _surface(truth[box]), _surface(answer[box])
        if not (truth.any() and answer.any()):
            return np.full(truth.sum(), self.diagonal), np.full(answer.sum(), self.diagonal)
        from_truth = ndimage.distance_transform_edt(~answer, sampling=steps)[truth]
        return from_truth, ndimage.distance_transform_edt(~truth, sampling=steps)[answer]

    def hausdorff(self, percentile: float = 95) -> float:
        """Give the larger of the two directed percentiles of distance; 100 is the Hausdorff distance itself.

        Args:
            percentile: Between 0 and 100; the 95th forgives a few stray pixels.

        Returns:
            In the spacing's unit; the diagonal if one mask is empty, 0 if both are.
        """
        sides = (self._from_truth, self._from_answer)
        return float(max((np.percentile(side, percentile) for side in sides if len(side)), default=0.0))

    def average(self) -> float:
        """Give the average symmetric surface distance: the mean over both surfaces pooled.

        Returns:
            In the spacing's unit; the diagonal if one mask is empty, 0 if both are.

        Reference:
            Heimann et al. 2009, doi 10.1109/TMI.2009.2013851.
        """
        pooled = np.concatenate([self._from_truth, self._from_answer])
        if not pooled.size:
            return 0.0
        alone = pooled >= self.diagonal
        # A product, so that a mask with nothing opposite costs the diagonal to the last digit.
        return float(self.diagonal * alone.mean() + pooled[~alone].sum() / pooled.size)

    def surface_dice(self, tolerance: float) -> float:
        """Give the share of both surfaces that lies within a tolerance of the other.

        Args:
            tolerance: In the spacing's unit.

        Returns:
            Between 0 and 1; 0 if one mask is empty, 1 if both are.

        Reference:
            Nikolov et al. 2021, doi 10.2196/26151; here surfaces are counted in pixels.
        """
        pooled = np.concatenate([self._from_truth, self._from_answer])
        # What has nothing opposite is near to nothing, however large the tolerance.
        near = (pooled <= tolerance) & (pooled < self.diagonal)
        return float(near.mean()) if pooled.size else 1.0


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)
