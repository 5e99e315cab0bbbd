"""How to make masks smaller: by the nearest pixel, by area cut at one half, or by area as shares of a pixel.

    python benchmarks/masks.py --data kaggle_3m

First the truth of every patient goes to the network's size and back, which is what a perfect network could reach. Then
the weights that ship are trained on with each kind of mask: the same steps, seed and augmentation. Each is scored per
validation patient at the files' own pixels. Writes masks.md.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from lgg_weights import COMMON, STRONGER

from brainseg_keras import TrainingConfig, train
from brainseg_keras.data import augmentation, open_source
from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.inputs.targets import TUMOUR
from brainseg_keras.data.volumes import iterate_volumes
from brainseg_keras.evaluation import confusion, dice
from brainseg_keras.training.machine import processor

HERE = Path(__file__).resolve().parent
SIZE = COMMON["size"]
#: The stage of the shipped weights that this was measured for.
RECIPE = COMMON | STRONGER | {"init": "lgg", "precision": "float32"}
_by_area = Preprocessing.masks
_move = augmentation._move


def _nearest(self: Preprocessing, masks: np.ndarray) -> np.ndarray:
    # Slices of the LGG set are square.
    size = (self.size, self.size)
    return np.stack([cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT) for mask in masks])[..., np.newaxis]


def _cut(self: Preprocessing, masks: np.ndarray) -> np.ndarray:
    return np.uint8(255) * (_by_area(self, masks) > 127)


def _move_hard(images: np.ndarray, matrices: np.ndarray, outside: np.ndarray | None = None) -> np.ndarray:
    """Move masks, which have one channel here, to the nearest pixel, so that they stay 0 and 255."""
    if images.shape[-1] > 1:
        return _move(images, matrices, outside)
    moved = np.empty_like(images)
    for mask, matrix, target in zip(images, matrices, moved, strict=True):
        cv2.warpAffine(mask, matrix, mask.shape[1::-1], target, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)
    return moved


#: What takes the place of `Preprocessing.masks` and of the augmentation's move.
WAYS: dict[str, tuple[Callable, Callable]] = {
    "nearest pixel": (_nearest, _move_hard),
    "by area, cut at one half": (_cut, _move_hard),
    "by area, shares of a pixel (used here)": (_by_area, _move),
}


def there_and_back(data: str) -> list[float]:
    """Give the Dice of each patient's truth that went to the network's size and back."""
    step, scores = Preprocessing(SIZE), []
    for volume in iterate_volumes(open_source(data), "all"):
        truth = TUMOUR.encode(step.masks(TUMOUR.layers(volume.masks)))
        answer = TUMOUR.decode(step.restore(truth[..., 0], volume.masks.shape[1:]))
        scores.append(float(dice(confusion(volume.masks > 0, answer))))
    return scores


def main() -> None:
    """Measure each way and write the table."""
    parser = argparse.ArgumentParser(description="How to make masks smaller.")
    parser.add_argument("--data", required=True, help="the folder kaggle_3m, or a packed .h5 of it")
    parser.add_argument("--epochs", type=int, default=4, help="over which the learning rate falls")
    parser.add_argument("--shown", type=int, default=2, help="epochs in the table")
    options = parser.parse_args()
    epochs = range(1, options.shown + 1)
    lines = [
        "# How to make masks smaller",
        "",
        f"`python benchmarks/masks.py --data kaggle_3m --epochs {options.epochs} --shown {options.shown}`, on "
        f"{processor()}: mean Dice per patient.",
        "",
        f"| masks at {SIZE} pixels | truth there and back (n = all) | worst | "
        + " | ".join(f"epoch {number}, validation patients" for number in epochs)
        + " |",
        "|---|---:|---:|" + "---:|" * options.shown,
    ]
    for name, (Preprocessing.masks, augmentation._move) in WAYS.items():
        back = there_and_back(options.data)
        with tempfile.TemporaryDirectory() as folder:
            run = train(TrainingConfig(data=options.data, epochs=options.epochs, **RECIPE), output=Path(folder) / "run")
            history = pd.read_csv(run.history).set_index("epoch").val_dice
        scores = " | ".join(f"{history[number]:.4f}" for number in epochs)
        lines.append(f"| {name} | {np.mean(back):.3f} (n = {len(back)}) | {min(back):.3f} | {scores} |")
    (HERE / "masks.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
