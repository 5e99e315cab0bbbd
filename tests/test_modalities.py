"""Sequences by name, and how a scan's channels become a network's."""

import numpy as np
import pytest
from scans import CHANNELS

from brainseg_keras.data.modalities import arrange_channels, split_modality
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


def test_channels_that_no_rule_covers_are_refused():
    with pytest.raises(InputError, match=r"x has 2 channels. The network takes 3 \(T1, FLAIR, T1ce\)"):
        arrange_channels(np.zeros((1, 8, 8, 2)), None, CHANNELS, "x")


def test_flair_stands_in_for_a_missing_sequence():
    images = np.stack([np.full((1, 2, 2), value) for value in (1, 2)], axis=-1)
    arranged, remark = arrange_channels(images, ("T1ce", "FLAIR"), CHANNELS, "x")
    assert arranged[0, 0, 0].tolist() == [2, 2, 1]
    assert remark == "x: FLAIR stands in for T1, which is missing"
