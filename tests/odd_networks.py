"""Networks that are no U-Net: what a .keras file may hold that no run ever wrote."""

import keras


def save_odd(build, path):
    """Put a network in place of the one in a .keras file."""
    path.unlink()
    build(keras.layers, keras.Input, keras.Model).save(path)


def _classifier(layers, entry, model):
    image = entry((32, 32, 3))
    return model(image, layers.Dense(2, "softmax")(layers.GlobalAveragePooling2D()(image)))


def _two_inputs(layers, entry, model):
    images = [entry((32, 32, 3)), entry((32, 32, 3))]
    return model(images, layers.Conv2D(1, 1, activation="sigmoid")(layers.Add()(images)))


def _two_outputs(layers, entry, model):
    image = entry((32, 32, 3))
    return model(image, [layers.Conv2D(1, 1, activation="sigmoid")(image) for _ in range(2)])


def _one_dimensional(layers, entry, model):
    signal = entry((32, 3))
    return model(signal, layers.Conv1D(1, 1, activation="sigmoid")(signal))


def _three_dimensional(layers, entry, model):
    volume = entry((8, 32, 32, 3))
    return model(volume, layers.Conv3D(1, 1, activation="sigmoid")(volume))


def _no_channels(layers, entry, model):
    image = entry((32, 32))
    return model(image, layers.Dense(32, "sigmoid")(image))


def _smaller_answer(layers, entry, model):
    image = entry((32, 32, 3))
    return model(image, layers.Conv2D(1, 2, 2, activation="sigmoid")(image))


def _seven_channels(layers, entry, model):
    image = entry((32, 32, 7))
    return model(image, layers.Conv2D(1, 1, activation="sigmoid")(image))


def _nine_classes(layers, entry, model):
    image = entry((32, 32, 3))
    return model(image, layers.Conv2D(9, 1, activation="softmax")(image))


def _not_square(layers, entry, model):
    image = entry((32, 64, 3))
    return model(image, layers.Conv2D(1, 1, activation="sigmoid")(image))


def _open_channels(layers, entry, model):
    image = entry((32, 32, None))
    return model(image, layers.Lambda(lambda x: x[..., :1])(image))


def _nan_weights(layers, entry, model):
    image = entry((32, 32, 3))
    return model(
        image,
        layers.Conv2D(1, 1, activation="sigmoid", bias_initializer=keras.initializers.Constant(float("nan")))(image),
    )


ODD_NETWORKS = {
    "a classifier": _classifier,
    "two inputs": _two_inputs,
    "two outputs": _two_outputs,
    "one dimension": _one_dimensional,
    "three dimensions": _three_dimensional,
    "an input without channels": _no_channels,
    "an answer of half the size": _smaller_answer,
    "seven channels": _seven_channels,
    "nine classes": _nine_classes,
    "an input that is not square": _not_square,
    "an open number of channels, by code": _open_channels,
    "weights that are nan": _nan_weights,
}
