"""Reports on trained networks: evaluate, tune, compare."""

from brainseg_keras.reports.compare import compare
from brainseg_keras.reports.evaluate import evaluate
from brainseg_keras.reports.evaluation import Evaluation
from brainseg_keras.reports.tune import tune

__all__ = ["Evaluation", "compare", "evaluate", "tune"]
