"""Means over patients, their intervals, and paired comparisons."""

import itertools
import math
import statistics
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import compare_paired, interval_text, mean_over_slices, summarize

scores = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@settings(max_examples=50, deadline=None)
@given(scores)
def test_summary_is_numpys_and_the_interval_holds_the_mean(values):
    summary = summarize(values, bounds=(0, 1))
    assert summary.n == len(values)
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.median == pytest.approx(np.median(values))
    assert summary.sd == pytest.approx(np.std(values, ddof=1) if len(values) > 1 else 0)
    if len(values) < 3:
        assert summary.low is summary.high is None
    else:
        assert 0 <= summary.low <= summary.mean + 1e-9
        assert summary.mean - 1e-9 <= summary.high <= 1


def every_resample(values):
    """Of each of the n**n resamples: how many of its own standard errors its mean lies from the mean of all."""
    n, least, middle = len(values), 0.2 * statistics.stdev(values), statistics.fmean(values)
    far = []
    for indices in itertools.combinations_with_replacement(range(n), n):
        drawn = [values[index] for index in indices]
        distance = (statistics.fmean(drawn) - middle) / (max(statistics.stdev(drawn), least) / n**0.5)
        orders = math.factorial(n)
        for count in Counter(indices).values():
            orders //= math.factorial(count)
        far += [distance] * orders
    assert len(far) == n**n
    return sorted(far)


@pytest.mark.parametrize("values", [[0.1, 0.6, 0.7, 0.85, 0.9], [1, 2, 3, 4, 40]])
def test_the_interval_is_that_of_all_resamples(values):
    """Five patients have 3,125 resamples: 2.5 % of them lie beyond each end."""
    far, error = every_resample(values), statistics.stdev(values) / 5**0.5
    summary = summarize(values)
    # Of 10,000 drawn at random 250 lie beyond, give or take 32 (two standard deviations): 2.2 to 2.8 %.
    least, most = round(0.022 * len(far)), round(0.028 * len(far))
    assert far[-most] <= (summary.mean - summary.low) / error + 1e-9 <= far[-least] + 2e-9
    assert far[least] <= (summary.mean - summary.high) / error + 1e-9 <= far[most] + 2e-9


def test_a_large_normal_sample_has_the_interval_of_student():
    """Also one that is drawn in several blocks."""
    for n in (150, 1500):
        values = np.random.default_rng(n).normal(3, 2, n)
        summary = summarize(values)
        low, high = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
        assert (summary.low, summary.high) == pytest.approx((low, high), abs=0.08 * (high - low))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=9), st.floats(0.01, 100), st.floats(-50, 50))
def test_other_units_give_the_same_interval_in_them(values, factor, shift):
    assume(np.ptp(values) > 1e-3)
    plain, wide = summarize(values), summarize(np.array(values) * factor + shift)
    turned = summarize(-np.array(values))
    assert (wide.low, wide.high) == pytest.approx((plain.low * factor + shift, plain.high * factor + shift), abs=1e-6)
    assert (turned.low, turned.high) == pytest.approx((-plain.high, -plain.low), abs=1e-9)


def test_equal_patients_have_a_point_and_fewer_than_three_no_interval():
    same = summarize([0.1] * 7)
    assert (same.n, same.mean, same.median, same.sd, same.low, same.high) == (7, 0.1, 0.1, 0.0, 0.1, 0.1)
    one, two = summarize([0.25]), summarize([0.25, 0.25])
    assert (one.n, one.mean, one.median, one.sd, one.low, one.high) == (1, 0.25, 0.25, 0.0, None, None)
    assert (two.n, two.low, two.high) == (2, None, None)


def test_the_interval_ends_where_the_score_does():
    values = [0.9, 0.97, 1.0, 1.0]
    free, bound = summarize(values), summarize(values, bounds=(0, 1))
    assert free.high > 1 == bound.high
    assert free.low == bound.low
    # A difference of two Dice lies between -1 and 1.
    apart = compare_paired([1, 1, 0.2], [0, 0.1, 0], bounds=(0, 1))
    assert apart.high == 1
    assert compare_paired([1, 1, 0.2], [0, 0.1, 0]).high > 1


def test_a_summary_in_words():
    assert str(summarize([0.25])) == "0.250 [none: too few patients], median 0.250, n = 1"
    assert str(summarize([0.25] * 3)) == "0.250 [0.250 to 0.250], median 0.250, n = 3"
    assert interval_text(-0.5, 0.25, "+.1f") == "-0.5 to +0.2"


