"""train() and resume(): from a configuration to a run folder."""

import contextlib
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console

from brainseg_keras.data.pipeline import BatchSequence, as_tf_dataset
from brainseg_keras.errors import InputError
from brainseg_keras.files import hold_folder, remove_leftovers
from brainseg_keras.training.checkpoints import Checkpoints
from brainseg_keras.training.config import TrainingConfig
from brainseg_keras.training.continuation import changed_config, check_same_network, continue_network, read_stopped
from brainseg_keras.training.devices import Devices
from brainseg_keras.training.display import EpochDisplay
from brainseg_keras.training.distribution import Group, gather
from brainseg_keras.training.history import History, read_history
from brainseg_keras.training.initial import find_weights, freeze, frozen_layers, take_initial
from brainseg_keras.training.keeper import RunKeeper
from brainseg_keras.training.patients import check_same_pixels, roles_before, roles_of_run
from brainseg_keras.training.precision import choose_precision
from brainseg_keras.training.profiler import Profiler
from brainseg_keras.training.progress import ProgressBar, Progression
from brainseg_keras.training.record import RunRecord
from brainseg_keras.training.run import RunFolder
from brainseg_keras.training.schedule import WarmupCosine, describe_change, seconds_of
from brainseg_keras.training.scoring import Scorer
from brainseg_keras.training.setup import (
    TrainingData,
    build_network,
    compile_model,
    describe_network,
    load_data,
    open_data,
    set_seeds,
)
from brainseg_keras.training.stopping import StopGuard, StopTogether
from brainseg_keras.training.teaching import check_same_teachers, open_teachers, roles_with_teachers


def train(
    config: TrainingConfig,
    *,
    output: str | Path | None = None,
    console: Console | None = None,
    devices: Devices = Devices(),
) -> RunFolder:
    """Train a network and keep the run.

    The checkpoint `best.keras` is the epoch of the best mean Dice per validation patient; the test patients are not
    read. With `validation="none"` all patients train, and it is the last epoch. Where there are teachers, what is
    learned of each slice is a mean of its truth and of their answer.

    Args:
        config: Settings of the run.
        output: Folder of the run; default `tensorboard_logs/<architecture>-<time>`. Several processes need one.
        console: Where to say how it goes; default standard error.
        devices: What trains it: GPUs of this machine, or processes on several.

    Returns:
        The run folder.

    Raises:
        InputError: Bad settings or data, a teacher that has met patients whom the run keeps apart, or a folder that
            another process trains into; nothing is written then.
        TrainingError: The loss became NaN, or another process of the training ended.

    Example:
        >>> import tempfile
        >>> config = TrainingConfig(architecture="res_unet", filters=4, depth=2, size=32, epochs=1, max_minutes=0.2)
        >>> run = train(config, output=tempfile.mkdtemp() + "/run")
        >>> run.best.is_file()
        True
    """
    if config.folds and not config.fold:
        raise InputError(
            f"train() trains one network. Received: folds={config.folds} without a fold. Say which fold, or train all: "
            "brainseg_keras.training.train_folds."
        )
    devices.check_batch(config.batch_size)
    if devices.processes > 1 and output is None:
        raise InputError("Several processes train into one folder. Say which, to all of them: -o RUN.")
    started, console = time.monotonic(), _console(console, devices)
    run = RunFolder(output or Path("tensorboard_logs") / f"{config.architecture}-{time.strftime('%Y%m%d-%H%M%S')}")
    with gather(devices) as group:
        _train(config, run, group, console, started)
    return run


