"""Several scores of one count: what a training shows of its batches, at the price of one metric."""

from typing import Any

import keras

from brainseg_keras.metrics.base import CountingMetric
from brainseg_keras.metrics.overlap import DiceCoefficient, IntersectionOverUnion
from brainseg_keras.metrics.pixels import PixelAccuracy

_SCORES = (DiceCoefficient, IntersectionOverUnion, PixelAccuracy)


@keras.saving.register_keras_serializable(package="brainseg_keras")
class SegmentationScores(CountingMetric):
    """Dice, intersection over union and pixel accuracy by name, from pixels that are counted once.

    Args:
        threshold, num_classes, class_id, include_background, exclusive, name, dtype: as in `DiceCoefficient`.

    Raises:
        InputError: an option is out of range, or shapes do not match.

    Example:
        >>> from keras import ops
        >>> metric = SegmentationScores()
        >>> metric.update_state(ops.ones((1, 8, 8, 1)), ops.ones((1, 8, 8, 1)))
        >>> {name: float(score) for name, score in metric.result().items()}
        {'dice': 1.0, 'iou': 1.0, 'pixel_accuracy': 1.0}
    """

    default_name = "scores"

    def result(self) -> dict[str, Any]:
        """The scores so far, each as the metric of its name gives it."""
        return {kind.default_name: self.mean(kind.score(self)) for kind in _SCORES}
