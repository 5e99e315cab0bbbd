"""What the weights are of that a run starts from, as the JSON beside them says. Loads without Keras."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from brainseg_keras.information import read_json
from brainseg_keras.models.shipped import list_pretrained, pretrained_info
from brainseg_keras.spec import NetworkSpec
from brainseg_keras.training.options import RECIPE, RECURRENT_RECIPE


def beside_weights(init: str) -> NetworkSpec | None:
    """Describe the network that weights are of.

    Args:
        init: A run folder, a file of weights, or a shipped name.

    Returns:
        The description; None where nothing lies beside the file that says it.

    Raises:
        InputError: A damaged run.json.

    Example:
        >>> beside_weights("lgg").channels, beside_weights("lone.weights.h5")
        (('T1', 'FLAIR', 'T1ce'), None)
    """
    if init in list_pretrained():
        return NetworkSpec.from_info(pretrained_info(init))
    path = Path(init)
    beside = (path if path.is_dir() else path.parent) / "run.json"
    if not beside.is_file() or not (path.is_dir() or path.suffix == ".keras"):
        return None
    return read_json(beside, read=NetworkSpec.from_info)


def network_settings(spec: NetworkSpec) -> dict[str, Any]:
    """Give the settings of a training that make a network.

    Args:
        spec: What it is.

    Returns:
        Fields of TrainingConfig; those that its recipe's own defaults decide are left out.

    Example:
        >>> network_settings(beside_weights("lgg"))["filters"]
        16
    """
    chosen = ("separable", "dropout", *RECIPE, *RECURRENT_RECIPE)
    arguments = {name: spec.arguments[name] for name in chosen if name in spec.arguments}
    if "norm" in arguments and arguments["norm"] is None:
        arguments["norm"] = "none"
    if spec.architecture is not None:
        arguments["architecture"] = spec.architecture
    if spec.target.named:
        arguments["target"] = spec.target.name
    return arguments | {"context": spec.context} | asdict(spec.preprocessing)
