"""Python's functions refuse the same numbers as the flags, and a training those that do not fit its data."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from brainseg_keras.errors import InputError
from brainseg_keras.training.config import TrainingConfig

AUGMENTATION = "rotate flip zoom shift intensity noise stand_in darken paste bias_field low_resolution elastic"
WITHIN = {field.name: field.metadata["within"] for field in dataclasses.fields(TrainingConfig)}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "file").write_text("a file")
    return tmp_path


def python_calls(folder, phantom):
    """Calls that must be refused, with the name that the message begins with."""
    from brainseg_keras.data import open_source
    from brainseg_keras.data.inputs.augmentation import Augmentation
    from brainseg_keras.data.inputs.batches import OrderedBatches, SliceBatches
    from brainseg_keras.data.inputs.preprocessing import Preprocessing
    from brainseg_keras.data.inputs.slices import load_slices
    from brainseg_keras.data.phantom.brats import NIFTI_FOLDERS, write_brats_phantom
    from brainseg_keras.data.phantom.lgg import write_phantom
    from brainseg_keras.data.splits import assign_folds, split_patients
    from brainseg_keras.inference import Predictor
    from brainseg_keras.postprocessing import Postprocessing
    from brainseg_keras.spec import NetworkSpec

    table = pd.DataFrame({"patient": [f"P_A_{n}" for n in range(9)], "tumour_pixels": range(9)})
    slices = load_slices(open_source(phantom), "val", Preprocessing(32))
    new = folder / "new"
    return {
        "threshold smallest_component": Postprocessing,
        f"{AUGMENTATION} stand_in_channel": Augmentation,
        "size blur clahe": Preprocessing,
        "folds seed": lambda **values: assign_folds(table, **values),
        "seed": lambda **values: split_patients(table, **values),
        "patients slices size seed": lambda **values: write_phantom(new, **values),
        "patients slices size seed ": lambda **values: write_brats_phantom(new, layouts=(NIFTI_FOLDERS,), **values),
        "patients slices size seed  ": lambda **values: write_brats_phantom(new, **values),
        "batch_size": lambda **values: Predictor("no/such/model", **values),
        "context ": lambda **values: NetworkSpec(("FLAIR",), **values),
        "batch_size seed tumour_share": lambda **values: SliceBatches(slices, **values),
        "batch_size ": lambda **values: OrderedBatches(slices, **values),
        "context": lambda **values: load_slices(open_source(phantom), "val", Preprocessing(32), **values),
    }


def test_python_functions_refuse_the_same_numbers(folder, phantom):
    for names, call in python_calls(folder, phantom).items():
        for name in names.split():
            for value in (math.nan, math.inf, -math.inf, -1, 1e308, 10**400, "1", True):
                with pytest.raises(InputError, match=f"^{name} is a "):
                    call(**{name: value})
    assert not (folder / "new").exists()


def test_evaluation_refuses_before_the_network_runs(folder):
    from brainseg_keras.inference import Predictor
    from brainseg_keras.reports import calibrate, evaluate, tune

    class Never(Predictor):
        def __init__(self):
            self.folder = None

        channels = ("FLAIR",)

    for values in ({"tolerance": math.nan}, {"tolerance": -1}, {"spacing": (1, 1)}, {"spacing": (1, math.nan, 1)}):
        with pytest.raises(InputError, match=f"^{next(iter(values))} is "):
            evaluate(Never(), None, **values)
    for work in (evaluate, tune, calibrate):
        with pytest.raises(InputError, match=r"^output cannot be written: .*file is not a folder"):
            work(Never(), None, output=folder / "file" / "below")


@pytest.mark.parametrize("fractions", [(math.nan, 0.5, 0.5), (0.5, math.nan, 0.5), (math.inf, 0.5, 0.5)])
def test_shares_that_are_no_numbers_are_refused(fractions):
    from brainseg_keras.data.splits import split_patients

    table = pd.DataFrame({"patient": list("abcde"), "tumour_pixels": range(5)})
    with pytest.raises(InputError, match="sum to 1"):
        split_patients(table, fractions=fractions)


@pytest.mark.parametrize("end_of_range", ["low", "high"])
def test_slices_stay_finite_at_the_ends_of_the_ranges(end_of_range):
    from brainseg_keras.data.inputs.augmentation import Augmentation
    from brainseg_keras.data.inputs.preprocessing import Preprocessing

    rng = np.random.default_rng(0)
    values = {name: getattr(WITHIN[name], end_of_range) for name in AUGMENTATION.split()}
    images, masks = rng.random((3, 32, 32, 3), np.float32), rng.integers(0, 256, (3, 32, 32, 1), np.uint8)
    moved, moved_masks = Augmentation(**values)(images, masks, rng)
    assert np.isfinite(moved).all()
    assert moved_masks.shape == masks.shape and moved_masks.dtype == np.uint8
    for tiny in (0.0, 1e-300):
        blur, clahe = (tiny or getattr(WITHIN[name], end_of_range) for name in ("blur", "clahe"))
        for pixels in (images, np.uint8(255 * images)):
            assert np.isfinite(Preprocessing(32, blur=blur, clahe=clahe).images(pixels)).all()


def test_a_batch_of_more_than_the_training_slices_is_refused(phantom, folder):
    from brainseg_keras.training import train

    config = TrainingConfig(
        data=str(phantom), architecture="res_unet", filters=2, depth=1, size=32, epochs=1, batch_size=33
    )
    with pytest.raises(InputError, match=r"at most all training slices, 32\. Received: batch_size=33\. Give a smaller"):
        train(config, output=folder / "never")
    assert not (folder / "never").exists()
    dataclasses.replace(config, batch_size=32).check_data(32, 3)


def test_a_batch_that_no_memory_holds_is_refused():
    config = TrainingConfig(batch_size=4096, size=8192, context=8)
    with pytest.raises(InputError, match=r"takes 52224 GiB, and \d+ are free.*context=8.*Give a smaller"):
        config.check_data(10**6, 3 * 17)
