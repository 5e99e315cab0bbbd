"""train() and resume(): from a configuration to a run folder."""

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console

from brainseg_keras.data.batches import SliceBatches
from brainseg_keras.data.pipeline import BatchSequence, as_tf_dataset
from brainseg_keras.data.targets import Target
from brainseg_keras.data.volumes import select_patients
from brainseg_keras.errors import InputError, reading
from brainseg_keras.files import hold_folder, remove_leftovers
from brainseg_keras.models import build_model
from brainseg_keras.training import patients
from brainseg_keras.training.config import TrainingConfig
from brainseg_keras.training.continuation import (
    NOTHING_DONE,
    Progress,
    read_best,
    read_history,
    read_last,
    read_progress,
)
from brainseg_keras.training.keeper import RunKeeper, draw_curves
from brainseg_keras.training.precision import choose_precision
from brainseg_keras.training.profiler import Profiler
from brainseg_keras.training.progress import ProgressBar, Progression
from brainseg_keras.training.run import RunFolder, describe_run, restore_random_states
from brainseg_keras.training.schedule import WarmupCosine, describe_change, seconds_of
from brainseg_keras.training.setup import (
    compile_model,
    load_data,
    network_arguments,
    new_model,
    open_data,
    set_seeds,
)
from brainseg_keras.training.stopping import StopGuard
from brainseg_keras.training.validation import PatientValidator

#: Batches after which a moving average of momentum 0.9 has forgotten what it held before.
CALIBRATION_STEPS = 30
#: What a resumed run may change: how long it goes on, and how fast it learns.
RESUMABLE = ("epochs", "max_minutes", "patience", "learning_rate")


def train(config: TrainingConfig, *, output: str | Path | None = None, console: Console | None = None) -> RunFolder:
    """Train a network and keep the run.

    The checkpoint `best.keras` is the epoch of the best mean Dice per validation patient; the test patients are not
    read.

    Args:
        config: Settings of the run.
        output: Folder of the run; default `tensorboard_logs/<architecture>-<time>`.
        console: Where to say how it goes; default standard error.

    Returns:
        The run folder.

    Raises:
        InputError: Bad settings or data, or a folder that another process trains into; nothing is written then.
        TrainingError: The loss became no number.

    Example:
        >>> import tempfile
        >>> config = TrainingConfig(architecture="res_unet", filters=4, depth=2, size=32, epochs=1, max_minutes=0.2)
        >>> run = train(config, output=tempfile.mkdtemp() + "/run")
        >>> run.best.is_file()
        True
    """
    progression = Progression(1, 1, limit=seconds_of(config.max_minutes))
    console = console or Console(stderr=True)
    run = RunFolder(output or Path("tensorboard_logs") / f"{config.architecture}-{time.strftime('%Y%m%d-%H%M%S')}")
    run.check_new()
    set_seeds(config)
    source, preprocessing = open_data(config)
    before = patients.roles_before(config.init)
    source = patients.remember_patients(source, before)
    for split in ("train", "val"):
        select_patients(source, split)
    arguments = network_arguments(config, len(source.channels))
    target = Target(config.target)
    target.check(source.classes, config.data)
    precision = choose_precision(config.precision, separable=config.separable)
    model = new_model(config, arguments, precision)
    batches, validator = load_data(config, source, preprocessing)
    info = describe_run(
        config,
        source.table,
        architecture=config.architecture,
        arguments=arguments,
        parameters=model.count_params(),
        precision=precision,
        channels=source.channels,
        target=target.name,
        context=config.context,
        preprocessing=dataclasses.asdict(preprocessing),
        patients=source.table.groupby("split").patient.nunique().to_dict(),
        roles=patients.roles_of_run(source, before, config.init).to_info(),
    )
    progression.steps_per_epoch = batches.steps_per_epoch
    progression.total_steps = config.epochs * batches.steps_per_epoch
    with hold_folder(run.path):
        # Another process may have begun in this folder while the data were read.
        run.check_new()
        remove_leftovers(run.path, age=0)
        config.to_yaml(run.config)
        run.write_info(info)
        _announce(console, run, info, batches)
        _fit(run, info, config, model, batches, validator, progression, console, [])
    return run


