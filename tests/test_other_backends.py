"""Training with another backend and without TensorFlow, in fresh processes."""

import os
import subprocess
import sys

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SCRIPT = """
import sys
sys.modules["tensorflow"] = None
from brainseg_keras.training import TrainingConfig, resume, train
config = TrainingConfig(
    architecture="{architecture}", filters=4, depth=2, size=32, epochs=2, precision="float32", ema=0.9,
    deep_supervision={supervised},
)
run = train(config, output={output!r})
resume(run.path, overrides={{"epochs": 3}})
"""


@pytest.mark.soak
@pytest.mark.parametrize(
    ("architecture", "supervised"),
    [("res_unet", False), ("attention_res_unet", False), ("mod_r2au_net", False), ("res_unet", True)],
)
def test_jax_trains_and_resumes_where_tensorflow_is_absent(tmp_path, architecture, supervised):
    script = SCRIPT.format(architecture=architecture, supervised=supervised, output=str(tmp_path / "run"))
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    answer = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert history.epoch.tolist() == [1, 2, 3]
    assert history.loss.iloc[-1] < history.loss.iloc[0]
    events = EventAccumulator(str(tmp_path / "run" / "logs"), size_guidance={"images": 0}).Reload()
    maps = [tag for tag in events.Tags()["images"] if tag.startswith("panel_attention/")]
    assert maps and all(len(events.Images(tag)) == 3 for tag in maps)
    # The rate is set step by step, which the JAX trainer must see.
    assert history.learning_rate.iloc[1] < 0.1 * history.learning_rate.iloc[0]
