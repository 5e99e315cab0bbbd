"""From a stored slice to what a network sees, the same in training and in prediction, and back."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from brainseg_keras import ranges
from brainseg_keras.data.inputs.head import inner_head
from brainseg_keras.data.inputs.ranks import exceeds, percentiles
from brainseg_keras.errors import InputError
from brainseg_keras.ranges import Range

#: A pixel is bright when it exceeds this share of the way from the background to the 99.5th percentile.
_HEAD_SHARE = 0.1


def intensity_range(images: np.ndarray, *, inner: bool = False) -> np.ndarray:
    """Measure the intensities of a volume, or of a lone slice: background and tissue level of each channel.

    The background is the first percentile of all pixels. The tissue level is the median inside the head, which is the
    brain's own: a high percentile would be the scalp's, whose fat is bright in some patients and leaves the brain dark.

    Args:
        images: Array of shape `(slices, height, width, channels)`.
        inner: Leave the rim of the head, scalp and skull, out of the median.

    Returns:
        Array of shape `(channels, 2)`, float32, the second column larger than the first.

    Raises:
        InputError: Values that are not finite.

    Example:
        >>> images = np.zeros((1, 10, 10, 1)); images[:, 2:8, 2:8] = 50
        >>> intensity_range(images).tolist()
        [[0.0, 50.0]]
    """
    planes = [np.ascontiguousarray(plane) for plane in np.moveaxis(images, -1, 0)]
    if images.dtype != np.uint8 and not all(np.isfinite(plane).all() for plane in planes):
        raise InputError("The image holds NaN or infinite values. Replace them, or leave the slice out.")
    background, bright = np.array([percentiles(plane, (1, 99.5)) for plane in planes]).T
    levels = background + _HEAD_SHARE * (bright - background)
    above = [exceeds(plane, level) for plane, level in zip(planes, levels, strict=True)]
    head, most = np.logical_and.reduce(above), 2 * np.add.reduce(above, dtype=np.int16) > len(above)
    if head.mean() < 0.5 * most.mean():
        # One channel is empty, or its background is saturated: the others outvote it.
        head = most
    # Where even they share nothing, each channel speaks for itself.
    shared = head.mean() > 0.01
    if inner and shared and (within := head & inner_head(head)).any():
        head = within
    tissue = [
        percentiles(plane, (50,), inside)[0] if (inside := head if shared else own).any() else plane.max()
        for plane, own in zip(planes, above, strict=True)
    ]
    tissue = np.maximum(tissue, background + 1e-3 * np.maximum(1, np.abs(background)))
    return np.stack([background, tissue], axis=1).astype(np.float32)


def normalize(images: np.ndarray, intensity: np.ndarray) -> np.ndarray:
    """Bring background to 0 and tissue to 1, clipped to [0, 4].

    Args:
        images: Array of shape `(slices, height, width, channels)`.
        intensity: Array of shape `(channels, 2)`, or `(slices, channels, 2)` for a range of each slice's own.

    Returns:
        Array of the same shape, float32.

    Example:
        >>> normalize(np.full((1, 1, 1, 1), 150.0), np.array([[50.0, 100.0]])).item()
        2.0
    """
    intensity = np.asarray(intensity, np.float32)
    if images.dtype == np.uint8:
        return _normalize_bytes(images, intensity)
    low, high = intensity[..., 0], intensity[..., 1]
    if intensity.ndim == 3:
        low, high = low[:, None, None], high[:, None, None]
    scaled = images.astype(np.float32)
    scaled -= low
    scaled /= high - low
    return np.clip(scaled, 0, 4, out=scaled)


def _normalize_bytes(images: np.ndarray, intensity: np.ndarray) -> np.ndarray:
    """Look 256 values up instead of computing each pixel's: the same bits, five times as fast."""
    ranges = np.broadcast_to(intensity, (len(images), *intensity.shape[-2:]))
    scaled = aligned_empty(images.shape)
    for image, table, out in zip(images, byte_tables(ranges), scaled, strict=True):
        cv2.LUT(image, table, out)
    return scaled


