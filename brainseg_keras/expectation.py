"""Expectation: how good a mask is likely to be, where its volume may lie, and whether its scan is a usual one."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainseg_keras import ranges
from brainseg_keras.data.inputs.preprocessing import intensity_range
from brainseg_keras.errors import InputError
from brainseg_keras.information import read_json

FILE = "expectation.json"
#: What tells it from somebody else's file of that name.
MARK = '"spearman"'
#: Patients below which nothing is fitted; from nine on an interval of 90 % has an end.
FEWEST = 10
_FEWEST_RANKS = 3
#: What a table of out-of-fold patients says of each.
COLUMNS = ("dice", "disagreement", "confidence", "volume_true", "volume_pred")
#: Expected Dice that differ by less are the same.
_FLAT = 0.001
#: Share of new patients whose true volume the interval holds.
_COVERED = 0.9
#: By which share of their range features may lie beyond those of the training patients.
_MARGIN = 0.1
#: A pixel is head where any sequence exceeds this share of its tissue level.
_HEAD = 0.2
#: Every so many pixels of a row and of a column are looked at.
_COARSE = 2


@dataclass(frozen=True)
class Expectation:
    """What is known of a network's answers to whole patients who had no part in making it.

    The expected Dice is a logistic curve over a sum of two signs, falling in each: the disagreement of the masks of the
    scan and of its mirror image, 1 - their Dice, and the doubt, 1 - the mean probability of what is marked.

    Args:
        line: Intercept, and slopes of disagreement and of doubt, neither above 0.
        n: Out-of-fold patients on whom it was fitted.
        spearman: Rank correlation of expected and true Dice of these patients, each left out of the fit; None where
            one of them is the same for all.
        factor: The true volume is within the predicted one divided and multiplied by it, with 90 %; None where too few
            patients had a tumour that was found.
        bound: An expected Dice below it is warned of.
        usual: Lowest and highest of each of `scan_features` in the training patients, and a little beyond.
        coverage: Share of these patients whose true volume the interval of all others held; None of too few.

    Raises:
        InputError: Numbers that cannot be.

    Example:
        >>> known = Expectation((2.0, -5.0, 0.0), n=20, spearman=0.6, factor=1.5, usual={"share of head": (0.2, 0.5)})
        >>> round(known.dice(disagreement=0.1, confidence=0.9), 3), known.interval(30.0)
        (0.818, (20.0, 45.0))
        >>> known.remarks(0.5, {"share of head": 0.05})
        ['expected Dice 0.50 is below 0.7', 'unlike the training data: share of head 0.05, usual 0.2 to 0.5']
    """

    line: tuple[float, float, float]
    n: int
    spearman: float | None = None
    factor: float | None = None
    bound: float = 0.7
    usual: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    coverage: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no fit gives."""
        ranges.SHARE.check("bound", self.bound)
        if self.coverage is not None:
            ranges.SHARE.check("coverage", self.coverage)
        if len(self.line) != 3 or not np.isfinite(self.line).all() or max(self.line[1:]) > 0:
            raise InputError(f"line is three numbers, the last two not above 0. Received: {self.line}.")
        if self.factor is not None and not 1 <= self.factor < math.inf:
            raise InputError(f"factor is a number from 1 on, or none. Received: {self.factor!r}.")
        for name, between in self.usual.items():
            if len(between) != 2 or not between[0] <= between[1]:
                raise InputError(f"The range of {name} is its lowest and its highest. Received: {between}.")

    def dice(self, disagreement: float, confidence: float) -> float:
        """Give the Dice that is to be expected.

        Args:
            disagreement: 1 - Dice of the masks of the scan and of its mirror image.
            confidence: Mean probability of the marked pixels; with none, 1 minus the largest probability.

        Returns:
            From 0 to 1; it falls with disagreement and with doubt.
        """
        return float(_curve(np.array(self.line), np.array([1.0, disagreement, 1 - confidence])))

    def interval(self, volume: float) -> tuple[float, float] | None:
        """Give the interval that holds the true volume with 90 %.

        Args:
            volume: The predicted one, in any unit.

        Returns:
            Its ends; None where nothing is marked, or where too little is known.
        """
        return (volume / self.factor, volume * self.factor) if self.factor and volume > 0 else None

    def unlike(self, features: Mapping[str, float]) -> list[str]:
        """Say which features of a scan lie outside the range of the training patients.

        Args:
            features: As `scan_features` gives them.

        Returns:
            A few words for each that does; none for features that are not known of both.
        """
        both = {name: (value, *self.usual[name]) for name, value in features.items() if name in self.usual}
        return [
            f"{name} {value:.3g}, usual {low:.3g} to {high:.3g}"
            for name, (value, low, high) in both.items()
            if not low <= value <= high
        ]

    def remarks(self, dice: float, features: Mapping[str, float]) -> list[str]:
        """Say what a user should know of a scan's mask.

        Args:
            dice: What is expected of it.
            features: As `scan_features` gives them.

        Returns:
            Sentences without a full stop; none where there is nothing to say.
        """
        low = [f"expected Dice {dice:.2f} is below {self.bound:g}"] if dice < self.bound else []
        unlike = self.unlike(features)
        return low + ([f"unlike the training data: {'; '.join(unlike)}"] if unlike else [])

    def to_info(self) -> dict[str, Any]:
        """Give what stands of it in a JSON file."""
        return asdict(self)

    @classmethod
    def from_info(cls, content: Mapping[str, Any]) -> "Expectation":
        """Read what `to_info` gave; for use within `errors.reading`.

        Args:
            content: Of expectation.json, or of `expectation` in the JSON of a network.

        Returns:
            The expectation.

        Raises:
            InputError: Numbers that cannot be.

        Example:
            >>> known = Expectation((2.0, -5.0, 0.0), n=20)
            >>> Expectation.from_info(known.to_info()) == known
            True
        """
        between = {name: (float(low), float(high)) for name, (low, high) in content.get("usual", {}).items()}
        plain = {name: content[name] for name in ("spearman", "factor", "bound", "coverage") if name in content}
        return cls(tuple(map(float, content["line"])), int(content["n"]), usual=between, **plain)


