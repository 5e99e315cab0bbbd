"""Weights of a network in one of the same architecture that may have other channels or another answer."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np

from brainseg_keras.models import names


class Fit(NamedTuple):
    """How stored weights fit a network: names of its layers.

    Args:
        kept: Those that take all of their weights.
        mixed: Those that see the image and take their kernels channel by channel.
        new: Those of the head that take nothing.
        other: Those that are in one of the two only, or have other shapes: there is no fit then.
    """

    kept: tuple[str, ...]
    mixed: tuple[str, ...]
    new: tuple[str, ...]
    other: tuple[str, ...]


def compare_weights(
    model: keras.Model,
    stored: Mapping[str, Sequence[np.ndarray]],
    *,
    same_channels: bool = True,
    same_answer: bool = True,
) -> Fit:
    """Say which layers of a network can take stored weights.

    Args:
        model: The network.
        stored: Weights by the layer's name, as `stored_weights` gives them.
        same_channels: Whether they are of a network that sees the same images.
        same_answer: Whether its answer means the same.

    Returns:
        The layers, each in one place.

    Example:
        >>> from brainseg_keras import res_unet
        >>> old, new = (res_unet((32, 32, channels), filters=4, depth=2) for channels in (3, 1))
        >>> stored = {layer.name: layer.get_weights() for layer in old.layers if layer.weights}
        >>> compare_weights(new, stored).mixed
        ('enc0_1_conv',)
    """
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    fit: dict[str, list[str]] = {place: [] for place in Fit._fields}
    for name, layer in layers.items():
        there = [weight.shape for weight in stored.get(name, ())]
        wanted = [tuple(weight.shape) for weight in layer.weights]
        if names.is_head(name):
            place = "kept" if there == wanted and same_answer else "new"
        elif _sees_image(model, layer) and not (there == wanted and same_channels):
            place = "mixed" if list(map(_without_channels, there)) == list(map(_without_channels, wanted)) else "other"
        else:
            place = "kept" if there == wanted else "other"
        fit[place].append(name)
    # Heads of deep supervision stand in a last.keras beside the network.
    fit["other"] += [name for name in stored if name not in layers and not names.is_auxiliary(name)]
    return Fit(*map(tuple, fit.values()))


def take_weights(
    model: keras.Model,
    stored: Mapping[str, Sequence[np.ndarray]],
    fit: Fit,
    origins: Sequence[int | None] | None = None,
) -> None:
    """Give a network those stored weights that fit; the others stay as they are.

    Args:
        model: The network.
        stored: As for `compare_weights`.
        fit: What that says.
        origins: For each channel of the network's image the channel of the other's whose kernels it gets; None for the
            mean of all. By default each gets the mean.
    """
    origins = [None] * model.input_shape[-1] if origins is None else origins
    for name in fit.kept:
        model.get_layer(name).set_weights(stored[name])
    for name in fit.mixed:
        model.get_layer(name).set_weights([_by_channel(weight, origins) for weight in stored[name]])


def _sees_image(model: keras.Model, layer: keras.layers.Layer) -> bool:
    return any(tensor is model.inputs[0] for node in layer._inbound_nodes for tensor in node.input_tensors)


def _without_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    # Kernels, those of a separable convolution too, have the channels that they see on axis 2.
    return (*shape[:2], *shape[3:]) if len(shape) == 4 else shape


def _by_channel(weight: np.ndarray, origins: Sequence[int | None]) -> np.ndarray:
    if weight.ndim < 4:
        return weight
    mean = weight.mean(axis=2)
    return np.stack([mean if origin is None else weight[:, :, origin] for origin in origins], axis=2)
