"""U-Nets of recurrent residual blocks, without and with attention gates."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras

from brainseg_keras.models.blocks import recurrent_res_block
from brainseg_keras.models.docstrings import document
from brainseg_keras.models.engine import build_recipe


@document("Alom et al. 2018, arXiv:1802.06955")
def r2_unet(
    input_shape: Sequence[int | None] = (256, 256, 3),
    num_classes: int = 1,
    *,
    filters: int | Sequence[int] = 64,
    depth: int = 4,
    recurrence: int = 2,
    norm_per_step: bool = False,
    separable: bool = False,
    norm: str | None = "batch",
    activation: str = "relu",
    dropout: float = 0.0,
    up: str | Callable = "nearest_conv",
    classifier_activation: str | None = "auto",
    weights: str | Path | None = None,
    name: str = "r2_unet",
) -> keras.Model:
    """R2U-Net: recurrent residual blocks, whose convolutions look again at their own result.

    64 to 1024 channels; a recurrent convolution has one kernel, applied `recurrence + 1` times, so that a deeper
    recurrence costs time and no parameters. 39,105,089 parameters, of which 39,091,393 are trainable: the count of
    public code.

    Args:
        {recipe_args}
        {recurrent_args}

    {returns}

    Example:
        >>> model = r2_unet((64, 64, 3), filters=8, depth=2)
        >>> model.output_shape
        (None, 64, 64, 1)

    Reference: {reference}.
    """
    return _build_recurrent(locals())


@document("Alom et al. 2018, arXiv:1802.06955; Oktay et al. 2018, arXiv:1804.03999")
def ar2_unet(
    input_shape: Sequence[int | None] = (256, 256, 3),
    num_classes: int = 1,
    *,
    filters: int | Sequence[int] = 64,
    depth: int = 4,
    recurrence: int = 2,
    norm_per_step: bool = False,
    separable: bool = False,
    norm: str | None = "batch",
    activation: str = "relu",
    dropout: float = 0.0,
    up: str | Callable = "nearest_conv",
    classifier_activation: str | None = "auto",
    weights: str | Path | None = None,
    name: str = "ar2_unet",
) -> keras.Model:
    """AR2U-Net: recurrent residual blocks and attention gates.

    64 to 1024 channels; the 1x1 projection in front of each pair of recurrent convolutions is activated; gates at the
    scale of the skip, with normalization. 39,811,989 parameters.

    Two remarks. The published code calls its gates with the arguments swapped, so that the encoder's skips never
    reach the decoder; this one gates the skip, at the same count. Its README speaks of deconvolution where its code,
    and its count, are up-sampling and a 3x3 convolution, the default here; `up="transposed"` gives the other.

    Args:
        {recipe_args}
        {recurrent_args}

    {returns}

    Example:
        >>> model = ar2_unet((64, 64, 3), filters=8, depth=2)
        >>> model.output_shape
        (None, 64, 64, 1)

    Reference: {reference}.
    """
    return _build_recurrent(locals(), activate_projection=True, gate="same_scale")


@document("reconstructed after Yadav, Kolekar, Zope 2025, doi:10.1016/j.bspc.2024.107220")
def mod_r2au_net(
    input_shape: Sequence[int | None] = (256, 256, 3),
    num_classes: int = 1,
    *,
    filters: int | Sequence[int] = 49,
    depth: int = 4,
    recurrence: int = 3,
    norm_per_step: bool = False,
    separable: bool = False,
    norm: str | None = "batch",
    activation: str = "relu",
    dropout: float = 0.0,
    up: str | Callable = "transposed",
    classifier_activation: str | None = "auto",
    weights: str | Path | None = None,
    name: str = "mod_r2au_net",
) -> keras.Model:
    """Mod-R2AU-Net, a reconstruction: a lighter attention R2U-Net.

    49 to 784 channels, three recurrences, gates with normalization, transposed convolutions. 21,301,889 parameters
    (21,289,925 trainable) and 212.1 GFLOPs at 256x256; 21.3 million and 212 are published.

    A reconstruction, because the published script cannot be built (its first residual addition joins 3 and 16
    channels; it has no batch normalization, and its convolutions are not shared, against its README), the authors'
    figure shows a third network, and neither comes near the published 21.3 M parameters and 212 GFLOPs. This is the
    configuration of the recurrent attention U-Net family that meets both published figures within 0.1 %.

    Args:
        {recipe_args}
        {recurrent_args}

    {returns}

    Example:
        >>> model = mod_r2au_net((64, 64, 3), filters=7, depth=2)
        >>> model.output_shape
        (None, 64, 64, 1)

    Reference: {reference}.
    """
    return _build_recurrent(locals(), gate="same_scale")


def _build_recurrent(arguments: dict[str, Any], *, activate_projection: bool = False, **parts: Any) -> keras.Model:
    own = {name: arguments.pop(name) for name in ("recurrence", "norm_per_step")}
    block = partial(recurrent_res_block, **own, activate_projection=activate_projection)
    return build_recipe(arguments, block=block, **parts)
