"""Engines: each marks what Keras marks, what is converted or measured is kept, and what cannot be is refused."""

import hashlib
import json
from functools import cache

import keras
import numpy as np
import onnxruntime
import pytest
from commands import here
from PIL import Image
from scans import brightness_model, slice_of

from brainseg_keras import load_pretrained
from brainseg_keras.errors import InputError, TrainingError
from brainseg_keras.evaluation import confusion, dice
from brainseg_keras.inference import Predictor
from brainseg_keras.inference.runner import Runner
from brainseg_keras.models import shipped
from brainseg_keras.spec import NetworkSpec

INFO = shipped.pretrained_info("lgg")
ONNX = shipped.shipped_file("lgg", shipped.ONNX)
READ_ONNX = ("onnx", "openvino")


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BRAINSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@cache
def keras_lgg():
    return Predictor("lgg", engine="keras")


# ---- the shipped network in two files


def test_the_two_shipped_files_name_each_other():
    content = ONNX.read_bytes()
    assert hashlib.sha256(content).hexdigest() == INFO["onnx_sha256"]
    assert len(content) <= 10 * 2**20
    said = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).get_modelmeta().custom_metadata_map
    assert said["weights_sha256"] == INFO["sha256"]
    assert said["license"] == INFO["license"] == "CC BY-NC-SA 4.0"
    assert NetworkSpec.from_info(json.loads(said["brainseg_keras"])) == NetworkSpec.from_info(INFO)


@pytest.mark.slow
def test_the_shipped_onnx_file_is_the_keras_network():
    network, model = Predictor("lgg", engine="onnx")._runner._network, load_pretrained("lgg")
    for count in (1, 3):
        batch = np.random.default_rng(count).uniform(0, 3, (count, *model.input_shape[1:])).astype("float32")
        np.testing.assert_allclose(network(batch), np.asarray(model(batch, training=False)), atol=1e-5)


def test_a_shipped_file_that_was_replaced_is_refused(monkeypatch):
    monkeypatch.setattr(shipped, "pretrained_info", lambda name: INFO | {"onnx_sha256": "0" * 64})
    with pytest.raises(InputError, match=r"lgg\.onnx are damaged .*Install the package again"):
        Predictor("lgg", engine="onnx")


def test_the_file_alone_says_what_the_name_says():
    named, file = Predictor("lgg", engine="onnx"), Predictor(ONNX, engine="onnx")
    assert named.spec == file.spec
    assert named.spec.license == "CC BY-NC-SA 4.0"


# ---- the same masks


@pytest.mark.slow
@pytest.mark.parametrize("engine", READ_ONNX)
def test_engines_mark_what_keras_marks(engine, phantom):
    for patient in sorted(path for path in phantom.iterdir() if path.is_dir())[:3]:
        expected, found = keras_lgg()(patient), Predictor("lgg", engine=engine)(patient)
        assert expected.any()
        assert dice(confusion(expected > 0, found > 0)) >= 0.999


@pytest.mark.slow
@pytest.mark.parametrize("engine", READ_ONNX)
def test_engines_mark_what_keras_marks_in_real_slices(engine, lgg):
    other = Predictor("lgg", engine=engine)
    for name in ("TCGA_CS_4941_19960909", "TCGA_DU_5849_19950405"):
        folder = next(lgg.rglob(name))
        expected, found = keras_lgg()(folder), other(folder)
        assert expected.any()
        assert dice(confusion(expected > 0, found > 0)) >= 0.999


def test_attention_maps_come_from_keras_whatever_marks(own_run, own_cache):
    images = np.random.default_rng(0).random((2, 40, 40, 3))
    by_onnx, by_keras = Predictor(own_run.path, engine="onnx"), Predictor(own_run.path)
    assert (by_onnx.engine, by_keras.engine) == ("onnx", "keras")
    expected = by_keras.attention(images)
    for name, maps in by_onnx.attention(images).items():
        np.testing.assert_array_equal(maps, expected[name])


# ---- what is kept


def test_a_run_is_converted_once(own_run, own_cache):
    image = np.random.default_rng(0).random((3, 40, 40, 3))
    expected = Predictor(own_run.path).probabilities(image)
    first = Predictor(own_run.path, engine="onnx")
    (file,) = (own_cache / "networks").glob("*.onnx")
    assert file.stem == hashlib.sha256(own_run.best.read_bytes()).hexdigest()
    written = file.read_bytes()
    again = Predictor(own_run.path, engine="onnx")
    # Names within the file differ from one conversion to the next.
    assert file.read_bytes() == written
    for predictor in (first, again):
        assert predictor.spec == Predictor(own_run.path).spec and predictor.folder == own_run.path
        np.testing.assert_allclose(predictor.probabilities(image), expected, atol=1e-5)


