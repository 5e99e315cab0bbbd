"""The recipes: seven published U-Nets, each `build_unet` with its own block, gate, up-sampling and widths.

The default arguments give the published network, to the parameter. The recipes share one signature; a name and a
`reference` attribute are all that the tables need.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import keras

from brainseg_keras.models.blocks import BlockStyle, conv_block, recurrent_res_block
from brainseg_keras.models.builder import build_unet, document


def _recipe(reference: str) -> Callable:
    """Decorator: complete the docstring and keep the paper's reference beside the function."""

    def decorate(function: Callable) -> Callable:
        function = document(function)
        if function.__doc__:
            function.__doc__ = function.__doc__.replace("{reference}", reference)
        function.reference = reference
        return function

    return decorate


@_recipe("Ronneberger, Fischer, Brox 2015, arXiv:1505.04597")
def unet(
    input_shape: Sequence[int | None] = (256, 256, 3),
    num_classes: int = 1,
    *,
    filters: int | Sequence[int] = 64,
    depth: int = 4,
    separable: bool = False,
    norm: str | None = "batch",
    activation: str = "relu",
    dropout: float = 0.0,
    up: str | Callable = "nearest_conv",
    classifier_activation: str | None = "auto",
    weights: str | Path | None = None,
    name: str = "unet",
) -> keras.Model:
    """U-Net with batch normalization: the baseline that the others have to beat.

    Two 3x3 convolutions a level, 64 to 1024 channels. Unlike the paper's, the convolutions are padded, so that the
    mask is as large as the image, and the decoder doubles by nearest neighbour before a 3x3 convolution.
    34,540,737 parameters, of which 34,527,041 are trainable.

    Args:
        {recipe_args}

    {returns}

    Example:
        >>> model = unet((128, 128, 3), filters=8)
        >>> model.output_shape
        (None, 128, 128, 1)

    Reference: {reference}.
    """
    return build_unet(
        input_shape,
        num_classes,
        filters=filters,
        depth=depth,
        block="conv",
        up=up,
        style=BlockStyle(separable, norm, activation, dropout),
        classifier_activation=classifier_activation,
        weights=weights,
        name=name,
    )


@_recipe("Oktay et al. 2018, arXiv:1804.03999")
def attention_unet(
    input_shape: Sequence[int | None] = (128, 128, 1),
    num_classes: int = 1,
    *,
    filters: int | Sequence[int] = 32,
    depth: int = 4,
    separable: bool = False,
    norm: str | None = "batch",
    activation: str = "relu",
    dropout: float = 0.0,
    up: str | Callable = "nearest",
    classifier_activation: str | None = "auto",
    weights: str | Path | None = None,
    name: str = "attention_unet",
) -> keras.Model:
    """Attention U-Net for single slices of BraTS: gates decide which part of each skip connection passes.

    32 to 512 channels; nearest-neighbour doubling without a convolution; additive gates at the scale of the skip,
    without normalization. 8,120,421 parameters.

    Args:
        {recipe_args}

    {returns}

    Example:
        >>> model = attention_unet((128, 128, 4), 4, filters=8)
        >>> model.output_shape
        (None, 128, 128, 4)

    Reference: {reference}.
    """
    return build_unet(
        input_shape,
        num_classes,
        filters=filters,
        depth=depth,
        block="conv",
        gate="same_scale_plain",
        up=up,
        style=BlockStyle(separable, norm, activation, dropout),
        classifier_activation=classifier_activation,
        weights=weights,
        name=name,
    )


@_recipe("Zhang, Liu, Wang 2018, arXiv:1711.10684")
def res_unet(
    input_shape: Sequence[int | None] = (256, 256, 3),
    num_classes: int = 1,
    *,
    filters: int | Sequence[int] = 16,
    depth: int = 4,
    separable: bool = False,
    norm: str | None = "batch",
    activation: str = "relu",
    dropout: float = 0.0,
    up: str | Callable = "nearest",
    classifier_activation: str | None = "auto",
    weights: str | Path | None = None,
    name: str = "res_unet",
) -> keras.Model:
    """ResUNet: residual blocks, light enough for a laptop.

    16 to 256 channels. The first level is a plain pair of 3x3 convolutions; a block further on is a 1x1 and a 3x3
    convolution beside a 1x1 shortcut. Nearest-neighbour doubling. 1,210,513 parameters.

    Args:
        {recipe_args}

    {returns}

    Example:
        >>> model = res_unet((None, None, 3), filters=8)
        >>> model.output_shape
        (None, None, None, 1)

    Reference: {reference}.
    """
    return build_unet(
        input_shape,
        num_classes,
        filters=filters,
        depth=depth,
        block="res_1x1",
        first_block=conv_block,
        up=up,
        style=BlockStyle(separable, norm, activation, dropout),
        classifier_activation=classifier_activation,
        weights=weights,
        name=name,
    )


