"""Patients packed in parts and joined: the store of an undivided call."""

import json

import h5py
import numpy as np
import pytest
from commands import here

from brainseg_keras.data.phantom.lgg import write_phantom
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.store import StoredVolumes, write_store
from brainseg_keras.data.store_parts import write_store_part
from brainseg_keras.errors import InputError
from brainseg_keras.parts import Part

PARTS = [Part(index, 3) for index in (2, 3, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("data"), patients=7, slices=6, size=32, seed=4)


def contents(file):
    """Every array and attribute of a file, what is known of parts aside."""
    found = {}
    with h5py.File(file) as opened:
        found["."] = dict(opened.attrs)

        def keep(name, item):
            array = item[()] if isinstance(item, h5py.Dataset) else None
            filters = (item.chunks, item.compression, item.fletcher32, item.dtype) if array is not None else None
            attributes = {key: np.asarray(value).tolist() for key, value in item.attrs.items()}
            found[name] = (array.tobytes() if isinstance(array, np.ndarray) else array, filters, attributes)

        opened.visititems(keep)
    return found


def test_the_last_part_makes_the_store_of_an_undivided_call(folder, tmp_path, caplog):
    source = open_source(folder)
    expected = contents(write_store(source, tmp_path / "whole.h5"))
    for part in PARTS[:2]:
        assert write_store_part(source, tmp_path / "parts.h5", part) is None
        assert not (tmp_path / "parts.h5").exists()
    assert "Part 3/3 is packed" in caplog.text and "Missing: 1/3." in caplog.text
    assert contents(write_store_part(source, tmp_path / "parts.h5", PARTS[2])) == expected
    assert len(StoredVolumes(tmp_path / "parts.h5").table) == 42
    sizes = [sum(map(part.holds, source.table.patient.unique())) for part in PARTS]
    assert max(sizes) < 7, "else nothing was divided"


def test_a_part_of_other_data_or_damaged_counts_as_missing(folder, tmp_path):
    source, file = open_source(folder), tmp_path / "parts.h5"
    for part in PARTS[:2]:
        write_store_part(source, file, part, float16=True)
    assert write_store_part(source, file, PARTS[2]) is None
    for part in PARTS[:2]:
        write_store_part(source, file, part)
    kept = (tmp_path / "parts.h5.parts" / "3-of-3.h5").read_bytes()
    (tmp_path / "parts.h5.parts" / "3-of-3.h5").write_bytes(kept[:1000] + b"brainseg-store")
    assert write_store_part(source, file, PARTS[2]) is None
    assert write_store_part(source, file, Part(3, 3)) == file
    with Part(2, 3).hold(tmp_path / "parts.h5.parts"), pytest.raises(InputError, match="another --part"):
        write_store_part(source, file, Part(2, 3))


def test_the_command_takes_a_part(folder, tmp_path):
    command = ("data", "pack", str(folder), "-o", str(tmp_path / "data.h5"), "--json")
    code, out, _ = here(*command, "--part=2/2")
    assert (code, json.loads(out)) == (0, {"part": "2/2"})
    code, out, _ = here(*command, "--part=1/2")
    assert code == 0 and json.loads(out) == {"path": str(tmp_path / "data.h5"), "patients": 7}
