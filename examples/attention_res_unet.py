"""Attention residual U-Net with separable convolutions: focal loss first, then Dice + focal. Plain Keras.

    python examples/attention_res_unet.py                      # narrow, on the phantom: minutes on two cores
    python examples/attention_res_unet.py --data kaggle_3m --filters 64 --size 128 --epochs 50

The second line is the published system: 64 to 1024 channels, separable, 11,264,356 parameters, trained on 128x128
pixels. The recipe is separable only when told, as this script does; by default it has 39,090,377. It wants a GPU.

The focal loss looks at each pixel alone and finds roughly where tumours are, even from a cold start; the Dice part then
draws their borders. Each stage takes `--epochs` epochs.

Reference: Oktay et al. 2018, arXiv:1804.03999; Lin et al. 2017, arXiv:1708.02002 (focal loss).
"""

import argparse
import os
from pathlib import Path

# Before Keras is imported: keeps TensorFlow's notes on the processor to itself.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

from brainseg_keras import BinaryFocalLoss, DiceCoefficient, DiceFocalLoss, attention_res_unet, make_dataset
from brainseg_keras.errors import InputError
from brainseg_keras.training import speed_up
from brainseg_keras.training.precision import choose_precision

parser = argparse.ArgumentParser(description="Attention residual U-Net, separable, in two stages.")
parser.add_argument("--data", default="phantom", help="folder, manifest, packed file or phantom")
parser.add_argument("--epochs", type=int, default=6, help="epochs of each stage")
parser.add_argument("--filters", type=int, default=8, help="width of the first level; published: 64")
parser.add_argument("--size", type=int, default=64, help="side of the input in pixels; published: 128")
parser.add_argument("-o", "--output", default="tensorboard_logs/example-attention_res_unet", help="where to keep it")


def main(options: argparse.Namespace) -> None:
    """Train in two stages and save the model."""
    keras.utils.set_random_seed(0)
    # Half precision on a GPU (or a processor with AMX); weights and the mask stay in float32.
    keras.config.set_dtype_policy(choose_precision("auto", separable=True))
    # Patients never cross a split. The training set is shuffled, half tumour, and augmented; the other is in order.
    training = make_dataset(options.data, split="train", size=options.size, batch_size=8)
    validation = make_dataset(options.data, split="val", size=options.size, batch_size=8)

    channels = training.element_spec[0].shape[-1]
    model = attention_res_unet((options.size, options.size, channels), filters=options.filters, separable=True)

    model.compile(keras.optimizers.Adam(1e-3), loss=BinaryFocalLoss(), metrics=[DiceCoefficient()])
    # Its first step is traced once and not twice, and on a CPU steps are faster. What it learns is the same.
    speed_up(model)
    model.fit(training, validation_data=validation, epochs=options.epochs, verbose=2)

    # Compiling again keeps the weights and starts the optimizer anew. Focal values are small: 5 brings both parts to
    # one scale. Where a GPU allows 100 epochs, ModelCheckpoint(monitor="val_dice", mode="max") is worth adding.
    model.compile(
        keras.optimizers.Adam(5e-4), loss=DiceFocalLoss(dice_weight=1, focal_weight=5), metrics=[DiceCoefficient()]
    )
    speed_up(model)
    model.fit(training, validation_data=validation, epochs=2 * options.epochs, initial_epoch=options.epochs, verbose=2)

    # val_dice above pools the pixels of all validation slices; `brainseg train` scores each patient.
    file = Path(options.output) / "model.keras"
    file.parent.mkdir(parents=True, exist_ok=True)
    model.save(file)
    print(file)


if __name__ == "__main__":
    try:
        main(parser.parse_args())
    except InputError as error:
        parser.error(str(error))
