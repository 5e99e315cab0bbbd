"""Trained networks from files, each as one function from a batch to probabilities; several of them as one."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brainseg_keras.calibration import read_calibration
from brainseg_keras.errors import InputError, reading
from brainseg_keras.expectation import read_expectation
from brainseg_keras.files import expand
from brainseg_keras.folds import find_folds
from brainseg_keras.inference import sources
from brainseg_keras.inference.checked import checked, picture_shapes
from brainseg_keras.inference.choice import open_with
from brainseg_keras.inference.engines import Opened
from brainseg_keras.inference.ensemble import average, average_model, join_specs
from brainseg_keras.inference.runner import Network
from brainseg_keras.information import RESTORE, check_version, read_json
from brainseg_keras.models.hub import on_hub
from brainseg_keras.models.shipped import list_pretrained, pretrained_info
from brainseg_keras.postprocessing import read_choice
from brainseg_keras.spec import NetworkSpec

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
        digest: Computes the sha256 of its file, or of its weights where it is in memory.
        input_shape: Height, width and channels; None where any goes.
        classes: Channels of its answer.
        name: What messages and reports call it.
        spec: What it is, as the JSON beside it or the file itself says, or as its shapes let guess.
        folder: Where results of tuning are kept: the run folder, or that of the folds; None for a lone file.
        members: The networks that it is the mean of; none of a network by itself.
    """

    network: Network
    engine: str
    padded: bool
    keras_model: Callable[[], Any] | None
    digest: Callable[[], str]
    input_shape: tuple[int | None, int | None, int]
    classes: int
    name: str
    spec: NetworkSpec
    folder: Path | None = None
    members: tuple["TrainedNetwork", ...] = ()


def load_network(model: str | Path | Sequence[str | Path], engine: str | None = None) -> TrainedNetwork:
    """Load a run's best model, a model file, weights that ship with the package, or several of them as one.

    Args:
        model: Run folder; `.keras`, `.onnx` or `.tflite` file; a shipped name such as `lgg`; or `hf://owner/name`. The
            folder of `brainseg train --folds`, or a sequence of any of these, is one network that averages
            probabilities.
        engine: What runs it: `keras`, `onnx`, `openvino`, or `auto` for the fastest of those that are installed.
            Default `keras` for a run folder or a `.keras` file, whose scores it measured, else `auto`.

    Returns:
        The network.

    Raises:
        InputError: Nothing there, a file that cannot be read, an engine that is unknown, not installed, or takes
            other files, a fold without a network, or networks that see or answer different things.

    Example:
        >>> load_network("no/such/run")
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: ...
    """
    if not isinstance(model, str | Path):
        return _load_several(list(model), engine)
    if str(model) in list_pretrained():
        name = str(model)
        known = NetworkSpec.from_info(pretrained_info(name))
        return replace(_opened(sources.shipped(name), engine or "auto")[0], spec=known)
    if on_hub(model):
        # What it sees is not said there, and another model may come to stand at its address.
        network = _opened(sources.on_the_hub(model), engine or "keras")[0]
        return replace(network, digest=lambda: _weights_digest(network.keras_model()))
    path = Path(expand(model, "model"))
    if folds := find_folds(path):
        return _load_folds(path, folds, engine)
    if path.is_dir() and (path / "best.keras").is_file():
        file, beside = path / "best.keras", path / "run.json"
    elif path.is_file() and path.suffix in ENDINGS:
        in_run = path.parent / "run.json"
        file, beside = path, in_run if path.suffix == ".keras" and in_run.is_file() else information_file(path)
    else:
        raise InputError(
            f"No model at {path}. Give the folder of a run (with best.keras) or of folds, a .keras, .onnx or .tflite "
            f"file, or a shipped name: {', '.join(list_pretrained()) or 'none yet'}."
        )
    network, inside = _opened(_SOURCES[file.suffix](file), engine or ("keras" if file.suffix == ".keras" else "auto"))
    return _described(network, inside, beside, str(path))


def _load_several(models: list[str | Path], engine: str | None) -> TrainedNetwork:
    if not models or len(set(map(str, models))) < len(models):
        raise InputError(f"An ensemble is of one network or more, each given once. Received: {models}.")
    networks = [load_network(one, engine) for one in models]
    return networks[0] if len(networks) == 1 else _joined(networks, " + ".join(map(str, models)))


def _load_folds(path: Path, folds: list[Path], engine: str | None) -> TrainedNetwork:
    """Load the networks of all folds, with what was chosen for the whole of them."""
    missing = [fold.name for fold in folds if not (fold / "best.keras").is_file()]
    if missing:
        raise InputError(
            f"Of the {len(folds)} folds of {path} {len(missing)} have no network yet: {', '.join(missing)}. Train "
            f"them: brainseg train --resume {path}; or give those that there are, one by one."
        )
    network = _joined([load_network(fold, engine) for fold in folds], str(path))
    return replace(network, spec=_with_choices(network.spec, path), folder=path)


def _joined(networks: list[TrainedNetwork], name: str) -> TrainedNetwork:
    # The networks of folds that are given beside others count one by one.
    members = tuple(one for network in networks for one in (network.members or (network,)))
    spec = join_specs({one.name: one.spec for one in members})
    models = [one.keras_model for one in members]
    return TrainedNetwork(
        average([one.network for one in members]),
        engine="+".join(dict.fromkeys(one.engine for one in members)),
        padded=any(one.padded for one in members),
        keras_model=(lambda: average_model([model() for model in models])) if all(models) else None,
        digest=lambda: hashlib.sha256("".join(one.digest() for one in members).encode()).hexdigest(),
        # A size that is fixed holds for all.
        input_shape=next((one.input_shape for one in members if one.input_shape[0]), members[0].input_shape),
        classes=members[0].classes,
        name=name,
        spec=spec,
        members=members,
    )


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
    opened = checked(keras.opened(model, fold=False), name)
    return _network("keras", opened, lambda: model, lambda: _weights_digest(model), name)


def _opened(source: sources.Source, engine: str) -> tuple[TrainedNetwork, dict[str, Any] | None]:
    """Open a network; gives also what the file itself says of it."""
    name, opened = open_with(engine, source)
    return _network(name, opened, source.keras_model, source.digest, source.name), opened.information


def _network(
    engine: str, opened: Opened, keras_model: Callable[[], Any] | None, digest: Callable[[], str], name: str
) -> TrainedNetwork:
    shape, classes = picture_shapes(opened, name)
    spec = NetworkSpec.guess(shape, classes, name)
    return TrainedNetwork(opened.network, engine, opened.padded, keras_model, digest, shape, classes, name, spec)


def _weights_digest(model: Any) -> str:
    whole = hashlib.sha256()
    for weights in model.get_weights():
        whole.update(f"{weights.dtype} {weights.shape}\n".encode() + weights.tobytes())
    return whole.hexdigest()


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
    return replace(network, name=name, spec=_with_choices(spec, path.parent), folder=path.parent)


def _with_choices(spec: NetworkSpec, folder: Path) -> NetworkSpec:
    """Add what was chosen for a network after its training, which stands in its folder."""
    calibration, choice = read_calibration(folder), read_choice(folder)
    spec = spec.with_calibration(calibration) if calibration else spec
    spec = replace(spec, expectation=read_expectation(folder) or spec.expectation)
    return spec.with_choice(*choice) if choice else spec
