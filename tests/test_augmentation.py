"""Augmentation: image and mask move together, and nothing is mirrored in."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainseg_keras.data.inputs.augmentation import Augmentation
from brainseg_keras.data.inputs.preprocessing import normalize

STILL = Augmentation(rotate=0, flip=0, zoom=0, shift=0, intensity=0, noise=0)
GEOMETRY = {"intensity": 0.0, "noise": 0.0}


def blob(row=28, column=40, radius=6, size=64):
    y, x = np.mgrid[:size, :size]
    mask = ((y - row) ** 2 + (x - column) ** 2 <= radius**2).astype("uint8")
    return np.repeat(mask[None, ..., None], 3, axis=-1).astype("float32"), np.uint8(255) * mask[None, ..., None]


def center(mask):
    return np.argwhere(mask[0, ..., 0] > 127).mean(axis=0)


def test_all_off_is_the_identity():
    images, masks = blob()
    out_images, out_masks = STILL(images, masks, np.random.default_rng(0))
    np.testing.assert_array_equal(out_images, images)
    np.testing.assert_array_equal(out_masks, masks)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_image_and_mask_move_together(seed):
    images, masks = blob(radius=9)
    moved, moved_masks = Augmentation(**GEOMETRY)(images, masks, np.random.default_rng(seed))
    bright = moved[0, ..., 1] > 0.5
    overlap = (bright & (moved_masks[0, ..., 0] > 127)).sum() / (bright | (moved_masks[0, ..., 0] > 127)).sum()
    assert overlap > 0.88
    assert moved_masks.dtype == np.uint8
    assert moved.dtype == np.float32


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_flip_is_numpys(channels):
    rng = np.random.default_rng(0)
    images, masks = rng.random((3, 16, 20, channels), "float32"), rng.integers(0, 2, (3, 16, 20, 1), "uint8")
    flipped = Augmentation(rotate=0, flip=1, zoom=0, shift=0, **GEOMETRY)(images, masks, rng)
    np.testing.assert_allclose(flipped[0], images[:, :, ::-1], atol=1e-6)
    np.testing.assert_array_equal(flipped[1], masks[:, :, ::-1])


class Fixed:
    """Random numbers at the upper end of each range: the largest angle, scale and shift."""

    def uniform(self, low, high, size=None):
        return high if size is None else np.full(size, high)

    def random(self, size):
        return np.full(size, 0.5)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"rotate": 90}, (22, 21)),  # x = -9.5, y = 10.5 from the center; a quarter turn makes x = -10.5, y = -9.5
        ({"zoom": 1.0}, (52.5, 12.5)),  # both distances double
        ({"shift": 0.125}, (50, 30)),  # an eighth of 64 pixels
        ({"flip": 1.0}, (42, 41)),  # 63 - 22
        ({"flip": 1.0, "rotate": 90}, (41, 21)),  # first mirrored, to x = 9.5; then x = -10.5, y = 9.5
        ({"rotate": 90, "zoom": 1.0}, (12.5, 10.5)),  # turned, then both distances double: x = -21, y = -19
        ({"rotate": 90, "shift": 0.125}, (30, 29)),  # turned about the center, then 8 pixels down and to the right
    ],
    ids=["rotate", "zoom", "shift", "flip", "flip and rotate", "rotate and zoom", "rotate and shift"],
)
def test_where_a_point_goes(setting, expected):
    """Worked by hand: row 42, column 22 of 64 pixels a side, so that the center is (31.5, 31.5)."""
    images, masks = blob(row=42, column=22, radius=0)
    still = {"rotate": 0, "flip": 0, "zoom": 0, "shift": 0}
    moved, moved_masks = Augmentation(**(still | setting), **GEOMETRY)(images, masks, Fixed())
    spot = center(moved_masks)
    np.testing.assert_allclose(spot, expected, atol=0.6)
    weights = moved[0, ..., 0]
    bright = [(weights * axis).sum() / weights.sum() for axis in np.mgrid[:64, :64]]
    np.testing.assert_allclose(bright, expected, atol=0.6)


def test_a_shift_is_a_share_of_its_own_side():
    masks = np.zeros((1, 32, 64, 1), "uint8")
    masks[0, 10, 20] = 255
    shift = Augmentation(rotate=0, flip=0, zoom=0, shift=0.25, **GEOMETRY)
    _, moved = shift(masks.astype("float32"), masks, Fixed())
    assert np.argwhere(moved[0, ..., 0]).tolist() == [[10 + 8, 20 + 16]]


def test_rotation_stays_within_its_angle_and_uses_it():
    images, masks = blob(row=31, column=55, radius=4)
    angles = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        _, moved = Augmentation(rotate=20, flip=0, zoom=0, shift=0, **GEOMETRY)(images, masks, rng)
        y, x = center(moved) - 31.5
        assert np.hypot(y, x) == pytest.approx(23.5, abs=1)
        angles.append(np.degrees(np.arctan2(y, x)))
    assert -22 < min(angles) < -12
    assert 12 < max(angles) < 22


def test_zoom_stays_within_its_factor_both_ways():
    images, masks = blob(row=31, column=31, radius=14)
    sizes = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        _, moved = Augmentation(rotate=0, flip=0, zoom=0.25, shift=0, **GEOMETRY)(images, masks, rng)
        sizes.append(np.sqrt(moved.sum() / masks.sum()))
    assert 0.78 < min(sizes) < 0.88
    assert 1.15 < max(sizes) < 1.27


def test_shift_stays_within_its_share():
    images, masks = blob()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        _, moved = Augmentation(rotate=0, flip=0, zoom=0, shift=0.1, **GEOMETRY)(images, masks, rng)
        assert (abs(center(moved) - center(masks)) <= 0.1 * 64 + 0.6).all()


def test_what_comes_into_view_is_background():
    """A mirrored border would put a second tumour there."""
    images, masks = blob(row=32, column=60, radius=3)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        moved, moved_masks = Augmentation(rotate=40, flip=0, zoom=0.3, shift=0.3, **GEOMETRY)(images, masks, rng)
        assert moved_masks.sum() <= 1.8 * masks.sum()
    constant = Augmentation(rotate=0, flip=0, zoom=0, shift=0.5, **GEOMETRY)
    moved, _ = constant(np.ones((1, 32, 32, 1), "float32"), np.zeros((1, 32, 32, 1), "uint8"), np.random.default_rng(1))
    assert moved.min() == 0


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_what_comes_into_view_is_each_channels_own_background(dtype, channels):
    """A slice that is background all over stays so, wherever its scanner put zero."""
    background = np.arange(20, 20 + 10 * channels, 10)
    images = np.tile(background, (2, 16, 16, 1)).astype(dtype)
    ranges = np.tile(np.stack([background, background + 50], axis=-1).astype("float32"), (2, 1, 1))
    moving = Augmentation(rotate=30, zoom=0.5, shift=0.5, noise=0)
    masks = np.full((2, 16, 16, 1), 255, "uint8")
    moved, moved_masks = moving.normalized(images, masks, ranges, np.random.default_rng(2))
    assert (moved == 0).all()
    assert 0 < moved_masks.mean() < 255 and moved_masks.max() == 255


@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_border_is_half_background_when_all_moves_by_half_a_pixel(dtype, channels):
    """Tissue 80 over a background of 60 meets 60, and not 0: half-way is 70, which is half of the tissue."""
    images = np.full((1, 16, 16, channels), 80, dtype)
    ranges = np.tile(np.array([60.0, 80.0], "float32"), (1, channels, 1))
    half = Augmentation(rotate=0, flip=0, zoom=0, shift=0.5 / 16, **GEOMETRY)
    moved, _ = half.normalized(images, np.full((1, 16, 16, 1), 255, "uint8"), ranges, Fixed())
    np.testing.assert_allclose(moved[0, 1:, 0], 0.5, atol=1e-6)
    np.testing.assert_allclose(moved[0, 1:, 1:], 1, atol=1e-6)


def test_a_flipped_slice_turns_as_far_as_any():
    """Flip and rotation together are a mirror image and no shear: distances stay as they were."""
    masks = np.zeros((200, 64, 64, 3), "uint8")
    corners = np.array([[20, 20], [20, 44], [40, 20]])
    for layer, (row, column) in enumerate(corners):
        masks[:, row - 1 : row + 2, column - 1 : column + 2, layer] = 255
    turned = Augmentation(rotate=45, flip=0.5, zoom=0, shift=0, **GEOMETRY)
    _, moved = turned(masks.astype("float32"), masks, np.random.default_rng(0))
    indices = np.array([[np.argwhere(mask[..., layer] > 100).mean(axis=0) for layer in range(3)] for mask in moved])
    sides = np.linalg.norm(indices[:, [1, 2, 2]] - indices[:, [0, 0, 1]], axis=-1)
    np.testing.assert_allclose(sides, np.tile([24, 20, np.hypot(24, 20)], (200, 1)), atol=1.5)
    across, down = indices[:, 1] - indices[:, 0], indices[:, 2] - indices[:, 0]
    turn = across[:, 1] * down[:, 0] - across[:, 0] * down[:, 1]
    # Mirrored or not, and neither is rare.
    np.testing.assert_allclose(np.abs(turn), 24 * 20, atol=60)
    assert 0.4 < (turn < 0).mean() < 0.6


def test_same_generator_same_result_and_each_slice_its_own():
    images, masks = (np.repeat(array, 2, axis=0) for array in blob())
    first = Augmentation()(images, masks, np.random.default_rng(7))
    again = Augmentation()(images, masks, np.random.default_rng(7))
    other = Augmentation()(images, masks, np.random.default_rng(8))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()
    assert (first[0][0] != first[0][1]).any()


def test_contrast_keeps_the_background_and_bounds_the_rest():
    images = np.zeros((40, 8, 8, 2), "float32")
    images[:, :4] = 1
    masks = np.zeros((40, 8, 8, 1), "uint8")
    settings_ = {"rotate": 0, "flip": 0, "zoom": 0, "shift": 0, "noise": 0}
    changed, _ = Augmentation(intensity=0.2, **settings_)(images, masks, np.random.default_rng(0))
    assert (changed[:, 4:] == 0).all()
    assert 1 / 1.2 - 1e-5 <= changed[:, :4].min() < 0.9
    assert 1.1 < changed[:, :4].max() <= 1.2 + 1e-5
    assert (changed[:, 0, 0, 0] != changed[:, 0, 0, 1]).all(), "each channel has a gain of its own"


def test_gamma_bends_what_lies_between_background_and_tissue():
    """Gain alone keeps ratios; gamma does not, and fixes 0."""
    images = np.zeros((30, 8, 8, 1), "float32")
    images[:, :4], images[:, 4] = 1, 0.5
    settings_ = {"rotate": 0, "flip": 0, "zoom": 0, "shift": 0, "noise": 0}
    changed, _ = Augmentation(intensity=0.2, **settings_)(
        images, np.zeros((30, 8, 8, 1), "uint8"), np.random.default_rng(0)
    )
    gamma = np.log(changed[:, 4, 0, 0] / changed[:, 0, 0, 0]) / np.log(0.5)
    assert 1 / 1.2 - 1e-4 <= gamma.min() < 0.9
    assert 1.1 < gamma.max() <= 1.2 + 1e-4
    assert abs(np.corrcoef(gamma, changed[:, 0, 0, 0])[0, 1]) < 0.5


def test_half_of_the_slices_are_flipped():
    images, masks = (np.repeat(array, 400, axis=0) for array in blob(size=32, row=16, column=8, radius=2))
    _, moved = Augmentation(rotate=0, flip=0.5, zoom=0, shift=0, **GEOMETRY)(images, masks, np.random.default_rng(0))
    flipped = moved[:, 16, 23] > 0
    assert (moved[:, 16, 8] > 0).sum() == (~flipped).sum()
    assert 0.4 < flipped.mean() < 0.6


def test_noise_is_of_every_channel_and_of_the_asked_spread():
    settings_ = {"rotate": 0, "flip": 0, "zoom": 0, "shift": 0, "intensity": 0}
    images, masks = np.ones((60, 32, 32, 3), "float32"), np.zeros((60, 32, 32, 1), "uint8")
    noisy, _ = Augmentation(noise=0.1, **settings_)(images, masks, np.random.default_rng(0))
    spreads = (noisy - 1).std(axis=(1, 2))
    assert spreads.max() < 0.11
    assert 0.04 < spreads.mean() < 0.06
    np.testing.assert_allclose(spreads[:, 0], spreads[:, 2], rtol=0.2)
    assert abs(np.corrcoef(noisy[0, ..., 0].ravel(), noisy[0, ..., 1].ravel())[0, 1]) < 0.1


def test_inputs_are_not_written_to():
    images, masks = blob()
    copies = images.copy(), masks.copy()
    Augmentation()(images, masks, np.random.default_rng(0))
    np.testing.assert_array_equal(images, copies[0])
    np.testing.assert_array_equal(masks, copies[1])


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels_up_to_four(channels):
    images = np.ones((2, 16, 16, channels), "float32")
    moved, _ = Augmentation()(images, np.full((2, 16, 16, 1), 255, "uint8"), np.random.default_rng(0))
    assert moved.shape == images.shape


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_bytes_moved_and_then_looked_up_are_normalized_pixels_moved(channels):
    """The fast way of stored bytes is the plain way, but for the rounding of moved pixels to bytes."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (6, 8, 10, channels), "uint8")
    images = np.stack([cv2.resize(image, (40, 32)).reshape(32, 40, channels) for image in coarse])
    masks = rng.integers(0, 256, (6, 32, 40, 2), "uint8")
    intensity = np.stack([rng.integers(0, 9, (6, channels)), rng.integers(60, 120, (6, channels))], -1).astype(
        "float32"
    )
    augmentation = Augmentation(intensity=0.3, noise=0.02)
    fast_images, fast_masks = augmentation.normalized(images, masks, intensity, np.random.default_rng(5))
    plain = normalize(images, intensity)
    plain_images, plain_masks = augmentation(plain, masks, np.random.default_rng(5))
    np.testing.assert_array_equal(fast_masks, plain_masks)
    # Normalized pixels are clipped before they are mixed, and gamma is steep near 0: hence the loose extremes.
    error = np.abs(fast_images - plain_images)
    assert np.quantile(error, 0.95) < 0.05
    assert np.median(error) < 0.015
    floats, _ = augmentation.normalized(images.astype("float32"), masks, intensity, np.random.default_rng(5))
    np.testing.assert_array_equal(floats, plain_images)


