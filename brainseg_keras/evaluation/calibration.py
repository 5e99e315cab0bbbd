"""How far probabilities may be believed: temperature and bias fitted on a histogram of logits. NumPy and SciPy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from brainseg_keras.errors import InputError

#: Logits beyond are counted as these: float32 tells no probability nearer to 1.
_END = 16.0
#: Bins of the histogram for each step of a logit.
_FINE = 64
_BINS = int(2 * _END) * _FINE
#: Voxels whose logits are in memory at once.
_CHUNK = 1 << 20
#: Between these the fit looks for a temperature.
_COLDEST, _HOTTEST = 0.01, 100.0
_NO_FIT = "Give patients with tumour, whose answers have errors too."


class LogitHistogram:
    """Counts tumour voxels and others by the logit of their probability; memory does not grow with the patients.

    Histograms of several patients add up with `+`, so that a fit can leave some of them out.

    Example:
        >>> histogram = LogitHistogram()
        >>> histogram.add(np.array([1, 0, 0, 0]), np.full(4, 0.5))
        >>> histogram.error(), histogram.error(bias=np.log(1 / 3)) < 1e-6
        (0.25, True)
    """

    def __init__(self) -> None:
        self._tumour = np.zeros(_BINS, np.int64)
        self._other = np.zeros(_BINS, np.int64)
        self._sums = np.zeros(_BINS)

    def __add__(self, other: "LogitHistogram") -> "LogitHistogram":
        both = LogitHistogram()
        both._tumour = self._tumour + other._tumour
        both._other = self._other + other._other
        both._sums = self._sums + other._sums
        return both

    def add(self, y_true: np.ndarray, probabilities: np.ndarray) -> None:
        """Count one patient.

        Args:
            y_true: Mask, bool or 0/1.
            probabilities: Array of the same shape, from 0 to 1.
        """
        truths, chances = np.asarray(y_true, bool).ravel(), np.asarray(probabilities).ravel()
        for start in range(0, len(truths), _CHUNK):
            truth, chance = (array[start : start + _CHUNK] for array in (truths, chances))
            chance = chance.astype(np.float64)
            with np.errstate(divide="ignore"):
                logits = np.clip(np.log(chance) - np.log1p(-chance), -_END, _END)
            bins = np.minimum(((logits + _END) * _FINE).astype(np.int64), _BINS - 1)
            self._tumour += np.bincount(bins[truth], minlength=_BINS)
            self._other += np.bincount(bins[~truth], minlength=_BINS)
            self._sums += np.bincount(bins, logits, minlength=_BINS)

    def fit(self) -> tuple[float, float]:
        """Find the temperature and the bias with the least log loss over all voxels.

        Returns:
            Temperature and bias; a calibrated logit is `logit / temperature + bias`.

        Raises:
            InputError: No tumour, nothing but tumour, answers that part the two without an error, or that do not
                rise with the truth: no temperature is best then.

        Example:
            >>> histogram = LogitHistogram()
            >>> chance = np.repeat([0.3, 0.7], 100)
            >>> histogram.add(np.arange(200) % 100 < np.repeat([10, 90], 100), chance)
            >>> [round(value, 3) for value in histogram.fit()]
            [0.386, 0.0]

        Reference:
            Guo, Pleiss, Sun, Weinberger 2017, arXiv 1706.04599 (temperature); Platt 1999 (with bias).
        """
        logits, tumour, total = self._points()
        found, voxels = int(tumour.sum()), int(total.sum())
        if found in (0, voxels):
            what = "nothing but tumour" if found else "no tumour"
            raise InputError(f"{voxels} voxels hold {what}: no temperature can be fitted. {_NO_FIT}")
        scale, bias = _newton(logits, tumour, total)
        if not 1 / _HOTTEST <= scale <= 1 / _COLDEST:
            raise InputError(
                f"No temperature from {_COLDEST:g} to {_HOTTEST:g} fits: the answers "
                f"{'part tumour from the rest without an error' if scale > 1 else 'do not rise with the truth'}. "
                f"{_NO_FIT}"
            )
        return 1 / scale, bias

    def error(self, temperature: float = 1.0, bias: float = 0.0, *, bins: int = 10) -> float:
        """Give the expected calibration error: mean gap of probability and share of tumour, weighted by voxels.

        Args:
            temperature: By which each logit is divided first.
            bias: What is added then.
            bins: Of equal width, from 0 to 1.

        Returns:
            From 0 to 1; 0 of no voxels.
        """
        return _gap(self._binned(temperature, bias, bins))

    def log_loss(self, temperature: float = 1.0, bias: float = 0.0) -> float:
        """Give the mean log loss of a voxel in nats.

        Args:
            temperature: By which each logit is divided first.
            bias: What is added then.

        Returns:
            From 0 on; 0 of no voxels.
        """
        logits, tumour, total = self._points()
        return _loss(logits / temperature + bias, tumour, total) if len(total) else 0.0

    def _points(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give mean logit, tumour voxels and all voxels of each bin that has voxels."""
        total = self._tumour + self._other
        some = total > 0
        return self._sums[some] / total[some], self._tumour[some], total[some]

    def _binned(self, temperature: float, bias: float, bins: int) -> np.ndarray:
        """Sum up calibrated probabilities, tumour voxels and all voxels in coarse bins: shape `(3, bins)`."""
        logits, tumour, total = self._points()
        chance = expit(logits / temperature + bias)
        where = np.minimum((chance * bins).astype(int), bins - 1)
        return np.stack([np.bincount(where, values, bins) for values in (chance * total, tumour, total)])