@_recipe("Oktay et al. 2018, arXiv:1804.03999; Zhang, Liu, Wang 2018, arXiv:1711.10684")
def attention_res_unet(
    input_shape: Sequence[int | None] = (256, 256, 3),
    num_classes: int = 1,
    *,
    filters: int | Sequence[int] = 64,
    depth: int = 4,
    separable: bool = False,
    norm: str | None = "batch",
    activation: str = "relu",
    dropout: float = 0.0,
    up: str | Callable = "nearest",
    classifier_activation: str | None = "auto",
    weights: str | Path | None = None,
    name: str = "attention_res_unet",
) -> keras.Model:
    """Attention residual U-Net: residual blocks, and gates driven by the coarser level.

    64 to 1024 channels; the gate compares the skip with the level below, and a 1x1 convolution follows it; a
    normalization stands before the last activation. 39,090,377 parameters; 11,264,356 with `separable=True`.

    Args:
        {recipe_args}

    {returns}

    Example:
        >>> model = attention_res_unet((128, 128, 3), filters=8, separable=True)
        >>> model.output_shape
        (None, 128, 128, 1)

    Reference: {reference}.
    """
    return build_unet(
        input_shape,
        num_classes,
        filters=filters,
        depth=depth,
        block="res",
        gate="coarse",
        head_norm=True,
        up=up,
        style=BlockStyle(separable, norm, activation, dropout),
        classifier_activation=classifier_activation,
        weights=weights,
        name=name,
    )


@_recipe("Alom et al. 2018, arXiv:1802.06955")
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
    recurrence costs time and no parameters. 39,105,089 parameters, of which 39,091,393 are trainable.

    Args:
        {recipe_args}
        recurrence: How often a recurrent convolution feeds its result back; its kernel is applied
            `recurrence + 1` times.
        norm_per_step: Give each application a normalization of its own, instead of one that they share.

    {returns}

    Example:
        >>> model = r2_unet((64, 64, 3), filters=8, depth=2)
        >>> model.output_shape
        (None, 64, 64, 1)

    Reference: {reference}.
    """
    block = partial(recurrent_res_block, recurrence=recurrence, norm_per_step=norm_per_step)
    return build_unet(
        input_shape,
        num_classes,
        filters=filters,
        depth=depth,
        block=block,
        up=up,
        style=BlockStyle(separable, norm, activation, dropout),
        classifier_activation=classifier_activation,
        weights=weights,
        name=name,
    )


@_recipe("Alom et al. 2018, arXiv:1802.06955; Oktay et al. 2018, arXiv:1804.03999")
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
        recurrence: How often a recurrent convolution feeds its result back; its kernel is applied
            `recurrence + 1` times.
        norm_per_step: Give each application a normalization of its own, instead of one that they share.

    {returns}

    Example:
        >>> model = ar2_unet((64, 64, 3), filters=8, depth=2)
        >>> model.output_shape
        (None, 64, 64, 1)

    Reference: {reference}.
    """
    block = partial(recurrent_res_block, recurrence=recurrence, norm_per_step=norm_per_step, activate_projection=True)
    return build_unet(
        input_shape,
        num_classes,
        filters=filters,
        depth=depth,
        block=block,
        gate="same_scale",
        up=up,
        style=BlockStyle(separable, norm, activation, dropout),
        classifier_activation=classifier_activation,
        weights=weights,
        name=name,
    )


@_recipe("Yadav, Kolekar, Zope 2025, doi:10.1016/j.bspc.2024.107220")
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
    (21,289,925 trainable) and 212.1 GFLOPs at 256x256.

    A reconstruction, because the published script cannot be built (its first residual addition joins 3 and 16
    channels; it has no batch normalization, and its convolutions are not shared, against its README), the authors'
    figure shows a third network, and neither comes near the published 21.3 M parameters and 212 GFLOPs. This is the
    configuration of the recurrent attention U-Net family that meets both published figures within 0.1 %.

    Args:
        {recipe_args}
        recurrence: How often a recurrent convolution feeds its result back; its kernel is applied
            `recurrence + 1` times.
        norm_per_step: Give each application a normalization of its own, instead of one that they share.

    {returns}

    Example:
        >>> model = mod_r2au_net((64, 64, 3), filters=7, depth=2)
        >>> model.output_shape
        (None, 64, 64, 1)

    Reference: {reference}.
    """
    block = partial(recurrent_res_block, recurrence=recurrence, norm_per_step=norm_per_step)
    return build_unet(
        input_shape,
        num_classes,
        filters=filters,
        depth=depth,
        block=block,
        gate="same_scale",
        up=up,
        style=BlockStyle(separable, norm, activation, dropout),
        classifier_activation=classifier_activation,
        weights=weights,
        name=name,
    )
