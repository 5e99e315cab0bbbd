"""Which slices stand in which batch, and the batch itself: pure functions of seed and step.

The pipelines (tf.data, PyDataset) only host what stands here.
"""

import math
import tempfile
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from brainseg_keras import ranges
from brainseg_keras.data.inputs.augmentation import Augmentation
from brainseg_keras.data.inputs.context import neighbor_indices, repeat_range, stack_neighbors
from brainseg_keras.data.inputs.preprocessing import Preprocessing, intensity_range, normalize
from brainseg_keras.data.inputs.targets import TUMOUR, Target
from brainseg_keras.data.volumes import VolumeSource, iterate_volumes

#: Slices that take more than this stand in a temporary file instead of memory.
_MEMORY_LIMIT = 4 * 2**30
#: Share of training slices normalized by their own intensities, as a lone image is in prediction.
_OWN_RANGE_SHARE = 0.15


class Slices(NamedTuple):
    """Slices of one split at the network's size, not yet normalized; `N` slices."""

    images: np.ndarray  # (N, size, size, channels), uint8 or float
    masks: np.ndarray  # (N, size, size, layers), uint8, 255ths of a pixel that belong to each of the target's layers
    intensity: np.ndarray  # (N, channels, 2), of the slice's volume
    own_intensity: np.ndarray  # (N, channels, 2), of the slice alone
    patients: np.ndarray  # (N,), names
    neighbors: np.ndarray | None = None  # (N, 2 * context + 1), positions here; None is the slice alone

    @property
    def context(self) -> int:
        """Neighbors on each side."""
        return 0 if self.neighbors is None else self.neighbors.shape[1] // 2

    def stacked(self, chosen: np.ndarray) -> np.ndarray:
        """Give the images at some positions, their neighbors as further channels."""
        return self.images[chosen] if not self.context else stack_neighbors(self.images, self.neighbors[chosen])


def load_slices(
    source: VolumeSource, split: str, preprocessing: Preprocessing, *, target: Target = TUMOUR, context: int = 0
) -> Slices:
    """Read and resize all slices of a split, once.

    Args:
        source: Where the volumes come from.
        split: `train`, `val`, `test` or `all`.
        preprocessing: Size and filters.
        target: What the masks become.
        context: Neighbors on each side that become further channels.

    Returns:
        Arrays in memory; above 4 GiB the images stand in a temporary file that goes with the process.

    Raises:
        InputError: Volumes that cannot be read, or with unequal numbers of channels; more context than is taken.
    """
    ranges.CONTEXT.check("context", context)
    parts: dict[str, list] = {field: [] for field in Slices._fields}
    count = 0
    for volume in iterate_volumes(source, split):
        images, intensity = preprocessing.volume(volume.images, volume.intensity)
        own = [intensity_range(image[np.newaxis]) for image in images]
        parts["images"].append(images)
        parts["masks"].append(preprocessing.masks(target.layers(volume.masks)))
        parts["intensity"].append(np.repeat(intensity[np.newaxis], len(images), axis=0))
        parts["own_intensity"].append(np.stack(own))
        parts["patients"].append(np.full(len(images), volume.patient, dtype=object))
        parts["neighbors"].append(count + neighbor_indices(len(images), context))
        count += len(images)
    images = _concatenate(parts.pop("images"))
    return Slices(images=images, **{field: np.concatenate(arrays) for field, arrays in parts.items()})


def _concatenate(arrays: list[np.ndarray]) -> np.ndarray:
    if sum(array.nbytes for array in arrays) <= _MEMORY_LIMIT:
        return np.concatenate(arrays)
    shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
    with tempfile.TemporaryFile() as file:
        whole = np.memmap(file, arrays[0].dtype, "w+", shape=shape)
    position = 0
    while arrays:
        array = arrays.pop(0)
        whole[position : position + len(array)] = array
        position += len(array)
    return whole


