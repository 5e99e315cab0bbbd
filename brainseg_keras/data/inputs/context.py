"""2.5-D: the slices above and below a slice, as further channels."""

import numpy as np


def neighbor_indices(count: int, context: int) -> np.ndarray:
    """Say which slices stand around each slice of a volume.

    Args:
        count: Slices of the volume, in order.
        context: Neighbors on each side; 0 for none.

    Returns:
        Array of shape `(count, 2 * context + 1)`: indices in the volume, from below to above. Beyond the volume's ends
        the last slice stands again.

    Example:
        >>> neighbor_indices(3, 1).tolist()
        [[0, 0, 1], [0, 1, 2], [1, 2, 2]]
    """
    steps = np.arange(-context, context + 1)
    return np.clip(np.arange(count)[:, np.newaxis] + steps, 0, max(count - 1, 0))


def stack_neighbors(images: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Put slices behind each other as channels.

    Args:
        images: Array of shape `(slices, height, width, channels)`.
        indices: Array of shape `(batch, neighbors)`: which slices make each image.

    Returns:
        Array of shape `(batch, height, width, neighbors * channels)`: all channels of the lowest slice first.

    Example:
        >>> images = np.arange(3).reshape(3, 1, 1, 1)
        >>> stack_neighbors(images, neighbor_indices(3, 1))[1, 0, 0].tolist()
        [0, 1, 2]
    """
    if indices.shape[1] == 1:
        return images[indices[:, 0]]
    batch, neighbors = indices.shape
    picked = np.moveaxis(images[indices], 1, -2)
    return np.ascontiguousarray(picked).reshape(batch, *images.shape[1:3], neighbors * images.shape[-1])


def repeat_range(intensity: np.ndarray, context: int) -> np.ndarray:
    """Repeat the intensity range of each channel for the neighbors.

    Args:
        intensity: Array of shape `(..., channels, 2)`.
        context: Neighbors on each side.

    Returns:
        Array of shape `(..., (2 * context + 1) * channels, 2)`.

    Example:
        >>> repeat_range(np.array([[0.0, 1.0], [2.0, 3.0]]), 1).shape
        (6, 2)
    """
    if not context:
        return intensity
    return np.concatenate([intensity] * (2 * context + 1), axis=-2)
