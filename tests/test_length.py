"""Where a run begins and how long it is: the weights of --init, the clock, the learning rate that follows them."""

import dataclasses
import io
import itertools
import math

import keras
import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from runs import tiny

from brainseg_keras.training import TrainingConfig, resume, train
from brainseg_keras.training.progress import Progression
from brainseg_keras.training.schedule import describe_change, learning_rate, seconds_of


def _weights(path):
    return keras.saving.load_model(path).get_weights()


def test_init_starts_from_given_weights(finished, store, tmp_path):
    run = train(tiny(store, epochs=1, learning_rate=1e-12, init=str(finished.best)), output=tmp_path / "run")
    before, after = keras.saving.load_model(finished.best), keras.saving.load_model(run.last)
    for old, new in zip(before.trainable_weights, after.trainable_weights, strict=True):
        np.testing.assert_allclose(old, new, atol=1e-6)


def test_the_weights_of_init_are_scored_as_epoch_0_and_may_win(finished, store, tmp_path):
    """Trained on with a learning rate that spoils it, a network stays the best as it came; also in a resumed run."""
    said = io.StringIO()
    config = tiny(store, epochs=1, learning_rate=1.0, ema=0.0, init=str(finished.best))
    run = train(config, output=tmp_path / "run", console=Console(file=said, width=200))
    start, first = pd.read_csv(run.history).to_dict("records")
    came_with = finished.read_info()["validation"]
    assert (start["epoch"], start["step"], first["epoch"]) == (0, 0, 1)
    assert start["val_dice"] == pytest.approx(came_with["mean_dice"], abs=1e-6) and math.isnan(start["loss"])
    assert first["val_dice"] < start["val_dice"]
    chosen = run.read_info()["validation"]
    assert (chosen["epoch"], chosen["step"]) == (0, 0) and chosen["dice"] == pytest.approx(came_with["dice"], abs=1e-6)
    for ours, theirs in zip(_weights(run.best), _weights(finished.best), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert "epoch   0  before the first step" in said.getvalue()
    assert "Best epoch 0, the weights of --init: Dice per patient" in said.getvalue()
    resume(run.path, overrides={"epochs": 5, "patience": 2}, console=Console(file=said, width=200))
    assert pd.read_csv(run.history).epoch.tolist() == [0, 1, 2]
    assert run.read_info()["progress"]["stopped"] == "patience"
    assert run.read_info()["validation"] == chosen
    assert "The learning rate follows the cosine over 5 epochs now:" in said.getvalue()


def test_max_minutes_ends_the_run_with_a_score(store, tmp_path):
    config = tiny(store, epochs=10_000, max_minutes=0.15, deterministic=False)
    run = train(config, output=tmp_path / "run")
    progress = run.read_info()["progress"]
    history = pd.read_csv(run.history)
    assert progress["stopped"] == "time"
    # The step in which the time was over is the last, and is scored: all counts of the steps agree.
    assert history.step.iloc[-1] == progress["step"] == int(keras.saving.load_model(run.last).optimizer.iterations)
    assert progress["step"] < 10_000 * 6
    assert (history.seconds.iloc[:-1] < 0.15 * 60).all()
    chosen = run.read_info()["validation"]
    assert chosen["step"] == history.step[history.val_dice.idxmax()]


@pytest.mark.parametrize(("seconds", "over"), [(594.9, False), (595.1, True)])
def test_time_is_over_when_what_is_left_is_needed_to_validate(seconds, over):
    """Of ten minutes, with 5 seconds for the last validation."""
    progression = Progression(10, 1000, limit=seconds_of(10), seconds=seconds, reserve=5)
    assert progression.out_of_time == over
    assert progression.share() == pytest.approx(seconds / 595 if not over else 1.0, abs=1e-3)
    assert not dataclasses.replace(progression, limit=None).out_of_time


def test_a_longer_run_says_how_its_learning_rate_jumps(store):
    """Two of three epochs are a share of 2/3: 1e-3 * (0.01 + 0.99 * (1 + cos(pi * (2/3 - 0.03) / 0.97)) / 2)."""
    two, three = tiny(store), tiny(store, epochs=3)
    done = Progression(steps_per_epoch=6, total_steps=18, step=12)
    said = describe_change(two, three, done)
    assert said == "The learning rate follows the cosine over 3 epochs now: 2.7e-04, was 1.0e-05."
    assert describe_change(two, dataclasses.replace(two, patience=3), done) is None
    limited = dataclasses.replace(three, max_minutes=30)
    assert "over 3 epochs or 30 minutes now: 2.7e-04" in describe_change(two, limited, done)


def test_the_learning_rate_comes_down_to_meet_the_clock(store):
    config = tiny(store, learning_rate=1e-3)
    early, late = (Progression(10, 10_000, limit=600, step=10, seconds=seconds) for seconds in (60, 594))
    # A deterministic run goes by its steps alone.
    assert config.deterministic and learning_rate(config, early) == learning_rate(config, late)
    config = dataclasses.replace(config, deterministic=False)
    assert learning_rate(config, early) > 0.9e-3
    assert learning_rate(config, late) < 0.02e-3


def test_learning_rate_rises_then_falls_to_a_hundredth():
    config = TrainingConfig(learning_rate=1.0, warmup=0.1)
    rates = [learning_rate(config, Progression(10, total_steps=100, step=step)) for step in range(101)]
    assert 0 < rates[0] < rates[5] < rates[9] < 1
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.505)
    assert rates[100] == pytest.approx(0.01)
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))


@pytest.mark.slow
def test_patience_stops_after_epochs_without_a_better_score(store, tmp_path):
    run = train(tiny(store, epochs=40, patience=2, learning_rate=1e-9, ema=0.0), output=tmp_path / "run")
    history = pd.read_csv(run.history)
    assert len(history) == history.val_dice.idxmax() + 1 + 2 < 40
