"""Ray: a cluster that is started for a call, or found at an address. The extra `cluster` brings it."""

import contextlib
import logging
import os
import platform
import re
import socket
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from brainseg_keras._version import __version__
from brainseg_keras.errors import InputError, first_line, optional_import

#: What `--cluster` takes for a cluster of this machine alone, which ends with the call.
LOCAL = "ray"
#: Seconds in which a cluster has to answer at its address.
PATIENCE = 10
_ADDRESS = re.compile(r"(ray://)?(\[[0-9a-fA-F:.]+\]|[^\s/:\[\]]+):(\d{1,5})")
#: Read by libraries when they are loaded.
_THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
Item = TypeVar("Item")


def check_address(address: str) -> str:
    """Refuse what is no address of a cluster, before anything is loaded.

    Args:
        address: `ray`, `auto`, `HOST:PORT` or `ray://HOST:PORT`.

    Returns:
        The address.

    Raises:
        InputError: It is something else.

    Example:
        >>> check_address("head:6379")
        'head:6379'
    """
    parts = _ADDRESS.fullmatch(address)
    if address in (LOCAL, "auto") or (parts and 0 < int(parts[3]) < 65536):
        return address
    raise InputError(
        "cluster is ray (this machine alone), auto (the cluster that runs on this machine), HOST:PORT or "
        f"ray://HOST:PORT. Received: {address!r}."
    )


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Start Ray on this machine, or find a cluster; what was started ends, what was found stays.

    Args:
        address: As for `check_address`.

    Yields:
        The module `ray`, ready for work.

    Raises:
        InputError: Ray is missing, or no cluster answers at the address within 10 seconds, or half a minute where
            something else listens there, or a cluster with another token.

    Example:
        >>> with connected("127.0.0.1:1"):
        ...     pass
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: No Ray cluster answers at 127.0.0.1:1 ...
    """
    check_address(address)
    ray = optional_import("ray", "cluster")
    optional_import("ray.data", "cluster")
    if parts := _ADDRESS.fullmatch(address):
        _knock(parts[2].strip("[]"), int(parts[3]), address)
    # A cluster that is started here reports nothing to its makers; nothing else of this package calls out either.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        with warnings.catch_warnings(action="ignore"):
            if address == LOCAL:
                ray.init("local", include_dashboard=False, **quiet)
            else:
                ray.init(address, **quiet)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        # Other versions of Ray or of Python there are a RuntimeError.
        raise _no_cluster(address, first_line(error)) from error
    # What the cluster reports of lost workers Ray prints to standard output, and no setting of its own turns that off.
    ray._private.worker._worker_logs_enabled = False
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(host: str, port: int, address: str) -> None:
    """Find out whether something that speaks as Ray does listens there: Ray itself would try for minutes."""
    try:
        with socket.create_connection((host, port), timeout=PATIENCE):
            pass
    except OSError as error:
        raise _no_cluster(address, error.strerror or first_line(error)) from error
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        # Ray alone knows its certificates.
        return
    grpc = optional_import("grpc", "cluster")
    with grpc.insecure_channel(f"[{host}]:{port}" if ":" in host else f"{host}:{port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=PATIENCE)
        except grpc.FutureTimeoutError as error:
            raise _no_cluster(address, f"what listens there said nothing for {PATIENCE} s") from error


def _no_cluster(address: str, why: str) -> InputError:
    if address == LOCAL:
        return InputError(f"Ray cannot be started here ({why}). Leave --cluster out, or give a cluster's address.")
    return InputError(
        f"No Ray cluster answers at {address} ({why}). Start one with 'ray start --head', give the address that it "
        "prints (port 6379 for HOST:PORT, 10001 for ray://HOST:PORT), with RAY_AUTH_MODE=token where it asks for a "
        "token; or give --cluster ray for this machine alone."
    )


def reason(error: Exception) -> str:
    """Give the line that says what happened, of what Ray raises.

    Args:
        error: The error, which may hold the traceback of another process.

    Returns:
        The last line of a traceback, else the first line.

    Example:
        >>> reason(RuntimeError("The actor died.\\n  Traceback ...\\nModuleNotFoundError: No module named 'keras'"))
        "ModuleNotFoundError: No module named 'keras'"
    """
    lines = str(error).splitlines()
    return lines[-1] if lines and re.match(r"[\w.]+: ", lines[-1]) else first_line(error)


def stream(ray: Any, begin: Callable[[], Iterator[Item]]) -> Iterator[Item]:
    """Go through what a function gives that has to run inside the cluster.

    Through `ray://` this process is a guest: Ray Data would not run here, so that the function runs on the head node.

    Args:
        ray: As `connected` gives it.
        begin: Makes the iterator; items are not None.

    Yields:
        The items.
    """
    if not ray.util.client.ray.is_connected():
        yield from begin()
        return
    source = ray.remote(num_cpus=0, resources={"node:__internal_head__": 0.001})(_Source).remote(begin)
    while (item := ray.get(source.next_item.remote())) is not None:
        yield item


class _Source:
    """An iterator on another machine."""

    def __init__(self, begin: Callable[[], Iterator[Any]]):
        self._items = begin()

    def next_item(self) -> Any:
        return next(self._items, None)


class Place:
    """Where a call was made, for workers to work as if they stood there.

    Example:
        >>> Place().enter() is None
        True
    """

    def __init__(self) -> None:
        self._folder = str(Path.cwd())
        self._host = platform.node()
        self._version = __version__

    def enter(self, threads: int | None = None) -> str | None:
        """Stand in the caller's folder, so that relative paths mean the same; called in a worker, before its work.

        Args:
            threads: What the libraries of this process may start, since other workers share the machine; None leaves
                it to them.

        Returns:
            Why this worker cannot stand in for the caller, or None.
        """
        if threads:
            os.environ.update(dict.fromkeys(_THREADS, str(threads)))
        if __version__ != self._version:
            return f"{platform.node()} has brainseg_keras {__version__}, {self._host} has {self._version}."
        try:
            os.chdir(self._folder)
        except OSError as error:
            return (
                f"{platform.node()} cannot enter {self._folder} ({error.strerror}), where the command was given on "
                f"{self._host}. Give it in a folder that all hosts share."
            )
        return None
