"""What is made of each patient before training, in memory where it is little, else in a file that the next start finds.

The file lies in the user's cache, where nobody else may look: it holds the patients' images.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np

import brainseg_keras
from brainseg_keras.cache import cache_folder
from brainseg_keras.data.checksums import PatientChecksums, RememberedVolumes
from brainseg_keras.data.manifest import Progress
from brainseg_keras.data.stored_rows import Extent, OpenRows, StoredRows, append_array
from brainseg_keras.data.volumes import Volume, VolumeSource, identity_of, select_patients
from brainseg_keras.errors import InputError
from brainseg_keras.files import hold_folder, remove_leftovers, write_json, write_whole

#: Bytes of all patients together from which they stand in a file.
_MEMORY_LIMIT = 256 * 2**20
#: Bytes that the cache may hold where BRAINSEG_CACHE_LIMIT says nothing.
_CACHE_LIMIT = 100 * 10**9
_ARRAYS, _INDEX, _FORMAT = "arrays.bin", "index.json", "brainseg-prepared-1"
_log = logging.getLogger(__name__)

Array = np.ndarray | StoredRows
#: Makes named arrays of a patient, each with at least one axis.
Make = Callable[[Volume], dict[str, np.ndarray]]


class PreparedPatient(NamedTuple):
    """Arrays of one patient, in memory or in a file."""

    name: str
    arrays: Mapping[str, Array]


class Entry(NamedTuple):
    """What the cache holds of one data set, prepared in one way."""

    folder: Path
    about: dict[str, Any]  # settings and the number of patients; empty where it is not finished
    size: int  # bytes
    used: float  # seconds since 1970


def prepare_patients(
    source: VolumeSource,
    split: str,
    make: Make,
    settings: Mapping[str, Any],
    *,
    progress: Progress = iter,
) -> list[PreparedPatient]:
    """Make arrays of each patient of a split, or find what an earlier start has made of the same patients.

    Up to 256 MiB stand in memory. More stand in a file, written patient by patient, so that memory does not grow with
    their number; it is kept in the user's cache, or for this process alone where the cache is off, cannot be written to
    or is too small, and where nothing tells whether the data have changed.

    Args:
        source: Where the volumes come from; one that remembers checksums has them all afterwards.
        split: `train`, `val`, `test` or `all`.
        make: Makes the arrays of a volume.
        settings: All that they depend on besides the volumes and this package.
        progress: Wraps the list of patients when they are read.

    Returns:
        The patients in alphabetical order.

    Raises:
        InputError: Volumes that cannot be read, or no room on any disk.
    """
    patients = select_patients(source, split)
    remembered = source if isinstance(source, RememberedVolumes) else RememberedVolumes(source)
    again = partial(_make_again, source, make)
    entry = _entry_of(source, patients, settings)
    if entry is not None and (found := _find(entry, remembered, again)):
        return found

    def records(names: Iterable[str]) -> Iterator[PreparedPatient]:
        for name in names:
            yield PreparedPatient(name, make(remembered.volume(name)))

    coming, held, size = records(progress(patients)), [], 0
    for record in coming:
        held.append(record)
        size += sum(array.nbytes for array in record.arrays.values())
        if size > _MEMORY_LIMIT:
            break
    else:
        return held
    wanted = int(size / len(held) * len(patients))
    # One by one, so that none of them stays when it is written.
    coming = chain((held.pop(0) for _ in range(len(held))), coming)
    about = {**settings, "split": split, "patients": len(patients)}
    if entry is not None:
        with _unless_it_cannot_be_kept(entry):
            return _keep(entry, wanted, coming, lambda: _find(entry, remembered, again), remembered, about)
        # Some of them may be gone already.
        held.clear()
        coming = records(progress(patients))
    return _put_aside(wanted, coming, again)


def cache_limit() -> int:
    """Say how many bytes of prepared patients are kept: what BRAINSEG_CACHE_LIMIT says in GB, 0 for none, else 100.

    Returns:
        Bytes.

    Raises:
        InputError: It says something else.

    Example:
        >>> cache_limit() >= 0
        True
    """
    said = os.environ.get("BRAINSEG_CACHE_LIMIT")
    if not said:
        return _CACHE_LIMIT
    try:
        limit = float(said)
        if not 0 <= limit < 1e9:
            raise ValueError(said)
    except ValueError as error:
        raise InputError(f"BRAINSEG_CACHE_LIMIT is a number of GB from 0 on. Received: {said!r}.") from error
    return int(limit * 1e9)


def root_folder() -> Path:
    """Give the folder of the entries."""
    return cache_folder() / "patients"


def entries() -> list[Entry]:
    """List what the cache holds of patients.

    Returns:
        Entries, the one that was used last first.
    """
    found = []
    for folder in root_folder().glob("*/"):
        about, used = {}, 0.0
        with contextlib.suppress(OSError, InputError, ValueError):
            about, used = _read_index(folder)["about"], (folder / _INDEX).stat().st_mtime
        size = sum(file.stat().st_size for file in folder.glob("*") if file.is_file())
        found.append(Entry(folder, about, size, used))
    return sorted(found, key=lambda entry: -entry.used)


def remove_entry(entry: Entry) -> bool:
    """Remove an entry, unless a process is writing it; one that reads it goes on.

    Args:
        entry: As `entries` gives it.

    Returns:
        Whether it is gone.
    """
    try:
        with hold_folder(entry.folder):
            (entry.folder / _INDEX).unlink(missing_ok=True)
            (entry.folder / _ARRAYS).unlink(missing_ok=True)
    except (InputError, OSError):
        return False
    shutil.rmtree(entry.folder, ignore_errors=True)
    return True


def _make_again(source: VolumeSource, make: Make, patient: str, name: str) -> np.ndarray:
    return make(source.volume(patient))[name]


def _entry_of(source: VolumeSource, patients: list[str], settings: Mapping[str, Any]) -> Path | None:
    """Name the folder of an entry by all that it depends on; None where it cannot be kept."""
    identity = identity_of(source, patients)
    # A folder that everybody may write to is no place for patients.
    if identity is None or not cache_limit() or cache_folder() == Path(tempfile.gettempdir()):
        return None
    rows = source.table[source.table.patient.isin(patients)].drop(columns="split", errors="ignore")
    text = json.dumps([identity, list(source.channels), list(source.classes), dict(settings), cv2.__version__])
    digest = hashlib.sha256(text.encode(errors="surrogatepass") + _code())
    digest.update(rows.to_csv(index=False).encode(errors="backslashreplace"))
    return root_folder() / digest.hexdigest()[:32]


def _code() -> bytes:
    """Give a checksum of this package: another version may prepare patients in another way."""
    files = sorted(Path(brainseg_keras.__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).digest()


def _find(
    entry: Path, remembered: RememberedVolumes, again: Callable[[str, str], np.ndarray]
) -> list[PreparedPatient] | None:
    """Open a finished entry; None where there is none, or where it is damaged."""
    try:
        index = _read_index(entry)
        file = (entry / _ARRAYS).open("rb", buffering=0)
        if file.seek(0, os.SEEK_END) != index["size"]:
            raise ValueError("its file is cut off")
    except FileNotFoundError:
        return None
    except (OSError, InputError, ValueError, KeyError, TypeError) as error:
        _log.warning("What the cache holds of these patients is damaged (%s), and is made again.", error)
        return None
    with contextlib.suppress(OSError):
        os.utime(entry / _INDEX)
    for record in index["patients"]:
        remembered.checksums[record["name"]] = PatientChecksums(tuple(record["slices"]), record["content"])
    return _opened(file, index["patients"], again)


def _opened(file: BinaryIO, records: list[dict], again: Callable[[str, str], np.ndarray]) -> list[PreparedPatient]:
    opened = OpenRows(file)
    return [
        PreparedPatient(
            record["name"],
            {
                name: opened.rows(Extent(*extent), partial(again, record["name"], name))
                for name, extent in record["arrays"].items()
            },
        )
        for record in records
    ]


def _read_index(entry: Path) -> dict[str, Any]:
    content = json.loads((entry / _INDEX).read_text(encoding="utf-8"))
    if content["format"] != _FORMAT or content["sha256"] != _checksum(content["index"]):
        raise ValueError("its index is another")
    return content["index"]


def _checksum(index: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(index).encode()).hexdigest()


@contextlib.contextmanager
def _unless_it_cannot_be_kept(entry: Path) -> Iterator[None]:
    """Go on without the cache where it cannot be written to: on a read-only or full disk, or one without locks."""
    try:
        yield
    except (OSError, NotImplementedError) as error:
        _log.warning("Prepared patients cannot be kept in %s (%s): this process alone has them.", entry.parent, error)


def _keep(
    entry: Path,
    wanted: int,
    records: Iterable[PreparedPatient],
    find: Callable[[], list[PreparedPatient] | None],
    remembered: RememberedVolumes,
    about: dict[str, Any],
) -> list[PreparedPatient]:
    """Write an entry and open it; where another process writes the same one, wait for that."""
    entry.parent.mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(OSError):
        entry.parent.chmod(0o700)
    _make_room(entry, wanted)
    with _held(entry):
        if found := find():
            return found
        remove_leftovers(entry, age=0)
        written: list[dict] = []
        write_whole(entry / _ARRAYS, lambda scratch: written.extend(_write(scratch, records)))
        for record in written:
            record |= remembered.checksums[record["name"]]._asdict()
        index = {"about": about, "size": (entry / _ARRAYS).stat().st_size, "patients": written}
        # The index comes last: where it is missing, nothing else counts.
        write_json(entry / _INDEX, {"format": _FORMAT, "sha256": _checksum(index), "index": index})
        if found := find():
            return found
        raise OSError(f"{entry} cannot be read")


@contextlib.contextmanager
def _held(entry: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold_folder(entry))
        except InputError as error:
            _log.warning("%s It prepares the same patients: waiting for it.", str(error).partition(" Wait")[0])
            stack.enter_context(hold_folder(entry, wait=-1))
        yield


def _write(scratch: Path, records: Iterable[PreparedPatient]) -> list[dict]:
    with scratch.open("wb") as file:
        return _append(file, records)


def _append(file: BinaryIO, records: Iterable[PreparedPatient]) -> list[dict]:
    return [
        {"name": record.name, "arrays": {name: append_array(file, array) for name, array in record.arrays.items()}}
        for record in records
    ]


def _make_room(entry: Path, wanted: int) -> None:
    """Remove what was used longest ago, until the limit and the disk have room for one more entry."""
    others = [other for other in entries() if other.folder != entry]
    # What a process that was killed has left.
    others = [other for other in others if other.about or not remove_entry(other)]
    while others and sum(other.size for other in others) + wanted > cache_limit():
        remove_entry(others.pop())
    free = shutil.disk_usage(entry.parent).free
    if wanted > cache_limit() or wanted > free:
        raise OSError(
            f"{wanted / 1e9:.1f} GB are wanted, {free / 1e9:.1f} GB are free, and BRAINSEG_CACHE_LIMIT is "
            f"{cache_limit() / 1e9:g} GB"
        )


def _put_aside(
    wanted: int, records: Iterable[PreparedPatient], again: Callable[[str, str], np.ndarray]
) -> list[PreparedPatient]:
    """Write to a file without a name, which goes with the process."""
    folder = tempfile.gettempdir()
    try:
        # It stays open as long as any of its arrays is used.
        file = tempfile.TemporaryFile(prefix="brainseg-")  # noqa: SIM115
        if wanted > shutil.disk_usage(folder).free:
            raise OSError("its disk is too small")
        written = _append(file, records)
        file.flush()
        return _opened(file, written, again)
    except OSError as error:
        raise InputError(
            f"The prepared patients take about {wanted / 1e9:.1f} GB, and {folder} cannot take them ({error}). Make "
            "room there, or let TMPDIR or BRAINSEG_CACHE name a folder on a larger disk."
        ) from error
