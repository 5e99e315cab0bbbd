"""Reader and writer of the BraTS 2020 set as it is shared in HDF5: `volume_<v>_slice_<s>.h5`, one file a slice."""

import re
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from brainseg_keras.data.hdf5 import create_hdf5
from brainseg_keras.data.images import pixel_checksum
from brainseg_keras.data.labels import CLASSES
from brainseg_keras.data.manifest import COLUMNS, rows_of_patients
from brainseg_keras.data.medical import BRATS_CHANNELS, checked_spacing, read_brats_slice, read_hdf5
from brainseg_keras.data.volumes import PatientPixels, VolumeSource
from brainseg_keras.errors import InputError
from brainseg_keras.files import write_folder

_SLICE = re.compile(r"(?P<volume>.+)_slice_(?P<number>\d+)\.(h5|hdf5)", re.IGNORECASE)
_NESTED = ("", "data", "content/data", "BraTS2020_training_data/content/data")
#: All volumes of BraTS were resampled to this, in mm, before they were shared.
_SPACING = (1.0, 1.0, 1.0)


def find_brats_root(path: str | Path) -> Path | None:
    """Find the folder that holds the slices.

    Args:
        path: That folder, or one above it (that into which the archive was unpacked, say).

    Returns:
        The folder, or None when there are no such slices.

    Example:
        >>> find_brats_root("no/such/folder") is None
        True
    """
    folders = [Path(path) / nested for nested in _NESTED]
    return next((folder for folder in folders if any(folder.glob("*_slice_*.h5"))), None)


def read_brats(
    path: str | Path, *, checksums: bool = False, skipped: dict[str, str] | None = None
) -> tuple[pd.DataFrame, Path]:
    """List the slices of a BraTS 2020 folder; the table of slices that may lie beside them is not needed.

    Args:
        path: The folder of `volume_<v>_slice_<s>.h5`, or one above it.
        checksums: Also read the images and fill the sha256 columns; masks are read in any case.
        skipped: Filled with the volumes whose files are wrong, and why, which are then left out; None refuses them.

    Returns:
        Rows of a manifest with an empty `split`, and the folder to which their paths are relative.

    Raises:
        InputError: No such slices, a gap in a volume's slices, or a file that cannot be read.

    Example:
        >>> import tempfile
        >>> from brainseg_keras.data.phantom_brats import write_brats_phantom
        >>> table, _ = read_brats(write_brats_phantom(tempfile.mkdtemp() + "/data", patients=3, slices=8, size=32))
        >>> len(table), table.patient.nunique()
        (24, 3)
    """
    root = find_brats_root(path)
    if root is None:
        raise InputError(f"{path} holds no BraTS slices. Expected volume_<v>_slice_<s>.h5 in it or in content/data.")
    files: dict[str, dict[int, Path]] = {}
    for file in sorted(root.iterdir()):
        match = _SLICE.fullmatch(file.name)
        if match and not file.name.startswith("."):
            files.setdefault(match["volume"], {})[int(match["number"])] = file

    def read(volume: str) -> list[dict]:
        slices = files[volume]
        return [_row(volume, number, slices[number], checksums) for number in _without_gaps(volume, slices, root)]

    rows = rows_of_patients({volume: volume for volume in files}, read, skipped)
    return pd.DataFrame(rows, columns=list(COLUMNS)), root


def _without_gaps(volume: str, slices: dict[int, Path], root: Path) -> list[int]:
    numbers = sorted(slices)
    missing = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    if missing:
        raise InputError(
            f"{root}: slices {', '.join(map(str, missing[:5]))} of {volume} are missing ({len(missing)} in all). "
            "Download them again, or remove the volume."
        )
    return numbers


def _row(volume: str, number: int, file: Path, checksums: bool) -> dict:
    mask = read_brats_mask(file)
    return {
        "dataset": "brats-h5",
        "patient": volume,
        "slice": number,
        "image": file.name,
        "mask": file.name,
        "split": "",
        "tumour_pixels": int((mask > 0).sum()),
        "image_sha256": pixel_checksum(read_brats_slice(file)[0]) if checksums else "",
        "mask_sha256": pixel_checksum(mask) if checksums else "",
    }


