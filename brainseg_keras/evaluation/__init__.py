"""Honest scores of masks: NumPy, no framework."""

from brainseg_keras.evaluation.distances import SurfaceDistances
from brainseg_keras.evaluation.lesions import count_lesions
from brainseg_keras.evaluation.patient import mean_over_slices, score_patient, score_slices
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
from brainseg_keras.evaluation.statistics import Comparison, Summary, compare_paired, interval_text, summarize

__all__ = [
    "Comparison",
    "Counts",
    "Summary",
    "SurfaceDistances",
    "compare_paired",
    "confusion",
    "count_lesions",
    "dice",
    "interval_text",
    "iou",
    "mean_over_slices",
    "patient_dice",
    "pixel_accuracy",
    "precision",
    "recall",
    "score_patient",
    "score_slices",
    "specificity",
    "summarize",
]
