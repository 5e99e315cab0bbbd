"""Losses of the overlap of two regions: Dice, Jaccard, Tversky and its focal relative."""

from typing import Any

import keras
from keras import ops

from brainseg_keras.losses.base import SegmentationLoss, check_options, one_per_image, prepare, require, space

# The power of a focal Tversky loss is taken of x + this: below 1 its slope at x = 0 would be infinite.
_POWER_OFFSET = 1e-7


def _overlap_error(y_true, y_pred, alpha: float, beta: float, smooth: float, reduce_over: str):
    """1 - Tversky index, (batch or 1, channels).

    Written as errors / (hits + errors + smooth): the same number as 1 - (hits + smooth) / (...), without the
    cancellation, so it is exactly 0 for a perfect answer and never negative.
    """
    axes = space(y_pred, reduce_over)
    hits = ops.sum(ops.minimum(y_true, y_pred), axis=axes, keepdims=True)
    invented = ops.sum(ops.relu(y_pred - y_true), axis=axes, keepdims=True)
    missed = ops.sum(ops.relu(y_true - y_pred), axis=axes, keepdims=True)
    errors = alpha * invented + beta * missed
    values = errors / (hits + errors + smooth)
    return ops.reshape(values, (-1, y_pred.shape[-1]))


def tversky_loss(
    y_true: Any,
    y_pred: Any,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 1.0,
    include_background: bool = True,
    reduce_over: str = "image",
) -> Any:
    """1 - Tversky index: (batch,). See `TverskyLoss`.

    Raises: InputError for shapes that do not match or options out of range.
    Example: `tversky_loss(mask, probabilities, alpha=0.3, beta=0.7)`
    """
    check_options(alpha=alpha, beta=beta, smooth=smooth, reduce_over=reduce_over)
    y_true, y_pred = prepare(y_true, y_pred, include_background)
    return one_per_image(_overlap_error(y_true, y_pred, alpha, beta, smooth, reduce_over), y_pred)


