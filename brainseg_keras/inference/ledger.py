"""The ledger: one row a scan of what was made of it, by which model, when and where; written by many at once.

Each process adds whole lines to files of its own below `OUT/ledger`, so that none waits for another; `join` makes
`ledger.csv` and `summary.csv` of all of them.
"""

import contextlib
import os
import platform
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from brainseg_keras.files import hold_folder, write_whole
from brainseg_keras.inference.ledger_files import TAB, Lines, are_there, read_lines
from brainseg_keras.inference.outlook import OUTLOOK
from brainseg_keras.inference.summary import COLUMNS as SUMMARY_COLUMNS
from brainseg_keras.inference.summary import check_summary, write_summary
from brainseg_keras.parts import Part
from brainseg_keras.terminal import one_line

FOLDER, TABLE, PARQUET = "ledger", "ledger.csv", "ledger.parquet"
COLUMNS = ("id", "status", "seconds", "input", "model", "settings", "engine", "error", "masks", "host", "time")
#: Of these there are few values.
_CATEGORIES = ("status", "model", "settings", "engine", "host")
#: Of the rows that summary.csv is made of; `time` ends each line.
_ROWS = ("id", "place", *SUMMARY_COLUMNS, *OUTLOOK, "time")
#: Seconds to wait for another process that joins.
_PATIENCE = 60
#: What may be with a scan: only the first of them leaves nothing to do.
DONE, MISSING, FAILED, INCOMPLETE, GONE = "done", "missing", "failed", "incomplete", "without their mask"
OTHER_MODEL, OTHER_SETTINGS = "made by another model", "made with other settings"


class Key(NamedTuple):
    """What made a result: of another key it is another result.

    Args:
        model: The sha256 of the network's file.
        settings: Tells apart what changes a mask, and which files are written beside it.
    """

    model: str
    settings: str


@dataclass(frozen=True)
class Entry:
    """What became of one scan.

    Args:
        id: Its name below the output folder.
        status: Whether all of it could be segmented, a part of its slices, or nothing.
        seconds: How long that took.
        input: The sha256 of its files, one after the other; empty where one cannot be read.
        key: What made it.
        engine: What ran the network.
        masks: Where they lie below the output folder.
        host: The machine.
        time: When it ended, in UTC.
        rows: Of summary.csv, one a mask.
        faults: File or folder, and why it was left out.
    """

    id: str
    status: Literal["done", "incomplete", "failed"]
    seconds: float
    input: str
    key: Key
    engine: str
    masks: tuple[str, ...]
    host: str
    time: str
    rows: tuple[dict[str, Any], ...]
    faults: dict[str, str]

    @property
    def error(self) -> str:
        """The first fault, and how many there are besides."""
        more = f" (and {len(self.faults) - 1} more)" if len(self.faults) > 1 else ""
        return _in_one_line(next(iter(self.faults.values()), "")) + more

    def cells(self) -> list[Any]:
        """Give a value for each of `COLUMNS`."""
        made = (self.id, self.status, self.seconds, self.input, *self.key, self.engine, self.error)
        return [*made, TAB.join(self.masks), self.host, self.time]

    def summary_rows(self) -> list[dict[str, Any]]:
        """Give its rows of summary.csv, one a mask and one a fault, each with the id, the time and the mask's place."""
        own = {"id": self.id, "time": self.time}
        made = [own | {"place": place} | row for place, row in zip(self.masks, self.rows, strict=True)]
        return made + [
            own | {"place": "", "file": one_line(name), "error": _in_one_line(fault)}
            for name, fault in self.faults.items()
        ]


