"""From stored slices to the network's input and back."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainseg_keras.data.inputs.preprocessing import Preprocessing, aligned_empty, intensity_range, normalize
from brainseg_keras.data.inputs.targets import Target
from brainseg_keras.data.phantom.lgg import phantom_volume
from brainseg_keras.errors import InputError


def head(scalp=150.0, brain=60.0, channels=3):
    """One slice: background 0, a ring of scalp, a disc of brain."""
    y, x = np.mgrid[:64, :64] - 31.5
    radius = np.hypot(y, x)
    image = np.where(radius < 24, brain, np.where(radius < 28, scalp, 0.0))
    return np.repeat(image[None, ..., None], channels, axis=-1)


def test_background_and_tissue_of_a_head():
    np.testing.assert_allclose(intensity_range(head()), [[0, 60]] * 3)


@pytest.mark.parametrize(("shared", "expected"), [(60, [150, 80, 80]), (50, [150, 80, 80]), (40, [50, 80, 0.001])])
def test_what_most_channels_show_is_the_head_where_all_show_less_than_half_of_it(shared, expected):
    """A hundred pixels of head, of which the third channel shows the first `shared`."""
    pixels = np.zeros((1, 20, 10, 3))
    head = pixels.reshape(-1, 3)[:100]
    # The median of the first channel is 150 where the third shows something, and 100 or 50 over the whole head.
    head[:, 0] = np.repeat([150, 100 if shared == 60 else 50, 50], [40, 20, 40])
    head[:, 1], head[:shared, 2] = 80, 80
    np.testing.assert_allclose(intensity_range(pixels), [[0, tissue] for tissue in expected])


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 7, 7, 3), (1, 33, 1, 1)])
def test_memory_begins_where_tensorflow_wants_it(shape):
    arrays = [aligned_empty(shape) for _ in range(40)]
    for number, array in enumerate(arrays):
        assert array.shape == shape and array.dtype == np.float32 and array.ctypes.data % 64 == 0
        array[...] = number
    assert all((array == number).all() for number, array in enumerate(arrays))


def test_bright_scalp_does_not_darken_the_brain():
    dull, bright = normalize(head(100), intensity_range(head(100))), normalize(head(250), intensity_range(head(250)))
    assert dull[0, 32, 32, 0] == bright[0, 32, 32, 0] == 1


def test_a_saturated_background_in_one_channel_does_not_set_its_tissue():
    image = head()
    image[..., 0] = np.where(image[..., 0] == 0, 255.0, image[..., 0])
    np.testing.assert_allclose(intensity_range(image)[1:], [[0, 60]] * 2)
    assert np.isfinite(normalize(image, intensity_range(image))).all()


def test_a_saturated_background_leaves_the_brain_in_range():
    """As in some patients of the LGG set: one channel's background is its brightest value."""
    rng = np.random.default_rng(0)
    image = np.clip(head() + rng.normal(0, 8, (1, 64, 64, 3)), 0, 255).round()
    image[..., 2] = np.where(head()[..., 2] == 0, 255.0, image[..., 2])
    seen = normalize(image, intensity_range(image))[0]
    brain = head()[0, ..., 0] == 60
    for channel in (0, 1):
        assert np.median(seen[brain][:, channel]) == pytest.approx(1, abs=0.1)
    assert 0.2 < np.median(seen[brain][:, 2]) < 3
    assert seen[brain][:, 2].std() > 0.1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value):
    image = head()
    image[0, 3, 3, 0] = value
    with pytest.raises(InputError, match="NaN or infinite"):
        intensity_range(image)


@settings(max_examples=40, deadline=None)
@given(scale=st.floats(0.01, 1000), offset=st.floats(-500, 500))
def test_scanner_gain_and_offset_do_not_matter(scale, offset):
    image = head() + np.random.default_rng(0).normal(0, 2, (1, 64, 64, 3))
    changed = image * scale + offset
    np.testing.assert_allclose(
        normalize(changed, intensity_range(changed)), normalize(image, intensity_range(image)), atol=2e-2
    )


def test_an_empty_channel_stays_finite():
    image = head()
    image[..., 2] = 0
    assert np.isfinite(normalize(image, intensity_range(image))).all()


def test_normalize_worked_numbers():
    images = np.array([10.0, 20.0, 30.0, 0.0, 1000.0]).reshape(1, 1, 5, 1)
    found = normalize(images, np.array([[10.0, 20.0]]))
    assert found.ravel().tolist() == [0, 1, 2, 0, 4]
    each = normalize(np.full((2, 1, 1, 1), 30.0), np.array([[[10.0, 20.0]], [[0.0, 60.0]]]))
    assert each.ravel().tolist() == [2.0, 0.5]


