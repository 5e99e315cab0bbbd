"""train() and resume(): from a configuration to a run folder."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console

from brainseg_keras.data.augmentation import Augmentation
from brainseg_keras.data.batches import SliceBatches, load_slices
from brainseg_keras.data.pipeline import BatchSequence, as_tf_dataset
from brainseg_keras.data.preprocessing import Preprocessing
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.targets import Target
from brainseg_keras.data.volumes import VolumeSource, select_patients
from brainseg_keras.errors import InputError, reading
from brainseg_keras.files import hold_folder, remove_leftovers
from brainseg_keras.losses import get_loss
from brainseg_keras.metrics import DiceCoefficient
from brainseg_keras.models import build_model
from brainseg_keras.training import patients
from brainseg_keras.training.callbacks import (
    ProgressBar,
    Progression,
    RunKeeper,
    StopGuard,
    WarmupCosine,
    draw_curves,
)
from brainseg_keras.training.config import TrainingConfig
from brainseg_keras.training.continuation import (
    NOTHING_DONE,
    Progress,
    read_best,
    read_history,
    read_last,
    read_progress,
)
from brainseg_keras.training.optimizer import MeasuredAdam
from brainseg_keras.training.precision import choose_precision, dtype_policy
from brainseg_keras.training.profiler import Profiler
from brainseg_keras.training.run import RunFolder, describe_run, restore_random_states
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
    progression = Progression(1, 1, limit=_seconds(config.max_minutes))
    console = console or Console(stderr=True)
    run = RunFolder(output or Path("tensorboard_logs") / f"{config.architecture}-{time.strftime('%Y%m%d-%H%M%S')}")
    run.check_new()
    _seed(config)
    source, preprocessing = _open(config)
    before = patients.roles_before(config.init)
    source = patients.remember_patients(source, before)
    for split in ("train", "val"):
        select_patients(source, split)
    arguments = _arguments(config, len(source.channels))
    target = Target(config.target)
    target.check(source.classes, config.data)
    precision = choose_precision(config.precision, separable=config.separable)
    model = _new_model(config, arguments, precision)
    batches, validator = _load(config, source, preprocessing)
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
    config = _changed(run, overrides)
    progress = read_progress(run, info) if run.last.exists() else NOTHING_DONE
    progression = Progression(1, 1, limit=_seconds(config.max_minutes), seconds=progress.seconds)
    _seed(config)
    source, preprocessing = _open(config)
    roles = patients.read_roles(run.info, info)
    source = patients.remember_patients(source, roles)
    if describe_run(config, source.table)["manifest_sha256"] != info.get("manifest_sha256"):
        raise InputError(
            f"The data at {config.data} are not those of {run.path}: other slices or another split. {run.config} says "
            "which they are: restore the one, or the other."
        )
    model = _continued(run, info, config, progress, progression)
    batches, validator = _load(config, source, preprocessing)
    patients.check_same_pixels(source, roles, run.path, config.data)
    progression.steps_per_epoch = batches.steps_per_epoch
    progression.total_steps = config.epochs * batches.steps_per_epoch
    history = read_history(run, progression.step // batches.steps_per_epoch)
    if progression.step >= progression.total_steps or progression.out_of_time:
        if history and not run.curves.is_file():
            # It was killed when all but this was done.
            draw_curves(run, config.architecture, history)
        raise InputError(f"{run.path} is finished. Give it more --epochs or --max-minutes.")
    config.to_yaml(run.config)
    info["config"] = dataclasses.asdict(config)
    _announce(console, run, info, batches)
    _fit(run, info, config, model, batches, validator, progression, console, history)


def _continued(
    run: RunFolder, info: dict[str, Any], config: TrainingConfig, progress: Progress, progression: Progression
) -> keras.Model:
    """Give the network as it was when the run was stopped, and set the step at which it was."""
    cure = f"Restore it, or start a new run from its weights: --init {run.best}"
    if progress is NOTHING_DONE:
        # Killed within its first epoch: it begins as a new run does.
        with reading(run.info, cure):
            return _new_model(config, info["arguments"], info["precision"])
    model = read_last(run, info)
    if model is None:
        model, steps = read_best(run, info)
        _compile(model, config)
    else:
        # A kill between the two files leaves run.json one epoch ahead: the optimizer's own count mends that.
        steps = progress.step + int(model.optimizer.iterations) - progress.iterations
    progression.step = steps
    with reading(run.info, cure):
        restore_random_states(model, progress.random_states, steps / progress.step)
    return model


def _changed(run: RunFolder, overrides: dict[str, Any]) -> TrainingConfig:
    """Read a run's settings, with the new values of those that may change."""
    config = TrainingConfig.from_yaml(run.config)
    changed = {key: value for key, value in overrides.items() if value != getattr(config, key)}
    fixed = sorted(changed.keys() - set(RESUMABLE))
    if fixed:
        raise InputError(
            f"A resumed run keeps its {', '.join(fixed)}. It may change {', '.join(RESUMABLE)}; for the rest start a "
            f"new run with --init {run.best}."
        )
    return dataclasses.replace(config, **changed)


