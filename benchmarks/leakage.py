"""What a split by slice is worth: the same network and training, once split by slice and once by patient.

    python benchmarks/leakage.py --data kaggle_3m        # 10 minutes on 2 cores

Each of the two is scored in two ways: by slice on its own validation slices, as most papers do, and per patient on the
same ten patients that neither has seen. With a split by slice the neighbors of each validation slice, a few
millimeters away, were trained on. Writes leakage.md.
"""

import argparse
import tempfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from brainseg_keras import DiceFocalLoss, attention_unet
from brainseg_keras.data import Preprocessing, open_source, read_manifest, write_manifest
from brainseg_keras.data.inputs.augmentation import Augmentation
from brainseg_keras.data.inputs.batches import SliceBatches
from brainseg_keras.data.inputs.preprocessing import normalize
from brainseg_keras.data.inputs.slices import Slices, load_slices
from brainseg_keras.data.pipeline import as_tf_dataset
from brainseg_keras.evaluation import confusion, dice
from brainseg_keras.training.machine import processor

HERE = Path(__file__).resolve().parent


def split_by_slice(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Deal the slices of train and val anew, as many to each, whosever they are; test patients stay untouched."""
    table = table.copy()
    seen = table.index[table.split != "test"]
    table.loc[seen, "split"] = np.random.default_rng(0).permutation(table.split[seen].to_numpy())
    write_manifest(table, folder / "by_slice.csv")
    return read_manifest(folder / "by_slice.csv", allow_shared_patients=True)


def chosen(slices: Slices, indices: np.ndarray) -> Slices:
    """Take some slices."""
    return Slices(*(None if array is None else array[indices] for array in slices[:5]))


def train(slices: Slices, options: argparse.Namespace) -> keras.Model:
    """Train the network."""
    keras.utils.set_random_seed(0)
    batches = SliceBatches(slices, batch_size=16, augmentation=Augmentation())
    model = attention_unet((options.size, options.size, 3), filters=options.filters)
    steps = batches.steps_per_epoch
    rate = keras.optimizers.schedules.CosineDecay(2e-3, options.epochs * steps, alpha=0.01)
    model.compile(keras.optimizers.Adam(rate), loss=DiceFocalLoss())
    model.fit(as_tf_dataset(batches, endless=True), epochs=options.epochs, steps_per_epoch=steps, verbose=2)
    return model


def predict(model: keras.Model, slices: Slices) -> np.ndarray:
    """Give masks at the network's size."""
    parts = range(0, len(slices.images), 16)
    images = (normalize(slices.images[p : p + 16], slices.intensity[p : p + 16]) for p in parts)
    return np.concatenate([model.predict_on_batch(batch)[..., 0] > 0.5 for batch in images])


def scores(model: keras.Model, validation: Slices, untouched: Slices) -> dict[str, float]:
    """Score by slice on validation slices, and per patient on patients that nobody has seen."""
    answer = predict(model, validation)
    pairs = list(zip(validation.masks[..., 0] > 127, answer, strict=True))
    by_slice = np.array([dice(confusion(truth, mask)) for truth, mask in pairs])
    with_tumour = np.array([truth.any() for truth, _ in pairs])
    answer = predict(model, untouched)
    per_patient = [
        dice(confusion(untouched.masks[untouched.patients == name][..., 0] > 127, answer[untouched.patients == name]))
        for name in np.unique(untouched.patients)
    ]
    return {
        "val, all slices": by_slice.mean(),
        "val, slices with tumour": by_slice[with_tumour].mean(),
        "untouched patients, mean": float(np.mean(per_patient)),
        "untouched patients, median": float(np.median(per_patient)),
        "n slices": len(by_slice),
        "n tumour": int(with_tumour.sum()),
        "n patients": len(per_patient),
    }


def main() -> None:
    """Train twice and write the table."""
    parser = argparse.ArgumentParser(description="A lesson in leakage.")
    parser.add_argument("--data", required=True, help="the folder kaggle_3m, or a packed .h5 of it")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--filters", type=int, default=8)
    parser.add_argument("--size", type=int, default=96)
    options = parser.parse_args()
    source = open_source(options.data)
    everything = load_slices(source, "all", Preprocessing(options.size))
    table = source.table.sort_values(["patient", "slice"], ignore_index=True)
    assert (table.patient == everything.patients).all()
    untouched = chosen(everything, np.flatnonzero(table.split == "test"))
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        splits = {"by slice": split_by_slice(table, Path(folder)).split, "by patient": table.split}
    for name, split in splits.items():
        model = train(chosen(everything, np.flatnonzero(split == "train")), options)
        rows[name] = scores(model, chosen(everything, np.flatnonzero(split == "val")), untouched)
        print(name, rows[name])
    write(rows, options)


def write(rows: dict[str, dict[str, float]], options: argparse.Namespace) -> None:
    """Write the table in Markdown."""
    lines = [
        "# A lesson in leakage",
        "",
        f"`python benchmarks/leakage.py --data kaggle_3m --epochs {options.epochs} --filters {options.filters} "
        f"--size {options.size}`: attention U-Net, the same network, training and number of slices; Dice at "
        f"{options.size} pixels. {processor()}, {options.epochs} epochs each.",
        "",
        "| split | validation, all slices (empty ones that are right count 1) | validation, slices with tumour | "
        "untouched patients, mean Dice | median |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['val, all slices']:.3f} (n = {row['n slices']} slices) | "
            f"{row['val, slices with tumour']:.3f} (n = {row['n tumour']} slices) | "
            f"{row['untouched patients, mean']:.3f} (n = {row['n patients']} patients) | "
            f"{row['untouched patients, median']:.3f} |"
        )
    difference = rows["by slice"]["val, slices with tumour"] - rows["by patient"]["val, slices with tumour"]
    lines += [
        "",
        f"The split by slice claims {difference:.2f} more on slices with tumour, because the neighbors of each "
        "validation slice, a few millimeters away, were trained on; on patients whom neither has seen it gains "
        "nothing.",
    ]
    (HERE / "leakage.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
