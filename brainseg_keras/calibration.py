"""Calibration: the temperature and the bias that make a network's probabilities believable."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from brainseg_keras import ranges
from brainseg_keras.errors import InputError
from brainseg_keras.information import read_json

FILE = "calibration.json"


@dataclass(frozen=True)
class Calibration:
    """How a network's probabilities become those that are used: `logit / temperature + bias`.

    Each sigmoid has its own logit. Of a softmax all logits are divided by the temperature, and the bias is taken off
    the background's: with two classes that is the same.

    Args:
        temperature: Below 1 answers become surer, above 1 less sure.
        bias: Above 0 tumour becomes likelier everywhere.
        patients: Checksums of the slices of each patient on whom it was fitted, by name.
        fitted_on: Whose patients these are, in words.
        before: Expected calibration error on them without it; None where nobody measured.
        after: The same with it.
        in_network: The network does it itself: an exported file, in whose weights it stands.

    Raises:
        InputError: A temperature or a bias out of its range.

    Example:
        >>> Calibration(temperature=0.5).apply(np.array([[0.2, 0.5]]), exclusive=False).round(4).tolist()
        [[0.0588, 0.5]]
        >>> str(Calibration(0.25, 0.5))
        'temperature 0.25, bias +0.5'
    """

    temperature: float = 1.0
    bias: float = 0.0
    patients: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fitted_on: str | None = None
    before: float | None = None
    after: float | None = None
    in_network: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        ranges.TEMPERATURE.check("temperature", self.temperature)
        ranges.BIAS.check("bias", self.bias)
        for name in ("before", "after"):
            if getattr(self, name) is not None:
                ranges.SHARE.check(name, getattr(self, name))
        if not isinstance(self.in_network, bool):
            raise InputError(f"in_network is true or false. Received: {self.in_network!r}.")

    def __str__(self) -> str:
        """Say it in words, for reports."""
        if self == Calibration():
            return "none"
        said = f"temperature {self.temperature:.3g}, bias {self.bias:+.3g}"
        said += f"; fitted on {self.fitted_on}" if self.fitted_on else ""
        said += f", n = {len(self.patients)}" if self.patients else ""
        if self.before is not None and self.after is not None:
            said += f", whose expected calibration error went from {self.before:.3f} to {self.after:.3f}"
        return said + ("; in the network's own weights" if self.in_network else "")

    @property
    def changes(self) -> bool:
        """Whether there is something to do after the network has answered."""
        return not self.in_network and (self.temperature, self.bias) != (1, 0)

    def apply(self, probabilities: np.ndarray, *, exclusive: bool) -> np.ndarray:
        """Calibrate what a network answers, before it is averaged or resized.

        A probability of exactly 1 in float32 stays 1: how far above the next smaller one its logit was is not known.

        Args:
            probabilities: Array of shape `(..., channels)`, float32.
            exclusive: Whether they come from a softmax, the background first, and not each from a sigmoid.

        Returns:
            Array of the same shape and type; the same one where nothing changes.

        Example:
            >>> answer = np.array([[0.8, 0.1, 0.1]], np.float32)
            >>> Calibration(temperature=0.5).apply(answer, exclusive=True).round(4).tolist()
            [[0.9696999788284302, 0.015200000256299973, 0.015200000256299973]]
        """
        if not self.changes:
            return probabilities
        kind = probabilities.dtype.type
        power, turn = kind(1 / self.temperature), kind(np.exp(-self.bias))
        if exclusive:
            # The likeliest is 1 then, so that no power of all of them vanishes.
            weights = (probabilities / probabilities.max(axis=-1, keepdims=True)) ** power
            weights[..., 0] *= turn
            return weights / weights.sum(axis=-1, keepdims=True)
        # Through the odds against: a power instead of a logarithm and an exponential. Of 0 they are infinite.
        with np.errstate(divide="ignore", over="ignore"):
            chance = np.clip(probabilities, 0, 1)
            odds = np.divide(1 - chance, chance)
            np.power(odds, power, out=odds)
            odds *= turn
            odds += 1
            return np.reciprocal(odds, out=odds)

    def map_threshold(self, threshold: float, before: "Calibration") -> float:
        """Move a threshold that was chosen on another calibration, so that it marks the same voxels.

        Each voxel's probability moves as the threshold does, as long as it is not averaged with others: with flip
        averaging, at another resolution than the network's, and with more than two exclusive classes a few voxels at
        the border may change.

        Args:
            threshold: Between 0 and 1.
            before: On whose probabilities it was chosen.

        Returns:
            The threshold for this one's probabilities, within the range of thresholds.

        Example:
            >>> round(Calibration(0.5).map_threshold(0.2, Calibration()), 4)
            0.0588
        """
        if (self.temperature, self.bias) == (before.temperature, before.bias):
            return threshold
        raw = before.temperature * (np.log(threshold) - np.log1p(-threshold) - before.bias)
        moved = 1 / (1 + np.exp(-(raw / self.temperature + self.bias)))
        return float(np.clip(moved, ranges.THRESHOLD.low, ranges.THRESHOLD.high))

    def to_info(self) -> dict[str, Any]:
        """Give what stands of it in a JSON file."""
        return {
            "temperature": self.temperature,
            "bias": self.bias,
            "n": len(self.patients),
            "fitted_on": self.fitted_on,
            "patients": list(self.patients),
            "checksums": {name: " ".join(slices) for name, slices in self.patients.items()},
            "before": self.before,
            "after": self.after,
            "in_network": self.in_network,
        }

    @classmethod
    def from_info(cls, content: Mapping[str, Any]) -> "Calibration":
        """Read what `to_info` gave; for use within `errors.reading`.

        Args:
            content: Of calibration.json, or of `calibration` in the JSON of a network.

        Returns:
            The calibration.

        Raises:
            InputError: A value out of its range.

        Example:
            >>> Calibration.from_info(Calibration(0.5, 0.1).to_info()) == Calibration(0.5, 0.1)
            True
        """
        checksums = content.get("checksums", {})
        patients = {name: tuple(checksums.get(name, "").split()) for name in content.get("patients", [])}
        plain = ("fitted_on", "before", "after", "in_network")
        known = {name: content[name] for name in plain if name in content}
        return cls(content["temperature"], content["bias"], patients, **known)


def read_calibration(folder: Path) -> Calibration | None:
    """Read what `brainseg calibrate` wrote for a run.

    Args:
        folder: The run's.

    Returns:
        The calibration; None where there is no calibration.json.

    Raises:
        InputError: The file is not JSON of names and values, or a value is out of its range.
    """
    file = folder / FILE
    return read_json(file, "Restore it, or calibrate again.", Calibration.from_info) if file.exists() else None
