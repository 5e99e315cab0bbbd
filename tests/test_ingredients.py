"""Settings that are off by default arrive where they act, and a run that uses all is scored as it is used."""

import dataclasses

import numpy as np
import pytest
from rich.console import Console
from runs import tiny

from brainseg_keras.data.inputs.augmentation import Augmentation
from brainseg_keras.data.inputs.batches import SliceBatches
from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.inputs.slices import load_slices
from brainseg_keras.data.sources import open_source
from brainseg_keras.inference import Predictor
from brainseg_keras.training import TrainingConfig, train
from brainseg_keras.training.setup import describe_network, load_data, make_augmentation

ON = {"darken": 0.5, "paste": 0.4, "bias_field": 0.3, "low_resolution": 0.2, "elastic": 0.03}


def test_all_of_it_is_off_unless_asked_for():
    config = TrainingConfig()
    assert [getattr(config, name) for name in ON] == [getattr(Augmentation(), name) for name in ON] == [0] * len(ON)
    assert not (config.inner_tissue or config.balance_patients or Preprocessing().inner_tissue)


def test_each_setting_of_the_augmentation_arrives():
    made = make_augmentation(TrainingConfig(**ON), ("T1", "FLAIR"))
    assert made == dataclasses.replace(Augmentation(), **ON)


def test_the_training_reads_its_batches_as_it_was_told(phantom):
    config = TrainingConfig(
        data=str(phantom), size=32, depth=2, batch_size=8, inner_tissue=True, balance_patients=True, **ON
    )
    source = open_source(phantom)
    batches, _ = load_data(config, describe_network(config, source), source, Console(quiet=True))
    slices = load_slices(source, "train", Preprocessing(32, inner_tissue=True))
    told = {"augmentation": Augmentation(**ON), "batch_size": 8}
    expected = SliceBatches(slices, balance_patients=True, **told)
    other = SliceBatches(slices, **told)
    for step in range(3):
        for ours, theirs in zip(batches[step], expected[step], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert any((other.indices(step) != expected.indices(step)).any() for step in range(3))


@pytest.mark.slow
def test_a_run_with_all_of_it_is_scored_as_its_network_is_used(store, tmp_path):
    config = tiny(store, inner_tissue=True, balance_patients=True, dropout=0.0, ema=0.0, learning_rate=0.01, **ON)
    run = train(config, output=tmp_path / "run")
    predictor, source = Predictor(run.path), open_source(store)
    reported = run.read_info()["validation"]["dice"]
    assert reported
    for patient, dice in reported.items():
        volume = source.volume(patient)
        answer = predictor.probabilities(volume.images)[..., 0] > 0.5
        truth = volume.masks > 0
        both = answer.sum() + truth.sum()
        assert dice == pytest.approx(2 * (answer & truth).sum() / both if both else 1.0)
