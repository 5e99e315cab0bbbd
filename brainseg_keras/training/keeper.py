"""What happens at the end of each epoch, in its order."""

import math
import time
from typing import Any

import keras

from brainseg_keras.training.checkpoints import Checkpoints
from brainseg_keras.training.display import EpochDisplay
from brainseg_keras.training.distribution import one_device
from brainseg_keras.training.history import History
from brainseg_keras.training.optimizer import adam_of
from brainseg_keras.training.progress import Progression
from brainseg_keras.training.record import BestEpoch
from brainseg_keras.training.scoring import Scorer
from brainseg_keras.training.stopping import find_end


class RunKeeper(keras.callbacks.Callback):
    """Has each epoch scored, kept and shown, and notes where the run is to end.

    Args:
        progression: How far the run has come.
        scorer: What scores the epoch; None in a process that leaves that to another, and all that follows.
        history: Where its row goes.
        checkpoints: What keeps the networks.
        display: What shows it; None with the scorer.
    """

    def __init__(
        self,
        progression: Progression,
        scorer: Scorer | None,
        history: History,
        checkpoints: Checkpoints,
        display: EpochDisplay | None,
    ):
        super().__init__()
        self._progression, self._scorer, self._history = progression, scorer, history
        self._checkpoints, self._display = checkpoints, display

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Start the epoch's clock; an epoch that was interrupted goes on with its loss."""
        self._epoch_started = time.monotonic()
        self._epoch_first_step = self._progression.step
        self._checkpoints.restore_sums(self.model, self._progression.step)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Validate and keep; an epoch that was interrupted before its last step is only kept, to be finished later."""
        if self._scorer is None:
            return
        # Alone: what saves and scores makes variables, which JAX would want all processes to make.
        with one_device():
            if self._progression.stopped != "interrupted" or self._progression.whole:
                self._score(epoch + 1, _flat(logs or {}) | self._measure())
                find_end(self._progression, self._epochs_since_best, self._checkpoints.record.config.patience)
            self._checkpoints.keep_last(self.model, self._progression)

    def score_start(self, model: keras.Model) -> None:
        """Score the weights that a run starts from, as epoch 0, which may stay the best."""
        self.set_model(model)
        nothing = ("loss", "dice", "iou", "pixel_accuracy", "learning_rate", "gradient_norm", "images_per_second")
        self._score(0, dict.fromkeys(nothing, math.nan))

    @property
    def _epochs_since_best(self) -> int:
        return self._history.rows[-1]["epoch"] - self._history.best["epoch"]

    def _measure(self) -> dict[str, float]:
        steps = self._progression.step - self._epoch_first_step
        images = steps * self._checkpoints.record.config.batch_size
        return {
            "learning_rate": _number(self.model.optimizer.learning_rate),
            "gradient_norm": _number(adam_of(self.model).gradient_norm),
            "images_per_second": images / (time.monotonic() - self._epoch_started),
        }

    def _score(self, epoch: int, measured: dict[str, Any]) -> None:
        begun, step = time.monotonic(), self._progression.step
        scores, attention = self._scorer.score(self.model, step)
        self._progression.reserve = 1.2 * (time.monotonic() - begun) + 2
        found, seconds = scores.logs() if scores else {}, {"seconds": self._progression.elapsed}
        row = {"epoch": epoch, "step": step} | measured | found | seconds
        if self._history.add(row):
            self._checkpoints.keep_best(self._scorer.plain, BestEpoch(epoch, step, scores.dice if scores else {}))
        self._history.write()
        self._display.show(row, self._history.best, scores, attention)


def _number(variable: Any) -> float:
    # By way of NumPy: a variable on several devices is no number.
    return float(keras.ops.convert_to_numpy(variable))


def _flat(logs: dict[str, Any]) -> dict[str, float]:
    """Give the numbers of an epoch by name, those of a metric of several scores too."""
    flat = {}
    for name, value in logs.items():
        flat |= _flat(value) if isinstance(value, dict) else {name: float(value)}
    return flat
