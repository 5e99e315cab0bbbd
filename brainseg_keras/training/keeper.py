"""What is kept of each epoch: models, history, TensorBoard, curves."""

import math
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pandas as pd
from rich.console import Console

from brainseg_keras.errors import reading
from brainseg_keras.files import write_whole
from brainseg_keras.inference.explanation import Explainer
from brainseg_keras.monitoring import Dashboard
from brainseg_keras.monitoring.memory import memory_use
from brainseg_keras.training.continuation import NOTHING_DONE, Progress
from brainseg_keras.training.optimizer import gradient_norm
from brainseg_keras.training.precision import dtype_policy
from brainseg_keras.training.progress import Progression
from brainseg_keras.training.run import RunFolder, random_states
from brainseg_keras.training.validation import PatientScores, PatientValidator
from brainseg_keras.visualization import plot_history


class RunKeeper(keras.callbacks.Callback):
    """Validates each epoch and keeps what it found: models, history, TensorBoard, curves.

    Args:
        run: Where to keep it.
        info: Content of run.json.
        validator: What scores the epoch.
        progression: How far the run has come.
        patience: Epochs without a better score after which to stop, or None.
        rebuild: Makes the same network anew, for the float32 copy without compile state.
        calibrate: Brings the moving statistics of a model's normalizations to its present weights.
        console: Where to say how it goes.
        history: Rows of earlier epochs, in a resumed run.
        progress: What the run's last.keras was kept with, in a resumed run.
    """

    def __init__(
        self,
        run: RunFolder,
        info: dict[str, Any],
        validator: PatientValidator,
        progression: Progression,
        *,
        patience: int | None,
        rebuild: Callable[[], keras.Model],
        calibrate: Callable[[keras.Model], None],
        console: Console,
        history: list[dict] | None = None,
        progress: Progress = NOTHING_DONE,
    ):
        super().__init__()
        self._run = run
        self._info = info
        self._validator = validator
        self._progression = progression
        self._patience = patience
        self._rebuild = rebuild
        self._console = console
        self._plain: keras.Model | None = None
        self._calibrate = calibrate
        self._state: list[np.ndarray] = []
        self._kept = progress
        self.history = history or []
        self._dashboard = Dashboard(run.logs)
        self._described = bool(self.history)
        self._explainer: Explainer | None = None

    @property
    def best(self) -> dict[str, Any] | None:
        """Row of the best epoch so far; the earliest of equals."""
        return max(self.history, key=lambda row: row["val_dice"]) if self.history else None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Say once what the run is."""
        if not self._described:
            self._dashboard.describe(self._info["config"], self.model)
            self._described = True

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Start the epoch's clock; its loss goes on from the steps that it had before it was interrupted."""
        self._epoch_started = time.monotonic()
        self._epoch_first_step = self._progression.step
        if self._kept.step == self._progression.step and self._kept.sums:
            self._restore_sums()

    def _restore_sums(self) -> None:
        # Keras makes the variables of a metric at its first use.
        nothing = keras.ops.zeros((1, *self.model.output_shape[1:]))
        self.model.compute_metrics(None, nothing, nothing)
        with reading(self._run.info, "Restore it; without the entry `sums` the epoch's loss is of its rest alone."):
            for variable, value in zip(self.model.metrics_variables, self._kept.sums, strict=True):
                variable.assign(value)

    def score_start(self, model: keras.Model) -> None:
        """Score the weights that a run starts from, as epoch 0, which may stay the best.

        Args:
            model: The compiled network, before its first step.
        """
        self.set_model(model)
        nothing = dict.fromkeys(("loss", "dice", "learning_rate", "gradient_norm", "images_per_second"), math.nan)
        self._score({"epoch": 0, "step": 0} | nothing)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Validate and keep; an epoch that was interrupted before its last step is only kept, to be finished later."""
        if self._info["config"]["ema"]:
            self._state = [keras.ops.convert_to_numpy(variable) for variable in self.model.variables]
        if self._progression.stopped == "interrupted" and not self._progression.whole:
            self._keep_last()
            return
        row = {"epoch": epoch + 1, "step": self._progression.step}
        row |= {key: float(value) for key, value in (logs or {}).items()}
        seconds = time.monotonic() - self._epoch_started
        images = (self._progression.step - self._epoch_first_step) * self._info["config"]["batch_size"]
        row |= {
            "learning_rate": float(self.model.optimizer.learning_rate),
            "gradient_norm": gradient_norm(self.model.optimizer),
            "images_per_second": images / seconds,
        }
        if self._state:
            self._show_average()
        self._score(row)
        self._restore_state()
        if self._patience and row["epoch"] - self.best["epoch"] >= self._patience:
            self._progression.stopped = self._progression.stopped or "patience"
        if self._progression.out_of_time:
            self._progression.stopped = self._progression.stopped or "time"
        # Also where Ctrl-C came during the validation: no step more.
        self.model.stop_training = self._progression.stopped is not None
        self._keep_last()

    def _score(self, row: dict[str, Any]) -> None:
        begun = time.monotonic()
        scores = self._validator.score(self.model, self.model.loss)
        self._explainer = self._explainer or Explainer(self.model)
        attention = self._validator.attention(self._explainer)
        self._progression.reserve = 1.2 * (time.monotonic() - begun) + 2
        row |= scores.logs() | {"seconds": self._progression.elapsed}
        better = self.best is None or row["val_dice"] > self.best["val_dice"]
        self.history.append(row)
        if better:
            self._keep_best(scores)
        write_whole(self._run.history, lambda path: pd.DataFrame(self.history).to_csv(path, index=False))
        self._show(row, scores, better, attention)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Take back the average that Keras leaves in place of the weights, from which a next `fit` goes on."""
        self._restore_state()

    def _show_average(self) -> None:
        """Put the average in place of the weights, with moving statistics that fit it."""
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        for variable in self.model.trainable_variables:
            # A copy: on JAX both would be one array, which a prediction gives away.
            variable.assign(np.array(keras.ops.convert_to_numpy(variable)))
        self._calibrate(self.model)

    def _restore_state(self) -> None:
        for variable, value in zip(self.model.variables, self._state, strict=False):
            variable.assign(value)

    def close(self) -> None:
        """Finish the log files and draw the curves."""
        self._dashboard.close()
        if self.history:
            draw_curves(self._run, self._info["architecture"], self.history)

    def _keep_best(self, scores: PatientScores) -> None:
        with dtype_policy("float32"):
            self._plain = self._plain or self._rebuild()
        self._plain.set_weights(self.model.get_weights())
        self._run.write_model(self._plain, self._run.best)
        self._info["validation"] = {
            "role": "chose the checkpoint",
            "epoch": int(self.history[-1]["epoch"]),
            "step": int(self.history[-1]["step"]),
            "patients": len(scores.dice),
            "mean_dice": scores.mean,
            "dice": scores.dice,
        }

    def _keep_last(self) -> None:
        sums = [] if self._progression.whole else self.model.metrics_variables
        progress = Progress(
            self._progression.step,
            int(self.model.optimizer.iterations),
            random_states(self.model),
            round(self._progression.elapsed, 1),
            [keras.ops.convert_to_numpy(variable).tolist() for variable in sums],
        )
        # What a resumed run goes by is last.keras, the last to be written: after a kill between the two files it is
        # the one that `previous` tells of.
        self._info["progress"] = progress._asdict() | {
            "stopped": self._progression.stopped,
            "previous": self._kept._asdict() if self._kept.step else None,
        }
        self._run.write_info(self._info)
        self._run.write_model(self.model, self._run.last)
        self._kept = progress

    def _show(
        self, row: dict[str, Any], scores: PatientScores, better: bool, attention: list[dict[str, np.ndarray]]
    ) -> None:
        epoch = int(row["epoch"])
        left_out = ("epoch", "step", "val_patients")
        scalars = {key: value for key, value in row.items() if key not in left_out and not math.isnan(value)}
        self._dashboard.epoch(
            epoch,
            scalars | {"best_val_dice": self.best["val_dice"]} | memory_use(),
            dice=list(scores.dice.values()),
            histogram=scores.histogram,
            panel=scores.panel,
            worst=scores.worst,
            attention=attention,
        )
        begun, loss, speed = row["step"] > 0, row["loss"], row["images_per_second"]
        # One line whatever the terminal's width: logs are searched by line.
        self._console.out(
            f"epoch {epoch:3d}  {f'loss {loss:.4f}' if begun else 'before the first step'}  "
            f"val_loss {row['val_loss']:.4f}  "
            f"Dice per patient {scores.mean:.3f} (median {row['val_dice_median']:.3f}, "
            f"worst {row['val_dice_min']:.3f}, n = {len(scores.dice)})  "
            f"{f'{speed:.0f} images/s' if begun else ''}{'  best' if better else ''}",
            highlight=False,
        )


def draw_curves(run: RunFolder, architecture: str, history: list[dict]) -> None:
    """Draw curves.png.

    Args:
        run: Where to.
        architecture: For its title.
        history: Rows of the epochs; at least one.
    """
    best = max(history, key=lambda row: row["val_dice"])
    title = f"{architecture}: best mean Dice {best['val_dice']:.3f} at epoch {best['epoch']:.0f}"
    write_whole(run.curves, lambda path: plot_history(pd.DataFrame(history), path, title))
