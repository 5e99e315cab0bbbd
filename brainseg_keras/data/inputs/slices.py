"""The slices of a split at a network's size, read once: what batches are made of."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from brainseg_keras import ranges
from brainseg_keras.data.inputs.context import neighbor_indices, stack_neighbors
from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.inputs.targets import TUMOUR, Target
from brainseg_keras.data.manifest import Progress
from brainseg_keras.data.patient_cache import Array, prepare_patients
from brainseg_keras.data.stored_rows import StoredRows
from brainseg_keras.data.volumes import Volume, VolumeSource


class Contents(NamedTuple):
    """What shows in each slice."""

    tumour: np.ndarray  # (N,), whether any
    shown: np.ndarray  # (N,), whether anything: above and below the head a volume is empty, and teaches nothing

    @classmethod
    def of(cls, images: np.ndarray, masks: np.ndarray) -> "Contents":
        """Look at slices."""
        tumour = masks.any(axis=(1, 2, 3))
        return cls(tumour, tumour | (images.min(axis=(1, 2, 3)) < images.max(axis=(1, 2, 3))))


class Teacher(NamedTuple):
    """What a trained network says of training patients."""

    layers: Callable[[Volume], np.ndarray]  # of a volume, as `Target.layers` gives them, with any value from 0 to 255
    identity: Any  # tells it from others, as JSON can write it


class Slices(NamedTuple):
    """Slices of one split at the network's size, not yet normalized; `N` slices."""

    images: Array  # (N, size, size, channels), uint8 or float; in memory or in a file
    masks: Array  # (N, size, size, layers), uint8, 255ths of a pixel that belong to each of the target's layers
    intensity: np.ndarray  # (N, channels, 2), of the slice's volume
    own_intensity: np.ndarray  # (N, channels, 2), of the slice alone
    patients: np.ndarray  # (N,), names
    neighbors: np.ndarray | None = None  # (N, 2 * context + 1), positions here; None is the slice alone
    contents: Contents | None = None  # None looks at the images and masks
    taught: Array | None = None  # as the masks, what a teacher says

    @property
    def context(self) -> int:
        """Neighbors on each side."""
        return 0 if self.neighbors is None else self.neighbors.shape[1] // 2

    def stacked(self, chosen: np.ndarray) -> np.ndarray:
        """Give the images at some positions, their neighbors as further channels."""
        return self.images[chosen] if not self.context else stack_neighbors(self.images, self.neighbors[chosen])


def load_slices(
    source: VolumeSource,
    split: str,
    preprocessing: Preprocessing,
    *,
    target: Target = TUMOUR,
    context: int = 0,
    teacher: Teacher | None = None,
    progress: Progress = iter,
) -> Slices:
    """Read and resize all slices of a split, once: another start finds large data in the cache.

    Args:
        source: Where the volumes come from.
        split: `train`, `val`, `test` or `all`.
        preprocessing: Size and filters.
        target: What the masks become.
        context: Neighbors on each side that become further channels.
        teacher: What is asked about each patient, once.
        progress: Wraps the list of patients when they are read.

    Returns:
        Slices in memory, or, above 256 MiB, in a file: see `prepare_patients`.

    Raises:
        InputError: Volumes that cannot be read, or with unequal numbers of channels; more context than is taken.
    """
    ranges.CONTEXT.check("context", context)
    settings = {"arrays": "slices", **asdict(preprocessing), "target": target.name}
    settings |= {"teacher": teacher.identity} if teacher else {}
    prepared = prepare_patients(
        source, split, lambda volume: _prepare(volume, preprocessing, target, teacher), settings, progress=progress
    )
    counts = [len(patient.arrays["images"]) for patient in prepared]
    starts = np.cumsum([0, *counts[:-1]])
    around = [start + neighbor_indices(count, context) for start, count in zip(starts, counts, strict=True)]

    def whole(name: str) -> np.ndarray:
        return np.concatenate([np.asarray(patient.arrays[name]) for patient in prepared])

    return Slices(
        _joined([patient.arrays["images"] for patient in prepared]),
        _joined([patient.arrays["masks"] for patient in prepared]),
        np.repeat(np.stack([np.asarray(patient.arrays["intensity"]) for patient in prepared]), counts, axis=0),
        whole("own_intensity"),
        np.repeat(np.array([patient.name for patient in prepared], dtype=object), counts),
        np.concatenate(around),
        Contents(whole("tumour"), whole("shown")),
        _joined([patient.arrays["taught"] for patient in prepared]) if teacher else None,
    )


def _prepare(
    volume: Volume, preprocessing: Preprocessing, target: Target, teacher: Teacher | None
) -> dict[str, np.ndarray]:
    images, intensity = preprocessing.volume(volume.images, volume.intensity)
    masks = preprocessing.masks(target.layers(volume.masks))
    contents = Contents.of(images, masks)
    return {
        "images": images,
        "masks": masks,
        "intensity": intensity,
        "own_intensity": np.stack([preprocessing.intensity(image[np.newaxis]) for image in images]),
        "tumour": contents.tumour,
        "shown": contents.shown,
    } | ({"taught": preprocessing.masks(teacher.layers(volume))} if teacher else {})


def _joined(arrays: Sequence[Array]) -> Array:
    if isinstance(arrays[0], StoredRows):
        return StoredRows.concatenate(arrays)
    return np.concatenate(arrays)
