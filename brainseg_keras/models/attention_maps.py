"""Where the attention gates of a network look: a model that also returns each gate's map."""

import re

import keras

from brainseg_keras.errors import InputError

_ALPHA = re.compile(r"(?P<gate>dec(?P<level>\d+)_att)_alpha(?P<up>_up)?")


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
    return any(_ALPHA.fullmatch(layer.name) for layer in model.layers)


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
    found: dict[str, keras.KerasTensor] = {}
    for layer in model.layers:
        match = _ALPHA.fullmatch(layer.name)
        # A coarse gate computes its map one level below; enlarged, it is what weighs the skip.
        if match and (match["up"] or match["gate"] not in found):
            found[match["gate"]] = layer.output
    if not found:
        raise InputError(
            f"{model.name} has no attention gates. Those of attention_unet, attention_res_unet, ar2_unet and "
            "mod_r2au_net can be looked at."
        )
    gates = {gate: found[gate] for gate in sorted(found, key=lambda gate: int(_ALPHA.match(gate + "_alpha")["level"]))}
    float_maps = {
        gate: keras.layers.Activation("linear", dtype="float32", name=f"{gate}_map")(alpha)
        for gate, alpha in gates.items()
    }
    return keras.Model(model.input, {"mask": model.output, **float_maps}, name=f"{model.name}_attention")
