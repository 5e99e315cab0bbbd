"""Several devices and processes train the network that one would have trained, and a run goes on with any number."""

import json
import re
import time
import zipfile

import keras
import numpy as np
import pandas as pd
import pytest
from processes import finish, free_address, start, start_all

from brainseg_keras.errors import InputError
from brainseg_keras.training import Devices, RunFolder, resume
from brainseg_keras.training.optimizer import MeasuredAdam, adam_of

pytestmark = pytest.mark.slow


def arguments(store, run, **changes):
    """A tiny deterministic training of twelve steps, two epochs of six."""
    settings = {
        "data": store,
        "architecture": "res_unet",
        "filters": 4,
        "depth": 2,
        "size": 32,
        "batch-size": 4,
        "epochs": 2,
        "precision": "float32",
        "learning-rate": 3e-4,
        "ema": 0.9,
    } | changes
    flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
    return ["train", *flags, "--deterministic", "-o", run]


def weights(run, name):
    """Values by path, without what nothing decides.

    A normalization takes the bias of its convolution away again: the gradient of that bias is nothing but rounding,
    which Adam follows as if it were one. It shows in the moving mean alone, which is taken away as well.
    """
    model = keras.saving.load_model(run / f"{name}.keras")
    norms = {layer.name for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
    free = {f"{name.removesuffix('norm')}conv/bias" for name in norms} | {f"{name}/moving_mean" for name in norms}
    assert free <= {variable.path for variable in model.weights}
    return {v.path: np.array(keras.ops.convert_to_numpy(v)) for v in model.weights if v.path not in free}


def assert_alike(run, other):
    """Weights of both files to 1e-5, and what was counted and measured on the way."""
    for name in ("last", "best"):
        ours, theirs = weights(run, name), weights(other, name)
        assert ours.keys() == theirs.keys()
        for path, value in ours.items():
            np.testing.assert_allclose(value, theirs[path], atol=1e-5, rtol=1e-5, err_msg=f"{name}: {path}")
        # They have come a hundred times as far: what scales after a normalization begins at 1.
        assert max(np.abs(value - 1).max() for path, value in ours.items() if path.endswith("gamma")) > 1e-3
    columns = ["epoch", "step", "loss", "dice", "iou", "pixel_accuracy", "learning_rate", "gradient_norm", "val_dice"]
    histories = [pd.read_csv(folder / "history.csv")[columns] for folder in (run, other)]
    pd.testing.assert_frame_equal(*histories, rtol=1e-4, atol=1e-5)
    optimizers = [keras.saving.load_model(folder / "last.keras").optimizer for folder in (run, other)]
    assert all(isinstance(optimizer, MeasuredAdam) and int(optimizer.iterations) == 12 for optimizer in optimizers)


@pytest.fixture(scope="module")
def jax_alone(store, tmp_path_factory):
    """The run of one process and one device on JAX."""
    folder = tmp_path_factory.mktemp("jax")
    ((code, _, err),) = finish([start(*arguments(store, folder / "run"), backend="jax", cwd=folder)])
    assert code == 0, err
    return folder / "run"


def test_two_processes_train_what_one_trains(store, jax_alone, tmp_path):
    ended = finish(start_all(2, *arguments(store, tmp_path / "run"), "--json", cwd=tmp_path))
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert_alike(tmp_path / "run", jax_alone)
    # Process 0 alone says how it goes, and writes.
    (_, out, err), (_, other_out, other_err) = ended
    assert "on 2 devices of 2 processes" in err and json.loads(out)["run"] == str(tmp_path / "run")
    assert not other_out and "epoch" not in other_err
    assert {path.name for path in (tmp_path / "run").iterdir()} - {".lock"} == {
        path.name for path in jax_alone.iterdir()
    } - {".lock"}
    # TensorFlow goes on with it, on one device.
    resume(tmp_path / "run", overrides={"epochs": 3})
    assert pd.read_csv(tmp_path / "run" / "history.csv").step.tolist() == [6, 12, 18]


def test_two_devices_of_one_process_on_jax(store, jax_alone, tmp_path):
    command = [*arguments(store, tmp_path / "run"), "--devices", 2]
    ((code, _, err),) = finish([start(*command, backend="jax", cwd=tmp_path)])
    assert code == 0, err
    assert_alike(tmp_path / "run", jax_alone)


def test_two_devices_on_tensorflow(store, tmp_path):
    runs = {count: tmp_path / str(count) for count in (1, 2)}
    for count, run in runs.items():
        command = [*arguments(store, run), "--devices", count]
        ((code, _, err),) = finish([start(*command, backend="tensorflow", cwd=tmp_path)])
        assert code == 0, err
        assert ("on 2 devices" in err) == (count == 2)
    assert_alike(runs[2], runs[1])
    # Its files are those of one device: nothing is left in them of how normalizations were measured.
    for name in ("last", "best"):
        with zipfile.ZipFile(runs[2] / f"{name}.keras") as stored:
            assert '"synchronized": true' not in stored.read("config.json").decode()
    gradient = float(adam_of(keras.saving.load_model(runs[2] / "last.keras")).gradient_norm)
    assert gradient == pytest.approx(pd.read_csv(runs[1] / "history.csv").gradient_norm.iloc[-1], rel=1e-4)
    # And one device goes on with it.
    resume(runs[2], overrides={"epochs": 3})
    assert pd.read_csv(runs[2] / "history.csv").step.tolist() == [6, 12, 18]


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_others_and_the_run_goes_on_with_any_number(killed, store, tmp_path):
    """On with the very weights that were kept: a learning rate of nothing leaves them as they are."""
    run = RunFolder(tmp_path / "run")
    processes = start_all(2, *arguments(store, run.path, epochs=200), cwd=tmp_path)
    try:
        deadline = time.monotonic() + 150
        while not run.last.exists() and time.monotonic() < deadline and processes[0].poll() is None:
            time.sleep(0.1)
        assert run.last.exists(), processes[0].poll()
    finally:
        processes[killed].kill()
    ended = finish(processes, timeout=100)
    code, _, err = ended[1 - killed]
    assert code == 1 and "start all processes again, with --resume" in " ".join(err.split()), (code, err)
    assert "Traceback" not in err
    kept, step = weights(run.path, "last"), run.read_record().progress.step
    more = ["--resume", run.path, "--epochs", step // 6 + 1, "--learning-rate", 1e-12]
    if killed:
        ended = finish([start("train", *more, backend="jax", cwd=tmp_path)])
    else:
        ended = finish(start_all(2, "train", *more, cwd=tmp_path))
    assert all(code == 0 for code, _, _ in ended), ended
    assert run.read_record().progress.step == step + 6
    assert pd.read_csv(run.history).epoch.tolist() == list(range(1, step // 6 + 2))
    after = weights(run.path, "last")
    trained = [path for path in kept if not re.search("moving_(mean|variance)", path)]
    assert len(trained) > 10
    for path in trained:
        np.testing.assert_allclose(after[path], kept[path], atol=1e-6, err_msg=path)


def test_one_is_asked_to_stop_and_both_do_after_the_same_step(store, tmp_path):
    run = RunFolder(tmp_path / "run")
    processes = start_all(2, *arguments(store, run.path, epochs=200), cwd=tmp_path)
    try:
        deadline = time.monotonic() + 150
        while not run.last.exists() and time.monotonic() < deadline and processes[0].poll() is None:
            time.sleep(0.1)
        processes[1].send_signal(2)
    finally:
        ended = finish(processes, timeout=100)
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert "Stopped, and all is kept" in ended[0][2]
    assert run.read_record().progress.stopped == "interrupted"


def test_processes_with_other_settings_are_refused_and_nothing_is_written(store, tmp_path):
    several = ["--coordinator", free_address(), "--processes", 2, "--process-index"]
    commands = [[*arguments(store, tmp_path / "run", seed=index), *several, index] for index in range(2)]
    ended = finish([start(*command, backend="jax", cwd=tmp_path) for command in commands])
    for code, _, err in ended:
        assert code == 2 and "seed (0 in process 0, 1 in process 1)" in " ".join(err.split()), err
    assert not (tmp_path / "run").exists()


def test_what_tensorflow_cannot_do_on_several_devices_is_refused(store, tmp_path):
    # In a process of its own, where the CPU can still be cut.
    for changes, words in (
        ({"reduce-over": "batch"}, "reduce_over=batch pools"),
        ({"precision": "mixed_float16"}, "In float16"),
    ):
        command = [*arguments(store, tmp_path / "run", **changes), "--devices", 2]
        ((code, _, err),) = finish([start(*command, backend="tensorflow", cwd=tmp_path)])
        assert code == 2 and words in err, err
    assert not (tmp_path / "run").exists()


def test_where_tensorflow_has_computed_the_cpu_cannot_be_cut_any_more(finished, store):
    keras.ops.ones(3)
    with pytest.raises(InputError, match="cannot be cut into 2 devices any more"):
        resume(finished.path, overrides={"epochs": 3}, devices=Devices(2))
