"""What a network is asked for: the tumour, its classes, or its nested regions; into channels and back to labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brainseg_keras.data.inputs.preprocessing import aligned_empty
from brainseg_keras.data.labels import BINARY, CLASSES, REGIONS
from brainseg_keras.errors import InputError
from brainseg_keras.registry import TARGETS

#: The label that each region adds to the one around it: edema, necrotic core, enhancing tumour.
_REGION_LABELS = (2, 1, 3)


@dataclass(frozen=True)
class Target:
    """How masks of labels become the channels of a network's answer, and how the answer becomes labels.

    Args:
        name: `tumour`: one channel, any label. `classes`: background and three exclusive classes, through softmax.
            `regions`: whole tumour, tumour core and enhancing tumour, each inside the one before, through sigmoids.
        others: Names of the classes of a network whose classes are not these.

    Raises:
        InputError: An unknown name.

    Example:
        >>> regions = Target("regions")
        >>> regions.encode(regions.layers(np.array([[[0, 1, 2, 3]]], "uint8")))[0, 0].tolist()
        [[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """

    name: str = "tumour"
    others: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an unknown name."""
        if self.name not in TARGETS:
            raise InputError(f"target is one of {', '.join(TARGETS)}. Received: {self.name!r}.")

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the answer's channels."""
        if self.name == "regions":
            return tuple(REGIONS)
        return ("background", *self.classes) if self.exclusive else self.classes

    @property
    def named(self) -> bool:
        """Whether it is known what the classes are."""
        return not self.others

    @classmethod
    def unnamed(cls, channels: int) -> "Target":
        """Give the target of a network that tells classes apart and does not say which.

        Args:
            channels: Of its answer, the background's first.

        Returns:
            Classes with numbers in place of names.

        Example:
            >>> Target.unnamed(3).channels
            ('background', 'class 1', 'class 2')
        """
        return cls("classes", tuple(f"class {number}" for number in range(1, channels)))

    @property
    def exclusive(self) -> bool:
        """Whether a pixel belongs to one channel alone."""
        return self.name == "classes"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels from 1 on in the masks that come out."""
        return BINARY if self.name == "tumour" else self.others or CLASSES

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

    def layers(self, labels: np.ndarray) -> np.ndarray:
        """Say which pixels belong to which channel, in a form that can be resized and moved as an image is.

        Args:
            labels: Array of shape `(slices, height, width)`, uint8.

        Returns:
            Array of shape `(slices, height, width, layers)`, uint8: 255 where a pixel belongs to the layer, else 0. The
            layers are the channels without the background, which is what the others leave.
        """
        if self.name == "tumour":
            inside = [labels > 0]
        elif self.exclusive:
            inside = [labels == label for label in range(1, len(self.channels))]
        else:
            inside = [np.isin(labels, members) for members in REGIONS.values()]
        return np.uint8(255) * np.stack(inside, axis=-1)

    def encode(self, layers: np.ndarray) -> np.ndarray:
        """Make what a loss compares with.

        Args:
            layers: Array of shape `(batch, height, width, layers)`, uint8, as `layers` gives it, resized or moved.

        Returns:
            Array of shape `(batch, height, width, channels)`, float32: the share of each pixel that belongs to each
            channel, 0 or 1 but where a border crosses it.
        """
        truth = aligned_empty((*layers.shape[:3], len(self.channels)))
        shares = truth[..., 1:] if self.exclusive else truth
        np.divide(layers, np.float32(255), out=shares)
        if self.exclusive:
            # Shares are whole 255ths: rounded, three of them may exceed a pixel by one.
            np.clip(1 - shares.sum(axis=-1), 0, 1, out=truth[..., 0])
        return truth

    def decode(self, probabilities: np.ndarray, threshold: float = 0.5) -> np.ndarray:
        """Make labels of an answer.

        A pixel is tumour where the whole tumour's probability exceeds the threshold; of classes that is 1 minus the
        background's. Which class it is, the likeliest says, or the innermost region above the threshold.

        Args:
            probabilities: Array of shape `(..., channels)`.
            threshold: Between 0 and 1.

        Returns:
            Array of labels, uint8.

        Example:
            >>> Target("classes").decode(np.array([[0.9, 0, 0.1, 0], [0.3, 0.2, 0.1, 0.4]])).tolist()
            [0, 3]
        """
        if self.name == "tumour":
            return (probabilities[..., 0] > threshold).astype(np.uint8)
        if self.exclusive:
            tumour = 1 - probabilities[..., 0] > threshold
            return np.where(tumour, 1 + probabilities[..., 1:].argmax(axis=-1), 0).astype(np.uint8)
        labels = np.zeros(probabilities.shape[:-1], np.uint8)
        inside = np.ones(labels.shape, bool)
        for index, label in enumerate(_REGION_LABELS):
            inside &= probabilities[..., index] > threshold
            labels[inside] = label
        return labels

    def tumour(self, probabilities: np.ndarray) -> np.ndarray:
        """Give the probability of any tumour.

        Args:
            probabilities: Array of shape `(..., channels)`.

        Returns:
            Array without the channel axis.
        """
        return 1 - probabilities[..., 0] if self.exclusive else probabilities[..., 0]


TUMOUR = Target("tumour")
