"""Figures of masks and the choice of components, against the slow and plain way."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from brainseg_keras.data.inputs.targets import TUMOUR
from brainseg_keras.evaluation.lesions import bounding_box
from brainseg_keras.inference.measures import largest_diameter, measure
from brainseg_keras.postprocessing import Postprocessing

volumes = arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)))
spacings = st.one_of(st.none(), st.tuples(*[st.floats(0.25, 8)] * 3))


def kept(mask, **rule):
    """What stays of a mask by a rule."""
    return Postprocessing(**rule).labels(np.float32(mask)[..., np.newaxis], TUMOUR) > 0


def parts_of(mask):
    parts, number = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    return [parts == part for part in range(1, number + 1)]


@settings(deadline=None)
@given(volumes)
def test_the_largest_component_is_the_first_of_the_largest(mask):
    parts = parts_of(mask)
    expected = max(parts, key=np.count_nonzero) if parts else np.zeros(mask.shape, bool)
    np.testing.assert_array_equal(kept(mask, largest_component=True), expected)


@settings(deadline=None)
@given(volumes, st.integers(1, 12))
def test_small_components_go_and_no_others(mask, smallest):
    parts = [part for part in parts_of(mask) if np.count_nonzero(part) >= smallest]
    expected = np.any(parts, axis=0) if parts else np.zeros(mask.shape, bool)
    np.testing.assert_array_equal(kept(mask, smallest_component=smallest), expected)


@settings(deadline=None)
@given(volumes)
def test_the_bounding_box_holds_all_and_is_tight(mask):
    if not mask.any():
        return
    box = bounding_box(mask)
    assert mask[box].sum() == mask.sum()
    for axis in range(3):
        ends = np.take(mask[box], [0, -1], axis=axis)
        assert all(np.take(ends, end, axis=axis).any() for end in (0, 1))


@settings(deadline=None)
@given(volumes, spacings)
def test_measures_by_every_pixel_and_every_pair(mask, spacing):
    tumour = np.random.default_rng(0).random(mask.shape, "float32")
    found = measure(mask.astype(np.uint8), tumour, spacing)
    assert found.tumour_size == mask.sum()
    # What is marked in one slice is an area, in several a volume.
    assert found.size_unit == ("pixels" if len(mask) == 1 else "voxels")
    assert found.tumour_ml == (None if spacing is None else pytest.approx(mask.sum() * np.prod(spacing) / 1000))
    assert found.confidence == pytest.approx(tumour[mask].mean() if mask.any() else 1 - tumour.max(), abs=1e-5)
    steps = np.array((1.0, 1.0) if spacing is None else spacing[1:])
    longest = 0.0
    for plane in mask:
        points = np.argwhere(plane)
        if len(points) == 1:
            longest = max(longest, steps.min())
        for first, second in itertools.combinations(points, 2):
            gap = np.abs(first - second) * steps
            longest = max(longest, np.linalg.norm(gap))
    # Between centers; the edges add no more than the larger side of a pixel.
    assert longest <= found.largest_diameter + 1e-9
    assert found.largest_diameter <= longest + steps.max() + 1e-9
    planes = max((largest_diameter(plane, None if spacing is None else spacing[1:]) for plane in mask), default=0.0)
    assert found.largest_diameter == pytest.approx(planes)


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        (None, 12),  # the 12 rows
        ((9.0, 1.0, 3.0), 30),  # the 10 columns of 3 mm
        ((9.0, 3.0, 1.0), 36),
        ((1.0, 2.0, 2.5), 25),
    ],
)
def test_rows_and_columns_have_sizes_of_their_own(spacing, expected):
    """A line of 10 columns in one slice and one of 12 rows in another: which is longer hangs on the pixels' sides."""
    mask = np.zeros((3, 16, 16), np.uint8)
    mask[0, 4, 2:12], mask[2, 1:13, 7] = 1, 1
    found = measure(mask, np.full(mask.shape, 0.5), spacing)
    assert found.largest_diameter == pytest.approx(expected)
    assert found.diameter_unit == ("pixels" if spacing is None else "mm")
