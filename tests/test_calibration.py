"""Calibration: what it does to probabilities, applied once wherever a network answers, in exported files too."""

import json
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from commands import here
from hypothesis import given, settings
from hypothesis import strategies as st
from scans import CHANNELS
from scipy.special import expit, logit, softmax
from test_models import narrow

from brainseg_keras import build_unet
from brainseg_keras.calibration import Calibration
from brainseg_keras.data.inputs.targets import TUMOUR, Target
from brainseg_keras.data.volumes import Volume
from brainseg_keras.errors import InputError
from brainseg_keras.export import export
from brainseg_keras.inference import Predictor
from brainseg_keras.models.folding import fold_batch_norm, scale_logits
from brainseg_keras.postprocessing import Postprocessing, Tuning
from brainseg_keras.reports import calibrate, evaluate, tune
from brainseg_keras.spec import NetworkSpec

temperatures, biases = st.floats(0.05, 10), st.floats(-5, 5)
calibrations = st.builds(Calibration, temperatures, biases)


@settings(deadline=None)
@given(temperatures, biases, st.integers(0, 2**31))
def test_a_sigmoid_is_calibrated_as_its_logit(temperature, bias, seed):
    logits = np.random.default_rng(seed).normal(0, 4, (2, 3, 4, 3))
    found = Calibration(temperature, bias).apply(expit(logits), exclusive=False)
    np.testing.assert_allclose(found, expit(logits / temperature + bias), rtol=1e-6, atol=1e-12)


@settings(deadline=None)
@given(temperatures, biases, st.integers(0, 2**31))
def test_a_softmax_is_calibrated_as_its_logits(temperature, bias, seed):
    logits = np.random.default_rng(seed).normal(0, 4, (2, 3, 4))
    shifted = logits / temperature - np.array([bias, 0, 0, 0])
    found = Calibration(temperature, bias).apply(softmax(logits, axis=-1), exclusive=True)
    np.testing.assert_allclose(found, softmax(shifted, axis=-1), rtol=1e-6, atol=1e-12)


def test_two_exclusive_classes_are_one_sigmoid():
    chance = np.linspace(0.01, 0.99, 50)
    both = Calibration(0.4, 0.7).apply(np.stack([1 - chance, chance], axis=-1), exclusive=True)
    np.testing.assert_allclose(both[:, 1], Calibration(0.4, 0.7).apply(chance, exclusive=False))


