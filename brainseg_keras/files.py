"""Files that are written whole or not at all, and folders that one process at a time writes to."""

import contextlib
import errno
import gzip
import json
import os
import platform
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from brainseg_keras.errors import InputError

#: Endings of two parts: a writer looks at the whole of them.
_DOUBLE_ENDINGS = (".nii.gz", ".weights.h5")
#: What the pictures, volumes and pages that this package writes say of their maker.
MAKER = "brainseg_keras"
#: Bytes at each end of a file in which its mark is looked for.
_ENDS = 65536
#: Folders from which this process has removed what killed ones left.
_tidied: set[Path] = set()
_SCRATCH, _SCRATCH_NAME = ".brainseg-", re.compile(r"\.brainseg-\d+-[0-9a-f]{8}(\..*)?")
_LOCK, _OWNER = ".lock", ".lock.owner"


def write_whole(path: str | Path, write: Callable[[Path], Any], *, mark: str | None = None) -> None:
    """Write a file or a folder beside its place and move it there, so that a crash leaves the old one or the new one.

    What a process that was killed leaves behind is hidden, and goes when another writes to its folder an hour later.

    Args:
        path: Where it shall be; missing folders above it are made. A folder takes only the place of an empty one.
        write: Called with the path to write to, which has the same ending and is used by no other process.
        mark: Text near the beginning or the end of what this package writes there: a file without it is somebody
            else's, and is not replaced. None replaces whatever there is.

    Raises:
        InputError: A file without the mark is there.
        OSError: It could not be written; the error names `path`, and nothing is left behind.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "new" / "words.txt"
        >>> write_whole(file, lambda scratch: scratch.write_text("all of it"))
        >>> [found.name for found in file.parent.iterdir()]
        ['words.txt']
    """
    path = Path(path)
    if mark is not None:
        check_replaceable(path, mark)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent not in _tidied:
        _tidied.add(path.parent)
        remove_leftovers(path.parent)
    ending = next((ending for ending in _DOUBLE_ENDINGS if path.name.lower().endswith(ending)), path.suffix)
    # Short whatever the file is called: a name may be as long as the file system allows.
    scratch = path.with_name(f"{_SCRATCH}{os.getpid()}-{secrets.token_hex(4)}{ending}")
    try:
        write(scratch)
        for part in scratch.rglob("*") if scratch.is_dir() else [scratch]:
            if part.is_file():
                _flush(part)
        scratch.replace(path)
    except OSError as error:
        if error.errno is None or (error.filename and not str(error.filename).startswith(str(scratch))):
            raise
        # What is full or may not be written is where the caller's file was to be, whatever it was called until then.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        _remove(scratch)


def write_folder(path: str | Path, write: Callable[[Path], Any]) -> None:
    """Write a folder that is not there yet, whole or not at all.

    Args:
        path: Where it shall be.
        write: Called with the path of the folder to make and to fill; see `write_whole`.

    Raises:
        InputError: There is something at `path` already.

    Example:
        >>> import tempfile
        >>> write_folder(tempfile.mkdtemp(), Path.mkdir)
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: ...
    """
    path = Path(path)
    there = f"{path} exists already. Give another folder, or remove it."
    if path.exists():
        raise InputError(there)
    try:
        write_whole(path, write)
    except OSError as error:
        # Another process was faster.
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise InputError(there) from error
        raise


def check_replaceable(path: str | Path, mark: str) -> None:
    """Refuse to replace a file that this package did not make.

    Args:
        path: Where one shall be written; there may be nothing yet.
        mark: Text near the beginning or the end of each file of this kind that this package writes.

    Raises:
        InputError: A file without the mark is there, or a folder.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "notes.csv"
        >>> _ = file.write_text("mine")
        >>> check_replaceable(file, "patient,slice")
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: ...
    """
    path = Path(path)
    if not path.exists():
        return
    found = b""
    if path.is_file():
        with (
            gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file,
            contextlib.suppress(OSError, EOFError),
        ):
            found = file.read(_ENDS)
            if path.suffix != ".gz":
                file.seek(max(0, path.stat().st_size - _ENDS))
                found += file.read(_ENDS)
    if mark.encode() not in found:
        raise InputError(f"{path} is there, and brainseg did not make it. Give another -o, or move it away.")


def write_text(path: str | Path, text: str, *, mark: str | None = None) -> None:
    """Write a text in UTF-8, whole or not at all.

    Args:
        path: Where the file shall be.
        text: Its content.
        mark: See `write_whole`.
    """
    write_whole(path, lambda scratch: scratch.write_text(text, encoding="utf-8"), mark=mark)


def write_json(path: str | Path, content: Any, *, mark: str | None = None) -> None:
    """Write JSON, whole or not at all.

    Args:
        path: Where the file shall be.
        content: What `json` can write.
        mark: See `write_whole`.
    """
    write_text(path, json.dumps(content, indent=2) + "\n", mark=mark)


