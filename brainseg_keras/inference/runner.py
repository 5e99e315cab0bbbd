"""One prediction: a network with its spec on a volume, the same for validation, predict, tune, evaluate and page."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from brainseg_keras.data.inputs.context import neighbor_indices, repeat_range, stack_neighbors
from brainseg_keras.data.inputs.preprocessing import aligned_empty, normalize
from brainseg_keras.spec import NetworkSpec

#: Sizes to which batches are filled up where each size costs anew; the largest is the runner's own.
_SIZES = (2, 4, 8)
#: From `(batch, height, width, channels)` to `(batch, height, width, classes)`, both float32.
Network = Callable[[np.ndarray], np.ndarray]


class Prepared(NamedTuple):
    """A volume as a network sees it, but for normalization."""

    inputs: np.ndarray  # (slices, size, size, channels), uint8 as stored or else float32
    intensity: np.ndarray  # (channels, 2): background and tissue level
    shape: tuple[int, int]  # height and width of the stored slices


def _say_nothing(share: float) -> None:
    pass


class Runner:
    """Runs a network on whole volumes.

    Args:
        network: The function.
        spec: What it sees.
        batch_size: Slices in one step of the network; every result is the same whatever it is.
        padded: Fill batches up to a few sizes, for a network that each size of a batch costs anew to get ready.

    Example:
        >>> runner = Runner(lambda batch: batch[..., :1] / 4, NetworkSpec(("FLAIR",)))
        >>> runner.probabilities(np.random.default_rng(0).random((2, 40, 50, 1))).shape
        (2, 40, 50, 1)
    """

    def __init__(self, network: Network, spec: NetworkSpec, *, batch_size: int = 16, padded: bool = True):
        self.spec = spec
        self._network = network
        self._batch_size = batch_size
        self._padded = padded

    def prepare(self, images: np.ndarray, intensity: np.ndarray | None = None) -> Prepared:
        """Bring the slices of one patient to the network's size.

        Args:
            images: Array of shape `(slices, height, width, channels)`, as stored, the network's channels.
            intensity: Background and tissue levels `(channels, 2)`; default measured over these slices.

        Returns:
            What `run` takes.
        """
        return Prepared(*self.spec.preprocessing.volume(images, intensity), images.shape[1:3])

    def batches(self, volume: Prepared, indices: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """Make what the network gets: neighbors stacked, normalized.

        Args:
            volume: As `prepare` gives it.
            indices: Which slices; default all.

        Yields:
            Arrays of shape `(batch, size, size, depth)`, float32; the last may hold fewer slices.
        """
        context = self.spec.context
        chosen = neighbor_indices(len(volume.inputs), context)[slice(None) if indices is None else list(indices)]
        intensity = repeat_range(volume.intensity, context)
        for start in range(0, len(chosen), self._batch_size):
            yield normalize(stack_neighbors(volume.inputs, chosen[start : start + self._batch_size]), intensity)

    def run(
        self, volume: Prepared, *, mirrored: bool = False, progress: Callable[[float], None] = _say_nothing
    ) -> np.ndarray:
        """Ask the network about each slice.

        Args:
            volume: As `prepare` gives it.
            mirrored: Ask about the slices' mirror images, and turn the answer back.
            progress: Called with the share that is done, from 0 to 1.

        Returns:
            Array of shape `(slices, size, size, classes)`, float32.
        """
        if mirrored:
            volume = volume._replace(inputs=volume.inputs[:, :, ::-1])
        outputs, done, count = None, 0, len(volume.inputs)
        for part in self.batches(volume):
            result = self._ask(part)
            if outputs is None:
                outputs = np.empty((count, *result.shape[1:]), np.float32)
            outputs[done : done + len(part)] = result
            done += len(part)
            progress(done / count)
        return outputs[:, :, ::-1] if mirrored else outputs

    def _ask(self, part: np.ndarray) -> np.ndarray:
        answer = self._ask_network(part)
        return self.spec.calibration.apply(answer, exclusive=self.spec.target.exclusive)

    def _ask_network(self, part: np.ndarray) -> np.ndarray:
        count = len(part)
        if not self._padded:
            return self._network(part)
        batch = aligned_empty((min(size for size in (*_SIZES, self._batch_size) if size >= count), *part.shape[1:]))
        batch[:count], batch[count:] = part, 0
        return self._network(batch)[:count]

    def _run_both(self, volume: Prepared, progress: Callable[[float], None]) -> tuple[np.ndarray, np.ndarray]:
        """Give the answers of `run` to the slices and to their mirror images, in one batch where there is room."""
        count = len(volume.inputs)
        if 2 * count > self._batch_size:
            plain = self.run(volume, progress=lambda share: progress(share / 2))
            return plain, self.run(volume, mirrored=True, progress=lambda share: progress((1 + share) / 2))
        (part,) = self.batches(volume)
        answer = np.asarray(self._ask(np.concatenate([part, part[:, :, ::-1]])), np.float32)
        progress(1)
        return answer[:count], answer[count:, :, ::-1]

    def restore(self, outputs: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Bring answers of `run` back to stored slices of `(height, width)`."""
        return self.spec.preprocessing.restore_channels(outputs, shape)

    def explain(
        self, explain: Callable[[np.ndarray], dict[str, np.ndarray]], volume: Prepared, indices: Sequence[int] | None
    ) -> dict[str, np.ndarray]:
        """Map where a network looks.

        Args:
            explain: Makes maps of a batch, by name.
            volume: As `prepare` gives it.
            indices: Which slices; None takes all.

        Returns:
            Maps by name, each `(slices, height, width)`, float32, at the slices' own resolution.
        """
        parts = [explain(batch) for batch in self.batches(volume, indices)]
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {name: self.spec.preprocessing.restore(maps, volume.shape) for name, maps in whole.items()}

    def probabilities(
        self, images: np.ndarray, intensity: np.ndarray | None = None, *, flip: bool = False
    ) -> np.ndarray:
        """Predict the slices of one patient.

        Args:
            images: As for `prepare`.
            intensity: As for `prepare`.
            flip: Average with the answer to the mirror images.

        Returns:
            Array of shape `(slices, height, width, classes)`, float32, at the images' own resolution.
        """
        if flip:
            plain, turned = self.both_ways(images, intensity)
            return (plain + turned) / 2
        volume = self.prepare(images, intensity)
        return self.restore(self.run(volume), volume.shape)

    def both_ways(
        self,
        images: np.ndarray,
        intensity: np.ndarray | None = None,
        progress: Callable[[float], None] = _say_nothing,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict the slices of one patient and their mirror images, which are turned back.

        Args:
            images: As for `prepare`.
            intensity: As for `prepare`.
            progress: Called with the share that is done, from 0 to 1.

        Returns:
            Two arrays as `probabilities` gives them.
        """
        volume = self.prepare(images, intensity)
        plain, turned = self._run_both(volume, progress)
        return self.restore(plain, volume.shape), self.restore(turned, volume.shape)
