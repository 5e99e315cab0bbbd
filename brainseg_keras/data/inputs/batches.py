"""Which slices stand in which batch, and the batch itself: pure functions of seed and step.

The pipelines (tf.data, PyDataset) only host what stands here.
"""

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np

from brainseg_keras import ranges
from brainseg_keras.data.inputs.augmentation import Augmentation
from brainseg_keras.data.inputs.context import repeat_range
from brainseg_keras.data.inputs.parts import PartOfDraws
from brainseg_keras.data.inputs.preprocessing import normalize
from brainseg_keras.data.inputs.slices import Contents, Slices
from brainseg_keras.data.inputs.targets import TUMOUR, Target

#: Share of training slices normalized by their own intensities, as a lone image is in prediction.
_OWN_RANGE_SHARE = 0.15


class SliceBatches:
    """Batches of training slices; batch `step` is the same whenever and wherever it is asked for.

    Slices with tumour and slices without are drawn in shuffled passes of their own: each slice comes once before any
    of its kind comes again. Balanced by patients, those with tumour come a patient at a time: each patient once before
    any comes again, and of a patient each slice.

    Args:
        slices: What to draw from.
        batch_size: Slices in a batch.
        tumour_share: Share of the slices that show tumour, held from step to step for any batch size: a half of batches
            of 1 is every other one. None draws all slices alike.
        balance_patients: Draw the slices with tumour so that each patient comes equally often, however many it has.
        augmentation: What to do to each batch; None for nothing.
        target: What the masks were made for.
        teacher_weight: Share of what a teacher says in the masks, where the slices were taught; the truth has the rest.
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
        balance_patients: bool = False,
        augmentation: Augmentation | None = None,
        target: Target = TUMOUR,
        teacher_weight: float = 0.5,
        seed: int = 0,
    ):
        ranges.BATCH_SIZE.check("batch_size", batch_size)
        ranges.SEED.check("seed", seed)
        ranges.SHARE.check("teacher_weight", teacher_weight)
        if tumour_share is not None:
            ranges.SHARE.check("tumour_share", tumour_share)
        self._slices = slices
        self._augmentation = augmentation
        self._target = target
        self._teacher_weight = np.float32(teacher_weight)
        self._seed = seed
        contents = slices.contents or Contents.of(slices.images, slices.masks)
        drawn = np.flatnonzero(contents.shown) if contents.shown.any() else np.arange(len(slices.images))
        kinds, self._share = _kinds(drawn, contents.tumour[drawn], tumour_share)
        # Of each kind the groups that take turns: one of all, or one of each patient.
        self._groups = [[members] for members in kinds]
        if balance_patients:
            self._groups[0] = [kinds[0][places] for places in _places_of_each(slices.patients[kinds[0]])]
        self.batch_size = batch_size
        self.steps_per_epoch = math.ceil(len(drawn) / batch_size)
        self._shuffled = lru_cache(maxsize=8)(self._shuffle)

    def indices(self, step: int) -> np.ndarray:
        """Say which slices stand in a batch.

        Args:
            step: Number of the batch since training began; `epoch * steps_per_epoch + step` of an epoch.

        Returns:
            Array of `batch_size` positions.
        """
        spans = zip(self._drawn_before(step), self._drawn_before(step + 1), strict=True)
        return np.array(
            [
                self._draw(kind, place)
                for kind, (_, span) in enumerate(zip(self._groups, spans, strict=False))
                for place in range(*span)
            ]
        )

    def _draw(self, kind: int, place: int) -> int:
        """Give the slice that comes at a place among all that are ever drawn of its kind."""
        groups = self._groups[kind]
        turn, offset = divmod(place, len(groups))
        several = len(groups) > 1
        group = self._shuffled(len(groups), kind, 3, turn)[offset] if several else 0
        members = groups[group]
        number, offset = divmod(turn, len(members))
        return members[self._shuffled(len(members), kind, 1, number, *([group] if several else []))[offset]]

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Make a batch: images `(batch, size, size, channels)` and the target's masks alike, float32."""
        return self._make(self.indices(step), np.random.default_rng([self._seed, 2, step]))

    def part(self, step: int, index: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
        """Make one of the equal parts of a batch, bit for bit as it stands in the whole.

        Args:
            step: Number of the batch.
            index: Which part, from 0.
            parts: How many there are; they divide the batch size.

        Returns:
            Images and masks as of a batch.
        """
        size = self.batch_size // parts
        own = slice(index * size, (index + 1) * size)
        if self._augmentation and self._augmentation.in_turn:
            images, masks = self[step]
            return images[own], masks[own]
        rng = PartOfDraws(np.random.default_rng([self._seed, 2, step]), self.batch_size, own)
        return self._make(self.indices(step)[own], rng)

    def _make(self, chosen: np.ndarray, rng: np.random.Generator | PartOfDraws) -> tuple[np.ndarray, np.ndarray]:
        images, masks = self._slices.stacked(chosen), self._slices.masks[chosen]
        intensity, context = self._slices.intensity[chosen], self._slices.context
        layers, taught = masks.shape[-1], self._slices.taught
        if taught is not None:
            # One array, so that both move alike.
            masks = np.concatenate([masks, taught[chosen]], axis=-1)
        if self._augmentation:
            own = rng.random(len(chosen)) < _OWN_RANGE_SHARE
            intensity = np.where(own[:, None, None], self._slices.own_intensity[chosen], intensity)
            intensity = repeat_range(intensity, context)
            images, masks = self._augmentation.normalized(images, masks, intensity, rng, context, layers=layers)
        else:
            images = normalize(images, repeat_range(intensity, context))
        truth = self._target.encode(masks[..., :layers])
        if taught is not None:
            truth += self._teacher_weight * (self._target.encode(masks[..., layers:]) - truth)
        return images, truth

    def _drawn_before(self, step: int) -> tuple[int, int]:
        """Count the slices of the first and of the second kind before a step."""
        # A half goes up, always: Python's own rounding to even would give the halves in pairs.
        first = math.floor(self._share * self.batch_size * step + Fraction(1, 2))
        return first, self.batch_size * step - first

    def _shuffle(self, count: int, *words: int) -> np.ndarray:
        return np.random.default_rng([self._seed, *words]).permutation(count)


class BatchPart:
    """The same part of every batch: what one of several processes trains on.

    Args:
        batches: The whole ones.
        index: Which part, from 0.
        parts: How many there are; they divide the batch size.
    """

    def __init__(self, batches: SliceBatches, index: int, parts: int):
        self._batches, self._index, self._parts = batches, index, parts
        self.steps_per_epoch = batches.steps_per_epoch

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Make the part of a batch."""
        return self._batches.part(step, self._index, self._parts)


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


def _places_of_each(patients: np.ndarray) -> list[np.ndarray]:
    """List where each patient stands."""
    return [np.flatnonzero(patients == patient) for patient in sorted(set(patients))]


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
