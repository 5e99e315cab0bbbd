"""This package beside every other that a user would pick: one command, one table.

    python benchmarks/peers.py --environments ~/peers                  # all: half an hour on two cores, 12 GB of disk
    python benchmarks/peers.py --environments ~/peers --only augment slice
    python benchmarks/peers.py --environments ~/peers --quick -o look.md   # whether every contender works

Each contender runs in an environment of its own, which is made on first use, and in a process of its own, which waits
while another computes. All get the same images, masks, loss and optimizer; networks of one name differ between
packages, so that operations are counted and compared by the second. The rounds of a row go from one contender to the
next, so that a busy minute of the machine does not fall on one alone.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from peers import report
from peers.contenders import ALL
from peers.plan import Bench, Settings, say

SECTIONS = ("networks", "augment", "files", "memory")
PATHS = ("exported", "patient")
QUICK = Settings(
    rounds=1,
    size=64,
    batches=(2,),
    width=8,
    seconds=0.1,
    growth=((32, 2, 8),),
    growth_rounds=1,
    patients=6,
    slices=8,
)


def machine() -> dict[str, Any]:
    """Name the processor, its cores and what it multiplies with."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.is_file() else []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}
    flags = fields.get("flags", "").split()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": fields.get("model name") or platform.processor() or platform.machine(),
        "cores": cores,
        "flags": [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in flags],
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="This package beside others: speed, memory, ratios.")
    parser.add_argument(
        "--environments", type=Path, default=Path("~/.cache/brainseg-peers"), help="where they are kept"
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="which sections")
    parser.add_argument("--rounds", type=int, help="timings of each contender; default 5")
    parser.add_argument("--size", type=int, help="side of the images in pixels; default 256")
    parser.add_argument("--networks", nargs="+", choices=ALL, default=ALL, help="which networks")
    parser.add_argument("--without-growth", action="store_true", help="one size and width: 10 minutes less")
    parser.add_argument("--quick", action="store_true", help="small and once: whether every contender works")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".md"), help="Markdown table")
    return parser.parse_args(arguments)


def settings_of(options: argparse.Namespace, flags: list[str]) -> Settings:
    """Say how much is measured."""
    given = {name: getattr(options, name) for name in ("rounds", "size", "networks") if getattr(options, name)}
    if options.without_growth:
        given["growth"] = ()
    if {"avx512_bf16", "amx_bf16"} & set(flags):
        given["precisions"] = ("float32", "bfloat16")
    return Settings(**(vars(QUICK if options.quick else Settings()) | given))


def main() -> None:
    """Measure, and write the table beside its JSON."""
    options, found, started = parse(), machine(), time.monotonic()
    folder = options.environments.expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    settings = settings_of(options, found["flags"])
    bench = Bench(folder, settings)
    try:
        for section in options.only:
            bench.matrices()
            bench.section(section)
    finally:
        result = {
            "machine": found,
            "settings": vars(settings),
            "minutes": round((time.monotonic() - started) / 60, 1),
            "versions": bench.versions,
            "matrix": bench.matrix,
            # Scratch files are gone by then.
            "records": [{k: v for k, v in record.items() if k not in PATHS} for record in bench.records],
        }
        bench.close()
        options.output.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        options.output.write_text(report.report(result), encoding="utf-8")
        say(f"{result['minutes']} minutes")
    print(options.output)


if __name__ == "__main__":
    sys.exit(main())
