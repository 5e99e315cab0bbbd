"""Losses: numbers worked by hand, a NumPy recomputation, gradients, empty masks, half precision, config."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from brainseg_keras import losses
from brainseg_keras.losses import LOSSES, get_loss

NAMES = list(LOSSES)
OVERLAP = ["dice", "jaccard", "tversky", "focal_tversky"]
# Means over pixels, which pooling a batch leaves alone.
PIXELS = ["binary_focal", "bce"]
# Every option away from its default, so that one that is dropped shows.
OPTIONS = {
    "binary_focal": {"alpha": 0.6, "gamma": 1.5, "apply_class_balancing": True},
    "bce": {},
    "dice": {"smooth": 2.0, "reduce_over": "batch"},
    "dice_focal": {"dice_weight": 2.0, "focal_weight": 3.0, "smooth": 4.0, "reduce_over": "batch"}
    | {"alpha": 0.3, "gamma": 1.0, "apply_class_balancing": True},
    "jaccard": {"smooth": 3.0, "reduce_over": "batch"},
    "tversky": {"alpha": 0.2, "beta": 0.9, "smooth": 0.5, "reduce_over": "batch"},
    "focal_tversky": {"alpha": 0.4, "beta": 0.5, "gamma": 1.3, "smooth": 2.5, "reduce_over": "batch"},
    "bce_dice": {"bce_weight": 0.5, "dice_weight": 1.5, "smooth": 2.0, "reduce_over": "batch"},
    "tversky_focal": {"tversky_weight": 0.5, "focal_weight": 3.0, "alpha": 0.2, "beta": 0.9, "gamma": 1.5}
    | {"smooth": 2.5, "reduce_over": "batch"},
}


def value_and_gradient(loss, y_true, y_pred):
    """The scalar loss and its gradient for y_pred, on the backend in use."""
    if keras.backend.backend() == "jax":
        import jax

        value, gradient = jax.value_and_grad(lambda p: loss(y_true, p))(ops.convert_to_tensor(y_pred))
    else:
        import tensorflow as tf

        y_pred = tf.convert_to_tensor(y_pred)
        with tf.GradientTape() as tape:
            tape.watch(y_pred)
            value = loss(y_true, y_pred)
        gradient = tape.gradient(value, y_pred)
    return float(value), ops.convert_to_numpy(gradient)


def image(*rows):
    return np.array(rows, "float32")[None, :, :, None]


def sample(seed=0, shape=(3, 4, 5, 1)):
    rng = np.random.default_rng(seed)
    return (rng.random(shape) > 0.6).astype("float32"), rng.uniform(0.02, 0.98, shape).astype("float32")


def numpy_loss(name, y, p, o):
    """An independent recomputation in float64, from the textbook forms, one image and channel after the other."""
    y, p = y.astype("float64"), p.astype("float64")
    groups = [(y, p)] if o.get("reduce_over", "image") == "batch" else list(zip(y, p, strict=True))
    results = []
    for t, q in groups:
        per_channel = []
        for c in range(t.shape[-1]):
            a, b = t[..., c].ravel(), q[..., c].ravel()
            s = o.get("smooth", 1.0)
            inter, union = (a * b).sum(), (a + b - a * b).sum()
            dice = 1 - (2 * inter + s) / (a.sum() + b.sum() + s)
            right = np.where(a == 1, b, 1 - b)
            focal = (1 - right) ** o.get("gamma", 2.0) * -np.log(right)
            if o.get("apply_class_balancing", False):
                focal = focal * np.where(a == 1, o.get("alpha", 0.25), 1 - o.get("alpha", 0.25))
            missed, invented = ((1 - b) * a).sum(), (b * (1 - a)).sum()
            index = (inter + s) / (inter + o.get("alpha", 0.3) * invented + o.get("beta", 0.7) * missed + s)
            per_channel.append(
                {
                    "binary_focal": focal.mean(),
                    "bce": -np.log(right).mean(),
                    "dice": dice,
                    "dice_focal": o.get("dice_weight", 1) * dice + o.get("focal_weight", 5) * focal.mean(),
                    "jaccard": 1 - (inter + s) / (union + s),
                    "tversky": 1 - index,
                    "focal_tversky": (1 - index) ** o.get("gamma", 0.75),
                    "bce_dice": o.get("bce_weight", 1) * -np.log(right).mean() + o.get("dice_weight", 1) * dice,
                    "tversky_focal": o.get("tversky_weight", 1) * (1 - index) + o.get("focal_weight", 5) * focal.mean(),
                }[name]
            )
        results.append(np.mean(per_channel))
    return np.mean(results)


# ---- worked by hand

# One image of four pixels, tumour in the first two: hits 0.5 + 1, invented 0.25, missed 0.5.
Y, P = image([1, 1], [0, 0]), image([0.5, 1.0], [0.25, 0.0])


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("dice", {}, 1 - (2 * 1.5 + 1) / (2 + 1.75 + 1)),
        ("dice", {"smooth": 2}, 1 - (2 * 1.5 + 2) / (2 + 1.75 + 2)),
        ("jaccard", {}, 1 - (1.5 + 1) / (2.25 + 1)),
        ("tversky", {"alpha": 0.4, "beta": 0.8}, 1 - 2.5 / (1.5 + 0.4 * 0.25 + 0.8 * 0.5 + 1)),
        ("focal_tversky", {"alpha": 0.4, "beta": 0.8, "gamma": 0.75}, (0.5 / 3.0) ** 0.75),
        ("binary_focal", {}, (0.25 * np.log(2) + 0.0625 * -np.log(0.75)) / 4),
        ("binary_focal", {"gamma": 0.0}, (np.log(2) - np.log(0.75)) / 4),
        ("binary_focal", {"gamma": 0.0, "apply_class_balancing": True}, (0.25 * np.log(2) - 0.75 * np.log(0.75)) / 4),
        ("bce", {}, (np.log(2) - np.log(0.75)) / 4),
        ("dice_focal", {}, 0.75 / 4.75 + 5 * (0.25 * np.log(2) + 0.0625 * -np.log(0.75)) / 4),
        ("bce_dice", {}, 0.75 / 4.75 + (np.log(2) - np.log(0.75)) / 4),
        ("tversky_focal", {}, 0.425 / 2.925 + 5 * (0.25 * np.log(2) + 0.0625 * -np.log(0.75)) / 4),
        (
            "tversky_focal",
            {"tversky_weight": 2, "focal_weight": 3, "alpha": 0.4, "beta": 0.8, "gamma": 0},
            2 * 0.5 / 3 + 3 * (np.log(2) - np.log(0.75)) / 4,
        ),
    ],
)
def test_worked_numbers(name, options, expected):
    assert float(get_loss(name, **options)(Y, P)) == pytest.approx(expected, abs=2e-5 if "focal_t" in name else 1e-6)


def test_image_and_batch_differ_as_stated():
    # Image 1: one tumour pixel, found. Image 2: ten, none found. Per image (0 + 1 - 1/11) / 2; pooled 1 - 3 / 13.
    y = np.zeros((2, 1, 10, 1), "float32")
    y[0, 0, 0], y[1] = 1, 1
    p = np.zeros_like(y)
    p[0, 0, 0] = 1
    assert float(losses.DiceLoss()(y, p)) == pytest.approx((0 + 10 / 11) / 2)
    assert float(losses.DiceLoss(reduce_over="batch")(y, p)) == pytest.approx(1 - 3 / 13)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_numpy(name, channels):
    y, p = sample(1, (3, 4, 5, channels))
    for options in ({}, OPTIONS[name]):
        expected = numpy_loss(name, y, p, options)
        assert float(get_loss(name, **options)(y, p)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_without_background(name):
    y, p = sample(2, (3, 4, 5, 3))
    trimmed = float(get_loss(name)(y[..., 1:], p[..., 1:]))
    assert float(get_loss(name, include_background=False)(y, p)) == pytest.approx(trimmed)
    assert float(get_loss(name)(y, p)) != pytest.approx(trimmed)
    one = float(get_loss(name)(y[..., :1], p[..., :1]))
    assert float(get_loss(name, include_background=False)(y[..., :1], p[..., :1])) == pytest.approx(one)


@pytest.mark.parametrize("name", NAMES)
def test_of_two_classes_the_background_goes_alone(name):
    """Two channels are the fewest of which one can be left out."""
    y, p = sample(3, (3, 4, 5, 2))
    for options in ({}, OPTIONS[name]):
        alone = numpy_loss(name, y[..., 1:], p[..., 1:], options)
        assert float(get_loss(name, include_background=False, **options)(y, p)) == pytest.approx(alone, rel=1e-4)
        assert alone != pytest.approx(numpy_loss(name, y, p, options), rel=1e-4)
    function = getattr(losses, name + "_loss")
    values = ops.convert_to_numpy(function(y, p, include_background=False))
    np.testing.assert_allclose(values, ops.convert_to_numpy(function(y[..., 1:], p[..., 1:])), rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_float64_stays_float64(name):
    """A mask of float32 and an answer in float64: nothing on the way is rounded to float32."""
    y, p = sample(4)
    p = p.astype("float64")
    # Below a gamma of 1 the focal Tversky loss is offset by 1e-7 on purpose.
    options = {"gamma": 1.0} if name == "focal_tversky" else {}
    values = getattr(losses, name + "_loss")(y, p, **options)
    loss = get_loss(name, dtype="float64", **options)(y, p)
    for found in (values, loss):
        assert keras.backend.standardize_dtype(found.dtype) == "float64"
        assert ops.convert_to_numpy(found).mean() == pytest.approx(numpy_loss(name, y, p, options), rel=1e-12)


def test_focal_is_keras_focal():
    y, p = sample(3)
    for options in ({}, {"alpha": 0.7, "gamma": 3.0, "apply_class_balancing": True}):
        theirs = float(keras.losses.BinaryFocalCrossentropy(**options)(y, p))
        assert float(losses.BinaryFocalLoss(**options)(y, p)) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_scored_on_its_probabilities(name, activation):
    # keras.losses.BinaryFocalCrossentropy is not: it finds the logits of a softmax and puts them through a sigmoid.
    model = keras.Sequential([keras.Input((4, 5, 3)), keras.layers.Conv2D(3, 1, activation=activation)])
    x, y = np.random.default_rng(0).normal(size=(3, 4, 5, 3)), sample(3, (3, 4, 5, 3))[0]
    expected = numpy_loss(name, y, model.predict(x, verbose=0), {})
    for eager in (True, False):
        model.compile(loss=get_loss(name), run_eagerly=eager)
        assert model.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_functions_and_classes_agree(name):
    y, p = sample(5)
    function = getattr(losses, name + "_loss")
    for options in ({}, OPTIONS[name]):
        values = ops.convert_to_numpy(function(y, p, **options))
        assert values.shape == (3,)
        assert float(get_loss(name, **options)(y, p)) == pytest.approx(values.mean(), rel=1e-6)


FEW = settings(max_examples=15, deadline=None)


@pytest.mark.parametrize("name", NAMES)
@FEW
@given(seed=st.integers(0, 10_000))
def test_bounded_and_blind_to_pixel_order(name, seed):
    y, p = sample(seed, (2, 3, 4, 1))
    value = float(get_loss(name)(y, p))
    assert value >= 0
    if name in OVERLAP:
        assert value <= 1
    if name in ("dice", "jaccard"):  # symmetric
        assert float(get_loss(name)(p, y)) == pytest.approx(value, rel=1e-5)
    order = np.random.default_rng(seed).permutation(12)
    mixed = [a.reshape(2, 12)[:, order].reshape(2, 3, 4, 1) for a in (y, p)]
    assert float(get_loss(name)(*mixed)) == pytest.approx(value, rel=1e-5)
    pooled = get_loss(name, **({} if name in PIXELS else {"reduce_over": "batch"}))
    assert float(pooled(y[::-1], p[::-1])) == pytest.approx(float(pooled(y, p)), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
@FEW
@given(seed=st.integers(0, 10_000), pixel=st.integers(0, 11))
def test_a_better_pixel_costs_less(name, seed, pixel):
    y, p = sample(seed, (1, 3, 4, 1))
    better = p.copy()
    better.flat[pixel] += 0.5 * (y.flat[pixel] - p.flat[pixel])
    assert float(get_loss(name)(y, better)) < float(get_loss(name)(y, p))


@pytest.mark.parametrize("name", OVERLAP)
def test_repetition_scales_with_smooth(name):
    y, p = sample(6, (2, 3, 4, 1))
    four = [np.tile(a, (1, 2, 2, 1)) for a in (y, p)]
    once = float(get_loss(name, smooth=1.0)(y, p))
    assert float(get_loss(name, smooth=4.0)(*four)) == pytest.approx(once, rel=1e-5)


# ---- empty masks, perfect answers, gradients


@pytest.mark.parametrize("reduce_over", ["image", "batch"])
@pytest.mark.parametrize("name", NAMES)
def test_empty_mask(name, reduce_over):
    options = {} if name in PIXELS else {"reduce_over": reduce_over}
    empty = np.zeros((2, 8, 8, 1), "float32")
    silent, gradient = value_and_gradient(get_loss(name, **options), empty, empty)
    assert silent == pytest.approx(0, abs=1e-6)
    assert np.isfinite(gradient).all()
    invented = empty.copy()
    invented[0, 2, 2] = 0.7
    cost, gradient = value_and_gradient(get_loss(name, **options), empty, invented)
    assert cost > 1e-3
    assert gradient[0, 2, 2, 0] > 1e-4


@pytest.mark.parametrize(
    ("name", "options"), [(name, {}) for name in NAMES] + [("focal_tversky", {"gamma": g}) for g in (0.4, 1.0, 1.5)]
)
def test_perfect_answer(name, options):
    y = sample(7)[0]
    value, gradient = value_and_gradient(get_loss(name, **options), y, y)
    assert value == pytest.approx(0, abs=1e-6)
    assert np.isfinite(gradient).all()


# ---- truth between 0 and 1


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        # Shares 0.25 and 1, answered by 0.5 and 0.75: hits 0.25 + 0.75, invented 0.25, missed 0.25.
        ("dice", {"smooth": 2.0}, 0.25 / (1 + 0.25 + 1)),
        ("jaccard", {"smooth": 1.0}, 0.5 / (1 + 0.5 + 1)),
        ("tversky", {"alpha": 0.4, "beta": 0.8, "smooth": 0.5}, 0.3 / (1 + 0.3 + 0.5)),
        # Cross-entropies 0.25 ln 2 + 0.75 ln 2 and ln(4/3), each with the square of the error 0.25; the rest is right.
        ("binary_focal", {"gamma": 2.0}, (np.log(2) + np.log(4 / 3)) / 16 / 4),
        ("tversky_focal", {"smooth": 0.5}, 0.25 / (1 + 0.25 + 0.5) + 5 * (np.log(2) + np.log(4 / 3)) / 16 / 4),
    ],
)
def test_soft_truth_by_hand(name, options, expected):
    y, p = image([0.25, 1], [0, 0]), image([0.5, 0.75], [0, 0])
    assert float(get_loss(name, **options)(y, p)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
@FEW
@given(seed=st.integers(0, 10_000), size=st.floats(0.01, 0.5))
def test_nothing_costs_less_than_the_soft_truth_itself(name, seed, size):
    """With the usual products an answer of 0 or 1 would cost less, and every border would come out hard."""
    rng = np.random.default_rng(seed)
    y = rng.uniform(0, 1, (2, 4, 4, 1)).astype("float32")
    other = np.clip(y + size * rng.choice([-1, 0, 1], y.shape), 0, 1).astype("float32")
    loss = get_loss(name)
    least = float(loss(y, y))
    assert least <= float(loss(y, other)) + 1e-6
    assert least <= float(loss(y, np.round(y))) + 1e-6
    if name in ("bce", "bce_dice"):
        inside = np.clip(y.astype("float64"), 1e-7, 1 - 1e-7)
        assert least == pytest.approx(-(inside * np.log(inside) + (1 - inside) * np.log1p(-inside)).mean(), rel=1e-4)
    else:
        assert least == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_gradient_at_the_soft_truth_is_finite(name, gamma):
    y = np.random.default_rng(0).random((1, 4, 4, 1)).astype("float32")
    options = {"gamma": gamma} if "gamma" in get_loss(name).get_config() else {}
    assert np.isfinite(value_and_gradient(get_loss(name, **options), y, y)[1]).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_gradient_at_exact_answers(gamma):
    y = image([1, 1], [0, 0])
    for answer in (y, 1 - y):
        value, gradient = value_and_gradient(losses.BinaryFocalLoss(gamma=gamma), y, answer)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", NAMES)
def test_gradient_against_finite_differences(name):
    y, p = sample(9, (2, 3, 2, 2))
    for options in ({}, OPTIONS[name]):
        _, gradient = value_and_gradient(get_loss(name, **options), y, p)
        numeric = np.zeros(p.shape)
        for index in np.ndindex(p.shape):
            step = np.zeros(p.shape)
            step[index] = 1e-5
            up, down = (numpy_loss(name, y, p.astype("float64") + d, options) for d in (step, -step))
            numeric[index] = (up - down) / 2e-5
        np.testing.assert_allclose(gradient, numeric, rtol=2e-3, atol=2e-6)


@pytest.mark.parametrize("fill", ["zero", "one", "half", "right", "wrong", "random"])
@pytest.mark.parametrize("name", NAMES)
def test_finite_in_half_precision(name, fill):
    rng = np.random.default_rng(0)
    y = (rng.random((1, 512, 512, 1)) > 0.5).astype("uint8")
    random = rng.random(y.shape)
    p = {"zero": 0 * y, "one": 0 * y + 1, "half": 0 * y + 0.5, "right": y, "wrong": 1 - y, "random": random}[fill]
    p = p.astype("float16")
    function = getattr(losses, name + "_loss")
    for loss in (get_loss(name), lambda t, q: ops.sum(function(t, q))):
        for truth in (y, np.zeros_like(y), np.ones_like(y)):
            value, gradient = value_and_gradient(loss, truth, p)
            assert np.isfinite(value)
            assert gradient.dtype == np.float16
            assert np.isfinite(gradient).all()
    expected = float(get_loss(name)(y, p.astype("float32")))
    assert float(function(y, p)[0]) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_fit_under_mixed_precision_learns_silence(name):
    # Empty masks only, from an answer of one half: what stays exactly where it was in keras.losses.Dice.
    keras.utils.set_random_seed(0)
    logits = keras.layers.Conv2D(1, 1, dtype="mixed_float16", use_bias=True)
    model = keras.Sequential([keras.Input((8, 8, 1)), logits, keras.layers.Activation("sigmoid", dtype="float32")])
    model.compile(keras.optimizers.Adam(0.2), loss=get_loss(name))
    x, y = np.ones((4, 8, 8, 1), "float32"), np.zeros((4, 8, 8, 1), "float32")
    before = float(model.predict(x, verbose=0).mean())
    model.fit(x, y, epochs=12, batch_size=4, verbose=0)
    assert float(model.predict(x, verbose=0).mean()) < 0.6 * before
