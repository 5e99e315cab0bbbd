"""TensorBoard for a radiologist: what each epoch shows, written without TensorFlow."""

from brainseg_keras.monitoring.dashboard import Dashboard, ShownSlice
from brainseg_keras.monitoring.events import EventWriter

__all__ = ["Dashboard", "EventWriter", "ShownSlice"]
