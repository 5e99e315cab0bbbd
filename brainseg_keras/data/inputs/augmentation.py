"""Augmentation of images and masks together: one affine map and one interpolation a slice."""

from dataclasses import dataclass

import cv2
import numpy as np

from brainseg_keras import ranges
from brainseg_keras.data.inputs.fields import add_bias_field, elastic_maps, lower_resolution
from brainseg_keras.data.inputs.lesions import darken_lesions, paste_lesions
from brainseg_keras.data.inputs.preprocessing import aligned_empty, byte_tables, normalize
from brainseg_keras.ranges import Range

_RANGES = {
    "rotate": ranges.ROTATE,
    "flip": ranges.FLIP,
    "zoom": ranges.ZOOM,
    "shift": ranges.SHIFT,
    "intensity": ranges.INTENSITY,
    "noise": ranges.NOISE,
    "stand_in": ranges.STAND_IN,
    "darken": ranges.DARKEN,
    "paste": ranges.PASTE,
    "bias_field": ranges.BIAS_FIELD,
    "low_resolution": ranges.LOW_RESOLUTION,
    "elastic": ranges.ELASTIC,
    "stand_in_channel": Range(0, 1023),
}


@dataclass(frozen=True)
class Augmentation:
    """Random rotation, flip, zoom, shift and elastic map, then contrast, tumours and noise, of slices and their masks.

    What comes into view from outside is background (0), never a mirror image: that would copy tumours to the border.

    Args:
        rotate: Largest angle in degrees, either way.
        flip: Probability of a left-right flip.
        zoom: Largest change of scale: 0.15 draws from 1/1.15 to 1.15.
        shift: Largest shift as a share of the side, either way.
        intensity: Largest change of each channel's gain and gamma: 0.2 draws each from 1/1.2 to 1.2. Background (0)
            stays where it is.
        noise: Largest standard deviation of Gaussian noise; tissue is 1.
        stand_in: Probability that one channel stands in for others, as FLAIR does in sets and scans that lack a
            sequence: half of the time for all, else for one.
        darken: Probability that a slice's tumour is darkened in part, see `darken_lesions`.
        paste: Probability that a slice is given the tumour of another slice of its batch, see `paste_lesions`.
        bias_field: Largest logarithm of a smooth field by which each slice is multiplied.
        low_resolution: Probability that a slice is made coarser, by a factor of 1.5 to 3.
        elastic: Largest elastic displacement as a share of the side.
        stand_in_channel: Which channel that is.

    Raises:
        InputError: A value out of its range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> images, masks = np.ones((2, 16, 16, 3), "float32"), np.full((2, 16, 16, 1), 255, "uint8")
        >>> [array.shape for array in Augmentation()(images, masks, rng)]
        [(2, 16, 16, 3), (2, 16, 16, 1)]
    """

    rotate: float = ranges.ROTATE.usual
    flip: float = ranges.FLIP.usual
    zoom: float = ranges.ZOOM.usual
    shift: float = ranges.SHIFT.usual
    intensity: float = ranges.INTENSITY.usual
    noise: float = ranges.NOISE.usual
    stand_in: float = ranges.STAND_IN.usual
    darken: float = ranges.DARKEN.usual
    paste: float = ranges.PASTE.usual
    bias_field: float = ranges.BIAS_FIELD.usual
    low_resolution: float = ranges.LOW_RESOLUTION.usual
    elastic: float = ranges.ELASTIC.usual
    stand_in_channel: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name, within in _RANGES.items():
            within.check(name, getattr(self, name))

    @property
    def in_turn(self) -> bool:
        """Whether slices draw one after the other, or from each other: then a part of a batch takes the whole of it."""
        return bool(self.darken or self.paste or self.bias_field)

    def __call__(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        rng: np.random.Generator,
        context: int = 0,
        *,
        layers: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Augment a batch.

        Args:
            images: Array of shape `(batch, height, width, channels)`, float32, background 0.
            masks: Array of shape `(batch, height, width, layers)`, uint8, from 0 to 255, as `Target.layers` gives it.
            rng: Where the random numbers come from.
            context: Neighbors on each side that stand behind each other as channels; they get one contrast.
            layers: How many of the masks' layers say where tumours are; what a teacher says of them stands behind these
                and moves with them. None for all.

        Returns:
            New arrays of the same shapes and dtypes.
        """
        sources = self._sources(rng, len(images), images.shape[-1], context)
        if sources is not None:
            images = np.take_along_axis(images, sources[:, np.newaxis, np.newaxis], axis=-1)
        maps = self._maps(rng, *masks.shape[:3])
        moved, moved_masks = _move(images, maps), _move_masks(masks, maps, layers)
        self._contrast(moved, rng, context)
        self._alter(moved, moved_masks, rng, context, sources, layers)
        return moved, moved_masks

    def normalized(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        intensity: np.ndarray,
        rng: np.random.Generator,
        context: int = 0,
        *,
        layers: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Augment and normalize slices as they are stored.

        Bytes are moved as bytes; then one table says what each of their 256 values becomes, normalized and in its new
        contrast. That is four times as fast as to compute each pixel, and differs by the rounding of moved pixels.

        Args:
            images: Array of shape `(batch, height, width, channels)`, as stored.
            masks: Array of shape `(batch, height, width, layers)`, uint8, from 0 to 255, as `Target.layers` gives it.
            intensity: Background and tissue levels `(batch, channels, 2)`.
            rng: Where the random numbers come from.
            context: Neighbors on each side that stand behind each other as channels; they get one contrast.
            layers: How many of the masks' layers say where tumours are; what a teacher says of them stands behind these
                and moves with them. None for all.

        Returns:
            Images, float32, background 0 and tissue 1, and masks, of the same shapes.
        """
        if images.dtype != np.uint8:
            return self(normalize(images, intensity), masks, rng, context, layers=layers)
        sources = self._sources(rng, len(images), images.shape[-1], context)
        if sources is not None:
            images = np.take_along_axis(images, sources[:, np.newaxis, np.newaxis], axis=-1)
            intensity = np.take_along_axis(intensity, sources[..., np.newaxis], axis=1)
        maps = self._maps(rng, *masks.shape[:3])
        tables = byte_tables(intensity)
        self._contrast(tables, rng, context)
        # Few calls a slice: the threads that make batches side by side take turns in everything that is not OpenCV's.
        result = aligned_empty(images.shape)
        for bytes_moved, table, pixels in zip(
            _move(images, maps, intensity[..., 0].round()), tables, result, strict=True
        ):
            cv2.LUT(bytes_moved, table, pixels)
        moved_masks = _move_masks(masks, maps, layers)
        self._alter(result, moved_masks, rng, context, sources, layers)
        return result, moved_masks

    def _sources(self, rng: np.random.Generator, count: int, channels: int, context: int) -> np.ndarray | None:
        """Say which channel each channel of each image comes from `(count, channels)`; None for its own."""
        if not self.stand_in:
            return None
        own = channels // (2 * context + 1)
        sources = np.tile(np.arange(own), (count, 1))
        chosen, for_all, one = rng.random(count) < self.stand_in, rng.random(count) < 0.5, rng.integers(own, size=count)
        replaced = for_all[:, np.newaxis] | (np.arange(own) == one[:, np.newaxis])
        sources[chosen[:, np.newaxis] & replaced] = self.stand_in_channel
        steps = own * np.arange(2 * context + 1)
        return (steps[:, np.newaxis] + sources[:, np.newaxis]).reshape(count, channels)

    def _maps(self, rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
        """Draw affine maps `(count, 2, 3)` from old to new pixels, about the center, or bend them: `elastic_maps`."""
        angle = np.deg2rad(rng.uniform(-self.rotate, self.rotate, count))
        scale = _factor(rng, self.zoom, count)
        mirror = np.where(rng.random(count) < self.flip, -1.0, 1.0)
        shift = rng.uniform(-self.shift, self.shift, (count, 2)) * (width, height)
        cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
        linear = np.stack([mirror * cosine, -sine, mirror * sine, cosine], axis=-1).reshape(count, 2, 2)
        center = np.array([(width - 1) / 2, (height - 1) / 2])
        matrices = np.concatenate([linear, (center + shift - linear @ center)[..., np.newaxis]], axis=-1)
        return elastic_maps(matrices, height, width, rng, self.elastic) if self.elastic else matrices

    def _contrast(self, images: np.ndarray, rng: np.random.Generator, context: int) -> None:
        """Change gain and gamma of each channel of each image `(count, height, width, channels)`, in place."""
        if self.intensity:
            neighbors = 2 * context + 1
            shape = (len(images), 1, 1, images.shape[-1] // neighbors)
            gamma, gain = (np.float32(_factor(rng, self.intensity, shape)) for _ in range(2))
            np.maximum(images, 0, out=images)
            np.power(images, np.tile(gamma, neighbors), out=images)
            images *= np.tile(gain, neighbors)

    def _alter(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        rng: np.random.Generator,
        context: int,
        sources: np.ndarray | None,
        layers: int | None,
    ) -> None:
        """Change what is moved and normalized, in place, from the tumour to the scanner; what is off draws nothing."""
        if self.darken:
            darken_lesions(images, masks[..., :layers], rng, self.darken, context=context, sources=sources)
        if self.paste:
            paste_lesions(images, masks, rng, self.paste, sources=sources, layers=layers)
        if self.bias_field:
            add_bias_field(images, rng, self.bias_field)
        if self.low_resolution:
            lower_resolution(images, rng, self.low_resolution)
        self._grain(images, rng)

    def _grain(self, images: np.ndarray, rng: np.random.Generator) -> None:
        """Add noise, in place."""
        if not self.noise:
            return
        seeds, spreads = rng.integers(2**31 - 1, size=len(images)), rng.uniform(0, self.noise, len(images))
        # One channel to OpenCV, since a number is the spread of the first channel alone.
        grain = np.empty((images.shape[1], images.shape[2] * images.shape[3]), np.float32)
        for image, seed, spread in zip(images, seeds.tolist(), spreads.tolist(), strict=True):
            # OpenCV draws three times as fast as NumPy; its generator is the thread's own.
            cv2.setRNGSeed(seed)
            cv2.randn(grain, 0, spread)
            image += grain.reshape(image.shape)


def _move(images: np.ndarray, maps: np.ndarray, outside: np.ndarray | None = None) -> np.ndarray:
    """Move images or masks linearly; `outside` `(count, channels)` comes into view at the borders, default 0."""
    count, height, width, channels = images.shape
    outside = np.zeros((count, channels)) if outside is None else outside
    if channels > 4:
        # OpenCV moves at most four at once.
        groups = [slice(start, start + 4) for start in range(0, channels, 4)]
        parts = [_move(np.ascontiguousarray(images[..., g]), maps, outside[:, g]) for g in groups]
        return np.concatenate([part.reshape(*part.shape[:3], -1) for part in parts], axis=-1)
    # OpenCV moves bytes of four channels in half the time of three.
    widen = images.dtype == np.uint8 and channels == 3
    if widen:
        images = cv2.cvtColor(images.reshape(-1, width, 3), cv2.COLOR_BGR2BGRA).reshape(count, height, width, 4)
    moved = np.empty_like(images)
    fills = np.pad(outside, ((0, 0), (0, 4 - channels))).tolist()
    bent = maps.ndim == 4
    for image, chart, fill, target in zip(images, maps, fills, moved, strict=True):
        if bent:
            cv2.remap(image, chart, None, cv2.INTER_LINEAR, target, cv2.BORDER_CONSTANT, fill)
        else:
            cv2.warpAffine(image, chart, (width, height), target, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT, fill)
    if widen:
        return cv2.cvtColor(moved.reshape(-1, width, 4), cv2.COLOR_BGRA2BGR).reshape(count, height, width, 3)
    return moved


def _move_masks(masks: np.ndarray, maps: np.ndarray, layers: int | None) -> np.ndarray:
    """Move masks, and what a teacher says of them by itself: OpenCV rounds as the number of channels has it."""
    if layers is None or layers == masks.shape[-1]:
        return _move(masks, maps)
    parts = (np.ascontiguousarray(part) for part in (masks[..., :layers], masks[..., layers:]))
    return np.concatenate([_move(part, maps) for part in parts], axis=-1)


def _factor(rng: np.random.Generator, spread: float, shape: int | tuple[int, ...]) -> np.ndarray:
    """Draw factors between 1 / (1 + spread) and 1 + spread, evenly in their logarithm."""
    return np.exp(rng.uniform(-1, 1, shape) * np.log1p(spread))
