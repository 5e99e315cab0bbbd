"""Exports answer as Keras does, for every architecture; what cannot be exported is refused."""

import importlib
import json

import keras
import numpy as np
import pytest
from scans import CHANNELS, brightness_model
from test_folding import trained
from test_models import both_styles, every_model, narrow

from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.errors import InputError, TrainingError
from brainseg_keras.export import export
from brainseg_keras.inference import Predictor, predict
from brainseg_keras.postprocessing import Postprocessing

SAMPLE = np.random.default_rng(0).uniform(0, 2, (4, 32, 32, 3)).astype("float32")
FILES = {"savedmodel": "saved", "onnx": "model.onnx", "litert": "model.tflite"}


@pytest.mark.slow
@every_model
@both_styles
@pytest.mark.parametrize("format", ["onnx", "litert"])
def test_parity_of_every_architecture(name, separable, format, tmp_path):
    from brainseg_keras.inference import load_network

    model = trained(narrow(name, input_shape=(32, 32, 3), separable=separable), SAMPLE)
    done = export(Predictor(model), tmp_path / FILES[format], format=format)
    assert done.difference < 1e-4
    network = load_network(done.path).network
    for count in (1, 3):
        batch = np.random.default_rng(count).uniform(0, 2, (count, 32, 32, 3)).astype("float32")
        np.testing.assert_allclose(network(batch), np.asarray(model(batch)), atol=1e-4)


@pytest.fixture(scope="module")
def predictor():
    return Predictor(brightness_model()).adapted(
        preprocessing=Preprocessing(48),
        channels=CHANNELS,
        postprocessing=Postprocessing(threshold=0.3, smallest_component=7),
    )


@pytest.mark.parametrize("format", FILES)
def test_an_export_carries_its_preprocessing_and_predicts_the_same_masks(format, predictor, phantom, tmp_path):
    done = export(predictor, tmp_path / FILES[format], format=format)
    assert done.difference < 1e-4
    content = json.loads(done.information.read_text())
    assert content["preprocessing"] == {"size": 48, "blur": 0.0, "clahe": 0.0, "inner_tissue": False}
    assert content["channels"] == list(CHANNELS)
    assert not list(tmp_path.glob(".export-*"))
    if format == "savedmodel":
        return
    twin = Predictor(done.path)
    assert twin.spec == predictor.spec
    summaries = [predict([phantom], tmp_path / str(n), predictor=p).summary for n, p in enumerate((predictor, twin))]
    assert summaries[0].tumour_size.tolist() == summaries[1].tumour_size.tolist()
    assert summaries[0].tumour_size.sum() > 0


class Forgetful(keras.layers.Layer):
    """Adds something that its config does not tell, so that a copy of it adds something else."""

    def __init__(self, added, told, **options):
        super().__init__(**options)
        self.added, self.told = added, told

    def call(self, x):
        return x + self.added

    def get_config(self):
        return super().get_config() | {"added": self.told, "told": self.told}


def forgetful(difference):
    """A network that exports as another, with answers that lie so far apart."""
    image = keras.Input((32, 32, 3))
    answer = keras.layers.Conv2D(1, 1, activation="sigmoid")(image)
    return Predictor(keras.Model(image, Forgetful(added=0.0, told=difference)(answer)))


@pytest.mark.parametrize("difference", [0.0002, -0.0002])
@pytest.mark.parametrize("format", FILES)
def test_an_export_that_answers_otherwise_is_refused_and_leaves_nothing(format, difference, tmp_path):
    with pytest.raises(TrainingError, match=f"The {format} export differs from Keras by 0.0002, more than 0.0001"):
        export(forgetful(difference), tmp_path / FILES[format], format=format)
    assert list(tmp_path.iterdir()) == []


def test_a_rounding_error_is_no_other_answer(tmp_path):
    done = export(forgetful(0.00005), tmp_path / "saved", format="savedmodel")
    assert done.difference == pytest.approx(0.00005, rel=0.01)
    assert json.loads(done.information.read_text())["difference_from_keras"] == done.difference


@pytest.mark.parametrize("quantize", ["dynamic", "int8"])
def test_quantized_is_smaller_and_near(quantize, tmp_path):
    model = trained(narrow("unet", input_shape=(32, 32, 3), filters=16), SAMPLE)
    plain = export(Predictor(model), tmp_path / "plain.tflite", format="litert")
    small = export(Predictor(model), tmp_path / "small.tflite", format="litert", quantize=quantize)
    assert small.path.stat().st_size < 0.5 * plain.path.stat().st_size
    assert plain.difference < small.difference < 0.2
    assert json.loads(small.information.read_text())["quantize"] == quantize
    # Of int8 what goes from layer to layer is whole numbers too.
    interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(model_path=str(small.path))
    maps = [one for one in interpreter.get_tensor_details() if tuple(one["shape"][1:3]) == (32, 32)]
    assert any(one["dtype"] is np.int8 for one in maps) == (quantize == "int8")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("model.onnx", {"format": "torch"}, "format is one of savedmodel, onnx, litert"),
        ("model.pb", {"format": "onnx"}, r"ends in \.onnx"),
        ("model.onnx", {"format": "onnx", "quantize": "int8"}, "for litert alone"),
        ("model.tflite", {"format": "litert", "quantize": "int2"}, "dynamic, int8"),
        ("there.onnx", {"format": "onnx"}, "exists already"),
    ],
)
def test_what_cannot_be_is_refused(name, options, words, predictor, tmp_path):
    (tmp_path / "there.onnx").touch()
    with pytest.raises(InputError, match=words):
        export(predictor, tmp_path / name, **options)
    assert [file.name for file in tmp_path.iterdir()] == ["there.onnx"]


def test_an_export_is_not_exported_again(predictor, tmp_path):
    done = export(predictor, tmp_path / "model.onnx")
    with pytest.raises(InputError, match="is an export already"):
        export(done.path, tmp_path / "again.onnx")


@pytest.mark.parametrize("name", ["text.onnx", "text.tflite", "text.keras"])
def test_a_damaged_model_is_named(name, tmp_path):
    (tmp_path / name).write_text("no model")
    with pytest.raises(InputError, match=f"{name}.* cannot be read"):
        Predictor(tmp_path / name)
