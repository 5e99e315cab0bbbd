"""Splits: a patient stands on one side, every side has patients, and the seed alone decides."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import here
from hypothesis import given, settings
from hypothesis import strategies as st

from brainseg_keras.data.manifest import read_manifest, write_manifest
from brainseg_keras.data.pipeline import make_dataset
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.splits import assign_folds, assign_splits, fixed_split, split_patients
from brainseg_keras.errors import InputError

patients = st.lists(
    st.tuples(st.sampled_from(["CS", "DU", "EZ", "FG", "HT"]), st.integers(0, 10_000)), min_size=3, max_size=120
)


def table_of(pairs):
    names = [f"TCGA_{index}_{number:04d}_2000" for number, (index, _) in enumerate(pairs)]
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
        assert (abs(means - sizes.mean()) < 0.06 * sizes.mean()).all()


def test_institution_with_one_patient_merges():
    splits = split_patients(table_of([("CS", n) for n in range(20)] + [("EZ", 5)]))
    assert splits.value_counts().to_dict() == {"train": 17, "val": 2, "test": 2}


def test_rare_institutions_reach_the_held_out_splits_together():
    """Twenty institutions of one patient each are one stratum in order of size, not of name."""
    # By name, the evenly spaced places would all fall on small tumours.
    pairs = [("CS", 5)] * 20 + [(f"X{n:02}", 10 if n % 5 == 2 else 1000) for n in range(20)]
    table = table_of(pairs).set_index("patient")
    for seed in range(10):
        splits = split_patients(table.reset_index(), seed=seed)
        held = table.loc[splits.index[splits != "train"]]
        rare = held[~held.index.str.contains("_CS_")]
        assert len(rare) == 4
        assert (rare.tumour_pixels == 1000).sum() >= 2


@pytest.mark.parametrize("count", range(3, 9))
def test_even_few_patients_give_three_splits(count):
    counts = split_patients(table_of([("CS", n) for n in range(count)])).value_counts().to_dict()
    assert counts == {"train": count - 2, "val": 1, "test": 1}


@pytest.mark.parametrize(("fractions", "sizes"), [((0.5, 0.2, 0.3), (10, 4, 6)), ((0.6, 0.35, 0.05), (12, 7, 1))])
def test_each_split_has_its_own_share(fractions, sizes):
    counts = split_patients(table_of([("CS", n) for n in range(20)]), fractions=fractions).value_counts()
    assert tuple(counts[["train", "val", "test"]]) == sizes


def test_names_without_institution_are_split_too():
    table = pd.DataFrame({"patient": [f"case{n}" for n in range(20)], "tumour_pixels": range(20)})
    assert split_patients(table).value_counts().to_dict() == {"train": 16, "val": 2, "test": 2}


def test_same_split_in_a_fresh_process_with_another_hash_seed():
    code = (
        "import pandas as pd; from brainseg_keras.data.splits import split_patients; "
        "names = [f'TCGA_{p}_{n}' for n in range(30) for p in ('CS', 'DU', 'HT')]; "
        "print(split_patients(pd.DataFrame(dict(patient=names, tumour_pixels=range(90))), seed=4).to_json())"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    names = [f"TCGA_{index}_{n}" for n in range(30) for index in ("CS", "DU", "HT")]
    ours = split_patients(pd.DataFrame({"patient": names, "tumour_pixels": range(90)}), seed=4)
    assert answers == {ours.to_json() + "\n"}


def test_fewer_than_three_patients_cannot_be_split():
    with pytest.raises(InputError, match=r"at least three patients.*Received: 2"):
        split_patients(table_of([("CS", 1), ("CS", 2)]))


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (0.9, 0.1)])
def test_shares_that_do_not_add_up_are_refused(fractions):
    with pytest.raises(InputError, match="sum to 1"):
        split_patients(table_of([("CS", n) for n in range(5)]), fractions=fractions)


@settings(max_examples=40, deadline=None)
@given(pairs=patients.filter(lambda pairs: len(pairs) >= 5), folds=st.integers(2, 5), seed=st.integers(0, 9))
def test_folds_test_each_patient_once(pairs, folds, seed):
    table = table_of(pairs).assign(split="train")
    made = assign_folds(table, folds=folds, seed=seed)
    assert len(made) == folds
    splits = pd.DataFrame({number: fold.set_index("patient").split for number, fold in enumerate(made)})
    assert (splits == "val").sum(axis=1).eq(1).all()
    assert (splits == "test").sum(axis=1).eq(1 if folds > 2 else 0).all()
    sizes = (splits == "val").sum()
    assert sizes.max() - sizes.min() <= 1
    assert all(
        again.equals(first) for again, first in zip(assign_folds(table, folds=folds, seed=seed), made, strict=True)
    )


@pytest.mark.parametrize("folds", [3, 4, 5])
def test_who_validates_in_one_fold_is_tested_in_the_next(folds):
    made = assign_folds(table_of([("CS", n) for n in range(11)]), folds=folds)
    sides = [{side: set(own.patient) for side, own in fold.groupby("split")} for fold in made]
    for number, fold in enumerate(sides):
        assert fold["val"] == sides[(number + 1) % folds]["test"]
        assert not fold["val"] & fold["test"]
    # The first parts, which take the remainder of 11, are the first to be tested.
    assert [len(fold["test"]) for fold in sides] == [11 // folds + (n < 11 % folds) for n in range(folds)]


def test_two_folds_change_places():
    first, second = assign_folds(table_of([("CS", n) for n in range(6)]), folds=2)
    assert set(first.split) == set(second.split) == {"train", "val"}
    assert (first.split != second.split).all()


@pytest.mark.parametrize("folds", [1, 6])
def test_more_folds_than_patients_or_none_are_refused(folds):
    with pytest.raises(InputError, match=rf"2 to .*\. Received: {folds}"):
        assign_folds(table_of([("CS", n) for n in range(5)]), folds=folds)


def test_committed_folds_are_what_the_command_makes():
    root = Path(__file__).resolve().parent.parent / "data_manifests"
    committed = pd.read_csv(root / "lgg_folds.csv").set_index("patient").fold
    made = assign_folds(read_manifest(root / "lgg.csv"), folds=5)
    for number, fold in enumerate(made, start=1):
        tested = set(fold.patient[fold.split == "test"])
        assert tested == set(committed.index[committed == number])


def test_data_without_a_fixed_split_get_a_seeded_one():
    assert fixed_split("phantom").empty
    table = table_of([("XX", n) for n in range(12)]).assign(dataset="lgg")
    assigned, strangers = assign_splits(table, seed=3)
    assert strangers == []
    expected = split_patients(table, seed=3)
    assert assigned.split.tolist() == expected[assigned.patient].tolist()
    assert "split" not in table


def test_fixed_split_is_kept_and_strangers_are_left_out():
    fixed = fixed_split("lgg")
    named = fixed.index[:4].tolist()
    table = pd.DataFrame({"dataset": "lgg", "patient": [*named, "TCGA_XX_9999_2000"], "tumour_pixels": 1})
    assigned, strangers = assign_splits(table, seed=5)
    assert strangers == ["TCGA_XX_9999_2000"]
    assert assigned.split.tolist() == [*fixed[named], ""]


def test_two_calls_with_other_orders_never_cross(phantom):
    """`seed` orders the slices; who is in which split is another matter, and `split_seed`'s."""

    def slices_of(split, **seeds):
        options = {"size": 32, "batch_size": 8, "augmentation": None, "tumour_share": None}
        images = np.concatenate([images for images, _ in make_dataset(phantom, split=split, **options, **seeds)])
        return {image.tobytes() for image in np.asarray(images)}

    validation = slices_of("val", seed=5)
    assert slices_of("val", seed=6) == validation and len(validation) == 8
    for seed in range(4):
        assert not slices_of("train", seed=seed) & validation
    others = [slices_of("val", split_seed=seed) for seed in range(6)]
    assert others[0] == validation and any(other != validation for other in others)


