"""Manifests: no patient on two sides, and nothing half-written."""

import os

import pandas as pd
import pytest

from brainseg_keras.data.formats.lgg import read_lgg
from brainseg_keras.data.manifest import COLUMNS, read_manifest, write_manifest
from brainseg_keras.data.splits import assign_splits
from brainseg_keras.errors import InputError


def rows(*triples):
    """Rows of a manifest from (patient, slice, split)."""
    common = {"dataset": "lgg", "image": "a.tif", "mask": "a_mask.tif", "tumour_pixels": 3}
    sums = {"image_sha256": "", "mask_sha256": ""}
    return pd.DataFrame([common | sums | {"patient": p, "slice": n, "split": s} for p, n, s in triples])


def test_somebody_elses_table_is_not_replaced(tmp_path):
    (tmp_path / "patients.csv").write_text("patient,age\nA,40\n")
    with pytest.raises(InputError, match=r"patients\.csv is there, and brainseg did not make it"):
        write_manifest(rows(("A", 1, "train")), tmp_path / "patients.csv")
    assert (tmp_path / "patients.csv").read_text() == "patient,age\nA,40\n"
    for name in ("first", "second"):
        write_manifest(rows((name, 1, "train")), tmp_path / "manifest.csv")
    assert read_manifest(tmp_path / "manifest.csv").patient.tolist() == ["second"]


def test_round_trip(phantom, tmp_path):
    table, _ = assign_splits(read_lgg(phantom, checksums=True)[0])
    write_manifest(table, tmp_path / "new" / "manifest.csv")
    pd.testing.assert_frame_equal(
        read_manifest(tmp_path / "new" / "manifest.csv"), table[list(COLUMNS)], check_dtype=False
    )
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["manifest.csv"]


def test_patient_in_two_splits_is_refused_unless_asked_for(tmp_path):
    write_manifest(rows(("A", 1, "train"), ("A", 2, "val"), ("B", 1, "val")), tmp_path / "m.csv")
    with pytest.raises(InputError, match=r"1 patients stand in more than one split \(first: A\)"):
        read_manifest(tmp_path / "m.csv")
    assert len(read_manifest(tmp_path / "m.csv", allow_shared_patients=True)) == 3


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (rows(("A", 1, "train"), ("A", 1, "train")), "slice 1 of patient A stands in it twice"),
        (rows(("A", 1, "validation")), "unknown split 'validation'"),
        (rows(("A", 1, "train")).assign(slice="one"), "column slice holds whole numbers"),
        (rows(("A", 1, "train")).assign(slice=1.5), "column slice holds whole numbers"),
        (rows(("A", 1, "train")).assign(tumour_pixels=""), "column tumour_pixels holds whole numbers"),
        (rows(("A", 1, "train")).assign(slice="9" * 30), "column slice holds whole numbers"),
        (rows(("A", 1, "train")).assign(slice=-1), "column slice holds whole numbers from 0 on, not -1"),
        (rows(("A", 1, "train"))[:0], "lists no slices"),
        (rows(("A", 1, "train"), ("A", 2, "")), "more than one split"),
    ],
)
def test_rows_that_would_spoil_a_score_are_refused(table, words, tmp_path):
    table.to_csv(tmp_path / "m.csv", index=False)
    with pytest.raises(InputError, match=words):
        read_manifest(tmp_path / "m.csv")


def test_what_is_no_manifest_is_said_to_be_none(tmp_path):
    with pytest.raises(InputError, match="No manifest"):
        read_manifest(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text("patient,age\nA,3\n")
    with pytest.raises(InputError, match="columns dataset, slice, image"):
        read_manifest(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_bytes(b"\x89PNG\x00\xff\xfe")
    with pytest.raises(InputError, match=r"cannot be read as CSV|no manifest"):
        read_manifest(tmp_path / "m.csv")


def test_a_failing_write_leaves_the_old_manifest(tmp_path, monkeypatch):
    write_manifest(rows(("A", 1, "train")), tmp_path / "m.csv")
    before = (tmp_path / "m.csv").read_bytes()

    def fail(self, path, **_):
        path.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    with pytest.raises(OSError, match="disk full"):
        write_manifest(rows(("B", 1, "train")), tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["m.csv"]


@pytest.mark.parametrize("column", COLUMNS)
def test_each_missing_column_is_named(tmp_path, column):
    rows(("A", 1, "train")).drop(columns=column).to_csv(tmp_path / "m.csv", index=False)
    with pytest.raises(InputError, match=rf"m\.csv is not a manifest: the columns {column} are missing.*brainseg data"):
        read_manifest(tmp_path / "m.csv")


def test_names_and_order_survive_a_spreadsheet(tmp_path):
    """Names like numbers stay names, a byte order mark is not a part of a column, and slices count as numbers."""
    table = rows(("007", 10, "train"), ("007", 9, "train"), ("1e5", 1, "val"), ("NA", 1, ""))
    (tmp_path / "m.csv").write_bytes(b"\xef\xbb\xbf" + table.to_csv(index=False, lineterminator="\r\n").encode())
    found = read_manifest(tmp_path / "m.csv")
    assert found.patient.tolist() == ["007", "007", "1e5", "NA"]
    assert found.slice.tolist() == [9, 10, 1, 1]
    assert found.split.tolist() == ["train", "train", "val", ""]


def test_a_shuffled_table_is_written_in_order(tmp_path):
    table = rows(*((patient, number, "train") for patient in "BA" for number in (10, 2, 1)))
    write_manifest(table, tmp_path / "a.csv")
    write_manifest(table.sample(frac=1, random_state=0)[list(reversed(COLUMNS))], tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert [line.split(",")[1:3] for line in lines[1:]] == [[p, n] for p in "AB" for n in ("1", "2", "10")]


def test_a_name_that_is_no_text_is_refused_before_it_is_in_a_manifest(own_phantom):
    folder = sorted(path for path in own_phantom.iterdir() if path.is_dir())[0]
    folder.rename(own_phantom / os.fsdecode(b"caf\xe9"))
    with pytest.raises(InputError, match=r"caf%E9.* Rename"):
        read_lgg(own_phantom)
    skipped = {}
    table, _ = read_lgg(own_phantom, skipped=skipped)
    assert table.patient.nunique() == 5
    assert len(skipped) == 1
