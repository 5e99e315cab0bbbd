"""What weights are worth on other data: as they are, trained on, trained on in part, and not at all.

    python benchmarks/fine_tuning.py --data msd_task01 --labels msd --minutes 1

Folds by patient: in each a part of the patients is tested, one part chooses the epoch, and the rest trains. All rows
have the same folds, minutes, size and batches, and each patient is scored by a network that never saw it. Trained from
scratch the learning rate is the default, from the weights on that of docs/training.md. Writes the table.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from brainseg_keras import TrainingConfig, train
from brainseg_keras.data import open_source
from brainseg_keras.data.volumes import VolumeSource
from brainseg_keras.errors import InputError
from brainseg_keras.files import check_output, write_text
from brainseg_keras.inference import Predictor
from brainseg_keras.postprocessing import Postprocessing
from brainseg_keras.reports import evaluate
from brainseg_keras.training.machine import processor
from brainseg_keras.training.origin import beside_weights, network_settings


def rows_of(init: str) -> dict[str, dict[str, Any]]:
    """Say what each row trains with, beside what all share."""
    adapted = {"init": init, "adapt": True, "learning_rate": 3e-4}
    return {
        "trained from scratch": {},
        f"`--init {init} --adapt`": adapted,
        f"`--init {init} --adapt --freeze encoder`": adapted | {"freeze": "encoder"},
    }


def configs(row: dict[str, Any], options: argparse.Namespace) -> list[TrainingConfig]:
    """Give the settings of each fold of a row; all rows have the architecture of the weights."""
    shared = network_settings(beside_weights(options.init)) | {
        "data": options.data,
        "labels": options.labels,
        "modalities": options.modalities,
        "folds": options.folds,
        "batch_size": options.batch_size,
        "max_minutes": options.minutes,
        "epochs": 1000,
    }
    return [TrainingConfig(**(shared | row), fold=fold) for fold in range(1, options.folds + 1)]


def out_of_fold(row: dict[str, Any], source: VolumeSource, options: argparse.Namespace) -> tuple[pd.DataFrame, float]:
    """Train a row's folds; gives a line for each tested patient, and the mean number of epochs."""
    tested, epochs = [], []
    for config in configs(row, options):
        with tempfile.TemporaryDirectory() as folder:
            run = train(config, output=Path(folder) / "run")
            tested.append(evaluate(Predictor(run.path), source, split="test").per_patient)
            epochs.append(int(pd.read_csv(run.history).epoch.max()))
    return pd.concat(tested), sum(epochs) / len(epochs)


def table_row(title: str, per_patient: pd.DataFrame, epochs: float | None) -> str:
    """Write a row of the table: means over patients, then the Dice of each."""
    scores = per_patient.set_index("patient").sort_index()
    means = [f"{scores[name].mean():.3f}" for name in ("dice", "precision", "recall")]
    cells = [title, "" if epochs is None else f"{epochs:.1f}", *means, *(f"{dice:.3f}" for dice in scores.dice)]
    return f"| {' | '.join(cells)} |"


def in_markdown(rows: Sequence[str], patients: Sequence[str], options: argparse.Namespace) -> str:
    """Write the page."""
    given = {"labels": options.labels, "modalities": options.modalities, "folds": options.folds}
    words = [f"--{name} {value}" for name, value in given.items() if value is not None]
    heads = ["network", "epochs", "Dice, mean", "precision", "recall", *patients]
    held_out = len(patients) / options.folds
    lines = [
        "# Fine-tuning",
        "",
        f"`python benchmarks/fine_tuning.py --data {Path(options.data).name} {' '.join(words)} "
        f"--minutes {options.minutes:g}`: whole tumour, n = {len(patients)} patients, each scored by a network that "
        f"never saw it. {options.folds} folds: {held_out:g} of the patients tested, as many chose the epoch, the "
        f"rest trained; {options.minutes:g} minutes a fold on {os.cpu_count()} cores of {processor()}. "
        "The given weights get FLAIR for the sequences that are not there. The networks trained here have a "
        "threshold of 0.5 alone.",
        "",
        f"| {' | '.join(heads)} |",
        "|---|" + "---:|" * (len(heads) - 1),
        *rows,
        "",
        f"So few patients (n = {len(patients)}) show how it is done and what to expect roughly, not which row is best.",
    ]
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> None:
    """Score and train each row, and write the table."""
    parser = argparse.ArgumentParser(description="Weights on other data.")
    parser.add_argument("--data", required=True, help="whatever brainseg train takes")
    parser.add_argument("--labels", help="what the labels mean, such as msd")
    parser.add_argument("--modalities", help="sequences to read, such as FLAIR; default all")
    parser.add_argument("--init", default="lgg", help="the weights: a shipped name, or a run folder")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=1, help="of each fold of each row")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".md"), help="the table")
    options = parser.parse_args(words)
    output = check_output(options.output, "file")
    source = open_source(options.data, labels=options.labels, modalities=options.modalities, seed=None)
    given = Predictor(options.init)
    plain = given.adapted(postprocessing=Postprocessing())
    rows = [
        table_row(title, evaluate(predictor, source, split="all").per_patient, None)
        for title, predictor in (
            (f"`{options.init}` as it is", given),
            (f"`{options.init}`, a threshold of 0.5 alone", plain),
        )
    ]
    for title, settings in rows_of(options.init).items():
        rows.append(table_row(title, *out_of_fold(settings, source, options)))
        print(rows[-1], file=sys.stderr, flush=True)
    write_text(output, in_markdown(rows, sorted(source.table.patient.unique()), options))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
