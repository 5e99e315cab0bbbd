"""NIfTI volumes, DICOM series and BraTS slices as arrays of axial slices, and masks back into NIfTI."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from brainseg_keras.data.memory import SHARE, check_fits, free_memory
from brainseg_keras.errors import InputError
from brainseg_keras.files import MAKER

#: Order of the channels in the BraTS 2020 HDF5 slices.
BRATS_CHANNELS = ("T1", "T1ce", "T2", "FLAIR")
#: Rows run from anterior to posterior and columns from the patient's right to left, as slices are shown.
_SHOWN = "LPS"
_DEFLATED_DICOM = "1.2.840.10008.1.2.1.99"
#: More than this zlib never makes of one byte.
_MOST_INFLATED = 1032


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
        import nibabel

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
        InputError: No nibabel, a file that cannot be read, colours or complex numbers, more than fits the memory.
    """
    nibabel = _library("nibabel")
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
            f"{path} holds {'colours' if stored.names else f'values of type {stored}'}. Expected one real number a "
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


def checked_spacing(path: Path, steps: Sequence[Any]) -> tuple[float, float, float]:
    """Give the spacing that a file says, or refuse it.

    Args:
        path: The file, for the message.
        steps: Between slices, rows and columns.

    Returns:
        Millimetres between slices, rows and columns.

    Raises:
        InputError: Not three finite numbers above 0.
    """
    spacing = tuple(map(float, steps))
    if len(spacing) != 3 or not all(0 < step < math.inf for step in spacing):
        raise InputError(f"{path} says that its pixels measure {spacing} mm. Mend its header.")
    return spacing


def is_dicom(path: Path) -> bool:
    """Say whether a file of any name is DICOM, by its mark.

    Args:
        path: Any file.

    Returns:
        Whether bytes 128 to 131 read DICM; not of a file that may not be opened.
    """
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def dicom_series(files: Sequence[Path]) -> list[tuple[Path, ...]]:
    """Sort DICOM files into series, slices in order along their normal.

    Args:
        files: DICOM files of one folder.

    Returns:
        A tuple a series; a file that cannot be read stands alone, so that reading it says why.
    """
    series: dict[str, list[tuple[float, Path]]] = {}
    for file in files:
        try:
            header = _dicom_header(_library("pydicom"), file, stop_before_pixels=True)
            key = f"{header.get('SeriesInstanceUID', file)} {header.get('Rows')} {header.get('Columns')}"
            place = _place(header)
        except Exception:  # no pydicom, or whatever it raises on a damaged file: reading it will say so
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
            header = _dicom_header(pydicom, file)
            if not slices:
                _check_series_fits(file, header, len(files))
            pixels = _dicom_pixels(header)
            _place(header)
        except InputError:
            raise
        except Exception as error:  # pydicom and its decoders raise many kinds
            raise InputError(
                f"Cannot read {file} as DICOM ({error}). Copy it again; a compressed one needs pylibjpeg or gdcm."
            ) from error
        if pixels.ndim != 3:
            raise InputError(f"{file} holds several frames. Split it into one file a slice.")
        if slices and pixels.shape != slices[0].shape:
            raise InputError(f"{file} is of shape {pixels.shape}, but {files[0]} of {slices[0].shape}.")
        slices.append(pixels)
        headers.append(header)
    return np.stack(slices), None, _dicom_spacing(headers, files[0])


def _dicom_header(pydicom: Any, file: Path, **options: Any) -> Any:
    with warnings.catch_warnings():
        # pydicom warns of values that it cannot make sense of: those that are needed fail on their own account.
        warnings.simplefilter("ignore")
        syntax = pydicom.filereader.read_file_meta_info(file).get("TransferSyntaxUID")
        if syntax == _DEFLATED_DICOM and file.stat().st_size * _MOST_INFLATED > SHARE * free_memory():
            raise ValueError("deflated as a whole, and too large for that: save it in another transfer syntax")
        return pydicom.dcmread(file, **options)


def _check_series_fits(file: Path, header: Any, count: int) -> None:
    sides = (header.get(name) for name in ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames"))
    check_fits(file, (count, *(int(side or 1) for side in sides)))


def _dicom_pixels(header: Any) -> np.ndarray:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        pixels = header.pixel_array.astype(np.float32)
        if header.get("SamplesPerPixel", 1) == 1:
            pixels = pixels[..., np.newaxis]
        pixels = pixels * float(header.get("RescaleSlope", 1)) + float(header.get("RescaleIntercept", 0))
        return pixels.max() - pixels if header.get("PhotometricInterpretation") == "MONOCHROME1" else pixels


def _dicom_spacing(headers: Sequence[Any], file: Path) -> tuple[float, float, float] | None:
    rows_columns = headers[0].get("PixelSpacing")
    if rows_columns is None:
        return None
    try:
        gaps = np.diff([_place(header) for header in headers])
        between = float(np.median(gaps)) if len(gaps) else 0.0
        if not between > 0 or headers[0].get("ImagePositionPatient") is None:
            between = float(headers[0].get("SpacingBetweenSlices") or headers[0].get("SliceThickness") or 0)
        steps = (between, *map(float, rows_columns))
    except Exception as error:  # whatever pydicom raises on what is no number
        raise InputError(f"The spacing in {file} cannot be read ({error}). Mend its header.") from error
    return checked_spacing(file, steps) if between > 0 else None


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
        InputError: A file that cannot be read, no such dataset, values that are no numbers, more than fits the memory,
            or a dataset whose values lie in other files.
    """
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


def _library(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise InputError(
            f"{name} is missing, which reads this kind of file. Install it: pip install 'brainseg_keras[medical]'"
        ) from error
