"""The plain U-Net: the baseline of the others."""

from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from brainseg_keras.models.docstrings import document
from brainseg_keras.models.engine import build_recipe


@document("Ronneberger, Fischer, Brox 2015, arXiv:1505.04597")
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
    mask is as large as the image, and the decoder doubles by nearest neighbor before a 3x3 convolution.
    34,540,737 parameters, of which 34,527,041 are trainable: the count of public code.

    Args:
        {recipe_args}

    {returns}

    Example:
        >>> model = unet((128, 128, 3), filters=8)
        >>> model.output_shape
        (None, 128, 128, 1)

    Reference: {reference}.
    """
    return build_recipe(locals(), block="conv")