def test_folds_say_a_root_with_which_they_are_read(phantom, tmp_path):
    """Also where the folder that was given is one above that of the patients, and where a manifest was."""
    data = tmp_path / "a folder"
    shutil.copytree(phantom, data / "kaggle_3m")
    code, out, _ = here("data", "split", str(data), "--folds", "2", "-o", str(tmp_path / "folds"))
    assert code == 0
    root = shlex.split(out)[-1]
    assert open_source(tmp_path / "folds" / "fold1.csv", root=root).volume("PHANTOM_CS_0001_20000101").slices
    write_manifest(read_manifest(tmp_path / "folds" / "fold1.csv"), data / "kaggle_3m" / "own.csv")
    code, out, _ = here(
        "data", "split", str(data / "kaggle_3m" / "own.csv"), "--folds", "3", "-o", str(tmp_path / "again")
    )
    assert code == 0
    root = shlex.split(out)[-1]
    assert open_source(tmp_path / "again" / "fold3.csv", root=root).volume("PHANTOM_CS_0001_20000101").slices


def test_committed_split_is_the_fixed_one():
    committed = read_manifest(Path(__file__).resolve().parent.parent / "data_manifests" / "lgg.csv")
    splits = committed.drop_duplicates("patient").set_index("patient").split
    pd.testing.assert_series_equal(splits.sort_index(), fixed_split("lgg").sort_index(), check_dtype=False)
