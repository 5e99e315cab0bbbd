"""Slices of the BraTS 2020 set as it is shared in HDF5, `volume_<v>_slice_<s>.h5`: image, mask and spacing."""

import re
from pathlib import Path

import numpy as np

from brainseg_keras.data.decode.memory import check_fits
from brainseg_keras.data.decode.spacing import checked_spacing
from brainseg_keras.data.labels import CLASSES
from brainseg_keras.errors import InputError

#: Names of the files.
SLICE = re.compile(r"(?P<volume>.+)_slice_(?P<number>\d+)\.(h5|hdf5)", re.IGNORECASE)
#: Order of the channels.
BRATS_CHANNELS = ("T1", "T1ce", "T2", "FLAIR")
#: All volumes of BraTS were resampled to this, in mm, before they were shared.
_SPACING = (1.0, 1.0, 1.0)


def read_brats_slice(path: str | Path) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Read one slice of the BraTS 2020 HDF5 set.

    Args:
        path: File with a dataset `image` of shape `(height, width, channels)`.

    Returns:
        The image, float32, and the names of its channels where it has the four of BraTS.

    Raises:
        InputError: A file that is none.
    """
    image = read_hdf5(path, "image", "(height, width, channels)").astype(np.float32)
    if image.ndim == 2:
        image = image[..., np.newaxis]
    if image.ndim != 3:
        raise InputError(f"{path}: `image` is of shape {image.shape}. Expected (height, width, channels).")
    return image, BRATS_CHANNELS if image.shape[-1] == len(BRATS_CHANNELS) else None


def read_hdf5(path: str | Path, name: str, shape: str) -> np.ndarray:
    """Read a dataset of numbers that lies in an HDF5 file itself.

    Args:
        path: The file.
        name: Of the dataset.
        shape: What is expected, for messages.

    Returns:
        The array.

    Raises:
        InputError: A file that cannot be read, no such dataset, values that are not numbers, more than fits the memory,
            or a dataset whose values lie in other files.
    """
    # This file is loaded with every format.
    import h5py

    try:
        with h5py.File(path, "r") as file:
            elsewhere = InputError(f"{path}: `{name}` lies in another file. Copy its values into this one.")
            # Each would read a file that nobody gave; that of a link is opened by following it.
            if isinstance(file.get(name, getlink=True), h5py.ExternalLink):
                raise elsewhere
            dataset = file[name]
            if dataset.is_virtual or dataset.external or dataset.file.filename != file.filename:
                raise elsewhere
            if dataset.dtype.kind not in "uifb":
                raise InputError(f"{path}: `{name}` holds values of type {dataset.dtype}. Expected numbers.")
            check_fits(path, dataset.shape, itemsize=dataset.dtype.itemsize)
            return dataset[()]
    except InputError:
        raise
    except Exception as error:  # h5py hands on whatever HDF5 says, as many kinds
        raise InputError(
            f"Cannot read {path} as a BraTS slice ({error}). Expected HDF5 with a dataset `{name}` of shape {shape}. "
            "The file is truncated or another one: download it again. A packed data set (brainseg data pack) goes to "
            "--data of evaluate, not to predict."
        ) from error


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


def read_brats_spacing(path: Path) -> tuple[float, float, float]:
    """Read the spacing of one slice.

    Args:
        path: The file.

    Returns:
        Millimeters between slices, rows and columns: the file's own, else the 1 mm of BraTS.

    Raises:
        InputError: It is none.
    """
    # This file is loaded with every format.
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return checked_spacing(path, file["image"].attrs.get("spacing", _SPACING))
    except InputError:
        raise
    except Exception as error:  # h5py hands on whatever HDF5 says, as many kinds
        raise InputError(f"{path}: the attribute `spacing` of `image` cannot be read ({error}).") from error