def resume(path: str | Path, *, overrides: dict[str, Any] | None = None, console: Console | None = None) -> RunFolder:
    """Continue a run that was stopped, where it was stopped.

    With `deterministic` the weights end as those of a run that was never stopped.

    Args:
        path: Its folder.
        overrides: New values of `epochs`, `max_minutes`, `patience` or `learning_rate`.
        console: Where to say how it goes; default standard error.

    Returns:
        The run folder.

    Raises:
        InputError: No run there, nothing left to do, a setting that cannot change any more, a damaged file (but where
            last.keras is damaged, the run goes on from best.keras and says so), or a run that another process trains.
        TrainingError: The loss became no number.

    Example:
        >>> resume("no/such/run")
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: ...
    """
    run = RunFolder(path)
    run.read_info()
    with hold_folder(run.path):
        remove_leftovers(run.path, age=0)
        _resume(run, overrides or {}, console or Console(stderr=True))
    return run


def _resume(run: RunFolder, overrides: dict[str, Any], console: Console) -> None:
    info = run.read_info()
    before = TrainingConfig.from_yaml(run.config)
    config = _changed(run, before, overrides)
    kept = read_progress(run, info) if run.last.exists() else [NOTHING_DONE]
    progression = Progression(1, 1, limit=seconds_of(config.max_minutes), seconds=kept[0].seconds)
    set_seeds(config)
    source, preprocessing = open_data(config)
    roles = patients.read_roles(run.info, info)
    source = patients.remember_patients(source, roles)
    if describe_run(config, source.table)["manifest_sha256"] != info.get("manifest_sha256"):
        raise InputError(
            f"The data at {config.data} are not those of {run.path}: other slices or another split. {run.config} says "
            "which they are: restore the one, or the other."
        )
    model, progress = _continued(run, info, config, kept, progression)
    batches, validator = load_data(config, source, preprocessing)
    patients.check_same_pixels(source, roles, run.path, config.data)
    progression.steps_per_epoch = batches.steps_per_epoch
    progression.total_steps = config.epochs * batches.steps_per_epoch
    history = read_history(run, progression.step, progression.steps_per_epoch, scored_start=config.init is not None)
    if progression.step >= progression.total_steps or progression.out_of_time:
        if history and not run.curves.is_file():
            # It was killed when all but this was done.
            draw_curves(run, config.architecture, history)
        raise InputError(f"{run.path} is finished. Give it more --epochs or --max-minutes.")
    config.to_yaml(run.config)
    info["config"] = dataclasses.asdict(config)
    _announce(console, run, info, batches)
    if said := describe_change(before, config, progression):
        console.out(said, highlight=False)
    _fit(run, info, config, model, batches, validator, progression, console, history, progress)


def _continued(
    run: RunFolder, info: dict[str, Any], config: TrainingConfig, kept: list[Progress], progression: Progression
) -> tuple[keras.Model, Progress]:
    """Give the network as it was when the run was stopped, with how far it was, and set the step."""
    cure = f"Restore it, or start a new run from its weights: --init {run.best}"
    if kept == [NOTHING_DONE]:
        # Killed within its first epoch: it begins as a new run does.
        with reading(run.info, cure):
            return new_model(config, info["arguments"], info["precision"]), NOTHING_DONE
    model = read_last(run, info)
    if model is None:
        model, steps = read_best(run, info)
        compile_model(model, config)
        progress, share = NOTHING_DONE, steps / kept[0].step
        states = kept[0].random_states
    else:
        done, share = int(model.optimizer.iterations), 1.0
        progress = next((record for record in kept if record.iterations == done), None)
        if progress is None:
            raise InputError(f"{run.last} has {done} steps, of which {run.info} knows nothing. Restore one of them.")
        steps, states = progress.step, progress.random_states
    progression.step = steps
    with reading(run.info, cure):
        restore_random_states(model, states, share)
    return model, progress


