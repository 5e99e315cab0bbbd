"""TensorBoard: one small event writer that needs no TensorFlow."""

import io
import time
from pathlib import Path

import numpy as np
from PIL import Image

from brainseg_keras.training.validation import PanelSlice
from brainseg_keras.visualization import PREDICTION, TRUTH, draw_outlines, to_gray


class EventWriter:
    """Writes scalars, pictures and text where TensorBoard finds them.

    Args:
        folder: The log folder.

    Example:
        >>> import tempfile, pathlib
        >>> folder = tempfile.mkdtemp()
        >>> writer = EventWriter(folder)
        >>> writer.scalars({"loss": 0.5}, step=1)
        >>> writer.close()
        >>> len(list(pathlib.Path(folder).glob("events.out.tfevents.*")))
        1
    """

    def __init__(self, folder: str | Path):
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(folder))

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Write numbers by tag."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add([Summary.Value(tag=tag, simple_value=float(value)) for tag, value in values.items()], step)

    def image(self, tag: str, pixels: np.ndarray, step: int) -> None:
        """Write one picture `(height, width, 3)`, uint8."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        height, width = pixels.shape[:2]
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
        picture = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=buffer.getvalue())
        self._add([Summary.Value(tag=tag, image=picture)], step)

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        """Write a page of Markdown."""
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING

        plugin = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        page = TensorProto(dtype=DT_STRING, tensor_shape=TensorShapeProto(), string_val=[markdown.encode()])
        self._add([Summary.Value(tag=tag, metadata=plugin, tensor=page)], step)

    def panel(
        self, slices: list[PanelSlice], probabilities: list[np.ndarray], step: int, threshold: float = 0.5
    ) -> None:
        """Write the panel: each slice with the outline of truth (green) and of the prediction (red)."""
        for shown, probability in zip(slices, probabilities, strict=True):
            outlines = [(shown.mask, TRUTH), (probability > threshold, PREDICTION)]
            picture = draw_outlines(to_gray(shown.image), outlines)
            self.image(f"validation/{shown.patient}_{shown.number}", picture, step)

    def flush(self) -> None:
        """Bring everything to disk."""
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()

    def _add(self, values: list, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
