"""What stands beside a network's file: run.json of its run folder, or the JSON of an exported file."""

import json
from pathlib import Path
from typing import Any

from brainseg_keras.data.roles import Roles
from brainseg_keras.errors import InputError

_KINDS: dict[str, type] = {
    "architecture": str,
    "arguments": dict,
    "channels": list,
    "config": dict,
    "context": int,
    "licence": str,
    "manifest_sha256": str,
    "postprocessing": dict,
    "precision": str,
    "preprocessing": dict,
    "progress": dict,
    "roles": dict,
    "target": str,
    "validation": dict,
}


def known_roles(info: dict[str, Any]) -> Roles:
    """Say whom a network has met in training.

    Args:
        info: What stands beside the network's file.

    Returns:
        The roles; incomplete where nothing says who trained it.

    Raises:
        InputError: They are not as a run writes them.

    Example:
        >>> known_roles({}).role("A")
        'unknown'
    """
    return Roles.from_info(info["roles"]) if "roles" in info else Roles(complete=False)


def read_information(path: Path) -> dict[str, Any]:
    """Read what is known of a network; each entry that is there is of its kind.

    Args:
        path: The JSON file.

    Returns:
        Its content.

    Raises:
        InputError: It cannot be read, is no JSON, or an entry is of another kind.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "run.json"
        >>> _ = file.write_text('{"context": "two"}')
        >>> read_information(file)
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: ...
    """
    cure = "Restore it; without it the network's preprocessing and channels are unknown."
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}). {cure}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no names with values, but {type(content).__name__}. {cure}")
    for name, kind in _KINDS.items():
        value = content.get(name)
        if name in content and (not isinstance(value, kind) or isinstance(value, bool)):
            raise InputError(f"{path}: {name} is a JSON {kind.__name__}. Received: {str(value)[:80]!r}. {cure}")
    return content
