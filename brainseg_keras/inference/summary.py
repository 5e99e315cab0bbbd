"""summary.csv: one row a result of `predict`, kept when several calls write to one folder."""

import os
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from brainseg_keras.errors import InputError
from brainseg_keras.files import hold_folder, printable, write_whole
from brainseg_keras.inference.measures import Measures
from brainseg_keras.inference.outlook import OUTLOOK

SUMMARY = "summary.csv"
COLUMNS = ("file", *(field.name for field in fields(Measures)), "mask", "error")
#: Seconds to wait for another call that writes its rows; that takes a moment.
_PATIENCE = 60


def read_summary(folder: Path) -> pd.DataFrame:
    """Read what earlier calls wrote.

    Args:
        folder: Where results lie.

    Returns:
        Rows as text, none where there is no summary.

    Raises:
        InputError: A summary.csv that `predict` did not write.

    Example:
        >>> len(read_summary(Path("no/such/folder")))
        0
    """
    file = folder / SUMMARY
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError:
        return pd.DataFrame(columns=COLUMNS, dtype=str)
    except Exception as error:  # pandas raises many kinds
        raise InputError(f"{file} cannot be read ({error}). Give another output folder, or remove it.") from error
    if tuple(table.columns) not in (COLUMNS, COLUMNS + OUTLOOK):
        raise InputError(
            f"{file} was not written by predict: its columns are {', '.join(map(str, table.columns[:5]))}. Give "
            "another output folder, or remove it."
        )
    return table


def add_to_summary(
    folder: Path, rows: list[dict[str, Any]], failures: dict[str, str], files: Iterable[str | Path]
) -> None:
    """Put a call's rows into summary.csv, among those of other calls whose masks are still there.

    Args:
        folder: Where results lie.
        rows: Of the results.
        failures: File or folder, and why it was refused.
        files: All that the call looked at; what earlier calls said of them goes.

    Raises:
        InputError: Another process holds the folder for a minute.
    """
    refused = [{"file": printable(name), "error": printable(message)} for name, message in failures.items()]
    new = pd.DataFrame(rows + refused)
    with hold_folder(folder, wait=_PATIENCE):
        old = read_summary(folder)
        columns = COLUMNS + OUTLOOK if {*old.columns, *new.columns}.intersection(OUTLOOK) else COLUMNS
        old, new = old.reindex(columns=columns), new.reindex(columns=columns)
        new = new.astype({"tumour_size": "Int64"}).astype(object)
        replaced = {printable(file) for file in (*files, *failures)}
        written = {_place(folder, mask) for mask in new["mask"].dropna()}
        stays = [
            row.file not in replaced
            and (_on_disk(row.file).exists() if row.error else _place(folder, row.mask) not in {None, *written})
            for row in old.itertuples()
        ]
        table = pd.concat([old[stays].astype(object), new])
        write_whole(folder / SUMMARY, lambda path: table.to_csv(path, index=False, encoding="utf-8"))


def _place(folder: Path, mask: str) -> Path | None:
    """Find a mask below the folder, from wherever it was written and wherever the folder is now; None if it is gone."""
    path = _on_disk(mask)
    parts = [part for part in path.relative_to(path.anchor).parts if part != ".."]
    places = (Path(*parts[start:]) for start in range(len(parts)))
    return next((place for place in places if (folder / place).is_file()), None)


def _on_disk(printed: str) -> Path:
    return Path(os.fsdecode(printed.encode("utf-8")))
