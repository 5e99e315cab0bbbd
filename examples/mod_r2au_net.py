"""Mod-R2AU-Net, a reconstruction, with the preprocessing that its authors describe: a Gaussian blur, then CLAHE.

    python examples/mod_r2au_net.py                            # narrow, on the phantom: minutes on two cores
    python examples/mod_r2au_net.py --data kaggle_3m --filters 49 --size 256 --epochs 100

The second line is the reconstructed network: 49 to 784 channels, 21,301,889 parameters, 212.1 GFLOPs at 256x256.
What is published are 21.3 million, 212 GFLOPs and a script that cannot be built. It wants a GPU. `--data` takes the LGG
folder, a manifest or a packed file.

Reference: Yadav, Kolekar, Zope 2025, doi:10.1016/j.bspc.2024.107220.
"""

import argparse

import brainseg_keras
from brainseg_keras.errors import InputError

parser = argparse.ArgumentParser(description="Mod-R2AU-Net, with Gaussian blur and CLAHE.")
parser.add_argument("--data", default="phantom", help="folder, manifest, packed file or phantom")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--filters", type=int, default=6, help="width of the first level; reconstructed: 49")
parser.add_argument("--size", type=int, default=64, help="side of the input in pixels; GFLOPs are given for 256")
parser.add_argument("-o", "--output", help="run folder; default tensorboard_logs/mod_r2au_net-<time>")


def main(options: argparse.Namespace) -> None:
    """Train, and keep the epoch with the best Dice per validation patient."""
    config = brainseg_keras.TrainingConfig(
        data=options.data,
        architecture="mod_r2au_net",
        filters=options.filters,
        size=options.size,
        epochs=options.epochs,
        # The authors blur with a 3x3 kernel of sigma 1.5. Cut off so short, it spreads a point by 0.8 pixels.
        blur=0.8,
        # Their clip limit; the tiles are 8 x 8, as theirs. Each modality is equalized for itself: the channels of these
        # files are T1, FLAIR and T1ce, not colors.
        clahe=2.0,
        # Recurrence is where time and memory go: each kernel is applied four times, and every result is kept for its
        # gradient. A smaller batch takes less of both.
        batch_size=8,
        loss="dice_focal",
        learning_rate=1e-3,
    )
    # What train() adds to compile and fit: Dice over each patient's whole volume chooses the checkpoint, and the run
    # can be resumed. Blur and CLAHE are written to run.json, so that prediction can repeat them.
    run = brainseg_keras.train(config, output=options.output)
    print(f"{run.best}\ntensorboard --logdir {run.path}")


if __name__ == "__main__":
    try:
        main(parser.parse_args())
    except InputError as error:
        parser.error(str(error))