def _new_model(config: TrainingConfig, arguments: dict[str, Any], precision: str) -> keras.Model:
    with dtype_policy(precision):
        model = build_model(config.architecture, **arguments, weights=config.init)
    _compile(model, config)
    return model


def _compile(model: keras.Model, config: TrainingConfig) -> None:
    target = Target(config.target)
    dice = DiceCoefficient(num_classes=len(target.channels), exclusive=target.exclusive)
    loss = get_loss(config.loss, include_background=not target.exclusive)
    model.compile(optimizer=_optimizer(config), loss=loss, metrics=[dice])
    # Else its variables would be made inside the training step, which is then traced twice: half of the time to start.
    model.optimizer.build(model.trainable_variables)


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
    )
    guard, bar = StopGuard(progression, config), ProgressBar(progression, console)
    callbacks = [WarmupCosine(progression, config), guard, bar, keeper]
    if config.profile:
        callbacks.append(Profiler(config, run.logs))
    try:
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
    finally:
        guard.release()
        bar.close()
        keeper.close()
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


def _open(config: TrainingConfig) -> tuple[VolumeSource, Preprocessing]:
    source = open_source(
        config.data,
        format=config.format,
        root=config.root,
        seed=config.seed,
        modalities=config.modalities,
        labels=config.labels,
        image_pattern=config.image_pattern,
        label_pattern=config.label_pattern,
    )
    return source, Preprocessing(config.size, config.blur, config.clahe)


def _load(
    config: TrainingConfig, source: VolumeSource, preprocessing: Preprocessing
) -> tuple[SliceBatches, PatientValidator]:
    augmentation = None
    if config.augment:
        augmentation = _augmentation(config, source.channels)
    slices = load_slices(source, "train", preprocessing, target=Target(config.target), context=config.context)
    config.check_data(len(slices.images), len(source.channels) * (2 * config.context + 1))
    batches = SliceBatches(
        slices,
        batch_size=config.batch_size,
        tumour_share=config.tumour_share,
        augmentation=augmentation,
        target=Target(config.target),
        seed=config.seed,
    )
    return batches, PatientValidator(source, preprocessing, target=Target(config.target), context=config.context)


def _augmentation(config: TrainingConfig, channels: tuple[str, ...]) -> Augmentation:
    if config.stand_in and "FLAIR" not in channels:
        raise InputError(f"stand_in needs FLAIR among the sequences. Received: {', '.join(channels)}.")
    return Augmentation(
        config.rotate,
        config.flip,
        config.zoom,
        config.shift,
        config.intensity,
        config.noise,
        config.stand_in,
        channels.index("FLAIR") if config.stand_in else 0,
    )


def _arguments(config: TrainingConfig, channels: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "input_shape": [config.size, config.size, channels * (2 * config.context + 1)],
        "num_classes": len(Target(config.target).channels),
        "separable": config.separable,
        "dropout": config.dropout,
    }
    chosen = {name: getattr(config, name) for name in ("filters", "depth") if getattr(config, name) is not None}
    if config.target == "regions":
        # Three channels that overlap: "auto" would make them exclude each other.
        chosen["classifier_activation"] = "sigmoid"
    return arguments | chosen


def _optimizer(config: TrainingConfig) -> keras.optimizers.Optimizer:
    options: dict[str, Any] = {"use_ema": True, "ema_momentum": config.ema} if config.ema else {}
    # Keras' weight decay stands apart from the gradient: Adam with it is AdamW.
    return MeasuredAdam(config.learning_rate, weight_decay=config.weight_decay or None, **options)


def _seed(config: TrainingConfig) -> None:
    keras.utils.set_random_seed(config.seed)
    if config.deterministic and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def _seconds(minutes: float | None) -> float | None:
    return None if minutes is None else 60 * minutes


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
    if progression.stopped == "interrupted":
        lines.append(f"Stopped, and all is kept. Continue with: brainseg train --resume {run.path}")
    if "validation" in info:
        best = info["validation"]
        scores = np.array(list(best["dice"].values()))
        lines.append(
            f"Best epoch {best['epoch']}: Dice per patient {scores.mean():.3f}, median {np.median(scores):.3f}, "
            f"n = {len(scores)} (validation, chose the checkpoint): {run.best}"
        )
    console.out("\n".join(lines), highlight=False)
