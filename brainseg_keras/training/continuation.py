"""A run goes on where it was stopped: what it reads from its folder, and what it does about a damaged file."""

import logging
from dataclasses import replace
from typing import Any

import keras

from brainseg_keras.errors import InputError, first_line, reading
from brainseg_keras.models.weights import load_weights
from brainseg_keras.spec import NetworkSpec
from brainseg_keras.training.config import TrainingConfig
from brainseg_keras.training.initial import freeze, take_initial
from brainseg_keras.training.optimizer import MeasuredAdam
from brainseg_keras.training.record import Progress, RunRecord
from brainseg_keras.training.run import RunFolder, restore_random_states
from brainseg_keras.training.setup import build_network, compile_model, with_heads

_log = logging.getLogger(__name__)
#: What a resumed run may change: how long it goes on, and how fast it learns.
RESUMABLE = ("epochs", "max_minutes", "patience", "learning_rate")


def changed_config(run: RunFolder, config: TrainingConfig, overrides: dict[str, Any]) -> TrainingConfig:
    """Give a run's settings the new values of those that may change."""
    changed = {key: value for key, value in overrides.items() if value != getattr(config, key)}
    fixed = sorted(changed.keys() - set(RESUMABLE))
    if fixed:
        raise InputError(
            f"A resumed run keeps its {', '.join(fixed)}. It may change {', '.join(RESUMABLE)}; for the rest start a "
            f"new run with --init {run.best}."
        )
    return replace(config, **changed)


def read_stopped(run: RunFolder) -> RunRecord:
    """Read what is known of a run that is to go on; no progress where it was killed within its first epoch."""
    record = run.read_record()
    cure = f"Restore it, or start a new run from its weights: --init {run.best}"
    if not record.spec.roles.patients:
        raise InputError(f"{run.info} does not say which patients the run has met, as older ones did not. {cure}")
    if not run.last.exists():
        return replace(record, progress=None)
    if record.progress is None:
        raise InputError(f"{run.info} does not say how far {run.last} is. {cure}")
    return record


def check_same_network(run: RunFolder, spec: NetworkSpec, wanted: NetworkSpec) -> None:
    """Refuse to go on with other data or settings: what they make is `wanted`, and the run's network is `spec`."""
    if wanted.manifest_sha256 != spec.manifest_sha256:
        raise InputError(
            f"The data at {wanted.data} are not those of {run.path}: other slices or another split. {run.config} says "
            "which they are: restore the one, or the other."
        )
    names = ("architecture", "arguments", "channels", "context", "preprocessing", "target")
    other = [name for name in names if getattr(wanted, name) != getattr(spec, name)]
    if other:
        raise InputError(f"{run.config} and {run.info} differ in {', '.join(other)}. Restore the one, or the other.")


def continue_network(
    run: RunFolder, record: RunRecord, config: TrainingConfig
) -> tuple[keras.Model, int, Progress | None]:
    """Give the network as it was when the run was stopped.

    Args:
        run: Its folder.
        record: As `read_stopped` gives it.
        config: Settings from now on.

    Returns:
        The compiled network, the batches done, and what last.keras was kept with: None where it was not, or where it
        cannot be read and the network is that of best.keras.

    Raises:
        InputError: Neither can be read, or files that do not fit each other.
    """
    cure = f"Restore it, or start a new run from its weights: --init {run.best}"
    if config.deep_supervision != record.config.deep_supervision:
        raise InputError(f"{run.config} and {run.info} differ in deep_supervision. Restore the one, or the other.")
    latest = record.progress
    if latest is None:
        with reading(run.info, cure):
            network = build_network(record.spec, record.precision)
            if config.init:
                take_initial(network, record.spec, config.init, adapt=config.adapt)
            freeze(network, record.frozen)
        model = compile_model(network, config, record.spec.target)
        return model, 0, None
    model, progress = read_last(run, record), None
    if model is not None:
        frozen = tuple(layer.name for layer in model.layers if layer.weights and not layer.trainable)
        if frozen != record.frozen:
            raise InputError(f"{run.last} and {run.info} differ in the layers that are frozen. {cure}")
    if model is None:
        network, step = _read_best(run, record)
        with reading(run.info, cure):
            freeze(network, record.frozen)
        model = compile_model(network, config, record.spec.target)
        states, share = latest.random_states, step / latest.step
    else:
        done, share = int(model.optimizer.iterations), 1.0
        progress = next((kept for kept in (latest, latest.previous) if kept and kept.iterations == done), None)
        if progress is None:
            raise InputError(f"{run.last} has {done} steps, of which {run.info} knows nothing. Restore one of them.")
        step, states = progress.step, progress.random_states
    with reading(run.info, cure):
        restore_random_states(model, states, share)
    return model, step, progress


def read_last(run: RunFolder, record: RunRecord) -> keras.Model | None:
    """Read the compiled network with its optimizer; None where last.keras cannot be read."""
    if run.last.exists() and not run.last.is_file():
        # A folder, into whose place no epoch could be written.
        raise InputError(
            f"{run.last} is not a file. Remove it, or start a new run from the best epoch: --init {run.best}"
        )
    try:
        model = keras.saving.load_model(run.last)
    except Exception as error:  # whatever zip, JSON, HDF5 or Keras raise on a damaged file
        _log.warning("%s cannot be read (%s).", run.last, first_line(error))
        return None
    with reading(run.info, "Restore it."):
        wanted = with_heads(build_network(record.spec), record.config)
    kept = getattr(model, "optimizer", None)
    if not isinstance(kept, MeasuredAdam) or [v.shape for v in model.weights] != [v.shape for v in wanted.weights]:
        raise InputError(f"{run.last} is not the network of {run.info} with its optimizer. Restore one of them.")
    for layer in model.layers:
        if isinstance(layer, keras.layers.SpatialDropout2D):
            # Its file says the dtype of variables alone: in half precision it would come back in float32, and drop
            # other maps.
            layer.dtype_policy = record.precision
    return model


def _read_best(run: RunFolder, record: RunRecord) -> tuple[keras.Model, int]:
    """Read the best epoch's weights, in place of a damaged last.keras, and the batches that were done then."""
    with reading(run.info, "Restore it."):
        model = build_network(record.spec, record.precision)
    load_weights(model, run.best)
    if record.validation is None:
        raise InputError(f"{run.info} does not say which epoch {run.best} is. Restore it, or start a new run.")
    _log.warning("Going on from %s, epoch %d, with a fresh optimizer.", run.best, record.validation.epoch)
    return model, record.validation.step
