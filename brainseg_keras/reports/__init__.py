"""Reports on trained networks and on masks: evaluate, out_of_fold, score_masks, calibrate, tune, compare."""

from brainseg_keras.reports.calibrate import calibrate
from brainseg_keras.reports.compare import compare
from brainseg_keras.reports.evaluate import evaluate
from brainseg_keras.reports.evaluation import Evaluation
from brainseg_keras.reports.masks import score_masks
from brainseg_keras.reports.out_of_fold import out_of_fold
from brainseg_keras.reports.tune import tune

__all__ = ["Evaluation", "calibrate", "compare", "evaluate", "out_of_fold", "score_masks", "tune"]
