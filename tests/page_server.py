"""The page's server for the browser tests: any connection beyond this machine is refused and written down."""

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

from brainseg_keras.app import find_models, serve  # noqa: E402

serve(find_models(MODELS, runs="no/such/folder"), port=int(PORT), max_upload=int(MAX_UPLOAD))
