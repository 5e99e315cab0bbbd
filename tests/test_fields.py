"""Smooth fields: bounds, smoothness, and that an elastic map is one map with the affine one."""

import cv2
import numpy as np
import pytest

from brainseg_keras.data.inputs.fields import add_bias_field, elastic_maps, lower_resolution
from brainseg_keras.ranges import ELASTIC

STILL = np.tile([[[1.0, 0, 0], [0, 1, 0]]], (40, 1, 1))


def bias(largest, count=40, channels=3):
    images = np.ones((count, 32, 48, channels), np.float32)
    add_bias_field(images, np.random.default_rng(0), largest)
    return np.log(images)


def test_a_bias_field_is_smooth_bounded_and_the_coils():
    fields = bias(0.4)
    np.testing.assert_array_equal(fields[..., 0], fields[..., 2])
    strengths = np.abs(fields).max(axis=(1, 2, 3))
    assert strengths.max() <= 0.4 + 1e-4
    assert strengths.min() < 0.05 and strengths.max() > 0.35, "each slice has its own strength"
    # A polynomial of degree 3 along each side: all fourth differences vanish, the third ones do not.
    flat = fields[..., 0].astype("float64")
    for axis in (1, 2):
        assert np.abs(np.diff(flat, 4, axis=axis)).max() < 2e-5
        assert np.abs(np.diff(flat[:, ::4, ::4], 3, axis=axis)).max() > 0.01


def test_a_bias_field_keeps_the_background():
    images = np.zeros((3, 16, 16, 2), np.float32)
    images[:, 4:12] = 1
    add_bias_field(images, np.random.default_rng(0), 0.5)
    assert (images[:, :4] == 0).all() and (images[:, 4:12] > 0).all() and (images[:, 4:12] != 1).any()


def test_elastic_maps_stay_within_their_share_of_each_side():
    maps = elastic_maps(STILL, 40, 80, np.random.default_rng(0), 0.04)
    rows, columns = np.mgrid[:40, :80]
    bends = maps - np.stack([columns, rows], axis=-1)
    largest = np.abs(bends / [80, 40]).max(axis=(1, 2, 3))
    assert largest.max() <= 0.04 + 1e-5
    assert largest.min() < 0.01 and largest.max() > 0.035
    # Neighbors move together: four control points a side.
    assert np.abs(np.diff(bends, axis=2)).max() < 0.04 * 80 * 0.2


def test_elastic_maps_do_not_fold():
    maps = elastic_maps(np.repeat(STILL, 10, axis=0), 64, 64, np.random.default_rng(1), ELASTIC.high).astype("float64")
    down, across = np.diff(maps, axis=1)[:, :, :-1], np.diff(maps, axis=2)[:, :-1]
    assert (across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]).min() > 0


def test_an_elastic_map_without_strength_is_the_affine_one():
    """Where a new pixel comes from, by the matrix's own inverse."""
    matrices = np.random.default_rng(0).normal(np.array([[2, 0, 3], [0, 2, 1]]), 1, (5, 2, 3))
    maps = elastic_maps(matrices, 12, 20, np.random.default_rng(0), 0.0)
    for chart, matrix in zip(maps, matrices, strict=True):
        for row, column in ((0, 0), (11, 3), (5, 19)):
            old = np.linalg.solve(matrix[:, :2], [column, row] - matrix[:, 2])
            np.testing.assert_allclose(chart[row, column], old, rtol=1e-3, atol=1e-3)


def test_bends_are_each_slices_own():
    maps = elastic_maps(STILL, 24, 24, np.random.default_rng(0), 0.05)
    assert (maps[0] != maps[1]).any()
    # Columns and rows are displaced each for itself.
    assert not np.allclose(maps[0, ..., 0] - maps[0, 0, 0, 0], (maps[0, ..., 1] - maps[0, 0, 0, 1]).T)


@pytest.mark.parametrize("channels", [1, 3, 9])
def test_a_coarser_slice_is_one_of_some_size_between(channels):
    """Each channel by itself is the given one brought to some size and back."""
    images = np.random.default_rng(0).random((40, 30, 48, channels), np.float32)
    before = images.copy()
    lower_resolution(images, np.random.default_rng(1), 1.0)
    found = []
    for image, given in zip(images, before, strict=True):
        sizes = {}
        for width, height in ((w, h) for w in range(12, 40) for h in range(round(w / 1.6) - 1, round(w / 1.6) + 2)):
            small = cv2.resize(given[..., -1], (width, height), interpolation=cv2.INTER_AREA)
            sizes[width] = min(np.abs(cv2.resize(small, (48, 30)) - image[..., -1]).max(), sizes.get(width, np.inf))
        found.append(min(sizes, key=sizes.get))
        assert sizes[found[-1]] < 1e-6
    assert 16 <= min(found) <= 18 and 28 <= max(found) <= 32


def test_some_slices_are_made_coarser_and_none_darker():
    images = np.random.default_rng(0).random((300, 16, 16, 1), np.float32)
    before = images.copy()
    lower_resolution(images, np.random.default_rng(1), 0.25)
    assert 0.18 < (images != before).any(axis=(1, 2, 3)).mean() < 0.32
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), before.mean(axis=(1, 2, 3)), atol=0.03)
    assert images.min() >= 0 and images.max() <= 1
