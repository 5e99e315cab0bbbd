"""2.5-D: the slices above and below a slice, as further channels."""

import numpy as np


def neighbour_places(count: int, context: int) -> np.ndarray:
    """Say which slices stand around each slice of a volume.

    Args:
        count: Slices of the volume, in order.
        context: Neighbours on each side; 0 for none.

    Returns:
        Array of shape `(count, 2 * context + 1)`: places in the volume, from below to above. Beyond the volume's ends
        the last slice stands again.

    Example:
        >>> neighbour_places(3, 1).tolist()
        [[0, 0, 1], [0, 1, 2], [1, 2, 2]]
    """
    steps = np.arange(-context, context + 1)
    return np.clip(np.arange(count)[:, np.newaxis] + steps, 0, max(count - 1, 0))


def stack_neighbours(images: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Put slices behind each other as channels.

    Args:
        images: Array of shape `(slices, height, width, channels)`.
        places: Array of shape `(batch, neighbours)`: which slices make each image.

    Returns:
        Array of shape `(batch, height, width, neighbours * channels)`: all channels of the lowest slice first.

    Example:
        >>> images = np.arange(3).reshape(3, 1, 1, 1)
        >>> stack_neighbours(images, neighbour_places(3, 1))[1, 0, 0].tolist()
        [0, 1, 2]
    """
    if places.shape[1] == 1:
        return images[places[:, 0]]
    batch, neighbours = places.shape
    picked = np.moveaxis(images[places], 1, -2)
    return np.ascontiguousarray(picked).reshape(batch, *images.shape[1:3], neighbours * images.shape[-1])


def repeat_range(intensity: np.ndarray, context: int) -> np.ndarray:
    """Repeat the intensity range of each channel for the neighbours.

    Args:
        intensity: Array of shape `(..., channels, 2)`.
        context: Neighbours on each side.

    Returns:
        Array of shape `(..., (2 * context + 1) * channels, 2)`.

    Example:
        >>> repeat_range(np.array([[0.0, 1.0], [2.0, 3.0]]), 1).shape
        (6, 2)
    """
    if not context:
        return intensity
    return np.concatenate([intensity] * (2 * context + 1), axis=-2)
