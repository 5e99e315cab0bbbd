"""A scan with the answers of one or two networks, held so that sliders act without running a network again."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from brainseg_keras.data.modalities import flair_index
from brainseg_keras.data.scans import Pixels, Scan
from brainseg_keras.evaluation.lesions import bounding_box
from brainseg_keras.inference.measures import Measures, measure
from brainseg_keras.inference.outlook import look_ahead
from brainseg_keras.inference.predictor import Predictor

#: Range of the threshold's slider; below its lower end nothing is kept.
LOWEST, HIGHEST = 0.05, 0.95


class Answer:
    """One network's answer to a scan.

    Kept is the box outside of which every probability of tumour is below the lowest threshold: components and sums are
    those of the whole volume, in a fraction of the time.

    Args:
        predictor: The network.
        pixels: The scan's.
        name: What messages call the scan.
        progress: Called with the share that is done, from 0 to 1.

    Raises:
        InputError: Channels that the network cannot take.
    """

    def __init__(self, predictor: Predictor, pixels: Pixels, name: str, progress: Callable[[float], None]):
        self.predictor = predictor
        self._images, self.remark = predictor.arrange(pixels, name)
        plain, turned = predictor.both_ways(self._images, progress=progress)
        #: What may be expected of the mask at the network's own threshold; None where nothing is known.
        maps, self.outlook = look_ahead(predictor, self._images, plain, turned, pixels.spacing)
        #: How far the answers to the scan and to its mirror image lie apart, `(slices, height, width)`.
        self.uncertainty = np.float16(np.abs(predictor.tumour(plain) - predictor.tumour(turned)))
        tumour = predictor.tumour(maps)
        #: Names of the labels from 1 on.
        self.classes = predictor.spec.target.classes
        self.shape = tumour.shape
        self._spacing = pixels.spacing
        box = _box(tumour)
        self._corner = np.array([part.start for part in box])
        self._maps, self._tumour = maps[box].copy(), tumour[box].copy()
        self._found: _Found | None = None
        self._attention: dict[int, dict[str, np.ndarray]] = {}

    def labels(self, threshold: float) -> np.ndarray:
        """Make the mask of the whole scan, `(slices, height, width)`, uint8."""
        found = self._at(threshold)
        labels = np.zeros(self.shape, np.uint8)
        labels[found.box] = found.labels
        return labels

    def plane(self, index: int, threshold: float) -> np.ndarray:
        """Make the mask of one slice, `(height, width)`, uint8."""
        found = self._at(threshold)
        labels = np.zeros(self.shape[1:], np.uint8)
        slices, rows, columns = found.box
        if slices.start <= index < slices.stop:
            labels[rows, columns] = found.labels[index - slices.start]
        return labels

    def measures(self, threshold: float) -> Measures:
        """Measure the mask of the whole scan."""
        return self._at(threshold).measures

    def facts(self, threshold: float) -> dict[str, str]:
        """Say what may be expected of the mask; nothing of one at another threshold than the network's own."""
        if self.outlook is None or threshold != self.predictor.spec.postprocessing.threshold:
            return {}
        measures = self.measures(threshold)
        in_ml = measures.tumour_ml is not None
        size = (measures.tumour_ml, "ml") if in_ml else (measures.tumour_size, measures.size_unit)
        return self.outlook.facts(*size)

    def attention(self, index: int) -> dict[str, np.ndarray]:
        """Map where the network looks in one slice; the network runs once a slice."""
        if index not in self._attention:
            found = self.predictor.attention(self._images, [index])
            self._attention[index] = {name: maps[0] for name, maps in found.items()}
        return self._attention[index]

    def fullest(self, threshold: float) -> int:
        """Give the slice with most tumour; without any, the middle one."""
        found = self._at(threshold)
        counts = (found.labels > 0).sum(axis=(1, 2))
        return found.box[0].start + int(counts.argmax()) if counts.any() else self.shape[0] // 2

    def _at(self, threshold: float) -> "_Found":
        """Find the mask, in the box of what exceeds the threshold: most of a volume never does."""
        if self._found is None or self._found.threshold != threshold:
            inner = _box(self._tumour, threshold)
            labels = self.predictor.masks(self._maps[inner], threshold)
            box = tuple(
                slice(int(part.start + start), int(part.stop + start))
                for part, start in zip(inner, self._corner, strict=True)
            )
            measures = measure(labels, self._tumour[inner], self._spacing, slices=self.shape[0])
            self._found = _Found(threshold, box, labels, measures)
        return self._found


class _Found(NamedTuple):
    """A mask at one threshold, in its box of the scan."""

    threshold: float
    box: tuple[slice, ...]
    labels: np.ndarray
    measures: Measures


class Study:
    """A scan and what was found in it.

    Args:
        scan: What was found in the upload.
        title: What its sender calls it.
    """

    def __init__(self, scan: Scan, title: str):
        self.title = title
        self.scan = scan
        self.pixels = scan.read()
        self.answers: dict[str, Answer] = {}
        self._windows: dict[int, tuple[float, float]] = {}

    @property
    def sequences(self) -> list[str]:
        """Names of the sequences to look at."""
        count = self.pixels.images.shape[-1]
        if self.pixels.channels:
            return list(self.pixels.channels)
        return ["the picture"] if count == 1 else [f"channel {number + 1}" for number in range(count)]

    @property
    def default_sequence(self) -> str:
        """FLAIR, or what stands where FLAIR usually does."""
        return self.sequences[flair_index(self.sequences)]

    @property
    def slice_names(self) -> list[str]:
        """What each slice is called: its file, or its number."""
        if len(self.scan.files) == len(self.pixels.images):
            return [file.name for file in self.scan.files]
        return [f"slice {number}" for number in range(1, len(self.pixels.images) + 1)]

    def gray(self, index: int, sequence: str) -> np.ndarray:
        """Give a slice to look at, `(height, width)`, uint8, with one window for the whole scan."""
        names = self.sequences
        channel = names.index(sequence) if sequence in names else names.index(self.default_sequence)
        if channel not in self._windows:
            low, high = np.percentile(self.pixels.images[..., channel], (1, 99.8))
            self._windows[channel] = (float(low), float(high))
        low, high = self._windows[channel]
        plane = self.pixels.images[index, ..., channel].astype(np.float32)
        return np.uint8(np.clip((plane - low) / max(high - low, 1e-6), 0, 1) * 255)

    def answer(self, name: str, predictor: Predictor, progress: Callable[[float], None]) -> None:
        """Ask a network, and keep what it says under a name."""
        self.answers[name] = Answer(predictor, self.pixels, self.title, progress)


def _box(tumour: np.ndarray, threshold: float = LOWEST) -> tuple[slice, ...]:
    """Bound what exceeds a threshold; where nothing does, the likeliest pixel."""
    inside = tumour > threshold
    if not inside.any():
        inside = np.zeros(tumour.shape, bool)
        inside[np.unravel_index(tumour.argmax(), tumour.shape)] = True
    return bounding_box(inside)
