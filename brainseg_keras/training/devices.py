"""What a training is spread over: devices of this process, and processes beside it. Loads without Keras."""

from dataclasses import dataclass

from brainseg_keras import ranges
from brainseg_keras.errors import InputError


@dataclass(frozen=True)
class Devices:
    """The devices and processes that train one network. No part of the run: it may go on with others.

    Batch size, learning rate and the meaning of a step are those of all together, as they would be of one device.

    Args:
        count: Devices of this process that take part: its first GPUs, or parts of its CPU where it has no GPU.
        coordinator: `HOST:PORT` of process 0, where the others find it; None where there is one process.
        processes: How many train together, on one host or on several; each has `count` devices.
        index: Which of them this is, from 0. Process 0 validates, says how it goes and writes the run.

    Raises:
        InputError: A number out of its range, or a coordinator where none is needed, or the other way round.

    Example:
        >>> Devices(4, "node1:3456", processes=2, index=1).total
        8
    """

    count: int = 1
    coordinator: str | None = None
    processes: int = 1
    index: int | None = None

    def __post_init__(self) -> None:
        """Refuse what does not fit together, before anything is loaded."""
        ranges.DEVICES.check("devices", self.count)
        ranges.PROCESSES.check("processes", self.processes)
        if self.processes == 1:
            if self.coordinator is not None or self.index:
                raise InputError(
                    "A coordinator and a process index are of several processes. Received: "
                    f"coordinator={self.coordinator!r}, process_index={self.index}. Say how many there are, such as "
                    "--processes 2, or leave these out."
                )
            return
        if self.coordinator is None:
            raise InputError(
                f"{self.processes} processes need a place to meet: give all of them the same --coordinator HOST:PORT, "
                "an address of the machine of process 0 and a free port."
            )
        if self.index is None:
            raise InputError(
                f"Each of {self.processes} processes has a number of its own: give --process-index 0 to the first, "
                f"and so on to {self.processes - 1}."
            )
        ranges.PROCESS_INDEX.check("process_index", self.index)
        if self.index >= self.processes:
            raise InputError(
                f"process_index is a whole number from 0 to {self.processes - 1}, one below processes. Received: "
                f"{self.index}."
            )
        _ = self.address

    @property
    def total(self) -> int:
        """Devices of all processes."""
        return self.count * self.processes

    @property
    def first(self) -> bool:
        """Whether this is process 0."""
        return not self.index

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the coordinator."""
        host, _, port = (self.coordinator or "").rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
            raise InputError(
                "coordinator is HOST:PORT, such as node1:3456, with a port from 1 to 65535. Received: "
                f"{self.coordinator!r}."
            )
        return host, int(port)

    def check_batch(self, batch_size: int) -> None:
        """Refuse a batch that cannot be cut into equal parts.

        Args:
            batch_size: Slices in a batch of all devices together.

        Raises:
            InputError: It cannot.

        Example:
            >>> Devices(2).check_batch(8)
        """
        if batch_size % self.total:
            fitting = sorted(
                {max(self.total, batch_size // self.total * self.total), -(-batch_size // self.total) * self.total}
            )
            raise InputError(
                f"A batch is cut into equal parts, one a device. Received: batch_size={batch_size} for {self.total} "
                f"devices. Give a --batch-size such as {' or '.join(map(str, fitting))}, or another number of devices."
            )

    def __str__(self) -> str:
        """Say it as a message does."""
        words = f"{self.total} device{'s' if self.total > 1 else ''}"
        return words if self.processes == 1 else f"{words} of {self.processes} processes"