class SliceBatches:
    """Batches of training slices; batch `step` is the same whenever and wherever it is asked for.

    Slices with tumour and slices without are drawn in shuffled passes of their own: each slice comes once before any
    of its kind comes again.

    Args:
        slices: What to draw from.
        batch_size: Slices in a batch.
        tumour_share: Share of the slices that show tumour, held from step to step for any batch size: a half of batches
            of 1 is every other one. None draws all slices alike.
        augmentation: What to do to each batch; None for nothing.
        target: What the masks were made for.
        seed: Of order and augmentation.

    Raises:
        InputError: A batch size below 1, a share outside [0, 1], or a seed that no generator takes.

    Example:
        >>> slices = Slices(np.ones((4, 8, 8, 1)), np.eye(4, 64, dtype="uint8").reshape(4, 8, 8, 1), np.tile([0., 1.],
        ...     (4, 1, 1)), np.tile([0., 1.], (4, 1, 1)), np.array(list("abcd")))
        >>> images, masks = SliceBatches(slices, batch_size=2)[0]
        >>> images.shape, masks.shape
        ((2, 8, 8, 1), (2, 8, 8, 1))
    """

    def __init__(
        self,
        slices: Slices,
        *,
        batch_size: int = 8,
        tumour_share: float | None = 0.5,
        augmentation: Augmentation | None = None,
        target: Target = TUMOUR,
        seed: int = 0,
    ):
        ranges.BATCH_SIZE.check("batch_size", batch_size)
        ranges.SEED.check("seed", seed)
        if tumour_share is not None:
            ranges.SHARE.check("tumour_share", tumour_share)
        self._slices = slices
        self._augmentation = augmentation
        self._target = target
        self._seed = seed
        drawn = _worth_drawing(slices)
        self._kinds, self._share = _kinds(drawn, slices.masks[drawn].any(axis=(1, 2, 3)), tumour_share)
        self.batch_size = batch_size
        self.steps_per_epoch = math.ceil(len(drawn) / batch_size)
        self._permutation = lru_cache(maxsize=8)(self._draw_permutation)

    def indices(self, step: int) -> np.ndarray:
        """Say which slices stand in a batch.

        Args:
            step: Number of the batch since training began; `epoch * steps_per_epoch + step` of an epoch.

        Returns:
            Array of `batch_size` positions.
        """
        drawn = []
        spans = zip(self._drawn_before(step), self._drawn_before(step + 1), strict=True)
        for kind, (members, span) in enumerate(zip(self._kinds, spans, strict=False)):
            places = np.arange(*span)
            passes, offsets = np.divmod(places, len(members))
            drawn += [members[self._permutation(kind, int(p))[o]] for p, o in zip(passes, offsets, strict=True)]
        return np.array(drawn)

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Make a batch: images `(batch, size, size, channels)` and the target's masks alike, float32."""
        chosen = self.indices(step)
        images, masks = self._slices.stacked(chosen), self._slices.masks[chosen]
        intensity, context = self._slices.intensity[chosen], self._slices.context
        if self._augmentation:
            rng = np.random.default_rng([self._seed, 2, step])
            own = rng.random(len(chosen)) < _OWN_RANGE_SHARE
            intensity = np.where(own[:, None, None], self._slices.own_intensity[chosen], intensity)
            images, masks = self._augmentation.normalized(images, masks, repeat_range(intensity, context), rng, context)
        else:
            images = normalize(images, repeat_range(intensity, context))
        return images, self._target.encode(masks)

    def _drawn_before(self, step: int) -> tuple[int, int]:
        """Count the slices of the first and of the second kind before a step."""
        # A half goes up, always: Python's own rounding to even would give the halves in pairs.
        first = math.floor(self._share * self.batch_size * step + Fraction(1, 2))
        return first, self.batch_size * step - first

    def _draw_permutation(self, kind: int, number: int) -> np.ndarray:
        return np.random.default_rng([self._seed, kind, 1, number]).permutation(len(self._kinds[kind]))


def _worth_drawing(slices: Slices) -> np.ndarray:
    """Leave out blank slices: above and below the head a volume is empty, and teaches nothing."""
    shows = [
        bool(mask.any() or image.min() < image.max()) for image, mask in zip(slices.images, slices.masks, strict=True)
    ]
    return np.flatnonzero(shows) if any(shows) else np.arange(len(slices.images))


def _kinds(drawn: np.ndarray, has_tumour: np.ndarray, tumour_share: float | None) -> tuple[list[np.ndarray], Fraction]:
    """Tell slices with tumour from those without, drawn in passes of their own; and the share of the first."""
    everything = [drawn], Fraction(1)
    if tumour_share is None:
        return everything
    # Exact, so that rounding is the same at step 1 and at step 1,000,000.
    share = Fraction(tumour_share).limit_denominator(10**6)
    kinds = [drawn[has_tumour], drawn[~has_tumour]]
    # Where one kind is missing from the data, the other fills the batches.
    missing = any(part and not len(kind) for kind, part in zip(kinds, (share, 1 - share), strict=True))
    return everything if missing else (kinds, share)


class OrderedBatches:
    """Batches of all slices once, in their order: for validation and test.

    Args:
        slices: What to read.
        batch_size: Slices in a batch; the last may be smaller.
        target: What the masks become.

    Example:
        >>> slices = Slices(np.ones((3, 8, 8, 1)), np.zeros((3, 8, 8, 1), "uint8"), np.tile([0., 1.], (3, 1, 1)),
        ...     None, None)
        >>> [len(images) for images, _ in OrderedBatches(slices, batch_size=2)]
        [2, 1]
    """

    def __init__(self, slices: Slices, *, batch_size: int = 8, target: Target = TUMOUR):
        ranges.BATCH_SIZE.check("batch_size", batch_size)
        self._slices = slices
        self._target = target
        self.batch_size = batch_size
        self.steps_per_epoch = math.ceil(len(slices.images) / batch_size)

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Make a batch as `SliceBatches` does, without augmentation."""
        if step >= self.steps_per_epoch:
            raise IndexError(step)
        chosen = np.arange(step * self.batch_size, min((step + 1) * self.batch_size, len(self._slices.images)))
        intensity = repeat_range(self._slices.intensity[chosen], self._slices.context)
        return normalize(self._slices.stacked(chosen), intensity), self._target.encode(self._slices.masks[chosen])
