"""Recurrent networks as published share one normalization over their steps: what that costs when they are used.

    python benchmarks/shared_norm.py          # 4 minutes on 2 cores

Each narrow network learns four images of bright discs by heart (120 steps), with the published shared normalization and
with `norm_per_step=True`. The same images are then segmented twice: with the statistics of the batch, as in training,
and with the moving averages, as in use. A shared one averages over steps whose statistics differ.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from brainseg_keras import DiceFocalLoss, build_model
from brainseg_keras.evaluation import confusion, dice

STEPS = 120


def discs(count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Make bright discs on noise, and their masks."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :48]
    masks = np.stack(
        [(y - rng.integers(10, 22)) ** 2 + (x - rng.integers(12, 36)) ** 2 < rng.integers(30, 70) for _ in range(count)]
    )
    images = masks[..., None] + 0.3 * rng.standard_normal((count, 32, 48, 3))
    return images.astype("float32"), masks[..., None].astype("float32")


def measure(name: str, separable: bool, norm_per_step: bool) -> tuple[float, float]:
    """Give the Dice with the batch's own statistics and with the moving averages."""
    keras.utils.set_random_seed(0)
    images, masks = discs()
    model = build_model(
        name, input_shape=(32, 48, 3), filters=8, depth=2, separable=separable, norm_per_step=norm_per_step
    )
    rate = keras.optimizers.schedules.CosineDecay(5e-3, STEPS)
    model.compile(keras.optimizers.Adam(rate), DiceFocalLoss())
    model.fit(images, masks, batch_size=len(images), epochs=STEPS, verbose=0)
    in_use = np.asarray(model(images, training=False))
    in_training = np.asarray(model(images, training=True))
    return tuple(float(dice(confusion(masks, answer > 0.5))) for answer in (in_training, in_use))


def main() -> None:
    """Measure every recurrent network and write the table."""
    parser = argparse.ArgumentParser(description="Shared normalization against one per step.")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".md"), help="Markdown table")
    options = parser.parse_args()
    rows = []
    for name in ("r2_unet", "ar2_unet", "mod_r2au_net"):
        for separable in (False, True):
            for norm_per_step in (False, True):
                training, use = measure(name, separable, norm_per_step)
                kind, norm = "separable" if separable else "plain", "per step" if norm_per_step else "shared"
                rows.append(f"| `{name}` | {kind} | {norm} | {training:.3f} | {use:.3f} |")
                print(rows[-1], flush=True)
    head = [
        "# One normalization for all steps, or one per step",
        "",
        f"Dice on four images learned by heart in {STEPS} steps (filters=8, depth=2). Written by "
        "`python benchmarks/shared_norm.py`.",
        "",
        "| network | convolutions | normalization | as in training | as in use |",
        "|---|---|---|---:|---:|",
    ]
    options.output.write_text("\n".join([*head, *rows, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
