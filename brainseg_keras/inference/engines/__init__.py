"""Engines: what runs a trained network, one file each, whose `read(path)` gives the network as `Opened`."""

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
