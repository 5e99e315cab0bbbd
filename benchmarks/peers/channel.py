"""Workers: processes that stay alive and do one job at a time, asked in lines of JSON."""

import json
import os
import queue
import subprocess
import threading
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("worker.py")


class WorkerError(Exception):
    """A worker failed at its job, died or took too long; the message says which."""


class Worker:
    """One contender's process.

    Args:
        python: Interpreter of its environment.
        side: Which file does its jobs: `keras`, `torch`, `ours`, `pictures`.
        options: What that file is told once, such as the package.
        variables: Environment variables.
        log: File for what it prints.
    """

    def __init__(self, python: Path, side: str, options: dict, variables: dict[str, str], log: Path):
        self._log = log
        self._stream = log.open("ab")
        self._process = subprocess.Popen(
            [str(python), str(WORKER), side, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stream,
            env=os.environ | variables,
            text=True,
        )
        self._replies: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._process.stdout:
            self._replies.put(line)
        self._replies.put("")

    def ask(self, job: dict[str, Any], limit: float = 900) -> dict[str, Any]:
        """Give a job and wait for its reply.

        Args:
            job: `do` says what; the rest belongs to it.
            limit: Seconds after which the worker is ended.

        Returns:
            What it answers.

        Raises:
            WorkerError: It failed, died or took longer.
        """
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            line = self._replies.get(timeout=limit)
        except queue.Empty:
            self.close()
            raise WorkerError(f"took longer than {limit:.0f} s") from None
        except OSError:
            line = ""
        if not line:
            raise WorkerError(f"ended by itself with code {self._process.wait()}; see {self._log.name}")
        reply = json.loads(line)
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    @property
    def alive(self) -> bool:
        """Whether it still takes jobs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._stream.close()
