"""The network as it is kept, with the average of its weights where that is wanted, and its score."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from brainseg_keras.data.inputs.batches import SliceBatches
from brainseg_keras.inference.explanation import Explainer
from brainseg_keras.spec import NetworkSpec
from brainseg_keras.training.cpu import speed_up
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
        frozen: Names of the layers that are not trained.
    """

    def __init__(self, spec: NetworkSpec, data: TrainingData, *, averaged: bool, frozen: Sequence[str] = ()):
        self._validator = data.validator
        self._batches: SliceBatches | None = data.batches if averaged else None
        self._frozen = frozen
        #: The copy, of the weights that were scored last.
        self.plain = build_network(spec)
        speed_up(self.plain)
        self._explain = Explainer(self.plain)

    def score(self, model: keras.Model, step: int) -> tuple[PatientScores, list[dict[str, Any]]]:
        """Score a network in training, which is left as it is, and map where it looks.

        Args:
            model: The compiled network.
            step: Batches done; 0 of the weights that a run starts from, of which there is no average.
        """
        # With the states of the random generators: calibration draws as the network would.
        for own, theirs in zip(self.plain.variables, model.variables, strict=True):
            own.assign(np.array(keras.ops.convert_to_numpy(theirs)))
        if self._batches is not None and step:
            freeze(self.plain, self._frozen)
            _take_average(self.plain, model, self._batches, step)
            # Whoever reads best.keras may train all of it.
            freeze(self.plain, self._frozen, frozen=False)
        return self._validator.score(self.plain, model.loss), self._validator.attention(self._explain)


def _take_average(plain: keras.Model, model: keras.Model, batches: SliceBatches, step: int) -> None:
    """Give a copy of a network the average of its weights, with moving statistics that fit them.

    The statistics are those of the batches of the last steps. With those of the weights that were trained the network
    answers nothing for epochs. Izmailov et al. 2018, arXiv:1803.05407, do so after averaging.
    """
    adam_of(model).average_into(plain.trainable_variables)
    for variable in plain.trainable_variables:
        # A copy: on JAX both would be one array, which a prediction gives away.
        variable.assign(np.array(keras.ops.convert_to_numpy(variable)))
    for index in range(max(0, step - CALIBRATION_STEPS), step):
        plain(batches[index][0], training=True)
