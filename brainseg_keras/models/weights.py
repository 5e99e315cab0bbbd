"""Weights into a network: those that ship with the package, by name, and those of a file; checked before that."""

import contextlib
import io
from pathlib import Path

import keras
import numpy as np

from brainseg_keras.errors import InputError, first_line
from brainseg_keras.models.shipped import announce, pretrained_info, shipped_file


def load_shipped(model: keras.Model, name: str) -> None:
    """Load shipped weights into the model that they were trained with.

    Args:
        model: Made by the recipe with the arguments of `pretrained_info(name)`; height and width are free.
        name: One of `list_pretrained()`.

    Raises:
        InputError: Another model; the message has the call that makes the right one.
    """
    info, file = pretrained_info(name), shipped_file(name)
    try:
        load_weights(model, file)
    except InputError as error:
        arguments = {key: tuple(v) if isinstance(v, list) else v for key, v in info["arguments"].items()}
        call = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise InputError(
            f"weights={name!r} fit another network than this one. Build it so: "
            f"{info['architecture']}({call}, weights={name!r})"
        ) from error
    announce(name)


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Load the weights of a `.weights.h5` or `.keras` file of the same architecture into `model`.

    Raises:
        InputError: When the file is missing, of another kind or damaged, or belongs to another architecture.
    """
    # Keras matches layers by their class and order, and passes over what a file has in excess: without this check
    # the weights of another architecture could land in the wrong layers without a word.
    stored = {name: [tuple(array.shape) for array in arrays] for name, arrays in stored_weights(path).items()}
    expected = {
        layer.name: [tuple(weight.shape) for weight in layer.weights] for layer in model.layers if layer.weights
    }
    if stored.keys() != expected.keys():
        differing = sorted(stored.keys() ^ expected.keys())
        raise InputError(
            f"weights: {str(path)!r} does not fit model {model.name!r}: {len(differing)} layers are in one of the two "
            f"only, such as {differing[:3]}. Build the model with the arguments with which the file was made."
        )
    # Before Keras looks, which would say it of each layer in a warning of its own.
    if other := next((name for name in expected if expected[name] != stored[name]), None):
        raise InputError(
            f"weights: {str(path)!r} does not fit model {model.name!r}, whose layers have the same names but other "
            f"shapes: {other} {expected[other]}, in the file {stored[other]}. Build the model with the arguments "
            "(input_shape, num_classes, filters) with which the file was made."
        )
    try:
        model.load_weights(path)
    except Exception as error:
        raise InputError(f"weights: {str(path)!r} cannot be loaded ({first_line(error)}). Save it anew.") from error


def stored_weights(path: str | Path) -> dict[str, list[np.ndarray]]:
    """Read the weights of a `.weights.h5` or `.keras` file.

    Args:
        path: The file.

    Returns:
        For the name of each layer that has weights, these in the order of `layer.weights`.

    Raises:
        InputError: When the file is missing, of another kind or damaged.
    """
    path = Path(path)
    if not path.name.endswith((".weights.h5", ".keras")):
        raise InputError(f"weights must be a .weights.h5 or .keras file. Received: weights={str(path)!r}.")
    if not path.is_file():
        raise InputError(f"weights: there is no file {str(path)!r}. Check the path, or give weights=None.")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the editor prints a summary
            editor = keras.saving.KerasFileEditor(str(path))
        found = {}
        for key, weights in editor.weights_dict.get("layers", {}).items():
            numbers = sorted(filter(str.isdigit, weights), key=int)
            found[editor.object_metadata[f"/layers/{key}"]["name"]] = [weights[number] for number in numbers]
        return found
    except Exception as error:  # whatever zip, HDF5 or JSON readers raise on a damaged file
        raise InputError(f"weights: {str(path)!r} cannot be read as a Keras file ({error}). Save it anew.") from error
