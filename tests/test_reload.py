"""A model saved with our losses and metrics comes back, compiled, in a process that imports only brainseg_keras."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import brainseg_keras
from brainseg_keras.losses import LOSSES
from brainseg_keras.metrics import METRICS

# Loads every model, and scores it on fixed numbers; no name of ours but the package's own is touched.
RELOAD = """
import json, sys
{imports}
import numpy as np
results = {{}}
for path in json.loads(sys.argv[1]):
    model = keras.saving.load_model(path)
    shape = model.input_shape[1:]
    x = np.linspace(-1, 1, 2 * np.prod(shape)).reshape((2, *shape))
    y = (x[..., :1] > 0.3).astype("float32")
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    if not model.run_eagerly:  # the many of the slow test are only scored
        model.train_on_batch(x, y)
    results[path] = [type(model.loss).__name__, model.loss.get_config(), logs]
print("RESULT" + json.dumps(results))
"""
IMPORTS = ["import brainseg_keras\nimport keras", "import keras\nimport brainseg_keras"]


def fresh_process(code, *args):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(
            [str(Path(brainseg_keras.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        ),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def expected_of(model):
    shape = model.input_shape[1:]
    x = np.linspace(-1, 1, 2 * np.prod(shape)).reshape((2, *shape))
    return model.evaluate(x, (x[..., :1] > 0.3).astype("float32"), verbose=0, return_dict=True)


def assert_reloaded(models, imports):
    out = fresh_process(RELOAD.format(imports=imports), json.dumps(list(models)))
    found = json.loads(out.rsplit("RESULT", 1)[1])
    assert found.keys() == models.keys()
    for path, (loss, logs) in models.items():
        assert found[path][0] == type(loss).__name__
        assert found[path][1] == loss.get_config()
        assert found[path][2] == pytest.approx(logs, rel=1e-4, abs=1e-5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny model with every loss, with every metric."""
    folder, models = tmp_path_factory.mktemp("models"), {}
    for name, cls in LOSSES.items():
        # An option off its default: a config that is not complete would come back with another number.
        own = {"binary_focal": {"gamma": 1.5}, "bce": {"include_background": False}}
        loss = cls(**own.get(name, {"smooth": 3.0}))
        model = keras.Sequential(
            [keras.Input((8, 8, 2)), keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")]
        )
        model.compile("adam", loss=loss, metrics=[metric(threshold=0.4) for metric in METRICS.values()])
        logs = expected_of(model)
        path = str(folder / f"{name}.keras")
        model.save(path)
        models[path] = (loss, logs)
    return models


@pytest.mark.parametrize("imports", IMPORTS, ids=["before_keras", "after_keras"])
def test_reload_in_a_fresh_process(saved, imports):
    assert len(saved) == len(LOSSES)
    assert all(METRICS.keys() <= logs.keys() for _, logs in saved.values())
    assert_reloaded(saved, imports)


def test_importing_the_package_loads_no_keras():
    code = "import sys, brainseg_keras; print([m for m in ('keras', 'numpy', 'tensorflow') if m in sys.modules])"
    assert fresh_process(code).strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("file", ["losses.base", "losses.compound", "metrics.overlap"])
def test_whichever_file_loads_keras_first_all_are_registered(file):
    code = f"import brainseg_keras.{file}, keras; print(*keras.saving.get_custom_objects())"
    classes = [*LOSSES.values(), *METRICS.values()]
    assert {f"brainseg_keras>{cls.__name__}" for cls in classes} <= set(fresh_process(code).split())


@pytest.mark.slow
def test_every_architecture_with_every_loss_reloads(tmp_path):
    models = {}
    for architecture in brainseg_keras.list_models():
        model = brainseg_keras.build_model(architecture, input_shape=(32, 32, 3), filters=4, depth=2)
        for name, cls in LOSSES.items():
            loss = cls()
            # Eagerly, and so again once reloaded: tracing 49 graphs twice would take minutes.
            model.compile("adam", loss=loss, metrics=[metric() for metric in METRICS.values()], run_eagerly=True)
            path = str(tmp_path / f"{architecture}-{name}.keras")
            logs = expected_of(model)
            model.save(path)
            models[path] = (loss, logs)
        keras.backend.clear_session()
    assert len(models) == len(LOSSES) * len(brainseg_keras.list_models()) >= 49
    assert_reloaded(models, IMPORTS[0])
