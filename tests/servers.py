"""Servers in processes of their own, on this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, process, seconds=180):
    for _ in range(4 * seconds):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, f"the server ended with code {process.poll()}"
        time.sleep(0.25)
    raise AssertionError("the server did not start")


def _hear_hangups():
    """Undo nohup, under which these tests may run: a child inherits that hangups are ignored, and the page heeds it."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def start_page(temporary, *models, max_upload=200):
    """Start the page; all that it writes goes below a folder. It may not call out, and says there if it tried.

    Its working folder and home lie deep below that folder: what goes wrong with `..` and `~` stays inside.
    """
    port = free_port()
    script = Path(__file__).with_name("page_server.py")
    command = [
        sys.executable,
        str(script),
        str(temporary / "outside.txt"),
        str(port),
        str(max_upload),
        *map(str, models),
    ]
    home = temporary / "working" / "folder" / "of" / "the" / "server"
    home.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"TMPDIR": str(temporary), "HOME": str(home)}
    # Else the fonts of the machine are listed anew, for seconds.
    environment.setdefault("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib"))
    with (temporary / f"server-{port}.log").open("w") as log:
        process = subprocess.Popen(
            list(command), cwd=home, env=environment, stdout=log, stderr=log, preexec_fn=_hear_hangups
        )
    try:
        wait_for_port(port, process)
    except BaseException:
        process.kill()
        raise
    return process, port
