"""Means over patients with their intervals, and the comparison of two models on the same patients."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from brainseg_keras.errors import InputError

_RESAMPLES = 10_000


@dataclass(frozen=True)
class Summary:
    """A score over patients.

    Args:
        n: How many patients.
        mean: Their mean.
        median: Their median.
        sd: Standard deviation of a sample (n - 1); 0 for one patient.
        low: Lower end of the 95 % interval of the mean.
        high: Upper end.

    Example:
        >>> summarise([0.8, 0.9]).n
        2
    """

    n: int
    mean: float
    median: float
    sd: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}], median {self.median:.3f}, n = {self.n}"


def summarise(values: Sequence[float], *, seed: int = 0) -> Summary:
    """Summarise one score over patients; the interval is a percentile bootstrap over patients.

    Args:
        values: One finite number a patient.
        seed: Of the bootstrap.

    Returns:
        The summary.

    Raises:
        InputError: No values, or one that is not finite.

    Example:
        >>> summary = summarise([0.5, 0.5, 0.5])
        >>> summary.mean, summary.low, summary.high
        (0.5, 0.5, 0.5)

    Reference:
        Efron, Tibshirani 1993, chapter 13.
    """
    values = _finite(values)
    means = _resampled_means(values, seed)
    low, high = np.percentile(means, (2.5, 97.5))
    sd = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return Summary(len(values), float(values.mean()), float(np.median(values)), sd, float(low), float(high))


@dataclass(frozen=True)
class Comparison:
    """Two models on the same patients, paired.

    Args:
        n: How many patients.
        difference: Mean of first minus second.
        low: Lower end of its 95 % interval (bootstrap over patients).
        high: Upper end.
        p_bootstrap: Two-sided: twice the share of resamples whose difference falls on the other side of 0.
        p_wilcoxon: Two-sided signed-rank test; 1 where all patients are equal.
        better: Patients on which the first is better.
        worse: Patients on which it is worse.
    """

    n: int
    difference: float
    low: float
    high: float
    p_bootstrap: float
    p_wilcoxon: float
    better: int
    worse: int


def compare_paired(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> Comparison:
    """Compare two models patient by patient.

    Args:
        first: One score a patient.
        second: The other model's, of the same patients in the same order.
        seed: Of the bootstrap.

    Returns:
        The comparison.

    Raises:
        InputError: Other lengths, no values, or one that is not finite.

    Example:
        >>> compare_paired([0.8, 0.9, 0.7], [0.7, 0.8, 0.6]).better
        3
    """
    first, second = _finite(first), _finite(second)
    if len(first) != len(second):
        raise InputError(f"A paired comparison needs the same patients. Received: {len(first)} and {len(second)}.")
    differences = first - second
    means = _resampled_means(differences, seed)
    low, high = np.percentile(means, (2.5, 97.5))
    share = min((means <= 0).mean(), (means >= 0).mean())
    equal = not differences.any()
    return Comparison(
        n=len(differences),
        difference=float(differences.mean()),
        low=float(low),
        high=float(high),
        p_bootstrap=float(min(1.0, 2 * share)),
        p_wilcoxon=1.0 if equal else float(stats.wilcoxon(differences).pvalue),
        better=int((differences > 0).sum()),
        worse=int((differences < 0).sum()),
    )


def _resampled_means(values: np.ndarray, seed: int) -> np.ndarray:
    chosen = np.random.default_rng(seed).integers(len(values), size=(_RESAMPLES, len(values)))
    return values[chosen].mean(axis=1)


def _finite(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, float)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise InputError(f"Scores are finite numbers, at least one. Received: {values!r}.")
    return array
