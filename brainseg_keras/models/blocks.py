"""The building blocks: functions from tensor to tensor, and the style (`BlockStyle`) that they share.

Every layer is a stock Keras layer whose name starts with the block's `name`. Tensors are channels-last,
`(batch, height, width, channels)`. Convolutions keep their bias, also before a normalization, as the published
networks do: the reference parameter counts include it.
"""

from dataclasses import dataclass, replace

import keras

from brainseg_keras.errors import InputError
from brainseg_keras.models.names import PROJECTION, SHORTCUT
from brainseg_keras.registry import NORMS


@dataclass(frozen=True)
class BlockStyle:
    """What the blocks of one network have in common.

    Args:
        separable: Replace the 3x3 convolutions of the blocks by `SeparableConv2D`. Shortcuts, gates, up-sampling
            and the output keep ordinary convolutions.
        norm: `"batch"`, `"group"` (eight groups, or the next smaller number that divides the channels),
            `"instance"` (one group a channel), or `None`.
        activation: The name of a Keras activation.
        dropout: The fraction of channels dropped at the end of each block while training, from 0 to below 1.

    Raises:
        InputError: When a value is not one of these.

    Example:
        >>> BlockStyle(separable=True).conv(16, name="enc0_1_conv").__class__.__name__
        'SeparableConv2D'
    """

    separable: bool = False
    norm: str | None = "batch"
    activation: str = "relu"
    dropout: float = 0.0

    def __post_init__(self):
        if not isinstance(self.separable, bool):
            raise InputError(f"separable must be True or False. Received: separable={self.separable!r}.")
        if self.norm not in (*NORMS, None):
            raise InputError(f"norm must be 'batch', 'group', 'instance' or None. Received: norm={self.norm!r}.")
        check_activation("activation", self.activation)
        is_number = isinstance(self.dropout, (int, float)) and not isinstance(self.dropout, bool)
        if not is_number or not 0 <= self.dropout < 1:
            raise InputError(
                f"dropout must be a fraction from 0 to below 1. Received: dropout={self.dropout!r}. "
                "Give 0.2 for twenty percent."
            )

    def conv(self, filters: int, kernel_size: int = 3, *, name: str) -> keras.layers.Layer:
        """Return a convolution *layer* of "same" padding, so that a recurrent unit can call one kernel many times."""
        # He et al. 2015: the weights' variance suits a ReLU behind the convolution, so that deep networks without
        # normalization keep their signal; in front of a normalization the scale does not matter.
        if self.separable and kernel_size == 3:
            # HeNormal would count all input channels as the fan-in of a depthwise kernel, which sees only one.
            depthwise = keras.initializers.RandomNormal(stddev=1 / kernel_size)
            return keras.layers.SeparableConv2D(
                filters,
                kernel_size,
                padding="same",
                depthwise_initializer=depthwise,
                pointwise_initializer="he_normal",
                name=name,
            )
        return keras.layers.Conv2D(filters, kernel_size, padding="same", kernel_initializer="he_normal", name=name)

    def normalization(self, channels: int, *, name: str) -> keras.layers.Layer | None:
        """Return the normalization layer, or `None` when the style has none."""
        if self.norm == "batch":
            # With Keras' momentum of 0.99 the moving statistics lag so far behind a short training that a network
            # which fits its images in training mode is black at test time.
            return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)
        if self.norm == "group":
            groups = max(n for n in range(1, 9) if channels % n == 0)
            return keras.layers.GroupNormalization(groups, epsilon=1e-5, name=name)
        if self.norm == "instance":
            return keras.layers.GroupNormalization(-1, epsilon=1e-5, name=name)
        return None

    def normalize(self, x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
        """Apply the style's normalization, if it has one."""
        layer = self.normalization(x.shape[-1], name=name)
        return x if layer is None else layer(x)

    def activate(self, x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
        """Apply the style's activation."""
        return keras.layers.Activation(self.activation, name=name)(x)

    def drop(self, x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
        """Apply the style's dropout of whole channels, if it has one."""
        return keras.layers.SpatialDropout2D(self.dropout, name=name)(x) if self.dropout else x


def check_activation(argument: str, value: str) -> None:
    """Raise an InputError that names the argument unless `value` is the name of a Keras activation."""
    try:
        known = isinstance(value, str) and callable(keras.activations.get(value))
    except ValueError:
        known = False
    if not known:
        raise InputError(
            f"{argument} must be the name of a Keras activation, such as 'relu' or 'swish'. "
            f"Received: {argument}={value!r}."
        )


DEFAULT_STYLE = BlockStyle()


def conv_norm_act(
    x: keras.KerasTensor, filters: int, style: BlockStyle = DEFAULT_STYLE, kernel_size: int = 3, *, name: str
) -> keras.KerasTensor:
    """Convolution, normalization, activation: the unit that most blocks are made of."""
    x = style.conv(filters, kernel_size, name=f"{name}_conv")(x)
    x = style.normalize(x, name=f"{name}_norm")
    return style.activate(x, name=f"{name}_act")


def conv_block(
    x: keras.KerasTensor, filters: int, style: BlockStyle = DEFAULT_STYLE, *, name: str
) -> keras.KerasTensor:
    """The U-Net's block: twice convolution 3x3, normalization, activation.

    Args:
        x: A tensor `(batch, height, width, channels)`.
        filters: The number of channels of the result.
        style: What convolution, normalization, activation and dropout are.
        name: The prefix of the layers' names.

    Returns:
        A tensor `(batch, height, width, filters)`.

    Example:
        >>> import keras
        >>> image = keras.Input((64, 64, 3))
        >>> conv_block(image, 16, name="enc0").shape
        (None, 64, 64, 16)

    Reference: Ronneberger, Fischer, Brox 2015, arXiv:1505.04597.
    """
    x = conv_norm_act(x, filters, style, name=f"{name}_1")
    x = conv_norm_act(x, filters, style, name=f"{name}_2")
    return style.drop(x, name=f"{name}_dropout")


def _residual_block(x, filters, style, first_kernel, name):
    """Two convolutions beside a 1x1 shortcut; the activation comes after the addition."""
    shortcut = replace(style, separable=False).conv(filters, 1, name=f"{name}_{SHORTCUT}_conv")(x)
    shortcut = style.normalize(shortcut, name=f"{name}_{SHORTCUT}_norm")
    x = conv_norm_act(x, filters, style, first_kernel, name=f"{name}_1")
    x = style.conv(filters, name=f"{name}_2_conv")(x)
    x = style.normalize(x, name=f"{name}_2_norm")
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    x = style.activate(x, name=f"{name}_act")
    return style.drop(x, name=f"{name}_dropout")


def res_conv_block(
    x: keras.KerasTensor, filters: int, style: BlockStyle = DEFAULT_STYLE, *, name: str
) -> keras.KerasTensor:
    """The residual block: two 3x3 convolutions, plus a 1x1 shortcut, then the activation.

    Args, Returns: as `conv_block`.

    Example:
        >>> import keras
        >>> image = keras.Input((64, 64, 3))
        >>> res_conv_block(image, 16, BlockStyle(separable=True), name="enc0").shape
        (None, 64, 64, 16)

    Reference: He, Zhang, Ren, Sun 2015, arXiv:1512.03385; in a U-Net: Zhang, Liu, Wang 2018, arXiv:1711.10684.
    """
    return _residual_block(x, filters, style, 3, name)


def res_1x1_conv_block(
    x: keras.KerasTensor, filters: int, style: BlockStyle = DEFAULT_STYLE, *, name: str
) -> keras.KerasTensor:
    """The lighter residual block of `res_unet`: its first convolution is 1x1, its second 3x3.

    Args, Returns: as `conv_block`.
    """
    return _residual_block(x, filters, style, 1, name)


def _recurrent_unit(x, filters, style, recurrence, norm_per_step, name):
    """h = f(x), then `recurrence` times h = f(x + h), where f has one kernel for all its calls."""
    conv = style.conv(filters, name=f"{name}_conv")
    activation = keras.layers.Activation(style.activation, name=f"{name}_act")
    if norm_per_step:
        norms = [style.normalization(filters, name=f"{name}_norm_{step}") for step in range(recurrence + 1)]
    else:
        norms = [style.normalization(filters, name=f"{name}_norm")] * (recurrence + 1)
    hidden = None
    for step, norm in enumerate(norms):
        total = x if step == 0 else keras.layers.Add(name=f"{name}_add_{step}")([x, hidden])
        hidden = conv(total)
        hidden = activation(hidden if norm is None else norm(hidden))
    return hidden


def recurrent_res_block(
    x: keras.KerasTensor,
    filters: int,
    style: BlockStyle = DEFAULT_STYLE,
    *,
    recurrence: int = 2,
    norm_per_step: bool = False,
    activate_projection: bool = False,
    name: str,
) -> keras.KerasTensor:
    """The R2U-Net's block: x' = conv1x1(x), then x' + unit(unit(x')), where a unit is a recurrent convolution.

    Args:
        x: A tensor `(batch, height, width, channels)`.
        filters: The number of channels of the result.
        style: What convolution, normalization, activation and dropout are.
        recurrence: How often a unit feeds its result back; its one kernel is applied `recurrence + 1` times.
        norm_per_step: Give each application a normalization of its own. The published code shares one, whose moving
            statistics then mix the steps: a network learns four images to Dice 1.0 and gives 0.90 to 0.99 of it in use
            (benchmarks/shared_norm.md).
        activate_projection: Apply the activation to x' (as AR2U-Net does).
        name: The prefix of the layers' names.

    Returns:
        A tensor `(batch, height, width, filters)`.

    Raises:
        InputError: When `recurrence` is not a whole number, zero or more.

    Example:
        >>> import keras
        >>> image = keras.Input((64, 64, 3))
        >>> recurrent_res_block(image, 16, recurrence=3, name="enc0").shape
        (None, 64, 64, 16)

    Reference: Alom et al. 2018, arXiv:1802.06955.
    """
    if isinstance(recurrence, bool) or not isinstance(recurrence, int) or recurrence < 0:
        raise InputError(f"recurrence must be a whole number, zero or more. Received: recurrence={recurrence!r}.")
    x = style.conv(filters, 1, name=f"{name}_{PROJECTION}_conv")(x)
    if activate_projection:
        x = style.activate(x, name=f"{name}_{PROJECTION}_act")
    hidden = _recurrent_unit(x, filters, style, recurrence, norm_per_step, f"{name}_1")
    hidden = _recurrent_unit(hidden, filters, style, recurrence, norm_per_step, f"{name}_2")
    x = keras.layers.Add(name=f"{name}_add")([x, hidden])
    return style.drop(x, name=f"{name}_dropout")


BLOCKS = {
    "conv": conv_block,
    "res": res_conv_block,
    "res_1x1": res_1x1_conv_block,
    "recurrent_res": recurrent_res_block,
}