def _changed(run: RunFolder, config: TrainingConfig, overrides: dict[str, Any]) -> TrainingConfig:
    """Give a run's settings the new values of those that may change."""
    changed = {key: value for key, value in overrides.items() if value != getattr(config, key)}
    fixed = sorted(changed.keys() - set(RESUMABLE))
    if fixed:
        raise InputError(
            f"A resumed run keeps its {', '.join(fixed)}. It may change {', '.join(RESUMABLE)}; for the rest start a "
            f"new run with --init {run.best}."
        )
    return dataclasses.replace(config, **changed)


def _fit(
    run: RunFolder,
    info: dict[str, Any],
    config: TrainingConfig,
    model: keras.Model,
    batches: SliceBatches,
    validator: PatientValidator,
    progression: Progression,
    console: Console,
    history: list[dict],
    progress: Progress = NOTHING_DONE,
) -> None:
    keeper = RunKeeper(
        run,
        info,
        validator,
        progression,
        patience=config.patience,
        rebuild=lambda: build_model(info["architecture"], **info["arguments"]),
        calibrate=lambda model: _calibrate(model, batches, progression.step),
        console=console,
        history=history,
        progress=progress,
    )
    guard, bar = StopGuard(progression, config), ProgressBar(progression, console)
    callbacks = [WarmupCosine(progression, config), guard, bar, keeper]
    if config.profile:
        callbacks.append(Profiler(config, run.logs))
    with guard, contextlib.ExitStack() as stack:
        stack.callback(keeper.close)
        stack.callback(bar.close)
        if config.init and not history:
            keeper.score_start(model)
        while progression.step < progression.total_steps and not progression.stopped:
            # The rest of an interrupted epoch first, then whole ones.
            epoch, done = divmod(progression.step, batches.steps_per_epoch)
            model.fit(
                _stream(batches, progression),
                initial_epoch=epoch,
                epochs=epoch + 1 if done else config.epochs,
                steps_per_epoch=batches.steps_per_epoch - done,
                callbacks=callbacks,
                verbose=0,
                shuffle=False,
            )
    _conclude(console, run, info, progression)


def _calibrate(model: keras.Model, batches: SliceBatches, step: int) -> None:
    """Show a model the batches of the last steps, so that its moving statistics are those of its averaged weights.

    Without it the statistics are those of the weights that were trained, and the network answers nothing for epochs.
    Izmailov et al. 2018, arXiv:1803.05407, do so after averaging.
    """
    for place in range(max(0, step - CALIBRATION_STEPS), step):
        model(batches[place][0], training=True)


def _stream(batches: SliceBatches, progression: Progression) -> Any:
    if keras.backend.backend() == "tensorflow":
        return as_tf_dataset(batches, start=progression.step, endless=True)
    return BatchSequence(batches, start=progression.step, steps=progression.total_steps - progression.step)


def _announce(console: Console, run: RunFolder, info: dict[str, Any], batches: SliceBatches) -> None:
    counts = info["patients"]
    console.out(
        f"{info['architecture']}, {info['parameters']:,} parameters, {info['precision']}; {counts['train']} training "
        f"and {counts['val']} validation patients, {batches.steps_per_epoch} steps an epoch\n"
        f"run: {run.path}   watch: tensorboard --logdir {run.path.parent}",
        highlight=False,
    )


def _conclude(console: Console, run: RunFolder, info: dict[str, Any], progression: Progression) -> None:
    lines = []
    if progression.stopped == "interrupted" and progression.step < progression.total_steps:
        lines.append(f"Stopped, and all is kept. Continue with: brainseg train --resume {run.path}")
    if "validation" in info:
        best = info["validation"]
        scores = np.array(list(best["dice"].values()))
        which = f"{best['epoch']}{'' if best['step'] else ', the weights of --init'}"
        lines.append(
            f"Best epoch {which}: Dice per patient {scores.mean():.3f}, median {np.median(scores):.3f}, "
            f"n = {len(scores)} (validation, chose the checkpoint): {run.best}"
        )
    console.out("\n".join(lines), highlight=False)
