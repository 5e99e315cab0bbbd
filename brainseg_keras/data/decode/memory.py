"""Whether a file fits the memory, decided by its header, before it is decoded."""

import contextlib
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from brainseg_keras.errors import InputError

#: A file takes at most this share of the free memory when decoded: copies are made of it on the way to a mask.
SHARE = 1 / 4
#: Bytes up to which nobody is asked.
_SLICE = 4 * 2**20
#: What is taken for free where the system does not say.
_UNKNOWN = 8 * 2**30


def check_fits(path: str | Path, shape: Sequence[int], *, itemsize: int = 4) -> None:
    """Refuse a file whose header promises more than the memory holds.

    Args:
        path: The file, for the message.
        shape: Of what it holds when decoded.
        itemsize: Bytes of a value in the file; it counts as 4 at least, those of float32.

    Raises:
        InputError: Decoded it would take more than a quarter of the memory that is free, or a side is not above 0.

    Example:
        >>> check_fits("volume.nii", (30_000, 30_000, 300))
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: ...
    """
    sides = [int(side) for side in shape]
    if any(side < 1 for side in sides):
        raise InputError(f"{path} says that its shape is {tuple(sides)}. Its header is damaged: copy it again.")
    needed = math.prod(sides) * max(itemsize, 4)
    # A slice always fits: the system is asked of volumes only, since thousands of slices are read in turn.
    if needed > _SLICE and needed > SHARE * (free := free_memory()):
        raise InputError(
            f"{path} says that its shape is {tuple(sides)}, which is {_gigabytes(needed)} when decoded. At most a "
            f"quarter of the free memory is taken, here {_gigabytes(SHARE * free)}. If its header is right, crop it or "
            "use a larger machine; else copy it again."
        )


def free_memory() -> int:
    """Say how many bytes this process may still take: of the machine, of its container, and by its own limit.

    Returns:
        The least of the three, as far as the system says them.

    Example:
        >>> free_memory() > 0
        True
    """
    found = [_UNKNOWN]
    with contextlib.suppress(ValueError, OSError, AttributeError):
        found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):
        # The word "max" where the container has no limit.
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    if sys.platform != "win32":
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        found += [limit] if limit != resource.RLIM_INFINITY else []
    return min(found)


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
