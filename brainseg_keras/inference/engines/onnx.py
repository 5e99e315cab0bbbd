"""ONNX Runtime as an engine: .onnx files, without Keras."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from brainseg_keras.errors import InputError, first_line
from brainseg_keras.inference.engines import Opened, threads

#: The entry of an ONNX file's metadata that says what the network is.
INFORMATION = "brainseg_keras"


def read(path: Path) -> Opened:
    """Read an .onnx file.

    Raises:
        InputError: It is damaged.
    """
    try:
        options = onnxruntime.SessionOptions()
        # 0 is all cores: it asks no variable itself.
        options.intra_op_num_threads = threads() or 0
        session = onnxruntime.InferenceSession(str(path), options, providers=onnxruntime.get_available_providers())
    except Exception as error:  # onnxruntime has exceptions of its own
        raise InputError(f"{path} cannot be read as ONNX ({first_line(error)}). Export it anew.") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()

    def network(batch: np.ndarray) -> np.ndarray:
        return session.run(None, {inputs[0].name: batch})[0]

    shapes = [[tuple(entry.shape) for entry in entries] for entries in (inputs, outputs)]
    return Opened(network, *shapes, information=_information(session.get_modelmeta().custom_metadata_map, path))


def _information(metadata: dict[str, str], path: Path) -> dict[str, Any] | None:
    """Take out of a file's metadata what its export wrote there; None where another wrote the file."""
    if INFORMATION not in metadata:
        return None
    try:
        return dict(json.loads(metadata[INFORMATION]))
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: its metadata are damaged ({first_line(error)}). Export it anew.") from error
