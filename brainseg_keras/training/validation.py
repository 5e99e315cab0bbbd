"""The score that chooses the checkpoint: Dice per patient over whole volumes, at the files' own resolution."""

from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd

from brainseg_keras.data.labels import region_masks
from brainseg_keras.data.manifest import Progress
from brainseg_keras.data.modalities import flair_index
from brainseg_keras.data.patient_cache import PreparedPatient, prepare_patients
from brainseg_keras.data.volumes import Volume, VolumeSource
from brainseg_keras.evaluation.curves import ProbabilityHistogram
from brainseg_keras.evaluation.scores import Counts, confusion, dice, iou, pixel_accuracy
from brainseg_keras.inference.engines.keras import keras_function
from brainseg_keras.inference.explanation import Explainer
from brainseg_keras.inference.runner import Network, Prepared, Runner
from brainseg_keras.models.folding import FoldedTwin
from brainseg_keras.monitoring import ShownSlice
from brainseg_keras.postprocessing import Postprocessing
from brainseg_keras.spec import NetworkSpec
from brainseg_keras.visualization import to_gray


@dataclass(frozen=True)
class PatientScores:
    """What one validation found.

    Args:
        dice: Dice of each patient; with several regions the mean over whole tumour, tumour core and enhancing tumour.
        iou: Intersection over union, the mean over the patients; of each over its volume and its regions, as Dice.
        pixel_accuracy: Share of pixels that are right, the same mean.
        loss: Mean loss over the slices; NaN where none was asked for.
        histogram: Probabilities of tumour and of other pixels.
        panel: The same slices each time.
        worst: Of the patients with the lowest Dice, the worst first, the slice with most wrong pixels.
        regions: Mean over the patients of each region's Dice; empty where there is one region.
    """

    dice: dict[str, float]
    iou: float
    pixel_accuracy: float
    loss: float
    histogram: ProbabilityHistogram
    panel: list[ShownSlice]
    worst: list[ShownSlice]
    regions: dict[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean Dice over the patients."""
        return float(np.mean(list(self.dice.values())))

    def logs(self) -> dict[str, float]:
        """Give the columns of history.csv."""
        values = list(self.dice.values())
        tp, fp, tn, fn = self.histogram.confusions(np.array([0.5]))[:, 0]
        return {
            "val_loss": self.loss,
            "val_dice": self.mean,
            "val_dice_median": float(np.median(values)),
            "val_dice_min": float(np.min(values)),
            "val_iou": self.iou,
            "val_pixel_accuracy": self.pixel_accuracy,
            "val_patients": len(values),
            "val_predicted_share": (tp + fp) / (tp + fp + tn + fn),
            "val_tumour_share": (tp + fn) / (tp + fp + tn + fn),
        } | {f"val_dice_{name.replace(' ', '_')}": value for name, value in self.regions.items()}


class PatientValidator:
    """Scores a network on the validation patients, prepared once, as `brainseg evaluate` does.

    Args:
        source: Where the volumes come from.
        spec: Of the network.
        split: Which patients.
        panel: How many patients show one slice each time: the one with most tumour.
        worst: How many of the patients with the lowest Dice show their worst slice.
        batch_size: Slices in a prediction.
        progress: Wraps the list of patients when they are read.
    """

    def __init__(
        self,
        source: VolumeSource,
        spec: NetworkSpec,
        *,
        split: str = "val",
        panel: int = 6,
        worst: int = 5,
        batch_size: int = 16,
        progress: Progress = iter,
    ):
        self._target, self._shown = spec.target, flair_index(spec.channels)
        self._worst = worst
        self._twin: FoldedTwin | None = None
        self._network: Network | None = None
        self._runner = Runner(lambda batch: self._network(batch), spec, batch_size=batch_size)
        self._patients = prepare_patients(
            source,
            split,
            self._prepare,
            {"arrays": "validation", **asdict(spec.preprocessing), "target": spec.target.name, "shown": self._shown},
            progress=progress,
        )
        self._panel = {
            patient.name: int((np.asarray(patient.arrays["masks"]) > 0).sum(axis=(1, 2)).argmax())
            for patient in self._patients[:panel]
        }

    def score(self, model: keras.Model, loss: keras.losses.Loss | None = None) -> PatientScores:
        """Predict every volume and score it, before anything is tuned.

        Args:
            model: Network whose channels are the target's, which answers as its float32 copy does; the same object each
                time.
            loss: Computed at the network's resolution, slice by slice; None for none.

        Returns:
            Dice of each patient, and what there is to look at.
        """
        if self._twin is None:
            self._twin = FoldedTwin(model)
            self._network = keras_function(self._twin.model)
        self._twin.update()
        postprocessing = Postprocessing()
        regions, others, losses, panel, faults = {}, [], [], [], []
        histogram = ProbabilityHistogram()
        for patient in map(_Patient.read, self._patients):
            masks = patient.masks
            outputs = self._runner.run(patient.prepared)
            own_loss = float(loss(self._target.encode(patient.truth), outputs)) if loss else np.nan
            losses.append((own_loss, len(masks)))
            probabilities = self._runner.restore(outputs, masks.shape[1:])
            answer = postprocessing.labels(probabilities, self._target)
            counts = self._count_regions(masks, answer)
            own = regions[patient.name] = {name: float(dice(count)) for name, count in counts.items()}
            others.append([[kind(count) for count in counts.values()] for kind in (iou, pixel_accuracy)])
            tumour, score = self._target.tumour(probabilities), float(np.mean(list(own.values())))
            histogram.add(masks > 0, tumour)
            if patient.name in self._panel:
                panel.append(patient.show(self._panel[patient.name], tumour, score))
            wrong = answer != (masks > 0 if self._target.name == "tumour" else masks)
            faults.append(patient.show(int(wrong.sum(axis=(1, 2)).argmax()), tumour, score))
        values, weights = zip(*losses, strict=True)
        scores = {patient: float(np.mean(list(own.values()))) for patient, own in regions.items()}
        means = {} if self._target.name == "tumour" else pd.DataFrame(regions).mean(axis=1).to_dict()
        worst = sorted(faults, key=lambda shown: shown.dice)[: self._worst]
        mean_loss, mean_others = float(np.average(values, weights=weights)), np.mean(others, axis=(0, 2)).tolist()
        return PatientScores(scores, *mean_others, mean_loss, histogram, panel, worst, means)

    def attention(self, explain: Explainer) -> list[dict[str, np.ndarray]]:
        """Map where a network looks in the panel's slices.

        Args:
            explain: Of the network.

        Returns:
            For each slice of the panel its maps by name, at the slice's own resolution.
        """
        found = []
        for prepared in self._patients[: len(self._panel)]:
            patient = _Patient.read(prepared)
            found.append(self._runner.explain(explain, patient.prepared, [self._panel[patient.name]]))
        return [{name: maps[0] for name, maps in own.items()} for own in found]

    def _prepare(self, volume: Volume) -> dict[str, np.ndarray]:
        prepared = self._runner.prepare(volume.images, volume.intensity)
        return {
            "inputs": prepared.inputs,
            "intensity": prepared.intensity,
            "grays": np.stack([to_gray(image, self._shown) for image in volume.images]),
            "masks": volume.masks,
            "truth": self._runner.spec.preprocessing.masks(self._target.layers(volume.masks)),
            "slices": np.array(volume.slices),
        }

    def _count_regions(self, masks: np.ndarray, answer: np.ndarray) -> dict[str, Counts]:
        truths = region_masks(masks, self._target.classes)
        answers = region_masks(answer, self._target.classes)
        return {name: confusion(truths[name], answers[name]) for name in truths}


class _Patient(NamedTuple):
    """A validation patient in memory."""

    name: str
    slices: np.ndarray
    grays: np.ndarray  # to look at: one sequence, uint8, at its own resolution
    prepared: Prepared
    masks: np.ndarray
    truth: np.ndarray  # as the loss sees them, in layers

    @classmethod
    def read(cls, patient: PreparedPatient) -> "_Patient":
        """Read what was prepared."""
        arrays = {name: np.asarray(array) for name, array in patient.arrays.items()}
        prepared = Prepared(arrays["inputs"], arrays["intensity"], arrays["masks"].shape[1:])
        return cls(patient.name, arrays["slices"], arrays["grays"], prepared, arrays["masks"], arrays["truth"])

    def show(self, index: int, tumour: np.ndarray, dice: float) -> ShownSlice:
        """Pick one slice: copies, since a view would keep the whole volume in memory."""
        pictures = (array[index].copy() for array in (self.grays, self.masks, tumour))
        return ShownSlice(self.name, int(self.slices[index]), *pictures, dice)
