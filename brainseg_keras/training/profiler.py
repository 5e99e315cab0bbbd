"""A window of steps for TensorBoard's profiler."""

from pathlib import Path

import keras

from brainseg_keras.training.config import TrainingConfig


class Profiler(keras.callbacks.Callback):
    """Records the steps that `profile` names.

    Args:
        config: With `profile`, such as `20-30`: steps of this process, from 1.
        logs: The log folder of the run.
    """

    def __init__(self, config: TrainingConfig, logs: Path):
        super().__init__()
        self._first, self._last = map(int, config.profile.split("-"))
        self._logs = str(logs)
        self._step = 0
        self._runs = False

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Start at the first step."""
        self._step += 1
        if self._step == self._first:
            start, _ = _recorder()
            start(self._logs)
            self._runs = True

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Stop after the last."""
        if self._step == self._last:
            self.on_train_end()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Stop, where training ended within the window."""
        if self._runs:
            _, stop = _recorder()
            stop()
            self._runs = False


def _recorder() -> tuple:
    if keras.backend.backend() == "jax":
        import jax

        return jax.profiler.start_trace, jax.profiler.stop_trace
    import tensorflow as tf

    return tf.profiler.experimental.start, tf.profiler.experimental.stop
