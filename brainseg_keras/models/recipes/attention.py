"""U-Nets whose blocks are plain and whose skip connections pass attention gates."""

from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from brainseg_keras.models.docstrings import document
from brainseg_keras.models.engine import build_recipe


@document("Oktay et al. 2018, arXiv:1804.03999")
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

    32 to 512 channels; nearest-neighbor doubling without a convolution; additive gates at the scale of the skip,
    without normalization. 8,120,421 parameters: the count of a public system for slices of BraTS.

    Args:
        {recipe_args}

    {returns}

    Example:
        >>> model = attention_unet((128, 128, 4), 4, filters=8)
        >>> model.output_shape
        (None, 128, 128, 4)

    Reference: {reference}.
    """
    return build_recipe(locals(), block="conv", gate="same_scale_plain")
