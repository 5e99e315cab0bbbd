"""Whether the tests notice small faults; and that those who put the faults in do so."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import mutants
import pytest
from reliability import record, record_list, scale

SOURCE = '''
def f(a: int = 3, *, b: "x | y" = None) -> "x + y":
    """A text with 1 < 2."""
    if a < 2 and not b:
        raise ValueError(f"{a + 1} is too small")
    g(a, strict=True, maxsize=8, at=1e-6)
    return sorted(np.sum(a, axis=-1))
'''
CHANGED = [
    "3 → 4",
    "3 → 2",
    "a < 2 and (not b) → a < 2 or not b",
    "a < 2 and (not b) → not (a < 2 and (not b))",
    "a < 2 → a <= 2",
    "a < 2 → a >= 2",
    "2 → 3",
    "2 → 1",
    "not b → b",
    "raise ValueError(f'{a + 1} is too small') → pass",
    "g(a, strict=True, maxsize=8, at=1e-06) → pass",
    "g(a, strict=True, maxsize=8, at=1e-06) → g(a, strict=True, maxsize=8)",
    "return sorted(np.sum(a, axis=-1)) → return None",
    "sorted(np.sum(a, axis=-1)) → sorted(np.sum(a, axis=-1), reverse=True)",
    "np.sum(a, axis=-1) → np.sum(a)",
    "np.sum(a, axis=-1) → np.mean(a, axis=-1)",
    "-1 → 1",
    "1 → 2",
    "1 → 0",
]


def test_what_is_changed():
    """Everything that a program does, once each; no annotation, no message, no docstring."""
    made = mutants.mutants_of("f.py", SOURCE)
    assert sorted(f"{mutant.before} → {mutant.after}" for mutant in made) == sorted(CHANGED)
    whole = ast.dump(ast.parse(SOURCE))
    dumps = [ast.dump(ast.parse(mutant.text)) for mutant in made]
    assert len(set(dumps)) == len(dumps) and whole not in dumps
    assert {mutant.line for mutant in made} == {2, 4, 5, 6, 7}
    told = [str(mutant) for mutant in made]
    assert "f.py:4: `if a < 2 and not b:`, where `a < 2` → `a <= 2`" in told


def test_a_sample_is_that_of_its_seed_and_hangs_on_nothing_else():
    first, again, other = (mutants.sample(12, seed, "evaluation/s") for seed in (1, 1, 2))
    assert first == again != other
    assert set(mutants.sample(6, 1, "evaluation/s")) <= set(first)
    assert all(mutant.file in ("evaluation/scores.py", "evaluation/statistics.py") for mutant in first)


def test_every_file_of_these_rooms_has_tests():
    rooms = ("losses", "metrics", "evaluation", "data", "inference", "reports")
    files = [path for room in rooms for path in (mutants.PACKAGE / room).rglob("*.py") if path.name != "__init__.py"]
    names = {path.relative_to(mutants.PACKAGE).as_posix() for path in files} | {"shapes.py", "export.py"}
    assert {name for name in names if not mutants.suite_of(name)} == {"data/phantom/lgg.py", "data/phantom/brats.py"}
    for name in mutants.TESTS:
        assert (mutants.PACKAGE / name).exists(), name
        assert all((mutants.ROOT / test).is_file() for test in mutants.suite_of(name)), name


def test_the_examples_of_a_file_are_among_its_tests():
    example = "tests/test_docs.py::test_examples_in_docstrings_run[brainseg_keras.data.splits]"
    assert mutants.suite_with_examples("data/splits.py") == (*mutants.suite_of("data/splits.py"), example)
    assert mutants.suite_with_examples("data/formats/pictures.py") == mutants.suite_of("data/formats/pictures.py")


def test_what_is_called_the_same_is_there_to_be_changed():
    """A reason that fits no mutant any more is to go."""
    for file in {entry[0] for entry in mutants.EQUIVALENT}:
        source = (mutants.PACKAGE / file).read_text(encoding="utf-8")
        found = {mutants.why_equivalent(mutant) for mutant in mutants.mutants_of(file, source)}
        assert {entry[3] for entry in mutants.EQUIVALENT if entry[0] == file} <= found


@pytest.mark.soak
def test_nine_of_ten_mutants_are_noticed(tmp_path):
    # A process of its own: TensorFlow must not have run anything when it forks.
    command = [sys.executable, mutants.__file__, "--count", str(round(200 * scale())), "-o", str(tmp_path / "m.json")]
    subprocess.run(command, check=True)
    results = json.loads(Path(tmp_path / "m.json").read_text(encoding="utf-8"))
    lived = [one["mutant"] for one in results if one["verdict"] == "lived"]
    late = sum(one["verdict"] == "timed out" for one in results)
    rooms = "losses, metrics, evaluation, data, inference, reports, export"
    what = f"small faults put into {rooms}, {late} of which ran out of time; failed: no test noticed"
    record("mutants", tried=len(results), failed=len(lived), what=what)
    record_list("Mutants that lived", lived)
    assert len(lived) <= 0.1 * len(results)