@dataclass(frozen=True)
class CrossFit:
    """Temperature and bias of all groups, and how well they do on voxels that did not fit them.

    Args:
        temperature: Fitted on all groups.
        bias: Fitted on all groups.
        before: Expected calibration error of all groups without any calibration.
        after: The same with each group calibrated by the others.
        errors: Expected calibration error of each group, calibrated by the others.
    """

    temperature: float
    bias: float
    before: float
    after: float
    errors: tuple[float, ...]


def cross_fit(groups: Sequence[LogitHistogram]) -> CrossFit:
    """Calibrate each group of patients by all others, as out of fold.

    Args:
        groups: One histogram a fold, of its patients as predicted by a network that did not see them.

    Returns:
        The fit on all of them, and its error where it was not fitted.

    Raises:
        InputError: Fewer than two groups, or others that allow no fit; see `LogitHistogram.fit`.

    Example:
        >>> groups = [LogitHistogram(), LogitHistogram()]
        >>> for group in groups:
        ...     group.add(np.arange(200) % 100 < np.repeat([10, 90], 100), np.repeat([0.3, 0.7], 100))
        >>> found = cross_fit(groups)
        >>> round(found.before, 3), found.after < 1e-6
        (0.2, True)
    """
    if len(groups) < 2:
        raise InputError(f"To calibrate each group by the others takes two or more. Received: {len(groups)}.")
    everyone = sum(groups, LogitHistogram())
    temperature, bias = everyone.fit()
    parts = []
    for left_out, group in enumerate(groups):
        others = [other for index, other in enumerate(groups) if index != left_out]
        parts.append(group._binned(*sum(others, LogitHistogram()).fit(), 10))
    return CrossFit(temperature, bias, everyone.error(), _gap(np.sum(parts, axis=0)), tuple(map(_gap, parts)))


def _gap(binned: np.ndarray) -> float:
    chance, tumour, total = binned
    return float(np.abs(chance - tumour).sum() / total.sum()) if total.sum() else 0.0


def _loss(logits: np.ndarray, tumour: np.ndarray, total: np.ndarray) -> float:
    return float((total * np.logaddexp(0, logits) - tumour * logits).sum() / total.sum())


def _newton(logits: np.ndarray, tumour: np.ndarray, total: np.ndarray) -> tuple[float, float]:
    """Minimize the log loss of `scale * logit + bias`, which is convex; a scale without bound is left where it is."""
    at, columns = np.array([1.0, 0.0]), np.stack([logits, np.ones_like(logits)])
    loss = _loss(at @ columns, tumour, total)
    for _ in range(200):
        chance = expit(at @ columns)
        slope = columns @ (total * chance - tumour)
        curve = (columns * (total * chance * (1 - chance))) @ columns.T
        # Where all logits are equal, or all chances 0 and 1, a part of the curve is flat.
        step, share = np.linalg.lstsq(curve, slope, rcond=None)[0], 1.0
        while (tried := _loss((at - share * step) @ columns, tumour, total)) > loss and share > 1e-9:
            share /= 2
        at, loss = at - share * step, min(loss, tried)
        if np.abs(share * step).max() < 1e-10 or at[0] > 2 / _COLDEST:
            break
    return float(at[0]), float(at[1])
