"""The command line, in a process of its own or in this one."""

import contextlib
import io
import subprocess
import sys

import pytest

from brainseg_keras.cli import run


def brainseg(*arguments, cwd):
    command = [sys.executable, "-c", "from brainseg_keras.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


def here(*arguments):
    """Run a command in this process: its exit code, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as left:
        run(list(arguments))
    return left.value.code or 0, out.getvalue(), err.getvalue()
