"""Weights that ship with the package: built, checked and loaded by name."""

import hashlib
import json
import logging
from functools import cache
from importlib import resources
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
    """Say what stands beside shipped weights: architecture and arguments, preprocessing, data, licence, checksum.

    Args:
        name: One of `list_pretrained()`.

    Returns:
        As in run.json, with `licence`, `sha256` and `postprocessing`.

    Raises:
        InputError: An unknown name.

    Example:
        >>> pretrained_info("lgg")["licence"]
        'CC BY-NC-SA 4.0'
    """
    if name not in list_pretrained():
        raise InputError(f"No weights are called {name!r}. Known: {', '.join(list_pretrained())}.")
    return json.loads((_folder() / f"{name}.json").read_text(encoding="utf-8"))


def load_pretrained(name: str = "lgg") -> keras.Model:
    """Build a network with the weights that ship with the package.

    Args:
        name: One of `list_pretrained()`.

    Returns:
        The model, not compiled, in float32.

    Raises:
        InputError: An unknown name, or a file that is not the one that was shipped.

    Example:
        >>> load_pretrained("lgg").output_shape
        (None, 128, 128, 1)
    """
    from brainseg_keras.models import build_model

    info = pretrained_info(name)
    model = build_model(info["architecture"], **info["arguments"])
    load_shipped(model, name)
    return model


def load_shipped(model: keras.Model, name: str) -> None:
    """Load shipped weights into the model that they were trained with.

    Args:
        model: Made by the recipe with the arguments of `pretrained_info(name)`; height and width are free.
        name: One of `list_pretrained()`.

    Raises:
        InputError: Another model; the message has the call that makes the right one.
    """
    from brainseg_keras.models.builder import load_weights

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
        _log.warning("The weights %r are under %s, from %s.", name, info["licence"], info["data"])


def _folder() -> Any:
    return resources.files("brainseg_keras") / _FOLDER
