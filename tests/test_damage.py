"""One damage of each kind, and the command that meets it; `.ci/soak` tries thousands."""

import random

import pytest
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

RNG = random.Random(11)
PER_PATIENT = "run/evaluation/all/per_patient.csv"
EVERY = [
    *(damage for file in READ_BY for damage in byte_damages(file, RNG)),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))
