"""What `--cluster ray` gains: scans by the weights that ship on all cores of this machine, against one process on one.

    python benchmarks/cluster.py --scans 300

Each is the command as a user gives it, in a process of its own; the one is bound to one core. Counted are the whole
command, and from the first row of its ledger to the last, without what it takes to start. Writes cluster.md.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from brainseg_keras._version import installed_version
from brainseg_keras.data.phantom.lgg import write_phantom
from brainseg_keras.training.machine import processor

HERE = Path(__file__).resolve().parent
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--scans", type=int, default=300, help="phantom patients")
parser.add_argument("--slices", type=int, default=6, help="of each")
parser.add_argument("--size", type=int, default=128, help="pixels of a side")
parser.add_argument("--remark", default="", help="what else ran, for the table")
parser.add_argument("-o", "--output", type=Path, default=HERE / "cluster.md", help="the table")


def measure(words: list[str], masks: Path, cores: set[int]) -> tuple[float, float]:
    """Run a command on some cores; gives scans a second of the whole, and after the start."""
    shutil.rmtree(masks, ignore_errors=True)
    begun = time.perf_counter()
    command = [sys.executable, "-c", "from brainseg_keras.cli import main; main()", *words, "-o", str(masks)]
    environment = os.environ if len(cores) > 1 else os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, preexec_fn=lambda: os.sched_setaffinity(0, cores))
    seconds = time.perf_counter() - begun
    ledger = pd.read_csv(masks / "ledger.csv")
    ended = pd.to_datetime(ledger["time"])
    return len(ledger) / seconds, (len(ledger) - 1) / (ended.max() - ended.min()).total_seconds()


def main() -> None:
    """Measure both, and write the table."""
    given = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        data = write_phantom(scratch, patients=given.scans, slices=given.slices, size=given.size)
        words = ["predict", str(data), "--engine", "onnx", "--no-overlays"]
        masks = Path(scratch) / "masks"
        alone, steady = measure(words, masks, {cores[0]})
        all_of_it, together = measure([*words, "--cluster", "ray"], masks, set(cores))
    versions = ", ".join(f"{name} {installed_version(name)}" for name in ("ray", "onnxruntime"))
    given.output.write_text(
        f"# Ray on {len(cores)} cores against one process on one\n\n"
        f"`python benchmarks/cluster.py --scans {given.scans}`: {given.scans} phantom patients of {given.slices} "
        f"slices, {given.size} pixels, the weights that ship, on {processor()}; Python {platform.python_version()}, "
        f"{versions}."
        f"{' ' + given.remark if given.remark else ''}\n\n"
        "| | one process, one core | `--cluster ray` | ratio |\n|---|---:|---:|---:|\n"
        f"| scans a second, the whole command | {alone:.2f} | {all_of_it:.2f} | {all_of_it / alone:.2f} |\n"
        f"| scans a second, from the first to the last | {steady:.2f} | {together:.2f} | {together / steady:.2f} |\n",
        encoding="utf-8",
    )
    print(given.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
