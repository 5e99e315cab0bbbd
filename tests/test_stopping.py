"""Wherever a run is stopped, `--resume` ends as if it had never been: rows, best epoch and weights, bit for bit."""

import os
import signal

import keras
import numpy as np
import pandas as pd
import pytest
from runs import tiny

from brainseg_keras.training import RunFolder, resume, train
from brainseg_keras.training.stopping import StopGuard
from brainseg_keras.training.validation import PatientValidator

#: Columns of history.csv that time decides.
TIMED = ["seconds", "images_per_second"]


def three_steps(store, **changes):
    """Settings of epochs of three steps, of the smallest network that has dropout and an average."""
    return tiny(store, **{"filters": 2, "depth": 1, "size": 16, "batch_size": 8, "epochs": 2} | changes)


@pytest.fixture(scope="module")
def undisturbed(store, tmp_path_factory):
    run = train(three_steps(store), output=tmp_path_factory.mktemp("undisturbed") / "run")
    assert run.read_info()["progress"]["step"] == 6
    return run


def press(number=signal.SIGINT):
    os.kill(os.getpid(), number)


def stop_in_step(patch, step, number=signal.SIGINT):
    """Send the signal while that step, counted from 1, is computed."""
    count = StopGuard.on_train_batch_end

    def counted(self, batch, logs=None):
        if self._progression.step == step - 1:
            press(number)
        count(self, batch, logs)

    patch.setattr(StopGuard, "on_train_batch_end", counted)


def stop_after_step(patch, step):
    """Send it when that step is counted already: before the epoch's end is dealt with."""
    count = StopGuard.on_train_batch_end

    def counted(self, batch, logs=None):
        count(self, batch, logs)
        if self._progression.step == step:
            press()

    patch.setattr(StopGuard, "on_train_batch_end", counted)


def stop_in_validation(patch, epoch):
    """Send it while that epoch is scored."""
    score, calls = PatientValidator.score, []

    def scored(self, model, loss):
        calls.append(1)
        if len(calls) == epoch:
            press()
        return score(self, model, loss)

    patch.setattr(PatientValidator, "score", scored)


def stopped_at(stop, go_on):
    """Train or resume with a stop; gives the step at which the run stands."""
    with pytest.MonkeyPatch.context() as patch:
        stop(patch)
        progress = go_on().read_info()["progress"]
    assert progress["stopped"] == "interrupted"
    return progress["step"]


def assert_as(run, expected):
    ours, theirs = (pd.read_csv(own.history).drop(columns=TIMED) for own in (run, expected))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    assert run.read_info()["validation"] == expected.read_info()["validation"]
    for name in ("best", "last"):
        ours, theirs = (keras.saving.load_model(getattr(own, name)).get_weights() for own in (run, expected))
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, other)


def test_stopped_within_an_epoch_in_its_last_step_and_while_it_is_scored(store, undisturbed, tmp_path):
    run = RunFolder(tmp_path / "run")
    begin, go_on = lambda: train(three_steps(store), output=run.path), lambda: resume(run.path)
    assert stopped_at(lambda patch: stop_in_step(patch, 2), begin) == 2
    assert not run.history.exists()
    assert stopped_at(lambda patch: stop_in_step(patch, 3), go_on) == 3
    assert pd.read_csv(run.history).epoch.tolist() == [1]
    assert stopped_at(lambda patch: stop_in_validation(patch, 1), go_on) == 6
    assert_as(run, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_stopped_in_every_step_one_after_the_other(store, undisturbed, tmp_path, number):
    run = RunFolder(tmp_path / "run")
    for step in range(1, 7):
        start = (lambda: train(three_steps(store), output=run.path)) if step == 1 else (lambda: resume(run.path))
        assert stopped_at(lambda patch, step=step: stop_in_step(patch, step, number), start) == step
    assert_as(run, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, 6))
def test_stopped_once_at_each_step(store, undisturbed, tmp_path, step):
    run = RunFolder(tmp_path / "run")
    begin = lambda: train(three_steps(store), output=run.path)  # noqa: E731
    assert stopped_at(lambda patch: stop_after_step(patch, step), begin) == step
    assert_as(resume(run.path), undisturbed)
