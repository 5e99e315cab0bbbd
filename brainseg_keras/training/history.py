"""The rows of the epochs: history.csv, curves.png, and which epoch was the best."""

import csv
import math
from typing import Any

import pandas as pd

from brainseg_keras.errors import InputError, reading
from brainseg_keras.files import write_whole
from brainseg_keras.training.run import RunFolder
from brainseg_keras.visualization import plot_history

#: What every row has, whatever the network is asked for.
_COLUMNS = {
    *("epoch", "step", "seconds", "learning_rate", "gradient_norm", "images_per_second"),
    *("loss", "dice", "iou", "pixel_accuracy"),
}
#: And where there are validation patients.
_VALIDATED = {
    *("val_loss", "val_dice", "val_dice_median", "val_dice_min", "val_iou", "val_pixel_accuracy"),
    *("val_patients", "val_predicted_share", "val_tumour_share"),
}


class History:
    """Rows of the epochs that were scored.

    Args:
        run: Where they are kept.
        rows: Those of earlier processes, in a resumed run.
    """

    def __init__(self, run: RunFolder, rows: list[dict[str, float]] | None = None):
        self.rows = rows or []
        self._run = run

    @property
    def best(self) -> dict[str, float]:
        """Row of the best epoch so far, the earliest of equals; of the last one where nobody validates."""
        if "val_dice" not in self.rows[-1]:
            return self.rows[-1]
        return max(self.rows, key=lambda row: row["val_dice"])

    def add(self, row: dict[str, Any]) -> bool:
        """Add a row, and say whether it is the best."""
        self.rows.append(row)
        return self.best is row

    def write(self) -> None:
        """Write history.csv."""
        write_whole(self._run.history, lambda path: pd.DataFrame(self.rows).to_csv(path, index=False))

    def draw(self, architecture: str) -> None:
        """Draw curves.png with the architecture in its title, where there is a row."""
        if self.rows:
            best, title = self.best, f"{architecture}: all patients train"
            if "val_dice" in best:
                title = f"{architecture}: best mean Dice {best['val_dice']:.3f} at epoch {best['epoch']:.0f}"
            write_whole(self._run.curves, lambda path: plot_history(pd.DataFrame(self.rows), path, title))


def read_history(
    run: RunFolder, step: int, steps_per_epoch: int, *, scored_start: bool, validated: bool = True
) -> History:
    """Read the rows of what is done: they say which epoch was the best.

    Args:
        run: The run's folder.
        step: Batches that are done. A later row was written before a kill, and is left out.
        steps_per_epoch: Batches in an epoch.
        scored_start: Whether there is an epoch 0: the weights that the run started from.
        validated: Whether there are validation patients.

    Returns:
        A row for each epoch, and one where a time limit came within an epoch.

    Raises:
        InputError: A row is missing or damaged.
    """
    wanted = range(0 if scored_start else steps_per_epoch, step + 1, steps_per_epoch)
    if not step or not (wanted or run.history.exists()):
        return History(run)
    cure = f"Without it the best epoch is unknown. Restore it, or start a new run: --init {run.best}"
    try:
        with run.history.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{run.history} cannot be read ({error}). {cure}") from error
    with reading(run.history, cure):
        wanted_columns = _COLUMNS | (_VALIDATED if validated else set())
        if missing := sorted(wanted_columns - rows[0].keys()) if rows else []:
            raise ValueError(f"no column {', '.join(missing)}")
        done = [{name: _number(text) for name, text in row.items()} for row in rows]
        done = [row for row in done if row["step"] <= step]
        if any(
            math.isnan(row.get("val_dice", 0)) or row["epoch"] != -(-row["step"] // steps_per_epoch) for row in done
        ):
            raise ValueError("a row without val_dice, or of another epoch than its step says")
        whole = [row["step"] for row in done if row["step"] % steps_per_epoch == 0]
        if len(whole) != len(wanted) or whole != list(wanted):
            raise ValueError(f"rows of the steps {whole}, expected every {steps_per_epoch} from {wanted[0]} to {step}")
        return History(run, done)


def _number(text: str) -> float:
    """Read what pandas wrote: whole numbers stay whole, and every bit of the others comes back."""
    return int(text) if text.isdigit() else float(text or "nan")
