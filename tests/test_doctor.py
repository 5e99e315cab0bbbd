"""brainseg doctor: what is installed, and what would mend it."""

import json
import subprocess
import sys

from commands import brainseg

#: oneDNN is what TensorFlow finds when it is imported: off here, as it is on processors without VNNI.
LATE = """
import os
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
import tensorflow
del os.environ["TF_ENABLE_ONEDNN_OPTS"]
from brainseg_keras import res_unet
from brainseg_keras.cli.doctor import diagnose
from brainseg_keras.training import speed_up
print(diagnose()["onednn"])
speed_up(res_unet((16, 16, 1), filters=2, depth=1))
"""


def test_doctor_says_what_is_here(tmp_path):
    done = brainseg("doctor", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["problems"] == []
    assert content["versions"]["keras"]
    assert {"keras", "onnx"} <= set(content["engines"])
    assert content["backend"] in ("tensorflow", "jax", "torch")
    assert "gradio" in {**content["missing"], **content["versions"]}
    if content["backend"] == "tensorflow":
        assert content["onednn"] == "oneDNN is on"
    shown = brainseg("doctor", cwd=tmp_path)
    assert "engines for predictions: keras, onnx" in shown.stdout
    assert "Everything needed is here" in shown.stdout


def test_onednn_that_came_too_late_is_said(monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.startswith("oneDNN is off: TensorFlow was imported before brainseg_keras. Import brainseg_keras")
    assert done.stdout.strip() in done.stderr, "training says it too"


def test_onednn_that_the_user_has_switched_off_is_said(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    script = "from brainseg_keras.training.machine import onednn_trouble as t; print(t())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.startswith("oneDNN is off: unset TF_ENABLE_ONEDNN_OPTS")
