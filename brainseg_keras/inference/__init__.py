"""A trained network on any scan: files and folders in, masks out."""

from brainseg_keras.inference.networks import load_network
from brainseg_keras.inference.predict import Predictions, predict
from brainseg_keras.inference.predictor import Predictor

__all__ = ["Predictions", "Predictor", "load_network", "predict"]
