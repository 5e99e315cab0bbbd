"""A run from configuration to folder: what it keeps, how it stops, how it goes on."""

import dataclasses
import json
import math
import shutil
import signal
import subprocess
import sys
import time

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
import yaml
from commands import brainseg
from runs import tiny, train_and_interrupt

from brainseg_keras.data.store import StoredVolumes
from brainseg_keras.errors import InputError, TrainingError
from brainseg_keras.training import RunFolder, TrainingConfig, resume, train

CLI = [sys.executable, "-c", "from brainseg_keras.cli import main; main()"]


def test_run_folder_holds_what_a_model_forgets(finished, store):
    info = finished.read_info()
    assert info["architecture"] == "res_unet"
    assert info["arguments"]["input_shape"] == [32, 32, 3]
    assert info["seed"] == 0
    assert info["channels"] == ["T1", "FLAIR", "T1ce"]
    assert info["versions"]["keras"] == keras.__version__
    assert len(info["manifest_sha256"]) == 64
    assert info["validation"]["role"] == "chose the checkpoint"
    assert TrainingConfig.from_yaml(finished.config) == tiny(store)
    assert finished.curves.read_bytes()[:4] == b"\x89PNG"
    assert not list(finished.path.glob("*.part*"))


def test_history_has_a_row_an_epoch_and_its_best_row_chose_the_checkpoint(finished):
    history = pd.read_csv(finished.history)
    assert history.epoch.tolist() == [1, 2]
    assert {"loss", "dice", "val_loss", "val_dice", "val_dice_min", "learning_rate"} <= set(history)
    # Of the same pixels, pooled, the one follows from the other.
    np.testing.assert_allclose(history.iou, history.dice / (2 - history.dice), rtol=1e-5)
    assert history.pixel_accuracy.between(0, 1).all()
    best = history.loc[history.val_dice.idxmax()]
    chosen = finished.read_info()["validation"]
    assert chosen["epoch"] == best.epoch
    assert chosen["mean_dice"] == pytest.approx(best.val_dice)
    assert chosen["mean_dice"] == pytest.approx(np.mean(list(chosen["dice"].values())))


def test_the_reported_score_is_that_of_best_keras_recomputed_by_hand(finished, store):
    """Read the volumes, normalize, predict, resize back, threshold, count: with other code than the validator's."""
    import cv2

    model = keras.saving.load_model(finished.best)
    reported = finished.read_info()["validation"]["dice"]
    volumes = StoredVolumes(store)
    assert sorted(reported) == sorted(volumes.table.patient[volumes.table.split == "val"].unique())
    others = {"val_iou": [], "val_pixel_accuracy": []}
    for patient, dice in reported.items():
        volume = volumes.volume(patient)
        low, high = volume.intensity.T
        small = np.stack([cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA) for image in volume.images])
        inputs = np.clip((small.astype("float32") - low) / (high - low), 0, 4)
        outputs = np.asarray(model(inputs))[..., 0]
        large = np.stack([cv2.resize(output, (64, 64), interpolation=cv2.INTER_LINEAR) for output in outputs])
        answer, truth = large > 0.5, volume.masks > 0
        expected = 2 * (answer & truth).sum() / max(1, answer.sum() + truth.sum())
        assert dice == pytest.approx(expected, abs=2e-3)
        others["val_iou"].append((answer & truth).sum() / max(1, (answer | truth).sum()))
        others["val_pixel_accuracy"].append((answer == truth).mean())
    history = pd.read_csv(finished.history)
    best = history.loc[history.epoch == finished.read_info()["validation"]["epoch"]].iloc[0]
    for name, values in others.items():
        assert best[name] == pytest.approx(np.mean(values), abs=2e-3)


@pytest.mark.slow
def test_best_holds_the_average_and_last_the_weights(store, tmp_path):
    run = train(tiny(store, epochs=1), output=tmp_path / "averaged")
    best, last = keras.saving.load_model(run.best), keras.saving.load_model(run.last)
    # The average must not disturb the weights that are trained.
    plain = keras.saving.load_model(train(tiny(store, epochs=1, ema=0.0), output=tmp_path / "plain").last)
    for weight, expected in zip(last.trainable_variables, plain.trainable_variables, strict=True):
        np.testing.assert_array_equal(weight, expected)
    averages = last.optimizer._model_variables_moving_average
    for kept, average, weight in zip(best.trainable_variables, averages, last.trainable_variables, strict=True):
        np.testing.assert_array_equal(kept, average)
        assert np.abs(np.asarray(weight)).max() == 0 or not np.array_equal(kept, weight)


