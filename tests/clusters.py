"""Ray clusters on this machine: each node a tree of processes of its own, which can be killed."""

import contextlib
import csv
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

#: Seconds in which a node has to be there.
PATIENCE = 90


#: A token of their own: without one, Ray would take or make the one in the user's home.
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


class Node:
    """What `ray start` starts: one processor, and no more."""

    def __init__(self, *words):
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", "--num-gpus=0"]
        command += ["--node-ip-address=127.0.0.1", "--disable-usage-stats", f"--object-store-memory={100 * 2**20}"]
        self.process = subprocess.Popen(
            [*command, *words],
            env=os.environ | TOKEN,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )

    def kill(self):
        """End it as a power cut would: all of its processes at once."""
        for number in (self.process.pid, *_below(self.process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.wait()


def _end_with_parent():
    """Have the system send this process SIGTERM when the test's process is gone, however that ended."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@contextlib.contextmanager
def two_nodes():
    """Start a cluster of two nodes; gives its address, that of its client server, and the second node."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets have short paths
    port, client = free_port(), free_port()
    head = second = None
    try:
        head = Node(
            "--head",
            "--include-dashboard=false",
            f"--port={port}",
            f"--ray-client-server-port={client}",
            f"--temp-dir={folder}",
        )
        wait_for(lambda: listens(port) and listens(client), "the head node")
        second = Node(f"--address=127.0.0.1:{port}")
        wait_for(lambda: _alive(f"127.0.0.1:{port}") == 2, "the second node")
        yield f"127.0.0.1:{port}", f"ray://127.0.0.1:{client}", second
    finally:
        for node in filter(None, (second, head)):
            node.kill()
        shutil.rmtree(folder, ignore_errors=True)


def write_archive(folder, scans, broken, *, lone=False):
    """Write scans, the first so many of them without a picture in their files, and a list of all.

    Args:
        folder: Where to.
        scans: How many.
        broken: How many of them.
        lone: Each is one slice; else a patient of six.
    """
    from brainseg_keras.data.phantom.lgg import write_phantom

    write_phantom(folder, patients=max(3, -(-scans // 6)) if lone else scans, slices=6, size=32, seed=4)
    patients = sorted(path for path in (folder / "kaggle_3m").iterdir() if path.is_dir())
    slices = [file for patient in patients for file in sorted(patient.glob("*.tif")) if "_mask" not in file.name]
    found = (slices if lone else patients)[:scans]
    for scan in found[:broken]:
        for file in [scan] if lone else scan.glob("*.tif"):
            file.write_bytes(b"no picture")
    table = folder / "archive.csv"
    table.write_text("\n".join(["path,id", *(f"{path},{path.stem}" for path in found)]) + "\n")
    return table


def results(masks):
    """Read all that may not hang on who did it: pictures, rows of summary.csv and of ledger.csv, in some order."""
    pictures = {str(file.relative_to(masks)): file.read_bytes() for file in masks.rglob("*.png")}
    summary = sorted(_rows(masks / "summary.csv"))
    ledger = [{**row, "seconds": "", "time": ""} for row in map(dict, _rows(masks / "ledger.csv"))]
    return pictures, summary, sorted(tuple(row.items()) for row in ledger)


def attempts(masks):
    """The scans that workers finished, each as often as that happened."""
    return sorted(dict(row)["id"] for file in (masks / "ledger" / "scans").glob("*.csv") for row in _rows(file))


def _rows(file):
    with file.open(encoding="utf-8", newline="") as opened:
        return [tuple(row.items()) for row in csv.DictReader(opened)]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as opened:
        return opened.getsockname()[1]


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def wait_for(holds, what, patience=PATIENCE):
    """Wait until something holds, which is looked at again and again."""
    until = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < until, f"{what} was waited for in vain"
        time.sleep(0.05)


def _alive(address):
    """Count the nodes that the head knows."""
    code = f"import ray; ray.init({address!r}, log_to_driver=False); print(sum(node['Alive'] for node in ray.nodes()))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | TOKEN, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def named(parent, part):
    """Numbers of the processes below one whose command has this in it."""
    found = []
    for number in _below(parent):
        with contextlib.suppress(OSError):
            if part in Path(f"/proc/{number}/cmdline").read_text():
                found.append(number)
    return found


def _below(parent):
    """Numbers of the processes that a process has started, and they in turn."""
    children = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            number = int(entry.name)
            # Behind the name, which may have any sign: state and parent.
            children.setdefault(int((entry / "stat").read_text().rpartition(")")[2].split()[1]), []).append(number)
    found, left = [], [parent]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found
