"""The command line in a forked process that is killed at some moment, or may write no more than so much."""

import os
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from commands import FORKS, run_forked

# What `commands` loads, and what the other commands need besides.
FORKS.set_forkserver_preload(
    [
        "commands",
        "brainseg_keras.cli",
        "brainseg_keras.export",
        "brainseg_keras.models.diagram",
        "brainseg_keras.reports.evaluate",
        "brainseg_keras.reports.tune",
        "brainseg_keras.training.loop",
        "ai_edge_litert.interpreter",
        "nibabel",
        "onnxruntime",
        "sklearn.metrics",
        "tensorflow",
        "tf2onnx",
    ]
)
_STEP = 0.002


@dataclass(frozen=True)
class Answer:
    """How a command ended.

    Args:
        code: Its exit code; below 0 the number of the signal that ended it.
        stdout: What it printed.
        stderr: What it said.
        seconds: How long it took.
        first_write: Seconds until something changed among the files that were watched; `seconds` if nothing did.
    """

    code: int
    stdout: str
    stderr: str
    seconds: float
    first_write: float


def brainseg(*arguments, cwd, kill_after=None, watch=None, largest_file=None, timeout=300):
    """Run the command line.

    Args:
        *arguments: Of the command line.
        cwd: Folder to run it in.
        kill_after: Seconds after which it is sent SIGKILL; None lets it end.
        watch: A pattern of files below `cwd`: the seconds begin when one of them appears or changes, and not at once.
        largest_file: Bytes that no file may exceed, as `ulimit -f` says it.
        timeout: Seconds after which it has hung.
    """
    with tempfile.TemporaryDirectory(prefix="brainseg-fork-") as words:
        begun, *streams = (Path(words) / name for name in ("begun", "out", "err"))
        process = FORKS.Process(
            target=_run, args=(begun, largest_file, list(map(str, arguments)), cwd, streams, dict(os.environ))
        )
        before = _state(cwd, watch)
        process.start()
        # The child says when it begins, so that a delay is not spent on the fork.
        while not begun.exists() and process.exitcode is None:
            time.sleep(_STEP)
        start = time.monotonic()
        while watch and process.exitcode is None and _state(cwd, watch) == before:
            time.sleep(_STEP)
        first_write = time.monotonic() - start
        process.join(timeout if kill_after is None else kill_after)
        if process.exitcode is None:
            process.kill()
            process.join()
            assert kill_after is not None, f"{arguments} hung. It said: {_said(streams[1])}"
        return Answer(process.exitcode, *map(_said, streams), time.monotonic() - start, first_write)


def _run(begun, largest_file, *command):
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    begun.touch()
    run_forked(*command)


def _state(folder, pattern):
    """Names and times of files; one that is moved or removed meanwhile is one that changed."""
    found = set()
    for file in Path(folder).rglob(pattern) if pattern else ():
        try:
            found.add((file, file.stat().st_mtime_ns))
        except FileNotFoundError:
            found.add((file, None))
    return found


def _said(stream):
    return stream.read_text(encoding="utf-8", errors="replace") if stream.exists() else ""