def test_certain_answers_stay_and_the_type_is_the_networks():
    certain = np.array([[0, 1]], np.float32)
    for temperature, bias in ((0.01, 50), (100, -50)):
        for exclusive in (False, True):
            found = Calibration(temperature, bias).apply(certain, exclusive=exclusive)
            assert found.dtype == np.float32 and np.isfinite(found).all()
            assert exclusive or found.tolist() == [[0, 1]]
    assert certain.tolist() == [[0, 1]]
    for nothing in (Calibration(), Calibration(0.5, 1.0, in_network=True)):
        assert nothing.apply(certain, exclusive=False) is certain


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": 0}, {"temperature": -1.0}, {"bias": float("nan")}, {"in_network": 1}, {"before": 2.0}],
)
def test_what_calibrates_nothing_is_refused(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(InputError, match=rf"{name} is .*Received: {value!r}"):
        Calibration(**wrong)


class Leaning:
    """Patients of whom a known share of the voxels of each gray value is tumour."""

    classes, channels = ("tumour",), ("FLAIR",)

    def __init__(self, splits, temperature=0.5, bias=-1.0):
        self.table = pd.DataFrame({"patient": list(splits), "split": list(splits.values())})
        self._made_by = Calibration(temperature, bias)

    def volume(self, patient):
        rng = np.random.default_rng(sum(map(ord, patient)))
        images = rng.uniform(0, 4, (4, 32, 32, 1)).astype(np.float32)
        share = self._made_by.apply(expit(2 * images[..., 0] - 5), exclusive=False)
        masks = (rng.random(share.shape) < share).astype(np.uint8)
        return Volume(patient, images, masks, (1, 2, 3, 4), np.array([[0.0, 1.0]]))


def model_of_logits(size=32):
    """Twice the gray value, less 5."""
    image = keras.Input((size, size, 1))
    model = keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid", name="same")(image))
    model.get_layer("same").set_weights([np.full((1, 1, 1, 1), 2.0), np.array([-5.0])])
    return model


@pytest.fixture
def run(tmp_path):
    """A run folder of that network, which says whom it has met."""
    model_of_logits().save(tmp_path / "best.keras")
    met = [{"name": "T", "role": "train"}, {"name": "K", "role": "test"}]
    info = {"channels": ["FLAIR"], "roles": {"complete": True, "patients": met}}
    (tmp_path / "run.json").write_text(json.dumps(info))
    return tmp_path


VALIDATION = {f"V{number}": "val" for number in range(8)}


def test_what_made_the_patients_is_fitted_kept_and_used(run):
    source = Leaning(VALIDATION | {"U": "test"})
    before = evaluate(Predictor(run), source).report
    fitted = calibrate(Predictor(run), source)
    assert fitted.calibration.temperature == pytest.approx(0.5, rel=0.03)
    assert fitted.calibration.bias == pytest.approx(-1, abs=0.05)
    assert fitted.calibration.after < 0.01 < 0.05 < fitted.calibration.before
    assert fitted.record["log_loss_after"] < fitted.record["log_loss_before"]
    content = json.loads((run / "calibration.json").read_text())
    assert content == fitted.record and content["warning"] is None and content["n"] == 8
    again = Predictor(run)
    assert again.spec.calibration == fitted.calibration
    report = evaluate(again, source).report
    assert before["postprocessing"]["calibration"] == "none" and before["expected_calibration_error"] > 0.05
    said = report["postprocessing"]["calibration"]
    assert said.startswith("temperature 0.") and "fitted on validation patients, n = 8" in said
    assert report["expected_calibration_error"] < 0.02
    # Fitted once more on what it is without it, not on what it has become.
    assert calibrate(again, source).calibration == fitted.calibration
    # They have met the network, and the report of their scores says as what.
    assert again.spec.roles.role("V0") == "tuned"
    with pytest.raises(InputError, match="8 chose the postprocessing or calibration of"):
        evaluate(again, Leaning(dict.fromkeys(VALIDATION, "test")))


def test_those_who_trained_or_test_are_refused(run):
    with pytest.raises(InputError, match=r"1 trained .* \(T\), and cannot choose its calibration\. Use the data"):
        calibrate(Predictor(run), Leaning({"T": "train", "V": "val"}), split="all")
    with pytest.raises(InputError, match=r"1 were kept apart to test .* \(K\)"):
        calibrate(Predictor(run), Leaning({"K": "test"}), split="test")
    for bias, words in ((-40, "hold no tumour"), (40, "hold nothing but tumour")):
        with pytest.raises(InputError, match=words):
            calibrate(Predictor(run), Leaning(VALIDATION, bias=bias))
    assert not (run / "calibration.json").exists()
    few = calibrate(Predictor(run), Leaning({"V0": "val"}))
    assert "Fitted on 1 patient:" in few.record["warning"]


def test_a_threshold_chosen_before_marks_the_same_voxels_after(run):
    source = Leaning(VALIDATION)
    tune(Predictor(run), source)
    before = Predictor(run)
    calibrate(before, source)
    after = Predictor(run)
    chosen = before.spec.postprocessing.threshold
    assert logit(after.spec.postprocessing.threshold) == pytest.approx(
        logit(chosen) / after.spec.calibration.temperature + after.spec.calibration.bias
    )
    volume = source.volume("V0")
    answers = [p.masks(p.probabilities(volume.images, volume.intensity)) for p in (before, after)]
    assert answers[0].any() and np.array_equal(*answers)
    # A choice that is made now stands on these probabilities, and stays as it is.
    retuned = tune(after, source)
    assert Predictor(run).spec.postprocessing == retuned.postprocessing
    assert Predictor(run).spec.tuning.calibration == Calibration(*_two(after.spec.calibration))
    (run / "calibration.json").unlink()
    back = Predictor(run).spec.postprocessing.threshold
    assert after.spec.calibration.map_threshold(back, Calibration()) == pytest.approx(retuned.postprocessing.threshold)


def _two(calibration):
    return calibration.temperature, calibration.bias


@settings(deadline=None)
@given(calibrations, calibrations, st.floats(0.01, 0.99))
def test_a_choice_follows_the_probabilities(first, second, threshold):
    spec = NetworkSpec(("FLAIR",)).with_calibration(first)
    tuning = Tuning({"A": ()}, 3, None, *_two(first))
    chosen = spec.with_choice(Postprocessing(threshold), tuning)
    assert chosen.postprocessing.threshold == threshold
    moved = chosen.with_calibration(second)
    assert NetworkSpec.from_info(json.loads(json.dumps(moved.to_info()))) == moved
    if 0.001 < moved.postprocessing.threshold < 0.999:
        assert moved.with_calibration(first).postprocessing.threshold == pytest.approx(threshold, rel=1e-6)
    # What nobody chose is not moved: 0.5 of whatever is believed.
    assert spec.with_calibration(second).postprocessing.threshold == 0.5


def test_it_comes_before_mirror_images_are_averaged_and_slices_resized():
    calibration = Calibration(0.3, -1.0)
    model = narrow("unet", input_shape=(32, 32, 1))
    plain = Predictor(model).adapted(channels=("FLAIR",))
    calibrated = plain.adapted(calibration=calibration)
    images = np.random.default_rng(0).uniform(0, 2, (3, 40, 50, 1)).astype(np.float32)
    runner = plain._runner
    volume = runner.prepare(images)
    ways = [
        runner.restore(calibration.apply(runner.run(volume, mirrored=mirrored), exclusive=False), (40, 50))
        for mirrored in (False, True)
    ]
    np.testing.assert_allclose(calibrated.probabilities(images, flip=True), (ways[0] + ways[1]) / 2, atol=1e-6)
    np.testing.assert_allclose(np.stack(calibrated.both_ways(images)), np.stack(ways), atol=1e-6)
    assert np.abs(calibrated.probabilities(images) - plain.probabilities(images)).max() > 0.05


def network(classes, calibration=Calibration(), **options):
    target = TUMOUR if classes == 1 else Target("regions" if "classifier_activation" in options else "classes")
    model = build_unet((32, 32, 3), classes, filters=4, depth=1, **options)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.beta.assign(np.linspace(-0.5, 0.5, layer.beta.shape[0]))
    return Predictor(model).adapted(channels=CHANNELS, target=target, calibration=calibration)


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("head_norm", [False, True])
def test_logits_are_scaled_in_the_last_convolution(classes, head_norm):
    model = fold_batch_norm(network(classes, head_norm=head_norm).model)
    images = np.random.default_rng(1).uniform(0, 2, (3, 32, 32, 3)).astype(np.float32)
    inner = keras.Model(model.input, model.get_layer("mask").input)
    before, shift = np.asarray(inner(images)), np.arange(classes) - 0.5
    assert scale_logits(model, 3.0, shift)
    np.testing.assert_allclose(np.asarray(inner(images)), 3 * before + shift, atol=1e-4)


def test_logits_that_another_layer_sees_are_left():
    image = keras.Input((8, 8, 1))
    logits = keras.layers.Conv2D(1, 1)(image)
    shared = keras.Model(image, keras.layers.Activation("sigmoid")(logits + keras.layers.Activation("relu")(logits)))
    unknown = keras.Model(image, keras.layers.Activation("tanh")(logits))
    twice = keras.Model(image, keras.layers.Activation("sigmoid")(keras.layers.Activation("relu")(logits)))
    without = keras.Model(image, keras.layers.Conv2D(1, 1, use_bias=False, activation="sigmoid")(image))
    for model in (shared, unknown, twice, without):
        before = model.get_weights()
        assert not scale_logits(model, 2.0, [1.0])
        assert all(map(np.array_equal, model.get_weights(), before))


@pytest.mark.parametrize(
    ("format", "file", "classes", "temperature", "options"),
    [
        ("onnx", "model.onnx", 4, 0.5, {}),
        ("litert", "model.tflite", 3, 0.25, {"classifier_activation": "sigmoid"}),
        ("savedmodel", "saved", 1, 8.0, {"head_norm": True}),
    ],
)
def test_an_exported_file_calibrates_by_itself_and_once(format, file, classes, temperature, options, tmp_path):
    calibration = Calibration(temperature, 0.6, {"A": ("0123456789abcdef",)})
    predictor = network(classes, calibration, **options)
    done = export(predictor, tmp_path / file, format=format)
    content = json.loads(done.information.read_text())["calibration"]
    assert content["in_network"] and content["temperature"] == temperature and content["patients"] == ["A"]
    assert done.difference < 1e-4
    if format == "savedmodel":
        return
    images = np.random.default_rng(1).uniform(0, 2, (3, 32, 32, 3)).astype(np.float32)
    raw = predictor.adapted(calibration=Calibration()).probabilities(images)
    expected = calibration.apply(raw, exclusive=predictor.spec.target.exclusive)
    assert np.abs(raw - expected).max() > 0.05
    twin = Predictor(done.path)
    assert twin.spec.calibration == replace(calibration, in_network=True)
    np.testing.assert_allclose(twin.probabilities(images), expected, atol=1e-4)
    with pytest.raises(InputError, match=r"has its calibration in its weights\. Calibrate the run"):
        calibrate(twin, None)


def test_a_sigmoid_that_float32_rounds_to_1_may_be_exported(tmp_path):
    """Made less sure, its graph knows what the probability no longer says."""
    model = model_of_logits()
    model.get_layer("same").set_weights([np.full((1, 1, 1, 1), 20.0), np.array([0.0])])
    done = export(Predictor(model).adapted(calibration=Calibration(4.0)), tmp_path / "model.onnx")
    assert done.difference < 1e-4


def test_what_does_not_fit_into_the_graph_stands_in_the_json_and_is_applied(tmp_path, caplog):
    image = keras.Input((32, 32, 1))
    answer = keras.layers.Rescaling(0.2)(keras.layers.Conv2D(1, 1, activation="sigmoid")(image))
    predictor = Predictor(keras.Model(image, answer)).adapted(calibration=Calibration(0.5, 1.0))
    done = export(predictor, tmp_path / "model.onnx")
    assert "its calibration stands in the JSON alone" in caplog.text
    twin = Predictor(done.path)
    assert twin.spec.calibration == predictor.spec.calibration
    images = np.random.default_rng(1).uniform(0, 2, (3, 32, 32, 1)).astype(np.float32)
    np.testing.assert_allclose(twin.probabilities(images), predictor.probabilities(images), atol=1e-5)


def test_the_command_writes_says_and_refuses(own_run, store, tmp_path):
    words = ("calibrate", "--model", str(own_run.path), "--data", str(store))
    code, out, err = here(*words)
    assert code == 0, err
    assert out.startswith("temperature ") and "validation patients, n = 1" in out and "Warning: Fitted on 1" in err
    found = Predictor(own_run.path).spec.calibration
    assert found.changes and found.in_network is False
    # What training validates by is the network's own answer.
    assert own_run.read_record().spec.calibration == Calibration()
    code, out, err = here(*words, "--json", "-o", str(tmp_path / "elsewhere"))
    assert json.loads(out) == json.loads((tmp_path / "elsewhere" / "calibration.json").read_text())
    code, _, err = here(*words, "--split", "train")
    assert code == 2 and "cannot choose its calibration" in err


@pytest.mark.parametrize("text", ["no json", "[]", '{"temperature": 0, "bias": 0}', '{"bias": 0}'])
def test_a_damaged_calibration_is_named(text, run):
    (run / "calibration.json").write_text(text)
    with pytest.raises(InputError, match=r"calibration\.json.*Restore it, or calibrate again"):
        Predictor(run)


def test_it_travels_with_the_network_and_says_where_it_is_from():
    spec = NetworkSpec(
        ("FLAIR",), calibration=Calibration(0.25, 0.5, {"A": ("0123456789abcdef",)}, "folds", 0.15, 0.01)
    )
    content = json.loads(json.dumps(spec.to_info()))
    again = NetworkSpec.from_info(content)
    assert again.calibration == spec.calibration and again.roles.role("A", ("0123456789abcdef",)) != "unseen"
    assert str(again.calibration) == (
        "temperature 0.25, bias +0.5; fitted on folds, n = 1, whose expected calibration error went from 0.150 to 0.010"
    )
    assert "calibration" not in NetworkSpec(("FLAIR",)).to_info()
