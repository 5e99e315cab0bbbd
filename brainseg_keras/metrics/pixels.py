"""Scores of single pixels: precision, recall and accuracy."""

from typing import Any

import keras
from keras import ops

from brainseg_keras.metrics.base import CountingMetric


@keras.saving.register_keras_serializable(package="brainseg_keras")
class PixelPrecision(CountingMetric):
    """tp / (tp + fp) over all pixels seen: how much of what was marked is tumour.

    Args:
        threshold, num_classes, class_id, include_background, exclusive, name, dtype: as in `DiceCoefficient`.

    Raises:
        InputError: an option is out of range, or shapes do not match.

    Example:
        >>> from keras import ops
        >>> metric = PixelPrecision()
        >>> metric.update_state(ops.ones((1, 8, 8, 1)), ops.ones((1, 8, 8, 1)))
        >>> float(metric.result())
        1.0

    Reference:
        Maier-Hein et al. 2024, Metrics Reloaded, arXiv 2206.01653.
    """

    default_name = "precision"

    def score(self) -> Any:
        tp, fp, _, _ = self.counts()
        return self.ratio(tp, tp + fp)


@keras.saving.register_keras_serializable(package="brainseg_keras")
class PixelRecall(CountingMetric):
    """tp / (tp + fn) over all pixels seen: how much of the tumour was marked.

    Args:
        threshold, num_classes, class_id, include_background, exclusive, name, dtype: as in `DiceCoefficient`.

    Raises:
        InputError: an option is out of range, or shapes do not match.

    Example:
        >>> from keras import ops
        >>> metric = PixelRecall()
        >>> metric.update_state(ops.ones((1, 8, 8, 1)), ops.ones((1, 8, 8, 1)))
        >>> float(metric.result())
        1.0

    Reference:
        Maier-Hein et al. 2024, Metrics Reloaded, arXiv 2206.01653.
    """

    default_name = "recall"

    def score(self) -> Any:
        tp, _, fn, _ = self.counts()
        return self.ratio(tp, tp + fn)


@keras.saving.register_keras_serializable(package="brainseg_keras")
class PixelAccuracy(CountingMetric):
    """The share of pixels that are right. Beware: calling every pixel background scores 0.99 on LGG.

    With several channels and no `class_id` a pixel is right if its class is, the background's too.

    Args:
        threshold, num_classes, class_id, exclusive, name, dtype: as in `DiceCoefficient`.

    Raises:
        InputError: an option is out of range, or shapes do not match.

    Example:
        >>> from keras import ops
        >>> metric = PixelAccuracy()
        >>> metric.update_state(ops.ones((1, 8, 8, 1)), ops.ones((1, 8, 8, 1)))
        >>> float(metric.result())
        1.0

    Reference:
        Maier-Hein et al. 2024, Metrics Reloaded, arXiv 2206.01653.
    """

    default_name = "pixel_accuracy"

    def __init__(
        self,
        threshold: float = 0.5,
        num_classes: int = 1,
        class_id: int | None = None,
        exclusive: bool = True,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(threshold, num_classes, class_id, True, exclusive, name, dtype)

    def score(self) -> Any:
        tp, fp, fn, tn = self.counts()
        if self.num_classes > 1 and self.exclusive and self.class_id is None:
            # Every pixel has one true class: summed over classes, tp + fn is all pixels and tp those that are right.
            tp, fp, fn, tn = ops.sum(tp), 0.0, ops.sum(fn), 0.0
        return self.ratio(tp + tn, tp + fp + fn + tn)

    def get_config(self) -> dict:
        config = super().get_config()
        del config["include_background"]
        return config
