"""From a configuration to what is trained: data, the network's description, the network, its optimizer."""

import dataclasses
import hashlib
from functools import partial
from typing import Any, NamedTuple

import keras
import pandas as pd
from rich.console import Console

from brainseg_keras.data.checksums import RememberedVolumes
from brainseg_keras.data.inputs.augmentation import Augmentation
from brainseg_keras.data.inputs.batches import SliceBatches
from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.inputs.slices import Teacher, load_slices
from brainseg_keras.data.inputs.targets import Target
from brainseg_keras.data.manifest import COLUMNS, Progress
from brainseg_keras.data.roles import Roles
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.splits import assign_folds
from brainseg_keras.data.volumes import VolumeSource, select_patients
from brainseg_keras.errors import InputError
from brainseg_keras.losses import get_loss
from brainseg_keras.metrics.together import SegmentationScores
from brainseg_keras.models import build_model
from brainseg_keras.models.supervision import supervise
from brainseg_keras.spec import NetworkSpec
from brainseg_keras.terminal import progress_bar
from brainseg_keras.training.config import TrainingConfig
from brainseg_keras.training.machine import versions
from brainseg_keras.training.optimizer import MeasuredAdam
from brainseg_keras.training.patients import remember_patients
from brainseg_keras.training.precision import dtype_policy
from brainseg_keras.training.validation import PatientValidator


class TrainingData(NamedTuple):
    """What is read before the first step."""

    batches: SliceBatches
    validator: PatientValidator | None  # None where all patients train, or another process validates


def set_seeds(config: TrainingConfig) -> None:
    """Start every random generator from the run's seed."""
    keras.utils.set_random_seed(config.seed)
    if config.deterministic and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def open_configured(config: TrainingConfig, progress: Progress = iter) -> VolumeSource:
    """Open the data that a configuration names, in splits of their own; of folds in none where the data name none."""
    return open_source(
        config.data,
        format=config.format,
        root=config.root,
        seed=None if config.folds else config.seed,
        modalities=config.modalities,
        labels=config.labels,
        image_pattern=config.image_pattern,
        label_pattern=config.label_pattern,
        progress=progress,
    )


def open_data(config: TrainingConfig, known: Roles, console: Console) -> RememberedVolumes:
    """Open the data, with patients to train and to validate; splits of those that are known already are kept.

    With `validation="none"` all patients train, whatever the data's split says.
    """
    opened, splits = open_configured(config, partial(progress_bar, what="listing patients", console=console)), None
    if config.fold:
        table = assign_folds(opened.table, folds=config.folds, seed=config.seed)[config.fold - 1]
        splits = table.drop_duplicates("patient").set_index("patient").split
    if config.validation == "none":
        splits = pd.Series("train", index=opened.table.patient.unique())
    source = remember_patients(opened, known, splits)
    for split in ("train",) if config.validation == "none" else ("train", "val"):
        select_patients(source, split)
    return source


def describe_network(config: TrainingConfig, source: VolumeSource) -> NetworkSpec:
    """Say what the network is that these settings make for these data; whom it will meet is not known yet."""
    target, channels = Target(config.target), tuple(source.channels)
    target.check(source.classes, config.data)
    table = source.table[list(COLUMNS)].to_csv(index=False).encode(errors="backslashreplace")
    arguments: dict[str, Any] = {
        "input_shape": [config.size, config.size, len(channels) * (2 * config.context + 1)],
        "num_classes": len(target.channels),
    } | config.recipe_arguments
    if target.name == "regions":
        # Three channels that overlap: "auto" would make them exclude each other.
        arguments["classifier_activation"] = "sigmoid"
    return NetworkSpec(
        channels=channels,
        target=target,
        preprocessing=Preprocessing(config.size, config.blur, config.clahe, config.inner_tissue),
        context=config.context,
        architecture=config.architecture,
        arguments=arguments,
        data=config.data,
        manifest_sha256=hashlib.sha256(table).hexdigest(),
        versions=versions(),
    )


def load_data(
    config: TrainingConfig,
    spec: NetworkSpec,
    source: VolumeSource,
    console: Console,
    teacher: Teacher | None = None,
    *,
    validates: bool = True,
) -> TrainingData:
    """Read the training slices, of which a teacher may be asked, and the patients that this process validates, if any.

    What was read before is found in the cache.
    """
    augmentation = make_augmentation(config, spec.channels)
    slices = load_slices(
        source,
        "train",
        spec.preprocessing,
        target=spec.target,
        context=spec.context,
        teacher=teacher,
        progress=partial(progress_bar, what="reading training patients", console=console),
    )
    config.check_data(len(slices.images), spec.depth)
    batches = SliceBatches(
        slices,
        batch_size=config.batch_size,
        tumour_share=config.tumour_share,
        balance_patients=config.balance_patients,
        augmentation=augmentation,
        target=spec.target,
        teacher_weight=config.teacher_weight,
        seed=config.seed,
    )
    if config.validation == "none" or not validates:
        return TrainingData(batches, None)
    validator = PatientValidator(
        source, spec, progress=partial(progress_bar, what="reading validation patients", console=console)
    )
    return TrainingData(batches, validator)


def make_augmentation(config: TrainingConfig, channels: tuple[str, ...]) -> Augmentation | None:
    """Take the settings of the names that an `Augmentation` has; None where there is to be none."""
    if not config.augment:
        return None
    if config.stand_in and "FLAIR" not in channels:
        raise InputError(f"stand_in needs FLAIR among the sequences. Received: {', '.join(channels)}.")
    names = [entry.name for entry in dataclasses.fields(Augmentation) if entry.name != "stand_in_channel"]
    settings = {name: getattr(config, name) for name in names}
    return Augmentation(**settings, stand_in_channel=channels.index("FLAIR") if config.stand_in else 0)


def build_network(spec: NetworkSpec, precision: str = "float32") -> keras.Model:
    """Build the network that a description tells of, from random weights; not compiled."""
    with dtype_policy(precision):
        return build_model(spec.architecture, **spec.arguments)


def with_heads(network: keras.Model, config: TrainingConfig) -> keras.Model:
    """Give what is trained in a network's place: its layers and heads with deep supervision, else the network."""
    return supervise(network) if config.deep_supervision else network


def compile_model(network: keras.Model, config: TrainingConfig, target: Target) -> keras.Model:
    """Give a network loss, metrics and optimizer, and with deep supervision heads: what comes back is to be trained."""
    model = with_heads(network, config)
    scores = SegmentationScores(num_classes=len(target.channels), exclusive=target.exclusive)
    loss = get_loss(config.loss, include_background=not target.exclusive, **config.loss_options)
    model.compile(optimizer=_optimizer(config), loss=loss, metrics=[scores])
    return model


def _optimizer(config: TrainingConfig) -> keras.optimizers.Optimizer:
    options: dict[str, Any] = {"use_ema": True, "ema_momentum": config.ema} if config.ema else {}
    # Keras' weight decay stands apart from the gradient: Adam with it is AdamW.
    return MeasuredAdam(config.learning_rate, weight_decay=config.weight_decay or None, **options)
