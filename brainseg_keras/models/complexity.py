"""What a network costs: parameters and floating-point operations, read from the graph without running it."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from brainseg_keras.errors import InputError
from brainseg_keras.files import write_json
from brainseg_keras.models.registry import build_model
from brainseg_keras.models.table import FILE
from brainseg_keras.registry import ARCHITECTURES

_POINTWISE = (
    keras.layers.Activation,
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.SpatialDropout2D,
)


def layer_calls(
    model: keras.Model, input_size: int | tuple[int, int] | None = None
) -> Iterator[tuple[keras.layers.Layer, list[tuple], list[tuple], tuple]]:
    """Walk a functional model's graph, each *call* of a layer once, inputs before what uses them.

    Args:
        model: A functional Keras model with one input `(batch, height, width, channels)`.
        input_size: The height and width to assume, in pixels; `None` for the model's own.

    Yields:
        The layer; the keys of the tensors it was called with; their shapes; the shape of its result. The key of a
        tensor is `(layer name, number of the call)`.

    Raises:
        InputError: When the model is not functional, or contains another model.
    """
    config = model.get_config() if hasattr(model, "inputs") else {}
    pending = []
    for entry in config.get("layers", []):
        layer = model.get_layer(entry["name"])
        if isinstance(layer, keras.Model):
            raise InputError(f"The model must be of plain layers. Received: a model {layer.name!r} inside it.")
        for number, node in enumerate(entry.get("inbound_nodes", [])):
            pending.append((layer, (entry["name"], number), list(_tensor_keys(node))))
    if not pending:
        raise InputError(f"The model must be a functional keras.Model. Received: {model!r}.")
    name = next(layer.name for layer in model.layers if isinstance(layer, keras.layers.InputLayer))
    shapes = {(name, 0): _input_shape(model, input_size)}
    while pending:
        # A shared layer's calls stand together in the config, so one pass seldom finds all inputs ready.
        waiting = []
        for layer, key, sources in pending:
            if not all(source in shapes for source in sources):
                waiting.append((layer, key, sources))
                continue
            received = [shapes[source] for source in sources]
            shapes[key] = tuple(layer.compute_output_shape(received[0] if len(received) == 1 else received))
            yield layer, sources, received, shapes[key]
        if len(waiting) == len(pending):
            raise InputError(f"The model must have one input. Received: {model.name!r}, which has more.")
        pending = waiting


def count_flops(model: keras.Model, input_size: int | tuple[int, int] | None = 256) -> float:
    """Count the floating-point operations of one prediction, in GFLOPs (10^9).

    An operation is a multiplication or an addition of a convolution: 2 x multiply-accumulate. Each call of a layer
    counts, so a kernel that is applied four times counts four times. Biases, normalizations, activations and
    up-sampling are left out, as is usual. The batch is one image.

    Args:
        model: A functional Keras model of convolutions, such as the recipes build.
        input_size: The height and width of the image in pixels, one number or two, whatever size the model was built
            for, so that counts compare; `None` for the model's own size.

    Returns:
        GFLOPs.

    Raises:
        InputError: When the model has no fixed size and none is given, or is not a functional model.

    Example:
        >>> from brainseg_keras import unet
        >>> round(count_flops(unet((None, None, 3), filters=8), 256), 2)
        2.07
    """
    return (
        sum(
            2 * _multiply_accumulates(layer, received, result)
            for layer, _, received, result in layer_calls(model, input_size)
        )
        / 1e9
    )


def _multiply_accumulates(layer, received, result):
    if isinstance(layer, keras.layers.SeparableConv2D):
        channels, pixels = received[0][-1], math.prod(result[1:3])
        between = channels * layer.depth_multiplier
        return pixels * between * (math.prod(layer.kernel_size) + layer.filters)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return math.prod(result[1:]) * math.prod(layer.kernel_size)
    if isinstance(layer, keras.layers.Conv2DTranspose):
        # Each *input* pixel spreads a whole kernel.
        return math.prod(received[0][1:]) * math.prod(layer.kernel_size) * layer.filters
    if isinstance(layer, keras.layers.Conv2D):
        return math.prod(result[1:]) * math.prod(layer.kernel_size) * received[0][-1] // layer.groups
    if isinstance(layer, keras.layers.Dense):
        return math.prod(result[1:]) * received[0][-1]
    if layer.weights and not isinstance(layer, _POINTWISE):
        raise InputError(f"No rule counts the operations of {layer.name!r}, a {type(layer).__name__}.")
    return 0


def summarize(names: list[str] | None = None, **kwargs: Any) -> list[dict]:
    """Return one row a registered architecture: what it is and what it costs.

    Args:
        names: Which architectures; all of `list_models()` unless told.
        **kwargs: Arguments of the recipes, such as `filters` or `separable`; their defaults unless told.

    Returns:
        Rows `{name, parameters, trainable, gflops, input_shape, reference}`. GFLOPs are those of `count_flops` at
        256x256, so that rows compare.

    Example:
        >>> summarize(["res_unet"])[0]["parameters"]
        1210513
    """
    rows = []
    for name in ARCHITECTURES if names is None else names:
        model = build_model(name, **kwargs)
        rows.append(
            {
                "name": name,
                "parameters": model.count_params(),
                "trainable": sum(math.prod(variable.shape) for variable in model.trainable_variables),
                "gflops": round(count_flops(model), 3),
                "input_shape": list(model.input_shape[1:]),
                "reference": ARCHITECTURES[name].reference,
            }
        )
    return rows


def _input_shape(model, input_size):
    shape = model.input_shape
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise InputError(f"The model must have one input (batch, height, width, channels). Received: {shape}.")
    size = (input_size, input_size) if isinstance(input_size, int) else input_size
    size = shape[1:3] if size is None else tuple(size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise InputError(
            f"input_size must be one or two positive whole numbers when the model has no fixed size. "
            f"Received: input_size={input_size!r} for a model of input shape {shape}."
        )
    return (1, *size, shape[-1])


def _tensor_keys(item):
    """The (layer name, call) of every tensor in a serialized call."""
    if isinstance(item, dict):
        if item.get("class_name") == "__keras_tensor__":
            yield tuple(item["config"]["keras_history"][:2])
            return
        item = list(item.values())
    if isinstance(item, (list, tuple)):
        for part in item:
            yield from _tensor_keys(part)


if __name__ == "__main__":
    # python -m brainseg_keras.models.complexity
    write_json(Path(__file__).with_name(FILE), summarize())
