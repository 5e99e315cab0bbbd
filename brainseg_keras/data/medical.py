"""NIfTI volumes, DICOM series and BraTS slices as arrays of axial slices, and masks back into NIfTI."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from brainseg_keras.errors import InputError

#: Order of the channels in the BraTS 2020 HDF5 slices.
BRATS_CHANNELS = ("T1", "T1ce", "T2", "FLAIR")
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

        Args:
            slices: Whole numbers become uint8, others float32.
            path: `.nii` or `.nii.gz` file.
        """
        import nibabel

        dtype = np.float32 if slices.dtype.kind == "f" else np.uint8
        volume = np.transpose(slices, (2, 1, 0))
        shown = nibabel.orientations.axcodes2ornt(_SHOWN)
        back = nibabel.orientations.ornt_transform(shown, self.orientation)
        volume = nibabel.orientations.apply_orientation(volume, back).astype(dtype)
        header = self.image.header.copy()
        header.set_data_dtype(dtype)
        header.set_slope_inter(1, 0)
        if self.flat:
            volume = volume[..., 0]
        nibabel.save(type(self.image)(volume, self.image.affine, header), path)


@dataclass(frozen=True)
class NiftiVolume:
    """A NIfTI volume as slices.

    Args:
        images: Array of shape `(slices, height, width, channels)`, float32.
        spacing: Millimetres between slices, rows and columns.
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
        InputError: No nibabel, or a file that cannot be read.
    """
    nibabel = _library("nibabel")
    try:
        image = nibabel.load(path)
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
    except (OSError, EOFError, ValueError, zlib.error, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(
            f"Cannot read {path} as NIfTI ({error}). The file is truncated or none: copy or convert it again."
        ) from error
    slices = np.moveaxis(turned, (2, 1, 0), (0, 1, 2))
    images = slices if slices.ndim == 4 else slices[..., np.newaxis]
    spacing = (float(sizes[2]), float(sizes[1]), float(sizes[0]))
    if not all(step > 0 for step in spacing):
        raise InputError(f"{path} says that its pixels measure {spacing} mm. Mend its affine.")
    return NiftiVolume(np.ascontiguousarray(images), spacing, NiftiFrame(image, orientation, flat))


def is_dicom(path: Path) -> bool:
    """Say whether a file without ending is DICOM, by its mark.

    Args:
        path: Any file.

    Returns:
        Whether bytes 128 to 131 read DICM.
    """
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def dicom_series(files: Sequence[Path]) -> list[tuple[Path, ...]]:
    """Sort DICOM files into series, slices in order along their normal.

    Args:
        files: DICOM files of one folder.

    Returns:
        A tuple a series; a file that cannot be read stands alone, so that reading it says why.
    """
    if not files:
        return []
    pydicom = _library("pydicom")
    series: dict[str, list[tuple[float, Path]]] = {}
    for file in files:
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True)
            key = f"{header.get('SeriesInstanceUID', file)} {header.get('Rows')} {header.get('Columns')}"
            place = _place(header)
        except Exception:  # whatever pydicom raises on a damaged file: reading it will name it
            key, place = str(file), 0.0
        series.setdefault(key, []).append((place, file))
    return [tuple(file for _, file in sorted(members)) for members in series.values()]


def _place(header: Any) -> float:
    """Where a slice lies along the normal of its plane, in mm; else its number."""
    position, axes = header.get("ImagePositionPatient"), header.get("ImageOrientationPatient")
    if position is None or axes is None:
        return float(header.get("InstanceNumber") or 0)
    normal = np.cross(np.array(axes[:3], float), np.array(axes[3:], float))
    return float(normal @ np.array(position, float))


def read_dicom(
    files: Sequence[Path],
) -> tuple[np.ndarray, None, tuple[float, float, float] | None]:
    """Read a DICOM series as it is shown.

    Args:
        files: Its files in order.

    Returns:
        Images `(slices, height, width, channels)`, no channel names, and millimetres between slices, rows and columns
        where the files say.

    Raises:
        InputError: No pydicom, or a file that cannot be read.
    """
    pydicom = _library("pydicom")
    slices, headers = [], []
    for file in files:
        try:
            header = pydicom.dcmread(file)
            pixels = header.pixel_array.astype(np.float32)
        except Exception as error:  # pydicom and its decoders raise many kinds
            raise InputError(
                f"Cannot read {file} as DICOM ({error}). Copy it again; a compressed one needs pylibjpeg or gdcm."
            ) from error
        if header.get("SamplesPerPixel", 1) == 1:
            pixels = pixels[..., np.newaxis]
        if pixels.ndim != 3:
            raise InputError(f"{file} holds several frames. Split it into one file a slice.")
        pixels = pixels * float(header.get("RescaleSlope", 1)) + float(header.get("RescaleIntercept", 0))
        if header.get("PhotometricInterpretation") == "MONOCHROME1":
            pixels = pixels.max() - pixels
        if slices and pixels.shape != slices[0].shape:
            raise InputError(f"{file} is of shape {pixels.shape}, but {files[0]} of {slices[0].shape}.")
        slices.append(pixels)
        headers.append(header)
    return np.stack(slices), None, _dicom_spacing(headers)


def _dicom_spacing(headers: Sequence[Any]) -> tuple[float, float, float] | None:
    rows_columns = headers[0].get("PixelSpacing")
    if rows_columns is None:
        return None
    places = np.array([_place(header) for header in headers])
    gaps = np.diff(places)
    between = float(np.median(gaps)) if len(gaps) else 0.0
    if not between > 0 or headers[0].get("ImagePositionPatient") is None:
        between = float(headers[0].get("SpacingBetweenSlices") or headers[0].get("SliceThickness") or 0)
    return (between, float(rows_columns[0]), float(rows_columns[1])) if between > 0 else None


def read_brats_slice(path: str | Path) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Read one slice of the BraTS 2020 HDF5 set.

    Args:
        path: File with a dataset `image` of shape `(height, width, channels)`.

    Returns:
        The image, float32, and the names of its channels where it has the four of BraTS.

    Raises:
        InputError: A file that is none.
    """
    try:
        with h5py.File(path, "r") as file:
            image = np.asarray(file["image"], dtype=np.float32)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"Cannot read {path} as a BraTS slice ({error}). Expected HDF5 with a dataset `image` of shape (height, "
            "width, channels). A packed data set (brainseg data pack) goes to --data of evaluate, not to predict."
        ) from error
    if image.ndim == 2:
        image = image[..., np.newaxis]
    if image.ndim != 3:
        raise InputError(f"{path}: `image` is of shape {image.shape}. Expected (height, width, channels).")
    return image, BRATS_CHANNELS if image.shape[-1] == len(BRATS_CHANNELS) else None


def _library(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise InputError(
            f"{name} is missing, which reads this kind of file. Install it: pip install 'brainseg_keras[medical]'"
        ) from error