@pytest.mark.parametrize("context", [0, 1])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_flair_stands_in_for_others_with_its_own_range(dtype, context):
    """What stands in is the very picture of the other channel, normalized as it is; neighbors change alike."""
    rng = np.random.default_rng(0)
    own = rng.integers(0, 200, (200, 12, 12, 3)).astype(dtype)
    images = np.concatenate([own] * (2 * context + 1), axis=-1)
    ranges = np.tile(np.array([[0.0, 100.0], [10.0, 50.0], [0.0, 80.0]]), (200, 2 * context + 1, 1))
    still = Augmentation(rotate=0, flip=0, zoom=0, shift=0, intensity=0, noise=0, stand_in=0.6, stand_in_channel=1)
    masks = np.zeros((200, 12, 12, 1), np.uint8)
    changed, _ = still.normalized(images, masks, ranges, np.random.default_rng(1), context)
    plain = normalize(images, ranges)
    replaced = np.array([[np.array_equal(c[..., k], c[..., 1]) for k in (0, 2)] for c in changed])
    for image, before, (first, last) in zip(changed, plain, replaced, strict=True):
        np.testing.assert_array_equal(image[..., 1], before[..., 1])
        np.testing.assert_array_equal(image[..., 0], before[..., 1 if first else 0])
        np.testing.assert_array_equal(image[..., 2], before[..., 1 if last else 2])
        np.testing.assert_array_equal(image[..., -3:], image[..., :3])
    # 0.6: half for all; else for one of the three, which may be FLAIR itself.
    assert 0.2 < replaced.all(axis=1).mean() < 0.4 and 0.1 < (replaced.sum(axis=1) == 1).mean() < 0.3


