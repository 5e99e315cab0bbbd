"""What the docstrings of `build_unet` and the recipes share, filled in so that `help()` shows the whole."""

import textwrap
from collections.abc import Callable

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
_RECURRENT_ARGS = """\
    recurrence: How often a recurrent convolution feeds its result back; its kernel is applied
        `recurrence + 1` times.
    norm_per_step: Give each application a normalization of its own, instead of one that they share."""
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
    "{recurrent_args}": _RECURRENT_ARGS,
    "{returns}": _RETURNS,
}


def document(reference: str) -> Callable:
    """Decorator: fill in the shared paragraphs and `{reference}`, and keep it as the function's `reference`."""

    def decorate(function: Callable) -> Callable:
        function.reference = reference
        if function.__doc__:  # absent under python -OO
            lines = []
            for line in function.__doc__.replace("{reference}", reference).splitlines():
                fragment = _FRAGMENTS.get(line.strip())
                indent = line[: len(line) - len(line.lstrip())]
                lines.append(line if fragment is None else textwrap.indent(fragment, indent))
            function.__doc__ = "\n".join(lines)
        return function

    return decorate
