"""Trained networks from files, each as one function from a batch to probabilities: Keras, ONNX, LiteRT."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from brainseg_keras.errors import InputError, first_line, optional_import, reading
from brainseg_keras.files import expand
from brainseg_keras.inference.runner import Network, keras_function
from brainseg_keras.postprocessing import read_choice
from brainseg_keras.spec import RESTORE, NetworkSpec, read_json

ENDINGS = (".keras", ".onnx", ".tflite")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedNetwork:
    """A network and what its file's neighbors say of it.

    Args:
        network: The function.
        model: The Keras model behind it, or None.
        input_shape: Height, width and channels; None where any goes.
        classes: Channels of its answer.
        name: What messages and reports call it.
        spec: What it is, as the JSON beside it says, or as its shapes let guess.
        folder: Where results of tuning are kept: the run folder; None for a lone file.
    """

    network: Network
    model: Any
    input_shape: tuple[int | None, int | None, int]
    classes: int
    name: str
    spec: NetworkSpec
    folder: Path | None = None


def load_network(model: str | Path) -> TrainedNetwork:
    """Load a run's best model, a model file, or weights that ship with the package.

    Args:
        model: Run folder; `.keras`, `.onnx` or `.tflite` file; or a shipped name such as `lgg`.

    Returns:
        The network.

    Raises:
        InputError: Nothing there, or a file that cannot be read.

    Example:
        >>> load_network("no/such/run")
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: ...
    """
    from brainseg_keras.models import load_pretrained
    from brainseg_keras.models.weights import list_pretrained, pretrained_info

    if str(model) in list_pretrained():
        name = str(model)
        return replace(
            wrap_model(load_pretrained(name), name, fold=True), spec=NetworkSpec.from_info(pretrained_info(name))
        )
    path = Path(expand(model, "model"))
    if path.is_dir() and (path / "best.keras").is_file():
        return _described(_read_keras(path / "best.keras"), path / "run.json", str(path))
    if not path.is_file() or path.suffix not in ENDINGS:
        raise InputError(
            f"No model at {path}. Give the folder of a run (with best.keras), a .keras, .onnx or .tflite file, or a "
            f"shipped name: {', '.join(list_pretrained()) or 'none yet'}."
        )
    in_run = path.parent / "run.json"
    beside = in_run if path.suffix == ".keras" and in_run.is_file() else information_file(path)
    read = {".keras": _read_keras, ".onnx": _read_onnx, ".tflite": _read_litert}[path.suffix]
    return _described(read(path), beside, str(path))


def information_file(path: Path) -> Path:
    """Name the JSON beside an exported file: `lgg.onnx` and `lgg.tflite` have one each."""
    return path.with_name(path.name + ".json")


def wrap_model(model: Any, name: str, *, fold: bool = False) -> TrainedNetwork:
    """Make a network of a Keras model.

    Args:
        model: A `keras.Model`.
        name: What messages call it.
        fold: Fold BatchNormalization into its convolutions: faster, and what the model learns later is not seen.

    Returns:
        The network.

    Raises:
        InputError: Not from one picture to one picture.
    """
    from brainseg_keras.models.folding import fold_batch_norm

    inputs = [tuple(tensor.shape) for tensor in model.inputs]
    outputs = [tuple(tensor.shape) for tensor in model.outputs]
    asked = fold_batch_norm(model) if fold else model
    return _network(keras_function(asked), model, inputs, outputs, name)


def _described(network: TrainedNetwork, path: Path, name: str) -> TrainedNetwork:
    """Add what the JSON beside a network's file says, and what was tuned for it."""
    shapes = (network.input_shape, network.classes)
    if not path.exists():
        return replace(network, name=name, spec=NetworkSpec.guess(*shapes, name))
    content = read_json(path)
    with reading(path, RESTORE):
        spec = NetworkSpec.from_info(content, (*shapes, name))
        spec.check(*shapes, name)
    if path.name != "run.json":
        return replace(network, name=name, spec=spec)
    if "roles" not in content:
        _log.warning("%s does not say which patients trained it: scores will say so.", path)
    choice = read_choice(path.parent)
    return replace(network, name=name, spec=spec.with_choice(*choice) if choice else spec, folder=path.parent)


