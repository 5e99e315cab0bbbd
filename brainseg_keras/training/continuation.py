"""What a resumed run reads from its folder, and what it does about a damaged file."""

import csv
import logging
import math
from typing import Any, NamedTuple

import keras

from brainseg_keras.errors import InputError, first_line, reading
from brainseg_keras.models import build_model
from brainseg_keras.training.optimizer import MeasuredAdam
from brainseg_keras.training.precision import dtype_policy
from brainseg_keras.training.run import RunFolder

_log = logging.getLogger(__name__)


class Progress(NamedTuple):
    """How far a run had come when it was stopped.

    Args:
        step: Batches done.
        iterations: The optimizer's own count at that time.
        random_states: Of the random generators.
        seconds: Time spent.
        sums: What the epoch's loss and metrics had summed up, where it was stopped within an epoch.
    """

    step: int
    iterations: int
    random_states: list[list[int]]
    seconds: float
    sums: list[Any]


#: Of a run that was killed before its first epoch was kept.
NOTHING_DONE = Progress(0, 0, [], 0.0, [])


def read_progress(run: RunFolder, info: dict[str, Any]) -> list[Progress]:
    """Read how far a run had come when last.keras was kept.

    Args:
        run: Its folder.
        info: Content of run.json.

    Returns:
        What run.json was written with, and what it had been written with before: a kill between the two files leaves
        last.keras as that one says.

    Raises:
        InputError: A damaged run.json.
    """
    with reading(run.info, f"Restore it, or start a new run from its weights: --init {run.best}"):
        records = [info["progress"], info["progress"]["previous"]]
        return [_progress(record) for record in records if record is not None]


def _progress(found: dict[str, Any]) -> Progress:
    states = [[int(seed), int(draws)] for seed, draws in found["random_states"]]
    sums = list(found["sums"])
    progress = Progress(int(found["step"]), int(found["iterations"]), states, float(found["seconds"]), sums)
    if progress.step < 1 or progress.iterations < 0 or not 0 <= progress.seconds < float("inf"):
        raise ValueError(f"progress {progress.step}, {progress.iterations}, {progress.seconds}")
    return progress


def read_history(run: RunFolder, step: int, steps_per_epoch: int, *, scored_start: bool) -> list[dict[str, float]]:
    """Read the rows of what is done: they say which epoch was the best.

    Args:
        run: Its folder.
        step: Batches that are done. A later row was written before a kill, and is left out.
        steps_per_epoch: Batches in an epoch.
        scored_start: Whether there is an epoch 0: the weights that the run started from.

    Returns:
        A row for each epoch, and one where a time limit came within an epoch.

    Raises:
        InputError: A row is missing or damaged.
    """
    wanted = range(0 if scored_start else steps_per_epoch, step + 1, steps_per_epoch)
    if not step or not (wanted or run.history.exists()):
        return []
    cure = f"Without it the best epoch is unknown. Restore it, or start a new run: --init {run.best}"
    try:
        with run.history.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{run.history} cannot be read ({error}). {cure}") from error
    with reading(run.history, cure):
        done = [{name: _number(text) for name, text in row.items()} for row in rows]
        done = [row for row in done if row["step"] <= step]
        if any(math.isnan(row["val_dice"]) or row["epoch"] != -(-row["step"] // steps_per_epoch) for row in done):
            raise ValueError("a row without val_dice, or of another epoch than its step says")
        whole = [row["step"] for row in done if row["step"] % steps_per_epoch == 0]
        if len(whole) != len(wanted) or whole != list(wanted):
            raise ValueError(f"rows of the steps {whole}, expected every {steps_per_epoch} from {wanted[0]} to {step}")
        return done


def _number(text: str) -> float:
    """Read what pandas wrote: whole numbers stay whole, and every bit of the others comes back."""
    return int(text) if text.isdigit() else float(text or "nan")


def read_last(run: RunFolder, info: dict[str, Any]) -> keras.Model | None:
    """Read the network with its optimizer.

    Args:
        run: Its folder.
        info: Content of run.json.

    Returns:
        The compiled model, or None where last.keras cannot be read.

    Raises:
        InputError: It holds another network than run.json says.
    """
    if run.last.exists() and not run.last.is_file():
        # A folder, into whose place no epoch could be written.
        raise InputError(f"{run.last} is no file. Remove it, or start a new run from the best epoch: --init {run.best}")
    try:
        model = keras.saving.load_model(run.last)
    except Exception as error:  # whatever zip, JSON, HDF5 or Keras raise on a damaged file
        _log.warning("%s cannot be read (%s).", run.last, first_line(error))
        return None
    wanted = _build(run, info)
    kept = getattr(model, "optimizer", None)
    if not isinstance(kept, MeasuredAdam) or [v.shape for v in model.weights] != [v.shape for v in wanted.weights]:
        raise InputError(f"{run.last} is not the network of {run.info} with its optimizer. Restore one of them.")
    return model


def read_best(run: RunFolder, info: dict[str, Any]) -> tuple[keras.Model, int]:
    """Read the best epoch's weights, in place of a damaged last.keras.

    Args:
        run: Its folder.
        info: Content of run.json.

    Returns:
        The network, not compiled, and the batches that had been done when it was kept.

    Raises:
        InputError: It cannot be read either.
    """
    from brainseg_keras.models.builder import load_weights

    with dtype_policy(info.get("precision", "float32")):
        model = _build(run, info)
    load_weights(model, run.best)
    with reading(run.info, "Restore it, or start a new run."):
        epoch, steps = int(info["validation"]["epoch"]), int(info["validation"]["step"])
    _log.warning("Going on from %s, epoch %d, with a fresh optimizer.", run.best, epoch)
    return model, steps


def _build(run: RunFolder, info: dict[str, Any]) -> keras.Model:
    with reading(run.info, "Restore it."):
        return build_model(info["architecture"], **info["arguments"])
