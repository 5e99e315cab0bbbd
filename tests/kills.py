"""Commands that are killed at a random moment, and what has to hold afterwards."""

import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import forks
import whole

#: Columns of history.csv and entries of run.json that time decides, or that tell of files before the last.
TIMED = ("seconds", "images_per_second", "previous")


@dataclass(frozen=True)
class Undisturbed:
    """What a command does that nobody kills."""

    files: dict
    answer: forks.Answer


class Trials:
    """Kills tasks, each time in a folder of its own.

    Args:
        folder: Where to work.
        rng: Draws the moments.
    """

    def __init__(self, folder, rng):
        self.faults = []
        self.kills = 0
        self._folder = Path(folder)
        self._rng = rng
        self._known = {}

    def run(self, task, kills):
        """Kill a task so often, over as many trials as that takes."""
        self.kills = 0
        while self.kills < kills:
            self.trial(task, min(task.kills, kills - self.kills))

    def trial(self, task, kills):
        """Kill a task so often in a row, look at its files each time, let it end and compare with one undisturbed."""
        expected = self._known.get(task.name) or self._undisturbed(task)
        folder = self._new_folder()
        arguments, limit = task.arguments, self.kills + kills
        while True:
            dying = self.kills < limit
            answer = self._start(task, arguments, folder, expected, dying)
            if answer.code == -signal.SIGKILL:
                self.kills += 1
                self._look(task, folder)
                whole.age(folder)
                arguments = _next(task, folder)
            else:
                break
        if answer.code and not _is_finished(answer):
            self._fault(task, folder, f"after a kill exit code {answer.code}: {answer.stderr[-2000:]}")
        else:
            self._compare(task, folder, expected)
        shutil.rmtree(folder)

    def _undisturbed(self, task):
        folder = self._new_folder()
        answer = forks.brainseg(*task.arguments, cwd=folder, watch=task.watch)
        assert answer.code == 0, answer.stderr
        self._known[task.name] = Undisturbed(_comparable(whole.contents(folder)), answer)
        shutil.rmtree(folder)
        return self._known[task.name]

    def _start(self, task, arguments, folder, expected, dying):
        if not dying:
            return forks.brainseg(*arguments, cwd=folder)
        # Half of them while it writes: that is a small part of a command that has a network to prepare.
        if self._rng.random() < 0.5:
            delay = self._rng.uniform(0, expected.answer.seconds)
            return forks.brainseg(*arguments, cwd=folder, kill_after=delay)
        delay = self._rng.uniform(0, expected.answer.seconds - expected.answer.first_write)
        return forks.brainseg(*arguments, cwd=folder, kill_after=delay, watch=task.watch)

    def _look(self, task, folder):
        try:
            whole.contents(folder)
        except Exception as error:  # whatever a reader says of a file that is not whole
            self._fault(task, folder, f"not whole: {error!r} {error.__notes__}")
        unknown, _ = whole.strays(folder)
        if unknown:
            self._fault(task, folder, f"left behind: {_names(unknown)}")

    def _compare(self, task, folder, expected):
        try:
            found = _comparable(whole.contents(folder))
        except Exception as error:  # as above
            self._fault(task, folder, f"not whole at the end: {error!r} {error.__notes__}")
            return
        missing = sorted(found.keys() ^ expected.files.keys())
        if missing:
            self._fault(task, folder, f"there or absent, unlike undisturbed: {', '.join(missing)}")
        unequal = [name for name in found.keys() & expected.files.keys() if found[name] != expected.files[name]]
        if unequal:
            self._fault(task, folder, f"not as undisturbed: {', '.join(sorted(unequal))}")
        unknown, scratch = whole.strays(folder)
        if unknown + scratch:
            self._fault(task, folder, f"never removed: {_names(unknown + scratch)}")

    def _fault(self, task, folder, text):
        self.faults.append(f"{task.name}, {folder.name}: {text}")

    def _new_folder(self):
        folder = self._folder / f"trial-{time.monotonic_ns()}"
        folder.mkdir()
        return folder


def _next(task, folder):
    """Repeat the command; a training that has begun a run is continued."""
    if task.arguments[0] == "train" and (folder / "run" / "run.json").is_file():
        return ("train", "--resume", "run")
    return task.arguments


def _is_finished(answer):
    return answer.code == 2 and "is finished" in answer.stderr


def _comparable(files):
    """Leave out what time decides."""
    found = dict(files)
    for name, value in files.items():
        if "tfevents" in name or "/ledger/" in name:
            del found[name]
        elif name.endswith("ledger.csv"):
            keep = [index for index, column in enumerate(value[0]) if column not in ("seconds", "time")]
            found[name] = [[row[index] for index in keep] for row in value]
        elif name.endswith("history.csv"):
            keep = [index for index, column in enumerate(value[0]) if column not in TIMED]
            # As numbers: a resumed run writes 1.0 for the first epoch, where another writes 1.
            found[name] = [[float(row[index]) for index in keep] for row in value[1:]]
        elif name.endswith("run.json"):
            progress = {key: entry for key, entry in value["progress"].items() if key not in TIMED}
            found[name] = value | {"started": None, "progress": progress}
        elif name.endswith("curves.png"):
            found[name] = None
    return found


def _names(paths):
    return ", ".join(path.name for path in paths)
