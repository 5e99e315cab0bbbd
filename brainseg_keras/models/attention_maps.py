"""Where the attention gates of a network look: a model that also returns each gate's map."""

import keras

from brainseg_keras.errors import InputError
from brainseg_keras.models import names


def has_gates(model: keras.Model) -> bool:
    """Say whether a network has attention gates.

    Args:
        model: Any network.

    Returns:
        Whether `attention_maps` can make something of it.

    Example:
        >>> from brainseg_keras import attention_unet
        >>> has_gates(attention_unet((32, 32, 1), filters=4, depth=2))
        True
    """
    return any(_is_alpha(layer) for layer in model.layers)


def attention_maps(model: keras.Model) -> keras.Model:
    """Make a model that returns the mask and the map of each attention gate.

    A map weighs the skip connection of its level: 1 lets a pixel pass, 0 holds it back. It says what the gate lets
    through, and that is no proof of why the network answers as it does.

    Args:
        model: A network with attention gates, of this package or read from its file. It shares its weights with the
            result.

    Returns:
        A model with a dict of outputs: `mask`, the answer, and `dec0_att`, `dec1_att` and so on from the full
        resolution down, each `(batch, height, width, 1)` at its level's size, from 0 to 1.

    Raises:
        InputError: The network has no attention gates.

    Example:
        >>> from brainseg_keras import attention_unet
        >>> model = attention_maps(attention_unet((32, 32, 1), filters=4, depth=2))
        >>> found = model(keras.ops.zeros((1, 32, 32, 1)))
        >>> [(name, tuple(found[name].shape)) for name in sorted(found)]
        [('dec0_att', (1, 32, 32, 1)), ('dec1_att', (1, 16, 16, 1)), ('mask', (1, 32, 32, 1))]

    Reference:
        Oktay et al. 2018, arXiv:1804.03999; on what such maps do not say: Jain and Wallace 2019, arXiv:1902.10186.
    """
    found: dict[int, keras.KerasTensor] = {}
    for layer in filter(_is_alpha, model.layers):
        name = names.parse(layer.name)
        # A coarse gate computes its map one level below; enlarged, it is what weighs the skip.
        if name.rest == names.ENLARGED_ALPHA or name.level not in found:
            found[name.level] = layer.output
    if not found:
        raise InputError(f"{model.name} has no attention gates. Take a network that has, such as attention_unet.")
    maps = {}
    for level in sorted(found):
        gate = names.decoder(level, names.GATE)
        maps[gate] = keras.layers.Activation("linear", dtype="float32", name=f"{gate}_map")(found[level])
    return keras.Model(model.input, {names.MASK: model.output, **maps}, name=f"{model.name}_attention")


def _is_alpha(layer: keras.layers.Layer) -> bool:
    name = names.parse(layer.name)
    return name is not None and name.part == names.GATE and name.rest in (names.ALPHA, names.ENLARGED_ALPHA)
