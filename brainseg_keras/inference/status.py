"""How far the masks in a folder are: what `brainseg predict --status` says, from the ledger."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brainseg_keras.data.scan_lists import gather
from brainseg_keras.errors import InputError
from brainseg_keras.files import expand
from brainseg_keras.inference.ledger import DONE, FAILED, FOLDER, INCOMPLETE, Ledger

#: Messages that are printed; all of them stand in ledger.csv.
_SHOWN = 20


@dataclass(frozen=True)
class Status:
    """What became of the scans of a folder.

    Args:
        folder: The folder.
        scans: How many there are, of the inputs or in the ledger.
        counts: How many are done, and how many are what else `Ledger.standing` says.
        models: Scans by the sha256 of the model that segmented them last.
        hosts: Scans by the machine.
        seconds: What all of them took together.
        errors: Message of each scan that failed or is incomplete, by its id.
    """

    folder: str
    scans: int
    counts: dict[str, int]
    models: dict[str, int]
    hosts: dict[str, int]
    seconds: float
    errors: dict[str, str]

    def to_info(self) -> dict[str, Any]:
        """Give what `--json` prints."""
        return dict(vars(self))

    def __str__(self) -> str:
        """Say it in lines."""
        done = self.counts.get(DONE, 0)
        others = [f"{count} {what}" for what, count in self.counts.items() if what != DONE]
        lines = [f"{self.folder}: " + ", ".join([f"{done} of {self.scans} scans done", *others])]
        lines += [f"{count} by model {digest[:12]}" for digest, count in self.models.items() if len(self.models) > 1]
        if self.hosts:
            lines.append(f"{self.seconds:,.0f} s of work on {', '.join(self.hosts)}")
        lines += [f"{id}: {error}" for id, error in list(self.errors.items())[:_SHOWN]]
        if len(self.errors) > _SHOWN:
            lines.append(
                f"... and {len(self.errors) - _SHOWN} more; ledger.csv has them all once the last part has ended"
            )
        return "\n".join(lines)


def find_status(folder: str | Path, inputs: Iterable[str | Path] | None = None) -> Status:
    """Sum up what was made in a folder; processes may be at work there.

    Args:
        folder: Output of `predict`.
        inputs: What shall be segmented, as `gather` takes it; None takes what the ledger knows.

    Returns:
        The sum.

    Raises:
        InputError: No ledger there, or inputs that `gather` refuses.

    Example:
        >>> find_status("no/such/folder")
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: No ledger in no/such/folder. Give the -o of a brainseg predict.
    """
    place = Path(expand(folder, "--status"))
    if not (place / FOLDER).is_dir():
        raise InputError(f"No ledger in {folder}. Give the -o of a brainseg predict.")
    ledger = Ledger(place)
    table = ledger.table(("status", "seconds", "model", "host", "error"))
    if inputs:
        ids = gather(inputs).ids
        table = table[table["id"].isin(ids)]
    else:
        ids = table["id"].tolist()
    bad = table[table["status"].isin([FAILED, INCOMPLETE])]
    return Status(
        str(folder),
        len(ids),
        dict(Counter(ledger.standing(ids).tolist()).most_common()),
        _counted(table["model"]),
        _counted(table["host"]),
        float(table["seconds"].astype(float).sum()),
        dict(zip(bad["id"], bad["error"], strict=True)),
    )


def _counted(column: Any) -> dict[str, int]:
    values, counts = np.unique(column.astype(str), return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
