"""The JSON beside a network: one way to read it, whatever of the network it tells."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from brainseg_keras.errors import InputError, reading

#: Of the JSON that this package writes beside a network.
VERSION = 1
#: The cure where what tells of the network itself is damaged.
RESTORE = "Restore it; without it the network's preprocessing and channels are unknown."


def read_json(path: Path, cure: str = RESTORE, read: Callable[[Mapping[str, Any]], Any] = dict) -> Any:
    """Read a JSON file of names and values.

    Args:
        path: The file.
        cure: What to do where it is damaged.
        read: Makes something of its names and values; by default they are what comes back.

    Returns:
        What `read` gives.

    Raises:
        InputError: The file cannot be read, is not JSON, holds no names with values, is of an unknown version, or is
            not what `read` takes.

    Example:
        >>> read_json(Path("no/such/run.json"))
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: no/such/run.json cannot be read as JSON (...
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}). {cure}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no names with values, but {type(content).__name__}. {cure}")
    with reading(path, ""):
        check_version(content)
    with reading(path, cure):
        return read(content)


def check_version(content: Mapping[str, Any]) -> None:
    """Refuse what another version of this package wrote; what says no version was written before there were any.

    Args:
        content: Of a JSON file.

    Raises:
        InputError: An unknown version.

    Example:
        >>> check_version({"version": 1})
    """
    version = content.get("version", VERSION)
    if isinstance(version, bool) or version != VERSION:
        raise InputError(
            f"it is of version {version!r}, and this package reads version {VERSION}. Update brainseg_keras, or use "
            "the one that wrote it."
        )
