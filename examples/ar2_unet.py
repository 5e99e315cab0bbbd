"""AR2-UNet: recurrent residual blocks and attention gates, scored per patient and not per pixel.

    python examples/ar2_unet.py                                # narrow, on the phantom: minutes on two cores
    python examples/ar2_unet.py --data kaggle_3m --filters 64 --size 256 --epochs 100

The second line has the published width and count: 64 to 1024 channels, 39,811,989 parameters. The gates differ: the
published code swaps their arguments, so that the encoder's skips never reach the decoder; here they do. It wants a GPU.

The original reports a pixel accuracy of 99.33 % and a Dice of 0.513. Accuracy says little here: a network that finds
no tumour at all has 98.97 % on the whole LGG set. So this script looks at Dice per patient.

Reference: Alom et al. 2018, arXiv:1802.06955; Oktay et al. 2018, arXiv:1804.03999.
"""

import argparse
import json

import brainseg_keras
from brainseg_keras.errors import InputError

parser = argparse.ArgumentParser(description="AR2-UNet, with the Dice of each validation patient.")
parser.add_argument("--data", default="phantom", help="folder, manifest, packed file or phantom")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--filters", type=int, default=8, help="width of the first level; published: 64")
parser.add_argument("--size", type=int, default=64, help="side of the input in pixels; published: 256")
parser.add_argument("-o", "--output", help="run folder; default tensorboard_logs/ar2_unet-<time>")


def main(options: argparse.Namespace) -> None:
    """Train, then print the Dice of each validation patient at the best epoch."""
    config = brainseg_keras.TrainingConfig(
        data=options.data,
        architecture="ar2_unet",
        filters=options.filters,
        size=options.size,
        epochs=options.epochs,
        loss="dice_focal",
        # Two thirds of the slices show no tumour; drawn evenly, the network would learn to stay silent.
        tumour_share=0.5,
    )
    run = brainseg_keras.train(config, output=options.output)
    # run.json says what the model file forgets: arguments, versions, and what the best epoch scored on whom.
    validation = json.loads(run.info.read_text())["validation"]
    for patient, dice in sorted(validation["dice"].items(), key=lambda item: item[1]):
        print(f"{dice:.3f}  {patient}")
    # The worst patients come first: the mean hides them, and they are what to look at in TensorBoard.
    print(f"{validation['mean_dice']:.3f}  mean of {validation['patients']} patients ({validation['role']})")


if __name__ == "__main__":
    try:
        main(parser.parse_args())
    except InputError as error:
        parser.error(str(error))
