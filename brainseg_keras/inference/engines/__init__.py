"""Engines: what runs a trained network, one file each, whose `read(path)` gives the network as `Opened`."""

import os
from typing import Any, NamedTuple

from brainseg_keras.inference.runner import Network


class Opened(NamedTuple):
    """A network as an engine has read it.

    Args:
        network: The function.
        inputs: Shape of each input, `(batch, height, width, channels)`; what is free is None or no number.
        outputs: Shape of each answer.
        padded: Each size of a batch costs it anew to get ready: batches are filled up to a few sizes.
        information: What the file itself says of the network, as `NetworkSpec.to_info` and an export give it.
        model: The Keras model behind it, or None.
    """

    network: Network
    inputs: list[tuple]
    outputs: list[tuple]
    padded: bool = False
    information: dict[str, Any] | None = None
    model: Any = None


def threads() -> int | None:
    """Give the number of threads that an engine may start: several processes on one machine share its cores.

    Returns:
        What OMP_NUM_THREADS says, which schedulers of clusters set and most libraries obey; None where it says nothing,
        and the engine takes all cores.

    Example:
        >>> threads() is None or threads() > 0
        True
    """
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(said) if said.isdigit() and int(said) > 0 else None
