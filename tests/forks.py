"""The command line in a process forked from one that has its imports done: a run costs its own seconds alone."""

import multiprocessing
import os
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
# Modules alone: a TensorFlow that has run an operation does not survive a fork.
FORKS.set_forkserver_preload(
    [
        "tensorflow",
        "tf2onnx",
        "onnxruntime",
        "ai_edge_litert.interpreter",
        "nibabel",
        "sklearn.metrics",
        "brainseg_keras.cli",
        "brainseg_keras.export",
        "brainseg_keras.inference.predict",
        "brainseg_keras.models.diagram",
        "brainseg_keras.reports.evaluate",
        "brainseg_keras.reports.tune",
        "brainseg_keras.training.loop",
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
        process = FORKS.Process(target=_run, args=(list(map(str, arguments)), str(cwd), words, largest_file))
        before = _state(cwd, watch)
        process.start()
        # The child says when it begins, so that a delay is not spent on the fork.
        while not (Path(words) / "begun").exists() and process.exitcode is None:
            time.sleep(_STEP)
        begun = time.monotonic()
        while watch and process.exitcode is None and _state(cwd, watch) == before:
            time.sleep(_STEP)
        first_write = time.monotonic() - begun
        process.join(timeout if kill_after is None else kill_after)
        if process.exitcode is None:
            process.kill()
            process.join()
            assert kill_after is not None, f"{arguments} hung. It said: {_said(words, 'stderr')}"
        seconds = time.monotonic() - begun
        return Answer(process.exitcode, _said(words, "stdout"), _said(words, "stderr"), seconds, first_write)


def _run(arguments, cwd, words, largest_file):
    from brainseg_keras.cli import main

    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(Path(words) / name, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(cwd)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    sys.argv = ["brainseg", *arguments]
    (Path(words) / "begun").touch()
    main()


def _state(folder, pattern):
    """Names and times of files; one that is moved or removed meanwhile is one that changed."""
    found = set()
    for file in Path(folder).rglob(pattern) if pattern else ():
        try:
            found.add((file, file.stat().st_mtime_ns))
        except FileNotFoundError:
            found.add((file, None))
    return found


def _said(words, name):
    file = Path(words) / name
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
