"""LiteRT as an engine: .tflite files, without Keras."""

from pathlib import Path

import numpy as np

from brainseg_keras.errors import InputError, first_line, optional_import
from brainseg_keras.inference.engines import Opened, threads


def read(path: Path) -> Opened:
    """Read a .tflite file.

    Raises:
        InputError: It is damaged, or LiteRT is not installed.
    """
    litert = optional_import("ai_edge_litert.interpreter", "export")
    try:
        interpreter = litert.Interpreter(model_path=str(path), num_threads=threads())
        interpreter.allocate_tensors()
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    except Exception as error:  # the interpreter raises ValueError and RuntimeError
        raise InputError(f"{path} cannot be read as LiteRT ({first_line(error)}). Export it anew.") from error

    def network(batch: np.ndarray) -> np.ndarray:
        if tuple(interpreter.get_input_details()[0]["shape"]) != batch.shape:
            interpreter.resize_tensor_input(inputs[0]["index"], batch.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(inputs[0]["index"], batch)
        interpreter.invoke()
        return interpreter.get_tensor(outputs[0]["index"])

    shapes = [[tuple(entry["shape_signature"].tolist()) for entry in entries] for entries in (inputs, outputs)]
    return Opened(network, *shapes, padded=True)
