"""A small share of the fuzzer (tests/soak/test_fuzz_readers.py) at each run, and whatever it has found before."""

import pytest
from fuzz import TARGETS, Worker, make_corpus, try_case
from fuzz_cases import CASES

COUNT = 15


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "corpus"
    make_corpus(folder)
    return folder


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_or_refused_by_name(name, corpus):
    failures = [said for seed in range(COUNT) if (said := try_case(corpus, name, seed))]
    assert not failures


def test_files_that_are_whole_are_read(corpus):
    """Else the fuzzer would try nothing."""
    read = []
    for name, target in TARGETS.items():
        files = sorted(path for path in (corpus / name).rglob("*") if path.is_file())
        for file in files[:1] if target.of_set else files:
            target.read(corpus / name, file)
            read.append(name)
    assert set(read) == set(TARGETS)


def test_what_was_found_stays_mended(corpus):
    failures = {case: said for case in CASES if (said := try_case(corpus, *case))}
    assert not failures


@pytest.mark.slow
def test_the_fuzzer_finds_readers_that_fail(corpus):
    expected = {
        "hangs": "took longer than 10 s",
        "dies": "ended the process",
        "eats": "MemoryError",
        "raises": "KeyError: 'width'",
        "names nothing": "not named in the message",
        "read_mask": "None",
    }
    with Worker(corpus) as worker:
        found = {name: str(worker.try_case(name, 1)) for name in expected}
    assert {name: words for name, words in expected.items() if words not in found[name]} == {}, found
