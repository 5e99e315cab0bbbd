"""Curves and calibration from a histogram, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from brainseg_keras.evaluation.curves import ProbabilityHistogram


def test_histogram_counts_what_lies_above_each_threshold():
    rng = np.random.default_rng(0)
    # Between thousandths, so that the histogram loses nothing.
    truth, chance = rng.random(3000) < 0.2, (rng.integers(0, 1000, 3000) + 0.5) / 1000
    histogram = ProbabilityHistogram()
    histogram.add(truth[:1000], chance[:1000])
    histogram.add(truth[1000:], chance[1000:])
    thresholds = np.array([0, 0.1, 0.25, 0.5, 0.999, 1])
    marked = chance > thresholds[:, np.newaxis]
    expected = [(truth & marked), (~truth & marked), (~truth & ~marked), (truth & ~marked)]
    tp, fp, tn, fn = (counts.sum(axis=1) for counts in expected)
    assert histogram.confusions(thresholds).tolist() == [tp.tolist(), fp.tolist(), tn.tolist(), fn.tolist()]
    assert len({tuple(column) for column in histogram.confusions(thresholds).T}) == 6


def test_histogram_by_hand():
    """Three tumour pixels of four: the second most likely pixel is none."""
    histogram = ProbabilityHistogram()
    histogram.add(np.array([True, False, True, True]), np.array([1.0, 0.85, 0.5, 0.05]))
    precision, recall = histogram.precision_recall()
    assert set(zip(recall, precision, strict=True)) == {(1 / 3, 1), (1 / 3, 1 / 2), (2 / 3, 2 / 3), (1, 3 / 4)}
    assert (np.diff(recall) >= 0).all()
    assert histogram.average_precision() == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    mean, share, count = histogram.calibration()
    assert (mean.tolist(), share.tolist(), count.tolist()) == ([0.05, 0.5, 0.85, 1.0], [1, 1, 0, 1], [1, 1, 1, 1])
    assert histogram.calibration_error() == pytest.approx((0.95 + 0.5 + 0.85 + 0) / 4)
    mean, share, count = histogram.calibration(bins=2)
    assert count.tolist() == [1, 3] and share.tolist() == [1, 2 / 3]
    assert mean.tolist() == pytest.approx([0.05, 2.35 / 3])


def test_histogram_without_tumour_has_no_curve():
    histogram = ProbabilityHistogram()
    assert histogram.average_precision() is None and histogram.calibration_error() == 0
    histogram.add(np.zeros(4), np.full(4, 0.3))
    assert histogram.average_precision() is None
    assert histogram.calibration_error() == pytest.approx(0.3)


def test_histogram_gives_sklearns_average_precision():
    rng = np.random.default_rng(0)
    truth = rng.random(5000) < 0.1
    chance = np.clip(np.round(0.5 * truth + 0.4 * rng.random(5000), 3), 0, 1) + 1e-6
    histogram = ProbabilityHistogram()
    for part in np.array_split(np.arange(5000), 7):
        histogram.add(truth[part], chance[part])
    assert histogram.average_precision() == pytest.approx(average_precision_score(truth, chance))
    mean, share, count = histogram.calibration()
    assert count.sum() == 5000
    first = chance < 0.1
    assert (mean[0], share[0]) == pytest.approx((chance[first].mean(), truth[first].mean()))


def test_calibrated_probabilities_have_no_error():
    rng = np.random.default_rng(0)
    chance = rng.random(200_000)
    histogram = ProbabilityHistogram()
    histogram.add(rng.random(200_000) < chance, chance)
    assert histogram.calibration_error() < 0.01
