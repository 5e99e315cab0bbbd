"""Which number format a run computes in, and that half of one trains."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from runs import tiny

from brainseg_keras.training import train
from brainseg_keras.training.continuation import read_last
from brainseg_keras.training.precision import choose_precision, dtype_policy, fitting_precision
from brainseg_keras.training.setup import build_network

#: Of /proc/cpuinfo: a Sapphire Rapids, an EPYC whose AVX-512 knows bfloat16, and a machine that calls itself AMX.
AMX = "model name\t: Intel(R) Xeon(R) Platinum 8481C\nflags\t\t: fpu avx2 avx512f amx_bf16 avx512_bf16 amx_tile\n" * 2
EPYC = "model name\t: AMD EPYC 9B14\nflags\t\t: fpu avx2 avx512f avx512_bf16\n"
NAMED = "model name\t: a processor without amx_bf16\nflags\t\t: fpu avx2 amx_bf16_not\n"


@pytest.mark.parametrize(
    ("gpu", "cpuinfo", "separable", "expected"),
    [
        (False, AMX, False, "mixed_bfloat16"),
        (False, AMX, True, "float32"),
        (False, EPYC, False, "float32"),
        (False, NAMED, False, "float32"),
        (False, "", False, "float32"),
        (True, AMX, False, "mixed_float16"),
        (True, "", True, "mixed_float16"),
    ],
)
def test_precision_auto_is_bfloat16_on_amx_but_for_separable_convolutions(gpu, cpuinfo, separable, expected):
    assert fitting_precision(gpu=gpu, cpuinfo=cpuinfo, separable=separable) == expected


@pytest.mark.parametrize("separable", [False, True])
def test_precision_auto_is_that_of_this_machine_and_any_other_is_taken_as_given(separable):
    import tensorflow as tf

    about = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    gpu = bool(tf.config.list_physical_devices("GPU"))
    here = fitting_precision(gpu=gpu, cpuinfo=about, separable=separable)
    assert choose_precision("auto", separable=separable) == here
    assert choose_precision("mixed_float16", separable=separable) == "mixed_float16"


def test_dtype_policy_is_put_back():
    before = keras.config.dtype_policy().name
    with pytest.raises(RuntimeError), dtype_policy("mixed_bfloat16"):
        raise RuntimeError
    assert keras.config.dtype_policy().name == before


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_trains_and_keeps_a_float32_best(store, tmp_path, precision):
    run = train(tiny(store, epochs=1, precision=precision, dropout=0.1), output=tmp_path / "run")
    best = keras.saving.load_model(run.best)
    assert {layer.compute_dtype for layer in best.layers} == {"float32"}
    # What goes on computes as what was stopped; Keras alone would bring dropout back in float32.
    record = run.read_record()
    last, built = read_last(run, record), build_network(record.spec, precision)
    # The input computes nothing.
    formats, kept = ({one.name: one.compute_dtype for one in model.layers[1:]} for model in (built, last))
    assert kept == formats and any("drop" in name for name in formats)
    assert np.isfinite(pd.read_csv(run.history).loss).all()
