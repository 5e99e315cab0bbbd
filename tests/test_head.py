"""Where the head is, and the tissue level from inside of it, the same in training and in prediction."""

import numpy as np
import pytest

from brainseg_keras.data.inputs.head import fill_head, inner_head
from brainseg_keras.data.inputs.preprocessing import Preprocessing, intensity_range
from brainseg_keras.data.inputs.slices import load_slices
from brainseg_keras.data.sources import open_source
from brainseg_keras.errors import InputError
from brainseg_keras.inference.runner import Runner
from brainseg_keras.spec import NetworkSpec
from brainseg_keras.training.config import TrainingConfig
from brainseg_keras.training.setup import describe_network

RADIUS = np.hypot(*(np.mgrid[:80, :80] - 39.5))


def test_what_lies_within_an_outline_is_head():
    ring = (RADIUS < 30) & (RADIUS > 26)
    np.testing.assert_array_equal(fill_head(ring | (RADIUS < 8)), RADIUS < 30)
    assert not fill_head(np.zeros((8, 8), bool)).any()


@pytest.mark.parametrize("gap", [0, 3])
def test_the_rim_is_measured_from_the_outline(gap):
    """A twentieth of 80 pixels is 4: scalp from 27 to 30, dark bone, brain below 24 with dark ventricles."""
    head = ((RADIUS < 30) & (RADIUS > 27)) | ((RADIUS < 24) & (RADIUS > 6))
    if gap:
        # Where the scalp is open the bone is no way in.
        head[39 : 39 + gap, :13] = False
    inner = inner_head(head[np.newaxis])[0]
    assert inner[RADIUS < 24.5].all()
    assert not inner[RADIUS > 27].any()


def test_each_slice_has_its_own_rim_and_a_small_one_nothing_else():
    heads = np.stack([RADIUS < 30, RADIUS < 3, np.zeros((80, 80), bool), np.ones((80, 80), bool)])
    sizes = inner_head(heads).sum(axis=(1, 2))
    assert sizes[0] == pytest.approx(np.pi * 26**2, rel=0.03)
    # A head that fills the picture goes on beyond it: no rim there.
    assert sizes[1:].tolist() == [0, 0, 6400]


def slices_of_a_head(scalp, dtype="float64"):
    """Two slices, one high up, where the scalp is more than half of the head."""
    low = np.where(RADIUS < 25, 60, np.where(RADIUS < 28, scalp, 0))
    high = np.where(RADIUS < 9, 60, np.where(RADIUS < 14, scalp, 0))
    return np.stack([low, high])[..., np.newaxis].astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_tissue_level_without_the_rim_is_the_brains(dtype):
    high = slices_of_a_head(150, dtype)[1:]
    assert intensity_range(high).tolist() == [[0, 150]]
    assert intensity_range(high, inner=True).tolist() == [[0, 60]]
    both = slices_of_a_head(150, dtype)
    assert intensity_range(both, inner=True).tolist() == intensity_range(both).tolist() == [[0, 60]]


def test_a_head_of_which_nothing_is_left_is_measured_whole():
    tiny = np.where(RADIUS < 3, 70.0, 0.0)[np.newaxis, ..., np.newaxis]
    tiny[0, :8, :12] = 70
    assert intensity_range(tiny, inner=True).tolist() == intensity_range(tiny).tolist() == [[0, 70]]


def test_inner_tissue_is_yes_or_no():
    with pytest.raises(InputError, match=r"inner_tissue is true or false\. Received: 1"):
        Preprocessing(inner_tissue=1)


def test_training_and_prediction_measure_by_the_networks_rule(phantom):
    """Whatever the store or the reader has measured by the other one."""
    source = open_source(phantom)
    config = TrainingConfig(data=str(phantom), architecture="res_unet", filters=2, depth=1, size=48, inner_tissue=True)
    spec = NetworkSpec.from_info(describe_network(config, source).to_info())
    assert spec.preprocessing == Preprocessing(48, inner_tissue=True)
    slices = load_slices(source, "train", spec.preprocessing)
    runner = Runner(lambda batch: batch, spec)
    start = 0
    for patient in sorted(set(slices.patients)):
        volume = source.volume(patient)
        expected = intensity_range(volume.images, inner=True)
        assert (expected != volume.intensity).any()
        for intensity in (None, volume.intensity):
            np.testing.assert_array_equal(runner.prepare(volume.images, intensity).intensity, expected)
        np.testing.assert_array_equal(slices.intensity[start], expected)
        own = intensity_range(volume.images[:1], inner=True)
        np.testing.assert_array_equal(slices.own_intensity[start], own)
        start += len(volume.slices)
    plain = Runner(lambda batch: batch, NetworkSpec(spec.channels, preprocessing=Preprocessing(48)))
    np.testing.assert_array_equal(plain.prepare(volume.images).intensity, volume.intensity)
