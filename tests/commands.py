"""The command line in a process of its own, forked from one that has loaded Keras since that takes seconds; or here."""

import contextlib
import io
import multiprocessing
import os
import subprocess
import sys
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from brainseg_keras.cli import run

FORKS = multiprocessing.get_context("forkserver")
# Loaded once, in the server: none of them starts TensorFlow's threads, which a fork would lose.
FORKS.set_forkserver_preload(
    ["brainseg_keras.cli", "brainseg_keras.export", "brainseg_keras.reports.evaluate", __name__]
)


def brainseg(*arguments, cwd, timeout=300):
    """Run a command; gives exit code, standard output and standard error, as `subprocess.run` does."""
    with TemporaryDirectory() as folder:
        streams = [Path(folder) / name for name in ("out", "err")]
        process = FORKS.Process(target=run_forked, args=(list(map(str, arguments)), cwd, streams, dict(os.environ)))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, timeout)
        out, err = (stream.read_text(encoding="utf-8", errors="surrogateescape") for stream in streams)
        return subprocess.CompletedProcess(arguments, process.exitcode, out, err)


def fresh_brainseg(*arguments, cwd, timeout=300):
    """Run a command in a process that has loaded nothing before: slower, and what a user does."""
    command = [sys.executable, "-c", "from brainseg_keras.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=timeout)


def run_forked(arguments, cwd, streams, environment):
    """Be the command line, in a child of the fork server; does not return."""
    for descriptor, stream in zip((1, 2), streams, strict=True):
        opened = os.open(stream, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", encoding="utf-8", buffering=1) for n in (1, 2))
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["brainseg", *arguments]
    from brainseg_keras.cli import main

    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Not sys.exit: the handlers of the server's libraries are not this process's.
        os._exit(code)


def here(*arguments):
    """Run a command in this process: its exit code, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as left:
        run(list(arguments))
    return left.value.code or 0, out.getvalue(), err.getvalue()
