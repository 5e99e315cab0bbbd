"""Surface distances: geometry worked by hand, another computation, and what no answer may gain by silence."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from plain import every_distance

from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import SurfaceDistances, score_patient
from brainseg_keras.evaluation.patient import DISTANCES, OVERLAP

SHAPE = (3, 6, 7)
masks = hnp.arrays(bool, SHAPE, elements=st.booleans())
spacings = st.tuples(*[st.floats(0.5, 6)] * 3)


def dot(*index, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[index] = True
    return mask


@pytest.mark.parametrize(
    ("first", "second", "spacing", "expected"),
    [
        ((0, 0, 0), (0, 0, 2), None, 2.0),
        ((0, 0, 0), (0, 3, 4), None, 5.0),
        # Not in one slice, and nobody says how far apart the slices lie: each costs its slice's diagonal.
        ((0, 0, 0), (1, 0, 0), None, np.hypot(6, 7)),
        ((0, 0, 0), (1, 0, 0), (1, 1, 1), 1.0),
        ((0, 0, 0), (0, 0, 2), (1, 1, 2), 4.0),
        ((0, 0, 0), (2, 0, 0), (5, 1, 1), 10.0),
        ((0, 0, 0), (0, 3, 4), (9, 1, 1), 5.0),
        ((0, 5, 6), (0, 5, 6), None, 0.0),
    ],
)
def test_two_pixels(first, second, spacing, expected):
    distances = SurfaceDistances(dot(*first), dot(*second), spacing)
    assert distances.hausdorff() == distances.hausdorff(100) == distances.average() == pytest.approx(expected)


def test_two_squares_one_pixel_apart():
    """A 5 x 5 square moved right by one. Each has 16 pixels of border; the distances were counted on paper."""
    truth, answer = np.zeros((1, 9, 9), bool), np.zeros((1, 9, 9), bool)
    truth[0, 2:7, 1:6], answer[0, 2:7, 2:7] = True, True
    distances = SurfaceDistances(truth[0], answer[0])
    # Of the 16, the left column (5) and the right one, less its corners (3), lie 1 away from the other's border; the
    # eight others lie on it.
    assert distances.hausdorff() == 1.0
    assert distances.average() == pytest.approx(8 / 16)
    assert distances.surface_dice(0.5) == pytest.approx(0.5)
    assert distances.surface_dice(1.0) == 1.0


def test_ring_and_disc_differ_by_the_hole():
    """The hole's edge is surface too: filling it leaves the truth's inner edge far from the answer's outer one."""
    truth = np.zeros((11, 11), bool)
    truth[1:10, 1:10] = True
    answer = truth.copy()
    truth[5, 5] = False
    # Four pixels round the hole are surface of the truth, each 3 from the answer's outer edge (row 1 from row 4).
    distances = SurfaceDistances(truth, answer)
    assert distances.hausdorff(100) == 3.0
    assert distances.average() == pytest.approx(4 * 3 / (36 + 32))


