"""The blocks against independent NumPy: what is shared, what is added, what is gated."""

import keras
import numpy as np
import pytest

from brainseg_keras import BlockStyle, attention_block, conv_block, recurrent_res_block, res_conv_block
from brainseg_keras.errors import InputError

PLAIN = BlockStyle(norm=None)
RNG = np.random.default_rng(0)


def build(block, *shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    model = keras.Model(inputs if len(inputs) > 1 else inputs[0], block(*inputs))
    for weight in model.weights:
        weight.assign(0.3 * RNG.standard_normal(weight.shape))
    return model


def kernel_of(model, name):
    layer = model.get_layer(name)
    return [np.asarray(weight, "float64") for weight in layer.weights]


def conv(x, kernel, bias):
    """Convolution by definition, "same" padding, stride 1."""
    high, wide = kernel.shape[:2]
    padded = np.pad(x, ((0, 0), (high // 2, high // 2), (wide // 2, wide // 2), (0, 0)))
    result = np.zeros((*x.shape[:3], kernel.shape[-1])) + bias
    for i in range(high):
        for j in range(wide):
            result += padded[:, i : i + x.shape[1], j : j + x.shape[2]] @ kernel[i, j]
    return result


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def images(*shape):
    return RNG.standard_normal((2, *shape)).astype("float32")


def check(model, inputs, expected):
    np.testing.assert_allclose(np.asarray(model(inputs)), expected, atol=2e-5, rtol=1e-4)


def test_conv_block_is_two_convolutions():
    model = build(lambda x: conv_block(x, 5, PLAIN, name="b"), (6, 7, 3))
    x = images(6, 7, 3)
    first = relu(conv(x, *kernel_of(model, "b_1_conv")))
    check(model, x, relu(conv(first, *kernel_of(model, "b_2_conv"))))


def test_residual_block_adds_a_projection_before_the_activation():
    model = build(lambda x: res_conv_block(x, 5, PLAIN, name="b"), (6, 7, 3))
    x = images(6, 7, 3)
    inner = conv(relu(conv(x, *kernel_of(model, "b_1_conv"))), *kernel_of(model, "b_2_conv"))
    check(model, x, relu(inner + conv(x, *kernel_of(model, "b_shortcut_conv"))))


@pytest.mark.parametrize("recurrence", [0, 1, 3])
@pytest.mark.parametrize("activated", [False, True])
def test_recurrent_block_feeds_its_result_back_through_one_kernel(recurrence, activated):
    model = build(
        lambda x: recurrent_res_block(x, 4, PLAIN, recurrence=recurrence, activate_projection=activated, name="b"),
        (6, 7, 3),
    )

    def unit(x, kernel, bias):
        hidden = relu(conv(x, kernel, bias))
        for _ in range(recurrence):
            hidden = relu(conv(x + hidden, kernel, bias))
        return hidden

    x = images(6, 7, 3)
    projected = conv(x, *kernel_of(model, "b_in_conv"))
    if activated:
        projected = relu(projected)
    inner = unit(unit(projected, *kernel_of(model, "b_1_conv")), *kernel_of(model, "b_2_conv"))
    check(model, x, projected + inner)


def test_same_scale_gate():
    model = build(lambda s, g: attention_block(s, g, 4, PLAIN, name="a"), (6, 8, 3), (6, 8, 5))
    skip, gating = images(6, 8, 3), images(6, 8, 5)
    total = conv(gating, *kernel_of(model, "a_gating_conv")) + conv(skip, *kernel_of(model, "a_skip_conv"))
    alpha = sigmoid(conv(relu(total), *kernel_of(model, "a_psi_conv")))
    check(model, [skip, gating], skip * alpha)


def test_coarse_gate():
    model = build(lambda s, g: attention_block(s, g, 4, PLAIN, kind="coarse", name="a"), (6, 8, 4), (3, 4, 5))
    skip, gating = images(6, 8, 4), images(3, 4, 5)
    signal = relu(conv(gating, *kernel_of(model, "a_gating_conv")))
    phi = conv(signal, *kernel_of(model, "a_phi_conv"))
    kernel, bias = kernel_of(model, "a_phi_transposed")
    # A transposed convolution of stride 1 is a convolution with the flipped kernel, channels exchanged.
    phi = conv(phi, np.flip(kernel, (0, 1)).transpose(0, 1, 3, 2), bias)
    kernel, bias = kernel_of(model, "a_theta_conv")
    theta = bias + sum(skip[:, i::2, j::2] @ kernel[i, j] for i in (0, 1) for j in (0, 1))
    alpha = sigmoid(conv(relu(phi + theta), *kernel_of(model, "a_psi_conv"))).repeat(2, 1).repeat(2, 2)
    output = next(layer.name for layer in model.layers if layer.name.startswith("a_out") and layer.weights)
    check(model, [skip, gating], conv(skip * alpha, *kernel_of(model, output)))


def test_separable_replaces_only_the_three_by_three_convolutions():
    style = BlockStyle(separable=True)
    model = build(lambda x: res_conv_block(x, 4, style, name="b"), (8, 8, 3))
    kinds = {layer.name: type(layer).__name__ for layer in model.layers if layer.weights}
    assert kinds["b_1_conv"] == kinds["b_2_conv"] == "SeparableConv2D"
    assert kinds["b_shortcut_conv"] == "Conv2D"


def test_batch_normalization_is_that_of_the_references():
    model = build(lambda x: conv_block(x, 4, name="b"), (8, 8, 3))
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert [(norm.momentum, norm.epsilon) for norm in norms] == [(0.9, 1e-5)] * 2


def test_wrong_gates_are_refused():
    skip, coarse = keras.Input((8, 8, 4)), keras.Input((4, 4, 8))
    with pytest.raises(InputError, match="1 times as large"):
        attention_block(skip, coarse, 4, name="a")
    with pytest.raises(InputError, match="2 times as large"):
        attention_block(skip, skip, 4, kind="coarse", name="a")
    with pytest.raises(InputError, match="kind must be"):
        attention_block(skip, skip, 4, kind="fine", name="a")
    with pytest.raises(InputError, match="recurrence must be"):
        recurrent_res_block(skip, 4, recurrence=-1, name="b")
