"""The network as it is kept, with the average of its weights where that is wanted, and its score."""

from collections.abc import Sequence
from typing import Any

import keras

from brainseg_keras.data.inputs.batches import SliceBatches
from brainseg_keras.inference.explanation import Explainer
from brainseg_keras.models.supervision import supervise
from brainseg_keras.spec import NetworkSpec
from brainseg_keras.training.cpu import speed_up
from brainseg_keras.training.distribution import copy_values
from brainseg_keras.training.initial import freeze
from brainseg_keras.training.optimizer import adam_of
from brainseg_keras.training.setup import TrainingData, build_network
from brainseg_keras.training.validation import PatientScores

#: Batches after which a moving average of momentum 0.9 has forgotten what it held before.
CALIBRATION_STEPS = 30


class Scorer:
    """Scores what best.keras would hold: a copy in float32, without compile state, of the weights or their average.

    Args:
        spec: What the network is.
        data: On which patients to score, and the batches that calibrate an average.
        averaged: Whether the average of the weights is scored.
        supervised: Whether the networks in training have the heads of deep supervision, which the copy leaves out.
        frozen: Names of the layers that are not trained.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        data: TrainingData,
        *,
        averaged: bool,
        supervised: bool = False,
        frozen: Sequence[str] = (),
    ):
        self._validator = data.validator
        self._batches: SliceBatches | None = data.batches if averaged else None
        self._frozen = frozen
        #: The copy, of the weights that were scored last.
        self.plain = build_network(spec)
        # What the variables of a network in training belong to, in their order.
        self._whole = supervise(self.plain) if supervised else self.plain
        speed_up(self.plain)
        self._explain = Explainer(self.plain)

    def score(self, model: keras.Model, step: int) -> tuple[PatientScores | None, list[dict[str, Any]]]:
        """Score a network in training, which is left as it is, and map where it looks; without patients only copy it.

        Args:
            model: The compiled network.
            step: Batches done; 0 of the weights that a run starts from, of which there is no average.
        """
        # With the states of the random generators: calibration draws as the network would.
        copy_values(model.variables, self._whole.variables)
        if self._batches is not None and step:
            freeze(self.plain, self._frozen)
            adam_of(model).average_into(self._whole.trainable_variables)
            _measure_statistics(self.plain, self._batches, step)
            # Whoever reads best.keras may train all of it.
            freeze(self.plain, self._frozen, frozen=False)
        if self._validator is None:
            return None, []
        return self._validator.score(self.plain, model.loss), self._validator.attention(self._explain)


def _measure_statistics(network: keras.Model, batches: SliceBatches, step: int) -> None:
    """Measure the moving statistics that fit averaged weights, on the batches of the last steps.

    With those of the weights that were trained the network answers nothing for epochs. Izmailov et al. 2018,
    arXiv:1803.05407, do so after averaging.
    """
    for index in range(max(0, step - CALIBRATION_STEPS), step):
        network(batches[index][0], training=True)