def preprocess_input(
    images: np.ndarray,
    *,
    size: int | None = None,
    blur: float = 0.0,
    clahe: float = 0.0,
    inner_tissue: bool = False,
) -> np.ndarray:
    """Bring the slices of one patient to what a network sees: square, resized, background 0 and tissue 1.

    Give all slices of a patient at once: intensities are measured over them. `Predictor` does this by itself, with the
    settings with which its network was trained.

    Args:
        images: Array of shape `(slices, height, width, channels)`, as stored.
        size: Side of the network's input in pixels; default the longer side of the images.
        blur: Standard deviation of a Gaussian blur in stored pixels; 0 for none.
        clahe: Clip limit of CLAHE; 0 for none.
        inner_tissue: Measure the tissue level without the rim of the head.

    Returns:
        Array of shape `(slices, size, size, channels)`, float32, clipped to [0, 4].

    Raises:
        InputError: Another shape, values that are not finite, or a setting out of its range.

    Example:
        >>> preprocess_input(np.random.default_rng(0).random((2, 40, 50, 3)), size=32).shape
        (2, 32, 32, 3)
    """
    images = np.asarray(images)
    if images.ndim != 4 or not images.size:
        raise InputError(f"images has the shape (slices, height, width, channels). Received: {images.shape}.")
    preprocessing = Preprocessing(size or max(images.shape[1:3]), blur, clahe, inner_tissue)
    return normalize(*preprocessing.volume(images))


def aligned_empty(shape: tuple[int, ...]) -> np.ndarray:
    """Make an array that TensorFlow takes as it is; one that begins elsewhere than at 64 bytes it copies.

    Args:
        shape: Of the array.

    Returns:
        Array of that shape, float32, with values that mean nothing.

    Example:
        >>> aligned_empty((2, 3)).ctypes.data % 64
        0
    """
    size = 4 * math.prod(shape)
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(np.float32).reshape(shape)


def byte_tables(intensity: np.ndarray) -> np.ndarray:
    """Say what `normalize` makes of each byte, for each slice.

    Args:
        intensity: Array of shape `(slices, channels, 2)`.

    Returns:
        Array of shape `(slices, 1, 256, channels)`, float32; `cv2.LUT` takes one slice's.

    Example:
        >>> byte_tables(np.array([[[50.0, 100.0]]]))[0, 0, [0, 100, 150], 0].tolist()
        [0.0, 1.0, 2.0]
    """
    ramp = np.arange(256, dtype=np.float32)[np.newaxis, :, np.newaxis]
    return normalize(np.broadcast_to(ramp, (len(intensity), 1, 256, intensity.shape[1])), intensity)


