"""Manifests and splits: no patient on two sides, and nothing half-written."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainseg_keras.data.lgg import read_lgg
from brainseg_keras.data.manifest import COLUMNS, read_manifest, write_manifest
from brainseg_keras.data.splits import assign_splits, fixed_split, split_patients
from brainseg_keras.errors import InputError


def rows(*triples):
    """Rows of a manifest from (patient, slice, split)."""
    common = {"dataset": "lgg", "image": "a.tif", "mask": "a_mask.tif", "tumour_pixels": 3}
    sums = {"image_sha256": "", "mask_sha256": ""}
    return pd.DataFrame([common | sums | {"patient": p, "slice": n, "split": s} for p, n, s in triples])


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
        (rows(("A", 1, "train")).assign(slice="one"), "holds whole numbers"),
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


patients = st.lists(
    st.tuples(st.sampled_from(["CS", "DU", "EZ", "FG", "HT"]), st.integers(0, 10_000)), min_size=3, max_size=120
)


def table_of(pairs):
    names = [f"TCGA_{place}_{number:04d}_2000" for number, (place, _) in enumerate(pairs)]
    return pd.DataFrame({"patient": names, "tumour_pixels": [size for _, size in pairs]})


@settings(max_examples=60, deadline=None)
@given(pairs=patients, seed=st.integers(0, 99))
def test_every_patient_gets_one_split_and_every_split_a_patient(pairs, seed):
    table = table_of(pairs)
    splits = split_patients(table, seed=seed)
    assert sorted(splits.index) == sorted(table.patient)
    counts = splits.value_counts()
    assert set(counts.index) == {"train", "val", "test"}
    for name in ("val", "test"):
        assert counts[name] == max(1, round(0.1 * len(table)))
    # Neither the rows' order nor how many slices a patient has changes anything.
    shuffled = pd.concat([table, table.assign(tumour_pixels=0)]).sample(frac=1, random_state=1)
    pd.testing.assert_series_equal(split_patients(shuffled, seed=seed), splits)


def test_another_seed_makes_another_split():
    table = table_of([("CS", n) for n in range(40)])
    assert not split_patients(table, seed=0).equals(split_patients(table, seed=1))


def test_institutions_and_sizes_are_spread_over_the_splits():
    sizes = np.arange(100) * 50
    table = table_of([("CS" if n % 2 else "HT", size) for n, size in enumerate(sizes)])
    for seed in range(5):
        splits = split_patients(table, fractions=(0.6, 0.2, 0.2), seed=seed)
        merged = table.set_index("patient").join(splits)
        merged["place"] = merged.index.str.split("_").str[1]
        shares = merged.groupby("split").place.value_counts(normalize=True).unstack()
        assert (abs(shares - 0.5) <= 0.1).all(axis=None)
        means = merged.groupby("split").tumour_pixels.mean()
        assert (abs(means - sizes.mean()) < 0.25 * sizes.mean()).all()


def test_institution_with_one_patient_merges():
    splits = split_patients(table_of([("CS", n) for n in range(20)] + [("EZ", 5)]))
    assert splits.value_counts().to_dict() == {"train": 17, "val": 2, "test": 2}


def test_fewer_than_three_patients_cannot_be_split():
    with pytest.raises(InputError, match=r"at least three patients.*Received: 2"):
        split_patients(table_of([("CS", 1), ("CS", 2)]))


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (0.9, 0.1)])
def test_shares_that_do_not_add_up_are_refused(fractions):
    with pytest.raises(InputError, match="sum to 1"):
        split_patients(table_of([("CS", n) for n in range(5)]), fractions=fractions)


def test_fixed_split_is_kept_and_strangers_are_left_out():
    fixed = fixed_split("lgg")
    named = fixed.index[:4].tolist()
    table = pd.DataFrame({"dataset": "lgg", "patient": [*named, "TCGA_XX_9999_2000"], "tumour_pixels": 1})
    assigned, strangers = assign_splits(table, seed=5)
    assert strangers == ["TCGA_XX_9999_2000"]
    assert assigned.split.tolist() == [*fixed[named], ""]


def test_committed_split_is_the_fixed_one():
    from pathlib import Path

    committed = read_manifest(Path(__file__).resolve().parent.parent / "data_manifests" / "lgg.csv")
    splits = committed.drop_duplicates("patient").set_index("patient").split
    pd.testing.assert_series_equal(splits.sort_index(), fixed_split("lgg").sort_index(), check_dtype=False)
