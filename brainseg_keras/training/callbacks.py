"""What happens beside the gradient steps: the learning rate, reasons to stop, and what is kept of each epoch."""

import math
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from brainseg_keras.errors import TrainingError
from brainseg_keras.files import write_whole
from brainseg_keras.inference.explanation import Explainer
from brainseg_keras.monitoring import Dashboard
from brainseg_keras.monitoring.memory import memory_use
from brainseg_keras.training.config import TrainingConfig
from brainseg_keras.training.optimizer import gradient_norm
from brainseg_keras.training.precision import dtype_policy
from brainseg_keras.training.run import RunFolder, random_states
from brainseg_keras.training.validation import PatientScores, PatientValidator
from brainseg_keras.visualization import plot_history


@dataclass
class Progression:
    """How far a run has come.

    Args:
        steps_per_epoch: Batches in an epoch.
        total_steps: Batches in the whole run.
        limit: Seconds that the run may take, or None.
        step: Batches done since training began, resumed runs counted in.
        seconds: Time spent before this process.
        reserve: Seconds to keep for the last validation.
        stopped: Why the run ends before its last epoch, if it does.
    """

    steps_per_epoch: int
    total_steps: int
    limit: float | None = None
    step: int = 0
    seconds: float = 0.0
    reserve: float = 0.0
    stopped: str | None = None
    _started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds spent on the run, earlier processes counted in."""
        return self.seconds + time.monotonic() - self._started

    @property
    def out_of_time(self) -> bool:
        """Whether the limit is reached."""
        return self.limit is not None and self.elapsed + self.reserve >= self.limit

    def share(self, *, by_time: bool = True) -> float:
        """Share of the run that is done, by steps or by time, whichever is further."""
        done = self.step / self.total_steps
        if by_time and self.limit is not None:
            done = max(done, self.elapsed / max(self.limit - self.reserve, 1e-6))
        return min(done, 1.0)


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

    def rate(self, share: float) -> float:
        """Learning rate at a share of the run."""
        peak, warmup = self._config.learning_rate, self._config.warmup
        if share < warmup:
            return peak * (share + 1 / self._progression.total_steps) / (warmup + 1 / self._progression.total_steps)
        fallen = (share - warmup) / (1 - warmup)
        return peak * (0.01 + 0.99 * (1 + math.cos(math.pi * fallen)) / 2)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Set the rate of the coming step."""
        if keras.backend.backend() == "jax":
            # The JAX trainer keeps its variables to itself between callbacks that ask for them.
            self.model.jax_state_sync()
        self.model.optimizer.learning_rate = self.rate(self._progression.share(by_time=not self._config.deterministic))


