"""Scores of the overlap of two regions: Dice and intersection over union."""

from typing import Any

import keras

from brainseg_keras.metrics.base import CountingMetric


@keras.saving.register_keras_serializable(package="brainseg_keras")
class DiceCoefficient(CountingMetric):
    """2 tp / (2 tp + fp + fn) over all pixels seen: the overlap that segmentation papers report.

    Args:
        threshold: a pixel is tumour above it; unused with several channels that exclude each other.
        num_classes: channels of the prediction.
        class_id: score this channel alone; None is the mean over channels.
        include_background: whether channel 0 of several enters that mean; where they overlap, it always does.
        exclusive: whether a pixel belongs to one of several channels alone; False for nested regions.
        name, dtype: as in `keras.metrics.Metric`.

    Raises:
        InputError: an option is out of range, or shapes do not match.

    Example:
        >>> from keras import ops
        >>> metric = DiceCoefficient()
        >>> metric.update_state(ops.ones((1, 8, 8, 1)), ops.ones((1, 8, 8, 1)))
        >>> float(metric.result())
        1.0

    Reference:
        Dice 1945, Measures of the Amount of Ecologic Association Between Species.
    """

    default_name = "dice"

    def score(self) -> Any:
        tp, fp, fn, _ = self.counts()
        return self.ratio(2.0 * tp, 2.0 * tp + fp + fn)


@keras.saving.register_keras_serializable(package="brainseg_keras")
class IntersectionOverUnion(CountingMetric):
    """tp / (tp + fp + fn) over all pixels seen: the Jaccard index, Dice / (2 - Dice).

    Args:
        threshold, num_classes, class_id, include_background, exclusive, name, dtype: as in `DiceCoefficient`.

    Raises:
        InputError: an option is out of range, or shapes do not match.

    Example:
        >>> from keras import ops
        >>> metric = IntersectionOverUnion()
        >>> metric.update_state(ops.ones((1, 8, 8, 1)), ops.ones((1, 8, 8, 1)))
        >>> float(metric.result())
        1.0

    Reference:
        Jaccard 1912, The Distribution of the Flora in the Alpine Zone.
    """

    default_name = "iou"

    def score(self) -> Any:
        tp, fp, fn, _ = self.counts()
        return self.ratio(tp, tp + fp + fn)
