"""Trained networks from files, each as one function from a batch to probabilities."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brainseg_keras.calibration import read_calibration
from brainseg_keras.errors import InputError, reading
from brainseg_keras.expectation import read_expectation
from brainseg_keras.files import expand
from brainseg_keras.inference import sources
from brainseg_keras.inference.checked import checked, picture_shapes
from brainseg_keras.inference.choice import open_with
from brainseg_keras.inference.engines import Opened
from brainseg_keras.inference.runner import Network
from brainseg_keras.models.shipped import list_pretrained, pretrained_info
from brainseg_keras.postprocessing import read_choice
from brainseg_keras.spec import RESTORE, NetworkSpec, check_version, read_json

_SOURCES = {".keras": sources.keras_file, ".onnx": sources.onnx_file, ".tflite": sources.litert_file}
ENDINGS = tuple(_SOURCES)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedNetwork:
    """A network and what its file's neighbors say of it.

    Args:
        network: The function.
        engine: What runs it.
        padded: Each size of a batch costs it anew to get ready.
        keras_model: Gives the Keras model behind it, which may take seconds; None where there is none.
        input_shape: Height, width and channels; None where any goes.
        classes: Channels of its answer.
        name: What messages and reports call it.
        spec: What it is, as the JSON beside it or the file itself says, or as its shapes let guess.
        folder: Where results of tuning are kept: the run folder; None for a lone file.
    """

    network: Network
    engine: str
    padded: bool
    keras_model: Callable[[], Any] | None
    input_shape: tuple[int | None, int | None, int]
    classes: int
    name: str
    spec: NetworkSpec
    folder: Path | None = None


def load_network(model: str | Path, engine: str | None = None) -> TrainedNetwork:
    """Load a run's best model, a model file, or weights that ship with the package.

    Args:
        model: Run folder; `.keras`, `.onnx` or `.tflite` file; or a shipped name such as `lgg`.
        engine: What runs it: `keras`, `onnx`, `openvino`, or `auto` for the fastest of those that are installed.
            Default `keras` for a run folder or a `.keras` file, whose scores it measured, else `auto`.

    Returns:
        The network.

    Raises:
        InputError: Nothing there, a file that cannot be read, or an engine that is unknown, not installed, or takes
            other files.

    Example:
        >>> load_network("no/such/run")
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: ...
    """
    if str(model) in list_pretrained():
        name = str(model)
        known = NetworkSpec.from_info(pretrained_info(name))
        return replace(_opened(sources.shipped(name), engine or "auto")[0], spec=known)
    path = Path(expand(model, "model"))
    if path.is_dir() and (path / "best.keras").is_file():
        file, beside = path / "best.keras", path / "run.json"
    elif path.is_file() and path.suffix in ENDINGS:
        in_run = path.parent / "run.json"
        file, beside = path, in_run if path.suffix == ".keras" and in_run.is_file() else information_file(path)
    else:
        raise InputError(
            f"No model at {path}. Give the folder of a run (with best.keras), a .keras, .onnx or .tflite file, or a "
            f"shipped name: {', '.join(list_pretrained()) or 'none yet'}."
        )
    network, inside = _opened(_SOURCES[file.suffix](file), engine or ("keras" if file.suffix == ".keras" else "auto"))
    return _described(network, inside, beside, str(path))


def information_file(path: Path) -> Path:
    """Name the JSON beside an exported file: `lgg.onnx` and `lgg.tflite` have one each."""
    return path.with_name(path.name + ".json")


def wrap_model(model: Any, name: str, engine: str | None = None) -> TrainedNetwork:
    """Make a network of a Keras model; what it learns later is seen.

    Args:
        model: A `keras.Model`.
        name: What messages call it.
        engine: `keras` or `auto`, which is the same here.

    Returns:
        The network.

    Raises:
        InputError: Not from one picture to one picture, or another engine.
    """
    from brainseg_keras.inference.engines import keras

    if engine not in (None, "auto", "keras"):
        raise InputError(f"A model in memory runs on Keras. Received: engine={engine!r}. Save it and give its file.")
    return _network("keras", checked(keras.opened(model, fold=False), name), lambda: model, name)


def _opened(source: sources.Source, engine: str) -> tuple[TrainedNetwork, dict[str, Any] | None]:
    """Open a network; gives also what the file itself says of it."""
    name, opened = open_with(engine, source)
    return _network(name, opened, source.keras_model, source.name), opened.information


def _network(engine: str, opened: Opened, keras_model: Callable[[], Any] | None, name: str) -> TrainedNetwork:
    shape, classes = picture_shapes(opened, name)
    spec = NetworkSpec.guess(shape, classes, name)
    return TrainedNetwork(opened.network, engine, opened.padded, keras_model, shape, classes, name, spec)


def _described(network: TrainedNetwork, inside: dict[str, Any] | None, path: Path, name: str) -> TrainedNetwork:
    """Add what the JSON beside a network's file says, or else the file itself, and what was chosen for it."""
    shapes = (network.input_shape, network.classes)
    if not path.exists() and inside is None:
        return replace(network, name=name, spec=NetworkSpec.guess(*shapes, name))
    content = read_json(path) if path.exists() else inside
    with reading(path if path.exists() else name, RESTORE):
        check_version(content)
        spec = NetworkSpec.from_info(content, (*shapes, name))
        spec.check(*shapes, name)
    if path.name != "run.json":
        return replace(network, name=name, spec=spec)
    if "roles" not in content:
        _log.warning("%s does not say which patients trained it: scores will say so.", path)
    calibration, choice = read_calibration(path.parent), read_choice(path.parent)
    spec = spec.with_calibration(calibration) if calibration else spec
    spec = replace(spec, expectation=read_expectation(path.parent) or spec.expectation)
    return replace(network, name=name, spec=spec.with_choice(*choice) if choice else spec, folder=path.parent)
