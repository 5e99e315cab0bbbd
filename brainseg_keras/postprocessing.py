"""From probabilities to a mask: what `brainseg tune` chooses on the validation patients."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from brainseg_keras import ranges
from brainseg_keras.calibration import Calibration
from brainseg_keras.data.inputs.targets import Target
from brainseg_keras.errors import InputError
from brainseg_keras.evaluation.lesions import bounding_box, label_lesions
from brainseg_keras.information import read_json

FILE = "postprocess.json"
#: What tells it from somebody else's file of that name.
MARK = '"chosen_on"'
VALIDATION, OUT_OF_FOLD = "validation patients", "out-of-fold patients"
#: The cure of a damaged one.
TUNE_AGAIN = "Restore it, or tune again."


@dataclass(frozen=True)
class Postprocessing:
    """How a patient's probabilities become a mask.

    Args:
        threshold: A pixel is tumour above it.
        smallest_component: Connected parts of fewer voxels, in 3-D over the patient's slices, are dropped.
        largest_component: Keep the largest connected part alone, in 3-D.
        flip: Average the probabilities of each slice and of its mirror image.

    Raises:
        InputError: A threshold that is not between 0 and 1, or a component of less than no pixels.

    Example:
        >>> Postprocessing(threshold=0.4).labels(np.array([[[[0.3], [0.5]]]]), Target("tumour")).tolist()
        [[[0, 1]]]
        >>> str(Postprocessing(largest_component=True, flip=True))
        'threshold 0.5, largest component alone, mean with the mirror image'
    """

    threshold: float = 0.5
    smallest_component: int = 0
    largest_component: bool = False
    flip: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        ranges.THRESHOLD.check("threshold", self.threshold)
        ranges.SMALLEST_COMPONENT.check("smallest_component", self.smallest_component)
        for name in ("largest_component", "flip"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} is true or false. Received: {getattr(self, name)!r}.")

    def __str__(self) -> str:
        """Say it in words, for reports and pages."""
        rules = [f"threshold {self.threshold:g}"]
        rules += ["largest component alone"] if self.largest_component else []
        rules += [f"components of {self.smallest_component} voxels or more"] if self.smallest_component > 1 else []
        rules += ["mean with the mirror image"] if self.flip else []
        return ", ".join(rules)

    def labels(self, probabilities: np.ndarray, target: Target) -> np.ndarray:
        """Make the labels of one patient; components are those of the whole tumour.

        Args:
            probabilities: Array of shape `(slices, height, width, channels)`.
            target: What the channels are.

        Returns:
            Array of shape `(slices, height, width)`, uint8.
        """
        labels = target.decode(probabilities, self.threshold)
        if (self.largest_component or self.smallest_component > 1) and labels.any():
            inner = labels[bounding_box(labels > 0)]
            parts, count = label_lesions(inner > 0)
            # Slice by slice: arrays of a whole volume take most of their time to come by.
            sizes = sum(np.bincount(plane.ravel(), minlength=count + 1) for plane in parts)
            kept = np.append(False, self.keeps(sizes[1:]))
            for plane, numbers in zip(inner, parts, strict=True):
                plane *= kept.take(numbers)
        return labels

    def keeps(self, sizes: np.ndarray) -> np.ndarray:
        """Say which connected parts of an answer stay: the one rule, for a mask and for what `tune` tries.

        Args:
            sizes: Voxels of each part.

        Returns:
            Bool array of the same shape. Of several largest the first one stays.

        Example:
            >>> Postprocessing(smallest_component=3).keeps(np.array([2, 5, 3])).tolist()
            [False, True, True]
        """
        kept = sizes >= self.smallest_component
        if self.largest_component and len(sizes):
            kept &= np.arange(len(sizes)) == sizes.argmax()
        return kept


@dataclass(frozen=True)
class Tuning:
    """On whom a postprocessing was chosen.

    Args:
        patients: Checksums of the slices of each of these patients, by name.
        tried: How many settings the choice was among.
        warning: What is to be said of it, or None.
        temperature: Of the calibration on whose probabilities the threshold was chosen.
        bias: Of the same.
        chosen_on: What these patients were: `VALIDATION` or `OUT_OF_FOLD`.

    Example:
        >>> str(Tuning({"A": (), "B": ()}, tried=340))
        'validation patients (brainseg tune: the best of 340 settings, n = 2)'
    """

    patients: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tried: int | None = None
    warning: str | None = None
    temperature: float = 1.0
    bias: float = 0.0
    chosen_on: str = VALIDATION

    @property
    def calibration(self) -> Calibration:
        """The calibration on whose probabilities the threshold was chosen."""
        return Calibration(self.temperature, self.bias)

    def __str__(self) -> str:
        """Say it in a few words for a report."""
        command = "brainseg out-of-fold" if self.chosen_on == OUT_OF_FOLD else "brainseg tune"
        said = f"{self.chosen_on} ({command}: the best of {self.tried} settings, n = {len(self.patients)})"
        return said + (f". {self.warning}" if self.warning else "")

    def to_info(self) -> dict[str, Any]:
        """Give what stands of it in a JSON file."""
        return {
            "n": len(self.patients),
            "chosen_on": self.chosen_on,
            "patients": list(self.patients),
            "checksums": {name: " ".join(slices) for name, slices in self.patients.items()},
            "tried": self.tried,
            "warning": self.warning,
            "temperature": self.temperature,
            "bias": self.bias,
        }

    @classmethod
    def from_info(cls, content: Mapping[str, Any]) -> "Tuning":
        """Read what `to_info` gave."""
        checksums = content.get("checksums", {})
        patients = {name: tuple(checksums.get(name, "").split()) for name in content.get("patients", [])}
        names = ("tried", "warning", "temperature", "bias", "chosen_on")
        return cls(patients, **{name: content[name] for name in names if name in content})


def choice_from_info(content: Mapping[str, Any]) -> tuple[Postprocessing, Tuning | None]:
    """Read settings, and on whom they were chosen, from what `brainseg tune` wrote.

    Args:
        content: Of postprocess.json, or of `postprocessing` in the JSON of a network.

    Returns:
        The settings, and None for the rest where nothing was tuned.

    Raises:
        InputError: A value out of its range.

    Example:
        >>> choice_from_info({"threshold": 0.4})
        (Postprocessing(threshold=0.4, smallest_component=0, largest_component=False, flip=False), None)
    """
    names = [entry.name for entry in dataclasses.fields(Postprocessing)]
    settings = Postprocessing(**{name: content[name] for name in names if name in content})
    return settings, Tuning.from_info(content) if "patients" in content else None


def read_choice(folder: Path) -> tuple[Postprocessing, Tuning | None] | None:
    """Read what `brainseg tune` wrote for a run.

    Args:
        folder: The run's.

    Returns:
        Settings, and on whom they were chosen; None where there is no postprocess.json.

    Raises:
        InputError: The file is not JSON of names and values, or a value is out of its range.
    """
    file = folder / FILE
    return read_json(file, TUNE_AGAIN, choice_from_info) if file.exists() else None
