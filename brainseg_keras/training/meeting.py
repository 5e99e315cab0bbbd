"""Where the processes of one training meet, and tell each other what all have to know: lines of JSON over TCP."""

import contextlib
import json
import socket
import time
from types import TracebackType
from typing import Any

from brainseg_keras._version import __version__
from brainseg_keras.errors import InputError, TrainingError
from brainseg_keras.training.devices import Devices

#: Seconds in which all processes have to come.
WAIT = 300.0
#: Seconds for a greeting, for a farewell, and between two calls at a door that is closed.
_GREETING, _FAREWELL, _PAUSE = 10.0, 1.0, 0.2
#: Bytes of the longest line.
_LONGEST = 2**24


class _Line:
    """A connection to another process.

    Args:
        connected: The socket.
        who: What to call the other one.
    """

    def __init__(self, connected: socket.socket, who: str):
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket, self._file = connected, connected.makefile("rb")
        self.who = who

    def send(self, message: dict[str, Any]) -> None:
        """Send a message."""
        try:
            self._socket.settimeout(None)
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise self._gone() from error

    def receive(self, wait: float | None = None) -> dict[str, Any]:
        """Wait for a message, so many seconds, or as long as the other process lives."""
        try:
            self._socket.settimeout(wait)
            return dict(json.loads(self._file.readline(_LONGEST)))
        except (OSError, ValueError, TypeError) as error:
            raise self._gone() from error

    def is_open(self) -> bool:
        """Say whether the other process is still there, while it waits for an answer."""
        try:
            self._socket.settimeout(0)
            return self._socket.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Hang up, when the other end has heard what was said last."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(_FAREWELL)
            while self._socket.recv(2**16):
                pass
        self._file.close()
        self._socket.close()

    def _gone(self) -> TrainingError:
        return TrainingError(
            f"{self.who} ended or cannot be reached. What was kept last is whole: start all processes again, with "
            "--resume."
        )


