"""Precision-recall and calibration from a histogram of probabilities: memory does not grow with the patients."""

import numpy as np

_BINS = 1000


class ProbabilityHistogram:
    """Counts tumour pixels and others by their probability, in thousandths.

    Example:
        >>> histogram = ProbabilityHistogram()
        >>> histogram.add(np.array([1, 0]), np.array([0.9, 0.2]))
        >>> histogram.average_precision()
        1.0
    """

    def __init__(self) -> None:
        self._tumour = np.zeros(_BINS, np.int64)
        self._other = np.zeros(_BINS, np.int64)
        self._sums = np.zeros(_BINS)

    def add(self, y_true: np.ndarray, probabilities: np.ndarray) -> None:
        """Count one patient.

        Args:
            y_true: Mask, bool or 0/1.
            probabilities: Array of the same shape.
        """
        truth = np.asarray(y_true, bool).ravel()
        chance = np.asarray(probabilities, np.float64).ravel()
        bins = np.minimum((chance * _BINS).astype(np.int64), _BINS - 1)
        self._tumour += np.bincount(bins[truth], minlength=_BINS)
        self._other += np.bincount(bins[~truth], minlength=_BINS)
        self._sums += np.bincount(bins, chance, minlength=_BINS)

    @property
    def counts(self) -> np.ndarray:
        """All that it knows, `(3, bins)`: tumour pixels, other pixels, and the sum of their probabilities."""
        return np.stack([self._tumour, self._other, self._sums])

    def add_counts(self, counts: np.ndarray) -> None:
        """Count what another one has counted.

        Args:
            counts: Its `counts`.

        Example:
            >>> one, all_of_them = ProbabilityHistogram(), ProbabilityHistogram()
            >>> one.add(np.array([1, 0]), np.array([0.2, 0.9]))
            >>> all_of_them.add_counts(one.counts)
            >>> all_of_them.average_precision()
            0.5
        """
        self._tumour += counts[0].astype(np.int64)
        self._other += counts[1].astype(np.int64)
        self._sums += counts[2]

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray]:
        """Give precision and recall at falling thresholds; empty arrays where there is no tumour."""
        found = np.cumsum(self._tumour[::-1])
        marked = found + np.cumsum(self._other[::-1])
        if not found[-1]:
            return np.array([]), np.array([])
        some = marked > 0
        return found[some] / marked[some], found[some] / found[-1]

    def confusions(self, thresholds: np.ndarray) -> np.ndarray:
        """Count what exceeds each threshold, to a thousandth.

        Args:
            thresholds: From 0 to 1.

        Returns:
            True and false positives, true and false negatives: array of shape `(4, thresholds)`.
        """
        first = np.clip(np.ceil(np.asarray(thresholds) * _BINS).astype(int), 0, _BINS)
        above = [np.append(np.cumsum(counts[::-1])[::-1], 0)[first] for counts in (self._tumour, self._other)]
        tp, fp = above
        return np.stack([tp, fp, self._other.sum() - fp, self._tumour.sum() - tp])

    def average_precision(self) -> float | None:
        """Give the area under the precision-recall curve as steps, over pixels pooled; None without tumour."""
        precision, recall = self.precision_recall()
        if not len(recall):
            return None
        return float(np.sum(np.diff(recall, prepend=0) * precision))

    def calibration(self, bins: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give mean probability, share of tumour and number of pixels in each bin that has pixels."""
        total = (self._tumour + self._other).reshape(bins, -1).sum(axis=1)
        tumour, sums = self._tumour.reshape(bins, -1).sum(axis=1), self._sums.reshape(bins, -1).sum(axis=1)
        some = total > 0
        return sums[some] / total[some], tumour[some] / total[some], total[some]

    def calibration_error(self) -> float:
        """Give the expected calibration error: mean gap of probability and share of tumour, weighted by pixels."""
        chance, share, total = self.calibration()
        return float(np.sum(np.abs(chance - share) * total) / total.sum()) if total.sum() else 0.0
