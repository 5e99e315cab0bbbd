"""Augmentation side by side: images a second of this package and of Keras' own layers, each in a process of its own.

    python benchmarks/augmentation.py                          # three runs of 20 s a line, best of three: 10 minutes
    python benchmarks/augmentation.py --seconds 2 -o table.md  # a quick look

The task is the same for all: 256x256x3 slices with their masks, float32, batches of 16, rotated by up to 15 degrees,
flipped left to right with probability one half, zoomed by up to 15 %, background 0 from outside, images bilinear. Each
line first proves that it does it: shapes, masks of 0 and 1 but at borders, other pixels than those it was given, and a
mask that moved with its image.

Keras gets its best way, whichever that is on the machine: its layers take {"images", "segmentation_masks"} and move
both alike (masks nearest), or a stack of image and mask as four channels, thresholded afterwards, which needs one map
instead of two; each a batch or a slice at a time, in parallel. Its slices are normalized beforehand and merely
repeated, while the pipeline of this package also draws its slices and normalizes them.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

SIZE, BATCH, SLICES = 256, 16, 128
WARM_UP = 5  # batches
Batches = Iterator[tuple[np.ndarray, np.ndarray]]


def make_slices() -> tuple[np.ndarray, np.ndarray]:
    """Give slices of 8 bits and masks that mark one quarter of the image, where the first channel is brightest."""
    rng = np.random.default_rng(0)
    images = rng.integers(1, 128, (SLICES, SIZE, SIZE, 3), dtype=np.uint8)
    masks = np.zeros((SLICES, SIZE, SIZE, 1), np.uint8)
    masks[:, SIZE // 4 : SIZE // 2, SIZE // 4 : SIZE // 2] = 255
    images[..., 0] = np.where(masks[..., 0], 255, images[..., 0])
    return images, masks


# ---- this package


def augmentation(whole: bool):
    """Give the task, or with `whole` what training does by default: also shift, contrast and noise."""
    from brainseg_keras.data import Augmentation

    return Augmentation() if whole else Augmentation(rotate=15, flip=0.5, zoom=0.15, shift=0, intensity=0, noise=0)


def ours_function(whole: bool = False) -> Batches:
    """Call the bare function in a loop."""
    images, masks = make_slices()
    images = images.astype(np.float32) / 255
    augment, rng = augmentation(whole), np.random.default_rng(0)
    while True:
        for start in range(0, SLICES, BATCH):
            yield augment(images[start : start + BATCH], masks[start : start + BATCH], rng)


def ours_pipeline(whole: bool = False) -> Batches:
    """Read from the pipeline that training reads from."""
    from brainseg_keras.data.inputs.batches import SliceBatches
    from brainseg_keras.data.inputs.slices import Slices
    from brainseg_keras.data.pipeline import as_tf_dataset

    images, masks = make_slices()
    intensity = np.tile(np.float32([0, 255]), (SLICES, 3, 1))
    slices = Slices(images, masks, intensity, intensity, np.repeat("phantom", SLICES))
    batches = SliceBatches(slices, batch_size=BATCH, augmentation=augmentation(whole))
    return as_tf_dataset(batches, endless=True).as_numpy_iterator()


# ---- Keras


def keras_layers() -> list:
    """Give Keras' layers, with background from outside: their default would mirror the tumour into the border."""
    from keras import layers

    outside = {"fill_mode": "constant", "fill_value": 0.0}
    return [
        layers.RandomFlip("horizontal"),
        layers.RandomRotation(15 / 360, **outside),
        layers.RandomZoom(0.15, **outside),
    ]


def keras_pipeline(stacked: bool, batched: bool) -> Batches:
    """Map Keras' layers over tf.data, on image and mask as a dict or as a stack, a batch or a slice at a time."""
    import tensorflow as tf

    images, masks = make_slices()
    pair = (images.astype(np.float32) / 255, (masks / 255).astype(np.float32))
    layers = keras_layers()

    def as_dict(image, mask):
        data = {"images": image, "segmentation_masks": mask}
        for layer in layers:
            data = layer(data, training=True)
        return data["images"], data["segmentation_masks"]

    def as_stack(image, mask):
        data = tf.concat([image, mask], axis=-1)
        for layer in layers:
            data = layer(data, training=True)
        return data[..., :3], tf.cast(data[..., 3:] > 0.5, tf.float32)

    augment = as_stack if stacked else as_dict
    dataset = tf.data.Dataset.from_tensor_slices(pair).repeat()
    if batched:
        dataset = dataset.batch(BATCH, drop_remainder=True).map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    else:
        dataset = dataset.map(augment, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH, drop_remainder=True)
    return dataset.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


# ---- measuring

