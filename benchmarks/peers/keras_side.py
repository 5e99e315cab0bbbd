"""Keras contenders: keras-unet-collection and segmentation_models on Keras 2, medicai on Keras 3."""

import time

from peers.work import graph_flops, images_and_masks, matrix_rate, timed


def widths(width, levels=5):
    """Double the width from level to level."""
    return [width * 2**level for level in range(levels)]


def build(package, network, size, width):
    """Build a contender's network.

    Those with an encoder of their own, whose widths are fixed, get ResNet-18, their smallest common one, and the widths
    in the decoder alone.
    """
    shape = (size, size, 3)
    if package == "keras_unet_collection":
        from keras_unet_collection import models

        shared = {"activation": "ReLU", "output_activation": "Sigmoid", "batch_norm": True}
        if network == "unet":
            return models.unet_2d(shape, widths(width), 1, stack_num_down=2, stack_num_up=2, **shared)
        if network == "attention_unet":
            return models.att_unet_2d(shape, widths(width), 1, stack_num_down=2, stack_num_up=2, **shared)
        return models.r2_unet_2d(shape, widths(width), 1, stack_num_down=2, stack_num_up=2, recur_num=2, **shared)
    decoder = tuple(reversed(widths(width)))
    if package == "segmentation_models":
        import segmentation_models

        shared = {"encoder_weights": None, "classes": 1, "activation": "sigmoid"}
        return segmentation_models.Unet("resnet18", input_shape=shape, decoder_filters=decoder, **shared)
    from medicai import models

    kind = {"unet": models.UNet, "attention_unet": models.AttentionUNet}[network]
    return kind(
        encoder_name="resnet18",
        input_shape=shape,
        num_classes=1,
        classifier_activation="sigmoid",
        decoder_filters=decoder,
    )


def keras_of(tf):
    """Give the Keras that TensorFlow was told to use."""
    return tf.keras


def count_flops(tf, model, size):
    """Count the operations of one image."""
    function = tf.function(lambda x: model(x, training=False), jit_compile=False)
    graph = function.get_concrete_function(tf.TensorSpec((1, size, size, model.input_shape[-1]), tf.float32)).graph
    return graph_flops(graph.get_operations())


def facts_of(tf, model, job):
    """Say what a network costs, unless that is known."""
    if job.get("facts"):
        return job["facts"]
    return {"flops": count_flops(tf, model, job["size"]), "parameters": model.count_params()}


def training(tf, model, batch, size):
    """Make a function that fits so many steps and gives the seconds between the first and the last."""
    keras, marks = keras_of(tf), []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            marks.append(time.perf_counter())

        def on_train_batch_end(self, batch, logs=None):
            marks.append(time.perf_counter())

    data = tf.data.Dataset.from_tensors(images_and_masks(batch, size)).repeat()

    def run(count):
        marks.clear()
        model.fit(data, steps_per_epoch=count, epochs=1, verbose=0, callbacks=[Clock()])
        return marks[-1] - marks[0]

    return run


def prepare(job, options):
    """Build a network and give how to run it."""
    import tensorflow as tf

    keras, batch, size = keras_of(tf), job["batch"], job["size"]
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if job["precision"] == "bfloat16" else "float32")
    model = build(options["package"], job["network"], size, job["width"])
    facts = facts_of(tf, model, job)
    if job["work"] == "train":
        model.compile(keras.optimizers.Adam(1e-3), loss="binary_crossentropy")
        return training(tf, model, batch, size), facts
    images, _ = images_and_masks(batch, size)
    return timed(lambda: model.predict_on_batch(images)), facts


def drop():
    """Let go of networks."""
    import gc

    import tensorflow as tf

    keras_of(tf).backend.clear_session()
    gc.collect()


def matrices(job, options):
    """Time TensorFlow's matrix product."""
    import tensorflow as tf

    def multiply(side):
        left, right = tf.random.normal((side, side)), tf.random.normal((side, side))
        return lambda: tf.linalg.matmul(left, right).numpy()

    return {"gflops": matrix_rate(multiply), "library": "TensorFlow"}
