"""Predictor: a trained network with its preprocessing and its postprocessing, on any scan."""

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainseg_keras import ranges
from brainseg_keras.data.inputs.preprocessing import intensity_range
from brainseg_keras.data.modalities import arrange_channels
from brainseg_keras.data.scans import Pixels, Scan, check_pixels, find_scans
from brainseg_keras.data.volumes import Volume, VolumeSource
from brainseg_keras.errors import InputError
from brainseg_keras.inference.arrays import as_slices, check_slices
from brainseg_keras.inference.networks import load_network, wrap_model
from brainseg_keras.inference.runner import Runner
from brainseg_keras.spec import NetworkSpec

if TYPE_CHECKING:
    from brainseg_keras.inference.explanation import Explainer

DEFAULT_MODEL = "lgg"
_log = logging.getLogger(__name__)


class Predictor:
    """Segments scans as the network's validation patients were segmented.

    Args:
        model: Run folder, model file, shipped name, `hf://owner/name`, or a `keras.Model`; the folder of
            `brainseg train --folds`, or several paths or names, for the mean of their probabilities.
        spec: What the network sees and how its answer becomes a mask; default as it was trained and tuned, or of a
            network that does not say, as its shapes let guess.
        batch_size: Slices in one step of the network; every result is the same whatever it is.
        engine: What runs it: `keras`, `onnx`, `openvino`, or `auto` for the fastest of those that are installed.
            Default `keras` for a run folder or a `.keras` file, whose scores it measured, else `auto`.

    Raises:
        InputError: No such model, one whose input is not square, a spec of another network, or an engine that is
            unknown, not installed, or does not take this model.

    Example:
        >>> from brainseg_keras import res_unet
        >>> predictor = Predictor(res_unet((32, 32, 3), filters=4, depth=2))
        >>> scan = np.random.default_rng(0).random((2, 40, 50, 3))
        >>> predictor(scan).shape, predictor.probabilities(scan).shape
        ((2, 40, 50), (2, 40, 50, 1))
    """

    def __init__(
        self,
        model: Any = DEFAULT_MODEL,
        *,
        spec: NetworkSpec | None = None,
        batch_size: int = 16,
        engine: str | None = None,
    ):
        ranges.BATCH_SIZE.check("batch_size", batch_size)
        in_file = isinstance(model, str | Path | list | tuple)
        trained = load_network(model, engine) if in_file else wrap_model(model, model.name, engine)
        self._shapes = (trained.input_shape, trained.classes, trained.name)
        if spec is not None:
            spec.check(*self._shapes)
        self.spec = spec or trained.spec
        #: Run folder; None where there is none.
        self.folder = trained.folder
        self.name = trained.name
        #: What runs it.
        self.engine = trained.engine
        #: Names of the networks that it averages; none of a network by itself.
        self.members = tuple(one.name for one in trained.members)
        self._keras_model, self._digest = trained.keras_model, trained.digest
        self._explained = [one.keras_model for one in trained.members or (trained,)]
        self._run_by = partial(Runner, trained.network, batch_size=batch_size, padded=trained.padded)
        self._runner = self._run_by(self.spec)
        self._explainers: list[Explainer] = []

    @property
    def model(self) -> Any:
        """The Keras model, which is loaded when it is first asked for; None where there is none."""
        return self._keras_model() if self._keras_model else None

    @property
    def digest(self) -> str:
        """The sha256 of the network's file, of one that ships the exported one; in memory that of its weights."""
        return self._digest()

    def adapted(self, **changes: Any) -> "Predictor":
        """Give the same network another spec.

        Args:
            **changes: Fields of `NetworkSpec`; another `postprocessing` than the tuned one is no longer called tuned,
                and nothing is expected of its masks.

        Returns:
            Another predictor; this one stays as it is.

        Raises:
            InputError: A spec that is not the network's.

        Example:
            >>> from brainseg_keras import res_unet
            >>> predictor = Predictor(res_unet((32, 32, 1), filters=4, depth=2))
            >>> predictor.adapted(channels=("T2",)).spec.channels
            ('T2',)
        """
        twin = copy.copy(self)
        if changes.get("postprocessing", self.spec.postprocessing) != self.spec.postprocessing:
            changes = {"tuning": None, "expectation": None} | changes
        twin.spec = replace(self.spec, **changes)
        twin.spec.check(*self._shapes)
        twin._runner = self._run_by(twin.spec)
        return twin

    def probabilities(
        self, images: np.ndarray, intensity: np.ndarray | None = None, *, flip: bool | None = None
    ) -> np.ndarray:
        """Predict the slices of one patient.

        Args:
            images: Array of shape `(slices, height, width, channels)`, as stored, the network's channels.
            intensity: Background and tissue levels `(channels, 2)`; default measured over these slices.
            flip: Average with the answer to the mirror images; default as it was tuned.

        Returns:
            Probabilities `(slices, height, width, classes)`, float32, at the images' own resolution: of tumour alone,
            or of each class or region.

        Raises:
            InputError: Images of another shape, or with other channels than the network's.
        """
        check_slices(images, self.spec.channels)
        return self._runner.probabilities(
            images, intensity, flip=self.spec.postprocessing.flip if flip is None else flip
        )

    def both_ways(
        self,
        images: np.ndarray,
        intensity: np.ndarray | None = None,
        *,
        progress: Callable[[float], None] = lambda share: None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict the slices of one patient and their mirror images, which are turned back.

        Where the two differ the network is unsure. Their mean is what `probabilities` gives with flip averaging, the
        first what it gives without.

        Args:
            images: As for `probabilities`.
            intensity: As for `probabilities`.
            progress: Called with the share that is done, from 0 to 1.

        Returns:
            Two arrays as `probabilities` gives them.

        Raises:
            InputError: As `probabilities`.
        """
        check_slices(images, self.spec.channels)
        return self._runner.both_ways(images, intensity, progress)

    def combined(self, plain: np.ndarray, turned: np.ndarray) -> np.ndarray:
        """Give what `probabilities` gives, of what `both_ways` gave: their mean where the spec averages flips."""
        return (plain + turned) / 2 if self.spec.postprocessing.flip else plain

    def attention(self, images: np.ndarray, indices: Sequence[int] | None = None) -> dict[str, np.ndarray]:
        """Map where the network looks: its attention gates, or Grad-CAM where it has none; of several the mean.

        Args:
            images: As for `probabilities`: all slices of the patient, since intensities are measured over them.
            indices: Which of them; default all.

        Returns:
            `dec0_att`, `dec1_att` and so on, full resolution first, or `grad_cam` alone: each
            `(slices, height, width)`, float32, from 0 to 1, at the images' own resolution.

        Raises:
            InputError: A network that is not a Keras model: exported files hold no gates. Images as `probabilities`.
        """
        check_slices(images, self.spec.channels)
        if not all(self._explained):
            raise InputError(f"{self.name} is an exported file. Attention maps need a run or a .keras file.")
        # The one thing here that needs Keras, whatever runs the network.
        from brainseg_keras.inference.explanation import Explainer

        self._explainers = self._explainers or [Explainer(load()) for load in self._explained]
        volume = self._runner.prepare(images)
        found = [self._runner.explain(explainer, volume, indices) for explainer in self._explainers]
        # Networks of other architectures have other gates.
        names = dict.fromkeys(name for maps in found for name in maps)
        return {name: np.mean([maps[name] for maps in found if name in maps], axis=0) for name in names}

    def masks(self, probabilities: np.ndarray, threshold: float | None = None) -> np.ndarray:
        """Make the masks of one patient from its probabilities.

        Args:
            probabilities: As `probabilities` gives them.
            threshold: Another than that of the spec.

        Returns:
            `(slices, height, width)`, uint8: 1 where there is tumour; with several classes 1 necrotic core, 2 edema, 3
            enhancing tumour.
        """
        chosen = self.spec.postprocessing
        chosen = chosen if threshold is None else replace(chosen, threshold=threshold)
        return chosen.labels(probabilities, self.spec.target)

    def tumour(self, probabilities: np.ndarray) -> np.ndarray:
        """Give the probability of any tumour, `(slices, height, width)`, of what `probabilities` gives."""
        return self.spec.target.tumour(probabilities)

    def arrange(self, pixels: Pixels, name: str) -> tuple[np.ndarray, str | None]:
        """Bring a scan's channels to the network's.

        Args:
            pixels: What stands in its files.
            name: Named in messages.

        Returns:
            Array with the network's channels, and a remark on what was filled in, or None.
        """
        return arrange_channels(pixels.images, pixels.channels, self.spec.channels, name)

    def __call__(self, scan: str | Path | Scan | np.ndarray) -> np.ndarray:
        """Segment one file, one patient's folder, one volume or an array.

        Args:
            scan: Its path, what `find_scans` found, or an array `(slices, height, width, channels)` or
                `(height, width, channels)` with the network's channels; of one channel the last axis may be absent.
                The slices of a patient belong together: intensities are measured over all of them.

        Returns:
            Mask `(slices, height, width)`, uint8; of an array in the array's own shape without channels.

        Raises:
            InputError: A path that holds several scans, a scan that cannot be read, or an array of another shape.
        """
        if not isinstance(scan, str | Path | Scan):
            images, shape = as_slices(scan, self.spec.channels)
            check_pixels(images, "The array")
            return self.masks(self.probabilities(images)).reshape(shape)
        if not isinstance(scan, Scan):
            found = find_scans([scan])
            if len(found) != 1:
                raise InputError(f"{scan} holds {len(found)} scans. Give one, or use brainseg predict.")
            scan = found[0]
        images, _ = self.arrange(scan.read(), scan.name)
        return self.masks(self.probabilities(images))


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
