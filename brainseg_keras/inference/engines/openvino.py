"""OpenVINO as an engine: .onnx files on Intel's and other processors, without Keras."""

from pathlib import Path
from typing import Any

import numpy as np

from brainseg_keras.errors import InputError, first_line, optional_import
from brainseg_keras.inference.engines import Opened, onnx, threads


def read(path: Path) -> Opened:
    """Read an .onnx file; it is computed in float32 even where the processor has something coarser and faster.

    Raises:
        InputError: It is damaged, or OpenVINO is not installed.
    """
    openvino = optional_import("openvino", "openvino")
    try:
        core = openvino.Core()
        model = core.read_model(str(path))
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if count := threads():
            hints["INFERENCE_NUM_THREADS"] = count
        compiled = core.compile_model(model, "CPU", hints)
    except Exception as error:  # openvino raises RuntimeError and kinds of its own
        raise InputError(f"{path} cannot be read by OpenVINO ({first_line(error)}). Export it anew.") from error

    def network(batch: np.ndarray) -> np.ndarray:
        # A request of its own for each call: the page asks from several threads.
        return np.asarray(compiled.create_infer_request().infer([batch])[0], np.float32)

    return Opened(network, _shapes(model.inputs), _shapes(model.outputs), information=onnx.read(path).information)


def _shapes(ports: list[Any]) -> list[tuple]:
    return [tuple(side.get_length() if side.is_static else None for side in port.partial_shape) for port in ports]