@dataclass(frozen=True)
class Preprocessing:
    """How stored slices become a network's input, before normalization.

    Args:
        size: Side of the square that the network sees, in pixels. Images that are not square are padded to a square
            first, so that nothing is stretched.
        blur: Standard deviation of a Gaussian blur in stored pixels; 0 for none.
        clahe: Clip limit of contrast-limited adaptive histogram equalization (8 x 8 tiles), after the blur; 0 for none.
        inner_tissue: Measure the tissue level by which slices are normalized without the rim of the head.

    Raises:
        InputError: A value out of its range.

    Example:
        >>> Preprocessing(size=16).images(np.zeros((2, 30, 40, 3), "uint8")).shape
        (2, 16, 16, 3)

    Reference:
        Blur, then CLAHE: Yadav, Kolekar, Zope 2025, doi 10.1016/j.bspc.2024.107220. They equalize the lightness of the
        three channels as if these were a color; here each channel, an MR sequence of its own, is equalized.
    """

    size: int = 256
    blur: float = 0.0
    clahe: float = 0.0
    inner_tissue: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        Range(1, 8192).check("size", self.size)
        ranges.BLUR.check("blur", self.blur)
        ranges.CLAHE.check("clahe", self.clahe)
        if not isinstance(self.inner_tissue, bool):
            raise InputError(f"inner_tissue is true or false. Received: {self.inner_tissue!r}.")

    def intensity(self, images: np.ndarray) -> np.ndarray:
        """Measure the range `(channels, 2)` by which images `(slices, height, width, channels)` are normalized."""
        return intensity_range(images, inner=self.inner_tissue)

    def volume(self, images: np.ndarray, intensity: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Prepare a volume: filter, pad and resize it, and say by what it is normalized.

        Args:
            images: Array of shape `(slices, height, width, channels)`.
            intensity: The volume's `intensity_range` as stored, which holds unless a filter changes the intensities or
                the rule is another; default measured here.

        Returns:
            Images `(slices, size, size, channels)`, uint8 as stored or else float32, and the range `(channels, 2)`.
        """
        filtered = self._filter(images)
        if intensity is None or self.clahe or self.blur or self.inner_tissue:
            intensity = self.intensity(filtered)
        return self._resize(filtered), intensity

    def images(self, images: np.ndarray) -> np.ndarray:
        """Filter, pad and resize images `(slices, height, width, channels)`; uint8 stays, the rest becomes float32."""
        return self._resize(self._filter(images))

    def _filter(self, images: np.ndarray) -> np.ndarray:
        if images.dtype != np.uint8:
            images = images.astype(np.float32)
        if self.blur:
            images = blur_images(images, self.blur)
        return _equalize(images, self.clahe) if self.clahe else images

    def _resize(self, images: np.ndarray) -> np.ndarray:
        return self._fit(images, fill=images.min())

    def masks(self, masks: np.ndarray) -> np.ndarray:
        """Pad and resize masks as images are, so that both lie on the same pixels.

        A pixel that the border of a tumour crosses keeps the share of it that is tumour. The nearest label instead
        would move each mask by half a stored pixel when 256 pixels become 128, and lose its fine shape.

        Args:
            masks: Array of shape `(slices, height, width, layers)`, uint8, from 0 to 255, as `Target.layers` gives it.

        Returns:
            Array of shape `(slices, size, size, layers)`, uint8, from 0 to 255.
        """
        return self._fit(masks, fill=0)

    def restore(self, probabilities: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Bring maps `(slices, size, size)` back to stored slices of `(height, width)`; padding goes."""
        side = max(shape)
        if probabilities.shape[1] == side == min(shape):
            return probabilities
        top, left = (side - shape[0]) // 2, (side - shape[1]) // 2
        interpolation = _interpolation(probabilities.shape[1], side)
        square = [cv2.resize(p, (side, side), interpolation=interpolation) for p in np.float32(probabilities)]
        return np.stack([s[top : top + shape[0], left : left + shape[1]] for s in square])

    def restore_channels(self, probabilities: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Bring maps `(slices, size, size, channels)` back likewise."""
        if probabilities.shape[-1] == 1:
            # No copy: of a large volume it would take as long as the rest.
            return self.restore(probabilities[..., 0], shape)[..., np.newaxis]
        return np.stack([self.restore(plane, shape) for plane in np.moveaxis(probabilities, -1, 0)], axis=-1)

    def _fit(self, arrays: np.ndarray, fill: float) -> np.ndarray:
        height, width = arrays.shape[1:3]
        side = max(height, width)
        if height != width:
            top, left = (side - height) // 2, (side - width) // 2
            edges = ((0, 0), (top, side - height - top), (left, side - width - left), (0, 0))
            arrays = np.pad(arrays, edges, constant_values=fill)
        if side == self.size:
            return arrays
        target, interpolation = (self.size, self.size), _interpolation(side, self.size)
        return np.stack([_with_channels(cv2.resize(a, target, interpolation=interpolation)) for a in arrays])


def blur_images(images: np.ndarray, blur: float) -> np.ndarray:
    """Blur each slice by a Gaussian.

    Args:
        images: Array of shape `(slices, height, width, channels)`, uint8 or float32.
        blur: Standard deviation in pixels, above 0.

    Returns:
        Array of the same shape and dtype.

    Example:
        >>> images = np.zeros((1, 9, 9, 1), "float32"); images[0, 4, 4] = 1
        >>> round(float(blur_images(images, 1.0)[0, 4, 4, 0]), 3)
        0.159
    """
    return np.stack([_with_channels(cv2.GaussianBlur(image, (0, 0), blur)) for image in images])


def _interpolation(size: int, wanted: int) -> int:
    """Average what becomes smaller; draw lines between the pixels of what becomes larger. Neither moves anything."""
    return cv2.INTER_AREA if size > wanted else cv2.INTER_LINEAR


def _with_channels(image: np.ndarray) -> np.ndarray:
    """Give back the channel axis, which OpenCV drops when there is one channel."""
    return image[..., np.newaxis] if image.ndim == 2 else image


def _equalize(images: np.ndarray, clip_limit: float) -> np.ndarray:
    clahe = cv2.createCLAHE(clip_limit, (8, 8))
    if images.dtype == np.uint8:
        return np.stack(
            [np.stack([clahe.apply(np.ascontiguousarray(c)) for c in np.moveaxis(i, -1, 0)], -1) for i in images]
        )
    # OpenCV equalizes whole numbers only: 16 bits over the volume's range keep what float16 held.
    low, high = images.min(), images.max()
    scale = 65535 / max(float(high - low), 1e-6)
    whole = np.round((images - low) * scale).astype(np.uint16)
    equal = np.stack(
        [np.stack([clahe.apply(np.ascontiguousarray(c)) for c in np.moveaxis(i, -1, 0)], -1) for i in whole]
    )
    return (equal / scale + low).astype(np.float32)