def test_best_model_loads_where_the_package_is_absent(finished):
    code = (
        "import sys; sys.modules['brainseg_keras'] = None\n"
        "import keras\n"
        f"model = keras.saving.load_model({str(finished.best)!r})\n"
        "assert not model.compiled, 'compile state in best.keras'\n"
        "print(model.count_params())"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert int(answer.stdout.split()[-1]) == finished.read_info()["parameters"]


def test_tensorboard_reads_the_columns_of_the_history(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished.logs), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    history = pd.read_csv(finished.history)
    tags = ("loss/loss", "loss/val_loss", "dice/val_dice", "iou/iou", "iou/val_iou", "run/learning_rate")
    for tag in (*tags, "pixel_accuracy/pixel_accuracy", "pixel_accuracy/val_pixel_accuracy", "run/gradient_norm"):
        logged = [event.value for event in events.Scalars(tag)]
        assert logged == pytest.approx(history[tag.partition("/")[2]].tolist(), rel=1e-5)


@pytest.mark.slow
def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(store, tmp_path):
    """Stopped in the middle of the second epoch, continued, against never stopped."""
    whole = train(tiny(store, epochs=3), output=tmp_path / "whole")
    stopped = train_and_interrupt(tiny(store, epochs=3), tmp_path / "stopped", after=8)
    progress = json.loads((stopped / "run.json").read_text())["progress"]
    assert progress["stopped"] == "interrupted"
    assert progress["step"] == 8
    run = resume(stopped)
    for ours, theirs in zip(_weights(run.last), _weights(whole.last), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    ours, theirs = pd.read_csv(run.history), pd.read_csv(whole.history)
    assert ours.epoch.tolist() == theirs.epoch.tolist() == [1, 2, 3]
    assert ours.val_dice.tolist() == theirs.val_dice.tolist()


def _weights(path):
    return keras.saving.load_model(path).get_weights()


@pytest.mark.slow
def test_same_seed_same_weights_another_seed_others(store, tmp_path):
    first, again = (train(tiny(store, epochs=1), output=tmp_path / name) for name in ("first", "again"))
    other = train(tiny(store, epochs=1, seed=1), output=tmp_path / "other")
    for ours, theirs in zip(_weights(first.last), _weights(again.last), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert any((a != b).any() for a, b in zip(_weights(first.last), _weights(other.last), strict=True))


@pytest.mark.slow
def test_a_kill_between_run_json_and_last_does_the_epoch_again(finished, store, tmp_path):
    """Last.keras is of epoch 1, all else of epoch 2: the run ends as one that was never killed."""
    steps = finished.read_info()["progress"]["step"] // 2
    run = RunFolder(train_and_interrupt(tiny(store), tmp_path / "run", after=steps))
    for name in ("run.json", "history.csv", "best.keras"):
        shutil.copy(finished.path / name, run.path / name)
    resume(run.path)
    for ours, theirs in zip(_weights(run.last), _weights(finished.last), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert run.read_info()["validation"] == finished.read_info()["validation"]
    assert run.read_info()["progress"]["step"] == finished.read_info()["progress"]["step"]


def test_resume_refuses_other_settings_and_other_data(own_run, store, tmp_path):
    with pytest.raises(InputError, match="keeps its size"):
        resume(own_run.path, overrides={"size": 64})
    with pytest.raises(InputError, match="holds no run"):
        resume(own_run.path / "nowhere")
    data = shutil.copy(store, tmp_path / "data.h5")
    dataclasses.replace(tiny(store), data=str(data)).to_yaml(own_run.config)
    with pytest.raises(InputError, match="is finished"):
        resume(own_run.path)
    with h5py.File(data, "r+") as file:
        first, second = (group["images"][3] for group in list(file["volumes"].values())[:2])
        names = list(file["volumes"])[:2]
        file[f"volumes/{names[0]}/images"][3] = second
        file[f"volumes/{names[1]}/images"][3] = first
    table = StoredVolumes(store).table
    read = [name for name in names if not (table.split[table.patient == name] == "test").any()]
    assert read
    with pytest.raises(InputError, match=f"pixels or masks of {len(read)} patients have changed .*{', '.join(read)}"):
        resume(own_run.path)
    # Another split of the same slices.
    table["split"] = table.split.map({"train": "train", "val": "test", "test": "val"})
    with h5py.File(data, "r+") as file:
        del file["manifest"]
        file["manifest"] = table.to_csv(index=False)
    with pytest.raises(InputError, match="other slices or another split"):
        resume(own_run.path)


def test_infinite_learning_rate_stops_with_cause_and_cure(store, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    config = tiny(store, epochs=30, loss="bce_dice")
    # Far beyond what is taken: the loss is lost at once.
    object.__setattr__(config, "learning_rate", 1e20)
    with pytest.raises(TrainingError, match=r"--learning-rate 1e\+19"):
        train(config, output=tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is before


def test_an_existing_run_is_not_overwritten(finished, store):
    before = finished.info.read_bytes()
    with pytest.raises(InputError, match="--resume"):
        train(tiny(store), output=finished.path)
    assert finished.info.read_bytes() == before


def test_size_that_does_not_halve_evenly_is_refused_before_anything_is_written(store, tmp_path):
    with pytest.raises(InputError, match="multiple of 16"):
        train(tiny(store, size=40, depth=4), output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_flags_yaml_and_fields_say_the_same(tmp_path):
    help_text = brainseg("train", "--help", cwd=tmp_path).stdout
    for field in dataclasses.fields(TrainingConfig):
        assert f"--{field.name.replace('_', '-')}" in help_text
        assert field.metadata["help"]
    config = TrainingConfig(epochs=7, separable=True, patience=3, learning_rate=3e-5)
    config.to_yaml(tmp_path / "config.yaml")
    assert TrainingConfig.from_yaml(tmp_path / "config.yaml") == config
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == dataclasses.asdict(config)


def test_flags_win_over_yaml(store, tmp_path):
    tiny(store, epochs=1).to_yaml(tmp_path / "config.yaml")
    flags = [
        "train",
        "--config",
        str(tmp_path / "config.yaml"),
        "--batch-size",
        "6",
        "--json",
        "-o",
        str(tmp_path / "run"),
    ]
    answer = brainseg(*flags, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["config"]["batch_size"] == 6
    assert "Dice per patient" in answer.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size is a whole number from 1"),
        ({"learning_rate": -1.0}, "learning_rate is a number from 1e-12"),
        ({"learning_rate": math.nan}, "learning_rate is a number from 1e-12"),
        ({"tumour_share": 1.5}, "tumour_share is a number from 0.0 to 1.0"),
        ({"precision": "float64"}, "precision is one of"),
        ({"epochs": "ten"}, "epochs is a whole number"),
        ({"epochs": True}, "epochs is a whole number"),
        ({"separable": 1}, "separable is bool"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        TrainingConfig(**changes)


def test_integers_pass_for_numbers_but_stay_apart_otherwise():
    assert TrainingConfig(max_minutes=2).max_minutes == 2.0


@pytest.mark.slow
def test_ctrl_c_from_outside_keeps_everything(store, tmp_path):
    tiny(store, epochs=10_000).to_yaml(tmp_path / "config.yaml")
    flags = ["train", "--config", str(tmp_path / "config.yaml"), "-o", str(tmp_path / "run")]
    process = subprocess.Popen([*CLI, *flags], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 180
    while not (tmp_path / "run" / "last.keras").exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "--resume" in words
    assert "Traceback" not in words
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["progress"]["stopped"] == "interrupted"
    more = ["train", "--resume", str(tmp_path / "run"), "--max-minutes", str(info["progress"]["seconds"] / 60 + 0.1)]
    again = subprocess.run([*CLI, *more], capture_output=True, text=True, check=False, timeout=180)
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["progress"]["step"] > info["progress"]["step"]


@pytest.mark.slow
def test_a_small_network_learns_the_phantom(tmp_path):
    """What the README's first command shows, smaller: most of a tumour is found in patients never trained on."""
    config = TrainingConfig(architecture="attention_unet", filters=8, depth=3, size=64, epochs=12, learning_rate=3e-3)
    run = train(config, output=tmp_path / "run")
    assert run.read_info()["validation"]["mean_dice"] >= 0.75
