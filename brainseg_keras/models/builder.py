"""The engine: one encoder-decoder loop from which every U-Net of this package is built."""

import contextlib
import io
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras

from brainseg_keras.errors import InputError
from brainseg_keras.models.blocks import (
    DEFAULT_STYLE,
    BlockStyle,
    attention_block,
    check_activation,
    conv_block,
    conv_norm_act,
    recurrent_res_block,
    res_1x1_conv_block,
    res_conv_block,
)


def up_nearest_conv(x: Any, filters: int, style: BlockStyle, *, name: str) -> Any:
    """Nearest-neighbour doubling, then convolution 3x3, normalization, activation."""
    x = keras.layers.UpSampling2D(2, name=name)(x)
    return conv_norm_act(x, filters, replace(style, separable=False), name=name)


def up_nearest(x: Any, filters: int, style: BlockStyle, *, name: str) -> Any:
    """Nearest-neighbour doubling alone: the channels stay as they are."""
    return keras.layers.UpSampling2D(2, name=name)(x)


def up_transposed(x: Any, filters: int, style: BlockStyle, *, name: str) -> Any:
    """A transposed convolution, 2x2 with stride 2."""
    return keras.layers.Conv2DTranspose(filters, 2, strides=2, name=name)(x)


def same_scale_gate(
    skip: Any, upsampled: Any, coarse: Any, filters: int, style: BlockStyle, *, norm: bool = True, name: str
) -> Any:
    """Gate with the up-sampled decoder tensor, in as many channels as the skip has."""
    return attention_block(skip, upsampled, filters, style, norm=norm, name=name)


