"""The server's own folder: what visitors send lies below it, and it goes when the server goes."""

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from brainseg_keras.errors import InputError
from brainseg_keras.files import hold_folder

_PREFIX = "brainseg-app-"


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """Make a folder for this process, readable by its user alone, and remove it at the end.

    A process that was killed removes nothing: its folder, which nobody holds any more, is removed by the next one.

    Returns:
        A context that gives the folder.
    """
    temporary = Path(tempfile.gettempdir()).resolve()
    for folder in temporary.glob(f"{_PREFIX}*"):
        _remove_abandoned(folder)
    with contextlib.ExitStack() as stack:
        # Held before it has its name: whoever looks for abandoned folders finds it in use.
        scratch = Path(tempfile.mkdtemp(prefix=".brainseg-", dir=temporary))
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        stack.enter_context(hold_folder(scratch))
        folder = temporary / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        scratch.rename(folder)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def _remove_abandoned(folder: Path) -> None:
    # A link may lead anywhere, and what cannot be held is in use or another user's.
    if folder.is_symlink():
        return
    with contextlib.suppress(InputError, OSError), hold_folder(folder):
        shutil.rmtree(folder, ignore_errors=True)
