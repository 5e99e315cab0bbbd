"""What stands beside a network's file: run.json of its run folder, or the JSON of an exported file."""

import json
from pathlib import Path
from typing import Any

from brainseg_keras.data.roles import Roles
from brainseg_keras.errors import InputError, reading

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


def known_roles(info: dict[str, Any], postprocessing: Path | None) -> Roles:
    """Say whom a network has met: in training, and where its postprocessing was chosen.

    Args:
        info: What stands beside the network's file.
        postprocessing: What `brainseg tune` wrote, which wins over that of `info`; None where there is none.

    Returns:
        The roles; incomplete where nothing says who trained it.

    Raises:
        InputError: Either holds something else.

    Example:
        >>> known_roles({"postprocessing": {"patients": ["A"]}}, None).role("A")
        'tuned'
    """
    roles = Roles.from_info(info["roles"]) if "roles" in info else Roles(complete=False)
    chosen = info.get("postprocessing", {})
    if postprocessing is None:
        return roles.with_tuned(_tuned_patients(chosen))
    with reading(postprocessing, "Remove it, or tune again."):
        return roles.with_tuned(_tuned_patients(json.loads(postprocessing.read_text(encoding="utf-8"))))


def _tuned_patients(chosen: dict[str, Any]) -> dict[str, list[str]]:
    checksums = chosen.get("checksums", {})
    return {name: checksums.get(name, "").split() for name in chosen.get("patients", [])}


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
