"""How far a run has come, and the bar that shows it."""

import math
import time
from dataclasses import dataclass, field

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


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
        started: Reading of `time.monotonic` when this process began with the run.
        told: Share of the time that is over by the clock of process 0, where several processes train together.
    """

    steps_per_epoch: int
    total_steps: int
    limit: float | None = None
    step: int = 0
    seconds: float = 0.0
    reserve: float = 0.0
    stopped: str | None = None
    started: float = field(default_factory=time.monotonic)
    told: float | None = None

    @property
    def whole(self) -> bool:
        """Whether the last step ended an epoch."""
        return self.step % self.steps_per_epoch == 0

    @property
    def elapsed(self) -> float:
        """Seconds spent on the run, earlier processes counted in."""
        return self.seconds + time.monotonic() - self.started

    @property
    def out_of_time(self) -> bool:
        """Whether the limit is reached."""
        return self.limit is not None and self.elapsed + self.reserve >= self.limit

    @property
    def time_share(self) -> float:
        """Share of the time that is over by this process' clock; 0 without a limit."""
        return 0.0 if self.limit is None else self.elapsed / max(self.limit - self.reserve, 1e-6)

    def share(self, *, by_time: bool = True) -> float:
        """Share of the run that is done, by steps or by time, whichever is further."""
        done = self.step / self.total_steps
        if by_time:
            done = max(done, self.time_share if self.told is None else self.told)
        return min(done, 1.0)


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