def half_width_gate(
    skip: Any, upsampled: Any, coarse: Any, filters: int, style: BlockStyle, *, norm: bool = True, name: str
) -> Any:
    """Gate with the up-sampled decoder tensor, in half as many channels as the skip has."""
    return attention_block(skip, upsampled, max(filters // 2, 1), style, norm=norm, name=name)


def coarse_gate(
    skip: Any, upsampled: Any, coarse: Any, filters: int, style: BlockStyle, *, norm: bool = True, name: str
) -> Any:
    """Gate with the decoder tensor one level below, before it is up-sampled."""
    return attention_block(skip, coarse, filters, style, kind="coarse", norm=norm, name=name)


BLOCKS = {
    "conv": conv_block,
    "res": res_conv_block,
    "res_1x1": res_1x1_conv_block,
    "recurrent_res": recurrent_res_block,
}
GATES = {
    "same_scale": same_scale_gate,
    "same_scale_plain": partial(same_scale_gate, norm=False),
    "half_width": half_width_gate,
    "coarse": coarse_gate,
}
UPS = {"nearest_conv": up_nearest_conv, "nearest": up_nearest, "transposed": up_transposed}

_COMMON_ARGS = """\
    input_shape: `(height, width, channels)` of the images in pixels. Height and width are multiples of
        `2 ** depth`, or `None` for images of any such size.
    num_classes: The channels of the mask. 1 is tumour against background (sigmoid); from 2 on the background
        counts as a class (softmax)."""
_SIZE_ARGS = """\
    filters: The width (channels) at full resolution, doubled at each level, or a sequence of `depth + 1` widths.
    depth: How often height and width are halved."""
_END_ARGS = """\
    classifier_activation: `"auto"` (sigmoid for one class, else softmax), the name of an activation, or `None`
        for logits.
    weights: `None`, the path of a `.weights.h5` or `.keras` file of the same architecture, or a shipped name (`"lgg"`).
    name: The model's name."""
_STYLE_ARGS = """\
    separable: Use separable 3x3 convolutions in the blocks: far fewer parameters.
    norm: `"batch"`, `"group"`, `"instance"` or `None`.
    activation: The name of the blocks' Keras activation.
    dropout: The fraction of channels dropped at the end of each block while training, from 0 to below 1.
    up: `"nearest_conv"` (doubling, then a 3x3 convolution), `"nearest"` (doubling alone) or `"transposed"`
        (a transposed 2x2 convolution)."""
_RETURNS = """\
Returns:
    A `keras.Model` of stock layers: input `image`, `(batch, height, width, channels)`; output `mask`,
    `(batch, height, width, num_classes)`, float32, probabilities unless `classifier_activation` is `None`.

Raises:
    InputError: (a ValueError) when an argument is out of range or `weights` does not fit; the message has the cure."""
_FRAGMENTS = {
    "{common_args}": _COMMON_ARGS,
    "{size_args}": _SIZE_ARGS,
    "{end_args}": _END_ARGS,
    "{recipe_args}": "\n".join((_COMMON_ARGS, _SIZE_ARGS, _STYLE_ARGS, _END_ARGS)),
    "{returns}": _RETURNS,
}


def document(function: Callable) -> Callable:
    """Decorator: fill the paragraphs that public docstrings share, so that `help()` shows the whole."""
    if function.__doc__:  # absent under python -OO
        lines = []
        for line in function.__doc__.splitlines():
            fragment = _FRAGMENTS.get(line.strip())
            indent = line[: len(line) - len(line.lstrip())]
            lines.append(line if fragment is None else textwrap.indent(fragment, indent))
        function.__doc__ = "\n".join(lines)
    return function


@document
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

    Reference: Ronneberger, Fischer, Brox 2015, arXiv:1505.04597.
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
    up = _choose("up", up, UPS)

    image = keras.Input(input_shape, name="image")
    x = _encode_decode(image, widths, block, first_block, gate, up, style)
    x = keras.layers.Conv2D(num_classes, 1, name="logits")(x)
    if head_norm:
        x = style.normalize(x, name="logits_norm")
    # float32 whatever the precision policy: a float16 probability rounds to exactly 0 or 1 too early for the losses.
    mask = keras.layers.Activation(head_activation, dtype="float32", name="mask")(x)
    model = keras.Model(image, mask, name=name)
    if weights is not None:
        from brainseg_keras.models.pretrained import list_pretrained, load_shipped

        load = load_shipped if str(weights) in list_pretrained() else load_weights
        load(model, weights)
    return model


def _encode_decode(x, widths, block, first_block, gate, up, style):
    """Down through the encoder, up through the decoder. Level 0 is the full resolution."""
    depth = len(widths) - 1
    skips = []
    for level in range(depth):
        x = (first_block if level == 0 else block)(x, widths[level], style, name=f"enc{level}")
        skips.append(x)
        x = keras.layers.MaxPooling2D(2, name=f"enc{level}_pool")(x)
    x = block(x, widths[depth], style, name=f"enc{depth}")
    for level in reversed(range(depth)):
        skip, coarse = skips[level], x
        x = up(coarse, widths[level], style, name=f"dec{level}_up")
        if gate is not None:
            skip = gate(skip, x, coarse, widths[level], style, name=f"dec{level}_att")
        x = keras.layers.Concatenate(name=f"dec{level}_concat")([x, skip])
        x = block(x, widths[level], style, name=f"dec{level}")
    return x


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Load the weights of a `.weights.h5` or `.keras` file of the same architecture into `model`.

    Raises:
        InputError: When the file is missing, of another kind or damaged, or belongs to another architecture.
    """
    path = Path(path)
    if not path.name.endswith((".weights.h5", ".keras")):
        raise InputError(f"weights must be a .weights.h5 or .keras file. Received: weights={str(path)!r}.")
    if not path.is_file():
        raise InputError(f"weights: there is no file {str(path)!r}. Check the path, or give weights=None.")
    try:
        stored = _stored_layers(path)
    except Exception as error:  # whatever zip, HDF5 or JSON readers raise on a damaged file
        raise InputError(f"weights: {str(path)!r} cannot be read as a Keras file ({error}). Save it anew.") from error
    # Keras matches layers by their class and order, and passes over what a file has in excess: without this check
    # the weights of another architecture could land in the wrong layers without a word.
    expected = {layer.name for layer in model.layers if layer.weights}
    if stored != expected:
        differing = sorted(stored ^ expected)
        raise InputError(
            f"weights: {str(path)!r} does not fit model {model.name!r}: {len(differing)} layers are in one of the two "
            f"only, such as {differing[:3]}. Build the model with the arguments with which the file was made."
        )
    try:
        model.load_weights(path)
    except Exception as error:
        raise InputError(
            f"weights: {str(path)!r} does not fit model {model.name!r}, whose layers have the same names but other "
            f"shapes. Build the model with the arguments (input_shape, num_classes, filters) with which the file was "
            f"made. Keras said: {str(error).splitlines()[0]}"
        ) from error


def _stored_layers(path):
    """The names of the layers whose weights a file holds."""
    with contextlib.redirect_stdout(io.StringIO()):  # the editor prints a summary
        editor = keras.saving.KerasFileEditor(str(path))
    paths = (f"/layers/{key}" for key in editor.weights_dict.get("layers", {}))
    return {editor.object_metadata[path]["name"] for path in paths}


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
            f"channels must be a positive whole number: 1 for a grey image, 3 for RGB, 4 for four MR sequences. "
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
        names = ", ".join(repr(name) for name in table)
        raise InputError(f"{argument} must be one of {names}, or a function. Received: {argument}={value!r}.")
    return table[value]
