"""Memory, start and steps of training by the number of slices, each figure from a process of its own.

    python benchmarks/pipeline.py                                     # 1,000, 10,000 and 57,195 slices: an hour, 25 GB
    python benchmarks/pipeline.py --slices 1000 --rounds 1 -o quick   # quick.md and quick.json

For each number a packed store is made of a few phantom patients of four sequences and 155 slices, repeated with other
noise. Then, with an empty cache: a first start, a second start, the pipeline alone, and in turn training steps with
these data and with one batch that is fed again and again. Memory is the largest that the process has held (VmHWM,
Linux) less that of the same network on the repeated batch. Starting is from opening the store to the first batch
without imports and the network. Store and cache go when the figures are taken.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

PATIENT, BASES, WARM_UP = 155, 4, 10
PACKAGES = ("brainseg_keras", "keras", "tensorflow", "numpy", "h5py", "opencv-python-headless")


class Repeated:
    """Phantom patients, again and again with other noise, as a source of volumes."""

    def __init__(self, slices: int, side: int):
        import pandas as pd

        from brainseg_keras.data.decode.brats_slices import BRATS_CHANNELS
        from brainseg_keras.data.labels import CLASSES
        from brainseg_keras.data.manifest import COLUMNS
        from brainseg_keras.data.phantom.brats import brats_phantom_volume

        self.channels, self.classes = BRATS_CHANNELS, CLASSES
        self._bases = [brats_phantom_volume(0, index, slices=PATIENT, size=side) for index in range(BASES)]
        rows = []
        for number in range(slices):
            patient, own = divmod(number, PATIENT)
            split = (
                {8: "val", 9: "test"}.get(patient % 10, "train")
                if slices > 10 * PATIENT
                else ("train", "val")[patient == 1]
            )
            pixels = int((self._bases[patient % BASES].masks[own] > 0).sum())
            rows.append(("made", f"P{patient:04d}", own, "", "", split, pixels, "", ""))
        self.table = pd.DataFrame(rows, columns=list(COLUMNS))
        self._counts = self.table.patient.value_counts()

    def volume(self, patient: str):
        """Make one patient."""
        from dataclasses import replace

        number, count = int(patient[1:]), int(self._counts[patient])
        base = self._bases[number % BASES]
        noise = np.random.default_rng(number).standard_normal(base.images[:count].shape, dtype=np.float32)
        images = base.images[:count] + np.float32(0.02) * noise
        return replace(base, patient=patient, images=images, masks=base.masks[:count], slices=tuple(range(count)))


def peak() -> float:
    """Give the most memory that this process has held, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def pack(options: argparse.Namespace) -> dict:
    """Make the store."""
    from brainseg_keras.data.store import write_store

    begun = time.perf_counter()
    write_store(Repeated(options.count, options.side), options.store, float16=True)
    return {"seconds": time.perf_counter() - begun, "bytes": Path(options.store).stat().st_size}


def settings(options: argparse.Namespace):
    """Give what is trained."""
    from brainseg_keras.training import TrainingConfig

    network = {"architecture": options.architecture, "filters": options.filters, "target": "regions"}
    return TrainingConfig(
        data=options.store, size=options.size, batch_size=options.batch, precision="float32", **network
    )


def load(options: argparse.Namespace):
    """Open the data as a training does; gives seconds, data and the network's description."""
    from rich.console import Console

    from brainseg_keras.data.roles import Roles
    from brainseg_keras.training.setup import describe_network, load_data, open_data

    config, console, begun = settings(options), Console(stderr=True), time.perf_counter()
    source = open_data(config, Roles(), console)
    spec = describe_network(config, source)
    data = load_data(config, spec, source, console)
    data.batches[0]
    return time.perf_counter() - begun, data, spec


def make_model(options: argparse.Namespace):
    """Build and compile the network for four sequences and three regions."""
    from brainseg_keras.data.inputs.targets import Target
    from brainseg_keras.models import build_model
    from brainseg_keras.training.cpu import speed_up
    from brainseg_keras.training.setup import compile_model

    shape = (options.size, options.size, 4)
    model = build_model(
        options.architecture, input_shape=shape, num_classes=3, filters=options.filters, classifier_activation="sigmoid"
    )
    compile_model(model, settings(options), Target("regions"))
    speed_up(model)
    return model


def steps(model, stream, count: int) -> list[float]:
    """Time training steps, after some that are not counted."""
    model.make_train_function()
    times, batches = [], iter(stream)
    for _ in range(WARM_UP + count):
        begun = time.perf_counter()
        float(model.train_function(batches)["loss"])
        times.append(time.perf_counter() - begun)
    return times[WARM_UP:]


def without(options: argparse.Namespace) -> dict:
    """Train on one batch that is fed again and again."""
    import tensorflow as tf

    rng, shape = np.random.default_rng(0), (options.batch, options.size, options.size)
    images, masks = rng.random((*shape, 4), np.float32), (rng.random((*shape, 3)) > 0.9).astype(np.float32)
    times = steps(make_model(options), tf.data.Dataset.from_tensors((images, masks)).repeat(), options.steps)
    return {"peak": peak(), "step": statistics.median(times)}


