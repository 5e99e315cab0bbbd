"""Volumes: all slices of one patient, from files or from a packed store, through one door."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from brainseg_keras.data.decode.images import pixel_checksum, read_image, read_mask
from brainseg_keras.data.inputs.preprocessing import intensity_range
from brainseg_keras.data.labels import BINARY
from brainseg_keras.errors import InputError


@dataclass(frozen=True)
class Volume:
    """All slices of one patient, as stored: neither resized nor normalized.

    Args:
        patient: Name of the patient.
        images: Array of shape `(slices, height, width, channels)`, any real dtype.
        masks: Array of shape `(slices, height, width)`, uint8: 0 for background, from 1 on the source's classes.
        slices: Slice numbers, as in the manifest.
        intensity: Array of shape `(channels, 2)`: background and tissue level of each channel over the volume.
        spacing: Millimeters between slices, rows and columns; None where the files do not say.

    Example:
        >>> Volume("A", np.zeros((1, 8, 8, 3)), np.zeros((1, 8, 8), "uint8"), (1,), np.ones((3, 2))).patient
        'A'
    """

    patient: str
    images: np.ndarray
    masks: np.ndarray
    slices: tuple[int, ...]
    intensity: np.ndarray
    spacing: tuple[float, float, float] | None = None


class VolumeSource(Protocol):
    """What training and evaluation read: a table of slices, and each patient's volume."""

    table: pd.DataFrame
    channels: tuple[str, ...]
    #: Names of the labels from 1 on.
    classes: tuple[str, ...]

    def volume(self, patient: str) -> Volume:
        """Read one patient."""


class PatientPixels(NamedTuple):
    """What stands in one patient's files."""

    images: np.ndarray  # (slices, height, width, channels)
    masks: np.ndarray  # (slices, height, width), uint8, labels
    spacing: tuple[float, float, float] | None = None  # mm between slices, rows and columns


#: Reads one patient: rows of a manifest in the order of slices, the folder of their paths, names of the channels.
PatientReader = Callable[[pd.DataFrame, Path, Sequence[str]], PatientPixels]


class FileVolumes:
    """Volumes read from the files that a manifest lists.

    Args:
        table: Rows of a manifest.
        root: Folder to which the manifest's paths are relative.
        channels: Names of the channels.
        classes: Names of the labels from 1 on.
        read: Reads one patient; each format has its own.
        seeded: Whether the splits were drawn from a seed: those of a run then come first.
        files: Gives the files of an entry in the manifest's columns `image` and `mask`.

    Example:
        >>> import tempfile
        >>> from brainseg_keras.data.formats.lgg import CHANNELS, read_lgg
        >>> from brainseg_keras.data.phantom.lgg import write_phantom
        >>> table, root = read_lgg(write_phantom(tempfile.mkdtemp() + "/data", patients=3, slices=8, size=64))
        >>> FileVolumes(table, root, CHANNELS).volume(table.patient[0]).images.shape
        (8, 64, 64, 3)
    """

    def __init__(
        self,
        table: pd.DataFrame,
        root: str | Path,
        channels: Sequence[str],
        *,
        classes: Sequence[str] = BINARY,
        read: PatientReader | None = None,
        seeded: bool = False,
        files: Callable[[str], list[str]] = lambda entry: [entry],
    ):
        self.table = table
        self.seeded = seeded
        self._files = files
        self.channels = tuple(channels)
        self.classes = tuple(classes)
        self.root = Path(root)
        self._read = read or read_pictures

    @cached_property
    def _rows(self) -> dict[str, np.ndarray]:
        # Once: to look through all rows for each patient would take their number squared.
        return self.table.groupby("patient", sort=False).indices

    def identity(self, patients: Sequence[str]) -> Any:
        """Tell the patients' files from others, and from themselves when they change."""
        rows = self.table.iloc[np.concatenate([self._rows[patient] for patient in patients])]
        names = {file for entry in {*rows["image"], *rows["mask"]} for file in self._files(entry)}
        return [file_identity(self.root / name) for name in sorted(names)]

    def volume(self, patient: str) -> Volume:
        """Read and check one patient: checksums where the manifest has them, and values."""
        rows = self.table.iloc[self._rows[patient]].sort_values("slice")
        pixels = self._read(rows, self.root, self.channels)
        for row, image, mask in zip(rows.itertuples(), pixels.images, pixels.masks, strict=True):
            for array, expected, file in ((image, row.image_sha256, row.image), (mask, row.mask_sha256, row.mask)):
                if expected and pixel_checksum(array) != expected:
                    raise InputError(
                        f"{self.root / file} has changed since its manifest was written (sha256 of the pixels "
                        "differs). Restore the file, or write the manifest again: brainseg data manifest"
                    )
        try:
            intensity = intensity_range(pixels.images)
        except InputError as error:
            raise InputError(f"Patient {patient}, {self.root / rows.image.iloc[0]}: {error}") from error
        return Volume(patient, pixels.images, pixels.masks, tuple(rows.slice), intensity, pixels.spacing)


