"""Batches as Keras eats them: a tf.data pipeline, and a PyDataset for backends without TensorFlow."""

import atexit
import threading
import time
import warnings
import weakref
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np

from brainseg_keras.data.inputs.augmentation import Augmentation
from brainseg_keras.data.inputs.batches import BatchPart, OrderedBatches, SliceBatches
from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.inputs.slices import load_slices
from brainseg_keras.data.inputs.targets import Target
from brainseg_keras.data.sources import open_source


def make_dataset(
    data: str | Path,
    *,
    split: str = "train",
    size: int = 256,
    batch_size: int = 8,
    tumour_share: float | None = 0.5,
    balance_patients: bool = False,
    augmentation: Augmentation | str | None = "auto",
    blur: float = 0.0,
    clahe: float = 0.0,
    inner_tissue: bool = False,
    target: str = "tumour",
    context: int = 0,
    split_seed: int = 0,
    seed: int = 0,
    **layout: Any,
) -> Any:
    """Make a `tf.data.Dataset` of one split for `model.fit`.

    The training split comes shuffled, half of each batch with tumour, rotated, flipped and zoomed, another order each
    epoch; the other splits come whole and in order. Patients never cross a split.

    Args:
        data: A folder of MRI slices, a manifest CSV, a packed `.h5`, or `phantom`.
        split: `train`, `val`, `test` or `all`.
        size: Side of the network's input in pixels.
        batch_size: Slices in a batch.
        tumour_share: Share of the training slices that show tumour, over any few batches; None draws all slices alike.
        balance_patients: Draw the slices with tumour so that each patient comes equally often.
        augmentation: An `Augmentation`, None for none; "auto" augments the training split alone.
        blur: Standard deviation of a Gaussian blur in stored pixels; 0 for none.
        clahe: Clip limit of CLAHE; 0 for none.
        inner_tissue: Measure the tissue level without the rim of the head, as `Preprocessing` says.
        target: What the masks become: `tumour` for one channel, `classes` for background and three exclusive classes,
            `regions` for whole tumour, tumour core and enhancing tumour.
        context: Neighboring slices on each side that become further channels (2.5-D).
        split_seed: Of the split by patient, where neither the data nor this package fixes one: the same in all calls of
            one training, else patients cross.
        seed: Of order and augmentation; the same seed gives the same batches.
        **layout: How a folder is read, as in `open_source`: `format`, `root`, `modalities`, `labels`, `image_pattern`,
            `label_pattern`.

    Returns:
        Dataset of pairs: images `(batch, size, size, channels * (2 * context + 1))`, float32, background 0 and tissue
        1, and masks `(batch, size, size, 1)` (of classes 4, of regions 3), float32, the share of each pixel that is
            tumour: 0 or 1 but at its border. Its length is known.

    Raises:
        InputError: Data that cannot be read, with the file and the cure.

    Example:
        >>> images, masks = next(iter(make_dataset("phantom", size=64, batch_size=4)))
        >>> tuple(images.shape), tuple(masks.shape)
        ((4, 64, 64, 3), (4, 64, 64, 1))
    """
    wanted = Target(target)
    source = open_source(data, seed=split_seed, **layout)
    wanted.check(source.classes, str(data))
    preprocessing = Preprocessing(size, blur, clahe, inner_tissue)
    slices = load_slices(source, split, preprocessing, target=wanted, context=context)
    if split != "train":
        return as_tf_dataset(OrderedBatches(slices, batch_size=batch_size, target=wanted))
    if augmentation == "auto":
        augmentation = Augmentation()
    return as_tf_dataset(
        SliceBatches(
            slices,
            batch_size=batch_size,
            tumour_share=tumour_share,
            balance_patients=balance_patients,
            augmentation=augmentation,
            target=wanted,
            seed=seed,
        )
    )