class Meeting:
    """The processes of one training. What one fails at, all are told when it leaves (`with meeting:`).

    Args:
        index: Which process this is.
        lines: Of process 0, to each other one in their order; of another, to process 0.
        address: Host and port that are free for JAX to meet at.
    """

    def __init__(self, index: int, lines: list[_Line], address: str):
        self.address = address
        self._index, self._lines = index, lines
        self._heard: dict[str, Any] | None = None

    def exchange(self, value: Any = None) -> list[Any]:
        """Tell all processes something; each waits for all.

        Args:
            value: What JSON can hold.

        Returns:
            What each process told, by its index.

        Raises:
            InputError: Another process has refused what it was given.
            TrainingError: Another process failed or ended.
        """
        if self._index:
            self._lines[0].send({"value": value})
            return self._hear(self._lines[0])
        told = [value, *map(self._hear, self._lines)]
        for line in self._lines:
            line.send({"value": told})
        return told

    def __enter__(self) -> "Meeting":
        """Begin."""
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Tell the others why this process goes, if there is a reason, and hang up."""
        for line in self._lines:
            if error is not None:
                with contextlib.suppress(TrainingError):
                    line.send(self._heard or _failure(self._index, error))
            line.close()

    def _hear(self, line: _Line) -> Any:
        message = line.receive()
        if "error" in message:
            self._heard = message
            raise _told(message)
        return message["value"]


def _failure(index: int, error: BaseException) -> dict[str, Any]:
    return {"error": str(error) or type(error).__name__, "index": index, "input": isinstance(error, InputError)}


def _told(message: dict[str, Any]) -> Exception:
    kind = InputError if message["input"] else TrainingError
    return kind(f"Process {message['index']} stopped: {message['error']}")


def meet(devices: Devices, *, wait: float | None = None) -> Meeting:
    """Bring the processes of a training together.

    Args:
        devices: Several processes, and which one this is.
        wait: Seconds in which all have to come; default `WAIT`.

    Returns:
        The meeting, at which all are.

    Raises:
        InputError: Process 0 is not there or cannot listen, another has this process' number, or somebody is missing.

    Example:
        >>> meet(Devices(1, "127.0.0.1:9", processes=2, index=1), wait=0.1)
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: There is no process 0 at 127.0.0.1:9 ...
    """
    deadline = time.monotonic() + (WAIT if wait is None else wait)
    return _receive_all(devices, deadline) if devices.first else _call_first(devices, deadline)


def _receive_all(devices: Devices, deadline: float) -> Meeting:
    host, port = devices.address
    came: dict[int, _Line] = {}
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        server = socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(
            f"Process 0 cannot listen at {devices.coordinator} ({error.strerror or error}). --coordinator is an "
            "address of the machine of process 0 with a free port; a second process with --process-index 0 finds it "
            "taken."
        ) from error
    with server:
        while len(came) < devices.processes - 1:
            server.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                line = _Line(server.accept()[0], "A process")
            except TimeoutError as error:
                # Those who came are told.
                with Meeting(0, list(came.values()), ""):
                    raise _missing(devices, came) from error
            _greet(devices, line, came)
    with socket.create_server((host, 0), family=family) as free:
        address = f"{devices.coordinator.rpartition(':')[0]}:{free.getsockname()[1]}"
    lines = [came[index] for index in sorted(came)]
    for line in lines:
        line.send({"value": address})
    return Meeting(0, lines, address)


def _greet(devices: Devices, line: _Line, came: dict[int, _Line]) -> None:
    """Let a process in, or tell it why not."""
    try:
        hello = line.receive(_GREETING)
        index, processes, version = hello["index"], hello["processes"], hello["version"]
    except (TrainingError, KeyError):
        # Somebody else at the door.
        line.close()
        return
    trouble = None
    if processes != devices.processes:
        trouble = f"Process 0 was told of {devices.processes} processes and process {index} of {processes}."
    elif version != __version__:
        trouble = f"Process 0 has version {__version__} of brainseg_keras and process {index} has {version}."
    elif not isinstance(index, int) or index in {0, *(number for number, other in came.items() if other.is_open())}:
        missing = [number for number in range(1, devices.processes) if number not in came]
        trouble = (
            f"There is a process {index} already. Give each one a --process-index of its own; still missing: "
            f"{', '.join(map(str, missing))}."
        )
    if trouble is None:
        line.who = f"Process {index}"
        came[index] = line
        return
    with contextlib.suppress(TrainingError):
        line.send(_failure(0, InputError(trouble)))
    line.close()


def _missing(devices: Devices, came: dict[int, _Line]) -> InputError:
    missing = [str(index) for index in range(1, devices.processes) if index not in came]
    return InputError(
        f"{len(came) + 1} of {devices.processes} processes came to {devices.coordinator} in time; missing: "
        f"{', '.join(missing)}. Start all of them, each with its own --process-index."
    )


def _call_first(devices: Devices, deadline: float) -> Meeting:
    line = _Line(_connect(devices, deadline), "Process 0")
    line.send({"index": devices.index, "processes": devices.processes, "version": __version__})
    # Nothing more before the answer: what is unread when the other end hangs up would take its last words along.
    answer = line.receive()
    if "error" in answer:
        raise InputError(answer["error"])
    return Meeting(devices.index, [line], answer["value"])


def _connect(devices: Devices, deadline: float) -> socket.socket:
    while True:
        try:
            connected = socket.create_connection(devices.address, timeout=5)
            # On one machine a call to a closed port can end at itself.
            if connected.getsockname() != connected.getpeername():
                return connected
            connected.close()
            trouble: OSError = ConnectionRefusedError("connection refused")
        except OSError as error:
            trouble = error
        if isinstance(trouble, socket.gaierror) or time.monotonic() > deadline:
            raise InputError(
                f"There is no process 0 at {devices.coordinator} ({trouble.strerror or trouble}). Start it there, with "
                f"--coordinator {devices.coordinator} --processes {devices.processes} --process-index 0, or give the "
                "address where it is."
            ) from trouble
        time.sleep(_PAUSE)
