"""Between what a number lies, and what is usual: said once, for function, YAML and flag. Loads nothing."""

import numbers
from dataclasses import dataclass
from typing import Any

from brainseg_keras.errors import InputError


@dataclass(frozen=True)
class Range:
    """The numbers that make sense, both ends among them; whole ones where the ends are whole.

    Args:
        low: The smallest.
        high: The largest.
        usual: What is taken where none is given; None where each place has its own.
        why: What is said of a number outside, where that is no matter of course.

    Example:
        >>> Range(1, 8).check("depth", 3)
        >>> Range(0.0, 1.0).check("flip", float("nan"))
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: flip is a number from 0.0 to 1.0. Received: nan.
    """

    low: float
    high: float
    usual: float | None = None
    why: str = ""

    @property
    def whole(self) -> bool:
        """Whether fractions are left out."""
        return isinstance(self.low, int)

    def check(self, name: str, value: Any) -> None:
        """Refuse a number outside, NaN, and what is not a number.

        Args:
            name: What to call it in the message.
            value: The number.

        Raises:
            InputError: It is refused.
        """
        kind = numbers.Integral if self.whole else numbers.Real
        # NaN is neither above nor below.
        if isinstance(value, bool) or not isinstance(value, kind) or not self.low <= value <= self.high:
            kind_said = "whole number" if self.whole else "number"
            why = f": {self.why}" if self.why else ""
            raise InputError(f"{name} is a {kind_said} {self}{why}. Received: {value!r}.")

    def describe(self, text: str) -> str:
        """Add the range to a help text.

        Args:
            text: One sentence.

        Returns:
            The sentence, with the range before its full stop.

        Example:
            >>> Range(1, 8).describe("Number of halvings.")
            'Number of halvings (1 to 8).'
        """
        return f"{text.removesuffix('.')} ({self.low} to {self.high})."

    def __str__(self) -> str:
        """Say it as a message does: `from 1 to 8`."""
        return f"from {self.low} to {self.high}"


#: What NumPy's and Keras' generators take.
SEED = Range(0, 2**32 - 1)
SHARE = Range(0.0, 1.0)
BATCH_SIZE = Range(1, 4096)
CONTEXT = Range(0, 8)
# What a training is spread over.
DEVICES = Range(1, 64)
PROCESSES = Range(1, 4096)
PROCESS_INDEX = Range(0, PROCESSES.high - 1)
FOLDS = Range(2, 1000)
# Of two folds one part trains, the other validates.
TESTED_FOLDS = Range(3, FOLDS.high, why="with two folds nobody is left to test")
# Filters, in stored pixels and in OpenCV's clip limit.
BLUR = Range(0.0, 50.0)
CLAHE = Range(0.0, 100.0)
# Augmentation: degrees, changes of scale and contrast (1 doubles), shares of the side, spread where tissue is 1, and
# probabilities. An elastic displacement of more than the largest here could fold the head.
ROTATE = Range(0.0, 180.0, usual=15.0)
FLIP = Range(0.0, 1.0, usual=0.5)
ZOOM = Range(0.0, 1.0, usual=0.15)
SHIFT = Range(0.0, 0.5, usual=0.06)
INTENSITY = Range(0.0, 1.0, usual=0.2)
NOISE = Range(0.0, 1.0, usual=0.03)
STAND_IN = Range(0.0, 1.0, usual=0.0)
DARKEN = Range(0.0, 1.0, usual=0.0)
PASTE = Range(0.0, 1.0, usual=0.0)
BIAS_FIELD = Range(0.0, 1.0, usual=0.0)
LOW_RESOLUTION = Range(0.0, 1.0, usual=0.0)
ELASTIC = Range(0.0, 0.05, usual=0.0)
# From probabilities to masks and scores.
THRESHOLD = Range(0.001, 0.999)
TEMPERATURE = Range(0.01, 100.0)
BIAS = Range(-50.0, 50.0)
SMALLEST_COMPONENT = Range(0, 10**9)
SPACING = Range(0.001, 1000.0)
TOLERANCE = Range(0.0, 1000.0)
#: Parts that a task is split into.
PARTS = Range(1, 1_000_000)
# The phantom.
PATIENTS = Range(1, 10_000)
SLICES = Range(6, 512)
SIDE = Range(32, 1024)
