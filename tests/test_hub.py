"""hf://owner/name: Keras loads it, here from the Hub's cache, which is read where there is no network."""

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image
from scans import brightness_model, disc, overlap, slice_of

from brainseg_keras import load_pretrained
from brainseg_keras.errors import InputError

COMMIT = "0" * 40


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """The environment of a machine without network that has fetched hf://someone/brightness before."""
    home = tmp_path_factory.mktemp("hub")
    repository = home / "hub" / "models--someone--brightness"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    brightness_model().save(home / "model.keras")
    with zipfile.ZipFile(home / "model.keras") as archive:
        archive.extractall(snapshot)
    return os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}


def run(environment, *arguments):
    command = [sys.executable, "-m", "brainseg_keras", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)


@pytest.mark.slow
def test_a_model_of_the_hub_segments(offline, tmp_path):
    Image.fromarray(slice_of()).save(tmp_path / "slice.png")
    done = run(
        offline,
        "predict",
        tmp_path / "slice.png",
        "--model",
        "hf://someone/brightness",
        "-o",
        tmp_path / "out",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["results"]) == 1
    mask = np.array(Image.open(tmp_path / "out" / "slice_mask.png")) > 0
    assert overlap(mask, disc()) > 0.9


@pytest.mark.slow
def test_one_that_cannot_be_fetched_is_a_sentence(offline, tmp_path):
    Image.fromarray(slice_of()).save(tmp_path / "slice.png")
    done = run(offline, "predict", tmp_path / "slice.png", "--model", "hf://someone/absent", "-o", tmp_path / "out")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "hf://someone/absent cannot be loaded" in done.stderr
    assert "Check the name and the connection" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("address", ["hf://", "hf://owner", "hf://owner/", "hf:///name", "hf://owner/name/more"])
def test_another_form_of_address_is_refused(address):
    with pytest.raises(InputError, match="A model on the Hub is hf://owner/name"):
        load_pretrained(address)
