"""Servers in processes of their own, on this machine."""

import socket
import time


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, process, seconds=90):
    for _ in range(4 * seconds):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, f"the server ended with code {process.poll()}"
        time.sleep(0.25)
    raise AssertionError("the server did not start")
