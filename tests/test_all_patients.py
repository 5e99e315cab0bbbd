"""Training on all patients: nobody is kept apart, nobody chooses, the last epoch is kept, and all of it is said."""

import io
import json
import shutil

import keras
import numpy as np
import pytest
from commands import here
from rich.console import Console
from runs import tiny

from brainseg_keras.data.sources import open_source
from brainseg_keras.errors import InputError
from brainseg_keras.training import RunFolder, TrainingConfig, resume, train

SILENT = Console(file=io.StringIO())


def weights_of(run):
    return keras.saving.load_model(run.best, compile=False).get_weights()


@pytest.fixture(scope="module")
def on_all(store, tmp_path_factory):
    """A run on all patients; read it, do not write to it."""
    config = tiny(store, filters=2, depth=1, size=16, validation="none", ema=0.0, dropout=0.0)
    said = Console(file=io.StringIO(), width=300)
    run = train(config, output=tmp_path_factory.mktemp("all") / "run", console=said)
    return run, said.file.getvalue()


def test_a_run_on_all_patients_keeps_its_last_epoch_and_says_that_nobody_chose_it(on_all, store):
    run, said = on_all
    record = run.read_record()
    assert {known.role for known in record.spec.roles.patients} == {"train"}
    assert {known.name for known in record.spec.roles.patients} == set(open_source(store).table.patient)
    assert all(known.slices for known in record.spec.roles.patients), "all of them were read"
    assert (record.patients, record.validation.epoch, record.validation.dice) == ({"val": 0, "train": 5}, 2, {})
    kept = json.loads(run.info.read_text())["validation"]
    assert kept["role"].startswith("nobody") and kept["mean_dice"] is None
    assert "all 5 train" in said and "Epoch 2 is kept, the last one: all 5 patients trained" in said
    last = keras.saving.load_model(run.last)
    for ours, theirs in zip(weights_of(run), last.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    columns, *rows = run.history.read_text().splitlines()
    assert len(rows) == 2 and "val_" not in columns and run.curves.is_file()


def test_a_run_on_all_patients_goes_on_and_is_scored_by_nobody_it_met(on_all, store, tmp_path):
    run = RunFolder(shutil.copytree(on_all[0].path, tmp_path / "run"))
    resume(run.path, overrides={"epochs": 3}, console=SILENT)
    assert run.read_record().validation.epoch == 3 and len(run.history.read_text().splitlines()) == 4
    for split in ("val", "test"):
        code, _, err = here("evaluate", "--model", str(run.path), "--data", str(store), "--split", split)
        assert code == 2 and "brainseg out-of-fold FOLDS" in err
    code, out, err = here("evaluate", "--model", str(run.path), "--data", str(store), "--split", "all")
    assert code == 0 and "(training, the network has seen these patients)" in out, err


def test_an_average_is_what_a_run_on_all_patients_keeps(store, tmp_path):
    config = tiny(store, filters=2, depth=1, size=16, epochs=1, validation="none", ema=0.9)
    run = train(config, output=tmp_path / "run", console=SILENT)
    last, kept = keras.saving.load_model(run.last), keras.saving.load_model(run.best, compile=False)
    wanted = [keras.Variable(variable) for variable in last.trainable_variables]
    last.optimizer.average_into(wanted)
    for own, mean, trained in zip(kept.trainable_variables, wanted, last.trainable_variables, strict=True):
        np.testing.assert_allclose(own.numpy(), mean.numpy(), atol=1e-6)
        assert np.abs(own.numpy() - trained.numpy()).max() > 0


def test_weights_that_a_run_on_all_patients_starts_from_are_no_epoch(finished, store, tmp_path):
    config = tiny(store, epochs=1, validation="none", init=str(finished.path))
    run = train(config, output=tmp_path / "run", console=SILENT)
    assert run.read_record().validation.epoch == 1 and len(run.history.read_text().splitlines()) == 2


@pytest.mark.parametrize("given", [{"folds": 3}, {"folds": 3, "fold": 1}, {"patience": 2}])
def test_what_needs_validation_patients_is_refused_where_there_are_none(given):
    with pytest.raises(InputError, match=rf"--validation none all patients train.*Leave --{next(iter(given))} out"):
        TrainingConfig(validation="none", **given)