def _network(network: Network, model: Any, inputs: list, outputs: list, name: str) -> TrainedNetwork:
    shape, classes = _shapes(inputs, outputs, name)
    return TrainedNetwork(_naming(network, name), model, shape, classes, name, NetworkSpec.guess(shape, classes, name))


def _shapes(inputs: list[tuple], outputs: list[tuple], name: str) -> tuple[tuple[int | None, int | None, int], int]:
    """Give height, width and channels of the input, and the channels of the answer."""
    shapes = [tuple(size if isinstance(size, int) and size > 0 else None for size in s) for s in (*inputs, *outputs)]
    pictures = len(inputs) == len(outputs) == 1 and all(len(shape) == 4 and shape[3] for shape in shapes)
    # A side that is left open goes with any.
    if not pictures or any(a != b for a, b in zip(shapes[0][1:3], shapes[1][1:3], strict=True) if a and b):
        raise InputError(
            f"{name} does not go from pictures (batch, height, width, channels) to pictures of the same size. "
            f"Received: inputs {inputs}, outputs {outputs}. Give a network for segmentation, channels last."
        )
    return shapes[0][1:], shapes[1][3]


def _naming(network: Network, name: str) -> Network:
    """Let what a network raises, on a size that it cannot take, say which network it was."""

    def call(batch: np.ndarray) -> np.ndarray:
        try:
            answer = network(batch)
        except Exception as error:  # TensorFlow, ONNX Runtime and LiteRT each have kinds of their own
            raise InputError(
                f"{name} cannot take slices of {batch.shape[1]} x {batch.shape[2]} pixels and {batch.shape[3]} "
                f"channels ({first_line(error)}). Give it the size that it was trained with."
            ) from error
        if np.isnan(answer).any():
            raise InputError(f"{name} answers NaN: its weights are damaged. Restore it, or train it again.")
        return answer

    return call


def _read_keras(path: Path) -> TrainedNetwork:
    import keras

    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # whatever zip, JSON, HDF5 or Keras raise on a damaged file
        raise InputError(f"{path} cannot be read as a Keras model ({first_line(error)}). Save it anew.") from error
    if not isinstance(model, keras.Model) or not model.built:
        raise InputError(f"{path} holds {type(model).__name__}, which is not a network. Save the model itself.")
    if not all(np.isfinite(weights).all() for weights in model.get_weights()):
        raise InputError(f"{path} holds NaN or infinite weights: it is damaged. Restore it, or train it again.")
    return wrap_model(model, str(path), fold=True)


def _read_onnx(path: Path) -> TrainedNetwork:
    onnxruntime = optional_import("onnxruntime", "export")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=onnxruntime.get_available_providers())
    except Exception as error:  # onnxruntime has exceptions of its own
        raise InputError(f"{path} cannot be read as ONNX ({first_line(error)}). Export it anew.") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shapes = [[entry.shape for entry in entries] for entries in (inputs, outputs)]

    def network(batch: np.ndarray) -> np.ndarray:
        return session.run(None, {inputs[0].name: batch})[0]

    return _network(network, None, *shapes, str(path))


def _read_litert(path: Path) -> TrainedNetwork:
    litert = optional_import("ai_edge_litert.interpreter", "export")
    try:
        interpreter = litert.Interpreter(model_path=str(path))
        interpreter.allocate_tensors()
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    except Exception as error:  # the interpreter raises ValueError and RuntimeError
        raise InputError(f"{path} cannot be read as LiteRT ({first_line(error)}). Export it anew.") from error
    shapes = [[entry["shape_signature"].tolist() for entry in entries] for entries in (inputs, outputs)]

    def network(batch: np.ndarray) -> np.ndarray:
        if tuple(interpreter.get_input_details()[0]["shape"]) != batch.shape:
            interpreter.resize_tensor_input(inputs[0]["index"], batch.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(inputs[0]["index"], batch)
        interpreter.invoke()
        return interpreter.get_tensor(outputs[0]["index"])

    return _network(network, None, *shapes, str(path))