def disc(center, radius=25, shape=(128, 128)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius**2


DISCS = (disc((64, 60)), disc((64, 68)))


@pytest.mark.parametrize("spacing", [None, (1, 1, 1), (9, 1, 1)])
def test_a_lone_slice_is_measured_in_2d(spacing):
    """Two discs of radius 25, 8 pixels apart: in 3-D the whole of both would be surface, and surface Dice 0.857."""
    forth, back = every_distance(*DISCS, (1, 1))
    near = ((forth <= 2).sum() + (back <= 2).sum()) / (len(forth) + len(back))
    row = score_patient(DISCS[0][np.newaxis], DISCS[1][np.newaxis], spacing=spacing)
    assert row["distances"] == "2-D"
    assert row["hd95"] == pytest.approx(max(np.percentile(forth, 95), np.percentile(back, 95)))
    assert row["average_surface_distance"] == pytest.approx(np.concatenate([forth, back]).mean())
    assert row["surface_dice"] == pytest.approx(near)
    # The worked figures of docs/evaluation.md.
    assert (len(forth), round(row["hd95"], 3), round(row["surface_dice"], 3)) == (140, 8.0, 0.214)
    plain = SurfaceDistances(*DISCS, None if spacing is None else spacing[1:])
    assert (plain.hausdorff(), plain.average()) == (row["hd95"], row["average_surface_distance"])


def test_spacing_makes_a_volume_3d_and_its_slices_steps():
    """A square of 5 x 5 in slices 2 to 4, answered in 2 and 3. Counted on paper."""
    truth, answer = np.zeros((2, 7, 9, 9), bool)
    truth[2:5, 2:7, 2:7] = answer[2:4, 2:7, 2:7] = True
    thick, thin = (SurfaceDistances(truth, answer, (step, 1, 1)) for step in (6, 1))
    assert thick.dimension == thin.dimension == 3
    assert (thick.hausdorff(100), thin.hausdorff(100)) == (6.0, 1.0)
    # Surface of the truth: the lower and the upper slice, 25 each, and the rim of the middle one, 16. The answer: 50.
    # The 25 of slice 4 lie a step away. In the truth slice 3 has a rim alone, from which of the answer's 9 others 8 lie
    # 1 away and the center 2, or a step from the slices above and below.
    assert thick.surface_dice(0.5) == thin.surface_dice(0.5) == pytest.approx((66 + 50 - 25 - 9) / 116)
    assert thick.surface_dice(2) == pytest.approx((116 - 25) / 116)
    assert thick.average() == pytest.approx((25 * 6 + 8 * 1 + 2) / 116)
    assert thin.average() == pytest.approx((25 + 8 + 1) / 116)


def test_without_spacing_slices_are_measured_one_by_one_and_pooled():
    """Three slices: discs 8 apart, a disc missed, a disc invented; and one of nothing."""
    truth, answer = np.zeros((2, 4, 128, 128), bool)
    truth[0], answer[0] = DISCS
    truth[1], answer[2] = disc((30, 30), 5), disc((90, 90), 3)
    # Discs of radius 5 and 3 have 28 and 16 pixels of edge.
    forth, back = every_distance(*DISCS, (1, 1))
    forth = np.append(forth, [np.hypot(128, 128)] * 28)
    back = np.append(back, [np.hypot(128, 128)] * 16)
    found = SurfaceDistances(truth, answer)
    assert found.dimension == 2
    for percentile in (50, 80, 95, 100):
        expected = max(np.percentile(forth, percentile), np.percentile(back, percentile))
        assert found.hausdorff(percentile) == pytest.approx(expected)
    assert found.average() == pytest.approx(np.concatenate([forth, back]).mean())
    for tolerance in (0, 2, 7.9, 1000):
        # What has nothing opposite is never near.
        near = (forth[:140] <= tolerance).sum() + (back[:140] <= tolerance).sum()
        assert found.surface_dice(tolerance) == pytest.approx(near / (len(forth) + len(back)))


@settings(max_examples=60, deadline=None)
@given(truth=masks, answer=masks, order=st.permutations(range(SHAPE[0])))
def test_without_spacing_nobody_asks_in_which_order_slices_lie(truth, answer, order):
    one, other = SurfaceDistances(truth, answer), SurfaceDistances(truth[order], answer[order])
    assert one.hausdorff() == pytest.approx(other.hausdorff())
    assert one.average() == pytest.approx(other.average())
    assert one.surface_dice(1) == pytest.approx(other.surface_dice(1))


@settings(max_examples=40, deadline=None)
@given(truth=masks, seed=st.integers(0, 99), spacing=st.none() | spacings, tolerance=st.floats(0, 1000))
def test_a_missed_tumour_costs_the_diagonal_to_the_last_digit(truth, seed, spacing, tolerance):
    """So that no rounding lets silence win against the worst of answers, in other slices than the truth."""
    assume(truth.any())
    other = np.random.default_rng(seed).random(SHAPE) < 0.3
    other[truth.any(axis=(1, 2))] = False
    nothing = SurfaceDistances(truth, np.zeros(SHAPE, bool), spacing)
    assert nothing.hausdorff() == nothing.average() == nothing.diagonal
    assert nothing.surface_dice(tolerance) == 0
    assert SurfaceDistances(truth, other, spacing).average() <= nothing.average()


def test_the_diagonal_is_that_of_brats():
    shape = (155, 240, 240)
    empty, tumour = np.zeros(shape, bool), dot(0, 0, 0, shape=shape)
    missed, invented = (SurfaceDistances(*masks, (1, 1, 1)) for masks in ((tumour, empty), (empty, tumour)))
    assert missed.hausdorff() == invented.hausdorff() == pytest.approx(373.13, abs=0.005)
    assert missed.average() == pytest.approx(373.13, abs=0.005)
    assert missed.surface_dice(2) == invented.surface_dice(2) == 0.0


def test_nothing_and_nothing_agree():
    empty = np.zeros(SHAPE, bool)
    distances = SurfaceDistances(empty, empty)
    assert (distances.hausdorff(), distances.average(), distances.surface_dice(2)) == (0.0, 0.0, 1.0)


@settings(max_examples=60, deadline=None)
@given(truth=masks, answer=masks, spacing=spacings)
def test_equals_distances_taken_one_by_one(truth, answer, spacing):
    assume(truth.any() and answer.any())
    forth, back = every_distance(truth, answer, spacing)
    distances = SurfaceDistances(truth, answer, spacing)
    assert distances.hausdorff(100) == pytest.approx(max(forth.max(), back.max()))
    assert distances.hausdorff(95) == pytest.approx(max(np.percentile(forth, 95), np.percentile(back, 95)))
    assert distances.average() == pytest.approx(np.concatenate([forth, back]).mean())
    near = (forth <= 2).sum() + (back <= 2).sum()
    assert distances.surface_dice(2) == pytest.approx(near / (len(forth) + len(back)))


@settings(max_examples=60, deadline=None)
@given(truth=masks, answer=masks, spacing=spacings)
def test_swapping_truth_and_answer_changes_no_distance(truth, answer, spacing):
    one, other = SurfaceDistances(truth, answer, spacing), SurfaceDistances(answer, truth, spacing)
    assert one.hausdorff() == other.hausdorff()
    assert one.average() == pytest.approx(other.average())
    assert one.surface_dice(1) == other.surface_dice(1)


@settings(max_examples=100, deadline=None)
@given(truth=masks, answer=masks, spacing=st.none() | spacings)
def test_answering_nothing_never_improves_a_score(truth, answer, spacing):
    assume(truth.any())
    some = score_patient(truth, answer, spacing=spacing)
    none = score_patient(truth, np.zeros_like(truth), spacing=spacing)
    for name in ("dice", "iou", "recall", "surface_dice", "lesion_recall"):
        assert none[name] <= some[name], name
    for name in DISTANCES:
        assert none[name] >= some[name], name


@settings(max_examples=100, deadline=None)
@given(truth=masks, answer=masks, seed=st.integers(0, 99))
def test_removing_a_part_inside_the_truth_never_improves_overlap(truth, answer, seed):
    from brainseg_keras.evaluation.lesions import label_lesions

    # One part at least lies inside: a pixel with nothing round it.
    rng = np.random.default_rng(seed)
    index = tuple(int(rng.integers(side)) for side in SHAPE)
    answer[tuple(slice(max(0, p - 1), p + 2) for p in index)] = False
    truth[index] = answer[index] = True
    parts, number = label_lesions(answer)
    inside = [part for part in range(1, number + 1) if truth[parts == part].all()]
    removed = answer & (parts != inside[seed % len(inside)])
    before, after = score_patient(truth, answer), score_patient(truth, removed)
    for name in ("dice", "iou", "recall"):
        assert after[name] <= before[name], name


def volume(*boxes, shape=(4, 8, 8)):
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[box] = True
    return mask


FULL = np.s_[:, :, :]
BY_HAND = {
    "empty, empty": (volume(), volume(), {"dice": 1, "recall": 1, "precision": 1, "hd95": 0, "lesion_recall": 1}),
    "empty, full": (
        volume(),
        volume(FULL),
        {"dice": 0, "recall": 0, "precision": 0, "hd95": 128**0.5, "specificity": 0},
    ),
    "full, empty": (
        volume(FULL),
        volume(),
        {"dice": 0, "recall": 0, "precision": 0, "hd95": 128**0.5, "lesion_recall": 0},
    ),
    "full, full": (volume(FULL), volume(FULL), {"dice": 1, "hd95": 0, "specificity": 1, "surface_dice": 1}),
    "one pixel": (volume(np.s_[1, 2, 3]), volume(np.s_[1, 2, 3]), {"dice": 1, "hd95": 0, "volume_true": 1}),
    "one pixel of two": (
        volume(np.s_[1, 2, 3:5]),
        volume(np.s_[1, 2, 3]),
        {"dice": 2 / 3, "iou": 0.5, "recall": 0.5, "precision": 1, "volume_error": -1},
    ),
    # A border pixel is surface though its missing neighbors lie outside the volume.
    "at the border": (
        volume(np.s_[0, 0:2, 0:2]),
        volume(np.s_[0, 0:2, 1:3]),
        {"dice": 0.5, "hd95": 1, "average_surface_distance": 0.5, "lesions": 1, "lesions_found": 1},
    ),
    # Of three lesions two are found by one part; two parts hit none.
    "lesions": (
        volume(np.s_[0:2, 1, 1:3], np.s_[1, 1, 5], np.s_[3, 6, 6]),
        volume(np.s_[1, 1, 2:6], np.s_[3, 0, 0], np.s_[3, 0, 7]),
        {"lesions": 3, "lesions_found": 2, "lesions_invented": 2, "lesion_recall": 2 / 3, "lesion_precision": 1 / 3},
    ),
    "one slice": (
        volume(np.s_[0, 1:3, 1:3], shape=(1, 8, 8)),
        volume(np.s_[0, 1:3, 1:3], np.s_[0, 6, 6], shape=(1, 8, 8)),
        {"dice": 8 / 9, "precision": 0.8, "lesions_invented": 1, "lesion_precision": 0.5, "lesion_recall": 1},
    ),
}


@pytest.mark.parametrize(("truth", "answer", "expected"), BY_HAND.values(), ids=BY_HAND)
def test_by_hand(truth, answer, expected):
    row = score_patient(truth, answer)
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_volumes_are_in_millilitres_where_spacing_is_known():
    row = score_patient(volume(np.s_[0:2, 0:5, 0:5]), volume(np.s_[0, 0:5, 0:4]), spacing=(5, 2, 2))
    assert (row["volume_true"], row["volume_pred"]) == pytest.approx((50 * 0.02, 20 * 0.02))
    assert row["volume_error"] == pytest.approx(-0.6)


def test_every_overlap_score_is_a_column():
    assert set(OVERLAP) | set(DISTANCES) <= set(score_patient(volume(), volume()))


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, 1, -2)])
def test_a_spacing_that_is_none_is_refused(spacing):
    with pytest.raises(InputError, match="spacing is 3 numbers above 0"):
        SurfaceDistances(volume(), volume(), spacing)


def test_other_shapes_are_refused():
    with pytest.raises(InputError, match=r"\(slices, height, width\)"):
        SurfaceDistances(np.zeros((1, 2, 3, 4)), np.zeros((1, 2, 3, 4)))
    with pytest.raises(InputError, match="one shape"):
        SurfaceDistances(volume(), volume(shape=(3, 8, 8)))


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(truth=masks, answer=masks, spacing=spacings)
def test_agrees_with_medpy_where_the_definitions_do(truth, answer, spacing):
    """The full Hausdorff distance and the average distance; medpy's 95th percentile pools both directions."""
    from medpy.metric import binary

    assume(truth.any() and answer.any())
    distances = SurfaceDistances(truth, answer, spacing)
    assert distances.hausdorff(100) == pytest.approx(binary.hd(answer, truth, spacing))
    assert distances.average() == pytest.approx(binary.assd(answer, truth, spacing))
