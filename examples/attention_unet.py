"""Attention U-Net on BraTS 2020: one sequence, the whole tumour, 128x128 pixels. Plain Keras.

    python examples/attention_unet.py                          # narrow, on the phantom: minutes on two cores
    python examples/attention_unet.py --data BraTS2020_training_data --filters 32 --size 128 --epochs 40

The second line is the published system: 32 to 512 channels, 8,120,421 parameters, trained on FLAIR alone. `--modalities
T1,T1ce,T2,FLAIR` reads all four. `--data` is the folder of `volume_<v>_slice_<s>.h5`, or one above it.

The masks hold three classes. Any of them is tumour here; `brainseg train --target regions` tells whole tumour, tumour
core and enhancing tumour apart, and `brainseg evaluate` scores them as BraTS does.

Reference: Oktay et al. 2018, arXiv:1804.03999; Menze et al. 2015, doi 10.1109/TMI.2014.2377694 (BraTS).
"""

import argparse
import os
from pathlib import Path

# Before Keras is imported: keeps TensorFlow's notes on the processor to itself.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

from brainseg_keras import DiceCoefficient, DiceFocalLoss, attention_unet, make_dataset
from brainseg_keras.errors import InputError
from brainseg_keras.training import speed_up
from brainseg_keras.training.precision import choose_precision

parser = argparse.ArgumentParser(description="Attention U-Net on BraTS slices.")
parser.add_argument("--data", default="phantom", help="folder of BraTS 2020 slices, packed file or phantom")
parser.add_argument("--modalities", default="FLAIR", help="sequences to read, such as T1,T1ce,T2,FLAIR")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--filters", type=int, default=8, help="width of the first level; published: 32")
parser.add_argument("--size", type=int, default=64, help="side of the input in pixels; published: 128")
parser.add_argument("-o", "--output", default="tensorboard_logs/example-attention_unet", help="where to keep it")


def main(options: argparse.Namespace) -> None:
    """Train, keep the epoch with the best Dice over the validation slices, and say it."""
    keras.utils.set_random_seed(0)
    # Half precision on a GPU (or a processor with AMX); weights and the mask stay in float32.
    keras.config.set_dtype_policy(choose_precision("auto", separable=False))
    # The four-sequence phantom has the layout of the real set. A volume never crosses a split.
    reading = {"modalities": options.modalities, "size": options.size, "batch_size": 8}
    if options.data == "phantom":
        reading["format"] = "brats-h5"
    training = make_dataset(options.data, split="train", **reading)
    validation = make_dataset(options.data, split="val", **reading)

    channels = training.element_spec[0].shape[-1]
    model = attention_unet((options.size, options.size, channels), filters=options.filters)
    model.compile(keras.optimizers.Adam(1e-3), loss=DiceFocalLoss(), metrics=[DiceCoefficient()])
    # Its first step is traced once and not twice, and on a CPU steps are faster. What it learns is the same.
    speed_up(model)

    file = Path(options.output) / "model.keras"
    file.parent.mkdir(parents=True, exist_ok=True)
    keep = keras.callbacks.ModelCheckpoint(file, monitor="val_dice", mode="max", save_best_only=True)
    history = model.fit(training, validation_data=validation, epochs=options.epochs, callbacks=[keep], verbose=2)
    # Pooled over the pixels of all validation slices: one large tumour outweighs five small ones. For the Dice of each
    # patient, train with `brainseg train` and score with `brainseg evaluate`.
    print(f"best val_dice {max(history.history['val_dice']):.3f}: {file}")


if __name__ == "__main__":
    try:
        main(parser.parse_args())
    except InputError as error:
        parser.error(str(error))
