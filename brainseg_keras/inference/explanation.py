"""Where a network looks: the maps of its attention gates, or Grad-CAM for a network without gates."""

from typing import Any

import keras
import numpy as np

from brainseg_keras.errors import InputError
from brainseg_keras.models import names
from brainseg_keras.models.attention_maps import attention_maps, has_gates

GRAD_CAM = "grad_cam"


class Explainer:
    """Makes maps from 0 to 1 of what a network's answer rests on.

    Neither kind is a proof of why the network answers as it does.

    Args:
        model: A network of this package, or read from its file; it may be trained on in the meantime.

    Example:
        >>> from brainseg_keras import attention_unet, res_unet
        >>> images = np.random.default_rng(0).random((2, 32, 32, 1), "float32")
        >>> Explainer(attention_unet((32, 32, 1), filters=4, depth=2))(images)["dec1_att"].shape
        (2, 16, 16)
        >>> Explainer(res_unet((32, 32, 1), filters=4, depth=2))(images)["grad_cam"].shape
        (2, 8, 8)
    """

    def __init__(self, model: keras.Model):
        self._grad_cam = None if has_gates(model) else GradCam(model)
        self._gates = attention_maps(model) if has_gates(model) else None

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Make the maps.

        Args:
            images: What the network sees, `(batch, height, width, channels)`.

        Returns:
            `dec0_att`, `dec1_att` and so on, full resolution first, or `grad_cam` alone: each
            `(batch, height, width)`, float32, at its level's size.
        """
        if self._gates is None:
            return {GRAD_CAM: self._grad_cam(images)}
        # Called and not `predict`: for a few slices, compiling takes longer than all the rest.
        found = self._gates(images, training=False)
        gates = sorted(set(found) - {names.MASK}, key=lambda gate: names.parse(gate).level)
        return {gate: _numpy(found[gate])[..., 0] for gate in gates}


class GradCam:
    """Shows which places of a feature map raised the score of the pixels that were called tumour.

    Each channel is weighed by the mean gradient of the tumour pixels' summed logits; what is negative is dropped; each
    image's map is brought to 1 at its brightest. Where no pixel was called tumour the map is 0.

    Args:
        model: A network of this package, or read from its file; it may be trained on in the meantime.
        layer: Name of the layer whose output is looked at; default the deepest level's, as in the paper.

    Raises:
        InputError: No such layer, or a network of another making.

    Example:
        >>> from brainseg_keras import unet
        >>> look = GradCam(unet((32, 32, 1), filters=4, depth=2), layer="dec0_2_conv")
        >>> look(np.zeros((1, 32, 32, 1), "float32")).shape
        (1, 32, 32)

    Reference:
        Vinogradova, Dibrov, Myers 2020, arXiv:2002.11434 (Seg-Grad-CAM); Selvaraju et al. 2017, arXiv:1610.02391.
    """

    def __init__(self, model: keras.Model, *, layer: str | None = None):
        self._model = model
        # A copy: cutting a graph in two leaves its layers so that the model cannot be saved any more.
        self._copy = keras.models.clone_model(model)
        features, mask = _features(self._copy, layer), _layer(self._copy, names.MASK)
        self._softmax = mask.get_config()["activation"] == "softmax"
        self._trunk = keras.Model(self._copy.input, [features, self._copy.output])
        # From the features, and from the image for what the skip connections bring, to the logits.
        self._head = keras.Model([self._copy.input, features], mask.input)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Make the maps.

        Args:
            images: What the network sees, `(batch, height, width, channels)`.

        Returns:
            Array of shape `(batch, height, width)`, float32, from 0 to 1, at the layer's size.
        """
        images = np.asarray(images, np.float32)
        self._copy.set_weights(self._model.get_weights())
        values, answer = map(_numpy, self._trunk(images, training=False))
        if self._softmax:
            # Background first: what is not background is tumour.
            chosen = np.float32(answer[..., :1] < 0.5) * np.float32(np.arange(answer.shape[-1]) > 0)
        else:
            chosen = np.float32(answer > 0.5)
        gradient = _gradient(self._head, images, values, chosen)
        weighed = np.maximum((values * gradient.mean(axis=(1, 2), keepdims=True)).sum(axis=-1), 0)
        return weighed / np.maximum(weighed.max(axis=(1, 2), keepdims=True), 1e-12)


def _numpy(tensor: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float32)


def _layer(model: keras.Model, name: str) -> Any:
    known = [layer.name for layer in model.layers]
    if name not in known:
        raise InputError(f"{model.name} has no layer {name!r}. It has {', '.join(known[:8])}, ... (model.summary()).")
    return model.get_layer(name)


def _features(model: keras.Model, layer: str | None) -> Any:
    if layer is not None:
        return _layer(model, layer).output
    read = ((entry, names.parse(entry.name)) for entry in model.layers)
    ups = {found.level: entry for entry, found in read if found and found.part == names.UP and not found.rest}
    if not ups:
        raise InputError(f"{model.name} is not a U-Net of this package. Name the layer to look at: layer=...")
    return ups[max(ups)].input


def _gradient(head: keras.Model, images: np.ndarray, values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Differentiate the chosen logits' sum by the features, in inference mode, on any backend."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        images, features = tf.convert_to_tensor(images), tf.convert_to_tensor(values)
        with tf.GradientTape() as tape:
            tape.watch(features)
            score = tf.reduce_sum(tf.cast(head([images, features], training=False), tf.float32) * chosen)
        return tape.gradient(score, features).numpy()
    if backend == "jax":
        import jax

        trained, other = (
            [v.value for v in group] for group in (head.trainable_variables, head.non_trainable_variables)
        )

        def score(features: Any) -> Any:
            logits, _ = head.stateless_call(trained, other, [images, features], training=False)
            return (logits.astype("float32") * chosen).sum()

        return np.asarray(jax.grad(score)(values), np.float32)
    features = keras.ops.convert_to_tensor(values).requires_grad_()
    (head([images, features], training=False) * keras.ops.convert_to_tensor(chosen)).sum().backward()
    return keras.ops.convert_to_numpy(features.grad)
