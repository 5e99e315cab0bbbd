"""Tumours darkened in part and pasted: where pixels come from, what stays, how often."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainseg_keras.data.inputs.lesions import darken_lesions, paste_lesions

Y, X = np.mgrid[:64, :64]


def disc(row, column, radius):
    return np.hypot(Y - row, X - column) <= radius


HEAD = disc(31.5, 31.5, 28)


def batch(seed, count=5, channels=3, layers=2):
    """Slices that no pixel has in common: slice n lies between n + 1 and n + 2; each other one shows a tumour."""
    rng = np.random.default_rng(seed)
    images = np.zeros((count, 64, 64, channels), np.float32)
    masks = np.zeros((count, 64, 64, layers), np.uint8)
    for number in range(count):
        images[number][HEAD] = number + 1 + rng.random((HEAD.sum(), channels))
        if number % 2 == 0:
            row, column = rng.uniform(24, 40, 2)
            for layer, radius in zip(range(layers), (8, 4, 2), strict=False):
                masks[number, ..., layer] = 255 * disc(row, column, radius)
    return images, masks


# ---- pasted


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), layers=st.integers(1, 3))
def test_each_pasted_pixel_is_that_of_one_other_slice(seed, layers):
    images, masks = batch(seed, layers=layers)
    given_images, given_masks = images.copy(), masks.copy()
    paste_lesions(images, masks, np.random.default_rng(seed), 0.6)
    for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
        changed = (image != given_images[index]).any(axis=-1)
        np.testing.assert_array_equal(mask[~changed], given_masks[index][~changed])
        if not changed.any():
            continue
        (giver,) = set(np.floor(image[changed]).ravel().astype(int) - 1)
        assert giver != index and giver % 2 == 0
        np.testing.assert_array_equal(image[changed], given_images[giver][changed])
        np.testing.assert_array_equal(mask[changed], given_masks[giver][changed])
        assert not changed[~HEAD].any()
        assert mask[changed].any()


def radius_of(region):
    return np.sqrt(region.sum() / np.pi)


def test_the_margin_is_from_half_of_the_depth_less_to_the_depth_more():
    """A disc of radius 8 becomes one of 4 to 16, half of the time a smaller one."""
    images, masks = np.ones((2, 64, 64, 1), np.float32), np.zeros((2, 64, 64, 1), np.uint8)
    images[0], masks[0, ..., 0] = 2, 255 * disc(30, 33, 8)
    radii = []
    for seed in range(200):
        pasted = images.copy()
        paste_lesions(pasted, masks.copy(), np.random.default_rng(seed), 1.0)
        region = pasted[1, ..., 0] == 2
        radii.append(radius_of(region))
        # A disc about the same center, but for the steps of pixels.
        assert (region[disc(30, 33, radii[-1] - 1.5)]).all() and not region[~disc(30, 33, radii[-1] + 1.5)].any()
    assert 3.5 < min(radii) < 5 and 15 < max(radii) < 17
    assert 0.4 < np.mean(np.array(radii) < 8) < 0.6


@pytest.mark.parametrize(
    "target",
    [np.zeros((64, 64)), 0.05 * np.ones((64, 64)), np.where(X < 27, 1.0, 0.0)],
    ids=["blank", "darker than any head", "head beside the tumour"],
)
def test_a_slice_without_head_there_stays(target):
    images, masks = batch(0, count=1)
    masks[0, ..., 0] = 255 * disc(32, 36, 8)
    images = np.stack([images[0], np.repeat(target[..., None], 3, axis=-1).astype("float32")])
    masks = np.concatenate([masks, np.zeros_like(masks)])
    before = images.copy()
    for seed in range(20):
        paste_lesions(images, masks, np.random.default_rng(seed), 1.0)
    np.testing.assert_array_equal(images, before)
    assert not masks[1].any()


def test_fluid_within_a_head_is_head():
    images = np.repeat(np.where(HEAD, 1.0, 0.0)[None, ..., None], 2, axis=0).astype("float32")
    masks = np.zeros((2, 64, 64, 1), np.uint8)
    masks[0, ..., 0] = 255 * disc(32, 32, 6)
    images[0] *= 2
    images[1][disc(32, 32, 10)] = 0
    paste_lesions(images, masks, np.random.default_rng(0), 1.0)
    assert masks[1, 32, 32] == 255 and images[1, 32, 32] == 2


@pytest.mark.parametrize("count", [1, 2])
def test_a_tumour_goes_into_another_slice_or_none(count):
    images, masks = batch(0, count=count)
    masks[1:] = 0
    before = images[0].copy()
    for seed in range(20):
        paste_lesions(images, masks, np.random.default_rng(seed), 1.0)
    np.testing.assert_array_equal(images[0], before)


def test_as_many_slices_are_given_a_tumour_as_was_asked():
    images, masks = batch(0, count=400, channels=1, layers=1)
    masks[0::2] = masks[0]
    before = images.copy()
    paste_lesions(images, masks, np.random.default_rng(0), 0.3)
    changed = (images != before).any(axis=(1, 2, 3))
    assert 0.24 < changed.mean() < 0.36
    assert min(changed[::2].mean(), changed[1::2].mean()) > 0.2


def test_only_slices_with_the_same_sequences_give_to_each_other():
    images, masks = batch(0, count=4)
    sources = np.array([[0, 1, 2], [0, 1, 2], [1, 1, 1], [1, 1, 1]])
    for seed in range(20):
        pasted = images.copy()
        paste_lesions(pasted, masks.copy(), np.random.default_rng(seed), 1.0, sources=sources)
        # Slices 0 and 2 show a tumour: 1 gets that of 0, 3 that of 2, and those two nothing.
        assert set(np.floor(pasted[1][HEAD]).ravel()) == {1, 2} and set(np.floor(pasted[3][HEAD]).ravel()) == {3, 4}
        np.testing.assert_array_equal(pasted[::2], images[::2])


# ---- darkened


def bright(channels=2, layers=1, count=1):
    """Tissue 1 with a large tumour of 2 in it; beyond the head nothing."""
    images, masks = np.zeros((count, 64, 64, channels), np.float32), np.zeros((count, 64, 64, layers), np.uint8)
    images[:, HEAD], masks[:, disc(30, 30, 15), 0] = 1, 255
    images[masks[..., 0] > 0] = 2
    return images, masks


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_part_of_the_tumour_gets_darker_and_nothing_else_changes(seed):
    images, masks = bright()
    before, tumour = images.copy(), disc(30, 30, 15)
    darken_lesions(images, masks, np.random.default_rng(seed), 1.0)
    assert (images <= before).all() and (images >= 0).all()
    np.testing.assert_array_equal(images[0][~tumour], before[0][~tumour])
    darker = (images[0] < before[0]).any(axis=-1)
    assert 0.18 < darker[tumour].mean() < 0.82
    # A few blobs, and no grain of single pixels.
    assert cv2.connectedComponents(np.uint8(darker))[0] - 1 <= 5
    # At least 0.6 of the way from 2 to a level of 1 at most, where the field is full.
    assert images[0][tumour].min() < 1.5
    np.testing.assert_array_equal(masks, bright()[1])


def test_levels_of_sequences_differ_and_reach_from_dark_to_tissue():
    images, masks = bright(channels=3, count=300)
    darken_lesions(images, masks, np.random.default_rng(0), 1.0)
    deepest = images[:, disc(30, 30, 15)].min(axis=1)
    assert (deepest[:, 0] != deepest[:, 1]).all()
    # 2 + strength x (level - 2): from 1.4 (0.6 of the way to 1) down to 0.1 (all of the way to 0.1).
    assert 0.09 < deepest.min() < 0.4 and 1.2 < np.quantile(deepest, 0.95) < 1.6
    assert abs(np.corrcoef(deepest[:, 0], deepest[:, 1])[0, 1]) < 0.6


def test_what_is_darker_already_stays():
    images, masks = bright(count=40)
    images *= 0.04
    before = images.copy()
    darken_lesions(images, masks, np.random.default_rng(0), 1.0)
    np.testing.assert_array_equal(images, before)


def test_the_border_darkens_by_its_share():
    """A pixel of which half is tumour goes half of the way that a whole one would."""
    images, masks = bright(count=20)
    whole, half = images.copy(), images.copy()
    darken_lesions(whole, masks, np.random.default_rng(1), 1.0)
    darken_lesions(half, masks // 2, np.random.default_rng(1), 1.0)
    assert (whole < images).any()
    np.testing.assert_allclose(images - half, (images - whole) * 127 / 255, atol=1e-5)


@pytest.mark.parametrize("layers", [1, 3])
def test_as_many_tumours_are_darkened_as_was_asked(layers):
    images, masks = bright(count=400, layers=layers, channels=1)
    masks[::2] = 0
    if layers == 3:
        # Any layer is tumour.
        masks[1::4] = masks[1::4, ..., ::-1]
    before = images.copy()
    darken_lesions(images, masks, np.random.default_rng(0), 0.4)
    changed = (images != before).any(axis=(1, 2, 3))
    assert not changed[::2].any()
    assert 0.3 < changed[1::4].mean() < 0.5 and 0.3 < changed[3::4].mean() < 0.5


def test_neighbors_and_stand_ins_darken_alike():
    images, masks = bright(channels=6)
    darken_lesions(images, masks, np.random.default_rng(0), 1.0, context=1)
    np.testing.assert_array_equal(images[..., :2], images[..., 2:4])
    np.testing.assert_array_equal(images[..., :2], images[..., 4:])
    assert (images[..., 0] != images[..., 1]).any()
    images, masks = bright(channels=3)
    darken_lesions(images, masks, np.random.default_rng(0), 1.0, sources=np.array([[1, 1, 2]]))
    np.testing.assert_array_equal(images[..., 0], images[..., 1])
    assert (images[..., 0] != images[..., 2]).any()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 1)])
def test_tumours_of_a_few_pixels_are_no_trouble(size):
    images, masks = np.full((2, 16, 16, 1), 2, np.float32), np.zeros((2, 16, 16, 1), np.uint8)
    masks[0, 15 - size[0] : 15, : size[1]] = 255
    masks[1, 3, 3] = 100
    for seed in range(20):
        darken_lesions(images, masks, np.random.default_rng(seed), 1.0)
        paste_lesions(images, masks, np.random.default_rng(seed), 1.0)
    assert np.isfinite(images).all()
    # A tumour of which no pixel is half full is not given away.
    assert masks[0].sum() == 255 * size[0] * size[1]
