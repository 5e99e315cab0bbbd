"""Reasons to end a run before its last epoch."""

import math
import signal
import threading
from collections.abc import Callable
from typing import Any

import keras

from brainseg_keras.errors import TrainingError
from brainseg_keras.training.config import TrainingConfig
from brainseg_keras.training.progress import Progression


class StopGuard(keras.callbacks.Callback):
    """Notes that a run is to stop, at its time limit, at Ctrl-C or SIGTERM; stops it at a loss that is NaN.

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

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        if self._progression.stopped == "interrupted":
            # Asked twice: now means now.
            raise KeyboardInterrupt
        self._progression.stopped = "interrupted"


class StopTogether(keras.callbacks.Callback):
    """Stops a run for what was noted, after the same step in all its processes, which go by the clock of process 0.

    A process that went on alone would wait for the gradients of the others for ever. It comes last among callbacks.

    Args:
        progression: Where the reason and the clock are kept.
        exchange: Tells all processes something, and gives what each has told.
    """

    def __init__(self, progression: Progression, exchange: Callable[[Any], list[Any]]):
        super().__init__()
        self._progression, self._exchange = progression, exchange

    def goes_on(self) -> bool:
        """Agree whether there is a step more."""
        progression = self._progression
        told = self._exchange([progression.stopped, progression.time_share])
        progression.told = told[0][1]
        progression.stopped = next((reason for reason, _ in told if reason), None)
        return progression.stopped is None and progression.step < progression.total_steps

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Agree after a step."""
        self.model.stop_training = not self.goes_on()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Agree after an epoch: the others wait until process 0 has scored and kept it."""
        self.model.stop_training = not self.goes_on()


def find_end(progression: Progression, since_best: int, patience: int | None) -> None:
    """Note a reason to stop after an epoch was scored; one that is there already stays."""
    if patience and since_best >= patience:
        progression.stopped = progression.stopped or "patience"
    if progression.out_of_time:
        progression.stopped = progression.stopped or "time"
