"""BatchNormalization folded into the convolutions before it: the same answers, at prediction, in half the time."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.SeparableConv2D, keras.layers.Conv2DTranspose)


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Copy a network for prediction, with every BatchNormalization that follows a convolution folded into it.

    A normalization stays where it cannot be folded: where its convolution also feeds something else, or one
    convolution feeds several normalizations (recurrent blocks with `norm_per_step`).

    Folding is exact but for the rounding of the new weights to float32, which is less than what the arithmetic of
    float32 costs either network. Two answers therefore differ by some 1e-6 of the largest logit. Where moving
    statistics are not those of the images, as random ones, a recurrent network normalizes nothing: its logits grow to
    thousands, and 1e-6 of them shows as 1e-3 in a probability near one half.

    Args:
        model: Functional model of stock layers; it is left as it is.

    Returns:
        A float32 copy, not compiled, with the same layer names; a folded normalization is an `Identity`.

    Example:
        >>> from brainseg_keras import res_unet
        >>> model = res_unet((32, 32, 3), filters=4, depth=2)
        >>> fold_batch_norm(model).count_params() < model.count_params()
        True
    """
    twin = FoldedTwin(model)
    twin.update()
    return twin.model


def scale_logits(model: keras.Model, factor: float, shift: Sequence[float]) -> bool:
    """Multiply a network's logits and add to them, in the weights of its last convolution.

    Args:
        model: Network that is changed: one of `fold_batch_norm`'s copies, whose layers are its own.
        factor: Of all logits.
        shift: What is added to each channel's.

    Returns:
        Whether that can be: the network ends in a convolution with bias, whatever normalized it being folded, and a
        sigmoid or softmax. If not, it is left as it is.

    Example:
        >>> from brainseg_keras import res_unet
        >>> scale_logits(fold_batch_norm(res_unet((32, 32, 3), filters=4, depth=2)), 2.0, [0.5])
        True
    """
    layer, activations = model.outputs[0]._keras_history.operation, []
    # A folded normalization is an Identity.
    while isinstance(layer, keras.layers.Activation | keras.layers.Identity):
        activations += [layer.activation] if isinstance(layer, keras.layers.Activation) else []
        layer = layer._inbound_nodes[0].parent_nodes[0].operation
    if not isinstance(layer, keras.layers.Conv2D) or not layer.use_bias or len(layer._outbound_nodes) > 1:
        return False
    activations = [one for one in (*activations, layer.activation) if one is not keras.activations.linear]
    if len(activations) != 1 or activations[0] not in (keras.activations.sigmoid, keras.activations.softmax):
        return False
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * factor, bias * factor + np.asarray(shift, np.float32)])
    return True


class FoldedTwin:
    """A folded copy that follows a network in training, so that it is scored as its file will be.

    Args:
        model: Functional model of stock layers.

    Example:
        >>> from brainseg_keras import res_unet
        >>> twin = FoldedTwin(res_unet((32, 32, 3), filters=4, depth=2))
        >>> twin.update()
        >>> twin.model.output_shape
        (None, 32, 32, 1)
    """

    def __init__(self, model: keras.Model):
        self._followed = model
        self._pairs = _foldable(model)
        self._folded = {norm.name for norm in self._pairs.values()}
        #: The copy; its weights mean nothing before the first `update`.
        self.model = keras.models.clone_model(model, clone_function=self._copy, call_function=self._call)
        self.model.trainable = False

    def update(self) -> None:
        """Take the network's present weights."""
        for layer in self._followed.layers:
            if layer.name in self._folded or not layer.weights:
                continue
            weights = layer.get_weights()
            if layer.name in self._pairs:
                weights = _scaled(layer, weights, self._pairs[layer.name])
            self.model.get_layer(layer.name).set_weights(weights)

    def _copy(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        if layer.name in self._folded:
            return keras.layers.Identity(name=layer.name, dtype="float32")
        changes = {"dtype": "float32"} | ({"use_bias": True} if layer.name in self._pairs else {})
        return layer.__class__.from_config(layer.get_config() | changes)

    def _call(self, layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        # A normalization is called with a mask, of which Identity knows nothing.
        return layer(*args) if layer.name in self._folded else layer(*args, **kwargs)


def _foldable(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Name each convolution whose every call feeds one normalization, and nothing else; with that normalization."""
    consumers: dict[str, list[tuple[keras.layers.Layer, int]]] = {}
    inside = {layer.name for layer in model.layers}
    for layer in model.layers:
        for node in layer._inbound_nodes:
            for parent in node.parent_nodes:
                if parent.operation.name in inside:
                    consumers.setdefault(parent.operation.name, []).append((layer, id(node)))
    outputs = {tensor._keras_history.operation.name for tensor in model.outputs}
    pairs = {}
    for layer in model.layers:
        if not isinstance(layer, _CONVOLUTIONS) or layer.name in outputs:
            continue
        if layer.activation is not keras.activations.linear:
            continue
        followers = {follower.name: follower for follower, _ in consumers.get(layer.name, [])}
        if len(followers) != 1:
            continue
        norm = next(iter(followers.values()))
        fed_by_others = any(
            parent.operation.name != layer.name for node in norm._inbound_nodes for parent in node.parent_nodes
        )
        if isinstance(norm, keras.layers.BatchNormalization) and not fed_by_others:
            pairs[layer.name] = norm
    return pairs


def _scaled(
    layer: keras.layers.Layer, weights: list[np.ndarray], norm: keras.layers.BatchNormalization
) -> list[np.ndarray]:
    mean, variance = (np.asarray(value, np.float64) for value in (norm.moving_mean, norm.moving_variance))
    gamma = np.asarray(norm.gamma, np.float64) if norm.scale else 1.0
    beta = np.asarray(norm.beta, np.float64) if norm.center else 0.0
    factor = gamma / np.sqrt(variance + norm.epsilon)
    *kernels, last = weights if layer.use_bias else [*weights, 0.0]
    # A transposed kernel is (height, width, out, in); of a separable one the pointwise kernel comes last.
    shape = (-1, 1) if isinstance(layer, keras.layers.Conv2DTranspose) else (-1,)
    kernels[-1] = (kernels[-1] * factor.reshape(shape)).astype(np.float32)
    bias = ((last - mean) * factor + beta).astype(np.float32)
    return [*kernels, bias]
