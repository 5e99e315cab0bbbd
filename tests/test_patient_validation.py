"""PatientValidation in a plain fit: the figures of an own count, in logs, history and checkpoint."""

import warnings

import keras
import numpy as np
import pytest

from brainseg_keras import DiceLoss, PatientValidation, Predictor, make_dataset, res_unet
from brainseg_keras.data import open_source
from brainseg_keras.data.phantom.lgg import write_phantom
from brainseg_keras.data.volumes import iterate_volumes
from brainseg_keras.errors import InputError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return str(write_phantom(tmp_path_factory.mktemp("data") / "kaggle_3m", patients=24, slices=6, size=48, seed=2))


def compiled(channels=3, size=32):
    keras.utils.set_random_seed(3)
    model = res_unet((size, size, channels), filters=2, depth=1)
    model.compile(keras.optimizers.Adam(0.01), loss=DiceLoss())
    return model


def counted(model, spec, data):
    """Dice of each validation patient, counted from masks."""
    predictor, found = Predictor(model, spec=spec), {}
    for volume in iterate_volumes(open_source(data), "val"):
        answer, truth = predictor(volume.images) > 0, volume.masks > 0
        found[volume.patient] = 2 * (answer & truth).sum() / (answer.sum() + truth.sum())
    return found


def test_logs_history_and_checkpoint_hold_the_dice_of_each_patient(data, tmp_path):
    model, patients = compiled(), PatientValidation(data, size=32)
    kept = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", monitor="val_patient_dice", mode="max", save_best_only=True
    )
    with warnings.catch_warnings():
        # Of the order, of which make_dataset has taken care, and of a name that ModelCheckpoint does not find.
        warnings.simplefilter("error", UserWarning)
        stream = make_dataset(data, size=32, batch_size=4)
        history = model.fit(stream, epochs=2, verbose=0, callbacks=[patients, kept]).history
    own = counted(model, patients.spec, data)
    assert len(own) >= 2
    assert patients.scores.dice == pytest.approx(own, abs=1e-6)
    values = list(own.values())
    last = {name: column[-1] for name, column in history.items()}
    assert last["val_patient_dice"] == pytest.approx(np.mean(values), abs=1e-6)
    assert last["val_patient_dice_median"] == pytest.approx(np.median(values), abs=1e-6)
    assert last["val_patient_dice_min"] == pytest.approx(min(values), abs=1e-6)
    assert last["val_patient_iou"] == pytest.approx(np.mean([d / (2 - d) for d in values]), abs=1e-6)
    best = counted(keras.saving.load_model(tmp_path / "best.keras", compile=False), patients.spec, data)
    assert np.mean(list(best.values())) == pytest.approx(max(history["val_patient_dice"]), abs=1e-6)


def test_every_second_epoch(data):
    patients = PatientValidation(data, size=32, validation_freq=2)
    history = compiled().fit(make_dataset(data, size=32), epochs=3, verbose=0, callbacks=[patients]).history
    assert len(history["val_patient_dice"]) == 1


def subclassed():
    class Own(keras.Model):
        def call(self, images):
            return images[..., :1]

    model = Own(name="own")
    model.compile(loss="mse")
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: compiled(channels=1), r"takes 1 channels\. Received 3 names: T1, FLAIR, T1ce"),
        (lambda: compiled(size=64), r"takes slices of 64 pixels\. Received: 32"),
        (subclassed, r"functional model.*Received: 'own' with 0 and 0"),
    ],
)
def test_a_model_that_the_data_do_not_fit_is_refused_before_the_first_step(model, message, data):
    model = model()
    channels, side = (3, 32) if model.name == "own" else (model.input_shape[-1], model.input_shape[1])
    batch = np.zeros((1, side, side, channels), "float32")
    with pytest.raises(InputError, match=message):
        model.fit(batch, batch[..., :1], verbose=0, callbacks=[PatientValidation(data, size=32)])


@pytest.mark.parametrize("frequency", [0, 1.5, True])
def test_a_frequency_that_is_none_is_refused(frequency, data):
    with pytest.raises(InputError, match="validation_freq is a whole number"):
        PatientValidation(data, validation_freq=frequency)