def test_of_one_channel_only_itself_can_stand_in():
    images = np.random.default_rng(0).random((8, 12, 12, 1), "float32")
    masks = np.zeros((8, 12, 12, 1), np.uint8)
    still = Augmentation(rotate=0, flip=0, zoom=0, shift=0, intensity=0, noise=0, stand_in=1.0)
    np.testing.assert_array_equal(still(images, masks, np.random.default_rng(3))[0], images)


def test_nothing_stands_in_unless_asked():
    images = np.random.default_rng(0).random((8, 12, 12, 3))
    masks = np.zeros((8, 12, 12, 1), np.uint8)
    first, _ = Augmentation()(images, masks, np.random.default_rng(3))
    second, _ = Augmentation(stand_in=0.0, stand_in_channel=2)(images, masks, np.random.default_rng(3))
    np.testing.assert_array_equal(first, second)


ALL_ON = {"darken": 0.7, "paste": 0.7, "bias_field": 0.3, "low_resolution": 0.5, "elastic": 0.04}


def heads(dtype, channels=3, count=6):
    """Heads with a texture of their own, each other one with a tumour."""
    y, x = np.mgrid[:40, :40]
    images = np.random.default_rng(0).integers(60, 140, (count, 40, 40, channels)).astype(dtype)
    images[:, np.hypot(y - 20, x - 20) > 17] = 0
    masks = np.zeros((count, 40, 40, 1), np.uint8)
    masks[::2, 14:26, 16:24] = 255
    return images, masks, np.tile(np.float32([0, 100]), (count, channels, 1))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("name", [*ALL_ON, "all"])
