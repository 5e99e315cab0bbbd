"""What every network has to do, whichever engine runs it: from pictures to pictures of the same size, or words."""

import numpy as np

from brainseg_keras.errors import InputError, first_line
from brainseg_keras.inference.engines import Opened
from brainseg_keras.inference.runner import Network


def picture_shapes(opened: Opened, name: str) -> tuple[tuple[int | None, int | None, int], int]:
    """Look at the shapes of a network.

    Args:
        opened: The network.
        name: What messages call it.

    Returns:
        Height, width and channels of the input, None where any goes; and the channels of the answer.

    Raises:
        InputError: Not from one picture to one picture.
    """
    inputs, outputs = opened.inputs, opened.outputs
    shapes = [tuple(size if isinstance(size, int) and size > 0 else None for size in s) for s in (*inputs, *outputs)]
    pictures = len(inputs) == len(outputs) == 1 and all(len(shape) == 4 and shape[3] for shape in shapes)
    # A side that is left open goes with any.
    if not pictures or any(a != b for a, b in zip(shapes[0][1:3], shapes[1][1:3], strict=True) if a and b):
        raise InputError(
            f"{name} does not go from pictures (batch, height, width, channels) to pictures of the same size. "
            f"Received: inputs {inputs}, outputs {outputs}. Give a network for segmentation, channels last."
        )
    return shapes[0][1:], shapes[1][3]


def checked(opened: Opened, name: str) -> Opened:
    """Refuse a network of other shapes, and let what it raises, on a size that it cannot take, say which one it was.

    Args:
        opened: The network.
        name: What messages call it.

    Returns:
        The network.

    Raises:
        InputError: Not from one picture to one picture.
    """
    picture_shapes(opened, name)
    return opened._replace(network=_naming(opened.network, name))


def _naming(network: Network, name: str) -> Network:
    def call(batch: np.ndarray) -> np.ndarray:
        try:
            answer = network(batch)
        except Exception as error:  # each engine has kinds of its own
            raise InputError(
                f"{name} cannot take slices of {batch.shape[1]} x {batch.shape[2]} pixels and {batch.shape[3]} "
                f"channels ({first_line(error)}). Give it the size that it was trained with."
            ) from error
        if np.isnan(answer).any():
            raise InputError(f"{name} answers NaN: its weights are damaged. Restore it, or train it again.")
        return answer

    return call
