"""What the losses share: shapes, options, and the class that hands a pure function of (y_true, y_pred) to `compile`.

Shapes. `y_pred` holds probabilities, (batch, height, width, channels) or (batch, depth, height, width, channels).
`y_true` holds 0 and 1 in the same shape, of any dtype; the last axis may be missing or 1, and with several channels it
then holds class numbers. Computation is in float32 (float64 if `y_pred` is), also for float16 predictions.

Soft truth. Where the border of a tumour crosses a pixel, `y_true` may say how much of it is tumour. Every loss is
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

import inspect
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from brainseg_keras.errors import InputError
from brainseg_keras.shapes import with_channels


def require(condition: bool, name: str, expected: str, value: Any) -> None:
    """Refuse an option, and say what is expected."""
    if not condition:
        raise InputError(f"{name} must be {expected}. Received: {name}={value!r}.")


def check_options(**options: Any) -> None:
    """Refuse an option out of range; a name has one range in every loss."""
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
        total = options["alpha"] + options["beta"]
        require(total > 0, "alpha + beta", "above 0 (else the loss is 0)", total)


def prepare(y_true: Any, y_pred: Any, include_background: bool = True) -> tuple[Any, Any]:
    """Both as floats of one shape (batch, *space, channels)."""
    y_pred = ops.convert_to_tensor(y_pred)
    dtype = "float64" if keras.backend.standardize_dtype(y_pred.dtype) == "float64" else "float32"
    y_pred = ops.cast(y_pred, dtype)
    y_true = with_channels(ops.convert_to_tensor(y_true), y_pred)
    channels = y_pred.shape[-1]
    if y_true.shape[-1] == channels:
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


def space(tensor: Any, reduce_over: str) -> tuple[int, ...]:
    """The axes of one region: height and width, and the images too where the batch is pooled."""
    return tuple(range(0 if reduce_over == "batch" else 1, len(tensor.shape) - 1))


def one_per_image(values: Any, y_pred: Any) -> Any:
    """(batch or 1, channels) -> (batch,): the mean over channels, a pooled value repeated for each image."""
    return ops.broadcast_to(ops.mean(values, axis=-1), (ops.shape(y_pred)[0],))


def pixel_mean(values: Any, reduce_over: str) -> Any:
    """(batch, *space, channels) -> (batch or 1, channels)."""
    return ops.reshape(ops.mean(values, axis=space(values, reduce_over), keepdims=True), (-1, values.shape[-1]))


class SegmentationLoss(keras.losses.Loss):
    """A pure function and its options: checks the options at once and the sample weights when called."""

    def __init__(self, function: Callable, arguments: dict[str, Any]) -> None:
        """Keep the function and, of the arguments of the class, those that it takes: they are its options."""
        super().__init__(**{key: arguments[key] for key in ("name", "reduction", "dtype")})
        taken = inspect.signature(function).parameters
        options = {key: value for key, value in arguments.items() if key in taken}
        check_options(**options)
        self._function = function
        self._options = {k: v if isinstance(v, bool | str) else float(v) for k, v in options.items()}

    def call(self, y_true: Any, y_pred: Any) -> Any:
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