def _train(config: TrainingConfig, run: RunFolder, group: Group, console: Console, started: float) -> None:
    if group.first:
        run.check_new()
    set_seeds(config)
    if config.init:
        # Before the data are listed.
        find_weights(config.init)
    before = roles_before(config.init)
    source = open_data(config, before, console)
    spec = describe_network(config, source)
    precision = choose_precision(config.precision, separable=config.separable, float16=not group.mirrored)
    network, fit = build_network(spec, precision), None
    if config.init:
        fit, said = take_initial(network, spec, config.init, adapt=config.adapt)
    frozen = frozen_layers(network, config.freeze, fit)
    freeze(network, frozen)
    model = compile_model(network, config, spec.target)
    teaching = open_teachers(config, source, spec.target, console)
    data = load_data(config, spec, source, console, teaching and teaching.teacher, validates=group.first)
    # Who is the same as whom is known when all were read.
    own_split = config.fold is not None or config.validation == "none"
    roles = roles_of_run(source, before, config.init, own_split=own_split)
    spec = replace(spec, roles=roles_with_teachers(roles, teaching))
    patients = {"val": 0} | source.table.groupby("split").patient.nunique().to_dict()
    taught = teaching.digests if teaching else {}
    record = RunRecord(spec, config, network.count_params(), precision, patients, frozen, taught)
    progression = _progression(config, data, group, started=started)
    group.check_same(config, spec, precision)
    with contextlib.ExitStack() as stack:
        if group.first:
            stack.enter_context(hold_folder(run.path))
            # Another process may have begun in this folder while the data were read.
            run.check_new()
            remove_leftovers(run.path, age=0)
            config.to_yaml(run.config)
            run.write_record(record)
            _announce(console, run, record, progression, group.devices)
            if fit:
                console.out(said, highlight=False)
        _fit(model, data, progression, History(run), Checkpoints(run, record), console, group)


def resume(
    path: str | Path,
    *,
    overrides: dict[str, Any] | None = None,
    console: Console | None = None,
    devices: Devices = Devices(),
) -> RunFolder:
    """Continue a run that was stopped, where it was stopped.

    With `deterministic` the weights end as those of a run that was never stopped.

    Args:
        path: Its folder.
        overrides: New values of `epochs`, `max_minutes`, `patience` or `learning_rate`.
        console: Where to say how it goes; default standard error.
        devices: What trains it from now on.

    Returns:
        The run folder.

    Raises:
        InputError: No run there, nothing left to do, a setting that cannot change any more, a damaged file (but where
            last.keras is damaged, the run goes on from best.keras and says so), or a run that another process trains.
        TrainingError: The loss became NaN, or another process of the training ended.

    Example:
        >>> resume("no/such/run")
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: ...
    """
    run, console = RunFolder(path), _console(console, devices)
    run.read_info()
    with gather(devices) as group, contextlib.ExitStack() as stack:
        if group.first:
            stack.enter_context(hold_folder(run.path))
            remove_leftovers(run.path, age=0)
        _resume(run, overrides or {}, console, group)
    return run


def _resume(run: RunFolder, overrides: dict[str, Any], console: Console, group: Group) -> None:
    started, record = time.monotonic(), read_stopped(run)
    before = TrainingConfig.from_yaml(run.config)
    config = changed_config(run, before, overrides)
    group.devices.check_batch(config.batch_size)
    set_seeds(config)
    source = open_data(config, record.spec.roles, console)
    wanted = describe_network(config, source)
    model, step, progress = continue_network(run, record, config)
    check_same_network(run, record.spec, wanted)
    teaching = open_teachers(config, source, wanted.target, console)
    check_same_teachers(run.path, record.teachers, teaching)
    data = load_data(config, record.spec, source, console, teaching and teaching.teacher, validates=group.first)
    check_same_pixels(source, record.spec.roles, run.path, config.data)
    seconds = record.progress.seconds if record.progress else 0.0
    progression = _progression(config, data, group, started=started, step=step, seconds=seconds)
    validated = config.validation != "none"
    scored_start = validated and config.init is not None
    history = read_history(run, step, progression.steps_per_epoch, scored_start=scored_start, validated=validated)
    group.check_same(config, wanted, record.precision, step)
    if step >= progression.total_steps or progression.out_of_time:
        if group.first and not run.curves.is_file():
            # It was killed when all but this was done.
            history.draw(config.architecture)
        raise InputError(f"{run.path} is finished. Give it more --epochs or --max-minutes.")
    record = replace(record, spec=replace(record.spec, data=config.data), config=config, progress=progress)
    if group.first:
        config.to_yaml(run.config)
        _announce(console, run, record, progression, group.devices)
        if said := describe_change(before, config, progression):
            console.out(said, highlight=False)
    _fit(model, data, progression, history, Checkpoints(run, record), console, group)


def _console(console: Console | None, devices: Devices) -> Console:
    # What process 0 says is true of all.
    return (console or Console(stderr=True)) if devices.first else Console(quiet=True)


