"""Segmentation on a Ray cluster: Ray Data hands scans to actors, which hold the network and write masks and rows."""

import logging
import os
import pickle
import platform
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from brainseg_keras.cluster import Place, reason, stream
from brainseg_keras.data.scan_lists import Listed
from brainseg_keras.data.scans import Scan
from brainseg_keras.errors import IncompleteError, InputError
from brainseg_keras.inference.job import JobSettings
from brainseg_keras.inference.ledger import Entry, Key, Ledger
from brainseg_keras.inference.ledger_files import TAB

#: Pieces into which scans are cut: each costs Ray some milliseconds, and at the end hosts wait for the last of them.
_PIECES = 10_000
_log = logging.getLogger(__name__)


def segment_on_cluster(scans: Sequence[Scan | Listed], key: Key, *, ray: Any, settings: JobSettings) -> Iterator[Entry]:
    """Segment scans on all hosts of a cluster; each worker adds its rows to the ledger before it gives them back.

    A worker that is lost is started again where there is room, by Ray, and what it had not finished is done again; what
    it had, it finds in the ledger. A worker takes one processor, or where the cluster has GPUs one of these.

    Args:
        scans: What to segment.
        key: What makes the results here: a worker that has another network is refused.
        ray: The cluster, as `brainseg_keras.cluster.connected` gives it.
        settings: Of the job; its folder is one that all hosts and this process share.

    Yields:
        The entry of each scan, as they are finished. Where a worker was lost, that of a scan which it had finished has
        no rows of summary.csv: they are in the ledger.

    Raises:
        InputError: A host of the cluster sees another folder, network or version.
        OSError: A worker cannot write.
        IncompleteError: The cluster failed as a whole.
    """
    Path(settings.output).mkdir(parents=True, exist_ok=True)
    worker = (settings, Place(), key, datetime.now(UTC).isoformat(timespec="microseconds"))
    said: set[str] = set()
    try:
        for entry, words, fault in stream(ray, partial(_results, worker, list(map(pickle.dumps, scans)))):
            if fault:
                raise fault
            for word in words:
                if word not in said:
                    said.add(word)
                    _log.warning("%s", word)
            yield entry
    except (ray.exceptions.RayError, ray.data.exceptions.ExecutionTimeoutError) as error:
        raise IncompleteError(
            f"The cluster failed ({reason(error)}). What it had finished is kept: go on by the same command with "
            "--continue."
        ) from error


def _results(worker: tuple[Any, ...], scans: list[bytes]) -> Iterator[tuple[Entry | None, list[str], Exception | None]]:
    """Run Ray Data where the cluster is."""
    import pyarrow
    import ray

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    size = -(-len(scans) // _PIECES)
    pieces = [pyarrow.table({"scan": scans[start : start + size]}) for start in range(0, len(scans), size)]
    found = ray.cluster_resources()
    gpus = int(found.get("GPU", 0))
    workers = min(gpus or int(found.get("CPU", 1)), len(pieces))
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=len(pieces), initial_size=max(1, workers))
    results = ray.data.from_arrow(pieces).map_batches(
        _Worker, fn_constructor_args=worker, batch_size=1, compute=pool, num_cpus=1, num_gpus=1 if gpus else None
    )
    for batch in results.iter_batches(batch_size=None, prefetch_batches=0):
        yield from map(pickle.loads, batch["result"])


class _Worker:
    """What an actor holds: the network, and a ledger file of its own."""

    def __init__(self, settings: JobSettings, place: Place, key: Key, began: str):
        import ray

        self._words = _Words()
        self._finished: dict[str, Entry] = {}
        self._fault: Exception | None = None
        if refusal := place.enter(threads=1):
            self._fault = InputError(refusal)
            return
        try:
            self._open(settings, key)
            if ray.get_runtime_context().was_current_actor_reconstructed:
                self._finished = _finished_since(began, self._ledger, key)
                _log.warning("A worker was lost; what it had not finished is done again on %s.", platform.node())
        except (InputError, OSError) as error:
            self._fault = InputError(f"{platform.node()}: {error}")

    def _open(self, settings: JobSettings, key: Key) -> None:
        if not Path(settings.output).is_dir():
            raise InputError(f"no folder {settings.output}. Give an output folder that all hosts share.")
        self._job, self._ledger = settings.open(), Ledger(settings.output)
        # The caller has opened the same network, and heard what is to be said of it.
        self._words.take()
        if self._job.key != key:
            raise InputError(
                f"the network {settings.model} is another one than where the command was given. Give a file that all "
                "hosts share."
            )

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        return {"result": [pickle.dumps(self._result(pickle.loads(scan))) for scan in batch["scan"]]}

    def _result(self, scan: Scan | Listed) -> tuple[Entry | None, list[str], Exception | None]:
        if self._fault:
            return None, [], self._fault
        if scan.id in self._finished:
            return self._finished[scan.id], self._words.take(), None
        try:
            entry = _naming_the_host(self._job.run(scan), scan)
            self._ledger.append(entry)
        except OSError as error:
            return None, [], error
        return entry, self._words.take(), None


def _naming_the_host(entry: Entry, scan: Scan | Listed) -> Entry:
    """Say where a scan is not to be seen: another host may see it."""
    if entry.status != "failed" or os.path.lexists(scan.name):
        return entry
    return replace(
        entry, faults={scan.name: f"{scan.name} is not there on {entry.host}. Give paths that all hosts share."}
    )


def _finished_since(began: str, ledger: Ledger, key: Key) -> dict[str, Entry]:
    """Read what workers finished in this call: one of them was this one, before it was lost."""
    table = ledger.table()
    # By the clocks of several hosts: where one is late, a scan is done again, to the same result.
    table = table[(table["time"] >= began) & (table["model"] == key.model) & (table["settings"] == key.settings)]
    return {
        row.id: Entry(
            id=row.id,
            status=row.status,
            seconds=float(row.seconds),
            input=row.input,
            key=key,
            engine=row.engine,
            masks=tuple(filter(None, row.masks.split(TAB))),
            host=row.host,
            time=row.time,
            rows=(),
            faults={row.id: row.error} if row.error else {},
        )
        for row in table.itertuples()
    }


class _Words(logging.Handler):
    """What this package says in a worker, for the caller to hear."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._kept: list[str] = []
        logging.getLogger("brainseg_keras").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(record.getMessage())

    def take(self) -> list[str]:
        kept, self._kept = self._kept, []
        return kept