def read_pictures(
    rows: pd.DataFrame, root: Path, channels: Sequence[str], read_mask: Callable[[Path], np.ndarray] = read_mask
) -> PatientPixels:
    """Read a patient whose slices are picture files.

    Args:
        rows: Of the manifest, in the order of slices.
        root: Folder to which their paths are relative.
        channels: Names of the channels.
        read_mask: Reads a mask file as labels.

    Returns:
        The pixels.

    Raises:
        InputError: A file that cannot be read, another number of channels, sizes that differ, a slice of one value.
    """
    images, masks = [], []
    for row in rows.itertuples():
        image, mask = read_image(root / row.image), read_mask(root / row.mask)
        if image.shape[-1] != len(channels):
            raise InputError(
                f"{root / row.image} has {image.shape[-1]} channels. Expected {len(channels)}: {', '.join(channels)}."
            )
        if image.min() == image.max():
            raise InputError(
                f"Every pixel of {root / row.image} is {image.flat[0]}: nothing to see in this slice. "
                "Restore the file, or remove the slice and its mask."
            )
        images.append(image)
        masks.append(mask)
        if image.shape != images[0].shape or mask.shape != image.shape[:2]:
            raise InputError(
                f"Sizes differ within patient {row.patient}: {root / row.image} is {image.shape} and its mask "
                f"{mask.shape}, but the first slice is {images[0].shape}. Bring them to one size, or remove the slice."
            )
    return PatientPixels(np.stack(images), np.stack(masks))


class SelectedChannels:
    """A source of which some channels are read, in an order of one's own.

    Args:
        source: Where the volumes come from.
        modalities: Names of the channels to keep.

    Raises:
        InputError: A name that the source does not have, or one twice.

    Example:
        >>> from brainseg_keras.data import open_source
        >>> SelectedChannels(open_source("phantom"), ["FLAIR"]).channels
        ('FLAIR',)
    """

    def __init__(self, source: VolumeSource, modalities: Sequence[str]):
        absent = [name for name in modalities if name not in source.channels]
        if absent or len(set(modalities)) != len(modalities) or not modalities:
            raise InputError(
                f"--modalities takes each of {', '.join(source.channels)} at most once. Received: "
                f"{', '.join(modalities) or 'none'}."
            )
        self.table = source.table
        self.channels = tuple(modalities)
        self.classes = source.classes
        self.seeded = is_seeded(source)
        self._source = source
        self._indices = [source.channels.index(name) for name in modalities]

    def identity(self, patients: Sequence[str]) -> Any:
        """See `identity_of`."""
        return identity_of(self._source, patients)

    def volume(self, patient: str) -> Volume:
        """Read one patient."""
        whole = self._source.volume(patient)
        images = np.ascontiguousarray(whole.images[..., self._indices])
        # Measured anew: the range of a channel depends on which others vote on where the head is.
        return replace(whole, images=images, intensity=intensity_range(images))


def is_seeded(source: VolumeSource) -> bool:
    """Say whether the splits of a source were drawn from a seed, so that they give way to those of a run.

    Args:
        source: Where the volumes come from; one of a user's own need not say.

    Returns:
        Whether neither the data nor this package fixes them.
    """
    return bool(getattr(source, "seeded", False))


def identity_of(source: VolumeSource, patients: Sequence[str]) -> Any:
    """Tell a source's files of some patients from others, and from themselves when they change.

    Args:
        source: Where the volumes come from.
        patients: Whose files.

    Returns:
        Path, size, time of the last change and number of each file, as JSON can write it; None where a source of a
        user's own does not say.
    """
    identity = getattr(source, "identity", None)
    try:
        return identity and identity(patients)
    except OSError:
        # Whoever reads the file will say what is wrong with it.
        return None


def file_identity(path: Path) -> list[str | int]:
    """Give a file's path, size, time of the last change and number."""
    found = path.stat()
    return [str(path.absolute()), found.st_size, found.st_mtime_ns, found.st_ino]


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
