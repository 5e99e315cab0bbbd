"""The slow half of the shared test: learning, other formats, fresh processes, for every registered model."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from test_models import RECURRENT, both_styles, every_model, fill, narrow, picture

from brainseg_keras.evaluation.scores import confusion, dice
from brainseg_keras.losses import DiceFocalLoss
from brainseg_keras.models.complexity import summarize
from brainseg_keras.models.table import read_table
from brainseg_keras.training import speed_up

pytestmark = pytest.mark.slow


def discs(count=4):
    """Bright discs on noise, with their masks."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :48]
    masks = np.stack(
        [(y - rng.integers(10, 22)) ** 2 + (x - rng.integers(12, 36)) ** 2 < rng.integers(30, 70) for _ in range(count)]
    )
    images = masks[..., None] + 0.3 * rng.standard_normal((count, 32, 48, 3))
    return images.astype("float32"), masks[..., None].astype("float32")


@every_model
@both_styles
def test_overfits_a_few_images_in_inference_mode(name, separable):
    """In inference mode, since networks that are fine in training and black afterwards are this field's classic."""
    keras.utils.set_random_seed(0)
    images, masks = discs()
    # The published shared norm of the recurrent networks has one moving average for steps that differ, and falls short
    # of this bar: benchmarks/shared_norm.md.
    own_norms = {"norm_per_step": True} if name in RECURRENT else {}
    model = narrow(name, filters=8, separable=separable, **own_norms)
    # The rate falls to zero, so that the moving averages of the norms have settled when the model is asked.
    rate = keras.optimizers.schedules.CosineDecay(5e-3, decay_steps=120)
    model.compile(keras.optimizers.Adam(rate), DiceFocalLoss())
    speed_up(model)
    model.fit(images, masks, batch_size=4, epochs=120, verbose=0)
    answer = np.asarray(model.predict(images, verbose=0)) > 0.5
    assert dice(confusion(masks, answer)) >= 0.95


@every_model
def test_saved_model_gives_the_same_mask(name, tmp_path):
    import tensorflow as tf

    model = fill(narrow(name), scale=0.1)
    model.export(tmp_path / "exported", verbose=False)
    restored = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(restored.serve(picture()).numpy(), np.asarray(model(picture())), atol=1e-5)


def test_files_load_in_one_fresh_process_that_lacks_this_package(tmp_path):
    from brainseg_keras import list_models

    for name in list_models():
        model = fill(narrow(name), scale=0.1)
        model.save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.npy", np.asarray(model(picture())))
    code = (
        "import sys, pathlib; sys.modules['brainseg_keras'] = None\n"
        "import keras, numpy as np\n"
        "images = np.cos(0.11 * np.arange(2 * 32 * 48 * 3)).reshape(2, 32, 48, 3).astype('float32')\n"
        f"for file in sorted(pathlib.Path({str(tmp_path)!r}).glob('*.keras')):\n"
        "    found = np.asarray(keras.saving.load_model(file)(images))\n"
        "    np.testing.assert_allclose(found, np.load(file.with_suffix('.npy')), atol=1e-6)\n"
        "    print(file.stem)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == sorted(list_models())


def test_the_table_of_architectures_is_what_the_code_builds():
    assert read_table() == summarize(), "write it anew: python -m brainseg_keras.models.complexity"
