"""Patients scored in parts and joined: the report of an undivided call, to the last byte."""

import json
import shutil

import pandas as pd
import pytest
from commands import here

from brainseg_keras.data import open_source
from brainseg_keras.data.phantom.lgg import write_phantom
from brainseg_keras.errors import InputError
from brainseg_keras.inference import Predictor
from brainseg_keras.parts import Part
from brainseg_keras.postprocessing import Postprocessing
from brainseg_keras.reports import evaluate

PARTS = [Part(index, 3) for index in (2, 3, 1)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eleven patients, more than a report shows pictures of."""
    return open_source(write_phantom(tmp_path_factory.mktemp("data"), patients=11, slices=6, size=32, seed=4))


@pytest.fixture(scope="module")
def predictor(finished):
    return Predictor(finished.path)


def score(predictor, data, output, part=None, **more):
    return evaluate(predictor, data, split="all", include_seen=True, output=output, part=part, **more)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def undivided(predictor, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undivided")
    score(predictor, data, folder)
    return files(folder)


def test_the_last_part_writes_the_report_of_an_undivided_call(predictor, data, undivided, tmp_path, caplog):
    for part in PARTS[:2]:
        assert score(predictor, data, tmp_path, part) is None
        assert files(tmp_path) == {}
    assert "Part 3/3 is scored; the report is written with the last part. Missing: 1/3." in caplog.text
    found = score(predictor, data, tmp_path, PARTS[2])
    assert files(tmp_path) == undivided and len(undivided) == 4
    assert len(found.per_patient) == 11 and found.report == json.loads(undivided["report.json"])
    held = [sum(part.holds(name) for name in found.per_patient.patient) for part in PARTS]
    assert max(held) < 11, "else nothing was divided"


def test_a_part_of_another_kind_or_damaged_counts_as_missing(predictor, data, undivided, tmp_path):
    other = predictor.adapted(postprocessing=Postprocessing(threshold=0.2))
    for part in PARTS:
        score(other, data, tmp_path, part)
    assert files(tmp_path).keys() == undivided.keys() and files(tmp_path) != undivided
    for part in PARTS[:2]:
        assert score(predictor, data, tmp_path, part) is None
        assert score(predictor, data, tmp_path, part, tolerance=3.0) is None, "other rules replace it"
        assert score(predictor, data, tmp_path, part) is None
    file = tmp_path / "parts" / "2-of-3.npz"
    whole = file.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:-30]):
        file.write_bytes(damaged)
        assert score(predictor, data, tmp_path, PARTS[2]) is None
    file.write_bytes(whole)
    shutil.rmtree(tmp_path / "parts" / "1-of-3", ignore_errors=True)
    assert score(predictor, data, tmp_path, PARTS[2]) is not None
    assert files(tmp_path) == undivided


def test_a_part_needs_a_place_and_one_process(predictor, data, tmp_path):
    with pytest.raises(InputError, match="needs an output folder"):
        score(predictor, data, None, PARTS[0])
    with Part(2, 3).hold(tmp_path / "parts"), pytest.raises(InputError, match=r"2-of-3 is in use.*another --part"):
        score(predictor, data, tmp_path, Part(2, 3))


def test_the_command_takes_a_part(finished, store, tmp_path):
    command = ("evaluate", "--model", str(finished.path), "--data", str(store), "-o", str(tmp_path))
    code, out, _ = here(*command, "--part=1/2", "--json")
    assert (code, json.loads(out)) == (0, {"part": "1/2"})
    code, out, _ = here(*command, "--part=2/2")
    assert code == 0 and "Dice per patient" in out
    assert len(pd.read_csv(tmp_path / "per_patient.csv")) == 1
