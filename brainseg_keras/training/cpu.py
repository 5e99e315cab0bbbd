"""Faster steps on CPUs: what TensorFlow works out slowly there, worked out by other operations of TensorFlow."""

import functools
import logging
import types
from typing import Any

import keras

from brainseg_keras.training.machine import onednn_trouble, processor_flags, read_cpuinfo

_log = logging.getLogger(__name__)

#: Below so many channels on either side of a kernel TensorFlow's own gradient is the faster one.
_FEW_CHANNELS = 16
#: Pixels whose products are summed in one go: images and gradients of so many stay in the processor's cache.
_CHUNK = 4096


def speed_up(model: keras.Model) -> bool:
    """Let a network train faster on a CPU with TensorFlow; its weights, its file and what it learns stay the same.

    Keras adds up a batch's mean and variance in passes of its own, where TensorFlow has one operation for a whole
    normalization. And TensorFlow's gradient of a kernel takes two to four times as long as the convolution itself
    where a processor has AVX2 and no more; as products of matrices it takes as long. Both change the last bits alone.

    The optimizer makes its variables here and not within the first step, which would then be traced twice.

    Args:
        model: A network, compiled or to be compiled. Only the copy in memory is changed: a file of it has stock layers.

    Returns:
        Whether layers were changed: none is on another backend or beside a GPU.

    Example:
        >>> from brainseg_keras import res_unet
        >>> model = res_unet((32, 32, 3), filters=4, depth=2)
        >>> model.compile("adam", loss="binary_crossentropy")
        >>> _ = speed_up(model)  # and then model.fit(...)
        >>> model.optimizer.built
        True
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built:
        # On every backend: else they are made inside the step, and tracing it twice is half of the time to start.
        optimizer.build(model.trainable_variables)
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return False
    _warn_once()
    wide = any(flag.startswith("avx512") for flag in processor_flags(read_cpuinfo()))
    changed = False
    for layer in model.layers:
        if type(layer) is keras.layers.BatchNormalization and layer.compute_dtype in ("float32", "bfloat16"):
            layer.call = types.MethodType(_normalize, layer)
            changed = True
        elif not wide and _has_slow_gradient(layer):
            layer.convolution_op = types.MethodType(_convolve, layer)
            changed = True
    return changed


@functools.cache
def _warn_once() -> None:
    if trouble := onednn_trouble():
        _log.warning("%s.", trouble)


def _has_slow_gradient(layer: keras.layers.Layer) -> bool:
    if type(layer) is not keras.layers.Conv2D or layer.compute_dtype != "float32":
        return False
    height, width, *channels = layer.kernel.shape
    plain = layer.padding == "same" and layer.strides == layer.dilation_rate == (1, 1) and layer.groups == 1
    return plain and height == width == 3 and min(channels) >= _FEW_CHANNELS


def _normalize(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    """`BatchNormalization.call`, by the one operation that TensorFlow has for it."""
    if not training or not layer.trainable or mask is not None or layer.axis not in (-1, 3) or inputs.shape.rank != 4:
        return keras.layers.BatchNormalization.call(layer, inputs, training=training, mask=mask)
    import tensorflow as tf

    channels = [inputs.shape[-1]]
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=tf.convert_to_tensor(layer.gamma) if layer.scale else tf.ones(channels),
        offset=tf.convert_to_tensor(layer.beta) if layer.center else tf.zeros(channels),
        mean=tf.zeros([0]),
        variance=tf.zeros([0]),
        epsilon=layer.epsilon,
        is_training=True,
    )
    # It answers the variance of the population that the batch was drawn from; Keras averages that of the batch.
    count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
    variance *= (count - 1) / count
    for average, new in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        average.assign(average * layer.momentum + new * (1 - layer.momentum))
    return outputs


def _convolve(layer: Any, inputs: Any, kernel: Any) -> Any:
    """`Conv2D.convolution_op`, with another way to the gradient of the kernel."""
    import tensorflow as tf

    @tf.custom_gradient
    def convolve(images: Any, kernel: Any) -> tuple[Any, Any]:
        def gradients(received: Any) -> tuple[Any, Any]:
            sizes = {"input_sizes": tf.shape(images), "strides": [1, 1, 1, 1], "padding": "SAME"}
            of_images = tf.raw_ops.Conv2DBackpropInput(filter=kernel, out_backprop=received, **sizes)
            return of_images, _kernel_gradient(tf, images, received)

        return tf.nn.conv2d(images, kernel, 1, "SAME"), gradients

    return convolve(inputs, tf.convert_to_tensor(kernel))


def _kernel_gradient(tf: Any, images: Any, received: Any) -> Any:
    """Sum images times received gradients over all pixels, for each of the nine offsets of a 3x3 kernel.

    Both are padded to the same rows and laid flat, pixel after pixel: an offset of the kernel is then a shift of all
    pixels, so that one padded copy serves all nine products. An empty image behind the last one gives the shifts room.
    """
    before, after = images.shape[-1], received.shape[-1]
    batch, height, width = tf.unstack(tf.shape(images)[:3])
    row, area = width + 2, (height + 2) * (width + 2)
    images = tf.reshape(tf.pad(images, [[0, 1], [1, 1], [1, 1], [0, 0]]), [-1, before])
    received = tf.reshape(tf.pad(received, [[0, 1], [0, 2], [0, 2], [0, 0]]), [-1, after])
    chunk = tf.where(area >= 2 * (_CHUNK + row), _CHUNK, area)
    length = -(-(batch * area) // chunk) * chunk
    gradients = tf.reshape(received[:length], [-1, chunk, after])
    products = []
    for shift in (down * row + right for down in range(3) for right in range(3)):
        pixels = tf.reshape(images[shift : shift + length], [-1, chunk, before])
        products.append(tf.reduce_sum(tf.matmul(pixels, gradients, transpose_a=True), axis=0))
    return tf.reshape(tf.stack(products), [3, 3, before, after])
