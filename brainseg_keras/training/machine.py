"""What a run is computed on and with: libraries, processor, commit."""

import os
import platform
import subprocess
from pathlib import Path

import keras

from brainseg_keras._version import installed_version


def versions() -> dict[str, str | None]:
    """Give the versions of what decides a network's numbers.

    Returns:
        Versions by name of the package; None of one that is not installed.

    Example:
        >>> versions()["keras"] == keras.__version__
        True
    """
    names = ("brainseg_keras", "keras", keras.backend.backend(), "numpy", "opencv-python-headless")
    return {name: installed_version(name) for name in names} | {"python": platform.python_version()}


def processor() -> str:
    """Name the processor.

    Returns:
        As the system calls it, such as `Intel(R) Xeon(R) Platinum 8481C`.
    """
    for line in read_cpuinfo().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def read_cpuinfo() -> str:
    """Read what Linux says of the processor; an empty text elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def processor_flags(cpuinfo: str) -> set[str]:
    """Name what a processor can do.

    Args:
        cpuinfo: As `read_cpuinfo` gives it.

    Returns:
        Words such as `avx2`; empty where nothing says.

    Example:
        >>> sorted(processor_flags("model name : AMX 9000\\nflags : fpu avx2"))
        ['avx2', 'fpu']
    """
    lines = [line for line in cpuinfo.splitlines() if line.startswith("flags")]
    return {flag for line in lines for flag in line.partition(":")[2].split()}


def onednn_trouble() -> str | None:
    """Say why TensorFlow computes without oneDNN, with which networks train up to 2.5 times as fast on CPUs.

    Returns:
        The reason and its cure; None where oneDNN is on, or nothing tells.

    Example:
        >>> onednn_trouble() is None
        True
    """
    try:
        from tensorflow.python.util._pywrap_util_port import IsMklEnabled
    except ImportError:
        # Not public: a later version may have it elsewhere.
        return None
    if IsMklEnabled():
        return None
    # Importing this package sets it, unless the user has chosen otherwise.
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "1":
        return "oneDNN is off: unset TF_ENABLE_ONEDNN_OPTS, networks train up to 2.5 times as fast"
    return (
        "oneDNN is off: TensorFlow was imported before brainseg_keras. Import brainseg_keras first, or set "
        "TF_ENABLE_ONEDNN_OPTS=1, and networks train up to 2.5 times as fast"
    )


def git_commit() -> str | None:
    """Name the commit of the code itself, where it runs from a checkout."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
