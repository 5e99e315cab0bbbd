"""What a browser sends: loose files and zips, laid out so that patients, volumes and series are found."""

import lzma
import shutil
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from brainseg_keras.data.formats.lgg import SLICE
from brainseg_keras.data.scans import Scan, find_scans
from brainseg_keras.errors import InputError

#: Files that one upload may hold, zips opened.
MOST_FILES = 20_000
#: What `zipfile` raises at a zip that is damaged, encrypted, or packed in an unknown way.
_DAMAGED = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
)


def collect(files: Iterable[str | Path], folder: Path, *, limit: int) -> list[Scan]:
    """Lay files out in a folder and find what there is to segment.

    Args:
        files: What was sent; zips are opened.
        folder: An empty folder; what is laid out there stays until its owner removes it.
        limit: Bytes that a zip may unpack to.

    Returns:
        Scans, as `find_scans` gives them. Loose slices in the naming of the LGG set are put together by patient.

    Raises:
        InputError: Nothing to segment, an unknown kind, or a zip that is damaged, encrypted or too large. Files are
            called by the names that their sender knows.

    Example:
        >>> import tempfile
        >>> collect([], Path(tempfile.mkdtemp()), limit=1000)
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: ...
    """
    files = [Path(file) for file in files]
    if not files:
        raise InputError("No file. Drop a PNG, JPEG, TIFF, BMP, NIfTI, DICOM or .h5 file, or a zip of them.")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for file in files:
            if not file.is_file():
                raise InputError(f"{file.name} is gone after a long pause. Drop it again.")
            if file.suffix.lower() == ".zip":
                _unzip(file, folder / file.stem, limit)
            else:
                shutil.copyfile(file, _free(folder / _place_of(file.name)))
        lone = [path for path in folder.rglob("*") if path.is_file()]
        return find_scans(lone if len(lone) == 1 else [folder])
    except InputError as error:
        raise InputError(str(error).replace(f"{folder}/", "").replace(str(folder), "the upload")) from error


def _place_of(name: str) -> str:
    """Put a slice of the LGG naming into its patient's folder, as the set itself does."""
    match = SLICE.fullmatch(name)
    return f"{match['patient']}/{name}" if match else name


def _free(path: Path) -> Path:
    """Find a place for a file whose name was sent twice."""
    for number in range(2, MOST_FILES):
        if not path.exists():
            break
        path = path.with_name(f"{number}_{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _unzip(file: Path, folder: Path, limit: int) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            members = [entry for entry in archive.infolist() if not entry.is_dir() and _is_wanted(entry.filename)]
            _check_members(members, file, limit)
            loose = all("/" not in entry.filename for entry in members)
            for entry in members:
                parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
                # Names alone decide where a file goes: no root, no way up.
                safe = [part for part in parts if part not in ("/", "..", ".") and ":" not in part] or ["nameless"]
                target = folder / _place_of(safe[-1]) if loose else folder.joinpath(*safe)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, _free(target).open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    except _DAMAGED as error:
        raise InputError(f"{file.name} cannot be unpacked ({error}). Make the zip anew, without a password.") from error


def _is_wanted(name: str) -> bool:
    return not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def _check_members(members: list[zipfile.ZipInfo], file: Path, limit: int) -> None:
    total = sum(entry.file_size for entry in members)
    if not members:
        raise InputError(f"{file.name} holds no file. Expected pictures, volumes or DICOM slices.")
    if total > limit or len(members) > MOST_FILES:
        raise InputError(
            f"{file.name} unpacks to {len(members)} files of {total / 2**20:.0f} MB. At most {MOST_FILES} files of "
            f"{limit / 2**20:.0f} MB: send fewer patients, or start the page with a larger --max-upload."
        )
