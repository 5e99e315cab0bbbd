"""Temperature and bias from a histogram of logits: worked numbers, what made the data comes back, what has no fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import LogitHistogram, cross_fit
from brainseg_keras.evaluation.curves import ProbabilityHistogram


def histogram(truth, chance):
    counted = LogitHistogram()
    counted.add(np.asarray(truth), np.asarray(chance))
    return counted


def drawn(seed, temperature, bias, count=200_000):
    """Voxels whose tumour is drawn by calibrated probabilities, and what an uncalibrated network says of them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 1.5, count)
    return rng.random(count) < expit(logits / temperature + bias), expit(logits)


def test_two_answers_worked_by_hand():
    """Answers 0.2 and 0.6, right in 1 of 5 and 3 of 4: odds 1/4 and 3/2 shall become 1/4 and 3."""
    truth = [1, 0, 0, 0, 0, 1, 1, 1, 0]
    chance = [0.2] * 5 + [0.6] * 4
    temperature, bias = histogram(truth, chance).fit()
    scale = np.log(3 / 0.25) / np.log(1.5 / 0.25)
    assert (temperature, bias) == pytest.approx((1 / scale, np.log(3) - scale * np.log(1.5)), rel=1e-6)
    assert histogram(truth, chance).error() == pytest.approx(4 / 9 * 0.15)
    assert histogram(truth, chance).error(temperature, bias) == pytest.approx(0, abs=1e-9)
    assert histogram(truth, chance).error(bins=1) == pytest.approx(abs(5 * 0.2 + 4 * 0.6 - 4) / 9)
    assert histogram([1, 0], [0.8, 0.8]).log_loss() == pytest.approx(-(np.log(0.8) + np.log(0.2)) / 2)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 4), st.floats(-2, 2))
def test_what_made_the_data_comes_back(seed, temperature, bias):
    found = histogram(*drawn(seed, temperature, bias))
    fitted = found.fit()
    assert fitted[0] == pytest.approx(temperature, rel=0.1) and fitted[1] == pytest.approx(bias, abs=0.15)
    assert found.log_loss(*fitted) <= min(found.log_loss(temperature, bias), found.log_loss()) + 1e-9
    assert found.error(*fitted) < 0.005


def test_the_fit_is_that_of_a_logistic_regression():
    truth, chance = drawn(3, 0.4, -1.0, 20_000)
    plain = LogisticRegression(C=np.inf, tol=1e-8).fit(logit(chance)[:, None], truth)
    temperature, bias = histogram(truth, chance).fit()
    assert 1 / temperature == pytest.approx(plain.coef_[0, 0], rel=1e-3)
    assert bias == pytest.approx(plain.intercept_[0], abs=1e-3)


def test_patients_add_up_in_any_portions():
    truth, chance = drawn(0, 0.5, 0.3, 3_000_001)
    whole = histogram(truth, chance)
    parts = sum((histogram(truth[i::3], chance[i::3]) for i in range(3)), LogitHistogram())
    assert parts.fit() == pytest.approx(whole.fit(), rel=1e-9)
    assert parts.error() == pytest.approx(whole.error(), rel=1e-9)
    same = ProbabilityHistogram()
    same.add(truth, chance)
    assert whole.error() == pytest.approx(same.calibration_error(), abs=1e-4)


def test_certain_answers_count_as_the_surest_that_float32_tells():
    counted = histogram([1, 0, 1], np.array([1, 0, 0], np.float32))
    assert counted.log_loss() == pytest.approx(16 / 3, rel=1e-5)
    assert counted.error() == pytest.approx(1 / 3, rel=1e-5)


@pytest.mark.parametrize(
    ("truth", "chance", "words"),
    [
        ([0, 0], [0.1, 0.2], "2 voxels hold no tumour"),
        ([], [], "0 voxels hold no tumour"),
        ([1, 1], [0.1, 0.2], "2 voxels hold nothing but tumour"),
        ([0, 1], [0.1, 0.2], "part tumour from the rest without an error"),
        ([1, 0, 0, 1], [0.1, 0.2, 0.3, 0.2], "do not rise with the truth"),
    ],
)
def test_what_has_no_best_temperature_is_refused(truth, chance, words):
    with pytest.raises(InputError, match=f"{words}.*Give patients with tumour"):
        histogram(truth, chance).fit()


def test_each_fold_is_calibrated_by_the_others():
    """Two folds made alike calibrate each other; of one made otherwise the others' fit is wrong, and that shows."""
    alike = [histogram(*drawn(seed, 0.3, 0.5)) for seed in (1, 2)]
    found = cross_fit(alike)
    assert found.before > 0.05 and found.after < 0.005 and max(found.errors) < 0.005
    assert (found.temperature, found.bias) == (alike[0] + alike[1]).fit()
    odd = [*alike, histogram(*drawn(3, 0.3, -3.0))]
    found = cross_fit(odd)
    assert found.errors[2] == pytest.approx(odd[2].error(*(alike[0] + alike[1]).fit()))
    assert found.errors[2] > 0.1
    # Gaps of opposite sign in two folds may level out in their sum, and never add to it.
    assert max(found.after, 0.01) < np.mean(found.errors)
    with pytest.raises(InputError, match="two or more"):
        cross_fit(alike[:1])
