"""The size of pixels that a file says."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brainseg_keras.errors import InputError


def checked_spacing(path: Path, steps: Sequence[Any]) -> tuple[float, float, float]:
    """Give the spacing that a file says, or refuse it.

    Args:
        path: The file, for the message.
        steps: Between slices, rows and columns.

    Returns:
        Millimeters between slices, rows and columns.

    Raises:
        InputError: Not three finite numbers above 0.
    """
    spacing = tuple(map(float, steps))
    if len(spacing) != 3 or not all(0 < step < math.inf for step in spacing):
        raise InputError(
            f"{path} says that its pixels measure {spacing} mm. Expected three numbers above 0: correct them in it."
        )
    return spacing
