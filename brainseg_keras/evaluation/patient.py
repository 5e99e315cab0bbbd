"""All scores of one patient, and of each slice, from a mask of the truth and a mask of the answer."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from brainseg_keras.evaluation.distances import SurfaceDistances
from brainseg_keras.evaluation.lesions import count_lesions
from brainseg_keras.evaluation.scores import (
    confusion,
    dice,
    iou,
    pixel_accuracy,
    precision,
    recall,
    specificity,
)

#: Overlap scores by column; each is a pure function of the four counts.
OVERLAP = {
    "dice": dice,
    "iou": iou,
    "precision": precision,
    "recall": recall,
    "specificity": specificity,
    "pixel_accuracy": pixel_accuracy,
}
#: Columns of which smaller is better.
DISTANCES = ("hd95", "average_surface_distance")
#: Between what a score lies, where that is known.
BOUNDS = dict.fromkeys((*OVERLAP, "surface_dice", "lesion_recall", "lesion_precision"), (0.0, 1.0)) | dict.fromkeys(
    DISTANCES, (0.0, math.inf)
)


def score_patient(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    *,
    spacing: Sequence[float] | None = None,
    tolerance: float = 2.0,
) -> dict[str, Any]:
    """Score a patient's whole volume.

    Args:
        y_true: Mask of shape `(slices, height, width)`, bool or 0/1.
        y_pred: Mask of the same shape.
        spacing: Millimeters between slices, rows and columns; None where unknown: distances are measured slice by
            slice and in pixels then, and volumes are in voxels.
        tolerance: Of surface Dice, in millimeters, or in pixels without spacing.

    Returns:
        One row of per_patient.csv: the four counts; dice, iou, precision, recall, specificity, pixel_accuracy;
        distances (`3-D` or `2-D`, how they were measured), hd95, average_surface_distance, surface_dice; lesions,
        lesions_found, lesions_invented, lesion_recall, lesion_precision; volume_true, volume_pred and volume_error
        (answer minus truth), in ml or in voxels.

    Raises:
        InputError: Shapes differ, or a value is neither 0 nor 1.

    Example:
        >>> truth = np.zeros((3, 8, 8), bool)
        >>> truth[1, 2:5, 2:5] = True
        >>> row = score_patient(truth, np.zeros_like(truth), spacing=(5, 1, 1))
        >>> row["dice"], round(row["hd95"], 2), row["volume_true"]
        (0.0, 18.79, 0.045)
    """
    counts = confusion(y_true, y_pred)
    distances = SurfaceDistances(y_true, y_pred, spacing)
    lesions = count_lesions(y_true, y_pred)
    voxel = 1.0 if spacing is None else float(np.prod(spacing)) / 1000
    truth, answer = (counts.tp + counts.fn) * voxel, (counts.tp + counts.fp) * voxel
    return {
        **dict(zip(("tp", "fp", "fn", "tn"), counts, strict=True)),
        **{name: score(counts) for name, score in OVERLAP.items()},
        "distances": f"{distances.dimension}-D",
        "hd95": distances.hausdorff(95),
        "average_surface_distance": distances.average(),
        "surface_dice": distances.surface_dice(tolerance),
        "lesions": lesions.found + lesions.missed,
        "lesions_found": lesions.found,
        "lesions_invented": lesions.invented,
        "lesion_recall": lesions.recall,
        "lesion_precision": lesions.precision,
        "volume_true": truth,
        "volume_pred": answer,
        "volume_error": answer - truth,
    }


def score_slices(y_true: np.ndarray, y_pred: np.ndarray) -> list[dict[str, Any]]:
    """Count and score each slice of a volume.

    Args:
        y_true: Mask of shape `(slices, height, width)`, bool or 0/1.
        y_pred: Mask of the same shape.

    Returns:
        A row a slice: tp, fp, fn, tn, dice and iou, both 1 where truth and answer are empty.

    Example:
        >>> score_slices(np.zeros((1, 2, 2)), np.ones((1, 2, 2)))[0]["dice"]
        0.0
    """
    rows = []
    for truth, answer in zip(y_true, y_pred, strict=True):
        counts = confusion(truth, answer)
        rows.append(
            dict(zip(("tp", "fp", "fn", "tn"), counts, strict=True)) | {"dice": dice(counts), "iou": iou(counts)}
        )
    return rows


def mean_over_slices(dices: Sequence[float], empty: Sequence[bool]) -> dict[str, dict[str, float | None]]:
    """Average slices under each rule for empty ones that is found in print, side by side.

    Args:
        dices: Dice of each slice, 1 where truth and answer are empty.
        empty: Whether truth and answer are both empty.

    Returns:
        Mean (None where no slice is left) and n of each rule: `both_empty_is_1`, `both_empty_is_0`,
        `both_empty_skipped`.

    Example:
        >>> means = mean_over_slices([1.0, 0.5], [True, False])
        >>> [means[rule]["mean"] for rule in ("both_empty_is_1", "both_empty_is_0", "both_empty_skipped")]
        [0.75, 0.25, 0.5]
    """
    dices, empty = np.asarray(dices, float), np.asarray(empty, bool)
    rules = {
        "both_empty_is_1": dices,
        "both_empty_is_0": np.where(empty, 0.0, dices),
        "both_empty_skipped": dices[~empty],
    }
    return {
        rule: {"mean": float(values.mean()) if len(values) else None, "n": len(values)}
        for rule, values in rules.items()
    }
