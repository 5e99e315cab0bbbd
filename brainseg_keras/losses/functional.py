"""Losses for masks as pure functions of (y_true, y_pred); `losses.classes` wraps them for `compile`.

Shapes. `y_pred` holds probabilities, (batch, height, width, channels) or (batch, depth, height, width, channels).
`y_true` holds 0 and 1 in the same shape, of any dtype; the last axis may be missing or 1, and with several channels it
then holds class numbers. Computation is in float32 (float64 if `y_pred` is), also for float16 predictions.

Soft truth. Where the border of a tumour crosses a pixel, `y_true` may say how much of it is tumour. Every loss here is
least at `y_pred = y_true`, and 0 there, but for plain cross-entropy, which keeps the entropy of the truth. The usual
products, `y_true * y_pred` and `(1 - y_true) * y_pred`, would be least at 0 or 1 instead and make every border hard; so
hits are the smaller of both and errors their difference, which for 0 and 1 is the same number: Wang et al. 2023, arXiv
2303.16296. The focal factor is |y_true - y_pred| ** gamma for the same reason: Li et al. 2020, arXiv 2006.04388.

Several channels count one by one, each against all others, and the mean over channels is taken. `include_background`
says whether channel 0 takes part: keep it for sigmoid channels, where no channel is the background.

Empty masks. Two thirds of the slices of a brain hold no tumour. `smooth` stands in the numerator and the denominator,
so silence on an empty mask costs 0, and a false positive costs more than 0 and has a gradient that removes it.

What a region is. `reduce_over="image"` forms one overlap per image, so a slice with a small tumour weighs as much as
one with a large one; `"batch"` pools the pixels of the batch first, which is steadier when most slices are empty. Every
function returns (batch,) values; pooled over the batch, each image carries the common value, which leaves the
reductions and the scaling over devices to Keras.
"""

from typing import Any

import keras
from keras import ops

from brainseg_keras.errors import InputError

# The power of a focal Tversky loss is taken of x + this: below 1 its slope at x = 0 would be infinite.
_POWER_OFFSET = 1e-7


def require(condition: bool, name: str, expected: str, value: Any) -> None:
    if not condition:
        raise InputError(f"{name} must be {expected}. Received: {name}={value!r}.")


def check_options(**options: Any) -> None:
    for name, value in options.items():
        if name == "reduce_over":
            require(value in ("image", "batch"), name, "'image' or 'batch'", value)
        elif name in ("apply_class_balancing", "include_background"):
            require(isinstance(value, bool), name, "True or False", value)
        elif name == "smooth":
            require(value > 0, name, "above 0 (at 0 an empty mask would be 0/0)", value)
        else:
            require(value >= 0, name, "0 or more", value)
    if "beta" in options:
        require(options["alpha"] + options["beta"] > 0, "alpha + beta", "above 0 (else the loss is 0)", 0)


def _prepare(y_true, y_pred, include_background: bool = True):
    """Both as floats of one shape (batch, *space, channels)."""
    y_pred = ops.convert_to_tensor(y_pred)
    dtype = "float64" if keras.backend.standardize_dtype(y_pred.dtype) == "float64" else "float32"
    y_pred = ops.cast(y_pred, dtype)
    y_true = ops.convert_to_tensor(y_true)
    shape, truth = tuple(y_pred.shape), tuple(y_true.shape)
    if len(truth) == len(shape) - 1:
        y_true = ops.expand_dims(y_true, -1)
    wide = tuple(y_true.shape)
    if (
        len(shape) not in (4, 5)
        or len(wide) != len(shape)
        or any(None not in (a, b) and a != b for a, b in zip(wide[:-1], shape[:-1], strict=True))
        or wide[-1] not in (1, shape[-1])
    ):
        raise InputError(
            "y_pred must be (batch, height, width, channels) and y_true alike, or with a last axis of 1 or none. "
            f"Received: y_true.shape={truth}, y_pred.shape={shape}. Resize the mask or add the missing axis."
        )
    channels = shape[-1]
    if wide[-1] == channels:
        y_true = ops.cast(y_true, dtype)
    else:
        y_true = ops.one_hot(ops.cast(ops.squeeze(y_true, -1), "int32"), channels, dtype=dtype)
    if channels > 1:
        # A new tensor: Keras' activations leave their logits on the old one, and its binary cross-entropy would put
        # those of a softmax through a sigmoid.
        y_pred = y_pred + 0.0
    if channels > 1 and not include_background:
        y_true, y_pred = y_true[..., 1:], y_pred[..., 1:]
    return y_true, y_pred


