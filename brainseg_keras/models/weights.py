"""Weights: those that ship with the package, by name, and those of a file; checked before they are loaded."""

import contextlib
import hashlib
import io
import json
import logging
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import keras

from brainseg_keras.errors import InputError

_FOLDER = "weights"
_announced: set[str] = set()
_log = logging.getLogger(__name__)


def list_pretrained() -> list[str]:
    """Name the weights that ship.

    Returns:
        Names for `load_pretrained`, `weights=` and `--model`.

    Example:
        >>> list_pretrained()
        ['lgg']
    """
    return sorted(entry.name[: -len(".json")] for entry in _folder().iterdir() if entry.name.endswith(".json"))


@cache
def pretrained_info(name: str) -> dict[str, Any]:
    """Say what stands beside shipped weights: architecture and arguments, preprocessing, data, license, checksum.

    Args:
        name: One of `list_pretrained()`.

    Returns:
        As in run.json, with `license`, `sha256` and `postprocessing`.

    Raises:
        InputError: An unknown name.

    Example:
        >>> pretrained_info("lgg")["license"]
        'CC BY-NC-SA 4.0'
    """
    if name not in list_pretrained():
        raise InputError(f"No weights are called {name!r}. Known: {', '.join(list_pretrained())}.")
    return json.loads((_folder() / f"{name}.json").read_text(encoding="utf-8"))


def load_shipped(model: keras.Model, name: str) -> None:
    """Load shipped weights into the model that they were trained with.

    Args:
        model: Made by the recipe with the arguments of `pretrained_info(name)`; height and width are free.
        name: One of `list_pretrained()`.

    Raises:
        InputError: Another model; the message has the call that makes the right one.
    """
    info = pretrained_info(name)
    with resources.as_file(_folder() / f"{name}.weights.h5") as path:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != info["sha256"]:
            raise InputError(f"The weights {path} are damaged (sha256 {found[:12]}...). Install the package again.")
        try:
            load_weights(model, path)
        except InputError as error:
            arguments = {key: tuple(v) if isinstance(v, list) else v for key, v in info["arguments"].items()}
            call = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            raise InputError(
                f"weights={name!r} fit another network than this one. Build it so: "
                f"{info['architecture']}({call}, weights={name!r})"
            ) from error
    if name not in _announced:
        _announced.add(name)
        _log.warning("The weights %r are under %s, from %s.", name, info["license"], info["data"])


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Load the weights of a `.weights.h5` or `.keras` file of the same architecture into `model`.

    Raises:
        InputError: When the file is missing, of another kind or damaged, or belongs to another architecture.
    """
    path = Path(path)
    if not path.name.endswith((".weights.h5", ".keras")):
        raise InputError(f"weights must be a .weights.h5 or .keras file. Received: weights={str(path)!r}.")
    if not path.is_file():
        raise InputError(f"weights: there is no file {str(path)!r}. Check the path, or give weights=None.")
    try:
        stored = _stored_layers(path)
    except Exception as error:  # whatever zip, HDF5 or JSON readers raise on a damaged file
        raise InputError(f"weights: {str(path)!r} cannot be read as a Keras file ({error}). Save it anew.") from error
    # Keras matches layers by their class and order, and passes over what a file has in excess: without this check
    # the weights of another architecture could land in the wrong layers without a word.
    expected = {layer.name for layer in model.layers if layer.weights}
    if stored != expected:
        differing = sorted(stored ^ expected)
        raise InputError(
            f"weights: {str(path)!r} does not fit model {model.name!r}: {len(differing)} layers are in one of the two "
            f"only, such as {differing[:3]}. Build the model with the arguments with which the file was made."
        )
    try:
        model.load_weights(path)
    except Exception as error:
        raise InputError(
            f"weights: {str(path)!r} does not fit model {model.name!r}, whose layers have the same names but other "
            f"shapes. Build the model with the arguments (input_shape, num_classes, filters) with which the file was "
            f"made. Keras said: {str(error).splitlines()[0]}"
        ) from error


def _stored_layers(path):
    """The names of the layers whose weights a file holds."""
    with contextlib.redirect_stdout(io.StringIO()):  # the editor prints a summary
        editor = keras.saving.KerasFileEditor(str(path))
    paths = (f"/layers/{key}" for key in editor.weights_dict.get("layers", {}))
    return {editor.object_metadata[path]["name"] for path in paths}


def _folder() -> Any:
    return resources.files("brainseg_keras") / _FOLDER
