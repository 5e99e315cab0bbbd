"""The weights that ship, from the data to the files: train, tune on validation patients, score the test patients once.

    python benchmarks/lgg_weights.py --data kaggle_3m -o runs/lgg
    python benchmarks/lgg_weights.py --data kaggle_3m --run runs/lgg/final --ship
    python benchmarks/lgg_weights.py --run runs/all --folds runs/five --ship
    python benchmarks/lgg_weights.py --onnx

The first command trains; the second, for a run that was chosen by its validation score, tunes it, scores the test
patients, and writes the weights with their JSON into the package and the table of the model card. The third is for a
run on all patients (`brainseg train --validation none`), which nobody can tune or score: its postprocessing and its
calibration are those that `brainseg out-of-fold --tune` found on the folds of the same recipe, and model_card.py writes
their scores. The last, which is a part of both, writes the weights that are in the package once more, as ONNX.
"""

import argparse
import dataclasses
import hashlib
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import onnx
from model_card import patients, summary

from brainseg_keras import NetworkSpec, TrainingConfig, train
from brainseg_keras.calibration import Calibration
from brainseg_keras.data import open_source
from brainseg_keras.errors import InputError, reading
from brainseg_keras.export import export
from brainseg_keras.files import write_json
from brainseg_keras.inference import Predictor
from brainseg_keras.models.shipped import pretrained_info
from brainseg_keras.postprocessing import read_choice
from brainseg_keras.reports import evaluate, tune
from brainseg_keras.training import FoldsFolder, RunFolder
from brainseg_keras.training.folds import describe_difference

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "brainseg_keras" / "weights"
NAME = "lgg"
COMMON = {"architecture": "attention_res_unet", "filters": 16, "size": 128, "batch_size": 16}
FIRST = {"epochs": 200, "max_minutes": 100, "patience": 19, "ema": 0.998, "weight_decay": 1e-4}
#: From the best epoch of the first stage on, with FLAIR in the place of other sequences in a quarter of the slices.
STRONGER = {
    "ema": 0.997,
    "weight_decay": 1e-3,
    "learning_rate": 4e-4,
    "warmup": 0.05,
    "rotate": 20.0,
    "zoom": 0.2,
    "shift": 0.08,
    "intensity": 0.25,
    "stand_in": 0.25,
}


#: The third stage is for the masks: before it they were made smaller by the nearest pixel, half a pixel off.
SECOND = STRONGER | {"epochs": 200, "max_minutes": 23}
THIRD = STRONGER | {"epochs": 4, "precision": "float32"}


def fit(data: str, folder: Path) -> None:
    """Train in three stages; best.keras of a run is the epoch with the best Dice per validation patient."""
    first = train(TrainingConfig(data=data, **COMMON, **FIRST), output=folder / "first")
    second = train(TrainingConfig(data=data, init=str(first.best), **COMMON, **SECOND), output=folder / "second")
    train(TrainingConfig(data=data, init=str(second.best), **COMMON, **THIRD), output=folder / "final")


def ship(data: str, run: Path) -> None:
    """Tune on validation patients, score the test patients, and write what goes into the package."""
    source = open_source(data)
    tuned = tune(Predictor(run), source)
    predictor = Predictor(run)
    found = {split: evaluate(predictor, source, split=split, output=run / "evaluation" / split) for split in SPLITS}
    write_weights(run, predictor.spec, {"postprocessing": tuned.record})
    table = "\n\n".join(
        f"## {split}\n\n{summary(found[split].report)}\n\n{patients(found[split].per_patient)}" for split in SPLITS
    )
    (run / "card.md").write_text(table + "\n")
    print(run / "card.md")


