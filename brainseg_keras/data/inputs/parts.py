"""A part of a batch, with the random numbers that its slices have in the whole."""

from typing import Any

import numpy as np


class PartOfDraws:
    """Draws for all slices of a batch, and gives the numbers of some of them.

    It stands in for a `numpy.random.Generator` where every draw is of one number, or one array, a slice.

    Args:
        rng: Draws for all.
        count: Slices in the whole batch.
        part: Which of them are here.

    Example:
        >>> whole = np.random.default_rng(0).random(4)
        >>> part = PartOfDraws(np.random.default_rng(0), 4, slice(2, 4)).random(2)
        >>> bool((part == whole[2:]).all())
        True
    """

    def __init__(self, rng: np.random.Generator, count: int, part: slice):
        self._rng, self._count, self._part = rng, count, part

    def random(self, size: Any) -> np.ndarray:
        """Draw as `Generator.random`."""
        return self._rng.random(self._whole(size))[self._part]

    def uniform(self, low: float, high: float, size: Any) -> np.ndarray:
        """Draw as `Generator.uniform`."""
        return self._rng.uniform(low, high, self._whole(size))[self._part]

    def integers(self, high: int, *, size: Any) -> np.ndarray:
        """Draw as `Generator.integers`."""
        return self._rng.integers(high, size=self._whole(size))[self._part]

    def _whole(self, size: Any) -> tuple[int, ...]:
        return (self._count, *np.atleast_1d(size)[1:].tolist())
