"""Read one image or one mask from disk, or say what is wrong with the file."""

import hashlib
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from brainseg_keras.data.decode.memory import check_fits
from brainseg_keras.errors import InputError

#: What Pillow may take a file for, whatever its name: other decoders start programs (EPS) or are seldom tried.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
#: Endings of such files.
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
MASK_VALUES = (0, 1, 255)
#: Longest side of an image that is decoded, in pixels.
LONGEST_SIDE = 8192


def read_image(path: str | Path) -> np.ndarray:
    """Decode an image file into an array of its own pixels.

    Args:
        path: A TIFF, PNG, JPEG or BMP file, gray or color, 8 or 16 bit.

    Returns:
        Array of shape `(height, width, channels)`, dtype as in the file; palettes are expanded, alpha is dropped.

    Raises:
        InputError: The file is missing, truncated, no image, larger than 8192 pixels a side or than the memory, or of
            several pages.

    Example:
        >>> import tempfile, pathlib
        >>> from PIL import Image
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "slice.png"
        >>> Image.new("RGB", (64, 32)).save(file)
        >>> read_image(file).shape
        (32, 64, 3)
    """
    pixels = _decode(path)
    if pixels.ndim == 2:
        return pixels[..., np.newaxis]
    return pixels[..., :3] if pixels.shape[-1] == 4 else pixels


def read_mask(path: str | Path) -> np.ndarray:
    """Decode a mask file into zeros and ones.

    Args:
        path: An image file of one channel whose pixels are 0 and 255, or 0 and 1.

    Returns:
        Array of shape `(height, width)`, uint8, 1 where there is tumour.

    Raises:
        InputError: The file is missing, truncated, has three channels or other values.

    Example:
        >>> import tempfile, pathlib
        >>> from PIL import Image
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "slice_mask.png"
        >>> Image.new("L", (64, 32), 255).save(file)
        >>> int(read_mask(file).max())
        1
    """
    pixels = _decode(path)
    if pixels.ndim != 2:
        raise InputError(
            f"A mask has one channel. Received: {path} with {pixels.shape[-1]} channels. "
            "Save it in grayscale (mode L), 0 for background and 255 for tumour."
        )
    strange = np.setdiff1d(np.unique(pixels), MASK_VALUES)
    if strange.size:
        raise InputError(
            f"A mask holds 0 and 255, or 0 and 1. Received: {path} with the values {strange[:5].tolist()}. "
            "Threshold it, and save it without resampling or lossy compression."
        )
    return (pixels > 0).astype(np.uint8)


def mask_picture(labels: np.ndarray, classes: int) -> np.ndarray:
    """Give a mask as it is written to a picture file.

    Args:
        labels: Array of label numbers, uint8: 0 for background.
        classes: How many labels there are from 1 on.

    Returns:
        Array of the same shape, uint8: 0 and 255 of a single class, so that it shows; else the numbers.

    Example:
        >>> mask_picture(np.array([0, 1], "uint8"), 1).tolist()
        [0, 255]
    """
    return labels * np.uint8(255) if classes == 1 else labels


def pixel_checksum(pixels: np.ndarray) -> str:
    """SHA-256 of decoded pixels: of shape, dtype and bytes in C order, so that re-encoding a file keeps it.

    Args:
        pixels: Any array.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> pixel_checksum(np.zeros((2, 2), "uint8"))[:8]
        'e10c646b'
    """
    head = f"{pixels.shape}{pixels.dtype.str}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _decode(path: str | Path) -> np.ndarray:
    path = Path(path)
    try:
        with warnings.catch_warnings():
            # Pillow warns of damaged tags and then fails, or not, on its own account.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                _check_before_decoding(path, image)
                if image.mode in ("1", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "LA"):
                    image = image.convert("L" if image.mode in ("1", "LA") else "RGB")
                pixels = np.array(image)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"No such file: {path}. Check the path, or make the manifest again.") from error
    except Exception as error:  # Pillow's decoders raise many kinds
        raise InputError(
            f"Cannot decode {path} as {', '.join(FORMATS[:-1])} or {FORMATS[-1]} ({error}). The file is truncated or "
            "no such image: copy or download it again."
        ) from error
    if pixels.dtype.kind not in "uif":
        raise InputError(f"{path} does not hold numbers (Pillow's mode {image.mode}). Save it as gray or RGB.")
    return pixels


def _check_before_decoding(path: Path, image: Image.Image) -> None:
    """Refuse by its header what would fill the memory, or holds more than one picture."""
    if max(image.size) > LONGEST_SIDE:
        raise InputError(
            f"{path} has {image.width} x {image.height} pixels. At most {LONGEST_SIDE} a side are read: shrink it."
        )
    check_fits(path, (image.height, image.width, len(image.getbands())))
    if getattr(image, "n_frames", 1) > 1:
        raise InputError(
            f"{path} holds {image.n_frames} pictures. Expected one a file: save each page as a file of its own."
        )