def as_tf_dataset(batches: SliceBatches | OrderedBatches, *, start: int = 0, endless: bool = False) -> Any:
    """Host batches in tf.data: made in parallel, delivered in order, prefetched.

    Args:
        batches: What to host. TensorFlow keeps it as long as the process lives; a `weakref.proxy` to batches that are
            held elsewhere lets them go.
        start: Step of the first batch.
        endless: One stream from `start` on without end, for `fit(steps_per_epoch=...)`, which makes the order a
            function of the step alone; else one epoch a pass, each with the next epoch's batches.

    Returns:
        `tf.data.Dataset` of images and masks.
    """
    import tensorflow as tf

    # `fit` warns of every tf.data.Dataset that it will not shuffle it, which was done here.
    warnings.filterwarnings("ignore", r"`shuffle=True` was passed, but will be ignored", module=r"keras\.")
    # tf.data makes as many batches at once as there are cores; threads inside OpenCV would only wait for each other.
    cv2.setNumThreads(1)
    sample_images, sample_masks = batches[0]
    ask = _Calls(batches)
    shapes = [(None, *sample.shape[1:]) for sample in (sample_images, sample_masks)]

    def make(step):
        pair = tf.numpy_function(ask, [step], [tf.float32, tf.float32], stateful=False)
        return tuple(tf.ensure_shape(array, shape) for array, shape in zip(pair, shapes, strict=True))

    if endless:
        steps = tf.data.Dataset.range(start, np.iinfo(np.int64).max)
    elif isinstance(batches, OrderedBatches):
        steps = tf.data.Dataset.range(batches.steps_per_epoch)
    else:
        steps = _one_epoch_a_pass(tf, batches.steps_per_epoch, start)
    return steps.map(make, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


class _Calls:
    """Calls from TensorFlow's threads. One that is under way when Python ends would abort it, or hang it for good.

    Args:
        batches: What is asked for.
    """

    def __init__(self, batches: SliceBatches | OrderedBatches):
        self._batches, self._lock, self.ends = batches, threading.Lock(), False
        self.running, self.last = 0, 0.0
        _OPEN.add(self)

    def __call__(self, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.ends:
            raise StopIteration
        self._count(1)
        try:
            return self._batches[int(step)]
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self.running, self.last = self.running + change, time.monotonic()


#: Those that the end of Python has to wait for.
_OPEN: weakref.WeakSet[_Calls] = weakref.WeakSet()


@atexit.register
def _end_calls() -> None:
    calls, begun = list(_OPEN), time.monotonic()
    for one in calls:
        one.ends = True
    # What was asked for is handed over after the call: a moment without any.
    while calls and time.monotonic() - begun < 10:
        if not any(one.running for one in calls) and time.monotonic() - max(begun, *(c.last for c in calls)) > 0.1:
            break
        time.sleep(0.01)


def _one_epoch_a_pass(tf: Any, steps_per_epoch: int, start: int) -> Any:
    position = start

    def epoch():
        nonlocal position
        first, position = position, position + steps_per_epoch
        yield from range(first, first + steps_per_epoch)

    steps = tf.data.Dataset.from_generator(epoch, output_signature=tf.TensorSpec((), tf.int64))
    return steps.apply(tf.data.experimental.assert_cardinality(steps_per_epoch))


class BatchSequence(keras.utils.PyDataset):
    """The same batches as a `keras.utils.PyDataset`, for JAX and torch without TensorFlow.

    Args:
        batches: What to host.
        start: Step of the first batch.
        steps: How many batches; default one epoch.

    Example:
        >>> slices = load_slices(open_source("phantom"), "train", Preprocessing(64))
        >>> len(BatchSequence(SliceBatches(slices, batch_size=4), steps=7))
        7
    """

    def __init__(self, batches: SliceBatches | BatchPart | OrderedBatches, *, start: int = 0, steps: int | None = None):
        super().__init__(workers=2, use_multiprocessing=False, max_queue_size=8)
        self._batches = batches
        self._start = start
        self._steps = steps or batches.steps_per_epoch

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self._batches[self._start + index]
