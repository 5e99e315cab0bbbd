"""Means over patients with their intervals, and the comparison of two models on the same patients."""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from brainseg_keras.errors import InputError

#: Fewer patients have no interval: too few resamples differ.
FEWEST_FOR_INTERVAL = 3
#: Fewer patients have no p of the bootstrap: even if all agree, an exact test of five is no surer than 2 / 2**5 = 0.06.
FEWEST_FOR_P = 6
_RESAMPLES = 10_000
#: Numbers that a block of resamples may hold: memory does not grow with the patients.
_BLOCK = 2_000_000
#: A resample of nearly equal patients would divide by nearly nothing: its spread counts as this share of the sample's.
_LEAST_SPREAD = 0.2


@dataclass(frozen=True)
class Summary:
    """A score over patients.

    Args:
        n: How many patients.
        mean: Their mean.
        median: Their median.
        sd: Standard deviation of a sample (n - 1); 0 for one patient.
        low: Lower end of the 95 % interval of the mean; None with fewer than three patients.
        high: Upper end.

    Example:
        >>> summarize([0.8, 0.9]).n
        2
    """

    n: int
    mean: float
    median: float
    sd: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{interval_text(self.low, self.high)}], median {self.median:.3f}, n = {self.n}"


def interval_text(low: float | None, high: float | None, form: str = ".3f") -> str:
    """Put an interval into words.

    Args:
        low: Lower end, or None where there is no interval.
        high: Upper end.
        form: Format of the numbers.

    Returns:
        Both ends, or that there are too few patients.

    Example:
        >>> interval_text(0.7843, 0.8831), interval_text(None, None)
        ('0.784 to 0.883', 'none: too few patients')
    """
    return "none: too few patients" if low is None or high is None else f"{low:{form}} to {high:{form}}"


def summarize(
    values: Sequence[float], *, bounds: tuple[float, float] = (-math.inf, math.inf), seed: int = 0
) -> Summary:
    """Summarize one score over patients; the interval is a studentized bootstrap over patients.

    Args:
        values: One finite number a patient.
        bounds: Between what the score lies, such as (0, 1) for Dice: the interval ends there at the latest.
        seed: Of the bootstrap.

    Returns:
        The summary.

    Raises:
        InputError: No values, or one that is not finite.

    Example:
        >>> summary = summarize([0.5, 0.5, 0.5])
        >>> summary.mean, summary.low, summary.high
        (0.5, 0.5, 0.5)

    Reference:
        Efron, Tibshirani 1993, section 12.5.
    """
    values = _finite(values)
    mean, sd = _mean_and_sd(values)
    low, high = _interval(mean, sd, len(values), _studentized(values, seed), bounds)
    return Summary(len(values), mean, float(np.median(values)), sd, low, high)


def worst_tenth(values: Sequence[float]) -> Summary:
    """Summarize the tenth of the patients with the lowest scores: a mean over all hides those who fail.

    Args:
        values: One finite number a patient.

    Returns:
        The summary of the lowest tenth, at least one patient; its interval is left out, since it was selected.

    Raises:
        InputError: No values, or one that is not finite.

    Example:
        >>> worst_tenth([0.9] * 18 + [0.25, 0.75]).mean
        0.5
    """
    lowest = np.sort(_finite(values))[: math.ceil(len(values) / 10)]
    return replace(summarize(lowest), low=None, high=None)


@dataclass(frozen=True)
class Comparison:
    """Two models on the same patients, paired.

    Args:
        n: How many patients.
        difference: Mean of first minus second.
        low: Lower end of its 95 % interval (bootstrap over patients); None with fewer than three patients.
        high: Upper end.
        p_bootstrap: Two-sided: twice the share of resamples that lie as far to one side of the mean as it lies from 0,
            in standard errors; None with fewer than six patients.
        p_wilcoxon: Two-sided signed-rank test; 1 where all patients are equal.
        better: Patients on which the first is better.
        worse: Patients on which it is worse.
    """

    n: int
    difference: float
    low: float | None
    high: float | None
    p_bootstrap: float | None
    p_wilcoxon: float
    better: int
    worse: int