def trained(options: argparse.Namespace) -> dict:
    """Start as a training does, train, and validate once."""
    from brainseg_keras.data.pipeline import as_tf_dataset
    from brainseg_keras.losses import get_loss

    model = make_model(options)
    seconds, data, _ = load(options)
    loaded = peak()
    times = steps(model, as_tf_dataset(data.batches, endless=True), options.steps)
    data.validator.score(model, get_loss("dice_focal"))
    return {"start": seconds, "loaded": loaded, "peak": peak(), "step": statistics.median(times)}


def pipeline(options: argparse.Namespace) -> dict:
    """Draw batches, and do nothing with them."""
    from brainseg_keras.data.pipeline import as_tf_dataset

    _, data, _ = load(options)
    batches = as_tf_dataset(data.batches, endless=True).as_numpy_iterator()
    for _ in range(WARM_UP):
        next(batches)
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < options.seconds:
        count += len(next(batches)[0])
    return {"images": count / (time.perf_counter() - begun)}


JOBS = {job.__name__: job for job in (pack, without, trained, pipeline)}


def run(job: str, options: argparse.Namespace, folder: Path, count: int) -> dict:
    """Do one job in a process of its own."""
    command = [sys.executable, __file__, "--job", job, "--count", str(count), "--store", str(folder / "store.h5")]
    for name in ("side", "size", "batch", "filters", "steps", "seconds", "architecture"):
        command += [f"--{name}", str(getattr(options, name))]
    environment = os.environ | {"BRAINSEG_CACHE": str(folder / "cache"), "BRAINSEG_CACHE_LIMIT": "1000"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{count} slices, {job}: {found}", file=sys.stderr)
    return found


def measure(options: argparse.Namespace, count: int) -> dict:
    """Take all figures of one number of slices."""
    with tempfile.TemporaryDirectory(prefix="pipeline-", dir=options.folder) as name:
        folder = Path(name)
        packed = run("pack", options, folder, count)
        first = run("trained", options, folder, count)
        rounds = [
            (run("without", options, folder, count), run("trained", options, folder, count))
            for _ in range(options.rounds)
        ]
        images = [run("pipeline", options, folder, count)["images"] for _ in range(options.rounds)]
        cache = sum(file.stat().st_size for file in folder.rglob("*.bin"))
    bare = statistics.median(alone["peak"] for alone, _ in rounds)
    return {
        "slices": count,
        "store_bytes": packed["bytes"],
        "cache_bytes": cache,
        "pack_seconds": packed["seconds"],
        "model_peak_mb": bare,
        "first_above_mb": first["peak"] - bare,
        "second_above_mb": max(data["peak"] for _, data in rounds) - bare,
        "first_start_seconds": first["start"],
        "second_start_seconds": statistics.median(data["start"] for _, data in rounds),
        "pipeline_images_a_second": statistics.median(images),
        "step_seconds": statistics.median(data["step"] for _, data in rounds),
        "step_ratios": [data["step"] / alone["step"] for alone, data in rounds],
    }


def table(options: argparse.Namespace, rows: list[dict]) -> str:
    """Write the table."""
    from brainseg_keras.training.machine import processor

    lines = [
        "# The input pipeline: memory, start and steps by the number of slices",
        "",
        f"{options.architecture}, width {options.filters}, {options.size} pixels, batches of {options.batch}, four "
        f"sequences, three regions, float32; {options.rounds} rounds. Written by `python benchmarks/pipeline.py`.",
        "",
        "| slices | store | cache | packing | memory above the network's, first start | second start "
        "| first start takes | second start | pipeline alone | step with data against one without |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        ratio = statistics.median(row["step_ratios"])
        lines.append(
            f"| {row['slices']:,} | {row['store_bytes'] / 1e9:.2f} GB | {row['cache_bytes'] / 1e9:.2f} GB | "
            f"{row['pack_seconds']:.0f} s | {row['first_above_mb']:,.0f} MB | {row['second_above_mb']:,.0f} MB | "
            f"{row['first_start_seconds']:.1f} s | {row['second_start_seconds']:.1f} s | "
            f"{row['pipeline_images_a_second']:.0f} images/s | {ratio:.3f} x ({min(row['step_ratios']):.3f} to "
            f"{max(row['step_ratios']):.3f}) |"
        )
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    return "\n".join([*lines, "", f"Machine: {processor()}, {os.cpu_count()} cores; {versions}.", ""])


def main() -> None:
    """Measure, or do one job of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, nargs="+", default=[1000, 10000, 57195], help="numbers to measure")
    parser.add_argument("--side", type=int, default=128, help="of the stored slices in pixels")
    parser.add_argument("--size", type=int, default=128, help="of the network's input")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--architecture", default="attention_unet")
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--steps", type=int, default=40, help="steps that are timed")
    parser.add_argument("--seconds", type=float, default=10, help="of the pipeline alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default=None, help="for store and cache: 25 GB for 57,195 slices; default TMPDIR")
    parser.add_argument("-o", "--output", default="benchmarks/pipeline", help="without ending: .md and .json")
    for name in ("--job", "--store"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(JOBS[options.job](options)))
        return
    rows = [measure(options, count) for count in options.slices]
    Path(f"{options.output}.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    Path(f"{options.output}.md").write_text(table(options, rows), encoding="utf-8")
    print(table(options, rows))


if __name__ == "__main__":
    main()
