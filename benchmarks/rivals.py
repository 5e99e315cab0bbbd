"""The attention U-Net of another package, trained as its own users do: the same patients, minutes, width and size.

    python benchmarks/rivals.py monai --data kaggle_3m --minutes 30 -o runs/table/monai

examples/compare_architectures.py runs this for its last rows, and scores the masks. The package gets an environment of
its own (benchmarks/peers/environments.py), training and validation patients as arrays, and of the patients that are
predicted the images alone. How it is trained stands in benchmarks/peers/rival_training.py. A training that was stopped
begins anew.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from peers.contenders import NETWORKS
from peers.environments import prepare
from rich.console import Console

from brainseg_keras import TrainingConfig
from brainseg_keras.data.roles import Roles
from brainseg_keras.data.volumes import VolumeSource, iterate_volumes
from brainseg_keras.errors import InputError, TrainingError
from brainseg_keras.files import check_output, write_json, write_whole
from brainseg_keras.training.machine import processor
from brainseg_keras.training.setup import open_data

SCRIPT = Path(__file__).with_name("peers") / "rival_training.py"
PACKAGES = ("keras_unet_collection", "medicai", "monai")
SETTINGS = ("data", "minutes", "filters", "size", "batch_size", "seed")


def write_patients(source: VolumeSource, folder: Path) -> None:
    """Write each patient's slices as arrays at the files' resolution; masks of those that train or choose alone.

    Raises:
        InputError: Slices that are no pictures of 8 bits, which the examples of other packages divide by 255.
    """
    for split in ("train", "val", "test"):
        (folder / split).mkdir()
        for volume in iterate_volumes(source, split):
            if volume.images.dtype != np.uint8:
                raise InputError(
                    f"Other packages are trained on pictures of 8 bits. Received: {volume.images.dtype} of patient "
                    f"{volume.patient}. Leave these rows out: --rows."
                )
            np.save(folder / split / f"{volume.patient}.images.npy", volume.images)
            if split != "test":
                np.save(folder / split / f"{volume.patient}.masks.npy", (volume.masks > 0).astype(np.uint8))


def train(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Train and predict in the package's own environment; gives what it says of itself, its masks are in `scratch`."""
    contender = next(one for one in NETWORKS if one.options.get("package") == options.package)
    environment = prepare(options.environments.expanduser().resolve(), contender.environment)
    if environment.error:
        raise TrainingError(f"{options.package} cannot be installed: {environment.error}. See benchmarks/README.md.")
    job = {name: getattr(options, name) for name in SETTINGS} | {"folder": str(scratch), "package": options.package}
    variables = os.environ | contender.variables | {"PYTHONPATH": ""}
    # -P: no file beside the script may stand in for a package.
    subprocess.run([str(environment.python), "-P", str(SCRIPT), json.dumps(job)], env=variables, check=True)
    told = json.loads((scratch / "told.json").read_text(encoding="utf-8"))
    return told | {"versions": environment.versions}


def main() -> None:
    """Train one package's network and keep masks and run.json."""
    parser = argparse.ArgumentParser(description="Another package's attention U-Net, trained as its users do.")
    parser.add_argument("package", choices=PACKAGES)
    parser.add_argument("--data", required=True, help="folder, manifest, packed file or phantom")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--filters", type=int, default=16, help="width of the first level")
    parser.add_argument("--size", type=int, default=128, help="side of the input in pixels")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", help="YAML file of brainseg train, for how the data are read and split")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--environments", type=Path, default=Path("~/.cache/brainseg-peers"))
    options = parser.parse_args()
    try:
        given = {"data": options.data, "seed": options.seed}
        config = TrainingConfig.from_yaml(options.config, **given) if options.config else TrainingConfig(**given)
        check_output(options.output, "folder")
        source = open_data(config, Roles(), Console(stderr=True))
        with tempfile.TemporaryDirectory() as folder:
            write_patients(source, Path(folder))
            told = train(options, Path(folder))
            masks = {file.name: np.load(file) for file in Path(folder, "masks").glob("*.npy")}
    except (InputError, TrainingError, subprocess.CalledProcessError) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
    for name, mask in masks.items():
        write_whole(options.output / "masks" / name, lambda path, mask=mask: np.save(path, mask))
    machine = {"processor": processor(), "cores": os.cpu_count()}
    settings = {name: getattr(options, name) for name in SETTINGS}
    # The last file: with it the row is finished.
    write_json(options.output / "run.json", {"settings": settings, "machine": machine} | told)


if __name__ == "__main__":
    main()
