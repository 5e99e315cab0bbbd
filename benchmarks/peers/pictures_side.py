"""Augmentation on one core: this package, albumentations and Keras' layers, on the same slices and masks."""

import numpy as np

from peers.work import timed

SIZE, BATCH, SLICES = 256, 16, 128


def prepare(job, options):
    """Give a function that makes so many batches of 16 slices with masks."""
    batches = ALBUMENTATIONS[options["line"]]() if options["line"] in ALBUMENTATIONS else ours_or_keras(options["line"])
    return timed(lambda: next(batches)), {"images": BATCH}


def ours_or_keras(line):
    """Take a line of benchmarks/augmentation.py, after its check that it does the task."""
    import augmentation
    import cv2

    cv2.setNumThreads(1)
    batches = augmentation.LINES[line][2]()
    augmentation.check(batches, whole=False)
    return batches


def albumentations_batches(as_bytes):
    """Rotate by up to 15 degrees, flip and zoom by up to 15 % in one map, a slice at a time, as it wants them."""
    import albumentations
    import cv2

    cv2.setNumThreads(1)
    images, masks = slices()
    transform = albumentations.Compose(
        [
            albumentations.HorizontalFlip(p=0.5),
            albumentations.Affine(rotate=(-15, 15), scale=(1 / 1.15, 1.15), p=1.0),
        ]
    )
    images = images if as_bytes else images.astype(np.float32) / 255
    while True:
        for start in range(0, SLICES, BATCH):
            chosen = range(start, start + BATCH)
            moved = [transform(image=images[index], mask=masks[index]) for index in chosen]
            result = np.stack([pair["image"] for pair in moved])
            result = result.astype(np.float32) / 255 if as_bytes else result
            yield result, np.stack([pair["mask"] for pair in moved]).astype(np.float32) / 255


def slices():
    """Make the slices of benchmarks/augmentation.py without what it imports."""
    import augmentation

    return augmentation.make_slices()


ALBUMENTATIONS = {
    "albumentations-float": lambda: albumentations_batches(False),
    "albumentations-bytes": lambda: albumentations_batches(True),
}
