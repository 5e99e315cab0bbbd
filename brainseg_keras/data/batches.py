"""Which slices stand in which batch, and the batch itself: pure functions of seed and step.

The pipelines (tf.data, PyDataset) only host what stands here.
"""

import math
import tempfile
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from brainseg_keras.data.augmentation import Augmentation
from brainseg_keras.data.preprocessing import Preprocessing, aligned_empty, intensity_range, normalise
from brainseg_keras.data.volumes import VolumeSource, iterate_volumes
from brainseg_keras.errors import InputError

#: Slices that take more than this stand in a temporary file instead of memory.
_MEMORY_LIMIT = 4 * 2**30
#: Share of training slices normalised by their own intensities, as a lone image is in prediction.
_OWN_RANGE_SHARE = 0.15


class Slices(NamedTuple):
    """Slices of one split at the network's size, not yet normalised; `N` slices."""

    images: np.ndarray  # (N, size, size, channels), uint8 or float
    masks: np.ndarray  # (N, size, size), uint8
    intensity: np.ndarray  # (N, channels, 2), of the slice's volume
    own_intensity: np.ndarray  # (N, channels, 2), of the slice alone
    patients: np.ndarray  # (N,), names


def load_slices(source: VolumeSource, split: str, preprocessing: Preprocessing) -> Slices:
    """Read and resize all slices of a split, once.

    Args:
        source: Where the volumes come from.
        split: `train`, `val`, `test` or `all`.
        preprocessing: Size and filters.

    Returns:
        Arrays in memory; above 4 GiB the images stand in a temporary file that goes with the process.

    Raises:
        InputError: Volumes that cannot be read, or with unequal numbers of channels.
    """
    parts: dict[str, list] = {field: [] for field in Slices._fields}
    for volume in iterate_volumes(source, split):
        images, intensity = preprocessing.volume(volume.images, volume.intensity)
        own = [intensity_range(image[np.newaxis]) for image in images]
        parts["images"].append(images)
        parts["masks"].append(preprocessing.masks(volume.masks))
        parts["intensity"].append(np.repeat(intensity[np.newaxis], len(images), axis=0))
        parts["own_intensity"].append(np.stack(own))
        parts["patients"].append(np.full(len(images), volume.patient, dtype=object))
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
        tumour_share: Share of each batch that shows tumour; None draws all slices alike.
        augmentation: What to do to each batch; None for nothing.
        seed: Of order and augmentation.

    Raises:
        InputError: A batch size below 1, or a share outside [0, 1].

    Example:
        >>> slices = Slices(np.ones((4, 8, 8, 1)), np.eye(4, 64, dtype="uint8").reshape(4, 8, 8) , np.tile([0., 1.],
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
        seed: int = 0,
    ):
        if batch_size < 1:
            raise InputError(f"batch_size is at least 1. Received: {batch_size}.")
        if tumour_share is not None and not 0 <= tumour_share <= 1:
            raise InputError(f"tumour_share lies between 0 and 1. Received: {tumour_share}.")
        self._slices = slices
        self._augmentation = augmentation
        self._seed = seed
        self._quotas = _quotas(slices.masks.reshape(len(slices.masks), -1).any(axis=1), batch_size, tumour_share)
        self.batch_size = batch_size
        self.steps_per_epoch = math.ceil(len(slices.images) / batch_size)
        self._permutation = lru_cache(maxsize=8)(self._draw_permutation)

    def indices(self, step: int) -> np.ndarray:
        """Say which slices stand in a batch.

        Args:
            step: Number of the batch since training began; `epoch * steps_per_epoch + step` of an epoch.

        Returns:
            Array of `batch_size` positions.
        """
        drawn = []
        for kind, (members, quota) in enumerate(self._quotas):
            places = np.arange(step * quota, (step + 1) * quota)
            passes, offsets = np.divmod(places, len(members))
            drawn += [members[self._permutation(kind, int(p))[o]] for p, o in zip(passes, offsets, strict=True)]
        return np.array(drawn)

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Make a batch: images `(batch, size, size, channels)` and masks `(batch, size, size, 1)`, float32."""
        chosen = self.indices(step)
        images, masks = self._slices.images[chosen], self._slices.masks[chosen]
        intensity = self._slices.intensity[chosen]
        if self._augmentation:
            rng = np.random.default_rng([self._seed, 2, step])
            own = rng.random(len(chosen)) < _OWN_RANGE_SHARE
            intensity = np.where(own[:, None, None], self._slices.own_intensity[chosen], intensity)
            images, masks = self._augmentation.normalised(images, masks, intensity, rng)
        else:
            images = normalise(images, intensity)
        return images, _as_truth(masks)

    def _draw_permutation(self, kind: int, number: int) -> np.ndarray:
        return np.random.default_rng([self._seed, kind, 1, number]).permutation(len(self._quotas[kind][0]))


def _as_truth(masks: np.ndarray) -> np.ndarray:
    """Bring masks `(batch, size, size)` to what a loss compares with: float32, one channel."""
    truth = aligned_empty((*masks.shape, 1))
    truth[..., 0] = masks
    return truth


def _quotas(has_tumour: np.ndarray, batch_size: int, tumour_share: float | None) -> list[tuple[np.ndarray, int]]:
    """Share a batch among the kinds of slices: (positions of the kind, places in a batch)."""
    everything = np.arange(len(has_tumour))
    if tumour_share is None:
        return [(everything, batch_size)]
    with_tumour = round(tumour_share * batch_size)
    kinds = [(everything[has_tumour], with_tumour), (everything[~has_tumour], batch_size - with_tumour)]
    kinds = [(members, quota) for members, quota in kinds if quota]
    if any(not len(members) for members, _ in kinds):
        # One kind is missing from the data: the other fills the batch.
        return [(everything, batch_size)]
    return kinds


class OrderedBatches:
    """Batches of all slices once, in their order: for validation and test.

    Args:
        slices: What to read.
        batch_size: Slices in a batch; the last may be smaller.

    Example:
        >>> slices = Slices(np.ones((3, 8, 8, 1)), np.zeros((3, 8, 8)), np.tile([0., 1.], (3, 1, 1)), None, None)
        >>> [len(images) for images, _ in OrderedBatches(slices, batch_size=2)]
        [2, 1]
    """

    def __init__(self, slices: Slices, *, batch_size: int = 8):
        self._slices = slices
        self.batch_size = batch_size
        self.steps_per_epoch = math.ceil(len(slices.images) / batch_size)

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Make a batch as `SliceBatches` does, without augmentation."""
        if step >= self.steps_per_epoch:
            raise IndexError(step)
        chosen = slice(step * self.batch_size, (step + 1) * self.batch_size)
        images = normalise(self._slices.images[chosen], self._slices.intensity[chosen])
        return images, _as_truth(self._slices.masks[chosen])
