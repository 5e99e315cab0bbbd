"""2.5-D against 2-D: the same network, data and minutes, with and without the slices above and below.

    python benchmarks/context.py --data kaggle_3m --minutes 8        # 20 minutes on 2 cores

The networks see a neighbor on each side, or none. Each is scored per validation patient at the files' own pixels, at
the epoch that was best there: the figure that chooses a checkpoint, alike for both. Writes context.md.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from brainseg_keras import TrainingConfig, train
from brainseg_keras.training.machine import processor

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Train once for each context and write the table."""
    parser = argparse.ArgumentParser(description="2.5-D against 2-D.")
    parser.add_argument("--data", required=True, help="the folder kaggle_3m, or a packed .h5 of it")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--filters", type=int, default=8)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--contexts", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    lines = [
        "# 2.5-D against 2-D",
        "",
        f"`python benchmarks/context.py --data kaggle_3m --minutes {options.minutes:g} --filters {options.filters} "
        f"--size {options.size}`: attention U-Net, {options.minutes:g} minutes each on "
        f"{processor()}; Dice per validation patient at the best epoch.",
        "",
        "| neighbors on each side | epochs | mean | median | worst | n |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for context in options.contexts:
        config = TrainingConfig(
            data=options.data,
            architecture="attention_unet",
            filters=options.filters,
            size=options.size,
            batch_size=16,
            epochs=200,
            max_minutes=options.minutes,
            learning_rate=2e-3,
            context=context,
        )
        with tempfile.TemporaryDirectory() as folder:
            run = train(config, output=Path(folder) / "run")
            dice = np.array(list(run.read_info()["validation"]["dice"].values()))
            epochs = len(pd.read_csv(run.history))
        lines.append(
            f"| {context} | {epochs} | {dice.mean():.3f} | {np.median(dice):.3f} | {dice.min():.3f} | {len(dice)} |"
        )
    (HERE / "context.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
