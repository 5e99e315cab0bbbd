"""What limits training on many devices: the bytes of a step's gradients against the time that the step computes.

    python benchmarks/all_reduce.py           # a second: it is arithmetic

After each step the devices add up their gradients, 4 bytes for each trained parameter. In a ring each device sends and
receives 2 (n - 1) / n times that, in 2 (n - 1) messages one after the other. The time that a step computes is taken
from peers.md, where it was measured on 2 cores; bandwidths and the delay of a message are round numbers, not measured.
Nothing is taken off for what a backend sends while it still computes.
"""

import argparse
import re
from pathlib import Path

from brainseg_keras.models.table import read_table

DEVICES = (10, 100, 1000)
#: Of the network between devices, bits a second; and what passes before a message arrives, seconds.
BANDWIDTHS = {"10 Gbit/s": 10e9, "100 Gbit/s": 100e9, "400 Gbit/s": 400e9}
DELAY = 10e-6
#: Slices of 256x256 that each device has of a batch; a step counts three forward passes.
SLICES, PASSES = 8, 3


def measured_rate() -> float:
    """Read how many operations a second a training step did, from peers.md."""
    text = Path(__file__).with_name("peers.md").read_text(encoding="utf-8")
    return 1e9 * float(re.search(r"^\| attention U-Net, training step \| 256 \| 8 \| 16 \| ([\d.]+)", text, re.M)[1])


def ring_seconds(parameters: int, devices: int, bandwidth: float) -> float:
    """Give the seconds in which a ring of devices adds up float32 gradients."""
    rounds = 2 * (devices - 1)
    return rounds / devices * 4 * parameters / (bandwidth / 8) + rounds * DELAY


def milliseconds(seconds: float) -> str:
    """Spell a time."""
    return f"{1000 * seconds:,.3g}" if seconds < 1 else f"{1000 * seconds:,.0f}"


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description="Gradients of many devices against the time of a step.")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".md"), help="Markdown table")
    options, measured = parser.parse_args(), measured_rate()
    names = " | ".join(f"{count:,} at {name}" for name in BANDWIDTHS for count in DEVICES)
    exchange, needed = [], []
    for row in read_table():
        work = PASSES * SLICES * 1e9 * row["gflops"]
        rings = [ring_seconds(row["trainable"], count, speed) for speed in BANDWIDTHS.values() for count in DEVICES]
        exchange.append(
            f"| {row['name']} | {4e-6 * row['trainable']:.1f} | {milliseconds(work / measured)} | "
            f"{' | '.join(map(milliseconds, rings))} |"
        )
        # The step is nine times as long as the exchange.
        rates = " | ".join(f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}" for rate in (work / 9e12 / r for r in rings))
        needed.append(f"| {row['name']} | {rates} |")
    rule = "---:|" * (len(BANDWIDTHS) * len(DEVICES))
    text = f"""# Gradients of many devices against the time of a step

Written by `python benchmarks/all_reduce.py`: arithmetic, not a measurement of many devices. A ring of n devices sends
2 (n - 1) / n times the gradients, float32, with {1e6 * DELAY:.0f} microseconds a message. Each device has {SLICES}
slices of 256x256 of a batch. Milliseconds; "step" is what 2 cores compute at the {measured / 1e9:.0f} GFLOP/s of
[peers.md](peers.md).

| network | gradients, MB | step | {names} |
|---|---:|---:|{rule}
{chr(10).join(exchange)}

On devices of 2 cores the step is by far the longer, also among a thousand. An accelerator computes it in less. How fast
it may be before the exchange takes more than a tenth of the time, in TFLOP/s that it really does:

| network | {names} |
|---|{rule}
{chr(10).join(needed)}
"""
    options.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
