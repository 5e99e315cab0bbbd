"""Which shapes a mask and a prediction may have, for losses and metrics alike."""

from typing import Any

from brainseg_keras.errors import InputError


def with_channels(y_true: Any, y_pred: Any) -> Any:
    """Give a mask a last axis where it has none, and check it.

    Args:
        y_true: Tensor (batch, [depth,] height, width), or with a last axis of 1 or as many channels as `y_pred`.
        y_pred: Tensor (batch, [depth,] height, width, channels).

    Returns:
        `y_true` with as many axes as `y_pred`.

    Raises:
        InputError: Shapes do not match.

    Example:
        >>> import numpy as np
        >>> with_channels(np.zeros((2, 8, 8)), np.zeros((2, 8, 8, 3))).shape
        (2, 8, 8, 1)
    """
    shape, received = tuple(y_pred.shape), tuple(y_true.shape)
    wide = (*received, 1) if len(received) == len(shape) - 1 else received
    if (
        len(shape) not in (4, 5)
        or len(wide) != len(shape)
        or any(None not in (a, b) and a != b for a, b in zip(wide[:-1], shape[:-1], strict=True))
        or wide[-1] not in (1, shape[-1])
    ):
        raise InputError(
            "y_pred must be (batch, height, width, channels) and y_true alike, or with a last axis of 1 or none. "
            f"Received: y_true.shape={received}, y_pred.shape={shape}. Resize the mask or add the missing axis."
        )
    return y_true if wide == received else y_true[..., None]
