"""What a network is asked for: the tumour, its classes, or its nested regions; into channels and back to labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brainseg_keras.data.labels import CLASSES, REGIONS
from brainseg_keras.data.preprocessing import aligned_empty
from brainseg_keras.errors import InputError

TARGETS = ("tumour", "classes", "regions")
#: The label that each region adds to the one around it: edema, necrotic core, enhancing tumour.
_REGION_LABELS = (2, 1, 3)


@dataclass(frozen=True)
class Target:
    """How masks of labels become the channels of a network's answer, and how the answer becomes labels.

    Args:
        name: `tumour`: one channel, any label. `classes`: background and three exclusive classes, through softmax.
            `regions`: whole tumour, tumour core and enhancing tumour, each inside the one before, through sigmoids.

    Raises:
        InputError: An unknown name.

    Example:
        >>> Target("regions").encode(np.array([[[0, 1, 2, 3]]], "uint8"))[0, 0].tolist()
        [[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """

    name: str = "tumour"

    def __post_init__(self) -> None:
        """Refuse an unknown name."""
        if self.name not in TARGETS:
            raise InputError(f"target is one of {', '.join(TARGETS)}. Received: {self.name!r}.")

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the answer's channels."""
        return {"tumour": ("tumour",), "classes": ("background", *CLASSES), "regions": tuple(REGIONS)}[self.name]

    @property
    def exclusive(self) -> bool:
        """Whether a pixel belongs to one channel alone."""
        return self.name == "classes"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels from 1 on in the masks that come out."""
        return ("tumour",) if self.name == "tumour" else CLASSES

    def check(self, classes: Sequence[str], origin: str) -> None:
        """Refuse data that cannot teach this.

        Args:
            classes: Names of the data's labels.
            origin: Named in the message.

        Raises:
            InputError: Classes are wanted of data that only tell tumour from background.
        """
        if self.name != "tumour" and tuple(classes) != CLASSES:
            raise InputError(
                f"{origin} tells tumour from background alone. --target {self.name} needs masks of {', '.join(CLASSES)}"
                ". Use --target tumour, or data with such masks."
            )

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Make what a loss compares with.

        Args:
            labels: Array of shape `(batch, height, width)`, uint8.

        Returns:
            Array of shape `(batch, height, width, channels)`, float32, 0 or 1.
        """
        truth = aligned_empty((*labels.shape, len(self.channels)))
        if self.name == "tumour":
            truth[..., 0] = labels > 0
        elif self.exclusive:
            for label in range(truth.shape[-1]):
                truth[..., label] = labels == label
        else:
            for place, members in enumerate(REGIONS.values()):
                truth[..., place] = np.isin(labels, members)
        return truth

    def decode(self, probabilities: np.ndarray, threshold: float = 0.5) -> np.ndarray:
        """Make labels of an answer.

        A pixel is tumour where the whole tumour's probability exceeds the threshold; of classes that is 1 minus the
        background's. Which class it is, the likeliest says, or the innermost region above the threshold.

        Args:
            probabilities: Array of shape `(..., channels)`, or without that axis for one channel.
            threshold: Between 0 and 1.

        Returns:
            Array of labels, uint8.

        Example:
            >>> Target("classes").decode(np.array([[0.9, 0, 0.1, 0], [0.3, 0.2, 0.1, 0.4]])).tolist()
            [0, 3]
        """
        if self.name == "tumour":
            return (probabilities > threshold).astype(np.uint8)
        if self.exclusive:
            tumour = 1 - probabilities[..., 0] > threshold
            return np.where(tumour, 1 + probabilities[..., 1:].argmax(axis=-1), 0).astype(np.uint8)
        labels = np.zeros(probabilities.shape[:-1], np.uint8)
        inside = np.ones(labels.shape, bool)
        for place, label in enumerate(_REGION_LABELS):
            inside &= probabilities[..., place] > threshold
            labels[inside] = label
        return labels

    def tumour(self, probabilities: np.ndarray) -> np.ndarray:
        """Give the probability of any tumour.

        Args:
            probabilities: Array of shape `(..., channels)`, or without that axis for one channel.

        Returns:
            Array without the channel axis.
        """
        if self.name == "tumour":
            return probabilities
        return 1 - probabilities[..., 0] if self.exclusive else probabilities[..., 0]


TUMOUR = Target("tumour")
