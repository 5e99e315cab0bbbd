"""The engine: one encoder-decoder loop from which every U-Net of this package is built."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import keras

from brainseg_keras.errors import InputError
from brainseg_keras.models import names
from brainseg_keras.models.blocks import BLOCKS, DEFAULT_STYLE, BlockStyle, check_activation, conv_norm_act
from brainseg_keras.models.docstrings import document
from brainseg_keras.models.gates import GATES
from brainseg_keras.models.shipped import list_pretrained
from brainseg_keras.models.weights import load_shipped, load_weights
from brainseg_keras.registry import UPS


def up_nearest_conv(x: Any, filters: int, style: BlockStyle, *, name: str) -> Any:
    """Nearest-neighbor doubling, then convolution 3x3, normalization, activation."""
    x = keras.layers.UpSampling2D(2, name=name)(x)
    return conv_norm_act(x, filters, replace(style, separable=False), name=name)


def up_nearest(x: Any, filters: int, style: BlockStyle, *, name: str) -> Any:
    """Nearest-neighbor doubling alone: the channels stay as they are."""
    return keras.layers.UpSampling2D(2, name=name)(x)


def up_transposed(x: Any, filters: int, style: BlockStyle, *, name: str) -> Any:
    """A transposed convolution, 2x2 with stride 2."""
    return keras.layers.Conv2DTranspose(filters, 2, strides=2, name=name)(x)


_UPS = dict(zip(UPS, (up_nearest_conv, up_nearest, up_transposed), strict=True))


@document("Ronneberger, Fischer, Brox 2015, arXiv:1505.04597")
def build_unet(
    input_shape: Sequence[int | None] = (256, 256, 3),
    num_classes: int = 1,
    *,
    filters: int | Sequence[int] = 64,
    depth: int = 4,
    block: str | Callable = "conv",
    first_block: str | Callable | None = None,
    gate: str | Callable | None = None,
    up: str | Callable = "nearest_conv",
    style: BlockStyle = DEFAULT_STYLE,
    head_norm: bool = False,
    classifier_activation: str | None = "auto",
    weights: str | Path | None = None,
    name: str = "unet",
) -> keras.Model:
    """Build a U-Net from a block, a gate and a way of up-sampling.

    Args:
        {common_args}
        {size_args}
        block: `"conv"`, `"res"`, `"res_1x1"`, `"recurrent_res"`, or a function `(x, filters, style, *, name)` from
            tensor to tensor.
        first_block: The block of the first encoder level, where it differs.
        gate: What weighs the skip connections: `None`, `"same_scale"`, `"same_scale_plain"` (without normalization),
            `"half_width"`, `"coarse"`, or a function `(skip, upsampled, coarse, filters, style, *, name)` that returns
            the new skip. `skip` and `upsampled` are of the gate's level, `coarse` is the decoder's tensor one level
            below (half as high and wide), `filters` the width of the level.
        up: `"nearest_conv"`, `"nearest"`, `"transposed"`, or a function as for `block` that doubles height and width.
        style: Convolution, normalization, activation and dropout of the blocks.
        head_norm: Normalize between the last convolution and the last activation.
        {end_args}

    {returns}

    Example:
        >>> model = build_unet((None, None, 4), 3, filters=8, depth=3, block="res", gate="half_width")
        >>> model.output_shape
        (None, None, None, 3)

    Reference: {reference}.
    """
    _check_environment()
    widths = _check_widths(filters, depth)
    input_shape = _check_input_shape(input_shape, depth)
    head_activation = _check_head(num_classes, classifier_activation)
    if not isinstance(style, BlockStyle):
        raise InputError(f"style must be a BlockStyle, such as BlockStyle(separable=True). Received: style={style!r}.")
    block = _choose("block", block, BLOCKS)
    first_block = block if first_block is None else _choose("first_block", first_block, BLOCKS)
    gate = None if gate is None else _choose("gate", gate, GATES)
    up = _choose("up", up, _UPS)

    image = keras.Input(input_shape, name=names.IMAGE)
    x = _encode_decode(image, widths, block, first_block, gate, up, style)
    x = keras.layers.Conv2D(num_classes, 1, name=names.LOGITS)(x)
    if head_norm:
        x = style.normalize(x, name=f"{names.LOGITS}_norm")
    # float32 whatever the precision policy: a float16 probability rounds to exactly 0 or 1 too early for the losses.
    mask = keras.layers.Activation(head_activation, dtype="float32", name=names.MASK)(x)
    model = keras.Model(image, mask, name=name)
    if weights is not None:
        load = load_shipped if str(weights) in list_pretrained() else load_weights
        load(model, weights)
    return model


def build_recipe(arguments: dict[str, Any], **parts: Any) -> keras.Model:
    """Build the network of a recipe.

    Args:
        arguments: Those that the recipe was called with: `build_unet`'s and, for its style, `BlockStyle`'s.
        **parts: What makes the recipe: the block, gate and head of `build_unet`.
    """
    style = {entry.name: arguments[entry.name] for entry in fields(BlockStyle)}
    others = {name: value for name, value in arguments.items() if name not in style}
    return build_unet(style=BlockStyle(**style), **others, **parts)


def _encode_decode(x, widths, block, first_block, gate, up, style):
    """Down through the encoder, up through the decoder. Level 0 is the full resolution."""
    depth = len(widths) - 1
    skips = []
    for level in range(depth):
        x = (first_block if level == 0 else block)(x, widths[level], style, name=names.encoder(level))
        skips.append(x)
        x = keras.layers.MaxPooling2D(2, name=names.encoder(level, names.POOL))(x)
    x = block(x, widths[depth], style, name=names.encoder(depth))
    for level in reversed(range(depth)):
        skip, coarse = skips[level], x
        x = up(coarse, widths[level], style, name=names.decoder(level, names.UP))
        if gate is not None:
            skip = gate(skip, x, coarse, widths[level], style, name=names.decoder(level, names.GATE))
        x = keras.layers.Concatenate(name=names.decoder(level, names.CONCAT))([x, skip])
        x = block(x, widths[level], style, name=names.decoder(level))
    return x


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check_environment():
    if keras.config.image_data_format() != "channels_last":
        raise InputError(
            "Keras' image_data_format must be 'channels_last'. Received: 'channels_first'. "
            "Call keras.config.set_image_data_format('channels_last') first."
        )


def _check_widths(filters, depth):
    if not _is_count(depth):
        raise InputError(f"depth must be a whole number, one or more. Received: depth={depth!r}.")
    if _is_count(filters):
        return [filters * 2**level for level in range(depth + 1)]
    try:
        widths = list(filters)
    except TypeError:
        widths = []
    if len(widths) != depth + 1 or not all(map(_is_count, widths)):
        raise InputError(
            f"filters must be one width or a sequence of depth + 1 = {depth + 1} positive widths. "
            f"Received: filters={filters!r}, depth={depth}. Give filters=64, or {depth + 1} whole numbers."
        )
    return widths


def _check_input_shape(input_shape, depth):
    try:
        height, width, channels = input_shape
    except (TypeError, ValueError):
        raise InputError(
            f"input_shape must be (height, width, channels), without the batch. Received: input_shape={input_shape!r}."
        ) from None
    if not _is_count(channels):
        raise InputError(
            f"channels must be a positive whole number: 1 for a gray image, 3 for RGB, 4 for four MR sequences. "
            f"Received: input_shape={input_shape!r}."
        )
    multiple = 2**depth
    for side, value in (("height", height), ("width", width)):
        if value is None:
            continue
        if not _is_count(value):
            raise InputError(f"{side} must be a positive whole number or None. Received: input_shape={input_shape!r}.")
        if value % multiple:
            lower = value // multiple * multiple
            crop = f" or crop to {lower}" if lower else f", or give depth less than {depth}"
            raise InputError(
                f"{side} must be a multiple of {multiple}. Received: input_shape={tuple(input_shape)!r}. "
                f"Pad to {lower + multiple}{crop}."
            )
    return height, width, channels


def _check_head(num_classes, classifier_activation):
    """Return the name of the last activation."""
    if not _is_count(num_classes):
        raise InputError(f"num_classes must be a whole number, one or more. Received: num_classes={num_classes!r}.")
    if classifier_activation is None:
        return "linear"
    if classifier_activation == "auto":
        return "sigmoid" if num_classes == 1 else "softmax"
    check_activation("classifier_activation", classifier_activation)
    if classifier_activation == "softmax" and num_classes == 1:
        raise InputError(
            "classifier_activation='softmax' over num_classes=1 is 1 everywhere. "
            "Give 'sigmoid', or num_classes=2 (background and tumour)."
        )
    return classifier_activation


def _choose(argument, value, table):
    """Return the function that a name stands for; a function stands for itself."""
    if callable(value):
        return value
    if not isinstance(value, str) or value not in table:
        known = ", ".join(repr(name) for name in table)
        raise InputError(f"{argument} must be one of {known}, or a function. Received: {argument}={value!r}.")
    return table[value]
