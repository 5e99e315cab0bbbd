"""Sequences by name, and how a scan's channels become a network's."""

import numpy as np
import pytest
from scans import CHANNELS

from brainseg_keras.data.modalities import arrange_channels, flair_index, split_modality
from brainseg_keras.errors import InputError


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("BraTS20_Training_001_t1ce", ("BraTS20_Training_001", "T1ce")),
        ("BraTS-GLI-00000-000-t2f", ("BraTS-GLI-00000-000", "FLAIR")),
        ("Flair_subtrMeanDivStd", ("subtrMeanDivStd", "FLAIR")),
        ("sub-01_post", ("sub-01", "T1ce")),
        ("scan", ("scan", None)),
        ("t1000", ("t1000", None)),
    ],
)
def test_sequences_in_names(stem, expected):
    assert split_modality(stem) == expected


@pytest.mark.parametrize(
    ("channels", "index"),
    [
        (("T1", "FLAIR", "T1ce"), 1),
        (("FLAIR", "T1", "T2"), 0),
        (("T1ce", "FLAIR"), 1),
        (("T1", "T1ce", "T2", "FLAIR"), 3),
        (("T1", "T2", "T1ce"), 1),
        (("T2", "T1"), 0),
        (4, 3),
        (3, 1),
        (1, 0),
        (5, 0),
    ],
)
def test_flair_is_shown_and_without_it_what_usually_stands_there(channels, index):
    assert flair_index(channels) == index


def test_channels_that_no_rule_covers_are_refused():
    with pytest.raises(InputError, match=r"x has 2 channels. The network takes 3 \(T1, FLAIR, T1ce\)"):
        arrange_channels(np.zeros((1, 8, 8, 2)), None, CHANNELS, "x")


def test_flair_stands_in_for_a_missing_sequence():
    images = np.stack([np.full((1, 2, 2), value) for value in (1, 2)], axis=-1)
    arranged, remark = arrange_channels(images, ("T1ce", "FLAIR"), CHANNELS, "x")
    assert arranged[0, 0, 0].tolist() == [2, 2, 1]
    assert remark == "x: FLAIR stands in for T1, which is missing"


def test_of_a_picture_in_color_a_network_of_one_channel_sees_the_mean():
    color = np.tile([30.0, 60.0, 120.0], (2, 4, 4, 1))
    arranged, remark = arrange_channels(color, None, ("FLAIR",), "x")
    assert arranged.shape == (2, 4, 4, 1) and (arranged == 70).all()
    assert remark == "x: the mean of its three channels is FLAIR"
    gray = np.repeat(np.arange(16.0).reshape(1, 4, 4, 1), 3, axis=-1)
    arranged, remark = arrange_channels(gray, None, ("FLAIR",), "x")
    np.testing.assert_array_equal(arranged, gray[..., :1])
    assert remark is None


def test_one_channel_fills_all_and_is_named_where_it_has_a_name():
    one = np.arange(16.0).reshape(1, 4, 4, 1)
    for names, said in ((None, "its one channel fills"), (("T2",), "its one channel (T2) fills")):
        arranged, remark = arrange_channels(one, names, CHANNELS, "x")
        np.testing.assert_array_equal(arranged, np.repeat(one, 3, axis=-1))
        assert remark == f"x: {said} T1, FLAIR, T1ce"


def test_channels_without_names_are_taken_as_they_come():
    images = np.arange(48.0).reshape(1, 4, 4, 3)
    arranged, remark = arrange_channels(images, None, CHANNELS, "x")
    assert arranged is images and remark is None
    # The same number, other names: the names decide.
    with pytest.raises(InputError, match=r"x has 2 channels \(T2, PD\). The network takes 1 \(T1\)"):
        arrange_channels(images[..., :2], ("T2", "PD"), ("T1",), "x")
