"""Reasons to end a run before its last epoch."""

import math
import signal
import threading
from typing import Any

import keras

from brainseg_keras.errors import TrainingError
from brainseg_keras.training.config import TrainingConfig
from brainseg_keras.training.progress import Progression


class StopGuard(keras.callbacks.Callback):
    """Stops a run at its time limit, at Ctrl-C or SIGTERM, and at a loss that is NaN.

    It listens while it is entered (`with guard:`), so also while a validation runs.

    Args:
        progression: Where the steps are counted and the reason is kept.
        config: Named in the message on a loss that is NaN.
    """

    def __init__(self, progression: Progression, config: TrainingConfig):
        super().__init__()
        self._progression = progression
        self._config = config
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopGuard":
        """Listen for Ctrl-C; only the main thread may."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._ask_to_stop)
        return self

    def __exit__(self, *error: object) -> None:
        """Give the signals back to whom they belonged."""
        while self._previous:
            signal.signal(*self._previous.popitem())

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Count the step and look for a reason to stop."""
        self._progression.step += 1
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            epoch, step = divmod(self._progression.step - 1, self._progression.steps_per_epoch)
            raise TrainingError(
                f"The loss became NaN (epoch {epoch + 1}, step {step + 1}). The usual cause is a learning rate that is "
                f"too high (peak {self._config.learning_rate:g}), or float16. Try --learning-rate "
                f"{self._config.learning_rate / 10:g}, or --precision float32. Epochs done before are kept in the run."
            )
        if self._progression.out_of_time:
            self._progression.stopped = "time"
        if self._progression.stopped:
            self.model.stop_training = True

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        if self._progression.stopped == "interrupted":
            # Asked twice: now means now.
            raise KeyboardInterrupt
        self._progression.stopped = "interrupted"


def find_end(progression: Progression, since_best: int, patience: int | None) -> None:
    """Note a reason to stop after an epoch was scored; one that is there already stays."""
    if patience and since_best >= patience:
        progression.stopped = progression.stopped or "patience"
    if progression.out_of_time:
        progression.stopped = progression.stopped or "time"