POPULATIONS = {
    "normal": (lambda rng, size: rng.normal(0, 1, size), 0.0),
    "beta(8, 2), skewed as Dice is": (lambda rng, size: rng.beta(8, 2, size), 0.8),
}


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("n", [5, 10, 22])
def test_95_percent_of_the_intervals_hold_the_truth(population, n):
    """benchmarks/coverage.py counts more samples of more populations. A percentile bootstrap reaches 83 to 94 %."""
    draw, mean = POPULATIONS[population]
    found = [summarize(values) for values in draw(np.random.default_rng(n), (1500, n))]
    share = np.mean([summary.low <= mean <= summary.high for summary in found])
    # Known to 0.6 %.
    assert 0.93 <= share <= 0.97


@pytest.mark.parametrize("values", [[], [0.5, float("nan")], [[0.5]]])
def test_what_is_no_list_of_scores_is_refused(values):
    with pytest.raises(InputError, match="finite numbers"):
        summarize(values)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.integers(0, 9))
def test_swapping_the_models_turns_the_difference_round(values, seed):
    other = np.random.default_rng(seed).permutation(values)
    forth, back = compare_paired(values, other), compare_paired(other, values)
    assert forth.difference == pytest.approx(-back.difference)
    if len(values) >= 3:
        assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low), abs=1e-9)
    assert forth.p_wilcoxon == pytest.approx(back.p_wilcoxon)
    assert (forth.better, forth.worse) == (back.worse, back.better)


def test_equal_models_do_not_differ():
    same = compare_paired([0.5, 0.7, 0.6, 0.8, 0.9, 0.4], [0.5, 0.7, 0.6, 0.8, 0.9, 0.4])
    assert (same.difference, same.p_wilcoxon, same.p_bootstrap, same.better, same.worse) == (0, 1, 1, 0, 0)
    assert (same.low, same.high) == (0, 0)


def test_a_model_that_is_better_on_each_of_ten_patients_differs():
    base = np.linspace(0.5, 0.9, 10)
    result = compare_paired(base + np.linspace(0.01, 0.05, 10), base)
    assert result.low > 0
    assert 0 < result.p_bootstrap < 0.01
    # All ten signs agree: 2 / 2**10.
    assert result.p_wilcoxon == pytest.approx(2 / 1024)


@pytest.mark.parametrize(
    "differences",
    [
        [4, 3, 2, 2, 1, -1],
        [-4, -3, -2, -2, -1, 1],
        [5, 1, 0, 0, 0, -1],
        # Less than a standard error from 0.
        [4, 2, -1, 0, -2, 1],
        [-4, -2, 1, 0, 2, -1],
    ],
)
def test_p_is_twice_the_share_of_all_resamples_that_are_as_far_off(differences):
    """Six patients have 46,656 resamples."""
    far, mean = every_resample(differences), statistics.fmean(differences)
    found = mean / (statistics.stdev(differences) / 6**0.5)
    share = sum(one >= found if mean > 0 else one <= found for one in far) / len(far)
    result = compare_paired(np.array(differences) / 8, np.zeros(6))
    assert 0.01 < 2 * share < 1
    assert result.p_bootstrap == pytest.approx(2 * share, rel=0.15)


def test_no_p_is_zero_and_five_patients_have_none():
    """(k + 1) / (B + 1): of 10,000 resamples none is as far off as six equal differences."""
    assert compare_paired([0.9] * 6, [0.5] * 6).p_bootstrap == pytest.approx(2 / 10_001)
    assert compare_paired([0.5] * 6, [0.9] * 6).p_bootstrap == pytest.approx(2 / 10_001)
    five = compare_paired([0.9, 0.8, 0.7, 0.9, 0.8], [0.5, 0.6, 0.5, 0.6, 0.5])
    assert five.p_bootstrap is None and five.low > 0 and five.better == 5
    two = compare_paired([0.9, 0.8], [0.5, 0.6])
    assert (two.low, two.high, two.p_bootstrap) == (None, None, None)


# Without ties: SciPy permutes them for seconds.
@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1, 1).filter(lambda one: abs(one) > 1e-3), min_size=6, max_size=14, unique_by=abs))
def test_p_and_interval_say_the_same(differences):
    result = compare_paired(np.array(differences), np.zeros(len(differences)))
    assert 0 < result.p_bootstrap <= 1
    if result.p_bootstrap < 0.049:
        assert result.low > 0 or result.high < 0
    elif result.p_bootstrap > 0.051:
        assert result.low <= 0 <= result.high


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