OURS, KERAS = "brainseg_keras", "Keras layers"
#: What is measured: whose, how, and what makes its batches.
LINES: dict[str, tuple[str, str, Callable[[], Batches]]] = {
    "pipeline": (OURS, "tf.data pipeline, as in training", ours_pipeline),
    "function": (OURS, "bare function, called in a loop", ours_function),
    "pipeline-whole": (OURS, "pipeline, also shift, contrast and noise", lambda: ours_pipeline(True)),
    "dict-batch": (KERAS, "dict of images and masks, a batch at a time", lambda: keras_pipeline(False, True)),
    "dict-slice": (KERAS, "dict of images and masks, a slice at a time", lambda: keras_pipeline(False, False)),
    "stack-batch": (KERAS, "mask as fourth channel, a batch at a time", lambda: keras_pipeline(True, True)),
    "stack-slice": (KERAS, "mask as fourth channel, a slice at a time", lambda: keras_pipeline(True, False)),
}


def check(batches: Batches, whole: bool) -> None:
    """Refuse to time what does not do the task."""
    still = make_slices()[1][0, ..., 0] > 0
    images, masks = next(batches)
    masks = masks.reshape(BATCH, SIZE, SIZE) / masks.max()
    if images.shape != (BATCH, SIZE, SIZE, 3) or images.dtype != np.float32 or np.isin(masks, (0, 1)).mean() < 0.95:
        raise SystemExit(f"Not the task: {images.shape} {images.dtype}, mask values {np.unique(masks)[:5]}.")
    masks = masks > 0.5
    # One or two may be drawn so small a change that no pixel of the mask moves.
    if sum((mask == still).all() for mask in masks) > 2:
        raise SystemExit("Not the task: masks have not moved.")
    # The marked region is the only one that is bright throughout, so the mask must still lie on it.
    inside = np.mean([image[..., 0][mask > 0].mean() for image, mask in zip(images, masks, strict=True)])
    if not whole and inside < 0.95:
        raise SystemExit(f"Not the task: under the mask the image is {inside:.2f} instead of 1: they moved apart.")


def measure(name: str, seconds: float) -> float:
    """Give images a second of one line, in this process."""
    batches = LINES[name][2]()
    check(batches, name.endswith("whole"))
    for _ in range(WARM_UP):
        next(batches)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        next(batches)
        count += BATCH
    return count / (time.perf_counter() - start)


def measure_apart(name: str, seconds: float) -> float:
    """Measure one line in a fresh process, so that no line inherits another's threads or memory."""
    command = [sys.executable, __file__, "--line", name, "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def machine() -> str:
    """Name the processor, the cores and the versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    packages = ("brainseg_keras", "keras", "tensorflow", "numpy", "opencv-python-headless")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processor = names[0] if names else platform.machine()
    return f"{processor}, {cores} cores; Python {platform.python_version()}, {versions}"


def table(speeds: dict[str, list[float]], seconds: float) -> str:
    """Write the result in Markdown."""
    best = {name: max(values) for name, values in speeds.items()}
    ours = best["pipeline"]
    rival = max((name for name in best if LINES[name][0] == KERAS), key=best.get)
    rows = []
    for name, speed in best.items():
        whose, how, _ = LINES[name]
        rows.append(f"| {whose} | {how} | {speed:.0f} | {f'{ours / speed:.1f} x' if whose == KERAS else ''} |")
    return "\n".join(
        [
            "# Augmentation: images a second",
            "",
            f"Rotation by up to 15 degrees, flip, zoom by up to 15 %, of {SIZE}x{SIZE}x3 slices with their masks, "
            f"float32, batches of {BATCH}.",
            f"Best of {len(speeds['pipeline'])} runs of {seconds:g} s, each in a process of its own. Written by "
            "`python benchmarks/augmentation.py`.",
            "",
            "| whose | how | images/s | the pipeline is faster by |",
            "|---|---|---:|---:|",
            *rows,
            "",
            f"Against Keras' fastest way ({LINES[rival][1]}) the pipeline is **{ours / best[rival]:.1f} times** as "
            "fast.",
            "",
            f"Machine: {machine()}.",
            "",
        ]
    )


def main() -> None:
    """Measure every line in turn, several times, and write the table."""
    parser = argparse.ArgumentParser(description="Augmentation: this package against Keras' layers.")
    parser.add_argument("--seconds", type=float, default=20, help="of each run, after warm-up")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each line; the best counts")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".md"), help="Markdown table")
    parser.add_argument("--line", choices=LINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.line:
        print(measure(options.line, options.seconds))
        return
    speeds: dict[str, list[float]] = {name: [] for name in LINES}
    # Turn by turn, so that a busy minute of the machine does not fall on one line alone.
    for repeat in range(options.repeats):
        for name, values in speeds.items():
            values.append(measure_apart(name, options.seconds))
            print(f"{repeat + 1}/{options.repeats} {name}: {values[-1]:.0f} images/s", file=sys.stderr)
    options.output.write_text(table(speeds, options.seconds), encoding="utf-8")
    print(options.output)


if __name__ == "__main__":
    main()
