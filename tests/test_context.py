"""2.5-D: neighbors as channels, in batches and in prediction, and never across patients."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainseg_keras import build_model, list_models
from brainseg_keras.data.inputs.augmentation import Augmentation
from brainseg_keras.data.inputs.batches import OrderedBatches, SliceBatches
from brainseg_keras.data.inputs.context import neighbor_indices, stack_neighbors
from brainseg_keras.data.inputs.preprocessing import Preprocessing, normalize
from brainseg_keras.data.inputs.slices import load_slices
from brainseg_keras.data.sources import open_source
from brainseg_keras.inference import Predictor


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(0, 4))
def test_neighbors_stay_inside_the_volume(count, context):
    indices = neighbor_indices(count, context)
    for index, row in enumerate(indices.tolist()):
        assert row == [min(max(index + step, 0), count - 1) for step in range(-context, context + 1)]


def test_channels_stand_slice_by_slice():
    images = np.random.default_rng(0).random((4, 5, 6, 3))
    stacked = stack_neighbors(images, neighbor_indices(4, 1))
    assert stacked.shape == (4, 5, 6, 9)
    np.testing.assert_array_equal(stacked[2], np.concatenate([images[1], images[2], images[3]], axis=-1))
    np.testing.assert_array_equal(stacked[0, ..., :3], images[0])


def test_batches_hold_the_neighbors_of_the_same_patient(phantom):
    source = open_source(phantom)
    slices = load_slices(source, "train", Preprocessing(48), context=1)
    batches = list(OrderedBatches(slices, batch_size=5))
    images = np.concatenate([batch for batch, _ in batches])
    start = 0
    for patient in sorted(set(slices.patients)):
        volume = source.volume(patient)
        own = normalize(volume.images, volume.intensity)
        for index in range(len(own)):
            expected = [own[min(max(index + step, 0), len(own) - 1)] for step in (-1, 0, 1)]
            np.testing.assert_array_equal(images[start + index], np.concatenate(expected, axis=-1))
        start += len(own)
    assert start == len(images)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_augmentation_moves_and_colors_neighbors_alike(dtype):
    image = (np.random.default_rng(0).random((2, 40, 40, 3)) * 200).astype(dtype)
    slices = np.concatenate([image] * 3, axis=-1)
    ranges = np.tile([[[0.0, 100.0]]], (2, 9, 1))
    masks = np.zeros((2, 40, 40, 1), np.uint8)
    moved, _ = Augmentation(noise=0)(slices.astype(float) / 100, masks, np.random.default_rng(1), context=1)
    np.testing.assert_array_equal(moved[..., :3], moved[..., 6:])
    moved, _ = Augmentation(noise=0).normalized(slices, masks, ranges, np.random.default_rng(1), context=1)
    np.testing.assert_array_equal(moved[..., :3], moved[..., 3:6])
    # The channels of one slice are still colored each for itself.
    assert not np.array_equal(moved[..., 0], moved[..., 1])


def test_no_context_gives_the_batches_of_old(phantom):
    slices = load_slices(open_source(phantom), "train", Preprocessing(48))
    images, masks = SliceBatches(slices, batch_size=4, seed=1)[3]
    chosen = SliceBatches(slices, batch_size=4, seed=1).indices(3)
    np.testing.assert_array_equal(images, normalize(slices.images[chosen], slices.intensity[chosen]))
    np.testing.assert_array_equal(masks, slices.masks[chosen] / 255)


def test_prediction_sees_what_training_saw(phantom):
    """A network that answers with a neighbor's channel shows which slice stands where."""
    volume = open_source(phantom).volume(open_source(phantom).table.patient[0])
    for index in range(3):
        image = keras.Input((48, 48, 9))
        channel = 3 * index + 1
        answer = keras.layers.Lambda(lambda x, c=channel: x[..., c : c + 1] / 4)(image)
        predictor = Predictor(keras.Model(image, answer)).adapted(channels=("T1", "FLAIR", "T1ce"), context=1)
        maps = predictor.probabilities(volume.images, volume.intensity)[..., 0]
        own = normalize(volume.images, volume.intensity)[..., 1] / 4
        moved = own[np.clip(np.arange(len(own)) + index - 1, 0, len(own) - 1)]
        np.testing.assert_allclose(maps, moved, atol=1e-6)
        # A lone slice is its own neighbor.
        lone = predictor.probabilities(volume.images[3:4], volume.intensity)[0, ..., 0]
        np.testing.assert_allclose(lone, own[3], atol=1e-6)


@pytest.mark.parametrize("name", list_models())
def test_every_architecture_takes_neighbors(name):
    model = build_model(name, input_shape=(32, 32, 9), filters=4, depth=2)
    assert model.predict_on_batch(np.zeros((1, 32, 32, 9), "float32")).shape == (1, 32, 32, 1)
