"""Trained networks from files, each as one function from a batch to probabilities: Keras, ONNX, LiteRT."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from brainseg_keras.errors import InputError

#: From `(batch, height, width, channels)` to `(batch, height, width, classes)`, both float32.
Network = Callable[[np.ndarray], np.ndarray]
ENDINGS = (".keras", ".onnx", ".tflite")


@dataclass(frozen=True)
class TrainedNetwork:
    """A network and what its file's neighbours say of it.

    Args:
        network: The function.
        model: The Keras model behind it, or None.
        info: run.json of its run folder, or the JSON beside an exported file; empty where there is none.
        folder: Where results of tuning are kept: the run folder; None for a lone file.
        input_shape: Height, width and channels; None where any goes.
        name: What messages and reports call it.
    """

    network: Network
    model: Any
    info: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    input_shape: tuple[int | None, int | None, int] = (None, None, 3)
    name: str = ""


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
    from brainseg_keras.models.pretrained import list_pretrained, load_pretrained, pretrained_info

    if str(model) in list_pretrained():
        keras_model = load_pretrained(str(model))
        return _from_keras(keras_model, pretrained_info(str(model)), None, str(model))
    path = Path(model)
    if path.is_dir() and (path / "best.keras").is_file():
        return _from_keras(_read_keras(path / "best.keras"), _read_json(path / "run.json"), path, str(path))
    if not path.is_file() or path.suffix not in ENDINGS:
        raise InputError(
            f"No model at {path}. Give the folder of a run (with best.keras), a .keras, .onnx or .tflite file, or a "
            f"shipped name: {', '.join(list_pretrained()) or 'none yet'}."
        )
    if path.suffix == ".keras":
        in_run = (path.parent / "run.json").is_file()
        info = _read_json(path.parent / "run.json" if in_run else path.with_suffix(".json"))
        return _from_keras(_read_keras(path), info, path.parent if in_run else None, str(path))
    info = _read_json(path.with_suffix(".json"))
    read = _read_onnx if path.suffix == ".onnx" else _read_litert
    network, shape = read(path)
    return TrainedNetwork(network, None, info, None, shape, str(path))


def _from_keras(model: Any, info: dict[str, Any], folder: Path | None, name: str) -> TrainedNetwork:
    from brainseg_keras.models.folding import fold_batch_norm

    height, width, channels = model.input_shape[1:]
    fast = fold_batch_norm(model)

    def network(batch: np.ndarray) -> np.ndarray:
        return np.asarray(fast.predict_on_batch(batch), np.float32)

    return TrainedNetwork(network, model, info, folder, (height, width, channels), name)


def _read_keras(path: Path) -> Any:
    import keras

    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # whatever zip, JSON, HDF5 or Keras raise on a damaged file
        raise InputError(f"{path} cannot be read as a Keras model ({_first_line(error)}). Save it anew.") from error


def _read_onnx(path: Path) -> tuple[Network, tuple]:
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("onnxruntime is missing. Install it: pip install 'brainseg_keras[export]'") from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=onnxruntime.get_available_providers())
    except Exception as error:  # onnxruntime has exceptions of its own
        raise InputError(f"{path} cannot be read as ONNX ({_first_line(error)}). Export it anew.") from error
    entry = session.get_inputs()[0]
    shape = tuple(size if isinstance(size, int) else None for size in entry.shape[1:])
    return lambda batch: session.run(None, {entry.name: batch})[0], shape


def _read_litert(path: Path) -> tuple[Network, tuple]:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise InputError("ai-edge-litert is missing. Install it: pip install 'brainseg_keras[export]'") from error
    try:
        interpreter = Interpreter(model_path=str(path))
        source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    except Exception as error:  # the interpreter raises ValueError and RuntimeError
        raise InputError(f"{path} cannot be read as LiteRT ({_first_line(error)}). Export it anew.") from error

    def network(batch: np.ndarray) -> np.ndarray:
        if tuple(interpreter.get_input_details()[0]["shape"]) != batch.shape:
            interpreter.resize_tensor_input(source["index"], batch.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], batch)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    interpreter.allocate_tensors()
    shape = tuple(int(size) if size > 0 else None for size in source["shape_signature"][1:])
    return network, shape


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}). Restore it, or remove it to go on with defaults.") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
