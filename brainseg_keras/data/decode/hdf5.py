"""HDF5 files written so that a full disk is an error and not a crash of the HDF5 library."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import h5py


@contextlib.contextmanager
def create_hdf5(path: str | Path) -> Iterator[tuple["h5py.File", Callable[[], None]]]:
    """Create an HDF5 file.

    HDF5 cannot close a file whose disk is full: it keeps what it could not write, and when it tries again the process
    ends in a segmentation fault. So it writes through a file of ours, which keeps the first error for itself, lets HDF5
    close in peace, and raises the error then.

    Args:
        path: The file to write; give `write_whole`'s path, so that a failed one does not stay.

    Yields:
        The open file, and a function to call now and then while it grows: it raises the error that there has been.

    Raises:
        OSError: Not all of it could be written.

    Example:
        >>> import tempfile
        >>> with create_hdf5(tempfile.mkdtemp() + "/numbers.h5") as (file, check):
        ...     file["numbers"] = [1, 2, 3]
        ...     check()
    """
    # This file is loaded with every format.
    import h5py

    with Path(path).open("wb+", buffering=0) as raw:
        sink = _Sink(raw, path)
        try:
            with h5py.File(sink, "w") as file:
                yield file, sink.check
        finally:
            # Also where HDF5 stumbled over what it could not write: this is the cause.
            sink.check()


class _Sink(io.RawIOBase):
    """What h5py needs of a file; the first error is kept, and what comes after it goes nowhere."""

    def __init__(self, raw: io.FileIO, path: str | Path):
        super().__init__()
        self._raw = raw
        self._path = path
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the error that was kept."""
        if self._error:
            raise OSError(self._error.errno, self._error.strerror, str(self._path)) from self._error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def readinto(self, buffer: memoryview) -> int:
        return self._raw.readinto(buffer)

    def write(self, data: memoryview) -> int:
        view = memoryview(data).cast("B")
        written = 0
        while written < len(view) and self._error is None:
            with self._keeping_the_error():
                written += self._raw.write(view[written:])
        return len(view)

    def truncate(self, size: int | None = None) -> None:
        with self._keeping_the_error():
            self._raw.truncate(size)

    @contextlib.contextmanager
    def _keeping_the_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._error = self._error or error
