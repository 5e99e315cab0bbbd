"""Honest scores of masks: NumPy, no framework."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "calibration": ["CrossFit", "LogitHistogram", "cross_fit"],
        "distances": ["SurfaceDistances"],
        "lesions": ["count_lesions"],
        "patient": ["mean_over_slices", "score_patient", "score_slices"],
        "scores": [
            "Counts",
            "confusion",
            "dice",
            "iou",
            "patient_dice",
            "pixel_accuracy",
            "precision",
            "recall",
            "specificity",
        ],
        "statistics": ["Comparison", "Summary", "compare_paired", "interval_text", "summarize", "worst_tenth"],
    },
)
