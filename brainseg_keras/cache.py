"""The user's cache: what can be made again, and is kept so that the next start is quick."""

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Give the folder in which this package keeps what it can make again.

    Returns:
        `~/.cache/brainseg_keras`, or what `BRAINSEG_CACHE` names; where neither can be written, the folder for scratch
        files.

    Example:
        >>> cache_folder().is_dir()
        True
    """
    try:
        folder = Path(os.environ.get("BRAINSEG_CACHE") or Path.home() / ".cache" / "brainseg_keras")
        folder.mkdir(parents=True, exist_ok=True)
    # RuntimeError: a user without a home folder.
    except (OSError, RuntimeError):
        return Path(tempfile.gettempdir())
    return folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir())
