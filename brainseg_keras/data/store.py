"""A packed data set: one HDF5 file, a group a patient, a chunk a slice, so that training starts in seconds."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from brainseg_keras.data.decode.hdf5 import create_hdf5
from brainseg_keras.data.decode.spacing import checked_spacing
from brainseg_keras.data.manifest import COLUMNS, Progress, check_table
from brainseg_keras.data.volumes import Volume, VolumeSource, file_identity
from brainseg_keras.errors import InputError
from brainseg_keras.files import write_whole

#: What each store says of itself.
MARK = "brainseg-store"
_VERSION = 2


def write_store(source: VolumeSource, path: str | Path, *, float16: bool = False, progress: Progress = iter) -> Path:
    """Pack every volume of a source into one HDF5 file, whole or not at all.

    Args:
        source: Where the volumes come from; memory holds one at a time.
        path: The file to write, `.h5`.
        float16: Store images that are not uint8 in half precision: half the size, 11 bits of each value.
        progress: Wraps the list of patients, to show how far it is.

    Returns:
        The file.

    Raises:
        InputError: A volume that cannot be read, or too bright for half precision, or a disk that is too small; nothing
            is written then.
        OSError: The disk is full.

    Example:
        >>> import tempfile
        >>> from brainseg_keras.data.sources import open_source
        >>> source = open_source("phantom")
        >>> file = write_store(source, tempfile.mkdtemp() + "/phantom.h5")
        >>> StoredVolumes(file).table.equals(source.table)
        True
    """
    path = Path(path)
    write_whole(path, lambda scratch: _write_store(source, scratch, path, float16, progress), mark=MARK)
    return path


def _write_store(source: VolumeSource, path: Path, wanted: Path, float16: bool, progress: Progress) -> None:
    with create_hdf5(path) as (file, check):
        write_head(file, source)
        patients = progress(sorted(source.table.patient.unique()))
        write_volumes(source, file, check, path, wanted, float16, patients)


def write_head(file: h5py.File, source: VolumeSource) -> None:
    """Write what a store says of all its patients.

    Args:
        file: The store, still empty.
        source: Where the volumes come from.
    """
    names = {"channels": json.dumps(source.channels), "classes": json.dumps(source.classes)}
    file.attrs.update(format=MARK, version=_VERSION, **names)
    file["manifest"] = source.table[list(COLUMNS)].to_csv(index=False)


def write_volumes(
    source: VolumeSource,
    file: h5py.File,
    check: Callable[[], None],
    path: Path,
    wanted: Path,
    float16: bool,
    patients: Iterable[str],
) -> None:
    """Write patients into a store, and refuse a disk that is too small for all of the source after the first one.

    Args:
        source: Where the volumes come from.
        file: The store.
        check: As `create_hdf5` gives it.
        path: Where it is written.
        wanted: Where it shall be in the end.
        float16: As of `write_store`.
        patients: Which ones.
    """
    slices = source.table.patient.value_counts()
    for number, patient in enumerate(patients):
        _write_volume(file.create_group(f"volumes/{patient}"), source.volume(patient), float16)
        file.flush()
        check()
        if number == 0:
            _check_room(wanted, path.stat().st_size * (slices.sum() / slices[patient] - 1))


def _check_room(path: Path, wanted: float) -> None:
    """Refuse what will not fit, after one patient and not after hours."""
    free = shutil.disk_usage(path.parent).free
    # Patients differ in how well they pack: what might fit is tried.
    if free < 0.7 * wanted:
        raise InputError(
            f"{path} takes about {wanted / 1e6:,.1f} MB more, and its disk has {free / 1e6:,.1f} MB free. Make room, "
            "or give another -o."
        )


def _write_volume(group: h5py.Group, volume: Volume, float16: bool) -> None:
    images = volume.images
    if float16 and images.dtype != np.uint8:
        reach = max(-float(images.min()), float(images.max()))
        if reach > float(np.finfo(np.float16).max):
            raise InputError(
                f"Half precision ends at 65504, and an image of patient {volume.patient} reaches {reach:g}. "
                "Pack without --float16."
            )
        images = images.astype(np.float16)
    for name, array in (("images", images), ("masks", volume.masks)):
        chunks = (1, *array.shape[1:])
        group.create_dataset(name, data=array, chunks=chunks, compression="lzf", shuffle=True, fletcher32=True)
    group.attrs["slices"] = volume.slices
    group.attrs["intensity"] = volume.intensity
    if volume.spacing is not None:
        group.attrs["spacing"] = volume.spacing


class StoredVolumes:
    """Volumes read from a packed store.

    Args:
        path: File written by `write_store`.

    Raises:
        InputError: No such file, or no store.

    Example:
        >>> StoredVolumes("no/such/file.h5")
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: No such file: no/such/file.h5. Pack it: brainseg data pack FOLDER -o FILE
    """

    def __init__(self, path: str | Path):
        self._path = Path(path)
        if not self._path.is_file():
            raise InputError(f"No such file: {path}. Pack it: brainseg data pack FOLDER -o FILE")
        with self._open() as file, self._reading("its list of slices"):
            if file.attrs.get("format") != MARK or file.attrs.get("version") != _VERSION:
                raise InputError(
                    f"{path} is not a packed data set of version {_VERSION}. Pack it: brainseg data pack FOLDER -o FILE"
                )
            text = file["manifest"][()].decode()
            self.channels: tuple[str, ...] = tuple(json.loads(file.attrs["channels"]))
            self.classes: tuple[str, ...] = tuple(json.loads(file.attrs["classes"]))
            # As text: a patient named 007 is not patient 7.
            table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
            self.table = table[list(COLUMNS)].astype({"slice": int, "tumour_pixels": int})
        check_table(self.table, str(path))

    def identity(self, patients: Sequence[str]) -> Any:
        """See `identity_of`."""
        return file_identity(self._path)

    def volume(self, patient: str) -> Volume:
        """Read one patient; the file's checksums tell when it has been damaged."""
        with self._open() as file, self._reading(f"patient {patient}"):
            group = file[f"volumes/{patient}"]
            volume = Volume(
                patient,
                group["images"][:],
                group["masks"][:],
                tuple(int(number) for number in group.attrs["slices"]),
                np.asarray(group.attrs["intensity"]),
                checked_spacing(self._path, group.attrs["spacing"]) if "spacing" in group.attrs else None,
            )
            if volume.masks.dtype != np.uint8:
                raise ValueError(f"masks of {volume.masks.dtype}, expected uint8")
            if volume.images.shape != (*volume.masks.shape, len(self.channels)) or volume.masks.ndim != 3:
                raise ValueError(f"images of shape {volume.images.shape}, masks of {volume.masks.shape}")
            if len(volume.slices) != len(volume.masks) or volume.intensity.shape != (len(self.channels), 2):
                raise ValueError(f"{len(volume.slices)} slice numbers, intensity of shape {volume.intensity.shape}")
            if not np.isfinite(volume.intensity).all() or not np.isfinite(volume.images).all():
                raise ValueError("images or their intensity hold NaN or infinite values")
            return volume

    @contextlib.contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        # What HDF5, JSON and pandas raise on a damaged file; a shape that it only claims does not fit the memory.
        except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError) as error:
            raise InputError(
                f"{self._path}: {what} cannot be read, the file is damaged ({error}). Pack it again."
            ) from error

    def _open(self) -> h5py.File:
        try:
            return h5py.File(self._path, "r")
        except OSError as error:
            raise InputError(f"{self._path} cannot be read as HDF5 ({error}). Pack it again.") from error
