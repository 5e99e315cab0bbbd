"""Deep supervision: lower levels of a decoder answer too while it learns, through heads that are not kept."""

from typing import Any

import keras
from keras import ops

from brainseg_keras.errors import InputError
from brainseg_keras.models import names


@keras.saving.register_keras_serializable(package="brainseg_keras")
class SupervisedModel(keras.Model):
    """A network that answers at several resolutions, each half as high and wide as the one before.

    It is compiled with one loss, an object, which judges all answers: weights halve from level to level and sum to 1,
    as in nnU-Net. The truth comes at full resolution. A level's truth is its mean over the pixels that one of the
    level's covers, so that a tumour smaller than that pixel still counts for its share. nnU-Net and MONAI take the
    nearest pixel's label, since their losses want labels; those of this package are least at such shares, and the
    truth at full resolution is made in the same way. Metrics are of the first answer, at full resolution, alone.

    Args:
        inputs: As those of `keras.Model`.
        outputs: A list, the full resolution first.

    Example:
        >>> from brainseg_keras import unet
        >>> model = supervise(unet((32, 32, 1), filters=4, depth=2))
        >>> model.compile("sgd", loss=keras.losses.MeanSquaredError())
        >>> truth = ops.concatenate([ops.ones((1, 32, 16, 1)), ops.zeros((1, 32, 16, 1))], axis=2)
        >>> answers = [truth, ops.zeros((1, 16, 16, 1))]  # right, and wrong in half of the pixels: 0 and 1/2
        >>> round(float(model.compute_loss(y=truth, y_pred=answers)), 4)  # (0 + 1/2 x 1/2) / (1 + 1/2)
        0.1667

    Reference:
        Isensee et al. 2018, nnU-Net, arXiv 1809.10486; Lee et al. 2015, Deeply-Supervised Nets, arXiv 1409.5185.
    """

    @property
    def network(self) -> keras.Model:
        """The network without the heads, whose layers it shares."""
        return keras.Model(self.inputs[0], self.outputs[0], name=self.name)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Sum the loss of all answers, weighted by their level."""
        total, truth = 0.0, y
        for level, answer in enumerate(y_pred):
            if level:
                truth = ops.average_pool(truth, 2, strides=2)
            total += 0.5**level * self.loss(truth, answer, sample_weight)
        return total / (2 - 0.5 ** (len(y_pred) - 1))

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Score the answer at full resolution."""
        return super().compute_metrics(x, y, y_pred[0], sample_weight)


def supervise(network: keras.Model) -> SupervisedModel:
    """Give a U-Net heads at lower levels of its decoder, for training.

    A head is a 1x1 convolution and the network's own last activation, in float32. Every level between the full
    resolution and the decoder's lowest has one. The lowest has none, as in nnU-Net, which gives it no weight: it stands
    right behind the bottleneck. With two levels it is the only one below the full resolution, and has one.

    Args:
        network: One of this package's U-Nets, with two or more halvings. It shares its layers with what comes back, so
            that it learns with it, and stays without heads.

    Returns:
        What is to be trained, not compiled.

    Raises:
        InputError: A network without a lower level in its decoder.

    Example:
        >>> from brainseg_keras import res_unet
        >>> supervise(res_unet((64, 64, 3), filters=4)).output_shape
        [(None, 64, 64, 1), (None, 32, 32, 1), (None, 16, 16, 1)]
    """
    parsed = {layer.name: names.parse(layer.name) for layer in network.layers}
    ups = {
        found.level: network.get_layer(name)
        for name, found in parsed.items()
        if found and found.part == names.UP and not found.rest
    }
    if len(ups) < 2:
        raise InputError(
            f"Deep supervision needs a U-Net of this package whose decoder has levels below the full resolution. "
            f"Received: {network.name!r} with {len(ups)} of a decoder's levels. Give it a depth of 2 or more."
        )
    logits, mask = network.get_layer(names.LOGITS), network.get_layer(names.MASK)
    outputs = [network.outputs[0]]
    for level in range(1, max(2, len(ups) - 1)):
        # What a level's block makes is what goes up to the next one.
        x = ups[level - 1].input
        x = keras.layers.Conv2D(
            logits.filters, 1, dtype=logits.dtype_policy, name=names.auxiliary(level, names.LOGITS)
        )(x)
        outputs.append(
            keras.layers.Activation(mask.activation, dtype="float32", name=names.auxiliary(level, names.MASK))(x)
        )
    model = SupervisedModel(network.inputs[0], outputs, name=network.name)
    # By which Keras decides whether the loss has to be scaled.
    model.dtype_policy = network.dtype_policy
    return model
