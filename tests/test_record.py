"""run.json as a typed record: it comes back whole, and what a run cannot go on by is refused with the cure."""

import dataclasses
import json

import keras
import pytest
from runs import tiny

from brainseg_keras.data.roles import Roles
from brainseg_keras.data.sources import open_source
from brainseg_keras.errors import InputError
from brainseg_keras.losses import get_loss
from brainseg_keras.training import TrainingConfig, resume, train
from brainseg_keras.training.patients import roles_before
from brainseg_keras.training.record import RunRecord
from brainseg_keras.training.validation import PatientValidator

MORE = {"epochs": 3}


def rewrite(run, **changes):
    """Change entries of run.json; None removes one."""
    content = json.loads(run.info.read_text()) | changes
    run.info.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def test_a_record_comes_back_from_its_file(finished):
    record, content = finished.read_record(), json.loads(finished.info.read_text())
    assert RunRecord.from_info(content) == record
    assert json.loads(json.dumps(record.to_info())) == content
    assert record.spec.channels == ("T1", "FLAIR", "T1ce") and record.spec.roles.complete
    assert content["data"] == content["config"]["data"] and content["version"] == 1


def assert_scored_as_kept(run):
    record = run.read_record()
    validator = PatientValidator(open_source(record.config.data), record.spec)
    scores = validator.score(keras.saving.load_model(run.best), get_loss(record.config.loss))
    assert scores.dice == record.validation.dice


def test_the_reported_score_is_that_of_best_keras_to_the_last_bit(finished):
    """The average of the weights was scored, which the network in training never holds."""
    assert_scored_as_kept(finished)


@pytest.mark.slow
def test_what_trains_in_bfloat16_is_scored_as_it_is_kept_in_float32(store, tmp_path):
    config = tiny(store, epochs=1, precision="mixed_bfloat16", learning_rate=1e-2)
    assert_scored_as_kept(train(config, output=tmp_path / "run"))


def test_a_run_of_which_no_roles_are_known_does_not_go_on_and_says_so_as_first_weights(own_run, caplog):
    rewrite(own_run, roles=None)
    with pytest.raises(InputError, match=r"run\.json does not say which patients .*--init .*best\.keras"):
        resume(own_run.path, overrides=MORE)
    assert roles_before(str(own_run.best)) == Roles(complete=False)
    assert caplog.text.count("Nothing says which patients trained") == 1


def test_a_run_of_another_version_is_refused_with_the_cure(own_run):
    rewrite(own_run, version=99)
    for read in (lambda: resume(own_run.path, overrides=MORE), lambda: roles_before(str(own_run.best))):
        with pytest.raises(InputError, match=r"run\.json: it is of version 99.*Update brainseg_keras"):
            read()


def test_settings_that_make_another_network_are_refused(own_run):
    config = TrainingConfig.from_yaml(own_run.config)
    dataclasses.replace(config, size=48, clahe=2.0).to_yaml(own_run.config)
    with pytest.raises(InputError, match=r"config\.yaml and .*run\.json differ in arguments, preprocessing\. Restore"):
        resume(own_run.path, overrides=MORE)
