"""Where the head is in a slice."""

import cv2
import numpy as np

#: Scalp and skull, as a share of the slice's shorter side: some 12 mm of a field of view of 240 mm.
_RIM = 0.05


def fill_head(head: np.ndarray) -> np.ndarray:
    """Fill the outline of a head, in which fluid and bone may be as dark as the background.

    Args:
        head: Array of shape `(height, width)`, bool: what is brighter than the background.

    Returns:
        Array of the same shape, bool.

    Example:
        >>> ring = np.pad(np.zeros((2, 2), bool), 1, constant_values=True)
        >>> int(fill_head(ring).sum())
        16
    """
    contours, _ = cv2.findContours(head.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.drawContours(np.zeros(head.shape, np.uint8), contours, -1, 1, cv2.FILLED) > 0


def inner_head(heads: np.ndarray) -> np.ndarray:
    """Take the outer rim, which is scalp and skull, from heads.

    Args:
        heads: Array of shape `(slices, height, width)`, bool: what is brighter than the background.

    Returns:
        Array of the same shape, bool: what lies at least a twentieth of the shorter side within the outline.

    Example:
        >>> int(inner_head(np.pad(np.ones((1, 20, 20), bool), ((0, 0), (10, 10), (10, 10)))).sum())
        256
    """
    rim = max(1, round(_RIM * min(heads.shape[1:])))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * rim + 1, 2 * rim + 1))
    # Closed first: where the scalp is open its bone would count as background, and the brain as the rim.
    closed = (cv2.morphologyEx(head.astype(np.uint8), cv2.MORPH_CLOSE, disc) > 0 for head in heads)
    return np.stack([cv2.erode(fill_head(head).astype(np.uint8), disc) > 0 for head in closed])
