"""The weights that ship: whole, licensed, found by name, and of use without a network."""

import hashlib
import json
import logging
import subprocess
import sys
import warnings
from importlib import resources

import numpy as np
import pytest
from PIL import Image
from scans import slice_of

import brainseg_keras
from brainseg_keras import load_pretrained
from brainseg_keras.errors import InputError
from brainseg_keras.models import shipped
from brainseg_keras.registry import ARCHITECTURES

INFO = shipped.pretrained_info("lgg")
FILE = resources.files("brainseg_keras") / "weights" / "lgg.weights.h5"


def arguments(**changes):
    kept = {key: tuple(value) if isinstance(value, list) else value for key, value in INFO["arguments"].items()}
    return kept | changes


def test_file_is_small_and_the_one_that_was_trained():
    content = FILE.read_bytes()
    assert len(content) <= 12 * 2**20
    assert hashlib.sha256(content).hexdigest() == INFO["sha256"]


def test_metadata_says_what_a_user_must_know():
    assert INFO["license"] == "CC BY-NC-SA 4.0"
    assert INFO["postprocessing"]["chosen_on"] == "validation patients"
    assert INFO["channels"] == ["T1", "FLAIR", "T1ce"]
    assert INFO["validation"]["patients"] == len(INFO["validation"]["dice"]) == 10
    assert not set(INFO["validation"]["dice"]) & set(INFO.get("test_patients", []))


def test_recipe_and_loader_give_one_model():
    loaded = load_pretrained("lgg")
    assert loaded.count_params() <= 3_000_000
    recipe = ARCHITECTURES[INFO["architecture"]]
    built = recipe(**arguments(), weights="lgg")
    sample = np.random.default_rng(0).uniform(0, 2, (1, *loaded.input_shape[1:])).astype("float32")
    np.testing.assert_array_equal(np.asarray(built(sample)), np.asarray(loaded(sample)))
    untrained = recipe(**arguments())
    assert np.abs(np.asarray(untrained(sample)) - np.asarray(loaded(sample))).max() > 0.1


def test_another_size_takes_the_weights_too():
    model = ARCHITECTURES[INFO["architecture"]](**arguments(input_shape=(None, None, 3)), weights="lgg")
    assert model.output_shape == (None, None, None, 1)


@pytest.mark.parametrize(
    ("name", "changes"),
    [(INFO["architecture"], {"filters": 8}), (INFO["architecture"], {"input_shape": (64, 64, 1)}), ("res_unet", {})],
)
def test_other_arguments_get_the_call_that_fits(name, changes):
    with (
        pytest.raises(InputError, match="weights='lgg' fit another network") as caught,
        warnings.catch_warnings(action="error"),
    ):
        # Keras would warn of each layer.
        ARCHITECTURES[name](**arguments(**changes), weights="lgg")
    call = str(caught.value).split("Build it so: ")[1]
    model = eval(call, {INFO["architecture"]: getattr(brainseg_keras, INFO["architecture"])})
    assert model.count_params() == load_pretrained("lgg").count_params()


def test_damage_is_noticed(monkeypatch):
    monkeypatch.setattr(shipped, "pretrained_info", lambda name: INFO | {"sha256": "0" * 64})
    with pytest.raises(InputError, match="are damaged"):
        load_pretrained("lgg")


def test_an_unknown_name_is_refused():
    with pytest.raises(InputError, match=r"No weights are called 'brats'\. Known: lgg"):
        load_pretrained("brats")


def test_the_license_is_said_once(monkeypatch, caplog):
    monkeypatch.setattr(shipped, "_announced", set())
    with caplog.at_level(logging.WARNING):
        load_pretrained("lgg")
        load_pretrained("lgg")
    assert len([record for record in caplog.records if "CC BY-NC-SA 4.0" in record.getMessage()]) == 1


def test_predicts_without_a_network(tmp_path):
    """A fresh process that may open no connection: no weights are fetched from anywhere."""
    Image.fromarray(slice_of((128, 128))).save(tmp_path / "slice.png")
    code = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise OSError('no network in this test')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "sys.argv = ['brainseg', 'predict', 'slice.png', '-o', 'out', '--json']\n"
        "from brainseg_keras.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["failures"] == {}
    assert np.array(Image.open(tmp_path / "out" / "slice_mask.png")).shape == (128, 128)
    assert done.stderr.count("CC BY-NC-SA 4.0") == 1
