"""Model files: what is not a network for segmentation, and what stands beside one, is named before any prediction."""

import json

import keras
import numpy as np
import pytest

from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.errors import InputError
from brainseg_keras.export import export
from brainseg_keras.inference import Predictor

L = keras.layers


def classifier():
    image = keras.Input((32, 32, 3))
    return keras.Model(image, L.Dense(2)(L.GlobalAveragePooling2D()(image)))


def two_inputs():
    first, second = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    return keras.Model([first, second], L.Conv2D(1, 1)(L.Add()([first, second])))


def two_outputs():
    image = keras.Input((32, 32, 3))
    return keras.Model(image, [L.Conv2D(1, 1)(image), L.Conv2D(1, 1)(image)])


def of_volumes():
    image = keras.Input((8, 32, 32, 3))
    return keras.Model(image, L.Conv3D(1, 1)(image))


def of_signals():
    signal = keras.Input((32, 3))
    return keras.Model(signal, L.Conv1D(1, 1)(signal))


def smaller_answer():
    image = keras.Input((32, 32, 3))
    return keras.Model(image, L.Conv2D(1, 1, strides=2)(image))


ODD = [classifier, two_inputs, two_outputs, of_volumes, of_signals, smaller_answer]


@pytest.mark.parametrize("build", ODD)
def test_a_network_that_does_not_segment_is_refused(build, tmp_path):
    build().save(tmp_path / "odd.keras")
    with pytest.raises(InputError, match=r"odd\.keras does not go from pictures .* to pictures of the same size"):
        Predictor(tmp_path / "odd.keras")


@pytest.mark.parametrize("build", [classifier, two_inputs])
@pytest.mark.parametrize(("ending", "format"), [(".onnx", "onnx"), (".tflite", "litert")])
def test_so_is_an_exported_one(build, ending, format, tmp_path):
    path = tmp_path / f"odd{ending}"
    model = build()
    if format == "onnx":
        model(
            [np.zeros((1, 32, 32, 3), "float32")] * len(model.inputs)
            if len(model.inputs) > 1
            else np.zeros((1, 32, 32, 3), "float32")
        )
        model.export(path, format="onnx", verbose=False)
    else:
        import tensorflow as tf

        path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    with pytest.raises(InputError, match=rf"odd\{ending} does not go from pictures"):
        Predictor(path)


def test_a_file_that_is_a_layer_and_no_network_is_refused(tmp_path):
    keras.Sequential().save(tmp_path / "empty.keras")
    with pytest.raises(InputError, match=r"empty\.keras"):
        Predictor(tmp_path / "empty.keras")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"preprocessing": {"size": 64}}, r"run\.json: .*takes slices of 32 pixels. Received: 64"),
        ({"preprocessing": {"side": 32}}, r"run\.json is damaged"),
        ({"preprocessing": {"size": "32"}}, r"run\.json"),
        ({"preprocessing": [32]}, r"run\.json: preprocessing is a JSON dict"),
        ({"channels": ["FLAIR"]}, r"run\.json: .*takes 3 channels. Received 1 names: FLAIR"),
        ({"channels": "T1"}, r"run\.json: channels is a JSON list"),
        ({"context": 1}, r"run\.json: .*takes 3 channels"),
        ({"context": True}, r"run\.json: context is a JSON int"),
        ({"target": "tumor"}, r"run\.json: target is one of"),
        ({"target": "regions"}, r"run\.json: .*answers in 1 channels"),
    ],
)
def test_an_altered_run_json_is_named_with_a_cure(own_run, change, words):
    own_run.info.write_text(json.dumps(own_run.read_info() | change))
    with pytest.raises(InputError, match=words + r".*Restore it") as said:
        Predictor(own_run.path)
    assert str(own_run.info) in str(said.value)


def test_exports_of_one_name_keep_a_json_each(own_run, tmp_path):
    onnx = export(own_run.path, tmp_path / "lgg.onnx")
    litert = export(own_run.path, tmp_path / "lgg.tflite", format="litert")
    assert (onnx.information.name, litert.information.name) == ("lgg.onnx.json", "lgg.tflite.json")
    for done, format in ((onnx, "onnx"), (litert, "litert")):
        assert json.loads(done.information.read_text())["format"] == format
        assert Predictor(done.path).spec == Predictor(own_run.path).spec


def test_an_export_into_the_run_leaves_the_run_alone(own_run):
    before = {path.name: path.read_bytes() for path in own_run.path.iterdir() if path.is_file()}
    export(own_run.path, own_run.path / "run.onnx")
    after = {path.name: path.read_bytes() for path in own_run.path.iterdir() if path.is_file()}
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"run.onnx", "run.onnx.json"}
    assert Predictor(own_run.path / "run.onnx").spec.preprocessing == Preprocessing(32)


def test_a_json_that_no_export_wrote_is_not_replaced(own_run, tmp_path):
    (tmp_path / "lgg.onnx.json").write_text('{"mine": 1}')
    with pytest.raises(InputError, match=r"lgg\.onnx\.json exists already and is none of an export"):
        export(own_run.path, tmp_path / "lgg.onnx")
    assert (tmp_path / "lgg.onnx.json").read_text() == '{"mine": 1}'
    assert not (tmp_path / "lgg.onnx").exists()


def test_a_size_that_the_network_cannot_take_is_words(tmp_path):
    from brainseg_keras import res_unet

    predictor = Predictor(res_unet((None, None, 3), filters=4, depth=2)).adapted(preprocessing=Preprocessing(30))
    with pytest.raises(InputError, match=r"res_unet cannot take slices of 30 x 30 pixels and 3 channels"):
        predictor.probabilities(np.random.default_rng(0).random((2, 40, 40, 3)))
