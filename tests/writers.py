"""Every command that writes, small: what is killed, and what meets a full disk."""

from dataclasses import dataclass

import forks

SETTINGS = ("--architecture", "res_unet", "--filters", "4", "--depth", "1", "--size", "32", "--batch-size", "4")


@dataclass(frozen=True)
class Task:
    """A command that writes.

    Args:
        name: What the table of docs/reliability.md calls it.
        arguments: Of the command line.
        watch: Files that tell that it has begun to write.
        kills: How often in a row it is killed before it may end.
        needs: What of the world it works on, and not beside it.
    """

    name: str
    arguments: tuple
    watch: str = "*"
    kills: int = 2
    needs: tuple = ()

    @property
    def output(self):
        """Where it writes to."""
        if "-o" in self.arguments:
            return self.arguments[self.arguments.index("-o") + 1]
        return "run" if self.needs else "made"


def tasks(world):
    """Give the commands.

    Args:
        world: As `make_world` made it.
    """
    data, store, run = world / "data", world / "data.h5", world / "run"
    train = ("train", "--data", store, *SETTINGS, "--epochs", 4, "--dropout", 0.1, "--deterministic")
    small = ("--patients", 3, "--slices", 8, "--size", 48)
    predict = ("predict", data, world / "volume.nii.gz", "--model", run, "--probabilities", "-o", "out")
    return [
        Task("train", (*train, "-o", "run"), "*.keras", 4),
        Task("train --ema", (*train, "--ema", 0.9, "-o", "run"), "*.keras", 4),
        Task("train --resume", ("train", "--resume", "run", "--epochs", 2), "*.keras", needs=("run",)),
        Task("predict", predict),
        Task("predict --continue", (*predict, "--continue"), kills=4),
        Task("evaluate", ("evaluate", "--model", run, "--data", store, "-o", "report")),
        Task("tune", ("tune", "--model", run, "--data", store, "-o", "tuned")),
        Task("export to onnx", ("export", "--model", run, "-o", "run.onnx")),
        Task("export to litert", ("export", "--model", run, "--format", "litert", "-o", "run.tflite")),
        Task("export to savedmodel", ("export", "--model", run, "--format", "savedmodel", "-o", "saved")),
        Task("pack", ("data", "pack", data, "-o", "packed.h5"), kills=1),
        Task("phantom", ("data", "phantom", "made", *small)),
        Task("phantom of four sequences", ("data", "phantom", "made", *small, "--modalities", 4)),
        Task("manifest", ("data", "manifest", "lgg", data, "-o", "lists/manifest.csv")),
        Task("split", ("data", "split", data, "--folds", 3, "-o", "folds")),
        Task("check", ("data", "check", data, "-o", "findings")),
        Task("draw", ("models", "--draw", "res_unet", "-o", "drawing.png")),
    ]


def make_world(folder):
    """Make what the commands read, few and small: data/, data.h5, volume.nii.gz and a finished run/."""
    import nibabel
    import numpy as np

    from brainseg_keras.data.phantom.lgg import phantom_volume, write_phantom
    from brainseg_keras.data.sources import open_source
    from brainseg_keras.data.store import write_store

    write_phantom(folder / "data", patients=6, slices=8, size=32, seed=3)
    write_store(open_source(folder / "data"), folder / "data.h5")
    images, _ = phantom_volume(0, 0, slices=8, size=32)
    volume = np.moveaxis(images[..., 1], 0, -1).astype("float32")
    nibabel.Nifti1Image(volume, np.diag([1, 1, 5, 1])).to_filename(folder / "volume.nii.gz")
    run = ("train", "--data", folder / "data.h5", *SETTINGS, "--epochs", 1, "-o", "run")
    answer = forks.brainseg(*run, cwd=folder)
    assert answer.code == 0, answer.stderr
    return folder
