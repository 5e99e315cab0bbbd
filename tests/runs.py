"""Tiny trainings."""

from brainseg_keras.training import TrainingConfig


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
