"""Several processes of one training: a free port to meet at, and the command line in each of them."""

import os
import socket
import subprocess
import sys

COMMAND = "from brainseg_keras.cli import main; main()"


def free_address():
    """An address of this machine at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def start(*arguments, backend, cwd):
    """Begin a command in a process that has loaded nothing before."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"KERAS_BACKEND": backend},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_all(count, *arguments, cwd):
    """Begin the same training in so many processes, on JAX."""
    meeting = ["--coordinator", free_address(), "--processes", count]
    return [start(*arguments, *meeting, "--process-index", index, backend="jax", cwd=cwd) for index in range(count)]


def finish(processes, timeout=150):
    """Wait for them: exit code, standard output and standard error of each; none outlives this."""
    try:
        ended = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *streams) for process, streams in zip(processes, ended, strict=True)]
