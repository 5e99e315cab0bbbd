"""Percentiles of bytes, which are counted, against NumPy's, which sorts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from brainseg_keras.data.inputs.preprocessing import intensity_range
from brainseg_keras.data.inputs.ranks import exceeds, percentiles


@given(
    arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=9)),
    st.sampled_from([0, 1, 50, 99.5, 100]) | st.floats(0, 100),
    st.randoms(use_true_random=False),
)
def test_bytes_have_numpys_percentiles(plane, share, random):
    assert percentiles(plane, (share, 99.5)) == np.percentile(plane, (share, 99.5)).tolist()
    inside = np.array([random.random() < 0.5 for _ in range(plane.size)]).reshape(plane.shape)
    if inside.any():
        assert percentiles(plane, (share,), inside) == [np.percentile(plane[inside], share)]


def test_counts_of_a_volume_are_whole_numbers():
    """2^24 + 1 is no float32: sums of slices must not be made in it."""
    plane = np.zeros((2, 2**12, 2**12), np.uint8)
    plane[1, 0, 0] = 9
    place = 100 * (1 - 1 / (plane.size - 1))
    assert percentiles(plane, (100, place)) == [9, np.percentile(plane, place)]


@given(arrays(np.uint8, (2, 3, 4)), st.floats(0, 255))
def test_bytes_exceed_what_their_numbers_exceed(plane, level):
    np.testing.assert_array_equal(exceeds(plane, level), plane.astype(np.float64) > level)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("highest", [1, 5, 256])
def test_the_range_of_bytes_is_that_of_their_numbers(channels, highest):
    """An odd and an even number of pixels, so that medians lie on one and between two."""
    rng = np.random.default_rng(highest)
    for shape in ((3, 7, 9), (2, 8, 5)):
        images = rng.integers(0, highest, (*shape, channels), np.uint8)
        np.testing.assert_array_equal(intensity_range(images), intensity_range(images.astype(np.float64)))
