"""The weights that ship: what there is and what stands beside it, read without Keras."""

import hashlib
import json
import logging
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from brainseg_keras.errors import InputError

#: Of each shipped network: the file's ending, and the entry of its JSON that holds the file's checksum.
WEIGHTS, ONNX = (".weights.h5", "sha256"), (".onnx", "onnx_sha256")
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
    """Say what stands beside shipped weights: architecture and arguments, preprocessing, data, license, checksums.

    Args:
        name: One of `list_pretrained()`.

    Returns:
        As in run.json, with `license`, `sha256`, `onnx_sha256` and `postprocessing`.

    Raises:
        InputError: An unknown name.

    Example:
        >>> pretrained_info("lgg")["license"]
        'CC BY-NC-SA 4.0'
    """
    if name not in list_pretrained():
        raise InputError(f"No weights are called {name!r}. Known: {', '.join(list_pretrained())}.")
    return json.loads((_folder() / f"{name}.json").read_text(encoding="utf-8"))


def shipped_file(name: str, kind: tuple[str, str] = WEIGHTS) -> Path:
    """Find a file of a shipped network, and find it whole.

    Args:
        name: One of `list_pretrained()`.
        kind: `WEIGHTS` for Keras, or `ONNX`.

    Returns:
        Its path.

    Raises:
        InputError: An unknown name, or a file that is not the one that was shipped.

    Example:
        >>> shipped_file("lgg", ONNX).name
        'lgg.onnx'
    """
    ending, entry = kind
    path = Path(str(_folder() / f"{name}{ending}"))
    found = file_digest(path) if path.is_file() else "none: it is missing"
    if found != pretrained_info(name)[entry]:
        raise InputError(f"The weights {path} are damaged (sha256 {found[:12]}...). Install the package again.")
    return path


def file_digest(path: Path) -> str:
    """Compute the sha256 of a file."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def announce(name: str) -> None:
    """Say under which license shipped weights are, once a process."""
    if name not in _announced:
        _announced.add(name)
        info = pretrained_info(name)
        _log.warning("The weights %r are under %s, from %s.", name, info["license"], info["data"])


def _folder() -> Any:
    return resources.files("brainseg_keras") / "weights"
