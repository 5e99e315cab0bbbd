"""Files of a ledger: whole lines, each file of one process, read together in little memory; and the masks on disk."""

import contextlib
import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainseg_keras.errors import InputError, first_line

#: Between the masks of a scan, since no name in a ledger has one.
TAB = "\t"
#: Bytes that are read at a time.
_BLOCK = 1 << 23
#: What `one_line` spells otherwise, and how.
_BREAK, _SPELLED = re.compile(rb"[\x00-\x1f\x7f]"), re.compile(r"%([01][0-9A-F]|7F)")


class Lines:
    """A file of one process, to which whole lines are added.

    Args:
        path: Where it shall be; it is made with its first line.
        header: Names of the columns.

    Example:
        >>> import tempfile
        >>> lines = Lines(Path(tempfile.mkdtemp()) / "new" / "host-1.csv", ("id", "time"))
        >>> lines.append([("a,b", 1)])
        >>> lines.path.read_text()
        'id,time\\n"a,b",1\\n'
    """

    def __init__(self, path: Path, header: Sequence[str]):
        self.path, self._header = path, header
        self._opened: int | None = None

    def append(self, lines: Iterable[Sequence[Any]]) -> None:
        """Add lines in one piece: a process that is killed leaves at most the beginning of the last one.

        Args:
            lines: Their cells, without line breaks.

        Raises:
            OSError: They cannot be written, and then none of them is.
        """
        if self._opened is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._opened = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        start, text = os.fstat(self._opened).st_size, io.StringIO()
        header = [self._header] if start == 0 else []
        csv.writer(text, lineterminator="\n").writerows([*header, *lines])
        data = text.getvalue().encode("utf-8")
        try:
            while data:
                data = data[os.write(self._opened, data) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._opened, start)
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def close(self) -> None:
        """End it; another line begins it anew."""
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None


def read_lines(folder: Path, header: Sequence[str], kinds: Mapping[str, Any]) -> Iterator[pd.DataFrame]:
    """Read the files of all processes, what a killed one left of a line aside.

    Args:
        folder: Where they lie; there may be none.
        header: Names of all their columns, the last of which is never empty.
        kinds: The columns that are wanted, the last one among them, and what each becomes: `str` or `category`.

    Yields:
        Tables of some megabytes of text each.

    Raises:
        InputError: A file that cannot be read.
    """
    for block in _blocks(sorted(folder.glob("*.csv"))):
        try:
            table = pd.read_csv(
                io.BytesIO(block),
                header=None,
                names=list(header),
                usecols=list(kinds),
                dtype=dict(kinds),
                na_filter=False,
                on_bad_lines="skip",
                encoding="utf-8",
                encoding_errors="replace",
            )
        except Exception as error:  # pandas raises many kinds
            raise InputError(
                f"The files in {folder} cannot be read ({first_line(error)}). Remove the damaged one: its scans "
                "are made again."
            ) from error
        last = table[header[-1]]
        yield table[(last.notna() & (last != "")).to_numpy()]


def _blocks(files: Sequence[Path]) -> Iterator[bytes]:
    """Give whole lines of many files at a time, so that thousands of small ones cost little."""
    lines, size = [], 0
    for file in files:
        with file.open("rb") as opened:
            opened.readline()  # the header
            rest = b""
            while block := opened.read(_BLOCK):
                whole, end, rest = (rest + block).rpartition(b"\n")
                lines.append(whole + end)
                size += len(whole)
                if size >= _BLOCK:
                    yield b"".join(lines)
                    lines, size = [], 0
    if size:
        yield b"".join(lines)


def are_there(folder: Path, masks: Iterable[str]) -> np.ndarray:
    """Find out which masks are on disk: each folder is listed once, where to ask for each file would take long.

    Args:
        folder: The output folder.
        masks: Of each scan, below it and in one folder, with `TAB` between them.

    Returns:
        Of each scan whether all of them are there.

    Example:
        >>> are_there(Path("no/such/folder"), ["a_mask.png"]).tolist()
        [False]
    """
    masks = list(masks)
    there, scans = np.zeros(len(masks), bool), defaultdict(list)
    for index, cell in enumerate(masks):
        scans[cell.partition(TAB)[0].rpartition("/")[0]].append(index)
    for below, indices in scans.items():
        names = _names_in(folder, below)
        for index in indices:
            there[index] = all(mask.rpartition("/")[2].encode() in names for mask in masks[index].split(TAB))
    return there


def _names_in(folder: Path, below: str) -> set[bytes]:
    """List the names in a folder as a ledger spells them."""
    for place in (below, _SPELLED.sub(lambda found: chr(int(found[1], 16)), below)):
        with contextlib.suppress(OSError):
            names = os.listdir(os.path.join(os.fsencode(folder), place.encode()))  # noqa: PTH118, PTH208 names are bytes
            return {_BREAK.sub(lambda found: b"%%%02X" % found[0][0], name) for name in names}
    return set()
