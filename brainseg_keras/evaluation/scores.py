"""Scores of a binary mask as pure functions of four counts. NumPy only.

The empty rule, for every score: 0/0 is 1 if nothing is wrong (no false positive, no false negative), else 0. So silence
on an empty mask scores 1 everywhere; finding nothing where there is a tumour has precision 0, and inventing a tumour
where there is none has recall 0. Every score is then defined for every pair of masks and no mean skips a failure.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from brainseg_keras.errors import InputError


@dataclass(frozen=True)
class Counts:
    """How many pixels were hit, invented, missed and left alone; whole numbers, or arrays of them.

    Args:
        tp: tumour, marked.
        fp: no tumour, marked.
        fn: tumour, not marked.
        tn: no tumour, not marked.

    Example:
        >>> slices = [([0, 1], [1, 1]), ([0, 0], [0, 0])]
        >>> sum((confusion(truth, answer) for truth, answer in slices), Counts())
        Counts(tp=1, fp=1, fn=0, tn=2)
    """

    tp: int | np.ndarray = 0
    fp: int | np.ndarray = 0
    fn: int | np.ndarray = 0
    tn: int | np.ndarray = 0

    def __iter__(self) -> Iterator[int | np.ndarray]:
        return iter((self.tp, self.fp, self.fn, self.tn))

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


def _as_bool(mask, name: str) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.dtype == bool:
        return mask
    if mask.dtype.kind not in "iuf" or not np.all((mask == 0) | (mask == 1)):
        found = f"values from {mask.min()} to {mask.max()}" if mask.dtype.kind in "iuf" else f"dtype {mask.dtype}"
        raise InputError(
            f"{name} must hold True and False, or 0 and 1. Received: {found}. "
            "Threshold probabilities (> 0.5) or gray values (> 127) first."
        )
    return mask.astype(bool)


def confusion(y_true: np.ndarray, y_pred: np.ndarray) -> Counts:
    """Count hits and errors, exactly.

    Args:
        y_true: mask of any shape, bool or 0/1.
        y_pred: mask of the same shape, bool or 0/1.

    Returns:
        `Counts` of Python ints.

    Raises:
        InputError: shapes differ, or a value is neither 0 nor 1.

    Example:
        >>> confusion(np.array([1, 1, 0]), np.array([0.9, 0.2, 0.7]) > 0.5)
        Counts(tp=1, fp=1, fn=1, tn=0)
    """
    truth, answer = _as_bool(y_true, "y_true"), _as_bool(y_pred, "y_pred")
    if truth.shape != answer.shape:
        raise InputError(
            f"y_true and y_pred must have one shape. Received: {truth.shape} and {answer.shape}. "
            "Resize the prediction to the mask first."
        )
    tp = int(np.count_nonzero(truth & answer))
    fp = int(np.count_nonzero(answer)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return Counts(tp, fp, fn, truth.size - tp - fp - fn)


def _ratio(numerator, denominator, counts: Counts) -> float | np.ndarray:
    # float64 holds every count below 2**53.
    numerator, denominator = np.asarray(numerator, "float64"), np.asarray(denominator, "float64")
    right = np.asarray(counts.fp) + np.asarray(counts.fn) == 0
    value = np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1.0), right)
    return float(value) if value.ndim == 0 else value


def dice(counts: Counts) -> float | np.ndarray:
    """2 tp / (2 tp + fp + fn), the overlap of two masks; both empty is 1.

    Args:
        counts: `Counts` of numbers or of arrays.

    Returns:
        A float, or an array of the counts' shape.

    Example:
        >>> dice(Counts(tp=2, fp=1, fn=1, tn=5))
        0.6666666666666666

    Reference:
        Dice 1945.
    """
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn, counts)


def iou(counts: Counts) -> float | np.ndarray:
    """tp / (tp + fp + fn), intersection over union; both empty is 1.

    Args:
        counts: `Counts` of numbers or of arrays.

    Returns:
        A float, or an array of the counts' shape.

    Example:
        >>> iou(Counts(tp=2, fp=1, fn=1, tn=5))
        0.5

    Reference:
        Jaccard 1912.
    """
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn, counts)


def precision(counts: Counts) -> float | np.ndarray:
    """tp / (tp + fp), how much of what was marked is tumour; nothing marked is 1 if there was none, else 0.

    Args:
        counts: `Counts` of numbers or of arrays.

    Returns:
        A float, or an array of the counts' shape.

    Example:
        >>> precision(Counts(tp=2, fp=1, fn=1, tn=5))
        0.6666666666666666
    """
    return _ratio(counts.tp, counts.tp + counts.fp, counts)


def recall(counts: Counts) -> float | np.ndarray:
    """tp / (tp + fn), how much of the tumour was marked; no tumour is 1 if none was marked, else 0.

    Args:
        counts: `Counts` of numbers or of arrays.

    Returns:
        A float, or an array of the counts' shape.

    Example:
        >>> recall(Counts(tp=2, fp=1, fn=1, tn=5))
        0.6666666666666666
    """
    return _ratio(counts.tp, counts.tp + counts.fn, counts)


def specificity(counts: Counts) -> float | np.ndarray:
    """tn / (tn + fp), how much of the rest was left alone; no rest is 1 if nothing is wrong, else 0.

    Args:
        counts: `Counts` of numbers or of arrays.

    Returns:
        A float, or an array of the counts' shape.

    Example:
        >>> specificity(Counts(tp=2, fp=1, fn=1, tn=5))
        0.8333333333333334
    """
    return _ratio(counts.tn, counts.tn + counts.fp, counts)


def pixel_accuracy(counts: Counts) -> float | np.ndarray:
    """(tp + tn) / all, the share of pixels that are right: high for any small tumour, so never alone.

    Args:
        counts: `Counts` of numbers or of arrays.

    Returns:
        A float, or an array of the counts' shape.

    Example:
        >>> pixel_accuracy(Counts(tp=2, fp=1, fn=1, tn=5))
        0.7777777777777778
    """
    return _ratio(counts.tp + counts.tn, counts.tp + counts.fp + counts.fn + counts.tn, counts)


def patient_dice(y_true: Iterable, y_pred: Iterable) -> float:
    """Dice over a patient's whole volume: the slices' pixels pooled, not the mean of the slices' Dice.

    Args:
        y_true: masks of one patient, (slices, height, width), or an iterable of slices, which may differ in size.
        y_pred: the answers in the same order.

    Returns:
        A float; 1 if the patient has no tumour and none was marked.

    Raises:
        InputError: no slices, not as many answers as masks, or shapes or values as in `confusion`.

    Example:
        `patient_dice(masks, probabilities > 0.5)`

    Reference:
        Buda, Saha, Mazurowski 2019, arXiv 1906.03720 (Dice per patient).
    """
    truth, answers = list(y_true), list(y_pred)
    if not truth or len(truth) != len(answers):
        raise InputError(
            "a patient needs one answer for each slice, and a slice. "
            f"Received: {len(truth)} masks and {len(answers)} answers."
        )
    return dice(sum((confusion(t, p) for t, p in zip(truth, answers, strict=True)), Counts()))
