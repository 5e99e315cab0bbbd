"""A run goes on from whatever is left of it, or says which file is damaged; two processes never share a run."""

import json

import keras
import numpy as np
import pandas as pd
import pytest
from runs import tiny

from brainseg_keras import res_unet
from brainseg_keras.errors import InputError
from brainseg_keras.files import hold_folder
from brainseg_keras.training import TrainingConfig, resume, train
from brainseg_keras.training.continuation import read_last

MORE = {"epochs": 3}


def test_a_damaged_last_goes_on_from_best_and_says_so(own_run, caplog):
    whole = own_run.last.read_bytes()
    own_run.last.write_bytes(whole[: len(whole) // 2])
    best = own_run.read_info()["validation"]["epoch"]
    resume(own_run.path, overrides=MORE)
    assert f"{own_run.last} cannot be read" in caplog.text
    assert f"Going on from {own_run.best}, epoch {best}, with a fresh optimizer" in caplog.text
    assert [line.split(",")[0] for line in own_run.history.read_text().splitlines()] == ["epoch", "1", "2", "3"]
    model = keras.saving.load_model(own_run.last)
    steps = own_run.read_info()["progress"]["step"] // 3
    # Only the steps after the best epoch were the new optimizer's.
    assert int(model.optimizer.iterations) == (3 - best) * steps


@pytest.mark.parametrize("content", [None, b"", b"no zip", b"PK\x03\x04" + bytes(100)])
def test_whatever_is_wrong_with_last(own_run, content, caplog):
    own_run.last.unlink()
    if content is not None:
        own_run.last.write_bytes(content)
    assert read_last(own_run, own_run.read_record()) is None
    assert f"{own_run.last} cannot be read" in caplog.text


@pytest.mark.slow
def test_what_is_gone_on_from_is_best(own_run):
    """With a learning rate of nearly nothing the weights stay those of best.keras."""
    own_run.last.write_bytes(b"")
    best = keras.saving.load_model(own_run.best)
    settings = TrainingConfig.from_yaml(own_run.config)
    resume(own_run.path, overrides={"epochs": settings.epochs + 1, "learning_rate": 1e-12})
    for ours, theirs in zip(
        keras.saving.load_model(own_run.last).trainable_weights, best.trainable_weights, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_both_models_damaged_is_said(own_run):
    own_run.last.write_bytes(b"")
    own_run.best.write_bytes(b"")
    with pytest.raises(InputError, match=r"best\.keras"):
        resume(own_run.path, overrides=MORE)


def test_another_network_in_last_is_refused(own_run):
    other = res_unet((32, 32, 3), filters=8, depth=2)
    other.save(own_run.last)
    with pytest.raises(InputError, match=r"last\.keras is not the network of .*run\.json"):
        resume(own_run.path, overrides=MORE)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: None,
        lambda text: "",
        lambda text: text.replace("val_dice,", "something,"),
        lambda text: "\n".join(text.splitlines()[:2]),
        lambda text: text.replace("\n1,", "\nfirst,"),
        lambda text: text[: len(text) - 40],
    ],
    ids=["gone", "empty", "no column", "no row", "words", "cut"],
)
def test_a_damaged_history_is_refused_since_the_best_epoch_would_be_forgotten(own_run, damage):
    content = damage(own_run.history.read_text())
    if content is None:
        own_run.history.unlink()
    else:
        own_run.history.write_text(content)
    before = own_run.best.read_bytes()
    with pytest.raises(InputError, match=r"history\.csv .*Restore it, or start a new run: --init .*best\.keras"):
        resume(own_run.path, overrides=MORE)
    assert own_run.best.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architecture": 3}, r"run\.json: architecture is a JSON str"),
        ({"architecture": "vnet"}, r"run\.json: architecture must be one of"),
        ({"arguments": {"filters": "many"}}, r"run\.json"),
        ({"progress": {"step": 0}}, r"run\.json is damaged"),
        ({"progress": {"step": "x", "iterations": 1, "random_states": [], "seconds": 1}}, r"run\.json is damaged"),
        ({"progress": None}, r"run\.json: progress is a JSON dict"),
        ({"manifest_sha256": None}, r"run\.json: manifest_sha256"),
    ],
)
def test_a_damaged_run_json_is_named(own_run, change, words):
    own_run.info.write_text(json.dumps(own_run.read_info() | change))
    with pytest.raises(InputError, match=words):
        resume(own_run.path, overrides=MORE)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\x00" * 50])
def test_a_run_json_that_is_none_is_named(own_run, text):
    own_run.info.write_text(text)
    with pytest.raises(InputError, match=r"run\.json .*Restore it"):
        resume(own_run.path, overrides=MORE)


@pytest.mark.slow
def test_a_kill_within_the_first_epoch_begins_again_with_the_same_bits(own_run, finished):
    """As it is left before last.keras is written for the first time; also where best.keras and history.csv are."""
    own_run.last.unlink()
    info = own_run.read_info()
    del info["progress"]
    own_run.info.write_text(json.dumps(info))
    resume(own_run.path)
    ours, theirs = (keras.saving.load_model(run.last).get_weights() for run in (own_run, finished))
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)
    columns = ["epoch", "loss", "val_dice"]
    pd.testing.assert_frame_equal(pd.read_csv(own_run.history)[columns], pd.read_csv(finished.history)[columns])


def test_curves_that_a_kill_left_out_are_drawn(own_run):
    own_run.curves.unlink()
    with pytest.raises(InputError, match="finished"):
        resume(own_run.path)
    assert own_run.curves.read_bytes()[:4] == b"\x89PNG"


def test_random_states_of_another_network_are_refused(own_run):
    info = own_run.read_info()
    info["progress"]["random_states"] = info["progress"]["random_states"][1:]
    own_run.info.write_text(json.dumps(info))
    with pytest.raises(InputError, match=r"run\.json is damaged"):
        resume(own_run.path, overrides=MORE)


def test_config_yaml_is_whole_or_the_old_one_when_the_disk_is_full(own_run, monkeypatch):
    import resource

    before = own_run.config.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard))
    try:
        with pytest.raises(OSError, match=r"File too large.*config\.yaml"):
            TrainingConfig(epochs=77).to_yaml(own_run.config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert own_run.config.read_bytes() == before
    assert not list(own_run.path.glob(".brainseg-*"))


def test_two_trainings_do_not_share_a_folder(store, own_run, tmp_path):
    with hold_folder(tmp_path / "new"), pytest.raises(InputError, match=r"new is in use by process \d+ on"):
        train(tiny(store, epochs=1), output=tmp_path / "new")
    assert not (tmp_path / "new" / "config.yaml").exists()
    with hold_folder(own_run.path), pytest.raises(InputError, match=r"run is in use by process \d+ on"):
        resume(own_run.path, overrides=MORE)


@pytest.mark.parametrize("name", ["config.yaml", "history.csv", "best.keras", "curves.png"])
def test_somebody_elses_files_are_not_replaced(store, name, tmp_path):
    (tmp_path / name).write_text("epochs: 3")
    with pytest.raises(InputError, match=rf"{name} is there, and .*Give another -o, or move it away"):
        train(tiny(store, epochs=1), output=tmp_path)
    assert (tmp_path / name).read_text() == "epochs: 3"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_a_kill_left_is_removed(own_run):
    left = own_run.path / ".brainseg-1-abcdef01.keras"
    left.write_bytes(b"half a model")
    with pytest.raises(InputError, match="finished"):
        resume(own_run.path)
    assert not left.exists()


def test_a_wrong_path_makes_no_folder(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        resume(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
