"""Tiny trainings."""

import signal

import pytest

from brainseg_keras.training import TrainingConfig, train
from brainseg_keras.training.schedule import WarmupCosine


def tiny(data, **changes):
    settings = {
        "data": str(data),
        "architecture": "res_unet",
        "filters": 4,
        "depth": 2,
        "size": 32,
        "batch_size": 4,
        "epochs": 2,
        "precision": "float32",
        "deterministic": True,
        "dropout": 0.1,
        "ema": 0.9,
    }
    return TrainingConfig(**settings | changes)


def train_and_interrupt(config, output, *, after):
    """Train in this process, and send it the signal of Ctrl-C after some steps."""

    class Interrupt(WarmupCosine):
        def on_train_batch_begin(self, batch, logs=None):
            super().on_train_batch_begin(batch, logs)
            if self._progression.step == after - 1:
                signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("brainseg_keras.training.loop.WarmupCosine", Interrupt)
        train(config, output=output)
    return output
