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
def test_stopped_in_every_step_one_after_the_other(store, undisturbed, tmp_path):
    run = RunFolder(tmp_path / "run")
    for step in range(1, 7):
        number = signal.SIGTERM if step % 2 else signal.SIGINT
        start = (lambda: train(three_steps(store), output=run.path)) if step == 1 else (lambda: resume(run.path))
        assert stopped_at(lambda patch, step=step, number=number: stop_in_step(patch, step, number), start) == step
    assert_as(run, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 3])
def test_stopped_between_two_steps_and_between_the_last_step_and_its_score(store, undisturbed, tmp_path, step):
    run = RunFolder(tmp_path / "run")
    begin = lambda: train(three_steps(store), output=run.path)  # noqa: E731
    assert stopped_at(lambda patch: stop_after_step(patch, step), begin) == step
    assert_as(resume(run.path), undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(("step", "extra"), [(1, 1), (3, 0), (5, 1)])
def test_a_time_limit_within_an_epoch_is_a_row_more(store, undisturbed, tmp_path, step, extra):
    """An hour passes in one step; what was scored then stays, and everything else is as without a limit."""
    run, count = RunFolder(tmp_path / "run"), StopGuard.on_train_batch_end

    def counted(self, batch, logs=None):
        self._progression.seconds += 3600 * (self._progression.step == step - 1)
        count(self, batch, logs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopGuard, "on_train_batch_end", counted)
        train(three_steps(store, max_minutes=30), output=run.path)
    progress = run.read_info()["progress"]
    assert (progress["stopped"], progress["step"]) == ("time", step)
    at_limit = pd.read_csv(run.history).iloc[-1]
    assert (at_limit.step, at_limit.epoch) == (step, 1 if step <= 3 else 2)
    resume(run.path, overrides={"max_minutes": 300})
    ours, theirs = (pd.read_csv(own.history).drop(columns=TIMED) for own in (run, undisturbed))
    assert len(ours) == 2 + extra and at_limit.val_dice in ours.val_dice.tolist()
    whole = ours[ours.step % 3 == 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(whole, theirs, check_exact=True)
    assert run.read_info()["validation"]["step"] == ours.step[ours.val_dice.idxmax()]
    ours, theirs = (keras.saving.load_model(own.last).get_weights() for own in (run, undisturbed))
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.slow
def test_a_kill_between_run_json_and_last_goes_on_from_the_step_that_last_keras_is_of(store, undisturbed, tmp_path):
    """Stopped in the second step, continued, and killed when run.json told of the whole epoch already."""
    run = RunFolder(tmp_path / "run")
    stopped_at(lambda patch: stop_in_step(patch, 2), lambda: train(three_steps(store), output=run.path))
    second_step = run.last.read_bytes()
    stopped_at(lambda patch: stop_in_step(patch, 3), lambda: resume(run.path))
    run.last.write_bytes(second_step)
    assert_as(resume(run.path), undisturbed)