def read_brats_mask(path: str | Path) -> np.ndarray:
    """Read the mask of one slice.

    Args:
        path: File with a dataset `mask` of shape `(height, width, 3)`, one-hot: necrotic and non-enhancing core, edema,
            enhancing tumour.

    Returns:
        Labels `(height, width)`, uint8: 0, or 1 to 3 in that order.

    Raises:
        InputError: No such dataset, other values than 0 and 1, or channels that overlap.
    """
    mask = read_hdf5(path, "mask", "(height, width, 3)")
    if mask.ndim != 3 or mask.shape[-1] != len(CLASSES):
        raise InputError(f"{path}: `mask` is of shape {mask.shape}. Expected (height, width, 3), one channel a class.")
    if not np.isin(mask, (0, 1)).all():
        raise InputError(f"{path}: `mask` holds {np.unique(mask)[:6].tolist()}. Expected 0 and 1, one channel a class.")
    if mask.sum(axis=-1).max(initial=0) > 1:
        raise InputError(
            f"{path}: the channels of `mask` overlap. Expected one of {', '.join(CLASSES)} a pixel. If yours are "
            "nested regions, subtract each from the one around it."
        )
    return (mask * np.arange(1, 4, dtype=np.uint8)).sum(axis=-1, dtype=np.uint8)


def read_brats_patient(rows: pd.DataFrame, root: Path, channels: Sequence[str]) -> PatientPixels:
    """Read one volume.

    Args:
        rows: Of the manifest, in the order of slices.
        root: Folder of the files.
        channels: Names of the channels, the four of BraTS.

    Returns:
        The pixels; spacing is the file's own, else the 1 mm of BraTS.

    Raises:
        InputError: A file that cannot be read, or sizes that differ.
    """
    images, masks = [], []
    for name in rows.image:
        image, mask = read_brats_slice(root / name)[0], read_brats_mask(root / name)
        images.append(image)
        masks.append(mask)
        if image.shape != (*images[0].shape[:2], len(channels)) or mask.shape != image.shape[:2]:
            raise InputError(
                f"{root / name}: `image` is {image.shape} and `mask` {mask.shape} after its classes are one. Expected "
                f"{(*images[0].shape[:2], len(channels))}: {', '.join(channels)}."
            )
    return PatientPixels(np.stack(images), np.stack(masks), _spacing(root / rows.image.iloc[0]))


def _spacing(path: Path) -> tuple[float, float, float]:
    try:
        with h5py.File(path, "r") as file:
            return checked_spacing(path, file["image"].attrs.get("spacing", _SPACING))
    except InputError:
        raise
    except Exception as error:  # h5py hands on whatever HDF5 says, as many kinds
        raise InputError(f"{path}: the attribute `spacing` of `image` cannot be read ({error}).") from error


def write_brats_slices(source: VolumeSource, dest: str | Path) -> Path:
    """Write volumes as the HDF5 slices of BraTS 2020, whole or not at all.

    Values stay as they are (the shared set holds z-scores; `Preprocessing` needs none). Patients keep their names.

    Args:
        source: Volumes of the four sequences and the three classes.
        dest: Folder to write into; it gets `BraTS2020_training_data/content/data/<patient>_slice_<s>.h5`.

    Returns:
        The folder of the slices.

    Raises:
        InputError: Other sequences or classes, or a folder that exists already.

    Example:
        >>> import tempfile
        >>> from brainseg_keras.data import open_source
        >>> source = open_source("phantom", format="brats-h5")
        >>> folder = write_brats_slices(source, tempfile.mkdtemp())
        >>> len(list(folder.glob("*.h5"))) == len(source.table)
        True
    """
    if tuple(source.classes) != CLASSES or set(source.channels) != set(BRATS_CHANNELS):
        raise InputError(
            f"The slices of BraTS hold {', '.join(BRATS_CHANNELS)} with masks of {', '.join(CLASSES)}. Received: "
            f"{', '.join(source.channels)} with {', '.join(source.classes)}."
        )
    target = Path(dest) / "BraTS2020_training_data"
    order = [source.channels.index(name) for name in BRATS_CHANNELS]

    def write(scratch: Path) -> None:
        folder = scratch / "content" / "data"
        folder.mkdir(parents=True)
        for patient in sorted(source.table.patient.unique()):
            volume = source.volume(patient)
            for number, image, mask in zip(volume.slices, volume.images[..., order], volume.masks, strict=True):
                with create_hdf5(folder / f"{patient}_slice_{number}.h5") as (file, _):
                    file.create_dataset("image", data=image.astype(np.float64), compression="gzip", compression_opts=1)
                    if volume.spacing is not None:
                        file["image"].attrs["spacing"] = volume.spacing
                    one_hot = mask[..., np.newaxis] == np.arange(1, 4)
                    file.create_dataset("mask", data=one_hot.astype(np.uint8), compression="gzip", compression_opts=1)

    write_folder(target, write)
    return target / "content" / "data"
