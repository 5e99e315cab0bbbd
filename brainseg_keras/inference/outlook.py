"""What a user may expect of one answer, where the network's spec knows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brainseg_keras.evaluation.scores import confusion, dice
from brainseg_keras.expectation import Expectation, scan_features
from brainseg_keras.inference.measures import mean_confidence
from brainseg_keras.inference.predictor import Predictor

#: Columns that summary.csv has besides, where a network's spec expects something.
OUTLOOK = ("disagreement", "expected_dice", "size_low", "size_high", "ml_low", "ml_high", "remarks")


@dataclass(frozen=True)
class Outlook:
    """What is to be expected of the mask of a whole scan.

    Args:
        disagreement: 1 - Dice of the masks of the scan and of its mirror image.
        expected_dice: Dice with the truth that is to be expected.
        remarks: What a user should know, empty where there is nothing.
        expectation: Of the network.
    """

    disagreement: float
    expected_dice: float
    remarks: str
    expectation: Expectation

    def columns(self, voxels: int | None = None, ml: float | None = None) -> dict[str, Any]:
        """Give what stands of it in summary.csv.

        Args:
            voxels: Of the whole mask; None for a slice of it, which has no interval.
            ml: The same in millilitres, or None.

        Returns:
            A value, or None, for each of `OUTLOOK`.
        """
        sizes = [self.expectation.interval(size or 0) or (None, None) for size in (voxels, ml)]
        values = (self.disagreement, self.expected_dice, *sizes[0], *sizes[1], self.remarks or None)
        return dict(zip(OUTLOOK, values, strict=True))

    def scores(self, volume: float) -> dict[str, Any]:
        """Give what stands of it in per_patient.csv.

        Args:
            volume: Predicted, in ml or in voxels.

        Returns:
            A value, or None, by column.
        """
        low, high = self.expectation.interval(volume) or (None, None)
        return {
            "disagreement": self.disagreement,
            "expected_dice": self.expected_dice,
            "volume_low": low,
            "volume_high": high,
            "remarks": self.remarks,
        }

    def facts(self, volume: float, unit: str) -> dict[str, str]:
        """Put it into words.

        Args:
            volume: Of the mask.
            unit: Of the volume.

        Returns:
            Names and values.
        """
        known, ends = self.expectation, self.expectation.interval(volume)
        about = [] if known.spearman is None else [f"rank correlation with the true one {known.spearman:.2f}"]
        about += [self.remarks] if self.remarks else []
        said = f"{self.expected_dice:.2f}" + (f" ({'; '.join(about)})" if about else "")
        if not ends:
            return {"Expected Dice": said}
        held = "" if known.coverage is None else f" (held the true one in {100 * known.coverage:.0f} % of patients)"
        return {"Expected Dice": said, "Volume, 90 % interval": f"{ends[0]:,.1f} to {ends[1]:,.1f} {unit}{held}"}


def predict_with_outlook(
    predictor: Predictor,
    images: np.ndarray,
    intensity: np.ndarray | None = None,
    spacing: Sequence[float] | None = None,
) -> tuple[np.ndarray, Outlook | None]:
    """Predict the slices of one patient and say what may be expected of the mask.

    Without flip averaging that takes twice the time of a prediction, for the mirror images.

    Args:
        predictor: The network.
        images: As for `Predictor.probabilities`.
        intensity: As for `Predictor.probabilities`.
        spacing: Millimeters between slices, rows and columns, or None.

    Returns:
        What `Predictor.probabilities` gives, and the outlook; None where the network's spec expects nothing, and of a
        lone slice, since what is expected was measured on whole patients.

    Example:
        >>> from brainseg_keras import res_unet
        >>> from brainseg_keras.expectation import Expectation
        >>> predictor = Predictor(res_unet((32, 32, 1), filters=4, depth=2))
        >>> images = np.random.default_rng(0).random((2, 40, 50, 1))
        >>> predict_with_outlook(predictor, images)[1] is None
        True
        >>> predictor = predictor.adapted(expectation=Expectation((2.0, -3.0, 0.0), n=20))
        >>> 0 < predict_with_outlook(predictor, images)[1].expected_dice < 1
        True
    """
    if predictor.spec.expectation is None or len(images) == 1:
        return predictor.probabilities(images, intensity), None
    plain, turned = predictor.both_ways(images, intensity)
    return look_ahead(predictor, images, plain, turned, spacing)


def look_ahead(
    predictor: Predictor,
    images: np.ndarray,
    plain: np.ndarray,
    turned: np.ndarray,
    spacing: Sequence[float] | None = None,
) -> tuple[np.ndarray, Outlook | None]:
    """Say what may be expected of a mask whose answers both ways are there already.

    Args:
        predictor: The network.
        images: That it was asked about.
        plain: What it said.
        turned: What it said to the mirror images.
        spacing: Millimeters between slices, rows and columns, or None.

    Returns:
        As `predict_with_outlook`.
    """
    probabilities = predictor.combined(plain, turned)
    known = predictor.spec.expectation
    if known is None or len(images) == 1:
        return probabilities, None
    apart = disagreement(predictor, plain, turned)
    confidence = mean_confidence(predictor.masks(probabilities) > 0, predictor.tumour(probabilities))
    expected = known.dice(apart, confidence)
    said = known.remarks(expected, scan_features(images, predictor.spec.channels, spacing))
    return probabilities, Outlook(apart, expected, "; ".join(said), known)


def disagreement(predictor: Predictor, plain: np.ndarray, turned: np.ndarray) -> float:
    """Say how far apart the masks of a scan and of its mirror image are.

    Args:
        predictor: The network.
        plain: What it said of the scan, as `Predictor.both_ways` gives it.
        turned: What it said of the mirror image.

    Returns:
        1 - their Dice, from 0 to 1.

    Example:
        >>> from brainseg_keras import res_unet
        >>> ones = np.ones((1, 32, 32, 1))
        >>> disagreement(Predictor(res_unet((32, 32, 1), filters=4, depth=2)), ones, ones)
        0.0
    """
    return 1 - float(dice(confusion(*(predictor.masks(answer) > 0 for answer in (plain, turned)))))
