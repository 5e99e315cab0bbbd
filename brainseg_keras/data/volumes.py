"""Volumes: all slices of one patient, from files or from a packed store, through one door."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from brainseg_keras.data.images import pixel_checksum, read_image, read_mask
from brainseg_keras.data.preprocessing import intensity_range
from brainseg_keras.errors import InputError


@dataclass(frozen=True)
class Volume:
    """All slices of one patient, as stored: neither resized nor normalised.

    Args:
        patient: Name of the patient.
        images: Array of shape `(slices, height, width, channels)`, any real dtype.
        masks: Array of shape `(slices, height, width)`, uint8, 1 where there is tumour.
        slices: Slice numbers, as in the manifest.
        intensity: Array of shape `(channels, 2)`: background and tissue level of each channel over the volume.

    Example:
        >>> Volume("A", np.zeros((1, 8, 8, 3)), np.zeros((1, 8, 8), "uint8"), (1,), np.ones((3, 2))).patient
        'A'
    """

    patient: str
    images: np.ndarray
    masks: np.ndarray
    slices: tuple[int, ...]
    intensity: np.ndarray


class VolumeSource(Protocol):
    """What training and evaluation read: a table of slices, and each patient's volume."""

    table: pd.DataFrame
    channels: tuple[str, ...]

    def volume(self, patient: str) -> Volume:
        """Read one patient."""


class FileVolumes:
    """Volumes read from image files that a manifest lists.

    Args:
        table: Rows of a manifest.
        root: Folder to which the manifest's paths are relative.
        channels: Names of the channels.

    Example:
        >>> import tempfile
        >>> from brainseg_keras.data.lgg import CHANNELS, read_lgg
        >>> from brainseg_keras.data.phantom import write_phantom
        >>> table, root = read_lgg(write_phantom(tempfile.mkdtemp() + "/data", patients=3, slices=8, size=64))
        >>> FileVolumes(table, root, CHANNELS).volume(table.patient[0]).images.shape
        (8, 64, 64, 3)
    """

    def __init__(self, table: pd.DataFrame, root: str | Path, channels: tuple[str, ...]):
        self.table = table
        self.channels = channels
        self._root = Path(root)

    def volume(self, patient: str) -> Volume:
        """Read and check one patient: checksums where the manifest has them, equal sizes, no constant slice."""
        rows = self.table[self.table.patient == patient].sort_values("slice")
        pairs = [self._read(row) for row in rows.itertuples()]
        first = pairs[0][0].shape
        for row, (image, mask) in zip(rows.itertuples(), pairs, strict=True):
            if image.shape != first or mask.shape != first[:2]:
                raise InputError(
                    f"Sizes differ within patient {patient}: {self._root / row.image} is {image.shape} and its mask "
                    f"{mask.shape}, but the first slice is {first}. Bring them to one size, or remove the slice."
                )
        images, masks = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
        return Volume(patient, images, masks, tuple(rows.slice), intensity_range(images))

    def _read(self, row) -> tuple[np.ndarray, np.ndarray]:
        image, mask = read_image(self._root / row.image), read_mask(self._root / row.mask)
        for pixels, expected, file in ((image, row.image_sha256, row.image), (mask, row.mask_sha256, row.mask)):
            if expected and pixel_checksum(pixels) != expected:
                raise InputError(
                    f"{self._root / file} has changed since its manifest was written (sha256 of the pixels differs). "
                    "Restore the file, or write the manifest again: brainseg data manifest lgg FOLDER -o FILE"
                )
        if image.shape[-1] != len(self.channels):
            raise InputError(
                f"{self._root / row.image} has {image.shape[-1]} channels. "
                f"Expected {len(self.channels)}: {', '.join(self.channels)}."
            )
        if image.min() == image.max():
            raise InputError(
                f"Every pixel of {self._root / row.image} is {image.flat[0]}: nothing to see in this slice. "
                "Restore the file, or remove the slice and its mask."
            )
        return image, mask


def select_patients(source: VolumeSource, split: str) -> list[str]:
    """List the patients of one split.

    Args:
        source: Where the volumes come from.
        split: `train`, `val`, `test`, or `all`, which also takes those that no split names.

    Returns:
        Names in alphabetical order.

    Raises:
        InputError: An unknown split, or one without patients.

    Example:
        >>> from types import SimpleNamespace
        >>> table = pd.DataFrame(dict(patient=["B", "A", "A"], split=["val", "train", "train"]))
        >>> select_patients(SimpleNamespace(table=table), "all")
        ['A', 'B']
    """
    if split not in ("train", "val", "test", "all"):
        raise InputError(f"split is train, val, test or all. Received: {split!r}.")
    table = source.table
    patients = sorted(table.patient.unique() if split == "all" else table.patient[table.split == split].unique())
    if not patients:
        counts = table.groupby("split").patient.nunique().to_dict()
        raise InputError(f"No patient in the split {split!r}. Patients per split: {counts}.")
    return patients


def iterate_volumes(source: VolumeSource, split: str) -> Iterator[Volume]:
    """Read the patients of a split one at a time, so that memory holds one.

    Args:
        source: Where the volumes come from.
        split: `train`, `val`, `test` or `all`.

    Yields:
        Volumes in alphabetical order of patients.
    """
    for patient in select_patients(source, split):
        yield source.volume(patient)
