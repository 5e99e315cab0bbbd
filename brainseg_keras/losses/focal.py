"""Losses of single pixels: cross-entropy, and the focal loss, which turns down pixels already right."""

from typing import Any

import keras
from keras import ops

from brainseg_keras.losses.base import SegmentationLoss, check_options, one_per_image, pixel_mean, prepare, require


def bce_loss(y_true: Any, y_pred: Any, include_background: bool = True, reduce_over: str = "image") -> Any:
    """Binary cross-entropy, the mean over pixels and channels: (batch,). See `BCELoss`.

    Raises: InputError for shapes that do not match or options out of range.
    Example: `bce_loss(mask, probabilities)`
    """
    check_options(reduce_over=reduce_over)
    y_true, y_pred = prepare(y_true, y_pred, include_background)
    return one_per_image(pixel_mean(ops.binary_crossentropy(y_true, y_pred), reduce_over), y_pred)


@keras.saving.register_keras_serializable(package="brainseg_keras")
class BCELoss(SegmentationLoss):
    """Plain binary cross-entropy, the mean over an image's pixels and channels: what the others are held against.

    Every pixel counts alike, so that a small tumour weighs little beside its background.

    Args:
        include_background: whether channel 0 of several counts.
        reduction, name, dtype: as in `keras.losses.Loss`. Sample weights are one per image.

    Raises:
        InputError: an option is out of range, or shapes do not match.

    Example:
        >>> from keras import ops
        >>> half = ops.ones((2, 8, 8, 1)) / 2
        >>> loss = BCELoss()
        >>> round(float(loss(ops.zeros((2, 8, 8, 1)), half)), 4)  # the logarithm of 2
        0.6931

    Reference:
        Ronneberger, Fischer, Brox 2015, U-Net (there with weights of pixels), arXiv 1505.04597.
    """

    def __init__(
        self,
        *,
        include_background: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "bce_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(bce_loss, locals())


def binary_focal_loss(
    y_true: Any,
    y_pred: Any,
    alpha: float = 0.25,
    gamma: float = 2.0,
    apply_class_balancing: bool = False,
    include_background: bool = True,
    reduce_over: str = "image",
) -> Any:
    """Focal cross-entropy, the mean over pixels and channels: (batch,). See `BinaryFocalLoss`.

    Raises: InputError for shapes that do not match or options out of range.
    Example: `binary_focal_loss(mask, probabilities, gamma=2.0)`
    """
    check_options(alpha=alpha, gamma=gamma, reduce_over=reduce_over)
    y_true, y_pred = prepare(y_true, y_pred, include_background)
    error = ops.abs(y_true - y_pred)
    if gamma < 1:  # the slope of x**gamma at x = 0 is infinite; above 1 a floor would only cost gradient
        error = ops.maximum(error, keras.config.epsilon())
    pixels = ops.power(error, gamma) * ops.binary_crossentropy(y_true, y_pred)
    if apply_class_balancing:
        pixels = pixels * (alpha * y_true + (1.0 - alpha) * (1.0 - y_true))
    return one_per_image(pixel_mean(pixels, reduce_over), y_pred)


@keras.saving.register_keras_serializable(package="brainseg_keras")
class BinaryFocalLoss(SegmentationLoss):
    """Cross-entropy that turns down pixels already right: for classes as unequal as tumour and brain.

    The mean over an image's pixels and channels; of truth that is 0 and 1, Keras' binary focal cross-entropy.

    Args:
        alpha: weight of tumour against 1 - alpha for the rest, 0..1. Without effect unless `apply_class_balancing`.
        gamma: how strongly easy pixels are turned down; 0 is plain cross-entropy.
        apply_class_balancing: whether `alpha` counts.
        include_background: whether channel 0 of several counts.
        reduction, name, dtype: as in `keras.losses.Loss`. Sample weights are one per image.

    Raises:
        InputError: an option is out of range, or shapes do not match.

    Example:
        >>> from keras import ops
        >>> empty = ops.zeros((2, 8, 8, 1))
        >>> loss = BinaryFocalLoss(gamma=2.0)
        >>> round(float(loss(empty, empty)), 6)
        0.0

    Reference:
        Lin et al. 2017, Focal Loss for Dense Object Detection, arXiv 1708.02002.
    """

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        apply_class_balancing: bool = False,
        *,
        include_background: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "binary_focal_loss",
        dtype: Any = None,
    ) -> None:
        require(0 <= alpha <= 1, "alpha", "between 0 and 1", alpha)
        super().__init__(binary_focal_loss, locals())