class StopGuard(keras.callbacks.Callback):
    """Stops a run at its time limit, at Ctrl-C or SIGTERM, and at a loss that is no number.

    Args:
        progression: Where the steps are counted and the reason is kept.
        config: Named in the message on a loss that is no number.
    """

    def __init__(self, progression: Progression, config: TrainingConfig):
        super().__init__()
        self._progression = progression
        self._config = config
        self._previous: dict[int, Any] = {}

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Listen for Ctrl-C; only the main thread may."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._ask_to_stop)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Listen no more."""
        self.release()

    def release(self) -> None:
        """Give the signals back to whom they belonged."""
        while self._previous:
            signal.signal(*self._previous.popitem())

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Count the step and look for a reason to stop."""
        self._progression.step += 1
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            epoch, step = divmod(self._progression.step - 1, self._progression.steps_per_epoch)
            raise TrainingError(
                f"The loss is no number any more (epoch {epoch + 1}, step {step + 1}). The usual cause is a learning "
                f"rate that is too high (peak {self._config.learning_rate:g}), or float16. Try --learning-rate "
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
        """Start the epoch's clock."""
        self._epoch_started = time.monotonic()
        self._epoch_first_step = self._progression.step

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Validate and keep; an interrupted epoch is only kept, so that it can be finished later."""
        if self._info["config"]["ema"]:
            self._state = [keras.ops.convert_to_numpy(variable) for variable in self.model.variables]
        if self._progression.stopped == "interrupted":
            self._keep_last()
            return
        row = {"epoch": epoch + 1} | {key: float(value) for key, value in (logs or {}).items()}
        seconds = time.monotonic() - self._epoch_started
        images = (self._progression.step - self._epoch_first_step) * self._info["config"]["batch_size"]
        row |= {
            "learning_rate": float(self.model.optimizer.learning_rate),
            "gradient_norm": gradient_norm(self.model.optimizer),
            "images_per_second": images / seconds,
        }
        begun = time.monotonic()
        if self._state:
            self._show_average()
        scores = self._validator.score(self.model, self.model.loss)
        self._explainer = self._explainer or Explainer(self.model)
        attention = self._validator.attention(self._explainer)
        self._progression.reserve = 1.2 * (time.monotonic() - begun) + 2
        row |= scores.logs() | {"seconds": self._progression.elapsed}
        better = self.best is None or row["val_dice"] > self.best["val_dice"]
        self.history.append(row)
        if better:
            self._keep_best(scores)
        self._restore_state()
        write_whole(self._run.history, lambda path: pd.DataFrame(self.history).to_csv(path, index=False))
        self._keep_last()
        self._show(row, scores, better, attention)
        if self._patience and row["epoch"] - self.best["epoch"] >= self._patience:
            self._progression.stopped = "patience"
            self.model.stop_training = True

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
            "step": self._progression.step,
            "patients": len(scores.dice),
            "mean_dice": scores.mean,
            "dice": scores.dice,
        }

    def _keep_last(self) -> None:
        self._info["progress"] = {
            "step": self._progression.step,
            "iterations": int(self.model.optimizer.iterations),
            "random_states": random_states(self.model),
            "seconds": round(self._progression.elapsed, 1),
            "stopped": self._progression.stopped,
        }
        # What a resumed run goes by is last.keras, the last to be written: after a kill it does the epoch again.
        self._run.write_info(self._info)
        self._run.write_model(self.model, self._run.last)

    def _show(
        self, row: dict[str, Any], scores: PatientScores, better: bool, attention: list[dict[str, np.ndarray]]
    ) -> None:
        epoch = int(row["epoch"])
        scalars = {key: value for key, value in row.items() if key not in ("epoch", "val_patients")}
        self._dashboard.epoch(
            epoch,
            scalars | {"best_val_dice": self.best["val_dice"]} | memory_use(),
            dice=list(scores.dice.values()),
            histogram=scores.histogram,
            panel=scores.panel,
            worst=scores.worst,
            attention=attention,
        )
        # One line whatever the terminal's width: logs are searched by line.
        self._console.out(
            f"epoch {epoch:3d}  loss {row['loss']:.4f}  val_loss {row['val_loss']:.4f}  "
            f"Dice per patient {scores.mean:.3f} (median {row['val_dice_median']:.3f}, "
            f"worst {row['val_dice_min']:.3f}, n = {len(scores.dice)})  "
            f"{row['images_per_second']:.0f} images/s{'  best' if better else ''}",
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


class ProgressBar(keras.callbacks.Callback):
    """Shows steps, loss and time left on a terminal; elsewhere the lines of each epoch do.

    Args:
        progression: How far the run has come.
        console: The terminal.
    """

    def __init__(self, progression: Progression, console: Console):
        super().__init__()
        self._progression = progression
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        total = progression.total_steps
        self._task = self._bar.add_task("", total=total, epoch=1, loss=math.nan, completed=progression.step)
        self._shown = console.is_terminal

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Open the bar."""
        if self._shown:
            self._bar.start()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Move the bar; where time is the limit, its end is where time will end."""
        if not self._shown:
            return
        step, share = self._progression.step, self._progression.share()
        epoch = (step - 1) // self._progression.steps_per_epoch + 1
        total = max(step, round(step / share)) if share else self._progression.total_steps
        self._bar.update(self._task, completed=step, total=total, epoch=epoch, loss=(logs or {}).get("loss", math.nan))

    def on_train_end(self, logs: dict | None = None) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self._shown:
            self._bar.stop()
