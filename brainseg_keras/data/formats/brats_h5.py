"""The BraTS 2020 set as it is shared in HDF5: `volume_<v>_slice_<s>.h5`, one file a slice."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from brainseg_keras.data.decode.brats_slices import (
    BRATS_CHANNELS,
    SLICE,
    read_brats_mask,
    read_brats_slice,
    read_brats_spacing,
)
from brainseg_keras.data.formats.base import Contents, FolderFormat, Group, Pixels, ScanFormat, check_shapes
from brainseg_keras.data.labels import CLASSES
from brainseg_keras.data.manifest import Progress, slice_row, table_of_patients
from brainseg_keras.data.phantom.brats import HDF5_SLICES, write_brats_phantom
from brainseg_keras.data.volumes import PatientPixels
from brainseg_keras.errors import InputError

_NESTED = ("", "data", "content/data", "BraTS2020_training_data/content/data")


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
    path: str | Path,
    *,
    checksums: bool = False,
    skipped: dict[str, str] | None = None,
    progress: Progress = iter,
) -> tuple[pd.DataFrame, Path]:
    """List the slices of a BraTS 2020 folder; the table of slices that may lie beside them is not needed.

    Args:
        path: The folder of `volume_<v>_slice_<s>.h5`, or one above it.
        checksums: Also read the images and fill the sha256 columns; masks are read in any case.
        skipped: Filled with the volumes whose files are wrong, and why, which are then left out; None refuses them.
        progress: Wraps the list of patients, to show how far it is.

    Returns:
        Rows of a manifest with an empty `split`, and the folder to which their paths are relative.

    Raises:
        InputError: No such slices, a gap in a volume's slices, or a file that cannot be read.

    Example:
        >>> import tempfile
        >>> from brainseg_keras.data.phantom.brats import write_brats_phantom
        >>> table, _ = read_brats(write_brats_phantom(tempfile.mkdtemp() + "/data", patients=3, slices=8, size=32))
        >>> len(table), table.patient.nunique()
        (24, 3)
    """
    root = find_brats_root(path)
    if root is None:
        raise InputError(f"{path} holds no BraTS slices. Expected volume_<v>_slice_<s>.h5 in it or in content/data.")
    files: dict[str, dict[int, Path]] = {}
    for file in sorted(root.iterdir()):
        match = SLICE.fullmatch(file.name)
        if match and not file.name.startswith("."):
            files.setdefault(match["volume"], {})[int(match["number"])] = file

    def read(volume: str) -> list[dict]:
        slices = files[volume]
        return [_row(volume, number, slices[number], checksums) for number in _without_gaps(volume, slices, root)]

    return table_of_patients({volume: volume for volume in files}, read, skipped, progress), root


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
    labels = read_brats_mask(file)
    pixels = read_brats_slice(file)[0] if checksums else None
    return slice_row("brats-h5", volume, number, file.name, file.name, labels, pixels)


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
    return PatientPixels(np.stack(images), np.stack(masks), read_brats_spacing(root / rows.image.iloc[0]))


class BratsSlices(FolderFormat, ScanFormat):
    """Slices in one folder, to train on; and those of a volume as one scan to segment."""

    name = "brats-h5"
    layout = "volume_<v>_slice_<s>.h5 (or in content/data/)"
    phantom = HDF5_SLICES.folder
    endings = (".h5", ".hdf5")
    list_slices = staticmethod(read_brats)

    def detect(self, folder: Path) -> bool:
        """Look for slices."""
        return find_brats_root(folder) is not None

    def contents(self, table: pd.DataFrame, root: Path, scheme: str, modalities: Sequence[str] | None) -> Contents:
        """Give the four sequences and three classes of every slice."""
        return Contents(BRATS_CHANNELS, CLASSES, read_brats_patient)

    def write_phantom(self, dest: str | Path, **numbers: int) -> Path:
        """See `data.phantom.brats.write_brats_phantom`."""
        return write_brats_phantom(dest, **numbers)

    def group(self, files: Sequence[Path], folder: Path) -> list[Group]:
        """Put each volume's slices in order."""
        volumes: dict[str, list[tuple[int, Path]]] = {}
        for file in files:
            match = SLICE.fullmatch(file.name)
            name, number = (match["volume"], match["number"]) if match else (file.name, "0")
            volumes.setdefault(name, []).append((int(number), file))
        return [self.slices([file for _, file in sorted(members)]) for members in volumes.values()]

    def decode(self, files: Sequence[Path]) -> Pixels:
        """Read slices; the channels have names where there are the four of BraTS."""
        slices = [read_brats_slice(file) for file in files]
        check_shapes([image for image, _ in slices], files)
        return Pixels(np.stack([image for image, _ in slices]), slices[0][1])
