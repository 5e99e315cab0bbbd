"""From a configuration to what is trained: data, network, optimizer."""

from typing import Any

import keras

from brainseg_keras.data.augmentation import Augmentation
from brainseg_keras.data.batches import SliceBatches, load_slices
from brainseg_keras.data.preprocessing import Preprocessing
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.targets import Target
from brainseg_keras.data.volumes import VolumeSource
from brainseg_keras.errors import InputError
from brainseg_keras.losses import get_loss
from brainseg_keras.metrics import DiceCoefficient
from brainseg_keras.models import build_model
from brainseg_keras.training.config import TrainingConfig
from brainseg_keras.training.optimizer import MeasuredAdam
from brainseg_keras.training.precision import dtype_policy
from brainseg_keras.training.validation import PatientValidator


def set_seeds(config: TrainingConfig) -> None:
    """Start every random generator from the run's seed."""
    keras.utils.set_random_seed(config.seed)
    if config.deterministic and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def open_data(config: TrainingConfig) -> tuple[VolumeSource, Preprocessing]:
    """Open the data and say how a network is to see them."""
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


def load_data(
    config: TrainingConfig, source: VolumeSource, preprocessing: Preprocessing
) -> tuple[SliceBatches, PatientValidator]:
    """Read the training slices and the validation patients."""
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


def network_arguments(config: TrainingConfig, channels: int) -> dict[str, Any]:
    """Say what the network is built with, for data of so many channels."""
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


def new_model(config: TrainingConfig, arguments: dict[str, Any], precision: str) -> keras.Model:
    """Build the network, with the weights of `init` where it is given, and compile it."""
    with dtype_policy(precision):
        model = build_model(config.architecture, **arguments, weights=config.init)
    compile_model(model, config)
    return model


def compile_model(model: keras.Model, config: TrainingConfig) -> None:
    """Give a network its loss, its metric and its optimizer."""
    target = Target(config.target)
    dice = DiceCoefficient(num_classes=len(target.channels), exclusive=target.exclusive)
    loss = get_loss(config.loss, include_background=not target.exclusive)
    model.compile(optimizer=_optimizer(config), loss=loss, metrics=[dice])
    # Else its variables would be made inside the training step, which is then traced twice: half of the time to start.
    model.optimizer.build(model.trainable_variables)


def _optimizer(config: TrainingConfig) -> keras.optimizers.Optimizer:
    options: dict[str, Any] = {"use_ema": True, "ema_momentum": config.ema} if config.ema else {}
    # Keras' weight decay stands apart from the gradient: Adam with it is AdamW.
    return MeasuredAdam(config.learning_rate, weight_decay=config.weight_decay or None, **options)
