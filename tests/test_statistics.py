"""Means over patients, their intervals, and paired comparisons."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import compare_paired, mean_over_slices, summarise

scores = st.lists(st.floats(0, 1), min_size=2, max_size=12)


@settings(max_examples=50, deadline=None)
@given(scores)
def test_summary_is_numpys_and_the_interval_holds_the_mean(values):
    summary = summarise(values)
    assert summary.n == len(values)
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.median == pytest.approx(np.median(values))
    assert summary.sd == pytest.approx(np.std(values, ddof=1))
    assert summary.low - 1e-9 <= summary.mean <= summary.high + 1e-9
    assert min(values) - 1e-9 <= summary.low <= summary.high <= max(values) + 1e-9


def test_the_interval_is_that_of_all_resamples():
    """Three patients have 27 resamples: their means, each counted, give the ends exactly."""
    values = np.array([0.0, 0.5, 1.0])
    means = np.array([(a + b + c) / 3 for a in values for b in values for c in values])
    summary = summarise(values)
    # 1/27 = 3.7 % of the resamples are all zeros: the 2.5 % end is the lowest mean, and likewise above.
    assert (summary.low, summary.high) == (means.min(), means.max())


def test_the_interval_is_that_of_the_binomial():
    """Of 100 patients half score 1: the resamples' sums are binomial, and their quantiles stand in tables."""
    values = np.repeat([0.0, 1.0], 50)
    expected = tuple(stats.binom.ppf([0.025, 0.975], 100, 0.5) / 100)
    assert expected == (0.4, 0.6)
    summary, paired = summarise(values), compare_paired(values, np.zeros(100))
    assert (summary.low, summary.high) == (paired.low, paired.high) == expected


def test_one_patient_has_no_spread():
    one = summarise([0.25])
    assert (one.n, one.mean, one.median, one.sd, one.low, one.high) == (1, 0.25, 0.25, 0.0, 0.25, 0.25)


def test_a_summary_in_words():
    assert str(summarise([0.25])) == "0.250 [0.250, 0.250], median 0.250, n = 1"


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = [abs(s.low + s.high - 1) / 2 < (s.high - s.low) / 2 for s in (summarise(rng.random(40)) for _ in range(200))]
    assert 0.88 <= np.mean(hits) <= 0.99


@pytest.mark.parametrize("values", [[], [0.5, float("nan")], [[0.5]]])
def test_what_is_no_list_of_scores_is_refused(values):
    with pytest.raises(InputError, match="finite numbers"):
        summarise(values)


@settings(max_examples=50, deadline=None)
@given(scores, st.integers(0, 9))
def test_swapping_the_models_turns_the_difference_round(values, seed):
    other = np.random.default_rng(seed).permutation(values)
    forth, back = compare_paired(values, other), compare_paired(other, values)
    assert forth.difference == pytest.approx(-back.difference)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert forth.p_wilcoxon == pytest.approx(back.p_wilcoxon)
    assert (forth.better, forth.worse) == (back.worse, back.better)


def test_equal_models_do_not_differ():
    same = compare_paired([0.5, 0.7], [0.5, 0.7])
    assert (same.difference, same.p_wilcoxon, same.p_bootstrap, same.better, same.worse) == (0, 1, 1, 0, 0)


def test_a_model_that_is_better_on_each_of_ten_patients_differs():
    base = np.linspace(0.5, 0.9, 10)
    result = compare_paired(base + np.linspace(0.01, 0.05, 10), base)
    assert result.low > 0
    assert result.p_bootstrap < 0.01
    # All ten signs agree: 2 / 2**10.
    assert result.p_wilcoxon == pytest.approx(2 / 1024)


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        # Of the 27 resamples of three, those with two or three of the -1 have a mean below 0: 6 + 1.
        ([1, 1, -1], 2 * 7 / 27),
        ([-1, -1, 1], 2 * 7 / 27),
        # A mean of exactly 0 lies on neither side and counts for both: of the four resamples of two, one.
        ([1, 0], 2 / 4),
        # Half and half cannot be surer than 1.
        ([1, -1], 1),
    ],
)
def test_p_is_twice_the_share_beyond_zero(differences, expected):
    differences = np.array(differences, float)
    result = compare_paired(0.5 + differences / 4, np.full(len(differences), 0.5))
    # 10,000 resamples know a share to half a hundredth.
    assert result.p_bootstrap == pytest.approx(expected, abs=0.025)
    assert result.p_bootstrap <= 1


def test_better_and_worse_are_counted_and_ties_are_neither():
    result = compare_paired([0.5, 0.7, 0.9, 0.4], [0.4, 0.6, 0.95, 0.4])
    assert (result.n, result.better, result.worse) == (4, 2, 1)
    assert result.difference == pytest.approx(0.15 / 4)


def test_models_of_other_patients_are_not_compared():
    with pytest.raises(InputError, match=r"the same patients\. Received: 2 and 3"):
        compare_paired([0.5, 0.7], [0.5, 0.7, 0.9])


def test_slices_under_each_rule():
    means = mean_over_slices([1, 1, 0.5, 0.0], [True, True, False, False])
    assert means["both_empty_is_1"] == {"mean": 0.625, "n": 4}
    assert means["both_empty_is_0"] == {"mean": 0.125, "n": 4}
    assert means["both_empty_skipped"] == {"mean": 0.25, "n": 2}
    assert mean_over_slices([1.0], [True])["both_empty_skipped"] == {"mean": None, "n": 0}
