"""Scores as functions of counts: worked by hand, the empty rule, and properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import (
    Counts,
    confusion,
    dice,
    iou,
    patient_dice,
    pixel_accuracy,
    precision,
    recall,
    specificity,
)

SCORES = [dice, iou, precision, recall, specificity, pixel_accuracy]
MASKS = arrays(bool, (3, 4))
MANY = settings(max_examples=60, deadline=None)


def test_confusion_worked():
    truth = np.array([[1, 1, 0, 0], [1, 0, 0, 0]])
    answer = np.array([[1, 0, 1, 1], [1, 0, 0, 0]])
    counts = confusion(truth, answer)
    assert counts == Counts(tp=2, fp=2, fn=1, tn=3)
    assert all(type(count) is int for count in counts)


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (dice, 4 / 7),
        (iou, 2 / 5),
        (precision, 2 / 4),
        (recall, 2 / 3),
        (specificity, 3 / 5),
        (pixel_accuracy, 5 / 8),
    ],
)
def test_scores_worked(score, expected):
    value = score(Counts(tp=2, fp=2, fn=1, tn=3))
    assert isinstance(value, float)
    assert value == pytest.approx(expected)


# columns: dice, iou, precision, recall, specificity, pixel_accuracy
@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (Counts(0, 0, 0, 9), [1, 1, 1, 1, 1, 1]),  # no tumour, silence
        (Counts(0, 0, 3, 6), [0, 0, 0, 0, 1, 6 / 9]),  # missed whole
        (Counts(0, 3, 0, 6), [0, 0, 0, 0, 6 / 9, 6 / 9]),  # invented
        (Counts(9, 0, 0, 0), [1, 1, 1, 1, 1, 1]),  # all tumour, all found
        (Counts(4, 0, 5, 0), [8 / 13, 4 / 9, 1, 4 / 9, 0, 4 / 9]),  # all tumour, half found
        (Counts(0, 9, 0, 0), [0, 0, 0, 0, 0, 0]),
        (Counts(0, 0, 0, 0), [1, 1, 1, 1, 1, 1]),
    ],
)
def test_empty_rule(counts, expected):
    assert [score(counts) for score in SCORES] == pytest.approx(expected)


@pytest.mark.parametrize("score", SCORES)
def test_vectors_of_counts(score):
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.integers(0, 4, (30, 4)), np.zeros((1, 4), int)])
    with np.errstate(all="raise"):
        values = score(Counts(*rows.T))
    assert values.shape == (31,)
    assert values == pytest.approx([score(Counts(*map(int, row))) for row in rows])


@MANY
@given(truth=MASKS, answer=MASKS)
def test_properties(truth, answer):
    counts = confusion(truth, answer)
    assert sum(counts) == truth.size
    for score in SCORES:
        assert 0 <= score(counts) <= 1
        assert score(confusion(truth, truth)) == 1
        # Sixteen copies are the same picture, larger.
        assert score(confusion(np.tile(truth, (4, 4)), np.tile(answer, (4, 4)))) == pytest.approx(score(counts))
        assert score(confusion(truth.T, answer.T)) == score(counts)
    mirrored = confusion(answer, truth)
    assert dice(mirrored) == dice(counts)
    assert iou(mirrored) == iou(counts)
    assert precision(mirrored) == recall(counts)
    assert iou(counts) == pytest.approx(dice(counts) / (2 - dice(counts)))
    assert specificity(counts) == recall(confusion(~truth, ~answer))


@MANY
@given(truth=MASKS, answer=MASKS)
def test_sets(truth, answer):
    a, b = set(np.flatnonzero(truth)), set(np.flatnonzero(answer))
    counts = confusion(truth, answer)
    assert iou(counts) == pytest.approx(len(a & b) / len(a | b) if a | b else 1)
    assert dice(counts) == pytest.approx(2 * len(a & b) / (len(a) + len(b)) if a or b else 1)


@MANY
@given(truth=MASKS, answer=MASKS, pixel=st.integers(0, 11))
def test_a_pixel_put_right_never_scores_less(truth, answer, pixel):
    better = answer.copy()
    better.flat[pixel] = truth.flat[pixel]
    for score in (dice, iou, recall, specificity, pixel_accuracy):
        assert score(confusion(truth, better)) >= score(confusion(truth, answer))


def test_counts_are_exact_beyond_float32():
    truth = np.zeros((4100, 4100), bool)
    truth[0, 0] = True
    counts = confusion(truth, truth)
    assert counts == Counts(1, 0, 0, 4100 * 4100 - 1)
    assert counts + counts == Counts(2, 0, 0, 2 * (4100 * 4100 - 1))


@pytest.mark.parametrize("dtype", [bool, "uint8", "int64", "float16", "float64"])
def test_kinds_of_masks(dtype):
    truth = np.array([1, 0, 1]).astype(dtype)
    assert confusion(truth, [1, 1, 0]) == Counts(1, 1, 1, 0)


@pytest.mark.parametrize("values", [[0, 255], [0.2, 0.7], [0, -1], [float("nan"), 0], ["a", "b"]])
def test_other_values_are_refused(values):
    with pytest.raises(InputError, match=r"y_pred must hold .* Received: .* first"):
        confusion([0, 1], np.array(values))
    with pytest.raises(InputError, match="y_true must hold"):
        confusion(np.array(values), [0, 1])


def test_other_shapes_are_refused():
    with pytest.raises(InputError, match=r"\(2, 3\) and \(3, 2\)"):
        confusion(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(InputError, match="one shape"):
        confusion(np.zeros((1, 3)), np.zeros((2, 3)))


def test_patient_dice_pools_the_slices():
    # Slice 1: one pixel, found. Slice 2: three pixels, none found. Pooled 2 * 1 / (4 + 1), not (1 + 0) / 2.
    truth, answer = np.zeros((3, 2, 2), int), np.zeros((3, 2, 2), int)
    truth[0, 0, 0] = answer[0, 0, 0] = 1
    truth[1].flat[:3] = 1
    assert patient_dice(truth, answer) == pytest.approx(2 / 5)
    assert patient_dice(list(truth), iter(answer)) == pytest.approx(2 / 5)
    assert patient_dice(truth, answer) == dice(confusion(truth, answer))
    assert patient_dice([truth[0], np.ones((5, 5))], [answer[0], np.ones((5, 5))]) == 1
    assert patient_dice(np.zeros((3, 2, 2)), np.zeros((3, 2, 2))) == 1


@pytest.mark.parametrize(("masks", "answers"), [(0, 0), (2, 3), (3, 2)])
def test_patient_dice_refuses(masks, answers):
    with pytest.raises(InputError, match=f"{masks} masks and {answers} answers"):
        patient_dice(np.zeros((masks, 2, 2)), np.zeros((answers, 2, 2)))
