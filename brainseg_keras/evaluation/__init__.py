"""Honest scores of masks: NumPy, no framework."""

from brainseg_keras.evaluation.scores import (
    Counts,
    confusion,
    dice,
    iou,
    patient_dice,
    pixel_accuracy,
    precision,
    recall,
    specificity,
)

__all__ = [
    "Counts",
    "confusion",
    "dice",
    "iou",
    "patient_dice",
    "pixel_accuracy",
    "precision",
    "recall",
    "specificity",
]
