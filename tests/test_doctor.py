"""brainseg doctor: what is installed, and what would mend it."""

import json

from commands import brainseg


def test_doctor_says_what_is_here(tmp_path, monkeypatch):
    done = brainseg("doctor", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["problems"] == []
    assert content["versions"]["keras"]
    assert {"keras", "onnx"} <= set(content["engines"])
    assert content["backend"] in ("tensorflow", "jax", "torch")
    assert "gradio" in {**content["missing"], **content["versions"]}
    if content["backend"] == "tensorflow":
        assert content["onednn"] is True
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
        assert "oneDNN off: unset TF_ENABLE_ONEDNN_OPTS" in brainseg("doctor", cwd=tmp_path).stdout
    shown = brainseg("doctor", cwd=tmp_path)
    assert "engines for predictions: keras, onnx" in shown.stdout
    assert "Everything needed is here" in shown.stdout
