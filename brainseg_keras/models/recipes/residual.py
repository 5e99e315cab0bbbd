"""U-Nets of residual blocks, without and with attention gates."""

from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from brainseg_keras.models.docstrings import document
from brainseg_keras.models.engine import build_recipe


@document("after Zhang, Liu, Wang 2018, arXiv:1711.10684")
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
    """Residual U-Net, the lightest of the recipes.

    16 to 256 channels. The first level is a plain pair of 3x3 convolutions; a block further on is a 1x1 and a 3x3
    convolution beside a 1x1 shortcut. Nearest-neighbor doubling. 1,210,513 parameters: the count of a public system
    for the LGG set. It takes its idea from ResUNet and is not that paper's network, whose blocks normalize before they
    convolve, halve by strides and have 64 to 512 channels.

    Args:
        {recipe_args}

    {returns}

    Example:
        >>> model = res_unet((None, None, 3), filters=8)
        >>> model.output_shape
        (None, None, None, 1)

    Reference: {reference}.
    """
    return build_recipe(locals(), block="res_1x1", first_block="conv")


@document("Oktay et al. 2018, arXiv:1804.03999; Zhang, Liu, Wang 2018, arXiv:1711.10684")
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
    normalization stands before the last activation. 39,090,377 parameters.

    The published system is separable: `separable=True`, 11,264,356 parameters. The default is not, as in every recipe.

    Args:
        {recipe_args}

    {returns}

    Example:
        >>> model = attention_res_unet((128, 128, 3), filters=8, separable=True)
        >>> model.output_shape
        (None, 128, 128, 1)

    Reference: {reference}.
    """
    return build_recipe(locals(), block="res", gate="coarse", head_norm=True)
