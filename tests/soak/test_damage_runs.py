"""Thousands of damages to every file of a run, to stores and to exported networks, each met by a command."""

import json
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
from commands import FORKS
from damage import (
    byte_damages,
    key_damages,
    make_world,
    network_damages,
    store_damages,
    table_damages,
    value_damages,
)
from judge import READ_BY, judge
from reliability import record, scale

SEED = 20
COUNT = 1000
#: Seconds for one case, after which a worker is sent SIGALRM, and those after which it is taken for dead.
PATIENCE, LIMIT = 90, 120
MEMORY = 16 << 30


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged") / "world"
    folder.mkdir()
    maker = FORKS.Process(target=make_world, args=(folder,), kwargs={"exports": True})
    maker.start()
    maker.join()
    assert maker.exitcode == 0
    return folder


def draw_cases(world, count):
    """Draw damages and the commands that meet them: each file equally often, whatever the number of its keys."""
    rng = random.Random(SEED)
    pools = {
        file: {
            ".json": lambda file: key_damages(file, json.loads((world / file).read_text())),
            ".yaml": lambda file: key_damages(file, _yaml(world / file)),
            ".csv": table_damages,
            ".keras": network_damages,
            ".h5": store_damages,
        }.get(Path(file).suffix, lambda file: [])(file)
        for file in READ_BY
        if (world / file).exists()
    }
    for damage in value_damages():
        pools[damage.file].append(damage)
    for _ in range(count):
        file = rng.choice(list(pools))
        bytewise = not pools[file] or rng.random() < 0.4
        damage = rng.choice(byte_damages(file, rng) if bytewise else pools[file])
        yield damage, rng.choice(damage.met_by or READ_BY[file])


@pytest.mark.soak
def test_no_damage_ends_in_a_traceback_a_crash_or_a_wrong_answer(world, tmp_path):
    count = round(COUNT * scale())
    workers = [Worker(world, tmp_path / str(number), count, share=number) for number in range(os.cpu_count() or 1)]
    while any(worker.goes_on() for worker in workers):
        time.sleep(0.5)
    faults = [fault for worker in workers for fault in worker.faults]
    record(
        "damage: runs, stores, exports",
        tried=count,
        failed=len(faults),
        what="bytes, keys, columns, arrays or layers of one file changed; a command refuses it with the file's name "
        "and a cure and writes nothing, or goes on rightly",
    )
    assert not faults, f"{len(faults)} of {count}\n\n" + "\n\n".join(faults)


class Worker:
    """A process that tries its share of the cases, and another one after it where it crashes or hangs."""

    def __init__(self, world, folder, count, share):
        folder.mkdir()
        self.faults = []
        self._world, self._folder, self._log = world, folder, folder / "log"
        self._log.touch()
        self._count, self._step = count, os.cpu_count() or 1
        self._start(share)

    def goes_on(self):
        """Look after the process; say whether there is anything left to try."""
        if self._process.is_alive():
            if time.time() - self._log.stat().st_mtime > LIMIT:
                self._process.kill()
            return True
        self._process.join()
        begun, done = self._read()
        if begun is not None and begun not in done:
            # It died amid a case: a crash, or a hang that no signal ends.
            self.faults.append(f"{self._name(begun)}: the process died ({self._process.exitcode})")
            if begun + self._step < self._count:
                self._start(begun + self._step)
                return True
        assert self._process.exitcode == 0 or begun is not None, "the worker did not begin"
        self.faults += [f"{self._name(number)}: {fault}" for number, fault in done.items() if fault]
        return False

    def _start(self, first):
        shutil.rmtree(self._folder / "copy", ignore_errors=True)
        arguments = (self._world, self._folder, self._log, self._count, range(first, self._count, self._step))
        self._process = FORKS.Process(target=_work, args=arguments)
        self._process.start()
        os.utime(self._log)

    def _read(self):
        begun, done = None, {}
        for line in map(json.loads, self._log.read_text().splitlines()):
            begun = line["case"]
            if "fault" in line:
                done[begun] = line["fault"]
        return begun, done

    def _name(self, number):
        damage, command = list(draw_cases(self._world, number + 1))[number]
        return f"case {number}, {damage}, {command}"


def _work(world, folder, log, count, numbers):
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _hang)
    cases = list(draw_cases(world, count))
    with log.open("a") as lines:
        for number in numbers:
            print(json.dumps({"case": number}), file=lines, flush=True)
            signal.alarm(PATIENCE)
            fault = judge(world, *cases[number], folder / "copy")
            signal.alarm(0)
            print(json.dumps({"case": number, "fault": fault}), file=lines, flush=True)


def _hang(number, frame):
    raise TimeoutError(f"not done after {PATIENCE} s")


def _yaml(path):
    import yaml

    return yaml.safe_load(path.read_text())
