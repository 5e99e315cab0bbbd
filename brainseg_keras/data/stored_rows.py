"""Arrays of which the rows stand in a file, and are read and checked when they are asked for."""

import contextlib
import logging
import os
import threading
import zlib
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from brainseg_keras.errors import InputError

_log = logging.getLogger(__name__)


class Extent(NamedTuple):
    """Where an array stands in a file: its rows, and behind them a checksum of each."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


def append_array(file: BinaryIO, array: np.ndarray) -> Extent:
    """Write an array at the end of a file.

    Args:
        file: Open for writing, at its end.
        array: With at least one axis.

    Returns:
        What `OpenRows.rows` takes.

    Raises:
        OSError: The disk is full.

    Example:
        >>> import io
        >>> append_array(io.BytesIO(), np.zeros((2, 3), "uint8"))
        Extent(dtype='|u1', shape=(2, 3), offset=0)
    """
    array, offset = np.ascontiguousarray(array), file.tell()
    sums = np.array([zlib.crc32(row) for row in array.reshape(len(array), -1)], "<u4")
    file.write(array.reshape(-1).view(np.uint8).data)
    file.write(sums.data)
    return Extent(array.dtype.str, array.shape, offset)


class OpenRows:
    """A file of arrays, open as long as any of them is used: it may be removed meanwhile.

    Args:
        file: Open for reading, not buffered.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self._lock = threading.Lock()

    def rows(self, extent: Extent, remake: Callable[[], np.ndarray]) -> "StoredRows":
        """Give an array.

        Args:
            extent: Where it stands.
            remake: Makes it again where it turns out to be damaged.

        Returns:
            Its rows.
        """
        return StoredRows([_Part(self, extent, remake)])

    def read(self, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Read an array of bytes that follow one another; what lies beyond the end of the file is left as it is."""
        array = np.empty(shape, dtype)
        memory = array.reshape(-1).view(np.uint8).data
        done = 0
        while done < len(memory):
            count = self._read_into(memory[done:], offset + done)
            if not count:
                break
            done += count
        return array

    def _read_into(self, memory: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [memory], offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.readinto(memory)


class _Part:
    """One array of one file."""

    def __init__(self, file: OpenRows, extent: Extent, remake: Callable[[], np.ndarray]):
        self.dtype, self.shape = np.dtype(extent.dtype), tuple(extent.shape)
        self._file, self._offset, self._remake = file, extent.offset, remake
        self._size = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        self._sums = file.read(extent.offset + self.shape[0] * self._size, self.shape[:1], np.dtype("<u4"))
        self._made_again: np.ndarray | None = None

    def row(self, number: int) -> np.ndarray:
        if self._made_again is None:
            # A disk that fails is as good as one that holds something else.
            with contextlib.suppress(OSError):
                row = self._file.read(self._offset + number * self._size, self.shape[1:], self.dtype)
                if zlib.crc32(row.reshape(-1)) == self._sums[number]:
                    return row
            self._made_again = self._make_again()
        return self._made_again[number]

    def _make_again(self) -> np.ndarray:
        _log.warning("Prepared slices are damaged on the disk: they are made again from the data.")
        array = self._remake()
        if array.shape != self.shape or array.dtype != self.dtype:
            raise InputError(
                "Prepared slices are damaged on the disk, and the data have changed meanwhile: they gave "
                f"{self.dtype} of shape {self.shape}, and now {array.dtype} of shape {array.shape}. Start again."
            )
        return array


class StoredRows:
    """An array in a file, or several behind one another: indexed along the first axis, as NumPy does.

    Memory holds what was asked for alone. A row that is not as it was written is made again from the data.

    Args:
        parts: Of equal shapes but for the number of rows.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryFile(buffering=0) as file:
        ...     extent = append_array(file, np.arange(6).reshape(3, 2))
        ...     OpenRows(file).rows(extent, lambda: None)[[2, 0]].tolist()
        [[4, 5], [0, 1]]
    """

    def __init__(self, parts: Sequence[_Part]):
        self._parts = tuple(parts)
        self._ends = np.cumsum([part.shape[0] for part in parts])
        self.shape: tuple[int, ...] = (int(self._ends[-1]), *parts[0].shape[1:])
        #: As `np.concatenate` would find it.
        self.dtype = np.result_type(*{part.dtype for part in parts})

    @classmethod
    def concatenate(cls, arrays: Sequence["StoredRows"]) -> "StoredRows":
        """Put arrays behind one another; nothing is read."""
        return cls([part for array in arrays for part in array._parts])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        chosen = np.arange(len(self))[index]
        rows = np.empty((chosen.size, *self.shape[1:]), self.dtype)
        for row, number in enumerate(chosen.ravel()):
            which = int(np.searchsorted(self._ends, number, side="right"))
            part = self._parts[which]
            rows[row] = part.row(int(number - self._ends[which] + part.shape[0]))
        return rows.reshape(*chosen.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Read all of it."""
        return self[:].astype(dtype or self.dtype, copy=False)
