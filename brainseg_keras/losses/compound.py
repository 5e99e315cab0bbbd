"""Sums of an overlap and a loss of single pixels: Dice or Tversky with focal or plain cross-entropy."""

from typing import Any

import keras

from brainseg_keras.losses.base import SegmentationLoss, check_options, require
from brainseg_keras.losses.focal import bce_loss, binary_focal_loss
from brainseg_keras.losses.overlap import dice_loss, tversky_loss


def dice_focal_loss(
    y_true: Any,
    y_pred: Any,
    dice_weight: float = 1.0,
    focal_weight: float = 5.0,
    smooth: float = 1.0,
    reduce_over: str = "image",
    alpha: float = 0.25,
    gamma: float = 2.0,
    apply_class_balancing: bool = False,
    include_background: bool = True,
) -> Any:
    """dice_weight x Dice loss + focal_weight x focal loss: (batch,). See `DiceFocalLoss`.

    Raises: InputError for shapes that do not match or options out of range.
    Example: `dice_focal_loss(mask, probabilities, dice_weight=1, focal_weight=5)`
    """
    check_options(dice_weight=dice_weight, focal_weight=focal_weight)
    dice = dice_loss(y_true, y_pred, smooth, include_background, reduce_over)
    focal = binary_focal_loss(y_true, y_pred, alpha, gamma, apply_class_balancing, include_background, reduce_over)
    return dice_weight * dice + focal_weight * focal


@keras.saving.register_keras_serializable(package="brainseg_keras")
class DiceFocalLoss(SegmentationLoss):
    """dice_weight x Dice + focal_weight x focal: the overlap of the region and the certainty of each pixel.

    Args:
        dice_weight: weight of `DiceLoss`.
        focal_weight: weight of `BinaryFocalLoss`, whose values are small: 5 brings the two to one scale.
        smooth: of the Dice part, in pixels; above 0.
        alpha, gamma, apply_class_balancing: of the focal part, as in `BinaryFocalLoss`.
        reduce_over, include_background, reduction, name, dtype: as in `DiceLoss`.

    Raises:
        InputError: an option is out of range, or shapes do not match.

    Example:
        >>> from keras import ops
        >>> empty = ops.zeros((2, 8, 8, 1))
        >>> loss = DiceFocalLoss(dice_weight=1, focal_weight=5)
        >>> round(float(loss(empty, empty)), 6)
        0.0

    Reference:
        Milletari et al. 2016, arXiv 1606.04797; Lin et al. 2017, arXiv 1708.02002.
    """

    def __init__(
        self,
        dice_weight: float = 1.0,
        focal_weight: float = 5.0,
        smooth: float = 1.0,
        reduce_over: str = "image",
        *,
        alpha: float = 0.25,
        gamma: float = 2.0,
        apply_class_balancing: bool = False,
        include_background: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "dice_focal_loss",
        dtype: Any = None,
    ) -> None:
        require(0 <= alpha <= 1, "alpha", "between 0 and 1", alpha)
        super().__init__(dice_focal_loss, locals())


def bce_dice_loss(
    y_true: Any,
    y_pred: Any,
    bce_weight: float = 1.0,
    dice_weight: float = 1.0,
    smooth: float = 1.0,
    include_background: bool = True,
    reduce_over: str = "image",
) -> Any:
    """bce_weight x cross-entropy + dice_weight x Dice loss: (batch,). See `BCEDiceLoss`.

    Raises: InputError for shapes that do not match or options out of range.
    Example: `bce_dice_loss(mask, probabilities)`
    """
    check_options(bce_weight=bce_weight, dice_weight=dice_weight)
    dice = dice_loss(y_true, y_pred, smooth, include_background, reduce_over)
    bce = bce_loss(y_true, y_pred, include_background, reduce_over)
    return bce_weight * bce + dice_weight * dice


@keras.saving.register_keras_serializable(package="brainseg_keras")
class BCEDiceLoss(SegmentationLoss):
    """bce_weight x cross-entropy + dice_weight x Dice: the plain relative of `DiceFocalLoss`.

    Args:
        bce_weight: weight of `BCELoss`.
        dice_weight: weight of `DiceLoss`.
        smooth: of the Dice part, in pixels; above 0.
        reduce_over, include_background, reduction, name, dtype: as in `DiceLoss`.

    Raises:
        InputError: an option is out of range, or shapes do not match.

    Example:
        >>> from keras import ops
        >>> empty = ops.zeros((2, 8, 8, 1))
        >>> loss = BCEDiceLoss()
        >>> round(float(loss(empty, empty)), 6)
        0.0

    Reference:
        Isensee et al. 2018, nnU-Net (the sum of both), arXiv 1809.10486.
    """

    def __init__(
        self,
        bce_weight: float = 1.0,
        dice_weight: float = 1.0,
        smooth: float = 1.0,
        reduce_over: str = "image",
        *,
        include_background: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "bce_dice_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(bce_dice_loss, locals())


def tversky_focal_loss(
    y_true: Any,
    y_pred: Any,
    tversky_weight: float = 1.0,
    focal_weight: float = 5.0,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 2.0,
    smooth: float = 1.0,
    include_background: bool = True,
    reduce_over: str = "image",
) -> Any:
    """tversky_weight x Tversky loss + focal_weight x focal loss: (batch,). See `TverskyFocalLoss`.

    Raises: InputError for shapes that do not match or options out of range.
    Example: `tversky_focal_loss(mask, probabilities, alpha=0.2, beta=0.8)`
    """
    check_options(tversky_weight=tversky_weight, focal_weight=focal_weight)
    tversky = tversky_loss(y_true, y_pred, alpha, beta, smooth, include_background, reduce_over)
    focal = binary_focal_loss(
        y_true, y_pred, gamma=gamma, include_background=include_background, reduce_over=reduce_over
    )
    return tversky_weight * tversky + focal_weight * focal


@keras.saving.register_keras_serializable(package="brainseg_keras")
class TverskyFocalLoss(SegmentationLoss):
    """tversky_weight x Tversky + focal_weight x focal: as `DiceFocalLoss`, with a higher price for what is missed.

    Dice has one price for missed and for invented pixels. Here missed ones cost more, which favors recall: of small and
    dark tumours most is missed. The focal part keeps the certainty of each pixel.

    Args:
        tversky_weight: weight of `TverskyLoss`.
        focal_weight: weight of `BinaryFocalLoss`, without class balancing, as in `DiceFocalLoss`.
        alpha, beta: prices of a false positive and of a false negative in the Tversky part.
        gamma: of the focal part: how strongly easy pixels are turned down.
        smooth: of the Tversky part, in pixels; above 0.
        reduce_over, include_background, reduction, name, dtype: as in `DiceLoss`.

    Raises:
        InputError: an option is out of range, or shapes do not match.

    Example:
        >>> from keras import ops
        >>> empty = ops.zeros((2, 8, 8, 1))
        >>> loss = TverskyFocalLoss(alpha=0.2, beta=0.8)
        >>> round(float(loss(empty, empty)), 6)
        0.0

    Reference:
        Salehi et al. 2017, arXiv 1706.05721; Lin et al. 2017, arXiv 1708.02002; such sums are compared in Yeung et al.
        2022, Unified Focal loss, arXiv 2102.04525.
    """

    def __init__(
        self,
        tversky_weight: float = 1.0,
        focal_weight: float = 5.0,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 2.0,
        smooth: float = 1.0,
        reduce_over: str = "image",
        *,
        include_background: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "tversky_focal_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(tversky_focal_loss, locals())