class Ledger:
    """What was made of the scans of an output folder.

    Args:
        folder: The output folder; nothing is written before the first row.

    Example:
        >>> import tempfile
        >>> ledger = Ledger(tempfile.mkdtemp())
        >>> ledger.standing(["TCGA_CS_4941"]).tolist()
        ['missing']
    """

    def __init__(self, folder: str | Path):
        self._folder = Path(folder)
        host = re.sub(r"[^A-Za-z0-9-]", "-", platform.node())[:60]
        name = f"{host}-{os.getpid()}-{secrets.token_hex(4)}.csv"
        self._scans = Lines(self._folder / FOLDER / "scans" / name, COLUMNS)
        self._rows = Lines(self._folder / FOLDER / "rows" / name, _ROWS)

    def hold(self, part: Part) -> contextlib.AbstractContextManager[None]:
        """See `Part.hold`; the whole is 1/1."""
        return part.hold(self._folder / FOLDER / "parts")

    def append(self, entry: Entry) -> None:
        """Add what became of a scan; it counts from now on, in place of what was there of it.

        Args:
            entry: Its row.

        Raises:
            OSError: It cannot be written, and then it does not count.
        """
        # The scan's own line comes last: without it the others are passed over.
        self._rows.append([row.get(name) for name in _ROWS] for row in entry.summary_rows())
        self._scans.append([entry.cells()])

    def close(self) -> None:
        """End this process' own files."""
        self._scans.close()
        self._rows.close()

    def table(self, columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
        """Read the last row of each scan.

        Args:
            columns: Which of `COLUMNS`; `id` and `time` are always there.

        Returns:
            A row a scan.

        Raises:
            InputError: A file that cannot be read.
        """
        wanted = [name for name in COLUMNS if name in {*columns, "id", "time"}]
        kinds = {name: "category" if name in _CATEGORIES else str for name in wanted}
        batches = list(read_lines(self._folder / FOLDER / "scans", COLUMNS, kinds))
        if not batches:
            return pd.DataFrame(columns=wanted, dtype=str)
        table = pd.DataFrame({name: _joined([batch.pop(name) for batch in batches]) for name in wanted})
        if table["id"].duplicated().any():
            table = table.sort_values("time", kind="stable").drop_duplicates("id", keep="last", ignore_index=True)
        return table

    def standing(self, ids: Sequence[str], key: Key | None = None) -> np.ndarray:
        """Say of each scan what is with it.

        Args:
            ids: Of the scans.
            key: What shall have made it; None takes whatever did.

        Returns:
            `done`, where its masks are there too, or why it is not: `missing`, `failed`, `incomplete`, `without their
            mask`, `made by another model`, `made with other settings`; an array of text.
        """
        table = self.table(("status", "model", "settings", "masks") if key else ("status", "masks"))
        where = pd.Index(table["id"]).get_indexer(pd.Index(ids, dtype=table["id"].dtype))
        standing = np.full(len(ids), MISSING, dtype=object)
        known = np.flatnonzero(where >= 0)
        table = table.iloc[where[known]]
        state = table["status"].astype(object).to_numpy(copy=True)
        if key:
            state[(table["settings"] != key.settings).to_numpy()] = OTHER_SETTINGS
            state[(table["model"] != key.model).to_numpy()] = OTHER_MODEL
        done = np.flatnonzero(state == DONE)
        state[done[~are_there(self._folder, table["masks"].iloc[done])]] = GONE
        standing[known] = state
        return standing

    def join(self, *, parquet: bool = False) -> None:
        """Make one table of all processes' rows, `ledger.csv`, and of the masks that are there `summary.csv`, if any.

        Args:
            parquet: Also write `ledger.parquet`, which other programs read in a moment; the extra `cluster` brings it.

        Raises:
            InputError: Another process joins for a minute, or a summary.csv that is another's.
        """
        if not any((self._folder / FOLDER / "scans").glob("*.csv")):
            return
        with hold_folder(self._folder, wait=_PATIENCE):
            check_summary(self._folder)
            rows = self._summary_rows(*self._write_table(parquet=parquet))
            if (rows["place"] != "").any():
                write_summary(self._folder, rows)

    def _write_table(self, *, parquet: bool) -> tuple[pd.Index, np.ndarray]:
        """Write ledger.csv, and ledger.parquet; gives the ids and the times of their rows."""
        table = self.table().sort_values("time", kind="stable")
        write_whole(self._folder / TABLE, lambda path: table.to_csv(path, index=False, encoding="utf-8"))
        if parquet:
            typed = table.assign(seconds=table["seconds"].astype(float))
            write_whole(self._folder / PARQUET, lambda path: typed.to_parquet(path, index=False))
        return pd.Index(table["id"]), table["time"].to_numpy()

    def _summary_rows(self, ids: pd.Index, times: np.ndarray) -> pd.DataFrame:
        """Give the rows of the last attempts at the scans."""
        batches = []
        for batch in read_lines(self._folder / FOLDER / "rows", _ROWS, dict.fromkeys(_ROWS, str)):
            where = ids.get_indexer(batch["id"])
            batches.append(batch[(where >= 0) & (batch["time"].to_numpy() == times[where])])
        if not batches:
            return pd.DataFrame(columns=_ROWS, dtype=str)
        rows = pd.concat(batches).sort_values("time", kind="stable", ignore_index=True)
        masks = rows["place"] != ""
        # A slice may have been segmented with its patient, and alone.
        again = rows.duplicated("file", keep="last") | (rows.duplicated("place", keep="last") & masks)
        stays = ~again.to_numpy()
        stays[masks.to_numpy()] &= are_there(self._folder, rows["place"][masks])
        return rows[stays]


def _in_one_line(message: str) -> str:
    return one_line(" ".join(message.splitlines()))


def _joined(columns: list[pd.Series]) -> Any:
    if isinstance(columns[0].dtype, pd.CategoricalDtype):
        return union_categoricals(columns)
    return pd.concat(columns, ignore_index=True)
