"""NIfTI volumes as arrays of axial slices, and masks back into the file's own array."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brainseg_keras.data.decode.memory import check_fits
from brainseg_keras.data.decode.spacing import checked_spacing
from brainseg_keras.errors import InputError, optional_import
from brainseg_keras.files import MAKER

#: Rows run from anterior to posterior and columns from the patient's right to left, as slices are shown.
_SHOWN = "LPS"


@dataclass(frozen=True)
class NiftiFrame:
    """Brings slices back into the array of the file that they came from.

    Args:
        image: The file as nibabel knows it.
        orientation: From the file's axes to the shown ones.
        flat: Whether the file is a single slice of two axes.
    """

    image: Any
    orientation: np.ndarray
    flat: bool

    def write(self, slices: np.ndarray, path: Path) -> None:
        """Write slices `(slices, height, width)` with the affine and the header of the file they came from.

        A comment in the header says who made it.

        Args:
            slices: Whole numbers become uint8, others float32.
            path: `.nii` or `.nii.gz` file.

        Raises:
            InputError: A header that can be read and not be written.
        """
        nibabel = optional_import("nibabel", "medical")

        dtype = np.float32 if slices.dtype.kind == "f" else np.uint8
        volume = np.transpose(slices, (2, 1, 0))
        shown = nibabel.orientations.axcodes2ornt(_SHOWN)
        back = nibabel.orientations.ornt_transform(shown, self.orientation)
        volume = nibabel.orientations.apply_orientation(volume, back).astype(dtype)
        if self.flat:
            volume = volume[..., 0]
        try:
            header = self.image.header.copy()
            header.set_data_dtype(dtype)
            header.set_slope_inter(1, 0)
            header.extensions.insert(0, nibabel.nifti1.Nifti1Extension("comment", MAKER.encode()))
            nibabel.save(type(self.image)(volume, self.image.affine, header), path)
        except OSError:
            raise
        except Exception as error:  # nibabel raises many kinds on a damaged header
            raise InputError(
                f"The header of {self.image.get_filename()} cannot be written with its mask ({error}). Convert the "
                "file again."
            ) from error


@dataclass(frozen=True)
class NiftiVolume:
    """A NIfTI volume as slices.

    Args:
        images: Array of shape `(slices, height, width, channels)`, float32.
        spacing: Millimeters between slices, rows and columns.
        frame: The way back.
    """

    images: np.ndarray
    spacing: tuple[float, float, float]
    frame: NiftiFrame


def read_nifti(path: str | Path) -> NiftiVolume:
    """Read a NIfTI volume as axial slices, scaled as its header says.

    Args:
        path: `.nii` or `.nii.gz` file of two, three or four axes; the fourth is channels.

    Returns:
        Slices, spacing and the way back.

    Raises:
        InputError: No nibabel, a file that cannot be read, colors or complex numbers, more than fits the memory.
    """
    nibabel = optional_import("nibabel", "medical")
    try:
        # Damaged headers make numbers overflow; what comes of it is checked.
        with np.errstate(all="ignore"):
            return _read_nifti(nibabel, Path(path))
    except InputError:
        raise
    except Exception as error:  # nibabel, NumPy and the decompressors raise many kinds
        raise InputError(
            f"Cannot read {path} as NIfTI ({error}). The file is truncated or none: copy or convert it again."
        ) from error


def _read_nifti(nibabel: Any, path: Path) -> NiftiVolume:
    image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Pair):
        raise ValueError(f"it is a {type(image).__name__}")
    stored = image.get_data_dtype()
    if stored.kind not in "uif":
        raise InputError(
            f"{path} holds {'colors' if stored.names else f'values of type {stored}'}. Expected one real number a "
            "voxel: convert it to gray."
        )
    check_fits(path, image.shape, itemsize=stored.itemsize)
    data = np.asanyarray(image.dataobj, dtype=np.float32)
    flat = data.ndim == 2
    if flat:
        data = data[..., np.newaxis]
    data = np.squeeze(data, axis=tuple(range(4, data.ndim))) if data.ndim > 4 else data
    if data.ndim not in (3, 4):
        raise ValueError(f"{data.ndim} axes")
    orientation = nibabel.io_orientation(image.affine)
    shown = nibabel.orientations.axcodes2ornt(_SHOWN)
    turned = nibabel.orientations.apply_orientation(data, nibabel.orientations.ornt_transform(orientation, shown))
    sizes = np.abs(nibabel.affines.voxel_sizes(image.affine))[np.argsort(orientation[:, 0])]
    slices = np.moveaxis(turned, (2, 1, 0), (0, 1, 2))
    images = slices if slices.ndim == 4 else slices[..., np.newaxis]
    spacing = checked_spacing(path, (sizes[2], sizes[1], sizes[0]))
    return NiftiVolume(np.ascontiguousarray(images), spacing, NiftiFrame(image, orientation, flat))


def orientation(path: Path) -> str:
    """Say which way a volume's axes run.

    Args:
        path: NIfTI file.

    Returns:
        Three letters, such as LPS.

    Raises:
        InputError: No nibabel.
    """
    nibabel = optional_import("nibabel", "medical")
    return "".join(nibabel.aff2axcodes(nibabel.load(path).affine))
