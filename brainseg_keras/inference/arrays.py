"""Arrays that a person hands to a network: brought to slices with channels, or refused in words."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from brainseg_keras.errors import InputError


def as_slices(images: Any, channels: Sequence[str]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Bring a volume or a lone slice to `(slices, height, width, channels)`.

    Args:
        images: Array of that shape, or `(height, width, channels)`; where there is one channel its axis may be absent.
        channels: Names of the network's sequences.

    Returns:
        The slices, and the shape that a mask of them has: that of `images` without channels.

    Raises:
        InputError: Another shape, or values that are no numbers.

    Example:
        >>> slices, shape = as_slices(np.zeros((40, 50)), ("FLAIR",))
        >>> slices.shape, shape
        ((1, 40, 50, 1), (40, 50))
    """
    array, count = np.asarray(images), len(channels)
    shape = array.shape
    if array.ndim in (3, 4) and shape[-1] == count:
        shape = shape[:-1]
    elif count > 1 or array.ndim not in (2, 3):
        raise InputError(_expected(array, channels))
    slices = array.reshape((*(shape if len(shape) == 3 else (1, *shape)), count))
    check_slices(slices, channels)
    return slices, shape


def check_slices(images: np.ndarray, channels: Sequence[str]) -> None:
    """Refuse what is not `(slices, height, width, channels)` with a network's channels.

    Args:
        images: Any array.
        channels: Names of the network's sequences.

    Raises:
        InputError: Another shape, no slice, or values that are no numbers.

    Example:
        >>> check_slices(np.zeros((2, 40, 50, 1)), ("FLAIR",))
    """
    if np.ndim(images) != 4 or np.shape(images)[-1] != len(channels) or not np.size(images):
        raise InputError(_expected(np.asarray(images), channels))
    if np.asarray(images).dtype.kind not in "uif":
        raise InputError(f"Images are numbers. Received: an array of {np.asarray(images).dtype}.")


def _expected(array: np.ndarray, channels: Sequence[str]) -> str:
    return (
        f"This network takes images of shape (slices, height, width, {len(channels)}), whose last axis holds "
        f"{', '.join(channels)}. Received: {array.shape}. Put the sequences into the last axis, in this order."
    )
