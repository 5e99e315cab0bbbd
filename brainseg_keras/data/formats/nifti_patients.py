"""One patient's NIfTI volumes and labels: as rows of a manifest, and as pixels."""

import re
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from brainseg_keras.data.decode.nifti import NiftiVolume, orientation, read_nifti
from brainseg_keras.data.formats.base import Contents, FolderFormat
from brainseg_keras.data.labels import read_labels, scheme_classes
from brainseg_keras.data.manifest import slice_row
from brainseg_keras.data.volumes import PatientPixels
from brainseg_keras.errors import InputError

ENDING = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


class NiftiPatient(NamedTuple):
    """Files of one patient below the root."""

    name: str
    images: dict[str, str]  # sequence: path, with #k for the k-th of a file of several
    label: str


class NiftiVolumes(FolderFormat):
    """What layouts of NIfTI volumes have in common."""

    def contents(self, table: pd.DataFrame, root: Path, scheme: str, modalities: Sequence[str] | None) -> Contents:
        """Give the sequences that the table lists, and the classes of its labels."""
        read = partial(read_nifti_patient, scheme=scheme)
        return Contents(tuple(sequences(table.image.iloc[0])), scheme_classes(scheme), read)

    def files(self, entry: str) -> list[str]:
        """Give the files of the sequences; a file of several stands once for each."""
        return [file.partition("#")[0] for file in sequences(entry).values()] or [entry]

    def orientation(self, path: Path) -> str:
        """Say which way a volume's axes run."""
        return orientation(path)


def rows_of_volumes(patient: NiftiPatient, root: Path, format: str, scheme: str, checksums: bool) -> list[dict]:
    """List the slices of a patient.

    Args:
        patient: Files of the patient.
        root: Folder to which their paths are relative.
        format: Name of the format.
        scheme: Of the labels.
        checksums: Also read the images and fill the sha256 columns; labels are read in any case.

    Returns:
        Rows of a manifest.

    Raises:
        InputError: A file that cannot be read, or labels that the scheme does not know.
    """
    image = "|".join(f"{name}={file}" for name, file in patient.images.items())
    volume = read_nifti(root / patient.label)
    masks = read_labels(volume.images[..., 0], scheme, str(root / patient.label))
    images = _read_images(image, root, volume)[0] if checksums else [None] * len(masks)
    return [
        slice_row(f"{format}:{scheme}", patient.name, number, image, patient.label, mask, pixels)
        for number, (pixels, mask) in enumerate(zip(images, masks, strict=True))
    ]


def sequences(entry: str) -> dict[str, str]:
    """Read the `image` column of a manifest of volumes.

    Args:
        entry: `FLAIR=a_flair.nii.gz|T1=a_t1.nii.gz`.

    Returns:
        Paths by sequence.

    Example:
        >>> sequences("FLAIR=a_flair.nii.gz|T1=a.nii.gz#1")
        {'FLAIR': 'a_flair.nii.gz', 'T1': 'a.nii.gz#1'}
    """
    return dict(part.split("=", 1) for part in entry.split("|") if "=" in part)


def read_nifti_patient(
    rows: pd.DataFrame, root: Path, channels: Sequence[str], scheme: str = "brats2020"
) -> PatientPixels:
    """Read one patient's volumes and labels, as axial slices in their shown orientation.

    Args:
        rows: Of the manifest, in the order of slices.
        root: Folder to which their paths are relative.
        channels: Sequences to read, in this order.
        scheme: Of the labels.

    Returns:
        The pixels, with the spacing of the header.

    Raises:
        InputError: A file that cannot be read, misaligned volumes, a missing sequence.
    """
    row = rows.iloc[0]
    label = read_nifti(root / row["mask"])
    files = sequences(row["image"])
    absent = [name for name in channels if name not in files]
    if absent:
        raise InputError(f"Patient {row['patient']} has no {', '.join(absent)}. It has {', '.join(files)}.")
    images, spacing = _read_images("|".join(f"{name}={files[name]}" for name in channels), root, label)
    masks = read_labels(label.images[..., 0], scheme, str(root / row["mask"]))
    if images.min() == images.max():
        raise InputError(f"Every voxel of {root / row['image']} is {images.flat[0]}. Restore the file.")
    numbers = rows.slice.to_numpy()
    if numbers[-1] >= len(masks):
        raise InputError(f"{root / row['mask']} has {len(masks)} slices, but the manifest names slice {numbers[-1]}.")
    return PatientPixels(np.ascontiguousarray(images[numbers]), masks[numbers], spacing)


def _read_images(entry: str, root: Path, label: NiftiVolume) -> tuple[np.ndarray, tuple[float, float, float]]:
    # A Decathlon file of four sequences is decoded once.
    read = lru_cache(maxsize=1)(read_nifti)
    volumes, spacing = [], None
    for file in sequences(entry).values():
        name, _, channel = file.partition("#")
        volume = read(root / name)
        _check_grid(volume, label, root / name)
        count = volume.images.shape[-1]
        if channel and not (channel.isdecimal() and int(channel) < count):
            raise InputError(f"{root / name} holds {count} sequences, from #0 on. Received: #{channel}.")
        volumes.append(volume.images[..., int(channel or 0)])
        spacing = volume.spacing
    return np.stack(volumes, axis=-1), spacing


def _check_grid(volume: NiftiVolume, label: NiftiVolume, file: Path) -> None:
    # To a hundredth of a millimeter: headers are written by many hands, in single precision.
    affines = volume.frame.image.affine, label.frame.image.affine
    if volume.images.shape[:3] != label.images.shape[:3] or not np.allclose(*affines, atol=1e-2):
        raise InputError(
            f"{file} and its labels are misaligned: {volume.images.shape[:3]} slices, rows and columns against "
            f"{label.images.shape[:3]}, or another affine. Resample one onto the other."
        )