def read_expectation(folder: Path) -> Expectation | None:
    """Read what was kept for a run.

    Args:
        folder: The run's.

    Returns:
        The expectation; None where there is no expectation.json.

    Raises:
        InputError: The file is not JSON of names and values, or holds numbers that cannot be.
    """
    file, cure = folder / FILE, "Restore it, or remove it: then nothing is expected."
    return read_json(file, cure, Expectation.from_info) if file.exists() else None


def fit_expectation(
    table: pd.DataFrame, features: Iterable[Mapping[str, float]] = (), *, bound: float = 0.7
) -> Expectation:
    """Fit what may be expected of a network, on patients scored by networks that never met them.

    The interval of the volume is split-conformal: of the n patients in whom something was marked, the
    ceil(0.9 (n + 1))-th smallest |log(true / predicted)|. A tumour that is not there lies infinitely far from what was
    marked, and a patient in whom nothing was marked has no interval and no part in it.

    Args:
        table: One row a patient: `dice`, `disagreement`, `confidence`, `volume_true` and `volume_pred`, as in the
            per_patient.csv of out-of-fold scores.
        features: Of the patients who train the network, each as `scan_features` gives them.
        bound: An expected Dice below it is warned of.

    Returns:
        The fit.

    Raises:
        InputError: Columns are missing or hold no numbers, or fewer than ten patients.

    Example:
        >>> apart = np.linspace(0, 0.5, 20)
        >>> table = pd.DataFrame({"dice": 0.95 - apart, "disagreement": apart, "confidence": 0.9})
        >>> found = fit_expectation(table.assign(volume_true=10.0, volume_pred=np.linspace(8, 12.5, 20)))
        >>> found.spearman > 0.99, round(found.factor, 2)
        (True, 1.25)

    Reference:
        Lei, G'Sell, Rinaldo, Tibshirani, Wasserman 2018, arXiv 1604.04173 (split-conformal intervals).
    """
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise InputError(f"A table of out-of-fold patients has {', '.join(COLUMNS)}. Missing: {', '.join(missing)}.")
    if len(table) < FEWEST:
        raise InputError(f"An expectation takes {FEWEST} out-of-fold patients or more. Received: {len(table)}.")
    values = table[list(COLUMNS)].apply(pd.to_numeric, errors="coerce")
    if not np.isfinite(values.to_numpy(float)).all():
        raise InputError(f"{', '.join(COLUMNS)} of each patient are numbers. Expected a table without gaps.")
    signs = np.stack([np.ones(len(values)), values.disagreement, 1 - values.confidence], axis=-1)
    dice = values.dice.to_numpy(float)
    line = _fit_line(signs, dice)
    # A flat curve expects the same of all. Of patients left out its level alone would move, against the truth.
    flat = np.ptp(_curve(line, signs)) < _FLAT
    left_out = [
        _curve(_fit_line(np.delete(signs, index, 0), np.delete(dice, index)), row) for index, row in enumerate(signs)
    ]
    apart = _apart(*values[["volume_true", "volume_pred"]].to_numpy(float).T)
    return Expectation(
        tuple(line.tolist()),
        len(values),
        None if flat else rank_correlation(left_out, dice),
        _factor(apart),
        bound,
        _usual(features),
        _coverage(apart),
    )


