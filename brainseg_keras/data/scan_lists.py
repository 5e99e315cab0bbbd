"""Lists of scans: a CSV or Parquet table of paths, whose scans are looked at when their turn comes."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from brainseg_keras.data.formats.registry import SCAN_FORMATS
from brainseg_keras.data.scans import Scan, find_scans
from brainseg_keras.errors import InputError, first_line, optional_import
from brainseg_keras.files import expand
from brainseg_keras.parts import Part

if TYPE_CHECKING:
    import pandas as pd

_TABLES, _COLUMNS = (".csv", ".parquet"), ("path", "id")
#: What an id may not have: it names files below a folder.
_NO_ID = r"(?:^|/)\.{0,2}(?:/|$)|[\x00-\x1f\x7f]"


class Listed(NamedTuple):
    """A line of a list: a scan that nobody has looked at yet.

    Args:
        id: What its results are called below the output folder.
        path: File, or folder of one scan.
    """

    id: str
    path: Path

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path)

    def find(self) -> Scan:
        """Look at it.

        Returns:
            The scan, with the results' names that the list gives it.

        Raises:
            InputError: Nothing there, no picture, or several scans.
        """
        found = find_scans([self.path])
        if len(found) != 1:
            raise InputError(f"{self.path} holds {len(found)} scans. Give each of them a line of the list.")
        outputs, place = found[0].outputs, PurePath(os.fsdecode(self.id.encode("utf-8")))
        outputs = (place,) if len(outputs) == 1 else tuple(place / output.name for output in outputs)
        return replace(found[0], outputs=outputs, listed=self.id)


@dataclass(frozen=True)
class Wanted:
    """What shall be segmented: scans, and paths of lists, by their ids; a million of them take little room.

    Args:
        ids: What the ledger calls them, each another.
        sources: The scan of each, or its path.
    """

    ids: Sequence[str]
    sources: Sequence[Scan | str]

    def __len__(self) -> int:
        """Count them."""
        return len(self.ids)

    def scans(self) -> list[Scan | Listed]:
        """Give them one by one."""
        return [
            source if isinstance(source, Scan) else Listed(id, Path(os.fsdecode(source.encode("utf-8"))))
            for id, source in zip(self.ids, self.sources, strict=True)
        ]

    def where(self, keep: Iterable[bool]) -> "Wanted":
        """Keep some of them.

        Args:
            keep: Which, in their order.

        Returns:
            Those.
        """
        kept = np.flatnonzero(np.fromiter(keep, bool, len(self)))
        return Wanted([self.ids[index] for index in kept], [self.sources[index] for index in kept])

    def of_part(self, part: Part | None) -> "Wanted":
        """Keep those of one part; None keeps all."""
        return self if part is None else self.where(map(part.holds, self.ids))


def gather(inputs: "Iterable[str | Path | Scan] | Wanted") -> Wanted:
    """List what there is to segment: files, folders, and tables of them.

    A table is a file `*.csv` or `*.parquet` with a column `path`, absolute or relative to the table's folder, and
    perhaps a column `id`, below the output folder the name of its results. Without one it is the path without its
    ending; of a path elsewhere the name alone. What stands behind a path shows when its turn comes.

    Args:
        inputs: Files and folders as `find_scans` takes them, and tables; what was gathered before stays as it is.

    Returns:
        All of them.

    Raises:
        InputError: As `find_scans`; a table that cannot be read, an id that is no name, two lines with one id or one
            path.

    Example:
        >>> import tempfile
        >>> table = Path(tempfile.mkdtemp()) / "archive.csv"
        >>> _ = table.write_text("path,id\\n1/flair.nii.gz,first\\n/data/2.nii.gz,second\\n")
        >>> gather([table]).ids
        ['first', 'second']
    """
    if isinstance(inputs, Wanted):
        return inputs
    plain: list[str | Path | Scan] = []
    tables: list[Path] = []
    for entry in inputs:
        table = None if isinstance(entry, Scan) else Path(expand(entry, "input"))
        if table and table.suffix.lower() in _TABLES and not table.is_dir():
            tables.append(table)
        else:
            plain.append(entry)
    scans = find_scans(plain)
    ids, sources = [scan.id for scan in scans], list[Scan | str](scans)
    for table in tables:
        named, paths = _read_list(table)
        ids += named
        sources += paths
    # Also where only upper and lower case differ: some file systems take them for one. Within each that is known.
    if len(tables) + bool(scans) > 1 and len({id.lower() for id in ids}) < len(ids):
        raise InputError("Two of the inputs have scans of one id. Give them in two calls, with two output folders.")
    return Wanted(ids, sources)


def _read_list(file: Path) -> tuple[list[str], list[str]]:
    """Give the ids and the paths of a table."""
    table = _table(file)
    if "path" not in table or not len(table):
        found = ", ".join(map(str, table.columns[:5])) or "nothing"
        raise InputError(f"{file} is no list of scans. Expected rows with a column path. Received: {found}.")
    paths = table["path"].str.rstrip("/")
    if (empty := paths == "").any():
        raise InputError(f"{_line(file, empty.idxmax())} has no path. Give one, or take the line out.")
    whole = paths.where(paths.str.startswith("/"), f"{file.absolute().parent.as_posix().rstrip('/')}/" + paths)
    ids = table["id"] if "id" in table else _names(paths, file)
    if (bad := ids.str.contains(_NO_ID)).any():
        raise InputError(
            f"{_line(file, bad.idxmax())}: {ids[bad.idxmax()]!r} cannot name results. Expected a column id with "
            "relative paths such as patient_1/flair, without . and .. in them."
        )
    _refuse_twice(whole, whole, file, "name the same scan,", "Take one out.")
    _refuse_twice(
        ids.str.lower(),
        ids,
        file,
        "would both be written to",
        "Give each its own id, in a column id, or take one out.",
    )
    return ids.tolist(), whole.tolist()


def _refuse_twice(column: "pd.Series", shown: "pd.Series", file: Path, what: str, cure: str) -> None:
    again = column.duplicated()
    if again.any():
        second = again.idxmax()
        first = (column == column[second]).idxmax()
        raise InputError(f"{_line(file, first)} and {_line(file, second)} {what} {shown[second]}. {cure}")


def _table(file: Path) -> "pd.DataFrame":
    """Read a table's paths and ids as text; lines with nothing in them go, and the others keep their numbers."""
    import pandas as pd

    try:
        if file.suffix.lower() == ".csv":
            names = pd.read_csv(file, dtype=str, nrows=0, encoding="utf-8").columns
            plain = {"dtype": str, "na_filter": False, "encoding": "utf-8", "skip_blank_lines": False}
            table = pd.read_csv(file, usecols=[name for name in names if name in _COLUMNS] or None, **plain)
        else:
            optional_import("pyarrow", "cluster")
            table = pd.read_parquet(file)
            table = table[[name for name in table if name in _COLUMNS] or table.columns]
            table = table.astype(object).where(table.notna(), "").astype(str)
    except InputError:
        raise
    except Exception as error:  # pandas raises many kinds
        raise InputError(
            f"{file} cannot be read ({first_line(error)}). Expected a table with a column path, and perhaps one id."
        ) from error
    empty = (table == "").all(axis=1)
    return table[~empty] if empty.any() else table


def _names(paths: "pd.Series", file: Path) -> "pd.Series":
    """Make ids of paths."""
    endings = sorted({ending for format in SCAN_FORMATS for ending in format.endings}, key=len, reverse=True)
    below = paths.str.removeprefix(f"{file.absolute().parent.as_posix()}/").str.replace(r"^(\./)+", "", regex=True)
    below = below.where(~below.str.startswith("/"), below.str.replace(r"^.*/", "", regex=True))
    known = "|".join(ending.replace(".", r"\.") for ending in endings)
    return below.str.replace(f"(?i)(?:{known})$", "", regex=True)


def _line(file: Path, index: int) -> str:
    """Say where in a table a row stands."""
    return f"{file}, line {index + 2}" if file.suffix.lower() == ".csv" else f"{file}, row {index + 1}"