def spec_on_all(run: Path, folds: Path) -> NetworkSpec:
    """Describe a run on all patients with what was fitted out of fold on its twins.

    Raises:
        InputError: The run kept somebody apart, is of another recipe than the folds, or nothing was fitted on these.
    """
    record, twins = RunFolder(run).read_record(), FoldsFolder(folds).read_config()
    if record.config.validation != "none":
        raise InputError(f"{run} kept patients apart. Ship it with --data, which tunes and scores it on them.")
    free = {"data", "root", "format", "folds", "fold", "seed", "profile", "validation"}
    ours, theirs = (
        {name: value for name, value in dataclasses.asdict(config).items() if name not in free}
        for config in (record.config, twins)
    )
    if said := describe_difference(theirs, ours):
        raise InputError(f"{folds} and {run} are of two recipes: they differ in {said}. Give the folds of this one.")
    choice, report = read_choice(folds), folds / "evaluation" / "out_of_fold" / "report.json"
    if choice is None or not report.is_file():
        raise InputError(f"Nothing was chosen out of fold in {folds}. Run brainseg out-of-fold {folds} --tune.")
    with reading(report, f"Run brainseg out-of-fold {folds} --tune."):
        told = json.loads(report.read_text(encoding="utf-8"))["calibration"]
        met = {known.name: known.slices for known in record.spec.roles.patients}
        fitted = (told["temperature"], told["bias"], met, "out-of-fold patients", told["before"], told["after"])
    return record.spec.with_choice(*choice).with_calibration(Calibration(*fitted))


def write_weights(run: Path, spec: NetworkSpec, also: dict[str, Any]) -> None:
    """Write a run's network and what it is into the package."""
    WEIGHTS.mkdir(exist_ok=True)
    keras.saving.load_model(run / "best.keras", compile=False).save_weights(WEIGHTS / f"{NAME}.weights.h5")
    record = RunFolder(run).read_record()
    trained = sum(known.role == "train" for known in spec.roles.patients)
    whose = f"the LGG MRI segmentation set ({trained} of its patients; see docs/model_card.md)"
    spec = replace(spec, license="CC BY-NC-SA 4.0", data=whose)
    public = replace(record.config, data="kaggle_3m", init=None, teacher=None)
    shipped = replace(record, spec=spec, config=public).to_info()
    content = {name: shipped[name] for name in (*spec.to_info(), "config", "parameters", "validation")} | also
    digest = hashlib.sha256((WEIGHTS / f"{NAME}.weights.h5").read_bytes()).hexdigest()
    write_json(WEIGHTS / f"{NAME}.json", content | {"sha256": digest})
    ship_onnx()


def ship_onnx() -> None:
    """Write the weights of the package as ONNX too; each of the two files says the checksum of the other."""
    pretrained_info.cache_clear()
    content = pretrained_info(NAME)
    with tempfile.TemporaryDirectory() as folder:
        done = export(Predictor(NAME, engine="keras"), Path(folder) / f"{NAME}.onnx")
        network = onnx.load(done.path)
    network.metadata_props.add(key="weights_sha256", value=content["sha256"])
    network.metadata_props.add(key="license", value=content["license"])
    file = WEIGHTS / f"{NAME}.onnx"
    onnx.save(network, file)
    write_json(WEIGHTS / f"{NAME}.json", content | {"onnx_sha256": hashlib.sha256(file.read_bytes()).hexdigest()})
    print(f"{file}: {file.stat().st_size} bytes, largest difference from Keras {done.difference:.2g}")


SPLITS = ("val", "test")


def main() -> None:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(description="Train and ship the LGG weights.")
    parser.add_argument("--data", help="the folder kaggle_3m, or a packed .h5 of it")
    parser.add_argument("-o", "--output", type=Path, default=Path("tensorboard_logs/lgg"), help="folder of the runs")
    parser.add_argument("--run", type=Path, help="run to ship; default the one that is trained")
    parser.add_argument("--folds", type=Path, help="folds of the same recipe, for a run on all patients")
    parser.add_argument("--ship", action="store_true", help="tune, score the test patients and write the weights")
    parser.add_argument("--onnx", action="store_true", help="only write the weights of the package as ONNX")
    options = parser.parse_args()
    if options.onnx:
        return ship_onnx()
    if options.folds is not None:
        if options.run is None or not options.ship:
            parser.error("--folds goes with --run and --ship")
        return write_weights(options.run, spec_on_all(options.run, options.folds), {})
    if options.data is None:
        parser.error("--data says where the images are")
    if options.run is None:
        fit(options.data, options.output)
    if options.ship:
        ship(options.data, options.run or options.output / "final")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"Error: {error}")