@keras.saving.register_keras_serializable(package="brainseg_keras")
class TverskyLoss(SegmentationLoss):
    """1 - Tversky index: Dice with a price each for invented and for missed pixels.

    Args:
        alpha: price of a false positive.
        beta: price of a false negative; above `alpha` it favors recall. Both 0.5 is Dice (with half the `smooth`).
        smooth, reduce_over, include_background, reduction, name, dtype: as in `DiceLoss`.

    Raises:
        InputError: an option is out of range, or shapes do not match.

    Example:
        >>> from keras import ops
        >>> empty = ops.zeros((2, 8, 8, 1))
        >>> loss = TverskyLoss(alpha=0.2, beta=0.8)
        >>> round(float(loss(empty, empty)), 6)
        0.0

    Reference:
        Salehi, Erdogmus, Gholipour 2017, Tversky loss function, arXiv 1706.05721.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        smooth: float = 1.0,
        reduce_over: str = "image",
        *,
        include_background: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "tversky_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(tversky_loss, locals())


def dice_loss(
    y_true: Any, y_pred: Any, smooth: float = 1.0, include_background: bool = True, reduce_over: str = "image"
) -> Any:
    """1 - (2 |A B| + smooth) / (|A| + |B| + smooth): (batch,). See `DiceLoss`.

    Raises: InputError for shapes that do not match or options out of range.
    Example: `dice_loss(mask, probabilities, reduce_over="batch")`
    """
    check_options(smooth=smooth)
    return tversky_loss(y_true, y_pred, 0.5, 0.5, smooth / 2, include_background, reduce_over)


@keras.saving.register_keras_serializable(package="brainseg_keras")
class DiceLoss(SegmentationLoss):
    """1 - Dice overlap: blind to how much background there is, so it does not drown a small tumour.

    Args:
        smooth: added to numerator and denominator, in pixels; above 0.
        reduce_over: "image" (one overlap per image) or "batch" (pixels of the batch pooled).
        include_background: whether channel 0 of several counts.
        reduction, name, dtype: as in `keras.losses.Loss`. Sample weights are one per image, none with "batch".

    Raises:
        InputError: an option is out of range, or shapes do not match.

    Example:
        >>> from keras import ops
        >>> empty = ops.zeros((2, 8, 8, 1))
        >>> loss = DiceLoss(reduce_over="batch")
        >>> round(float(loss(empty, empty)), 6)
        0.0

    Reference:
        Milletari, Navab, Ahmadi 2016, V-Net, arXiv 1606.04797.
    """

    def __init__(
        self,
        smooth: float = 1.0,
        reduce_over: str = "image",
        *,
        include_background: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "dice_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(dice_loss, locals())


def jaccard_loss(
    y_true: Any, y_pred: Any, smooth: float = 1.0, include_background: bool = True, reduce_over: str = "image"
) -> Any:
    """1 - (|A B| + smooth) / (|A or B| + smooth): (batch,). See `JaccardLoss`.

    Raises: InputError for shapes that do not match or options out of range.
    Example: `jaccard_loss(mask, probabilities)`
    """
    return tversky_loss(y_true, y_pred, 1.0, 1.0, smooth, include_background, reduce_over)


@keras.saving.register_keras_serializable(package="brainseg_keras")
class JaccardLoss(SegmentationLoss):
    """1 - intersection over union: as Dice, but a bad overlap costs relatively more.

    Args:
        smooth, reduce_over, include_background, reduction, name, dtype: as in `DiceLoss`.

    Raises:
        InputError: an option is out of range, or shapes do not match.

    Example:
        >>> from keras import ops
        >>> empty = ops.zeros((2, 8, 8, 1))
        >>> loss = JaccardLoss()
        >>> round(float(loss(empty, empty)), 6)
        0.0

    Reference:
        Rahman, Wang 2016, Optimizing Intersection-Over-Union in Deep Neural Networks for Image Segmentation.
    """

    def __init__(
        self,
        smooth: float = 1.0,
        reduce_over: str = "image",
        *,
        include_background: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "jaccard_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(jaccard_loss, locals())


def focal_tversky_loss(
    y_true: Any,
    y_pred: Any,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 0.75,
    smooth: float = 1.0,
    include_background: bool = True,
    reduce_over: str = "image",
) -> Any:
    """(1 - Tversky index) ** gamma: (batch,). See `FocalTverskyLoss`.

    Raises: InputError for shapes that do not match or options out of range.
    Example: `focal_tversky_loss(mask, probabilities, gamma=0.75)`
    """
    check_options(alpha=alpha, beta=beta, smooth=smooth, reduce_over=reduce_over)
    require(gamma > 0, "gamma", "above 0", gamma)
    y_true, y_pred = prepare(y_true, y_pred, include_background)
    error = _overlap_error(y_true, y_pred, alpha, beta, smooth, reduce_over)
    return one_per_image(ops.power(error + _POWER_OFFSET, gamma) - _POWER_OFFSET**gamma, y_pred)


@keras.saving.register_keras_serializable(package="brainseg_keras")
class FocalTverskyLoss(SegmentationLoss):
    """(1 - Tversky index) ** gamma: with gamma below 1 images that are nearly right keep pulling.

    Args:
        alpha: price of a false positive. (The paper gives the letter to false negatives.)
        beta: price of a false negative.
        gamma: the exponent itself, above 0; the paper writes 1 / gamma with gamma = 4/3, which is 0.75 here.
        smooth, reduce_over, include_background, reduction, name, dtype: as in `DiceLoss`.

    Raises:
        InputError: an option is out of range, or shapes do not match.

    Example:
        >>> from keras import ops
        >>> empty = ops.zeros((2, 8, 8, 1))
        >>> loss = FocalTverskyLoss(gamma=0.75)
        >>> round(float(loss(empty, empty)), 6)
        0.0

    Reference:
        Abraham, Khan 2018, A Novel Focal Tversky Loss Function, arXiv 1810.07842.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 0.75,
        smooth: float = 1.0,
        reduce_over: str = "image",
        *,
        include_background: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "focal_tversky_loss",
        dtype: Any = None,
    ) -> None:
        require(gamma > 0, "gamma", "above 0", gamma)
        super().__init__(focal_tversky_loss, locals())