def test_what_is_on_is_a_function_of_the_generator_and_treats_neighbors_alike(name, dtype):
    images, masks, ranges = heads(dtype)
    stacked = np.concatenate([images] * 3, axis=-1), masks, np.tile(ranges, (1, 3, 1))
    copies = [array.copy() for array in stacked]
    augment = Augmentation(noise=0, **(ALL_ON if name == "all" else {name: ALL_ON[name]}))
    moved, moved_masks = augment.normalized(*stacked, np.random.default_rng(3), context=1)
    for array, copy in zip(stacked, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    again = augment.normalized(*stacked, np.random.default_rng(3), context=1)
    np.testing.assert_array_equal(moved, again[0])
    np.testing.assert_array_equal(moved_masks, again[1])
    np.testing.assert_array_equal(moved[..., :3], moved[..., 3:6])
    np.testing.assert_array_equal(moved[..., :3], moved[..., 6:])
    plain, plain_masks = Augmentation(noise=0).normalized(*stacked, np.random.default_rng(3), context=1)
    assert (moved != plain).any()
    assert moved_masks.dtype == np.uint8 and moved.dtype == np.float32 and np.isfinite(moved).all()
    # Only what moves or pastes changes a mask; the rest leaves the draws of the others as they are.
    assert (moved_masks != plain_masks).any() == (name in ("paste", "elastic", "all"))
    if name == "paste":
        untouched = (moved == plain).all(axis=-1)
        np.testing.assert_array_equal(moved_masks[untouched], plain_masks[untouched])
        assert 0.5 < untouched.mean() < 1
    if name in ("darken", "bias_field"):
        assert (moved[plain == 0] == 0).all()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_elastic_moves_image_and_mask_by_one_map(dtype):
    masks = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (48, 48), "uint8"), (0, 0), 4)
    masks = np.stack([cv2.normalize(masks, None, 0, 255, cv2.NORM_MINMAX)] * 3)[..., None]
    images = np.repeat(masks, 3, axis=-1).astype(dtype)
    ranges = np.tile(np.float32([0, 255]), (3, 3, 1))
    elastic = Augmentation(elastic=0.05, **GEOMETRY)
    moved, moved_masks = elastic.normalized(images, masks, ranges, np.random.default_rng(1))
    np.testing.assert_allclose(moved[..., 1], moved_masks[..., 0] / 255, atol=1.01 / 255)
    stiff = Augmentation(**GEOMETRY).normalized(images, masks, ranges, np.random.default_rng(1))
    assert np.abs(moved_masks.astype(int) - stiff[1]).max() > 30


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_what_bends_into_view_is_each_channels_own_background(dtype):
    background = np.array([20, 60, 90])
    images = np.tile(background, (4, 32, 32, 1)).astype(dtype)
    ranges = np.tile(np.stack([background, background + 50], axis=-1).astype("float32"), (4, 1, 1))
    masks = np.full((4, 32, 32, 1), 255, "uint8")
    moved, moved_masks = Augmentation(elastic=0.05, bias_field=0.5, noise=0).normalized(
        images, masks, ranges, np.random.default_rng(2)
    )
    assert (moved == 0).all()
    assert 0 < moved_masks.mean() < 255


def test_a_slice_with_a_sequence_that_stands_in_is_pasted_among_its_like():
    """FLAIR alone, three times: no pixel of it may come to have three pictures, nor the other way round."""
    images, masks, _ = heads("float32", count=40)
    images /= 100
    still = {"rotate": 0, "flip": 0, "zoom": 0, "shift": 0, "intensity": 0, "noise": 0}
    augment = Augmentation(**still, paste=1.0, darken=1.0, stand_in=0.5)
    changed, _ = augment(images, masks, np.random.default_rng(0))
    alike = (changed[..., 1] == changed[..., 0]) & (changed[..., 2] == changed[..., 0])
    head = (images > 0).all(axis=-1)
    shares = np.array([own[inside].mean() for own, inside in zip(alike, head, strict=True)])
    assert ((shares == 1) | (shares < 0.05)).all()
    assert 4 < (shares == 1).sum() < 20
