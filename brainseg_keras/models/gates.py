"""Gates: what weighs a skip connection before the decoder joins it, functions from tensors to tensor."""

from dataclasses import replace
from functools import partial
from typing import Any

import keras

from brainseg_keras.errors import InputError
from brainseg_keras.models.blocks import DEFAULT_STYLE, BlockStyle, conv_norm_act
from brainseg_keras.models.names import ALPHA, ENLARGED_ALPHA


def attention_block(
    skip: keras.KerasTensor,
    gating: keras.KerasTensor,
    filters: int,
    style: BlockStyle = DEFAULT_STYLE,
    *,
    kind: str = "same_scale",
    norm: bool = True,
    name: str,
) -> keras.KerasTensor:
    """The attention gate: weigh each pixel of a skip connection by what the decoder already knows.

    Both kinds end in one map alpha, from 0 to 1, by which the skip is multiplied; its layer is `<name>_alpha`.
    "same_scale" takes the up-sampled decoder tensor: alpha = sigmoid(conv1x1(act(conv1x1(gating) + conv1x1(skip)))),
    a normalization after each convolution. "coarse" takes the tensor one level below (half the height and width),
    computes alpha at that level, enlarges it, and passes the weighted skip through a 1x1 convolution.

    Args:
        skip: The encoder's tensor `(batch, height, width, channels)`.
        gating: The decoder's tensor: as large as `skip` for "same_scale", half as large for "coarse".
        filters: The number of channels in which the two are compared.
        style: The normalization and activation. Gates never have separable convolutions or dropout.
        kind: `"same_scale"` or `"coarse"`.
        norm: Whether the style's normalization is used in the gate.
        name: The prefix of the layers' names.

    Returns:
        A tensor of the shape of `skip`.

    Raises:
        InputError: When `kind` is unknown, or the two tensors' sizes do not match it.

    Example:
        >>> import keras
        >>> skip, decoder = keras.Input((64, 64, 16)), keras.Input((64, 64, 32))
        >>> attention_block(skip, decoder, 8, name="dec0_att").shape
        (None, 64, 64, 16)

    Reference: Oktay et al. 2018, arXiv:1804.03999.
    """
    if kind not in ("same_scale", "coarse"):
        raise InputError(f"kind must be 'same_scale' or 'coarse'. Received: kind={kind!r}.")
    factor = 2 if kind == "coarse" else 1
    for axis in (1, 2):
        fine, coarse = skip.shape[axis], gating.shape[axis]
        if None not in (fine, coarse) and fine != factor * coarse:
            raise InputError(
                f"A gate of kind {kind!r} needs a skip that is {factor} times as large as the gating tensor. "
                f"Received: skip of shape {tuple(skip.shape)}, gating of shape {tuple(gating.shape)}."
            )
    style = replace(style, separable=False, dropout=0.0, norm=style.norm if norm else None)
    gate = _coarse_gate if kind == "coarse" else _same_scale_gate
    return gate(skip, gating, filters, style, name)


def _same_scale_gate(skip, gating, filters, style, name):
    from_gating = keras.layers.Conv2D(filters, 1, name=f"{name}_gating_conv")(gating)
    from_gating = style.normalize(from_gating, name=f"{name}_gating_norm")
    from_skip = keras.layers.Conv2D(filters, 1, name=f"{name}_skip_conv")(skip)
    from_skip = style.normalize(from_skip, name=f"{name}_skip_norm")
    total = keras.layers.Add(name=f"{name}_add")([from_gating, from_skip])
    total = style.activate(total, name=f"{name}_act")
    psi = keras.layers.Conv2D(1, 1, name=f"{name}_psi_conv")(total)
    psi = style.normalize(psi, name=f"{name}_psi_norm")
    alpha = keras.layers.Activation("sigmoid", name=f"{name}_{ALPHA}")(psi)
    return keras.layers.Multiply(name=f"{name}_gated")([skip, alpha])


def _coarse_gate(skip, gating, filters, style, name):
    gating = conv_norm_act(gating, filters, style, 1, name=f"{name}_gating")
    phi = keras.layers.Conv2D(filters, 1, name=f"{name}_phi_conv")(gating)
    phi = keras.layers.Conv2DTranspose(filters, 3, padding="same", name=f"{name}_phi_transposed")(phi)
    theta = keras.layers.Conv2D(filters, 2, strides=2, padding="same", name=f"{name}_theta_conv")(skip)
    total = keras.layers.Add(name=f"{name}_add")([phi, theta])
    total = style.activate(total, name=f"{name}_act")
    psi = keras.layers.Conv2D(1, 1, name=f"{name}_psi_conv")(total)
    alpha = keras.layers.Activation("sigmoid", name=f"{name}_{ALPHA}")(psi)
    alpha = keras.layers.UpSampling2D(2, name=f"{name}_{ENLARGED_ALPHA}")(alpha)
    gated = keras.layers.Multiply(name=f"{name}_gated")([skip, alpha])
    gated = keras.layers.Conv2D(skip.shape[-1], 1, name=f"{name}_out_conv")(gated)
    return style.normalize(gated, name=f"{name}_out_norm")


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


GATES = {
    "same_scale": same_scale_gate,
    "same_scale_plain": partial(same_scale_gate, norm=False),
    "half_width": half_width_gate,
    "coarse": coarse_gate,
}