def expand(path: str | Path, name: str = "path") -> str:
    """Put the home folder in place of a leading `~`, and refuse what is not a path.

    Args:
        path: Any path.
        name: What to call it in the message.

    Returns:
        The path as it was given, save for the `~`.

    Raises:
        InputError: An empty path, or a `~` that means nobody here.

    Example:
        >>> expand("")
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: path is empty. Expected a file or a folder.
    """
    text = os.fspath(path)
    if not text:
        raise InputError(f"{name} is empty. Expected a file or a folder.")
    if "\0" in text:
        raise InputError(f"{name} holds a zero byte, which no path does. Received: {text!r}.")
    if not text.startswith("~"):
        return text
    try:
        return str(Path(text).expanduser())
    except RuntimeError as error:
        raise InputError(
            f"{name} begins with the home folder of a user who is not here. Expected a file or a folder. Received: "
            f"{text}. Write ./{text} for something of that very name."
        ) from error


def check_input(path: str | Path, name: str = "path") -> str:
    """Refuse a path at which nothing can lie, before anything is loaded; what lies there, its reader says.

    Args:
        path: Where to read; its `~` is expanded. It may also be a word, such as `phantom`.
        name: What to call it in the message.

    Returns:
        The path.

    Raises:
        InputError: A path below a file, too long, or in a folder that may not be entered.
    """
    whole = expand(path, name)
    try:
        Path(whole).stat()
    except FileNotFoundError:
        return whole
    except OSError as error:
        raise InputError(
            f"{name} cannot be read ({error.strerror}). Expected a file or a folder. Received: {path}."
        ) from error
    return whole


def check_output(path: str | Path, kind: Literal["file", "folder", "either"], name: str = "output") -> Path:
    """Find out whether something can be written, before any work is done for it; nothing is left there.

    Args:
        path: Where it shall be; its `~` is expanded.
        kind: What it shall be.
        name: What to call it in the message.

    Returns:
        The path.

    Raises:
        InputError: Something of another kind is in the way, or the folder cannot be written to.

    Example:
        >>> check_output("/dev/null/masks", "folder")
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: output cannot be written: /dev/null is not a folder. Expected a path for a ...
    """
    whole = Path(expand(path, name))
    expected = f"Expected a path for a {'file or a folder' if kind == 'either' else kind}. Received: {path}."
    try:
        # Asked for every kind: a name that is too long shows here.
        if _is_there(whole) and kind == "file" and not whole.is_file():
            raise InputError(f"{name} cannot be written: {whole} is not a file. {expected}")
        above = [whole] if kind == "folder" else []
        nearest = next(folder for folder in (*above, *whole.absolute().parents) if _is_there(folder))
        if not nearest.is_dir():
            raise InputError(f"{name} cannot be written: {nearest} is not a folder. {expected}")
        # Permissions tell little: to the superuser, on read-only disks, on full ones.
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise InputError(f"{name} cannot be written ({error.strerror}). {expected}") from error
    return whole


def _is_there(path: Path) -> bool:
    """Say whether anything has this name, be it a link to nowhere."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return bool(path.lstat())
    return False


def remove_leftovers(folder: str | Path, *, age: float = 3600) -> None:
    """Remove what killed processes left half-written.

    Args:
        folder: Where to look, and not below it.
        age: Seconds since such a file was last written to: a younger one may be in use.
    """
    for scratch in Path(folder).glob(f"{_SCRATCH}*"):
        # A user's own file may be called almost so.
        with contextlib.suppress(OSError):
            if _SCRATCH_NAME.fullmatch(scratch.name) and time.time() - scratch.stat().st_mtime >= age:
                _remove(scratch)


@contextlib.contextmanager
def hold_folder(folder: str | Path, *, wait: float = 0, cure: str = "give another folder") -> Iterator[None]:
    """Keep other processes from holding the same folder; the hold ends with the process, however that ends.

    Args:
        folder: Which folder; it is made where it is missing.
        wait: Seconds to wait for another process that holds it.
        cure: What to do besides waiting.

    Raises:
        InputError: Another process holds it still; the message names that process.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with hold_folder(folder), hold_folder(folder):
        ...     pass
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: ...
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock, owner = FileLock(folder / _LOCK, timeout=wait), folder / _OWNER
    try:
        lock.acquire()
    except Timeout as error:
        name = "another process"
        with contextlib.suppress(OSError):
            name = owner.read_text(encoding="utf-8")
        raise InputError(f"{folder} is in use by {name}. Wait for it to end, or {cure}.") from error
    try:
        write_text(owner, f"process {os.getpid()} on {platform.node()}")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def printable(text: str | Path) -> str:
    """Spell a name so that it can be printed and put into a table, whatever bytes it is made of.

    Args:
        text: A path, or a text with a path in it, as Python has it from the file system.

    Returns:
        Text without surrogates: what is not UTF-8 is spelled as `%` and two digits.

    Example:
        >>> printable(os.fsdecode(b"caf\\xe9.png"))
        'caf%E9.png'
    """
    read = os.fsencode(text).decode("utf-8", "surrogateescape")
    return "".join(f"%{ord(sign) - 0xDC00:02X}" if "\udc80" <= sign <= "\udcff" else sign for sign in read)


def _flush(file: Path) -> None:
    """Bring a file to the disk before it takes its place: after a power cut it is not empty."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
