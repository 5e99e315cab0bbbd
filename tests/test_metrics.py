"""Streaming metrics: agreement with evaluation.scores, the empty rule, exact counting, classes, weights, config."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import scores
from brainseg_keras.metrics import METRICS, DiceCoefficient, PixelAccuracy, PixelRecall
from brainseg_keras.metrics.together import SegmentationScores

NAMES = list(METRICS)


def sample(seed=0, shape=(3, 4, 5, 1)):
    rng = np.random.default_rng(seed)
    return (rng.random(shape) > 0.6).astype("uint8"), rng.random(shape).astype("float32")


def score(metric, *batches):
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


@pytest.mark.parametrize(
    ("name", "expected"),
    [("dice", 4 / 7), ("iou", 2 / 5), ("precision", 2 / 4), ("recall", 2 / 3), ("pixel_accuracy", 5 / 8)],
)
def test_worked_numbers(name, expected):
    y = np.array([[1, 1, 0, 0], [1, 0, 0, 0]])[None]
    p = np.array([[0.9, 0.1, 0.8, 0.6], [0.7, 0.2, 0.5, 0.0]])[None, ..., None]  # 0.5 itself is no tumour
    assert METRICS[name]().name == name
    assert score(METRICS[name](), (y, p)) == pytest.approx(expected)


@pytest.mark.parametrize(("share", "counted"), [(0.0, 0), (0.5, 0), (0.51, 1), (1.0, 1)])
def test_a_pixel_of_soft_truth_is_tumour_above_a_half(share, counted):
    metric = METRICS["recall"]()
    metric.update_state(np.full((1, 2, 2, 1), share), np.ones((1, 2, 2, 1)))
    tp, fp, *_ = metric.low.numpy()[:, 0]
    assert (tp, fp) == (4 * counted, 4 * (1 - counted))


def test_a_pixel_of_soft_classes_is_that_of_the_largest_share():
    truth = np.array([[[[0.4, 0.35, 0.25], [0.3, 0.3, 0.4]]]])
    answer = np.array([[[[1, 0, 0], [0, 0, 1]]]])
    assert score(METRICS["pixel_accuracy"](num_classes=3), (truth, answer)) == 1


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), threshold=st.sampled_from([0.1, 0.5, 0.9, 1.0]), tumour=st.booleans())
def test_agrees_with_scores(name, seed, threshold, tumour):
    y, p = sample(seed)
    y = y * tumour
    parts = [(y[:1], p[:1]), (y[1:], p[1:])]
    expected = getattr(scores, name)(scores.confusion(y, p > threshold))
    assert score(METRICS[name](threshold=threshold), *parts) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_empty_rule(name):
    nothing, all_of_it = np.zeros((2, 4, 4, 1), "float32"), np.ones((2, 4, 4, 1), "float32")
    assert score(METRICS[name](), (nothing, nothing)) == 1
    assert score(METRICS[name](), (all_of_it, all_of_it)) == 1
    assert score(METRICS[name](), (nothing, all_of_it)) == 0
    assert score(METRICS[name](), (all_of_it, nothing)) == 0
    assert score(METRICS[name]()) == 1


def test_reset():
    metric = DiceCoefficient()
    y, p = sample()
    first = score(metric, (y, p))
    score(metric, (1 - y, p))
    metric.reset_state()
    assert score(metric, (y, p)) == first


def test_counts_do_not_stop_at_two_to_the_24():
    # 80 batches of 2**19 pixels, one tumour pixel missed in each: a float32 count of tn stops at 2**24.
    y, p = np.zeros((2, 512, 512), "uint8"), np.zeros((2, 512, 512, 1), "float16")
    y[0, 0, 0] = 1
    metric = PixelAccuracy()
    for _ in range(80):
        metric.update_state(y, p)
    low, high = (keras.ops.convert_to_numpy(v).astype("int64")[:, 0] for v in (metric.low, metric.high))
    assert (high * 65536 + low).tolist() == [0, 0, 80, 80 * 2**19 - 80]
    assert (low < 65536).all()  # carried over, else it would be the next to stop
    # And a count that is already large goes on counting single pixels.
    metric.high.assign(keras.ops.full((4, 1), 2.0**20))
    metric.update_state(y, p)
    assert float(metric.low[2, 0]) == 81


def test_one_image_beyond_two_to_the_24():
    y, p = np.zeros((1, 4100, 4100), "uint8"), np.zeros((1, 4100, 4100, 1), "float16")
    y[0, 0, 0] = 1
    metric = DiceCoefficient()
    metric.update_state(y, p)
    low, high = (keras.ops.convert_to_numpy(v).astype("int64")[:, 0] for v in (metric.low, metric.high))
    assert (high * 65536 + low).tolist() == [0, 0, 1, 4100 * 4100 - 1]
    assert np.ravel(metric.counts()).tolist() == pytest.approx([0, 0, 1, 4100 * 4100 - 1], rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_classes(name):
    rng = np.random.default_rng(1)
    labels, p = rng.integers(0, 3, (2, 6, 5)), rng.random((2, 6, 5, 3)).astype("float32")
    answer = p.argmax(-1)
    each = [getattr(scores, name)(scores.confusion(labels == c, answer == c)) for c in range(3)]
    for y in (labels, labels[..., None].astype("uint8"), np.eye(3)[labels]):
        for c in range(3):
            assert score(METRICS[name](num_classes=3, class_id=c), (y, p)) == pytest.approx(each[c], rel=1e-6)
        mean = (labels == answer).mean() if name == "pixel_accuracy" else np.mean(each[1:])
        assert score(METRICS[name](num_classes=3), (y, p)) == pytest.approx(mean, rel=1e-6)
    if name != "pixel_accuracy":
        with_background = score(METRICS[name](num_classes=3, include_background=True), (labels, p))
        assert with_background == pytest.approx(np.mean(each), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_weights_repeat_pixels(name):
    y, p = sample(3, (2, 4, 5, 1))
    expected = score(METRICS[name](), (y[[0, 0, 0, 1]], p[[0, 0, 0, 1]]))
    assert score(METRICS[name](), (y, p, np.array([3.0, 1.0]))) == pytest.approx(expected)
    for shape in ((2, 1, 1), (2, 1, 1, 1), (2, 4, 5), (2, 4, 5, 1)):
        weights = np.ones(shape)
        weights[0] = 3
        assert score(METRICS[name](), (y, p, weights)) == pytest.approx(expected)
    half = np.zeros((2, 4, 5))
    half[:, :2] = 1
    assert score(METRICS[name](), (y, p, half)) == pytest.approx(score(METRICS[name](), (y[:, :2], p[:, :2])))


def test_weighted_counts_carry():
    y, p = np.ones((1, 300, 300, 1)), np.ones((1, 300, 300, 1))
    metric = PixelRecall()
    metric.update_state(y, p, np.array([2.0]))
    assert [float(v[0, 0]) for v in (metric.low, metric.high)] == [180000 - 2 * 65536, 2]


@pytest.mark.parametrize("weights", [(3,), (2, 4), (2, 4, 6), (2, 4, 5, 2)])
def test_wrong_weights_are_refused(weights):
    with pytest.raises(InputError, match="sample_weight must be"):
        score(DiceCoefficient(), (*sample(4, (2, 4, 5, 1)), np.ones(weights)))


@pytest.mark.parametrize(
    ("truth", "answer", "message"),
    [
        ((2, 8, 9, 1), (2, 8, 8, 1), "Resize the mask"),
        ((8, 8), (2, 8, 8, 1), "Resize the mask"),
        ((2, 8, 8), (2, 8, 8), "Resize the mask"),
        ((2, 8, 8, 2), (2, 8, 8, 1), "Resize the mask"),
        ((2, 8, 8), (2, 8, 8, 4), r"DiceCoefficient\(num_classes=4\)"),
    ],
)
def test_wrong_shapes_are_refused(truth, answer, message):
    with pytest.raises(InputError, match=message):
        score(DiceCoefficient(), (np.zeros(truth), np.zeros(answer)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "threshold must be between 0 and 1"),
        ({"num_classes": 0}, "num_classes must be a whole number"),
        ({"num_classes": 3, "class_id": 3}, r"class_id must be None or 0\.\.2"),
    ],
)
def test_wrong_options_are_refused(options, message):
    for cls in METRICS.values():
        with pytest.raises(InputError, match=message):
            cls(**options)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision(name):
    y, p = sample(5, (2, 64, 64, 1))
    p = p.astype("float16")
    expected = getattr(scores, name)(scores.confusion(y, p.astype("float32") > 0.5))
    assert score(METRICS[name](), (y, p)) == pytest.approx(expected, rel=1e-6)
    metric = METRICS[name](dtype="float16")
    assert score(metric, (y, p)) == pytest.approx(expected, rel=1e-3)
    assert metric.low.dtype == "float32"


@pytest.mark.parametrize("name", NAMES)
def test_config_round_trip(name):
    options = {
        "threshold": 0.3,
        "num_classes": 4,
        "class_id": 2,
        "exclusive": False,
        "name": "mine",
        "dtype": "float16",
    }
    if name != "pixel_accuracy":
        options["include_background"] = True
    metric = METRICS[name](**options)
    assert metric.get_config() == options
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert type(again) is METRICS[name]
    assert again.get_config() == options
    assert keras.saving.get_registered_name(METRICS[name]) == f"brainseg_keras>{METRICS[name].__name__}"
    assert not hasattr(keras.metrics, METRICS[name].__name__)


def test_in_fit():
    # Through compile, on unequal batches: what fit reports is the score of all pixels, not a mean over batches.
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6, 6, 2)), keras.layers.Conv2D(1, 1, activation="sigmoid")])
    model.compile("sgd", loss="binary_crossentropy", metrics=[cls() for cls in METRICS.values()])
    x, (y, _) = np.random.default_rng(0).random((5, 6, 6, 2)) * 8 - 4, sample(6, (5, 6, 6, 1))
    logs = model.evaluate(x, y, batch_size=3, verbose=0, return_dict=True)
    counts = scores.confusion(y, model.predict(x, verbose=0) > 0.5)
    assert counts.tp > 0
    assert {name: logs[name] for name in NAMES} == pytest.approx({n: getattr(scores, n)(counts) for n in NAMES})
    assert model.fit(x, y, batch_size=3, verbose=0).history.keys() >= set(NAMES)


@pytest.mark.parametrize("options", [{}, {"num_classes": 3}, {"num_classes": 3, "exclusive": False}])
def test_scores_of_one_count_are_those_of_each_metric(options):
    shape = (3, 4, 5, options.get("num_classes", 1))
    together = SegmentationScores(**options)
    apart = {name: METRICS[name](**options) for name in ("dice", "iou", "pixel_accuracy")}
    for seed in (1, 2):
        for metric in (together, *apart.values()):
            metric.update_state(*sample(seed, shape))
    assert len(together.variables) == len(DiceCoefficient().variables)
    found = {name: float(value) for name, value in together.result().items()}
    assert found == {name: float(metric.result()) for name, metric in apart.items()}
    assert len(set(found.values())) == 3
    again = keras.metrics.deserialize(keras.metrics.serialize(together))
    assert again.get_config() == together.get_config()
