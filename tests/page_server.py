"""The page's server for tests: any connection beyond this machine is refused and written down."""

import sys
from pathlib import Path

OUTSIDE, PORT, MAX_UPLOAD, *MODELS = sys.argv[1:]
LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")


def watch(event, arguments):
    if event == "socket.connect":
        address = arguments[1]
    elif event == "socket.getaddrinfo":
        address = arguments[:1]
    else:
        return
    host = address[0] if isinstance(address, tuple) else None
    if isinstance(host, bytes):
        host = host.decode()
    if host and not str(host).startswith(LOOPBACK):
        with Path(OUTSIDE).open("a") as file:
            file.write(f"{event} {address}\n")
        raise OSError(f"connection to {address} refused by the test")


sys.addaudithook(watch)

from brainseg_keras.cli import main  # noqa: E402

named = [word for model in MODELS for word in ("--model", model)]
sys.argv = ["brainseg", "app", "--runs", "no/such/folder", "--port", PORT, "--max-upload", MAX_UPLOAD, *named]
main()
