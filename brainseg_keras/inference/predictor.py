"""Predictor: a trained network with its preprocessing and its postprocessing, on any scan."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from brainseg_keras import ranges
from brainseg_keras.data.context import neighbour_places, repeat_range, stack_neighbours
from brainseg_keras.data.labels import BINARY
from brainseg_keras.data.lgg import CHANNELS
from brainseg_keras.data.modalities import arrange_channels
from brainseg_keras.data.preprocessing import Preprocessing, aligned_empty, intensity_range, normalise
from brainseg_keras.data.scans import Pixels, Scan, find_scans
from brainseg_keras.data.targets import Target
from brainseg_keras.data.volumes import Volume, VolumeSource
from brainseg_keras.errors import InputError, reading
from brainseg_keras.inference.explanation import Explainer
from brainseg_keras.inference.information import known_roles
from brainseg_keras.inference.networks import TrainedNetwork, load_network, wrap_model
from brainseg_keras.inference.postprocessing import TUNE_AGAIN, Postprocessing, read_choice, tuned_patients

DEFAULT_MODEL = "lgg"
_log = logging.getLogger(__name__)


class Predictor:
    """Segments scans as the network's validation patients were segmented.

    Args:
        model: Run folder, model file, shipped name, or a `keras.Model`.
        postprocessing: How probabilities become masks; default what was tuned for the model, else a threshold of 0.5.
        preprocessing: Size and filters; default as the model was trained.
        channels: Names of the network's sequences; default as it was trained, or the LGG set's three.
        context: Neighbouring slices on each side that the network sees; default as it was trained, or 0.
        batch_size: Slices in one step of the network; every result is the same whatever it is.

    Raises:
        InputError: No such model, or one whose input is not square.

    Example:
        >>> from brainseg_keras import res_unet
        >>> predictor = Predictor(res_unet((32, 32, 3), filters=4, depth=2))
        >>> predictor.probabilities(np.random.default_rng(0).random((2, 40, 50, 3))).shape
        (2, 40, 50)
    """

    def __init__(
        self,
        model: Any = DEFAULT_MODEL,
        *,
        postprocessing: Postprocessing | None = None,
        preprocessing: Preprocessing | None = None,
        channels: Sequence[str] | None = None,
        context: int | None = None,
        batch_size: int = 16,
    ):
        ranges.BATCH_SIZE.check("batch_size", batch_size)
        if context is not None:
            ranges.CONTEXT.check("context", context)
        trained = load_network(model) if isinstance(model, str | Path) else wrap_model(model, model.name)
        self.info = trained.info
        self.folder = trained.folder
        self.name = trained.name
        #: The Keras model, where there is one.
        self.model = trained.model
        self._network = trained.network
        self._explainer: Explainer | None = None
        self._batch_size = batch_size
        depth, height = trained.input_shape[-1], trained.input_shape[0]
        with reading(trained.information or trained.name, "Restore it, or give another network."):
            self.preprocessing = preprocessing or _preprocessing(trained)
            self._target = Target(self.info["target"]) if "target" in self.info else None
            #: Neighbouring slices on each side that the network sees.
            self.context = int(self.info.get("context", 0)) if context is None else context
            channels = channels or self.info.get("channels") or _channel_names(depth // (2 * self.context + 1))
            self.channels = tuple(channels)
            if not all(isinstance(name, str) for name in self.channels) or len(set(self.channels)) < len(channels):
                raise InputError(f"Channels are names, each another. Received: {list(channels)}.")
            if self.context < 0 or len(self.channels) * (2 * self.context + 1) != depth:
                raise InputError(
                    f"{self.name} takes {depth} channels. Received {len(self.channels)} names: "
                    f"{', '.join(self.channels)}, with context {self.context}."
                )
            if height is not None and height != self.preprocessing.size:
                raise InputError(f"{self.name} takes slices of {height} pixels. Received: {self.preprocessing.size}.")
            if self._target and len(self._target.channels) != trained.classes:
                raise InputError(
                    f"{self.name} answers in {trained.classes} channels, not as {self._target.name!r} does."
                )
            roles = known_roles(self.info)
        #: What `brainseg tune` wrote for the network, with how it was chosen; empty where nothing was tuned.
        self.choice, origin = read_choice(trained.folder, self.info, trained.information or trained.name)
        with reading(origin, TUNE_AGAIN):
            self.postprocessing = postprocessing or Postprocessing.of(self.choice)
            #: Whom the network has met, and as what.
            self.roles = roles.with_tuned(tuned_patients(self.choice))

    def probabilities(self, images: np.ndarray, intensity: np.ndarray | None = None) -> np.ndarray:
        """Predict the slices of one patient.

        Args:
            images: Array of shape `(slices, height, width, channels)`, as stored, the network's channels.
            intensity: Background and tissue levels `(channels, 2)`; default measured over these slices.

        Returns:
            Probability of tumour, `(slices, height, width)`, float32, at the images' own resolution; with several
            classes `(slices, height, width, classes)`.
        """
        inputs, intensity = self._prepare(images, intensity)
        outputs = self._run(inputs, intensity)
        if self.postprocessing.flip:
            outputs = (outputs + self._run(inputs[:, :, ::-1], intensity)[:, :, ::-1]) / 2
        return self.preprocessing.restore_channels(outputs, images.shape[1:3])

    def both_ways(
        self, images: np.ndarray, *, progress: Callable[[float], None] = lambda share: None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict the slices of one patient and their mirror images, which are turned back.

        Where the two differ the network is unsure. Their mean is what `probabilities` gives with flip averaging, the
        first what it gives without.

        Args:
            images: As for `probabilities`.
            progress: Called with the share that is done, from 0 to 1.

        Returns:
            Two arrays as `probabilities` gives them.
        """
        inputs, intensity = self._prepare(images, None)
        size = images.shape[1:3]
        plain = self._run(inputs, intensity, lambda share: progress(share / 2))
        turned = self._run(inputs[:, :, ::-1], intensity, lambda share: progress((1 + share) / 2))[:, :, ::-1]
        return tuple(self.preprocessing.restore_channels(outputs, size) for outputs in (plain, turned))

    def attention(self, images: np.ndarray, places: Sequence[int] | None = None) -> dict[str, np.ndarray]:
        """Map where the network looks: its attention gates, or Grad-CAM where it has none.

        Args:
            images: As for `probabilities`: all slices of the patient, since intensities are measured over them.
            places: Which of them; default all.

        Returns:
            `dec0_att`, `dec1_att` and so on, full resolution first, or `grad_cam` alone: each
            `(slices, height, width)`, float32, from 0 to 1, at the images' own resolution.

        Raises:
            InputError: A network that is no Keras model: exported files hold no gates.
        """
        if self.model is None:
            raise InputError(f"{self.name} is an exported file. Attention maps need a run or a .keras file.")
        self._explainer = self._explainer or Explainer(self.model)
        inputs, intensity = self._prepare(images, None)
        chosen = neighbour_places(len(inputs), self.context)[slice(None) if places is None else list(places)]
        intensity = repeat_range(intensity, self.context)
        found = [
            self._explainer(normalise(stack_neighbours(inputs, chosen[start : start + self._batch_size]), intensity))
            for start in range(0, len(chosen), self._batch_size)
        ]
        size = images.shape[1:3]
        return {name: self.preprocessing.restore(np.concatenate([p[name] for p in found]), size) for name in found[0]}

    def _prepare(self, images: np.ndarray, intensity: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        return self.preprocessing.volume(images, intensity_range(images) if intensity is None else intensity)

    def masks(self, probabilities: np.ndarray, threshold: float | None = None) -> np.ndarray:
        """Make the masks of one patient from its probabilities.

        Args:
            probabilities: As `probabilities` gives them.
            threshold: Another than that of `postprocessing`.

        Returns:
            `(slices, height, width)`, uint8: 1 where there is tumour; with several classes 1 necrotic core, 2 edema, 3
            enhancing tumour.
        """
        chosen = self.postprocessing if threshold is None else replace(self.postprocessing, threshold=threshold)
        return chosen.labels(probabilities, self._target_of(probabilities))

    def tumour(self, probabilities: np.ndarray) -> np.ndarray:
        """Give the probability of any tumour.

        Args:
            probabilities: As `probabilities` gives them.

        Returns:
            Array of shape `(slices, height, width)`.
        """
        return self._target_of(probabilities).tumour(probabilities)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels from 1 on; of a network that does not say, the tumour alone."""
        return self._target.classes if self._target else BINARY

    def classes_of(self, probabilities: np.ndarray) -> tuple[str, ...]:
        """Name the labels that `masks` makes of an answer, also of a network that does not say its own.

        Args:
            probabilities: As `probabilities` gives them.

        Returns:
            Names of the labels from 1 on.
        """
        return self._target_of(probabilities).classes

    def _target_of(self, probabilities: np.ndarray) -> Target:
        # A network of several channels that does not say what they are: classes, background first.
        return self._target or Target("classes" if probabilities.ndim == 4 else "tumour")

    def arrange(self, pixels: Pixels, name: str) -> tuple[np.ndarray, str | None]:
        """Bring a scan's channels to the network's.

        Args:
            pixels: What stands in its files.
            name: Named in messages.

        Returns:
            Array with the network's channels, and a remark on what was filled in, or None.
        """
        return arrange_channels(pixels.images, pixels.channels, self.channels, name)

    def __call__(self, scan: str | Path | Scan) -> np.ndarray:
        """Segment one file, one patient's folder or one volume.

        Args:
            scan: Its path, or what `find_scans` found.

        Returns:
            Mask `(slices, height, width)`, uint8.

        Raises:
            InputError: A path that holds several scans, or a scan that cannot be read.
        """
        if not isinstance(scan, Scan):
            found = find_scans([scan])
            if len(found) != 1:
                raise InputError(f"{scan} holds {len(found)} scans. Give one, or use brainseg predict.")
            scan = found[0]
        images, _ = self.arrange(scan.read(), scan.name)
        return self.masks(self.probabilities(images))

    def _run(
        self, inputs: np.ndarray, intensity: np.ndarray, progress: Callable[[float], None] = lambda share: None
    ) -> np.ndarray:
        outputs = None
        places, intensity = neighbour_places(len(inputs), self.context), repeat_range(intensity, self.context)
        for start in range(0, len(inputs), self._batch_size):
            part = normalise(stack_neighbours(inputs, places[start : start + self._batch_size]), intensity)
            # One shape for every call: another one would be compiled anew.
            batch = aligned_empty((self._batch_size, *part.shape[1:]))
            batch[: len(part)], batch[len(part) :] = part, 0
            result = self._network(batch)[: len(part)]
            if outputs is None:
                outputs = np.empty((len(inputs), *result.shape[1:]), np.float32)
            outputs[start : start + len(part)] = result
            progress((start + len(part)) / len(inputs))
        return outputs


class ArrangedVolumes:
    """A source whose channels are brought to a network's, as `Predictor.arrange` does with a scan.

    Args:
        source: Where the volumes come from.
        channels: Names of the network's sequences.

    Example:
        >>> from brainseg_keras.data import open_source
        >>> ArrangedVolumes(open_source("phantom", modalities="FLAIR"), ("T1", "FLAIR")).channels
        ('T1', 'FLAIR')
    """

    def __init__(self, source: VolumeSource, channels: Sequence[str]):
        self.table = source.table
        self.classes = source.classes
        self.channels = tuple(channels)
        self._source = source
        self._said = False

    def volume(self, patient: str) -> Volume:
        """Read one patient; what stands in for what is said once."""
        volume = self._source.volume(patient)
        if tuple(self._source.channels) == self.channels:
            return volume
        images, remark = arrange_channels(volume.images, self._source.channels, self.channels, f"Patient {patient}")
        if remark and not self._said:
            self._said = True
            _log.warning("%s", remark)
        return replace(volume, images=images, intensity=intensity_range(images))


def _preprocessing(trained: TrainedNetwork) -> Preprocessing:
    stored = trained.info.get("preprocessing")
    if stored:
        return Preprocessing(**stored)
    height, width, _ = trained.input_shape
    if height != width:
        raise InputError(f"{trained.name} takes {height} x {width} pixels. Expected a square, or sizes left open.")
    return Preprocessing(size=height or 256)


def _channel_names(count: int) -> tuple[str, ...]:
    if count == 1:
        return ("FLAIR",)
    return CHANNELS if count == len(CHANNELS) else tuple(f"channel {number + 1}" for number in range(count))