def test_bytes_and_floats_are_prepared_alike():
    images = np.random.default_rng(0).integers(0, 255, (2, 40, 50, 3), dtype=np.uint8)
    for size in (24, 50, 64):
        ours = Preprocessing(size).images(images)
        theirs = Preprocessing(size).images(images.astype("float64"))
        assert theirs.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, atol=1)
    np.testing.assert_array_equal(Preprocessing(50).images(images.astype("float16")), Preprocessing(50).images(images))


def test_padding_is_the_darkest_value_on_both_sides_and_never_tumour():
    images = np.full((1, 10, 20, 2), 5.0, "float32")
    images[0, 4, 7, 1] = -3
    padded = Preprocessing(20).images(images)
    assert (padded[0, :5] == -3).all()
    assert (padded[0, 15:] == -3).all()
    np.testing.assert_array_equal(padded[0, 5:15], images[0])
    masks = Preprocessing(20).masks(np.ones((1, 20, 9, 1), "uint8"))
    assert masks[0, ..., 0].sum(axis=0).tolist() == [0] * 5 + [20] * 9 + [0] * 6


@pytest.mark.parametrize("size", [32, 64, 96, 128])
@pytest.mark.parametrize("shape", [(64, 64), (48, 64), (64, 33)])
def test_a_smooth_map_comes_back_where_it_was(shape, size):
    """A shift of half a pixel would show: the map rises by 0.04 a pixel."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype("float32")
    smooth = (2 + np.sin(y / 25) + np.cos(x / 25))[None]
    step = Preprocessing(size)
    back = step.restore(step.images(smooth[..., None])[..., 0], shape)
    assert back.shape == smooth.shape
    np.testing.assert_allclose(back[:, 3:-3, 3:-3], smooth[:, 3:-3, 3:-3], atol=0.006)


@pytest.mark.parametrize("size", [16, 40, 64])
def test_a_constant_stays_constant(size):
    np.testing.assert_array_equal(Preprocessing(size).images(np.full((1, 40, 40, 3), 77, "uint8")), 77)
    np.testing.assert_array_equal(Preprocessing(size, blur=2.0).images(np.full((1, 40, 40, 3), 77, "uint8")), 77)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(16, 90),
    width=st.integers(16, 90),
    size=st.sampled_from([16, 32, 64]),
    channels=st.integers(1, 4),
)
def test_any_size_comes_back_to_itself(height, width, size, channels):
    rng = np.random.default_rng(height * width)
    images = rng.integers(0, 255, (2, height, width, channels), dtype=np.uint8)
    step = Preprocessing(size)
    small = step.images(images)
    assert small.shape == (2, size, size, channels)
    assert small.dtype == np.uint8
    masks = np.uint8(255) * (images > 128)
    assert step.masks(masks).dtype == np.uint8
    assert step.masks(masks).shape == (2, size, size, channels)
    assert (
        step.restore(np.ones((2, size, size), "float32"), (height, width)).tolist()
        == np.ones((2, height, width)).tolist()
    )


@pytest.mark.parametrize("shape", [(64, 64), (48, 64), (64, 33)])
def test_a_disc_lands_where_it_was(shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    disc = ((y - shape[0] / 2 + 0.5) ** 2 + (x - 0.4 * shape[1]) ** 2 < 90).astype("uint8")[None]
    step = Preprocessing(128)
    back = step.restore(step.masks(255 * disc[..., None])[..., 0] / 255, shape) > 0.5
    assert (back & (disc > 0)).sum() / (back | (disc > 0)).sum() > 0.97


def test_equal_size_is_left_alone():
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(Preprocessing(32).images(images), images)
    maps = np.random.default_rng(0).random((2, 32, 32))
    np.testing.assert_array_equal(Preprocessing(32).restore(maps, (32, 32)), maps)


def test_shrinking_is_by_area():
    images = np.random.default_rng(0).random((1, 12, 12, 1), "float32")
    blocks = images.reshape(3, 4, 3, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(Preprocessing(3).images(images)[0, ..., 0], blocks, rtol=1e-5)


def test_a_mask_keeps_the_share_of_each_pixel_that_is_tumour():
    mask = np.zeros((1, 4, 4, 1), np.uint8)
    mask[0, 0, 0], mask[0, 0, 1], mask[0, 2:, 2:] = 255, 255, 255
    np.testing.assert_array_equal(Preprocessing(2).masks(mask)[0, ..., 0], [[128, 0], [0, 255]])


def disc(shape, center, radius):
    """A disc with soft edges: the share of each pixel inside, from 8 x 8 points a pixel."""
    places = [(np.arange(8 * side) + 0.5) / 8 - 0.5 for side in shape]
    inside = (places[0][:, None] - center[0]) ** 2 + (places[1] - center[1]) ** 2 < radius**2
    return inside.reshape(shape[0], 8, shape[1], 8).mean(axis=(1, 3))


def center_of(picture):
    """The centroid in pixels from the picture's upper left corner, so that it scales with the picture."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    return np.array([(picture * y).sum(), (picture * x).sum()]) / picture.sum()


