"""What TensorBoard shows of each epoch: outlines, errors, attention, the worst patients, curves; within a size."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from brainseg_keras.evaluation.curves import ProbabilityHistogram
from brainseg_keras.monitoring.events import EventWriter
from brainseg_keras.visualization import (
    PREDICTION,
    TRUTH,
    draw_errors,
    draw_heat,
    draw_outlines,
    place_beside,
)

if TYPE_CHECKING:
    import keras

#: Bytes of pictures an epoch: a hundred epochs stay below 30 MB with all the rest.
PICTURE_BYTES = 200_000
#: JPEG quality and scale to try, best first, until an epoch's pictures fit; the last fits even pure noise.
_STEPS = ((90, 1), (80, 1), (70, 1), (60, 1), (50, 1), (40, 1), (30, 1), (50, 2), (20, 2))
#: Settings that the page HPARAMS compares.
SETTINGS = (
    "data",
    "architecture",
    "filters",
    "depth",
    "separable",
    "up",
    "norm",
    "recurrence",
    "norm_per_step",
    "target",
    "context",
    "loss",
    "dice_weight",
    "focal_weight",
    "bce_weight",
    "alpha",
    "beta",
    "gamma",
    "smooth",
    "reduce_over",
    "size",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "dropout",
    "ema",
    "tumour_share",
    "augment",
    "stand_in",
    "precision",
    "seed",
    "init",
    "freeze",
)
METRICS = {
    "dice/best_val_dice": "Dice per patient, mean, best epoch",
    "dice/val_dice": "Dice per patient, mean",
    "dice/val_dice_median": "Dice per patient, median",
    "dice/val_dice_min": "Dice, worst patient",
    "iou/val_iou": "IoU per patient, mean",
    "loss/val_loss": "validation loss",
}


@dataclass(frozen=True)
class ShownSlice:
    """One validation slice to look at.

    Args:
        patient: Whose it is.
        number: Slice number as in the manifest.
        gray: FLAIR, or what stands for it, of shape `(height, width)`, uint8.
        truth: Mask of shape `(height, width)`.
        probability: Of tumour, of the same shape.
        dice: The patient's, over the whole volume.
    """

    patient: str
    number: int
    gray: np.ndarray
    truth: np.ndarray
    probability: np.ndarray
    dice: float

    def outlines(self, threshold: float = 0.5) -> np.ndarray:
        """Draw the outline of the truth (green) and of the prediction (red)."""
        answer = self.probability > threshold
        return draw_outlines(self.gray, [(self.truth, TRUTH), (answer, PREDICTION)])

    def errors(self, threshold: float = 0.5) -> np.ndarray:
        """Draw what was marked falsely (red) and what was missed (blue)."""
        return draw_errors(self.gray, self.truth, self.probability > threshold)


class Dashboard:
    """Writes a run's logs.

    Args:
        folder: The log folder of the run.

    Example:
        >>> import tempfile, pathlib
        >>> folder = tempfile.mkdtemp()
        >>> dashboard = Dashboard(folder)
        >>> dashboard.epoch(1, {"loss": 0.5}, dice=[0.8, 0.6], histogram=ProbabilityHistogram())
        >>> dashboard.close()
        >>> len(list(pathlib.Path(folder).glob("events.out.tfevents.*")))
        1
    """

    def __init__(self, folder: str | Path):
        self._writer = EventWriter(folder)

    def describe(self, config: dict[str, Any], model: "keras.Model") -> None:
        """Write what does not change: the settings, as a page and for comparison, and the graph.

        Args:
            config: Fields of TrainingConfig.
            model: The network.
        """
        lines = [f"| {key} | {'' if value is None else value} |" for key, value in config.items()]
        self._writer.text("config", "\n".join(["| setting | value |", "|---|---|", *lines]))
        given = {name: config[name] for name in SETTINGS if config.get(name) is not None}
        self._writer.settings(given | {"parameters": float(model.count_params())}, METRICS)
        self._writer.graph(model)
        self._writer.flush()

    def epoch(
        self,
        step: int,
        scalars: dict[str, float],
        *,
        dice: list[float],
        histogram: ProbabilityHistogram,
        panel: list[ShownSlice] = (),
        worst: list[ShownSlice] = (),
        attention: list[dict[str, np.ndarray]] = (),
    ) -> None:
        """Write one epoch.

        Args:
            step: Its number, from 1; 0 of the weights that a run starts from.
            scalars: Numbers by tag.
            dice: Of each validation patient.
            histogram: Probabilities of their pixels.
            panel: The same slices each epoch.
            worst: Slices of the worst patients of this epoch, the worst first.
            attention: For each slice of the panel its maps by name, from 0 to 1, or nothing.
        """
        self.numbers(step, scalars)
        self._writer.histogram("dice_per_patient", np.asarray(dice), step)
        self._writer.precision_recall("precision_recall", histogram.confusions(np.linspace(0, 1, 101)), step)
        pictures = {f"panel/{shown.patient}_{shown.number}": _panel(shown) for shown in panel}
        pictures |= {f"worst/{index}": _worst(shown) for index, shown in enumerate(worst, 1)}
        for shown, maps in zip(panel, attention, strict=False):
            pictures[f"panel_attention/{shown.patient}_{shown.number}"] = _attention(shown, maps)
        for tag, encoded in _encode(pictures).items():
            self._writer.image(tag, encoded, pictures[tag].shape[:2], step)
        self._writer.flush()

    def numbers(self, step: int, scalars: dict[str, float]) -> None:
        """Write the numbers of one epoch, which is all there is of one that nobody validated.

        Args:
            step: Its number, from 1.
            scalars: Numbers by tag.
        """
        self._writer.scalars({_grouped(tag): value for tag, value in scalars.items()}, step)
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


def _grouped(tag: str) -> str:
    """Name a column of history.csv so that TensorBoard shows what belongs together in one row."""
    for group in ("dice", "iou", "pixel_accuracy", "loss", "share"):
        if tag == group or f"_{group}" in tag:
            return f"{group}/{tag}"
    return f"run/{tag}"


def _panel(shown: ShownSlice) -> np.ndarray:
    return place_beside(
        {
            f"{shown.dice:.3f}: truth green, prediction red": shown.outlines(),
            "too much red, missed blue": shown.errors(),
        }
    )


def _worst(shown: ShownSlice) -> np.ndarray:
    return place_beside({f"{shown.dice:.3f}  {shown.patient}, {shown.number}": shown.outlines()})


def _attention(shown: ShownSlice, maps: dict[str, np.ndarray]) -> np.ndarray:
    return place_beside({name: draw_heat(shown.gray, values, longest=160) for name, values in maps.items()})


def _encode(pictures: dict[str, np.ndarray]) -> dict[str, bytes]:
    """Make JPEGs that together fit an epoch's share; their quality falls, and none is left out."""
    encoded: dict[str, bytes] = {}
    for quality, shrink in _STEPS:
        encoded = {tag: _jpeg(picture, quality, shrink) for tag, picture in pictures.items()}
        if sum(map(len, encoded.values())) <= PICTURE_BYTES:
            break
    return encoded


def _jpeg(picture: np.ndarray, quality: int, shrink: int) -> bytes:
    buffer = io.BytesIO()
    # Color at full resolution: an outline of one pixel would fade.
    Image.fromarray(picture).reduce(shrink).save(buffer, "JPEG", quality=quality, subsampling=0, optimize=True)
    return buffer.getvalue()
