"""Losses for masks: registered classes for `compile`, the pure functions beneath them, and their names for `--loss`."""

from brainseg_keras.losses.classes import (
    LOSSES,
    BCEDiceLoss,
    BinaryFocalLoss,
    DiceFocalLoss,
    DiceLoss,
    FocalTverskyLoss,
    JaccardLoss,
    TverskyLoss,
    get_loss,
)
from brainseg_keras.losses.functional import (
    bce_dice_loss,
    binary_focal_loss,
    dice_focal_loss,
    dice_loss,
    focal_tversky_loss,
    jaccard_loss,
    tversky_loss,
)

__all__ = [
    "LOSSES",
    "BCEDiceLoss",
    "BinaryFocalLoss",
    "DiceFocalLoss",
    "DiceLoss",
    "FocalTverskyLoss",
    "JaccardLoss",
    "TverskyLoss",
    "bce_dice_loss",
    "binary_focal_loss",
    "dice_focal_loss",
    "dice_loss",
    "focal_tversky_loss",
    "get_loss",
    "jaccard_loss",
    "tversky_loss",
]
