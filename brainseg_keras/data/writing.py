"""Volumes written in the layout of BraTS 2020's HDF5 slices."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from brainseg_keras.data.decode.brats_slices import BRATS_CHANNELS
from brainseg_keras.data.decode.hdf5 import create_hdf5
from brainseg_keras.data.labels import CLASSES
from brainseg_keras.data.volumes import Volume, VolumeSource
from brainseg_keras.errors import InputError
from brainseg_keras.files import write_folder


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
            write_patient_slices(replace(volume, images=volume.images[..., order]), folder)

    write_folder(target, write)
    return target / "content" / "data"


def write_patient_slices(volume: Volume, folder: Path, *, compressed: bool = True) -> None:
    """Write one patient as the HDF5 slices of BraTS 2020.

    Args:
        volume: Its channels in BraTS' order.
        folder: Folder to write into, `<patient>_slice_<s>.h5`.
        compressed: Compress the images, as double precision like the shared set; else they keep their type.
    """
    packed = {"compression": "gzip", "compression_opts": 1}
    for number, image, mask in zip(volume.slices, volume.images, volume.masks, strict=True):
        with create_hdf5(folder / f"{volume.patient}_slice_{number}.h5") as (file, _):
            if compressed:
                file.create_dataset("image", data=image.astype(np.float64), **packed)
            else:
                file["image"] = image
            if volume.spacing is not None:
                file["image"].attrs["spacing"] = volume.spacing
            one_hot = mask[..., np.newaxis] == np.arange(1, 4, dtype=np.uint8)
            file.create_dataset("mask", data=one_hot.view(np.uint8), **packed)
