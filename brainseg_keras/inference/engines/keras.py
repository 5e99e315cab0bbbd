"""Keras as an engine: .keras files and models in memory."""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from brainseg_keras.errors import InputError, first_line
from brainseg_keras.inference.engines import Opened
from brainseg_keras.inference.runner import Network
from brainseg_keras.models.folding import fold_batch_norm
from brainseg_keras.models.hub import load_from_hub
from brainseg_keras.models.supervision import SupervisedModel


def read(path: Path) -> Opened:
    """Read a .keras file; BatchNormalization is folded.

    Raises:
        InputError: It is damaged, or holds no network.
    """
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # whatever zip, JSON, HDF5 or Keras raise on a damaged file
        raise InputError(f"{path} cannot be read as a Keras model ({first_line(error)}). Save it anew.") from error
    return _whole(model, str(path))


def fetch(address: str) -> Opened:
    """Fetch a model from the Hugging Face Hub; BatchNormalization is folded.

    Raises:
        InputError: It cannot be fetched, or is no network.
    """
    return _whole(load_from_hub(address), address)


def _whole(model: Any, name: str) -> Opened:
    if not isinstance(model, keras.Model) or not model.built:
        raise InputError(f"{name} holds {type(model).__name__}, which is not a network. Save the model itself.")
    if not all(np.isfinite(weights).all() for weights in model.get_weights()):
        raise InputError(f"{name} holds NaN or infinite weights: it is damaged. Restore it, or train it again.")
    # The last.keras of a training with deep supervision.
    return opened(model.network if isinstance(model, SupervisedModel) else model, fold=True)


def opened(model: keras.Model, *, fold: bool) -> Opened:
    """Give a model as a network.

    Args:
        model: Any model; whether it segments is for the caller to say.
        fold: Fold BatchNormalization into its convolutions: faster, and what the model learns later is not seen.
    """
    inputs = [tuple(tensor.shape) for tensor in model.inputs]
    outputs = [tuple(tensor.shape) for tensor in model.outputs]
    network = keras_function(fold_batch_norm(model) if fold else model)
    return Opened(network, inputs, outputs, padded=True, model=model)


def keras_function(model: Any) -> Network:
    """Give a Keras model as a function of arrays."""
    return lambda batch: np.asarray(model.predict_on_batch(batch), np.float32)
