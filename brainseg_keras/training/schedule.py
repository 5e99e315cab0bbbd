"""The learning rate over a run."""

import math
from dataclasses import replace

import keras

from brainseg_keras.training.config import TrainingConfig
from brainseg_keras.training.progress import Progression


class WarmupCosine(keras.callbacks.Callback):
    """Raises the learning rate evenly, then lets it fall along a cosine to a hundredth at the end of steps or time.

    Args:
        progression: How far the run has come.
        config: Peak and warm-up. A deterministic run follows its steps alone, since time never repeats.
    """

    def __init__(self, progression: Progression, config: TrainingConfig):
        super().__init__()
        self._progression = progression
        self._config = config

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Set the rate of the coming step."""
        if keras.backend.backend() == "jax":
            # The JAX trainer keeps its variables to itself between callbacks that ask for them.
            self.model.jax_state_sync()
        self.model.optimizer.learning_rate = learning_rate(self._config, self._progression)


def learning_rate(config: TrainingConfig, progression: Progression) -> float:
    """Give the learning rate of the coming step.

    Args:
        config: Peak and warm-up; a deterministic run follows its steps alone.
        progression: How far the run has come.

    Returns:
        The rate.

    Example:
        >>> last = Progression(steps_per_epoch=1, total_steps=10, step=9)
        >>> round(learning_rate(TrainingConfig(learning_rate=1.0, warmup=0.5), last), 4)
        0.1045
    """
    peak, warmup, first = config.learning_rate, config.warmup, 1 / progression.total_steps
    share = progression.share(by_time=not config.deterministic)
    if share < warmup:
        return peak * (share + first) / (warmup + first)
    fallen = (share - warmup) / (1 - warmup)
    return peak * (0.01 + 0.99 * (1 + math.cos(math.pi * fallen)) / 2)


def describe_change(before: TrainingConfig, now: TrainingConfig, progression: Progression) -> str | None:
    """Say how the learning rate of a resumed run jumps where its length or its peak changed.

    Args:
        before: Settings that it had.
        now: Settings that it has.
        progression: How far the run has come.

    Returns:
        One line, or None where the rate goes on as before.

    Example:
        >>> before, now = TrainingConfig(epochs=10, deterministic=True), TrainingConfig(epochs=20, deterministic=True)
        >>> describe_change(before, now, Progression(steps_per_epoch=5, total_steps=100, step=50))
        'The learning rate follows the cosine over 20 epochs now: 5.3e-04, was 1.0e-05.'
    """
    if all(getattr(before, name) == getattr(now, name) for name in ("epochs", "max_minutes", "learning_rate")):
        return None
    rates = []
    for config in (now, before):
        own = replace(
            progression, total_steps=config.epochs * progression.steps_per_epoch, limit=seconds_of(config.max_minutes)
        )
        rates.append(learning_rate(config, own))
    length = f"{now.epochs} epochs" + (f" or {now.max_minutes:g} minutes" if now.max_minutes else "")
    return f"The learning rate follows the cosine over {length} now: {rates[0]:.1e}, was {rates[1]:.1e}."


def seconds_of(minutes: float | None) -> float | None:
    """Turn minutes into seconds, where there is a limit at all."""
    return None if minutes is None else 60 * minutes