def _progression(config: TrainingConfig, data: TrainingData, group: Group, **more: Any) -> Progression:
    steps = data.batches.steps_per_epoch
    # The clock of process 0 is that of all.
    limit = seconds_of(config.max_minutes) if group.first else None
    return Progression(steps, config.epochs * steps, limit=limit, **more)


def _fit(
    model: keras.Model,
    data: TrainingData,
    progression: Progression,
    history: History,
    checkpoints: Checkpoints,
    console: Console,
    group: Group,
) -> None:
    run, record, config = checkpoints.run, checkpoints.record, checkpoints.record.config
    model = group.make_ready(model, record)
    scorer = display = None
    if group.first:
        scorer = Scorer(
            record.spec, data, averaged=config.ema > 0, supervised=config.deep_supervision, frozen=record.frozen
        )
        display = EpochDisplay(run.logs, console)
    keeper = RunKeeper(progression, scorer, history, checkpoints, display)
    guard, bar = StopGuard(progression, config), ProgressBar(progression, console)
    together = StopTogether(progression, group.exchange)
    profiler = [Profiler(config, run.logs)] if config.profile and group.first else []
    callbacks = [WarmupCosine(progression, config), guard, bar, keeper, *profiler, together]
    with guard, contextlib.ExitStack() as stack:
        if group.first:
            stack.callback(history.draw, config.architecture)
            stack.callback(display.close)
            stack.callback(bar.close)
            if not history.rows:
                display.describe(config, scorer.plain)
                if config.init and data.validator:
                    keeper.score_start(model)
        while together.goes_on():
            # The rest of an interrupted epoch first, then whole ones.
            epoch, done = divmod(progression.step, progression.steps_per_epoch)
            with group.training():
                model.fit(
                    _stream(data, progression, group),
                    initial_epoch=epoch,
                    epochs=epoch + 1 if done else config.epochs,
                    steps_per_epoch=progression.steps_per_epoch - done,
                    callbacks=callbacks,
                    verbose=0,
                    shuffle=False,
                )
    if group.first:
        _conclude(console, run, checkpoints.record, progression)


def _stream(data: TrainingData, progression: Progression, group: Group) -> Any:
    if keras.backend.backend() == "tensorflow":
        # The slices of one fold go before those of the next are read.
        return as_tf_dataset(weakref.proxy(data.batches), start=progression.step, endless=True)
    batches = group.own_part(data.batches)
    return BatchSequence(batches, start=progression.step, steps=progression.total_steps - progression.step)


def _announce(console: Console, run: RunFolder, record: RunRecord, progression: Progression, devices: Devices) -> None:
    spread = f", on {devices}" if devices.total > 1 else ""
    frozen = f"{len(record.frozen)} layers frozen, " if record.frozen else ""
    training, validating = record.patients["train"], record.patients["val"]
    patients = f"{training} training and {validating} validation patients" if validating else f"all {training} train"
    console.out(
        f"{record.spec.architecture}, {record.parameters:,} parameters, {frozen}{record.precision}; {patients}, "
        f"{progression.steps_per_epoch} steps an epoch{spread}\n"
        f"run: {run.path}   watch: tensorboard --logdir {run.path.parent}",
        highlight=False,
    )


def _conclude(console: Console, run: RunFolder, record: RunRecord, progression: Progression) -> None:
    lines = []
    if progression.stopped == "interrupted" and progression.step < progression.total_steps:
        lines.append(f"Stopped, and all is kept. Continue with: brainseg train --resume {run.path}")
    best = record.validation
    if best and not best.dice:
        lines.append(
            f"Epoch {best.epoch} is kept, the last one: all {record.patients['train']} patients trained, and nobody "
            f"chose it. Its honest score is that of folds of this recipe: {run.best}"
        )
    elif best:
        scores = np.array(list(best.dice.values()))
        which = f"{best.epoch}{'' if best.step else ', the weights of --init'}"
        lines.append(
            f"Best epoch {which}: Dice per patient {scores.mean():.3f}, median {np.median(scores):.3f}, "
            f"n = {len(scores)} (validation, chose the checkpoint): {run.best}"
        )
    console.out("\n".join(lines), highlight=False)
