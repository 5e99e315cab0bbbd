"""What one sees of a run: TensorBoard, and a line an epoch."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import keras
from rich.console import Console

from brainseg_keras.monitoring import Dashboard
from brainseg_keras.monitoring.memory import memory_use
from brainseg_keras.training.config import TrainingConfig
from brainseg_keras.training.validation import PatientScores


class EpochDisplay:
    """Shows what was found of each epoch.

    Args:
        logs: The log folder of the run.
        console: Where to say it.
    """

    def __init__(self, logs: Path, console: Console):
        self._dashboard = Dashboard(logs)
        self._console = console

    def describe(self, config: TrainingConfig, model: keras.Model) -> None:
        """Show what does not change."""
        self._dashboard.describe(dataclasses.asdict(config), model)

    def show(
        self, row: dict[str, Any], best: dict[str, Any], scores: PatientScores | None, attention: list[dict[str, Any]]
    ) -> None:
        """Show one epoch: its row in the history and that of the best, and what was found in its validation, if any."""
        left_out = ("epoch", "step", "val_patients")
        scalars = {key: value for key, value in row.items() if key not in left_out and not math.isnan(value)}
        begun, loss, speed = row["step"] > 0, row["loss"], row["images_per_second"]
        if scores is None:
            self._dashboard.numbers(int(row["epoch"]), scalars | memory_use())
            self._console.out(f"epoch {row['epoch']:3d}  loss {loss:.4f}  {speed:.0f} images/s", highlight=False)
            return
        self._dashboard.epoch(
            int(row["epoch"]),
            scalars | {"best_val_dice": best["val_dice"]} | memory_use(),
            dice=list(scores.dice.values()),
            histogram=scores.histogram,
            panel=scores.panel,
            worst=scores.worst,
            attention=attention,
        )
        # One line whatever the terminal's width: logs are searched by line.
        self._console.out(
            f"epoch {row['epoch']:3d}  {f'loss {loss:.4f}' if begun else 'before the first step'}  "
            f"val_loss {row['val_loss']:.4f}  "
            f"Dice per patient {scores.mean:.3f} (median {row['val_dice_median']:.3f}, "
            f"worst {row['val_dice_min']:.3f}, n = {len(scores.dice)})  "
            f"{f'{speed:.0f} images/s' if begun else ''}{'  best' if best is row else ''}",
            highlight=False,
        )

    def close(self) -> None:
        """Finish the log files."""
        self._dashboard.close()
