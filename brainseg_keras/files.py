"""Files that are written whole or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file beside its place and move it there, so that a crash leaves the old one or the new one.

    Args:
        path: Where the file shall be.
        write: Called with the path to write to, which has the same ending.
    """
    # The first dot begins the ending: of mask.nii.gz the whole of it counts.
    name, dot, ending = path.name.partition(".")
    scratch = path.with_name(f".{name}.part{dot}{ending}")
    try:
        write(scratch)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
