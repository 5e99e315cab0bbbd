"""The score that chooses the checkpoint: Dice per patient over whole volumes, at the files' own resolution."""

from dataclasses import dataclass, field

import keras
import numpy as np
import pandas as pd

from brainseg_keras.data.context import neighbour_places, repeat_range, stack_neighbours
from brainseg_keras.data.labels import region_masks
from brainseg_keras.data.preprocessing import Preprocessing, normalise
from brainseg_keras.data.targets import TUMOUR, Target
from brainseg_keras.data.volumes import VolumeSource, iterate_volumes
from brainseg_keras.evaluation.scores import confusion, dice


@dataclass(frozen=True)
class PatientScores:
    """What one validation found.

    Args:
        dice: Dice of each patient; with several regions the mean over whole tumour, tumour core and enhancing tumour.
        loss: Mean loss over the slices.
        panel: Probabilities of tumour in the panel's slices, at their own resolution.
        regions: Mean over the patients of each region's Dice; empty where there is one region.
    """

    dice: dict[str, float]
    loss: float
    panel: list[np.ndarray]
    regions: dict[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean Dice over the patients."""
        return float(np.mean(list(self.dice.values())))

    def logs(self) -> dict[str, float]:
        """Give the columns of history.csv."""
        values = list(self.dice.values())
        return {
            "val_loss": self.loss,
            "val_dice": self.mean,
            "val_dice_median": float(np.median(values)),
            "val_dice_min": float(np.min(values)),
            "val_patients": len(values),
        } | {f"val_dice_{name.replace(' ', '_')}": value for name, value in self.regions.items()}


@dataclass(frozen=True)
class PanelSlice:
    """One validation slice to look at each epoch.

    Args:
        patient: Whose it is.
        number: Slice number as in the manifest.
        image: Array of shape `(height, width, channels)`, as stored.
        mask: Array of shape `(height, width)`.
    """

    patient: str
    number: int
    image: np.ndarray
    mask: np.ndarray


class PatientValidator:
    """Scores a model on the validation patients, read once and kept.

    Args:
        source: Where the volumes come from.
        preprocessing: As in training.
        split: Which patients.
        panel: How many patients show one slice each: the one with most tumour.
        batch_size: Slices in a prediction.
        threshold: Probability above which a pixel is tumour.
        target: What the network was asked for.
        context: Neighbouring slices on each side that it sees.
    """

    def __init__(
        self,
        source: VolumeSource,
        preprocessing: Preprocessing,
        *,
        split: str = "val",
        panel: int = 6,
        batch_size: int = 16,
        threshold: float = 0.5,
        target: Target = TUMOUR,
        context: int = 0,
    ):
        self._preprocessing = preprocessing
        self._batch_size = batch_size
        self._threshold = threshold
        self._target = target
        self._context = context
        self._volumes = []
        self.panel: list[PanelSlice] = []
        self._panel_places: dict[str, int] = {}
        for volume in iterate_volumes(source, split):
            inputs, intensity = preprocessing.volume(volume.images, volume.intensity)
            self._volumes.append((volume.patient, inputs, intensity, volume.masks))
            if len(self.panel) < panel:
                place = int(volume.masks.sum(axis=(1, 2)).argmax())
                self._panel_places[volume.patient] = place
                number, image, mask = volume.slices[place], volume.images[place], volume.masks[place]
                self.panel.append(PanelSlice(volume.patient, number, image, mask))

    def score(self, model: keras.Model, loss: keras.losses.Loss) -> PatientScores:
        """Predict every volume and score it.

        Args:
            model: Network whose channels are the target's.
            loss: Computed at the network's resolution, slice by slice.

        Returns:
            Dice of each patient, and what the panel shows.
        """
        regions, losses, shown = {}, [], []
        for patient, inputs, intensity, masks in self._volumes:
            probabilities = self._predict(model, inputs, intensity)
            truth = self._target.encode(self._preprocessing.masks(masks))
            losses.append((float(loss(truth, probabilities)), len(masks)))
            restored = self._preprocessing.restore_channels(probabilities, masks.shape[1:])
            answer = self._target.decode(restored, self._threshold)
            regions[patient] = self._score_regions(masks, answer)
            if patient in self._panel_places:
                shown.append(self._target.tumour(restored[self._panel_places[patient]]))
        values, weights = zip(*losses, strict=True)
        scores = {patient: float(np.mean(list(own.values()))) for patient, own in regions.items()}
        means = {} if self._target.name == "tumour" else pd.DataFrame(regions).mean(axis=1).to_dict()
        return PatientScores(scores, float(np.average(values, weights=weights)), shown, means)

    def _score_regions(self, masks: np.ndarray, answer: np.ndarray) -> dict[str, float]:
        truths = region_masks(masks, self._target.classes)
        answers = region_masks(answer, self._target.classes)
        return {name: float(dice(confusion(truths[name], answers[name]))) for name in truths}

    def _predict(self, model: keras.Model, inputs: np.ndarray, intensity: np.ndarray) -> np.ndarray:
        parts = []
        places, intensity = neighbour_places(len(inputs), self._context), repeat_range(intensity, self._context)
        for start in range(0, len(inputs), self._batch_size):
            batch = normalise(stack_neighbours(inputs, places[start : start + self._batch_size]), intensity)
            # One shape for every call: a last, smaller batch would be compiled anew on some backends.
            padded = np.pad(batch, ((0, self._batch_size - len(batch)), (0, 0), (0, 0), (0, 0)))
            parts.append(np.asarray(model.predict_on_batch(padded))[: len(batch)])
        return np.concatenate(parts)
