"""The losses as registered `keras.losses.Loss` classes: what they hold is in `losses.functional`."""

import difflib
import inspect
from typing import Any

import keras
from keras import ops

from brainseg_keras.errors import InputError
from brainseg_keras.losses import functional
from brainseg_keras.losses.functional import check_options, require


class _SegmentationLoss(keras.losses.Loss):
    """A pure function and its options; checks the options at once and the sample weights when called."""

    def __init__(self, function, options: dict, reduction: str | None, name: str, dtype: Any) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        check_options(**options)
        self._function = function
        self._options = options

    def call(self, y_true, y_pred):
        return self._function(y_true, y_pred, **self._options)

    def __call__(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            sample_weight = self._weight_per_image(sample_weight)
        return super().__call__(y_true, y_pred, sample_weight)

    def _weight_per_image(self, sample_weight):
        # Keras would broadcast a map of pixel weights against the (batch,) values, silently and wrongly.
        sample_weight = ops.convert_to_tensor(sample_weight)
        shape = tuple(sample_weight.shape)
        if any(size != 1 for size in shape[1:]):
            raise InputError(
                f"{type(self).__name__} takes one sample weight per image, shape (batch,). "
                f"Received: sample_weight.shape={shape}. Use keras.losses.BinaryFocalCrossentropy for pixel weights."
            )
        if self._options.get("reduce_over") == "batch":
            raise InputError(
                f"{type(self).__name__}(reduce_over='batch') pools the images and cannot weigh them one by one. "
                "Received: a sample_weight. Use reduce_over='image'."
            )
        return ops.reshape(sample_weight, (-1,))

    def get_config(self) -> dict:
        return {**self._options, "reduction": self.reduction, "name": self.name, "dtype": self.dtype}


@keras.saving.register_keras_serializable(package="brainseg_keras")
class BinaryFocalLoss(_SegmentationLoss):
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
        options = {"alpha": float(alpha), "gamma": float(gamma), "apply_class_balancing": apply_class_balancing}
        options["include_background"] = include_background
        super().__init__(functional.binary_focal_loss, options, reduction, name, dtype)


@keras.saving.register_keras_serializable(package="brainseg_keras")
class DiceLoss(_SegmentationLoss):
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
        options = {"smooth": float(smooth), "reduce_over": reduce_over, "include_background": include_background}
        super().__init__(functional.dice_loss, options, reduction, name, dtype)


@keras.saving.register_keras_serializable(package="brainseg_keras")
class JaccardLoss(_SegmentationLoss):
    """1 - intersection over union: as Dice, but a bad overlap costs relatively more.

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
        options = {"smooth": float(smooth), "reduce_over": reduce_over, "include_background": include_background}
        super().__init__(functional.jaccard_loss, options, reduction, name, dtype)


@keras.saving.register_keras_serializable(package="brainseg_keras")
class TverskyLoss(_SegmentationLoss):
    """1 - Tversky index: Dice with a price each for invented and for missed pixels.

    Args:
        alpha: price of a false positive.
        beta: price of a false negative; above `alpha` it favours recall. Both 0.5 is Dice (with half the `smooth`).
        smooth: added to numerator and denominator, in pixels; above 0.
        reduce_over: "image" (one overlap per image) or "batch" (pixels of the batch pooled).
        include_background: whether channel 0 of several counts.
        reduction, name, dtype: as in `keras.losses.Loss`. Sample weights are one per image, none with "batch".

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
        options = {"alpha": float(alpha), "beta": float(beta), "smooth": float(smooth), "reduce_over": reduce_over}
        options["include_background"] = include_background
        super().__init__(functional.tversky_loss, options, reduction, name, dtype)


@keras.saving.register_keras_serializable(package="brainseg_keras")
class FocalTverskyLoss(_SegmentationLoss):
    """(1 - Tversky index) ** gamma: with gamma below 1 images that are nearly right keep pulling.

    Args:
        alpha: price of a false positive. (The paper gives the letter to false negatives.)
        beta: price of a false negative.
        gamma: the exponent itself, above 0; the paper writes 1 / gamma with gamma = 4/3, which is 0.75 here.
        smooth: added to numerator and denominator, in pixels; above 0.
        reduce_over: "image" (one overlap per image) or "batch" (pixels of the batch pooled).
        include_background: whether channel 0 of several counts.
        reduction, name, dtype: as in `keras.losses.Loss`. Sample weights are one per image, none with "batch".

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
        options = {"alpha": float(alpha), "beta": float(beta), "gamma": float(gamma), "smooth": float(smooth)}
        options |= {"reduce_over": reduce_over, "include_background": include_background}
        super().__init__(functional.focal_tversky_loss, options, reduction, name, dtype)


@keras.saving.register_keras_serializable(package="brainseg_keras")
class DiceFocalLoss(_SegmentationLoss):
    """dice_weight x Dice + focal_weight x focal: the overlap of the region and the certainty of each pixel.

    Args:
        dice_weight: weight of `DiceLoss`.
        focal_weight: weight of `BinaryFocalLoss`, whose values are small: 5 brings the two to one scale.
        smooth: of the Dice part, in pixels; above 0.
        reduce_over: "image" (one overlap per image) or "batch" (pixels of the batch pooled).
        alpha, gamma, apply_class_balancing: of the focal part, as in `BinaryFocalLoss`.
        include_background: whether channel 0 of several counts.
        reduction, name, dtype: as in `keras.losses.Loss`. Sample weights are one per image, none with "batch".

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
        options = {"dice_weight": float(dice_weight), "focal_weight": float(focal_weight), "smooth": float(smooth)}
        options |= {"reduce_over": reduce_over, "alpha": float(alpha), "gamma": float(gamma)}
        options |= {"apply_class_balancing": apply_class_balancing, "include_background": include_background}
        super().__init__(functional.dice_focal_loss, options, reduction, name, dtype)


@keras.saving.register_keras_serializable(package="brainseg_keras")
class BCEDiceLoss(_SegmentationLoss):
    """bce_weight x cross-entropy + dice_weight x Dice: the plain relative of `DiceFocalLoss`.

    Args:
        bce_weight: weight of the binary cross-entropy, the mean over pixels and channels.
        dice_weight: weight of `DiceLoss`.
        smooth: of the Dice part, in pixels; above 0.
        reduce_over: "image" (one overlap per image) or "batch" (pixels of the batch pooled).
        include_background: whether channel 0 of several counts.
        reduction, name, dtype: as in `keras.losses.Loss`. Sample weights are one per image, none with "batch".

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
        options = {"bce_weight": float(bce_weight), "dice_weight": float(dice_weight), "smooth": float(smooth)}
        options |= {"reduce_over": reduce_over, "include_background": include_background}
        super().__init__(functional.bce_dice_loss, options, reduction, name, dtype)


# What `--loss` may name.
LOSSES = {
    "binary_focal": BinaryFocalLoss,
    "dice": DiceLoss,
    "dice_focal": DiceFocalLoss,
    "jaccard": JaccardLoss,
    "tversky": TverskyLoss,
    "focal_tversky": FocalTverskyLoss,
    "bce_dice": BCEDiceLoss,
}


def get_loss(name: str, **kwargs: Any) -> keras.losses.Loss:
    """The loss that `--loss name` means.

    Args:
        name: a key of `LOSSES`: binary_focal, dice, dice_focal, jaccard, tversky, focal_tversky or bce_dice.
        **kwargs: options of that class.

    Returns:
        An instance of the class.

    Raises:
        InputError: no such loss, no such option, or an option out of range.

    Example:
        `get_loss("dice_focal", focal_weight=2)`
    """
    if name not in LOSSES:
        near = difflib.get_close_matches(str(name), LOSSES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"loss must be one of {', '.join(LOSSES)}. Received: {name!r}.{hint}")
    accepted = inspect.signature(LOSSES[name]).parameters
    unknown = [key for key in kwargs if key not in accepted]
    if unknown:
        raise InputError(f"the options of loss {name!r} are {', '.join(accepted)}. Received: {', '.join(unknown)}.")
    return LOSSES[name](**kwargs)