@pytest.mark.parametrize("damage", ["network", "record"])
def test_a_damaged_conversion_is_made_again(damage, own_run, own_cache):
    image = np.random.default_rng(0).random((1, 40, 40, 3))
    expected = Predictor(own_run.path, engine="onnx").probabilities(image)
    (file,) = (own_cache / "networks").glob("*.onnx")
    whole = file.read_bytes()
    if damage == "network":
        file.write_bytes(whole[: len(whole) // 2])
    else:
        file.with_suffix(".json").write_text("[]")
    found = Predictor(own_run.path, engine="onnx").probabilities(image)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert json.loads(file.with_suffix(".json").read_text())["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_auto_measures_once_and_keeps_the_answer(own_run, own_cache):
    chosen = Predictor(own_run.path, engine="auto").engine
    (answer,) = (own_cache / "engines").glob("*.json")
    content = json.loads(answer.read_text())
    assert content["engine"] == chosen
    assert {"keras", "onnx"} <= set(content["seconds"])
    for other in ("keras", "onnx"):
        answer.write_text(json.dumps({"engine": other}))
        assert Predictor(own_run.path, engine="auto").engine == other
        assert json.loads(answer.read_text()) == {"engine": other}


@pytest.mark.parametrize("damage", ["", "[1]", '{"engine": "abacus"}', '{"engine": []}', "\0"])
def test_a_damaged_answer_is_measured_again(damage, own_run, own_cache):
    Predictor(own_run.path, engine="auto")
    (answer,) = (own_cache / "engines").glob("*.json")
    answer.write_text(damage)
    chosen = Predictor(own_run.path, engine="auto").engine
    assert json.loads(answer.read_text())["engine"] == chosen


# ---- batches


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(("slices", "sizes"), [(1, [2]), (3, [8]), (8, [16]), (9, [16, 16]), (20, [16, 4, 16, 4])])
def test_a_scan_and_its_mirror_image_share_a_batch_where_there_is_room(slices, sizes, padded):
    asked = []

    def network(batch):
        asked.append(len(batch))
        # Looks to the left: a mirror image has another answer.
        return np.roll(batch[..., :1], 1, axis=2) / 4

    images = np.random.default_rng(0).random((slices, 40, 50, 1))
    runner = Runner(network, NetworkSpec(("FLAIR",)), padded=padded)
    plain, turned = runner.both_ways(images)
    exact = [2 * slices] if len(sizes) == 1 else [min(slices, 16), slices - 16] * 2 if slices > 16 else [slices] * 2
    assert asked == (sizes if padded else exact)
    prepared = runner.prepare(images)
    for mirrored, answer in ((False, plain), (True, turned)):
        expected = runner.restore(runner.run(prepared, mirrored=mirrored), prepared.shape)
        np.testing.assert_array_equal(answer, expected)
    assert np.abs(plain - turned).max() > 0.01


# ---- what cannot be


def test_an_engine_that_there_is_none_of_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"engine is one of auto, keras, onnx, openvino\. Received: 'onx'.*'onnx'\?"):
        Predictor("lgg", engine="onx")
    Image.fromarray(slice_of((40, 40))).save(tmp_path / "slice.png")
    code, _, said = here("predict", str(tmp_path / "slice.png"), "-o", str(tmp_path / "out"), "--engine", "tenserflow")
    assert code == 2 and "--engine is one of auto, keras, onnx, openvino. Received: 'tenserflow'" in said


def test_an_engine_that_does_not_take_the_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"lgg\.onnx cannot be run by keras, but by onnx, openvino\. Leave --engine"):
        Predictor(ONNX, engine="keras")
    litert = tmp_path / "run.tflite"
    litert.touch()
    for engine in ("keras", "onnx"):
        with pytest.raises(InputError, match=rf"run\.tflite cannot be run by {engine}, but by litert"):
            Predictor(litert, engine=engine)
    with pytest.raises(InputError, match="in memory runs on Keras"):
        Predictor(brightness_model(), engine="onnx")


@keras.saving.register_keras_serializable("tests")
class Drifting(keras.layers.Layer):
    """Adds something from the second copy on: the first is the one that is read from a file, the second is folded."""

    def __init__(self, copies=0, **options):
        super().__init__(**options)
        self.copies = copies

    def call(self, x):
        return x + 0.01 * (self.copies > 1)

    def get_config(self):
        return super().get_config() | {"copies": self.copies + 1}


def test_a_network_that_becomes_another_as_onnx_is_left_to_keras(own_cache, tmp_path):
    image = keras.Input((32, 32, 3))
    answer = keras.layers.Conv2D(1, 1, activation="sigmoid")(image)
    keras.Model(image, Drifting()(answer)).save(tmp_path / "drifting.keras")
    with pytest.raises(TrainingError, match=r"differs from Keras by 0\.01, more than 0\.0001\. Use --engine keras"):
        Predictor(tmp_path / "drifting.keras", engine="onnx")
    assert list((own_cache / "networks").glob("*.onnx")) == []
    assert Predictor(tmp_path / "drifting.keras", engine="auto").engine == "keras"
