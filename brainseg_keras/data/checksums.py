"""What tells a patient by the pixels: found again under another name, in another format, with fewer sequences."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from brainseg_keras.data.decode.images import pixel_checksum
from brainseg_keras.data.volumes import Volume, VolumeSource, identity_of

#: Checksums that are kept of each channel. Of a patient who lost half of the slices one is found in 15 of 16.
_KEPT = 4
#: Share of pixels that differ from the first one, below which a slice is nearly blank and may be anybody's.
_SHOWS = 0.01
#: Largest number in half precision: what goes beyond is not packed in it either.
_LARGEST = float(np.finfo(np.float16).max)
_MINUS_ZERO = 0x8000


class PatientChecksums(NamedTuple):
    """Checksums of one patient.

    Args:
        slices: Of some slices of each channel; two patients that share one are the same.
        content: Of all that was read: pixels, masks, slice numbers.
    """

    slices: tuple[str, ...]
    content: str


def slice_checksums(images: np.ndarray) -> tuple[str, ...]:
    """Give checksums of a few slices of each channel, which ones their own checksums say.

    So names, numbers, order and format do not matter, nor which other channels were read, nor whether the pixels are
    kept in half precision. A patient who was turned, cut, resized, compressed with loss, or whose intensities were
    changed is not found.

    Args:
        images: Array of shape `(slices, height, width, channels)`, as stored.

    Returns:
        At most four a channel, each of 16 hexadecimal digits, sorted; none where every slice is nearly blank.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3), np.uint8)
        >>> set(slice_checksums(images[::-1, :, :, 1:2].astype("float32"))) <= set(slice_checksums(images))
        True
    """
    found: set[str] = set()
    for index in range(images.shape[-1]):
        channel = np.ascontiguousarray(images[..., index])
        shows = (channel != channel[:, :1, :1]).mean(axis=(1, 2)) > _SHOWS
        found.update(sorted({pixel_checksum(plane)[:16] for plane in _half_precision(channel)[shows]})[:_KEPT])
    return tuple(sorted(found))


def _half_precision(channel: np.ndarray) -> np.ndarray:
    """Bring equal values of any type to equal bytes; a packed data set may hold no more than half precision."""
    if channel.dtype == np.uint8:
        # By a table: much faster than to convert each pixel.
        return np.arange(256, dtype=np.float16)[channel]
    if not max(abs(float(channel.min())), abs(float(channel.max()))) <= _LARGEST:
        return channel.astype(np.float32)
    half = channel.astype(np.float16)
    # Minus nothing is nothing.
    half.view(np.uint16)[half.view(np.uint16) == _MINUS_ZERO] = 0
    return half


def patient_checksums(volume: Volume) -> PatientChecksums:
    """Give the checksums of a patient.

    Args:
        volume: As a source gives it.

    Returns:
        Those of some slices, and that of everything.

    Example:
        >>> volume = Volume("A", np.zeros((1, 8, 8, 3)), np.zeros((1, 8, 8), "uint8"), (1,), np.ones((3, 2)))
        >>> patient_checksums(volume).slices
        ()
    """
    whole = hashlib.sha256()
    for number, image, mask in zip(volume.slices, volume.images, volume.masks, strict=True):
        whole.update(f"{number} {pixel_checksum(image)} {pixel_checksum(mask)}\n".encode())
    return PatientChecksums(slice_checksums(volume.images), whole.hexdigest()[:32])


class RememberedVolumes:
    """A source that remembers the checksums of each patient that is read.

    Args:
        source: Where the volumes come from.
        splits: Splits by patient, in place of the source's own.

    Example:
        >>> from brainseg_keras.data import open_source
        >>> source = RememberedVolumes(open_source("phantom"))
        >>> name = source.volume(source.table.patient[0]).patient
        >>> list(source.checksums) == [name]
        True
    """

    def __init__(self, source: VolumeSource, splits: pd.Series | None = None):
        self.channels: Sequence[str] = source.channels
        self.classes: Sequence[str] = source.classes
        self.table: pd.DataFrame = source.table
        if splits is not None:
            self.table = source.table.assign(split=source.table.patient.map(splits))
        #: By patient.
        self.checksums: dict[str, PatientChecksums] = {}
        self._source = source

    def identity(self, patients: Sequence[str]) -> Any:
        """See `identity_of`."""
        return identity_of(self._source, patients)

    def volume(self, patient: str) -> Volume:
        """Read one patient."""
        volume = self._source.volume(patient)
        self.checksums[patient] = patient_checksums(volume)
        return volume