def scan_features(
    images: np.ndarray, channels: Sequence[str], spacing: Sequence[float] | None = None
) -> dict[str, float]:
    """Measure what tells a usual scan from an odd one, in no unit of brightness.

    Args:
        images: Array of shape `(slices, height, width, channels)`, as stored, the network's channels.
        channels: Their names.
        spacing: Millimeters between slices, rows and columns, or None.

    Returns:
        By name: how many sequences differ from all others, which stand-ins do not; the share of the slices that is
        head; of each sequence its bright end (99.5th percentile) and its spread (standard deviation in the head), as
        shares of what its tissue lies above the background; and, where the spacing is known, the step between
        slices and the field of view in mm.

    Example:
        >>> images = np.zeros((2, 40, 40, 1)); images[:, 10:30, 10:30] = 100
        >>> scan_features(images, ["FLAIR"], (5.0, 1.0, 1.0))["field of view in mm"]
        40.0
    """
    coarse = images[:, ::_COARSE, ::_COARSE]
    levels = intensity_range(coarse)
    seen = (coarse.astype(np.float32) - levels[:, 0]) / (levels[:, 1] - levels[:, 0])
    head = (seen > _HEAD).any(axis=-1)
    planes = [seen[..., index] for index in range(len(channels))]
    distinct = [not any(np.array_equal(plane, other) for other in planes[:index]) for index, plane in enumerate(planes)]
    found = {"sequences": float(sum(distinct)), "share of head": float(head.mean())}
    for name, plane in zip(channels, planes, strict=True):
        found[f"bright end of {name}"] = float(np.percentile(plane, 99.5))
        found[f"spread of {name}"] = float(plane[head].std()) if head.any() else 0.0
    if spacing is not None:
        found["step between slices in mm"] = float(spacing[0])
        found["field of view in mm"] = float(max(images.shape[1] * spacing[1], images.shape[2] * spacing[2]))
    return found


def _curve(line: np.ndarray, signs: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-(signs @ line)))


def _fit_line(signs: np.ndarray, dice: np.ndarray) -> np.ndarray:
    # Prediction reads an expectation and fits none: it does not load SciPy for that.
    from scipy.optimize import least_squares

    bounds = ([-20.0, -50.0, -50.0], [20.0, 0.0, 0.0])
    return least_squares(lambda line: _curve(line, signs) - dice, (1.0, -1.0, -1.0), bounds=bounds).x


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Give Spearman's rank correlation.

    Args:
        first: Some numbers.
        second: As many others.

    Returns:
        From -1 to 1; None of fewer than three, and where one of them is the same everywhere.

    Example:
        >>> rank_correlation([1, 2, 4], [10, 30, 20]), rank_correlation([1, 1, 1], [1, 2, 3])
        (0.5, None)
    """
    from scipy.stats import spearmanr

    if len(first) < _FEWEST_RANKS or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(spearmanr(first, second).statistic)


def _apart(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Say how far apart volumes are, as a logarithm, in those patients in whom something was marked."""
    with np.errstate(divide="ignore"):
        return np.abs(np.log(true[predicted > 0]) - np.log(predicted[predicted > 0]))


def _end(apart: np.ndarray) -> float:
    place = math.ceil(_COVERED * (len(apart) + 1))
    return float(np.sort(apart)[place - 1]) if place <= len(apart) else math.inf


def _factor(apart: np.ndarray) -> float | None:
    end = _end(apart)
    return math.exp(end) if math.isfinite(end) else None


def _coverage(apart: np.ndarray) -> float | None:
    if _factor(apart) is None or len(apart) < FEWEST:
        return None
    return float(np.mean([own <= _end(np.delete(apart, index)) for index, own in enumerate(apart)]))


def _usual(features: Iterable[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    rows = pd.DataFrame(list(features))
    low, high = rows.min(), rows.max()
    margin = _MARGIN * (high - low)
    return {str(name): (float(low[name] - margin[name]), float(high[name] + margin[name])) for name in rows}
