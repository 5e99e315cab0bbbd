"""brainseg_keras: training as `brainseg train` does it and as the others do; inference with each engine; patients."""

import tempfile
from pathlib import Path

import numpy as np

from peers.work import images_and_masks, matrix_rate, timed


def build(job):
    """Build a network of this package, in the number format asked for."""
    import keras

    from brainseg_keras.models import build_model
    from brainseg_keras.training.precision import dtype_policy

    keras.utils.set_random_seed(0)
    shape = (job["size"], job["size"], 3)
    with dtype_policy("mixed_bfloat16" if job["precision"] == "bfloat16" else "float32"):
        return build_model(job["network"], input_shape=shape, filters=job["width"])


def prepare(job, options):
    """Give how to train, to infer or to segment a patient."""
    return {"train": train, "infer": infer, "volume": volume}[job["work"]](job, options)


def train(job, options):
    """Make a training step: of `brainseg train` (its loss, metric and norm of the gradient), or like the others."""
    import keras
    import tensorflow as tf

    from brainseg_keras.data.inputs.targets import Target
    from brainseg_keras.training import speed_up
    from brainseg_keras.training.config import TrainingConfig
    from brainseg_keras.training.setup import compile_model
    from peers.keras_side import facts_of, training

    model = build(job)
    facts = facts_of(tf, model, job)
    if options["plain"]:
        model.compile(keras.optimizers.Adam(1e-3), loss="binary_crossentropy")
    else:
        compile_model(model, TrainingConfig(), Target("tumour"))
    speed_up(model)
    return training(tf, model, job["batch"], job["size"]), facts


def infer(job, options):
    """Make a prediction of a batch by one engine; what is not Keras gets the file that `export` wrote."""
    from brainseg_keras.inference.networks import load_network, wrap_model

    images, _ = images_and_masks(job["batch"], job["size"])
    if options["engine"] != "keras":
        network = load_network(job["exported"], options["engine"]).network
        return timed(lambda: network(images)), {"flops": job["flops"], "parameters": job["parameters"]}
    import tensorflow as tf

    from brainseg_keras.models.folding import fold_batch_norm
    from peers.keras_side import facts_of

    model = build(job)
    network = wrap_model(fold_batch_norm(model), job["network"]).network
    facts = facts_of(tf, model, job)
    return timed(lambda: network(images)), facts


def export(job, options):
    """Write a network, or the shipped one, as ONNX, and say what it costs."""
    import tensorflow as tf

    from brainseg_keras.export import export as write
    from brainseg_keras.inference import Predictor
    from peers.keras_side import count_flops

    shipped = job["network"] == "lgg"
    predictor = Predictor("lgg" if shipped else build(job))
    path = Path(tempfile.mkdtemp(dir=job["folder"])) / f"{job['network']}.onnx"
    write(predictor, path)
    model = predictor.model
    return {
        "exported": str(path),
        "flops": count_flops(tf, model, model.input_shape[1]),
        "parameters": model.count_params(),
    }


def volume(job, options):
    """Segment a patient's folder and write its masks, as `brainseg predict` does, or slice by slice in plain Keras."""
    output = Path(tempfile.mkdtemp(dir=job["folder"]))
    if options["engine"] == "plain":
        return timed(lambda: predict_slices(model_of_plain(), job["patient"], output)), {}
    from brainseg_keras.inference import Predictor, predict

    predictor = Predictor("lgg", engine=options["engine"])
    return timed(lambda: predict([job["patient"]], output, predictor=predictor, overlays=False)), {}


_plain = []


def model_of_plain():
    """Load the shipped network once."""
    from brainseg_keras.models import load_pretrained

    if not _plain:
        _plain.append(load_pretrained("lgg"))
    return _plain[0]


def predict_slices(model, patient, output):
    """Segment a patient as a plain loop does: a file at a time, with its mirror image, by `model.predict`."""
    import cv2

    side = model.input_shape[1]
    for file in sorted(path for path in Path(patient).glob("*.tif") if not path.stem.endswith("_mask")):
        image = cv2.imread(str(file))[..., ::-1].astype(np.float32)
        small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) / max(image.max(), 1)
        plain, turned = model.predict(np.stack([small, small[:, ::-1]]), verbose=0)[..., 0]
        chance = cv2.resize((plain + turned[:, ::-1]) / 2, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        cv2.imwrite(str(output / f"{file.stem}_mask.png"), np.uint8(chance > 0.5) * 255)


def phantom(job, options):
    """Write a phantom in the layout of the LGG set: patients' folders of TIFF."""
    from brainseg_keras.data import open_source
    from brainseg_keras.data.phantom.lgg import write_phantom

    root = Path(job["folder"]) / "phantom"
    write_phantom(root, patients=job["patients"], slices=job["slices"], size=job["size"])
    table = open_source(root).table
    training = sorted(table[table.split == "train"].patient.unique())
    folders = [str(next(root.rglob(patient))) for patient in training]
    return {"root": str(root), "patient": folders[0], "slices": job["slices"], "training": folders}


def drop():
    """Let go of networks."""
    import gc

    import keras

    keras.backend.clear_session()
    gc.collect()


def matrices(job, options):
    """Time NumPy's matrix product."""

    def multiply(side):
        rng = np.random.default_rng(0)
        left, right = (rng.random((side, side), np.float32) for _ in range(2))
        return lambda: left @ right

    return {"gflops": matrix_rate(multiply), "library": "NumPy"}
