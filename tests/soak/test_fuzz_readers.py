"""Ten thousand damaged files over every reader: each is read or refused by name, within limits of time and memory."""

from collections import Counter

import pytest
from fuzz import MEMORY, SECONDS, TARGETS, Worker, make_corpus
from reliability import record, scale

COUNT = 10_000


@pytest.mark.soak
def test_every_reader_survives_damaged_files(tmp_path):
    make_corpus(tmp_path / "corpus")
    names, failures = list(TARGETS), []
    count = round(COUNT * scale())
    with Worker(tmp_path / "corpus") as worker:
        for number in range(count):
            name, seed = names[number % len(names)], number // len(names)
            if said := worker.try_case(name, seed):
                failures.append((name, seed, said))
                print(f"({name!r}, {seed}),  # {said}", flush=True)
    record(
        "fuzz: readers",
        tried=count,
        failed=len(failures),
        what=f"damaged files over {len(names)} readers, with {MEMORY / 2**30:.0f} GB of memory and {SECONDS} s of "
        "computing a file; failed: neither a result nor a message that names the file",
    )
    assert not failures, Counter(name for name, _, _ in failures)
