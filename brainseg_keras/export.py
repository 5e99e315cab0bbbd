"""Trained networks as SavedModel, ONNX or LiteRT, each compared with Keras before it is called done."""

import errno
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from brainseg_keras.errors import InputError, TrainingError, optional_import
from brainseg_keras.files import write_json, write_whole
from brainseg_keras.inference.conversion import PARITY, quiet, sample_for, write_onnx
from brainseg_keras.inference.networks import information_file, load_network
from brainseg_keras.inference.predictor import Predictor
from brainseg_keras.information import read_json
from brainseg_keras.models.folding import fold_batch_norm, scale_logits
from brainseg_keras.spec import NetworkSpec

FORMATS = ("savedmodel", "onnx", "litert")
QUANTIZATIONS = ("dynamic", "int8")
_NORMALIZATION = (
    "(x - background) / (tissue - background), clipped to [0, 4]; per volume and channel: background is the 1st "
    "percentile, tissue the median inside the head"
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        path: The file, or the folder of a SavedModel.
        difference: Largest difference of a probability from Keras', beyond what float32 rounds off there.
        information: The JSON beside it: preprocessing, postprocessing, channels.
    """

    path: Path
    difference: float
    information: Path


def export(
    model: str | Path | Sequence[str | Path] | Predictor,
    output: str | Path,
    *,
    format: str = "onnx",
    quantize: str | None = None,
) -> Exported:
    """Export a network for use without Keras, in float32 and for any batch size.

    BatchNormalization is folded into the convolutions, and the calibration into the last of them. Preprocessing stays
    outside the graph: its parameters stand in a JSON beside it (`lgg.onnx.json`), which `brainseg predict --model`
    reads; an ONNX file also holds them itself.

    Args:
        model: Run folder, `.keras` file, shipped name, the folder of `brainseg train --folds`, several of these, or a
            `Predictor` of one. Several become one graph, which averages their probabilities.
        output: File (`.onnx`, `.tflite`) or folder (SavedModel) to write.
        format: `savedmodel`, `onnx` or `litert`.
        quantize: For LiteRT: `dynamic` (8-bit weights) or `int8` (also activations, calibrated on noise within the
            normalized range); None is float32.

    Returns:
        What was written, with its difference from Keras.

    Raises:
        InputError: An unknown format, a model without Keras behind it, a file of another ending, or something there.
        TrainingError: The float32 export answers otherwise than Keras; it is removed again.

    Example:
        >>> export("no/such/run", "model.onnx")
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: ...
    """
    path = Path(output)
    information = information_file(path)
    _check(path, information, format, quantize)
    predictor = model if isinstance(model, Predictor) else Predictor(model)
    original = predictor.model
    if original is None:
        raise InputError(f"{predictor.name} is an export already. Give the run or the .keras file it came from.")
    keras_model = fold_batch_norm(original)
    spec = _calibrate(keras_model, predictor)
    sample = sample_for(keras_model)
    # Keras' ONNX export wants a model that has been called.
    keras_model(sample)
    answer = np.asarray(original(sample, training=False), np.float32)
    lowest, highest = _expected(answer, predictor.spec) if spec.calibration.in_network else (answer, answer)
    content = spec.to_info() | {"format": format, "quantize": quantize, "normalization": _NORMALIZATION}
    differences = []

    def write_and_compare(scratch: Path) -> None:
        _write(keras_model, scratch, format, quantize, content)
        found = _runner(format, scratch)(sample)
        differences.append(float(np.maximum(lowest - found, found - highest).max()))
        if quantize is None and not differences[0] < PARITY:
            raise TrainingError(
                f"The {format} export differs from Keras by {differences[0]:.2g}, more than {PARITY:g}."
            )
        # Before the network: one without its JSON would be used with the wrong preprocessing.
        write_json(information, content | {"difference_from_keras": differences[0]})

    write_whole(path, write_and_compare)
    return Exported(path, differences[0], information)


def _calibrate(model: Any, predictor: Predictor) -> NetworkSpec:
    """Write the calibration into a copy's own weights, where that can be; gives the spec of what came out."""
    spec = predictor.spec
    calibration, classes = spec.calibration, len(spec.target.channels)
    if not calibration.changes:
        return spec
    bias = calibration.bias
    shift = [-bias] + [0.0] * (classes - 1) if spec.target.exclusive else [bias] * classes
    if scale_logits(model, 1 / calibration.temperature, shift):
        return replace(spec, calibration=replace(calibration, in_network=True))
    _log.warning(
        "%s does not end in a convolution and a sigmoid or softmax: its calibration stands in the JSON alone, and "
        "other programs have to apply it.",
        predictor.name,
    )
    return spec


def _expected(answer: np.ndarray, spec: NetworkSpec) -> tuple[np.ndarray, np.ndarray]:
    """Calibrate Keras' answer. A sigmoid near 1 is rounded, so that its logit lies between two bounds."""
    if spec.target.exclusive:
        expected = spec.calibration.apply(answer, exclusive=True)
        return expected, expected
    step = np.finfo(np.float32).eps
    lowest, highest = (spec.calibration.apply(answer + change, exclusive=False) for change in (-step, step))
    return lowest, highest


def _check(path: Path, information: Path, format: str, quantize: str | None) -> None:
    if format not in FORMATS:
        raise InputError(f"format is one of {', '.join(FORMATS)}. Received: {format!r}.")
    if quantize is not None and (format != "litert" or quantize not in QUANTIZATIONS):
        raise InputError(
            f"quantize is one of {', '.join(QUANTIZATIONS)}, for litert alone. Received: {quantize!r} for {format}."
        )
    ending = {"onnx": ".onnx", "litert": ".tflite"}.get(format)
    if ending and path.suffix != ending:
        raise InputError(f"A {format} file ends in {ending}. Received: {path}.")
    if path.exists():
        raise InputError(f"{path} exists already. Give another -o, or remove it.")
    # Of an export that was stopped between its two files, the JSON may be there; any other is not ours to replace.
    if information.exists() and "difference_from_keras" not in read_json(information):
        raise InputError(f"{information} exists already and is none of an export. Give another -o, or remove it.")


def _write(model: Any, path: Path, format: str, quantize: str | None, content: dict[str, Any]) -> None:
    if format == "onnx":
        write_onnx(model, path, content)
    elif format == "litert":
        _write_litert(model, path, quantize)
    else:
        _export_savedmodel(model, path)


def _write_litert(model: Any, path: Path, quantize: str | None) -> None:
    optional_import("ai_edge_litert", "export")
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder, quiet():
        _export_savedmodel(model, Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if quantize:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "int8":
            sample = sample_for(model)
            converter.representative_dataset = lambda: ([sample[i : i + 1]] for i in range(len(sample)))
        path.write_bytes(converter.convert())


def _export_savedmodel(model: Any, path: Path) -> None:
    import tensorflow as tf

    try:
        with quiet():
            model.export(path, verbose=False)
    except tf.errors.OpError as error:
        # TensorFlow has words of its own for a full disk.
        raise OSError(errno.EIO, error.message, str(path)) from error


def _runner(format: str, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    if format != "savedmodel":
        return load_network(path, "onnx" if format == "onnx" else None).network
    import tensorflow as tf

    restored = tf.saved_model.load(str(path))
    # The closure keeps the object alive: its signature alone would not.
    return lambda batch: restored.serve(batch).numpy()
