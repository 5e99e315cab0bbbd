"""From probabilities to a mask: what `brainseg tune` chooses on the validation patients."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brainseg_keras import ranges
from brainseg_keras.data.targets import Target
from brainseg_keras.errors import InputError, reading
from brainseg_keras.evaluation.lesions import largest_component, remove_small_components

FILE = "postprocess.json"
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
        >>> Postprocessing(threshold=0.4)(np.array([[[0.3, 0.5]]])).tolist()
        [[[False, True]]]
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

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Make the mask of one patient.

        Args:
            probabilities: Array of shape `(slices, height, width)`.

        Returns:
            Bool array of the same shape.
        """
        return self._components(probabilities > self.threshold)

    def labels(self, probabilities: np.ndarray, target: Target) -> np.ndarray:
        """Make the labels of one patient; components are those of the whole tumour.

        Args:
            probabilities: Array of shape `(slices, height, width)`, or `(slices, height, width, channels)`.
            target: What the channels are.

        Returns:
            Array of shape `(slices, height, width)`, uint8.
        """
        labels = target.decode(probabilities, self.threshold)
        return labels * self._components(labels > 0)

    def _components(self, mask: np.ndarray) -> np.ndarray:
        if self.largest_component:
            mask = largest_component(mask)
        if self.smallest_component > 1:
            mask = remove_small_components(mask, self.smallest_component)
        return mask

    @classmethod
    def of(cls, choice: dict[str, Any]) -> "Postprocessing":
        """Take the settings out of what `brainseg tune` wrote.

        Args:
            choice: As `read_choice` gives it; empty for a threshold of 0.5 alone.

        Returns:
            The settings.

        Raises:
            InputError: A value out of its range.
        """
        return cls(**{key: choice[key] for key in cls.names() if key in choice})

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Give the names of the fields."""
        return tuple(entry.name for entry in dataclasses.fields(cls))


def read_choice(folder: Path | None, info: dict[str, Any], origin: str | Path) -> tuple[dict[str, Any], str | Path]:
    """Read what `brainseg tune` wrote for a model, with how it was chosen.

    Args:
        folder: Run folder, whose postprocess.json wins; or None.
        info: run.json or its like, which may hold `postprocessing`.
        origin: Where `info` came from.

    Returns:
        Content of postprocess.json, empty where nothing was tuned; and where it stands, for messages.

    Raises:
        InputError: The file is no JSON of names and values.
    """
    path = folder / FILE if folder else None
    if path is None or not path.exists():
        return info.get("postprocessing", {}), origin
    with reading(path, TUNE_AGAIN):
        try:
            choice = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(error.strerror) from error
        if not isinstance(choice, dict):
            raise ValueError(f"it holds no names with values, but {type(choice).__name__}")
    return choice, path


def tuned_patients(choice: dict[str, Any]) -> dict[str, list[str]]:
    """Name the patients on whom a postprocessing was chosen.

    Args:
        choice: As `read_choice` gives it.

    Returns:
        Checksums of slices, by name.

    Example:
        >>> tuned_patients({"patients": ["A", "B"], "checksums": {"A": "0123456789abcdef"}})
        {'A': ['0123456789abcdef'], 'B': []}
    """
    checksums = choice.get("checksums", {})
    return {name: checksums.get(name, "").split() for name in choice.get("patients", [])}


def say_choice(choice: dict[str, Any]) -> str:
    """Say on whom a model's postprocessing was chosen, among how many settings.

    Args:
        choice: As `read_choice` gives it.

    Returns:
        A few words for a report.

    Example:
        >>> say_choice({"threshold": 0.4, "n": 10, "tried": 340})
        'validation patients (brainseg tune: the best of 340 settings, n = 10)'
    """
    if not choice:
        return "default, not tuned"
    said = f"validation patients (brainseg tune: the best of {choice.get('tried')} settings, n = {choice.get('n')})"
    return said + (f". {choice['warning']}" if choice.get("warning") else "")
