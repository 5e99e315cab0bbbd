"""DICOM series as arrays of axial slices."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainseg_keras.data.decode.memory import SHARE, check_fits, free_memory
from brainseg_keras.data.decode.spacing import checked_spacing
from brainseg_keras.errors import InputError, optional_import

_DEFLATED_DICOM = "1.2.840.10008.1.2.1.99"
#: More than this zlib never makes of one byte.
_MOST_INFLATED = 1032


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
            header = _dicom_header(optional_import("pydicom", "medical"), file, stop_before_pixels=True)
            key = f"{header.get('SeriesInstanceUID', file)} {header.get('Rows')} {header.get('Columns')}"
            position = _position(header)
        except Exception:  # no pydicom, or whatever it raises on a damaged file: reading it will say so
            key, position = str(file), 0.0
        series.setdefault(key, []).append((position, file))
    return [tuple(file for _, file in sorted(members)) for members in series.values()]


def _position(header: Any) -> float:
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
        Images `(slices, height, width, channels)`, no channel names, and millimeters between slices, rows and columns
        where the files say.

    Raises:
        InputError: No pydicom, or a file that cannot be read.
    """
    pydicom = optional_import("pydicom", "medical")
    slices, headers = [], []
    for file in files:
        try:
            header = _dicom_header(pydicom, file)
            if not slices:
                _check_series_fits(file, header, len(files))
            pixels = _dicom_pixels(header)
            _position(header)
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
        first, gaps = headers[0], np.diff([_position(header) for header in headers])
        if len(gaps) and "ImagePositionPatient" in first and np.median(gaps) > 0:
            between = float(np.median(gaps))
        else:
            between = float(first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 0)
        steps = (between, *map(float, rows_columns))
    except Exception as error:  # whatever pydicom raises on what is not a number
        raise InputError(f"The spacing in {file} cannot be read ({error}). Mend its header.") from error
    return checked_spacing(file, steps) if between > 0 else None