def _space(tensor, reduce_over: str) -> tuple[int, ...]:
    return tuple(range(0 if reduce_over == "batch" else 1, len(tensor.shape) - 1))


def _one_per_image(values, y_pred):
    """(batch or 1, channels) -> (batch,): the mean over channels, a pooled value repeated for each image."""
    return ops.broadcast_to(ops.mean(values, axis=-1), (ops.shape(y_pred)[0],))


def _pixel_mean(values, reduce_over: str):
    """(batch, *space, channels) -> (batch or 1, channels)."""
    return ops.reshape(ops.mean(values, axis=_space(values, reduce_over), keepdims=True), (-1, values.shape[-1]))


def _overlap_error(y_true, y_pred, alpha: float, beta: float, smooth: float, reduce_over: str):
    """1 - Tversky index, (batch or 1, channels).

    Written as errors / (hits + errors + smooth): the same number as 1 - (hits + smooth) / (...), without the
    cancellation, so it is exactly 0 for a perfect answer and never negative.
    """
    space = _space(y_pred, reduce_over)
    hits = ops.sum(ops.minimum(y_true, y_pred), axis=space, keepdims=True)
    invented = ops.sum(ops.relu(y_pred - y_true), axis=space, keepdims=True)
    missed = ops.sum(ops.relu(y_true - y_pred), axis=space, keepdims=True)
    errors = alpha * invented + beta * missed
    values = errors / (hits + errors + smooth)
    return ops.reshape(values, (-1, y_pred.shape[-1]))


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
    y_true, y_pred = _prepare(y_true, y_pred, include_background)
    error = ops.abs(y_true - y_pred)
    if gamma < 1:  # the slope of x**gamma at x = 0 is infinite; above 1 a floor would only cost gradient
        error = ops.maximum(error, keras.config.epsilon())
    pixels = ops.power(error, gamma) * ops.binary_crossentropy(y_true, y_pred)
    if apply_class_balancing:
        pixels = pixels * (alpha * y_true + (1.0 - alpha) * (1.0 - y_true))
    return _one_per_image(_pixel_mean(pixels, reduce_over), y_pred)


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
    y_true, y_pred = _prepare(y_true, y_pred, include_background)
    return _one_per_image(_overlap_error(y_true, y_pred, alpha, beta, smooth, reduce_over), y_pred)


def dice_loss(
    y_true: Any, y_pred: Any, smooth: float = 1.0, include_background: bool = True, reduce_over: str = "image"
) -> Any:
    """1 - (2 |A B| + smooth) / (|A| + |B| + smooth): (batch,). See `DiceLoss`.

    Raises: InputError for shapes that do not match or options out of range.
    Example: `dice_loss(mask, probabilities, reduce_over="batch")`
    """
    check_options(smooth=smooth)
    return tversky_loss(y_true, y_pred, 0.5, 0.5, smooth / 2, include_background, reduce_over)


def jaccard_loss(
    y_true: Any, y_pred: Any, smooth: float = 1.0, include_background: bool = True, reduce_over: str = "image"
) -> Any:
    """1 - (|A B| + smooth) / (|A or B| + smooth): (batch,). See `JaccardLoss`.

    Raises: InputError for shapes that do not match or options out of range.
    Example: `jaccard_loss(mask, probabilities)`
    """
    return tversky_loss(y_true, y_pred, 1.0, 1.0, smooth, include_background, reduce_over)


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
    y_true, y_pred = _prepare(y_true, y_pred, include_background)
    error = _overlap_error(y_true, y_pred, alpha, beta, smooth, reduce_over)
    return _one_per_image(ops.power(error + _POWER_OFFSET, gamma) - _POWER_OFFSET**gamma, y_pred)


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
    y_true, y_pred = _prepare(y_true, y_pred, include_background)
    bce = _one_per_image(_pixel_mean(ops.binary_crossentropy(y_true, y_pred), reduce_over), y_pred)
    return bce_weight * bce + dice_weight * dice
