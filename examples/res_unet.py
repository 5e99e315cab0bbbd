"""ResUNet at 256x256: rotation, flips and zoom, the Dice loss, and TensorBoard. Plain Keras.

    python examples/res_unet.py                                # narrow, on the phantom: minutes on two cores
    python examples/res_unet.py --data kaggle_3m --filters 16 --epochs 100

The second line is the public system that the recipe follows: 16 to 256 channels, 1,210,513 parameters. The ResUNet of
the paper is another network. Watch it with `tensorboard --logdir tensorboard_logs`.

Reference: after Zhang, Liu, Wang 2018, arXiv:1711.10684.
"""

import argparse
import os
from pathlib import Path

# Before Keras is imported: keeps TensorFlow's notes on the processor to itself.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

from brainseg_keras import DiceCoefficient, DiceLoss, IntersectionOverUnion, make_dataset, res_unet
from brainseg_keras.data import Augmentation
from brainseg_keras.errors import InputError
from brainseg_keras.training import speed_up
from brainseg_keras.training.precision import choose_precision

parser = argparse.ArgumentParser(description="ResUNet with augmentation, Dice loss and TensorBoard.")
parser.add_argument("--data", default="phantom", help="folder, manifest, packed file or phantom")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--filters", type=int, default=4, help="width of the first level; published: 16")
parser.add_argument("--size", type=int, default=256, help="side of the input in pixels; published: 256")
parser.add_argument("-o", "--output", default="tensorboard_logs/example-res_unet", help="where to keep it")


def main(options: argparse.Namespace) -> None:
    """Train, with scalars in TensorBoard, and keep the epoch with the best validation Dice."""
    keras.utils.set_random_seed(0)
    # Half precision on a GPU (or a processor with AMX); weights and the mask stay in float32.
    keras.config.set_dtype_policy(choose_precision("auto", separable=False))
    # Up to 15 degrees either way, half of the slices mirrored left to right, up to 15 % larger or smaller. The shift,
    # contrast and noise of the default are off: the original has none. One interpolation does all three, and what comes
    # in from outside is background.
    augmentation = Augmentation(rotate=15, flip=0.5, zoom=0.15, shift=0, intensity=0, noise=0)
    training = make_dataset(options.data, split="train", size=options.size, batch_size=8, augmentation=augmentation)
    validation = make_dataset(options.data, split="val", size=options.size, batch_size=8)

    channels = training.element_spec[0].shape[-1]
    model = res_unet((options.size, options.size, channels), filters=options.filters)
    # The loss is smoothed, and its value is 0 where an empty slice is left empty: most slices show no tumour.
    model.compile(keras.optimizers.Adam(1e-3), loss=DiceLoss(), metrics=[DiceCoefficient(), IntersectionOverUnion()])
    # Its first step is traced once and not twice, and on a CPU steps are faster. What it learns is the same.
    speed_up(model)

    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    callbacks = [
        keras.callbacks.TensorBoard(log_dir=output / "logs"),
        keras.callbacks.ModelCheckpoint(output / "model.keras", monitor="val_dice", mode="max", save_best_only=True),
    ]
    model.fit(training, validation_data=validation, epochs=options.epochs, callbacks=callbacks, verbose=2)
    print(f"{output / 'model.keras'}\ntensorboard --logdir {output.parent}")


if __name__ == "__main__":
    try:
        main(parser.parse_args())
    except InputError as error:
        parser.error(str(error))