@pytest.mark.parametrize("stored", [(128, 128), (127, 127), (96, 128), (130, 101)])
@pytest.mark.parametrize("size", [32, 33, 43, 63, 64, 65, 96, 127, 128, 129, 191, 192, 255, 256, 384, 511, 512])
def test_images_masks_and_maps_stay_on_each_other(stored, size):
    """From a quarter to four times: the center of a disc stays where it was, to 0.02 of a stored pixel, both ways."""
    step, side = Preprocessing(size), max(stored)
    where = (0.55 * stored[0], 0.45 * stored[1])
    picture = np.round(255 * disc(stored, where, 0.21 * side)).astype(np.uint8)[None, ..., None]
    labels = (picture[..., 0] > 127).astype(np.uint8)
    # In the network's square, in stored pixels: the padding is half of what is missing, whole pixels.
    padding = np.array([(side - stored[0]) // 2, (side - stored[1]) // 2])
    for name, was, found in (
        ("image", picture, step.images(picture)),
        ("float image", picture, step.images(picture.astype("float32"))),
        ("mask", labels[..., None], step.masks(Target("tumour").layers(labels))),
        ("mask of class 2", labels[..., None], step.masks(Target("classes").layers(2 * labels))[..., 1:2]),
    ):
        there = center_of(found[0, ..., 0]) * side / size
        assert np.abs(there - center_of(was[0, ..., 0]) - padding).max() < 0.02, name
        maps = step.restore(found[..., 0].astype("float32"), stored)
        assert maps.shape == (1, *stored), name
        assert np.abs(center_of(maps[0]) - center_of(was[0, ..., 0])).max() < 0.02, name


@pytest.mark.parametrize(("size", "least"), [(128, 0.985), (160, 0.99), (256, 1.0), (300, 0.999)])
def test_a_mask_survives_the_way_to_the_network_and_back(size, least):
    """What a perfect network could reach; masks at the nearest label, half a pixel off, had 0.96 at 128."""
    rng = np.random.default_rng(0)
    labels = np.zeros((6, 256, 256), np.uint8)
    for picture in labels:
        for _ in range(3):
            radius = rng.uniform(8, 40)
            picture |= disc((256, 256), rng.uniform(60, 200, 2), radius) > 0.5
    step, target = Preprocessing(size), Target("tumour")
    back = target.decode(step.restore_channels(target.encode(step.masks(target.layers(labels))), (256, 256)))
    assert 2 * (back & labels).sum() / (back.sum() + labels.sum()) >= least


@pytest.mark.parametrize("name", ["classes", "regions"])
@pytest.mark.parametrize("size", [8, 12, 20])
def test_no_label_comes_up_between_two(name, size):
    """Between edema (2) and background a mixture of numbers would be necrosis (1)."""
    labels = np.kron([[0, 2, 0], [2, 0, 3]], np.ones((5, 4), int)).astype(np.uint8)[None]
    step, target = Preprocessing(size), Target(name)
    truth = target.encode(step.masks(target.layers(labels)))
    assert set(np.unique(target.decode(truth))) <= {0, 2, 3}
    if name == "classes":
        np.testing.assert_allclose(truth.sum(axis=-1), 1, atol=0.01)
        assert not truth[..., 1].any()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_blur_and_clahe_change_the_picture_and_not_its_form(channels, dtype):
    images = np.random.default_rng(0).integers(0, 100, (2, 32, 32, channels)).astype(dtype)
    blurred = Preprocessing(32, blur=1.5).images(images)
    assert blurred.dtype == dtype
    assert blurred.shape == images.shape
    assert blurred.astype(float).std() < 0.5 * images.astype(float).std()
    one_by_one = np.concatenate([Preprocessing(32, blur=1.5).images(images[n : n + 1]) for n in range(2)])
    np.testing.assert_array_equal(blurred, one_by_one, err_msg="slices must not blur into each other")
    equal = Preprocessing(32, clahe=2.0).images(images)
    assert equal.dtype == dtype
    assert equal.shape == images.shape
    assert (equal != images).any()


def test_clahe_raises_local_contrast():
    ramp = np.tile(np.linspace(100, 120, 64), (64, 1)).astype("uint8")[None, ..., None]
    assert np.ptp(Preprocessing(64, clahe=4.0).images(ramp).astype(int)) > 1.4 * np.ptp(ramp.astype(int))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_each_channel_is_equalized_in_eight_by_eight_tiles(dtype):
    images = np.random.default_rng(0).integers(20, 220, (2, 64, 64, 2)).astype(dtype)
    found = Preprocessing(64, clahe=2.0).images(images)
    clahe = cv2.createCLAHE(2.0, (8, 8))
    # Floats are equalized as 16 bits between the least and the largest of all.
    low, scale = (images.min(), 65535 / np.ptp(images)) if dtype == "float32" else (0, 1)
    whole = np.round((images - low) * scale).astype("uint16" if dtype == "float32" else "uint8")
    for number in range(2):
        for channel in range(2):
            expected = clahe.apply(np.ascontiguousarray(whole[number, ..., channel])) / scale + low
            np.testing.assert_allclose(found[number, ..., channel], expected, rtol=1e-5)


def test_a_filtered_volume_is_normalized_by_what_the_filter_left():
    """CLAHE lifts dark tissue: by the raw range it would run into the clip."""
    images = np.clip(head(60, 20) + np.random.default_rng(0).normal(0, 2, (1, 64, 64, 3)), 0, 255).astype("uint8")
    prepared, intensity = Preprocessing(64, clahe=4.0).volume(images, intensity_range(images))
    np.testing.assert_allclose(intensity, intensity_range(prepared))
    assert (intensity[:, 1] > 1.2 * intensity_range(images)[:, 1]).all()
    plain, kept = Preprocessing(64).volume(images, np.array([[1.0, 2.0]] * 3))
    np.testing.assert_array_equal(plain, images)
    assert kept.tolist() == [[1, 2]] * 3


def test_a_blurred_point_is_a_gaussian():
    point = np.zeros((1, 33, 33, 1), "float32")
    point[0, 16, 16] = 1
    spread = Preprocessing(33, blur=2.0).images(point)[0, ..., 0]
    offsets = np.arange(33) - 16
    assert spread.sum() == pytest.approx(1, abs=1e-3)
    assert np.sqrt((spread.sum(axis=0) * offsets**2).sum()) == pytest.approx(2, rel=0.03)


def test_blur_comes_before_clahe():
    images = np.random.default_rng(0).integers(0, 200, (1, 64, 64, 1), dtype=np.uint8)
    both = Preprocessing(64, blur=1.0, clahe=3.0).images(images)
    steps = Preprocessing(64, clahe=3.0).images(Preprocessing(64, blur=1.0).images(images))
    np.testing.assert_array_equal(both, steps)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_bytes_are_looked_up_to_the_same_bits(channels):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 16, 16, channels), dtype=np.uint8)
    ranges = np.stack([rng.uniform(0, 20, (3, channels)), rng.uniform(40, 90, (3, channels))], axis=-1)
    np.testing.assert_array_equal(normalize(images, ranges), normalize(images.astype("float32"), ranges))
    np.testing.assert_array_equal(normalize(images, ranges[0]), normalize(images.astype("float32"), ranges[0]))


@pytest.mark.parametrize("index", range(4))
def test_a_phantoms_brain_falls_neither_to_black_nor_into_the_clip(index):
    """What is asked of real volumes too: also with vessels as bright as can be, in a pixel of a thousand."""
    images, masks = phantom_volume(8, index, slices=12, size=96)
    images[np.random.default_rng(index).random(images.shape[:3]) < 1e-3] = 255
    shown = normalize(images, intensity_range(images))
    with_tumour = masks.any(axis=(1, 2))
    middle = np.median(shown[with_tumour][:, 30:66, 30:66], axis=(0, 1, 2))
    assert (middle > 0.5).all() and (middle < 1.5).all()
    assert 0.9 < np.median(shown[masks > 0][:, 1]) < 2.5
    assert (shown == 4).mean() < 0.03
