"""Small faults put into the package on purpose, one at a time: do the tests notice?

Run it as it stands for a sample of one part of the package:

    python tests/soak/mutants.py --count 50 --seed 1 --only evaluation

Keras is loaded once and each mutant is a fork of that process, which imports the package from a tree of links in which
one file is changed, and runs the tests of that file alone and the examples in its docstrings. A process of its own for
each would spend 15 s on imports.
"""

import argparse
import ast
import hashlib
import importlib
import inspect
import itertools
import json
import math
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from changes import changed_copies, walk
from suites import EQUIVALENT, TESTS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "brainseg_keras"


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Args:
        file: Below the package, such as `data/splits.py`.
        line: Where it is.
        where: That line.
        before: What stands there, on one line.
        after: What comes instead.
        text: The whole changed file.
        key: Decides whether it is drawn; does not hang on other lines.
    """

    file: str
    line: int
    where: str
    before: str
    after: str
    text: str
    key: str

    def __str__(self) -> str:
        line = f"{self.file}:{self.line}"
        if len(self.before) < 12:
            return f"{line}: `{self.where}`, where `{self.before}` → `{self.after}`"
        same = next((n for n, (a, b) in enumerate(zip(self.before, self.after, strict=False)) if a != b), 0)
        start = "…" + self.before[max(0, same - 20) : same] if same > 20 else self.before[:same]
        before, after = (start + text[same : same + 60] for text in (self.before, self.after))
        return f"{line}: `{before}` → `{after}`"


def mutants_of(file: str, source: str) -> list[Mutant]:
    """List every change of one file; a few do not compile.

    Args:
        file: Its name below the package.
        source: Its text.

    Returns:
        Mutants in the order of the text.
    """
    lines = source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    whole, found, seen = b"".join(lines), [], {}
    for node in walk(ast.parse(source)):
        for old, new in changed_copies(node):
            begin = starts[old.lineno - 1] + old.col_offset
            end = starts[old.end_lineno - 1] + old.end_col_offset
            after = ast.unparse(new)
            put = f"({after})" if isinstance(old, ast.expr) else after
            text = (whole[:begin] + put.encode() + whole[end:]).decode()
            before, where = ast.unparse(old), lines[old.lineno - 1].decode().strip()
            name = f"{file} {where} {before} {after}"
            seen[name] = seen.get(name, 0) + 1
            found.append(Mutant(file, old.lineno, where, before, after, text, f"{name} {seen[name]}"))
    return found


def sample(count: int, seed: int = 0, only: str = "") -> list[Mutant]:
    """Draw mutants; a change elsewhere in the package leaves the others of the sample as they are.

    Args:
        count: How many; fewer where there are not as many.
        seed: Of the draw.
        only: Beginning of the files' names below the package.

    Returns:
        Mutants, those of one file together.
    """
    files = [path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py"))]
    files = [name for name in files if name.startswith(only) and suite_of(name) and not name.endswith("__init__.py")]
    every = [mutant for name in files for mutant in mutants_of(name, (PACKAGE / name).read_text(encoding="utf-8"))]
    every = [mutant for mutant in every if not why_equivalent(mutant)]
    every.sort(key=lambda mutant: hashlib.sha256(f"{seed} {mutant.key}".encode()).digest())
    drawn = itertools.islice(filter(_compiles, every), count)
    return sorted(drawn, key=lambda mutant: (mutant.file, mutant.line))


def _compiles(mutant: Mutant) -> bool:
    try:
        compile(mutant.text, mutant.file, "exec")
    except SyntaxError:
        return False
    return True


def why_equivalent(mutant: Mutant) -> str:
    """Say why no test can see a mutant; an empty text where one should."""
    for file, where, after, why in EQUIVALENT:
        if mutant.file == file and where in mutant.where and after in mutant.after:
            return why
    return ""


def suite_of(file: str) -> tuple[str, ...]:
    """Name the test files that belong to a file of the package."""
    fitting = [name for name in TESTS if file == name or file.startswith(name + "/")]
    names = TESTS[max(fitting, key=len)].split() if fitting else ()
    return tuple(f"tests/test_{name}.py" for name in names)


def suite_with_examples(file: str) -> tuple[str, ...]:
    """Name the tests that a change of a file has to pass: its suite, and the examples in its docstrings."""
    module = "brainseg_keras." + file.removesuffix(".py").replace("/", ".")
    examples = ">>> " in (PACKAGE / file).read_text(encoding="utf-8")
    return suite_of(file) + (f"tests/test_docs.py::test_examples_in_docstrings_run[{module}]",) * examples


# ---- running them


_LIBRARIES = """tensorflow keras cv2 h5py hypothesis matplotlib.pyplot nibabel pandas PIL.Image pydicom pytest
scipy.ndimage scipy.stats sklearn.metrics"""


class _NoProcesses:
    """Leaves out tests that start a process: 10 s and more each, for what others see too."""

    def pytest_collection_modifyitems(self, items: list) -> None:
        items[:] = [item for item in items if not _starts_process(item.function)]


def _starts_process(function: Callable) -> bool:
    used = [function, *(function.__globals__.get(name) for name in function.__code__.co_names)]
    return any("subprocess" in inspect.getsource(one) for one in used if inspect.isfunction(one))


def load_libraries() -> None:
    """Import what every child needs, without letting TensorFlow run anything: its threads do not survive a fork."""
    for name in _LIBRARIES.split():
        importlib.import_module(name)


class Slot:
    """A tree of links to the package in which one file at a time is changed, and the process that runs in it.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        shutil.copytree(
            PACKAGE, folder / "brainseg_keras", copy_function=os.symlink, ignore=shutil.ignore_patterns("__pycache__")
        )

    def start(self, tests: Sequence[str], mutant: Mutant | None = None, limit: float = 1800) -> None:
        """Start the tests in a fork that may take so many seconds of a core."""
        self._changed = mutant and self.folder / "brainseg_keras" / mutant.file
        if self._changed:
            self._changed.unlink()
            self._changed.write_text(mutant.text, encoding="utf-8")
            self._forget()
        self.latest = time.monotonic() + 10 * limit
        self.process = os.fork()
        if not self.process:
            self._run(tests, limit)
        self.end = os.pidfd_open(self.process)

    def _run(self, tests: Sequence[str], limit: float) -> None:
        import hypothesis
        import pytest

        code = 3
        try:
            os.setsid()
            # Seconds of a core and not of the clock: beside other work they are the same.
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit)))
            log = os.open(self.folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.path.insert(0, str(self.folder))
            os.environ["PYTHONPATH"] = str(self.folder)
            os.chdir(ROOT)
            # A failure is enough: the smallest example of it is not worth the minutes.
            quick = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
            hypothesis.settings.register_profile(
                "mutants", phases=quick, database=None, deadline=None, derandomize=True
            )
            hypothesis.settings.load_profile("mutants")
            options = ["-x", "-q", "-n0", "-p", "no:cacheprovider", f"--basetemp={self.folder / 'tests'}"]
            code = int(pytest.main([*options, *tests], plugins=[_NoProcesses()]))
        finally:
            os._exit(code)

    def finish(self) -> str:
        """Collect a process that ended or took too long: `lived`, `killed` or `timed out`."""
        ended, late = select.select([self.end], [], [], 0)[0], time.monotonic() > self.latest
        if not ended and not late:
            return ""
        if late:
            os.killpg(self.process, signal.SIGKILL)
        _, status, used = os.wait4(self.process, 0)
        self.seconds = used.ru_utime + used.ru_stime
        os.close(self.end)
        if self._changed:
            self._changed.unlink()
            self._changed.symlink_to(PACKAGE / self._changed.relative_to(self.folder / "brainseg_keras"))
            self._forget()
        code = os.waitstatus_to_exitcode(status)
        return "timed out" if code in (-signal.SIGKILL, -signal.SIGXCPU) else "killed" if code else "lived"

    def _forget(self) -> None:
        """Remove what was compiled: two versions of one second and size would pass for each other."""
        for compiled in (self._changed.parent / "__pycache__").glob(f"{self._changed.stem}.*"):
            compiled.unlink()


def run(mutants: Iterable[Mutant], *, jobs: int = 1, spare: float = 30) -> list[tuple[Mutant, str]]:
    """Run the tests of each mutant.

    Args:
        mutants: What to try.
        jobs: How many at a time.
        spare: Seconds of a core that a mutant gets beyond three times what its tests take.

    Returns:
        Each mutant with `killed`, `lived` or `timed out`.

    Raises:
        RuntimeError: Tests fail without any change.
    """
    load_libraries()
    mutants, results, usual = list(mutants), [], {}
    with tempfile.TemporaryDirectory(prefix="brainseg-mutants-") as scratch:
        slots = [Slot(Path(scratch) / str(number)) for number in range(jobs)]
        for test in sorted({test for mutant in mutants for test in suite_with_examples(mutant.file)}):
            slots[0].start([test])
            while not (verdict := slots[0].finish()):
                select.select([slots[0].end], [], [], 1)
            usual[test] = slots[0].seconds
            print(f"{usual[test]:5.0f} s for {test}", flush=True)
            if verdict != "lived":
                raise RuntimeError(f"{test} fails as it is:\n{(slots[0].folder / 'log.txt').read_text()[-3000:]}")
        waiting, running = mutants[::-1], {}
        while waiting or running:
            while waiting and len(running) < jobs:
                slot = next(slot for slot in slots if slot not in running)
                running[slot] = waiting.pop()
                tests = suite_with_examples(running[slot].file)
                slot.start(tests, running[slot], spare + 3 * sum(usual[test] for test in tests))
            select.select([slot.end for slot in running], [], [], 1)
            for slot, mutant in list(running.items()):
                if verdict := slot.finish():
                    results.append((running.pop(slot), verdict))
                    print(f"{verdict:9} {slot.seconds:4.0f} s  {mutant}", flush=True)
    return results


def main() -> None:
    """Try a sample and say what lived."""
    parser = argparse.ArgumentParser(description="Put small faults into the package and see whether the tests notice.")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="beginning of the files' names below the package")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("-o", "--output", type=Path, help="JSON file for what became of each")
    options = parser.parse_args()
    results = run(sample(options.count, options.seed, options.only), jobs=options.jobs)
    if options.output:
        told = [{"mutant": str(mutant), "verdict": verdict} for mutant, verdict in results]
        options.output.write_text(json.dumps(told, indent=2), encoding="utf-8")
    lived = [mutant for mutant, verdict in results if verdict == "lived"]
    print(f"\n{len(results) - len(lived)} of {len(results)} were noticed. Those that lived:", *lived, sep="\n")


if __name__ == "__main__":
    main()