def compare_paired(
    first: Sequence[float],
    second: Sequence[float],
    *,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    seed: int = 0,
) -> Comparison:
    """Compare two models patient by patient.

    Args:
        first: One score a patient.
        second: The other model's, of the same patients in the same order.
        bounds: Between what the score lies, such as (0, 1) for Dice.
        seed: Of the bootstrap.

    Returns:
        The comparison.

    Raises:
        InputError: Other lengths, no values, or one that is not finite.

    Example:
        >>> compare_paired([0.8, 0.9, 0.7], [0.7, 0.8, 0.6]).better
        3

    Reference:
        Davison, Hinkley 1997, section 4.4.1 (the p of a bootstrap).
    """
    first, second = _finite(first), _finite(second)
    if len(first) != len(second):
        raise InputError(f"A paired comparison needs the same patients. Received: {len(first)} and {len(second)}.")
    differences = first - second
    mean, sd = _mean_and_sd(differences)
    deviations = _studentized(differences, seed)
    low, high = _interval(mean, sd, len(differences), deviations, (bounds[0] - bounds[1], bounds[1] - bounds[0]))
    return Comparison(
        n=len(differences),
        difference=mean,
        low=low,
        high=high,
        p_bootstrap=_p(mean, sd, len(differences), deviations),
        p_wilcoxon=_p_of_wilcoxon(differences),
        better=int((differences > 0).sum()),
        worse=int((differences < 0).sum()),
    )


def _p_of_wilcoxon(differences: np.ndarray) -> float:
    if not differences.any():
        return 1.0
    # A second to load, and nothing but a comparison needs it.
    from scipy import stats

    return float(stats.wilcoxon(differences).pvalue)


def _mean_and_sd(values: np.ndarray) -> tuple[float, float]:
    # Rounding would give equal values a mean beside them.
    if np.ptp(values) == 0:
        return float(values[0]), 0.0
    return float(values.mean()), float(values.std(ddof=1))


def _studentized(values: np.ndarray, seed: int) -> np.ndarray:
    """Draw resamples: how many of their own standard errors each one's mean lies above the mean of all."""
    spread = values - values.mean()
    scale = np.abs(spread).max()
    if np.ptp(values) == 0 or len(values) < FEWEST_FOR_INTERVAL:
        return np.zeros(_RESAMPLES)
    # Between -1 and 1, so that no square overflows.
    moments = np.stack([spread / scale, (spread / scale) ** 2], axis=-1)
    sums = np.concatenate([counts @ moments for counts in _resamples(len(values), seed)])
    mean = sums[:, 0] / len(values)
    variance = (sums[:, 1] / len(values) - mean**2) * len(values) / (len(values) - 1)
    least = _LEAST_SPREAD**2 * moments[:, 1].sum() / (len(values) - 1)
    return mean / np.sqrt(np.maximum(variance, least) / len(values))


def _resamples(n: int, seed: int) -> Iterator[np.ndarray]:
    """Give in blocks how often each patient is in each resample."""
    rows = max(1, min(_RESAMPLES, _BLOCK // n))
    if rows == _RESAMPLES:
        # The scores of one evaluation share them.
        yield _only_block(n, seed)
        return
    rng = np.random.default_rng(seed)
    for start in range(0, _RESAMPLES, rows):
        yield _draw(n, min(rows, _RESAMPLES - start), rng)


@functools.lru_cache(maxsize=1)
def _only_block(n: int, seed: int) -> np.ndarray:
    return _draw(n, _RESAMPLES, np.random.default_rng(seed))


def _draw(n: int, rows: int, rng: np.random.Generator) -> np.ndarray:
    chosen = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, np.newaxis]
    return np.bincount(chosen.ravel(), minlength=rows * n).reshape(rows, n).astype(float)


def _interval(
    mean: float, sd: float, n: int, deviations: np.ndarray, bounds: tuple[float, float]
) -> tuple[float | None, float | None]:
    if n < FEWEST_FOR_INTERVAL:
        return None, None
    far_below, far_above = np.percentile(deviations, (2.5, 97.5)) * sd / math.sqrt(n)
    # What lies far above in the resamples says how far below the truth may be.
    return float(max(mean - far_above, bounds[0])), float(min(mean - far_below, bounds[1]))


def _p(mean: float, sd: float, n: int, deviations: np.ndarray) -> float | None:
    """Count the resamples as far off as the mean is from 0: below 0.05 just where the interval leaves 0 out."""
    if n < FEWEST_FOR_P:
        return None
    if mean == 0:
        return 1.0
    found = mean / (sd / math.sqrt(n)) if sd else math.copysign(math.inf, mean)
    beyond = int((deviations >= found).sum() if found > 0 else (deviations <= found).sum())
    return min(1.0, 2 * (beyond + 1) / (_RESAMPLES + 1))


def _finite(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, float)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise InputError(f"Scores are finite numbers, at least one. Received: {values!r}.")
    return array
