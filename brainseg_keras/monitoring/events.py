"""One small writer of TensorBoard's event files that needs no TensorFlow."""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    import keras

#: TensorBoard's names of its pages, to which a record belongs.
_log = logging.getLogger(__name__)
_TEXT, _HISTOGRAMS = "text", "histograms"


class EventWriter:
    """Writes scalars, pictures, text, histograms, curves, graphs and settings where TensorBoard finds them.

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
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        Path(folder).mkdir(parents=True, exist_ok=True)
        # TensorBoard's own writer has a thread that dies of a full disk with a traceback, unheard by anyone.
        self.path = Path(folder) / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file: BinaryIO | None = self.path.open("xb")
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Write numbers by tag."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add([Summary.Value(tag=tag, simple_value=float(value)) for tag, value in values.items()], step)

    def image(self, tag: str, encoded: bytes, size: tuple[int, int], step: int) -> None:
        """Write one picture, a PNG or JPEG file's bytes, of `(height, width)` pixels."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        picture = Summary.Image(height=size[0], width=size[1], colorspace=3, encoded_image_string=encoded)
        self._add([Summary.Value(tag=tag, image=picture)], step)

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        """Write a page of Markdown."""
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING

        page = TensorProto(dtype=DT_STRING, tensor_shape=TensorShapeProto(), string_val=[_utf8(markdown).encode()])
        self._add_tensor(tag, page, _metadata(_TEXT), step)

    def histogram(self, tag: str, values: np.ndarray, step: int, *, bins: int = 20) -> None:
        """Write the distribution of values from 0 to 1."""
        counts, edges = np.histogram(values, bins, (0, 1))
        buckets = np.stack([edges[:-1], edges[1:], counts], axis=-1)
        self._add_tensor(tag, _tensor(buckets), _metadata(_HISTOGRAMS), step)

    def precision_recall(self, tag: str, counts: np.ndarray, step: int) -> None:
        """Write a curve from true and false positives, true and false negatives, `(4, thresholds)`, 0 to 1 evenly."""
        from tensorboard.plugins.pr_curve.metadata import create_summary_metadata

        tp, fp, _, fn = counts
        curve = np.concatenate([counts, [tp / np.maximum(tp + fp, 1), tp / np.maximum(tp + fn, 1)]])
        self._add_tensor(tag, _tensor(curve), create_summary_metadata(tag, "", counts.shape[1]), step)

    def graph(self, model: "keras.Model") -> None:
        """Write the layers of a model and what flows between them, grouped by level."""
        from tensorboard.compat.proto.event_pb2 import Event

        self._write(Event(wall_time=time.time(), graph_def=_graph_of(model).SerializeToString()))

    def settings(self, values: dict[str, bool | float | str], metrics: dict[str, str]) -> None:
        """Write what the page HPARAMS compares: a run's settings, and which scalars to hold against them.

        Args:
            values: Settings by name; the same names in each run.
            metrics: Tags of scalars, and how the page shall call them.
        """
        from google.protobuf.struct_pb2 import Value
        from tensorboard.plugins.hparams import api_pb2, metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

        kinds = {bool: api_pb2.DATA_TYPE_BOOL, str: api_pb2.DATA_TYPE_STRING}
        entries = [
            api_pb2.HParamInfo(name=name, type=kinds.get(type(value), api_pb2.DATA_TYPE_FLOAT64))
            for name, value in values.items()
        ]
        scores = [
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=name) for tag, name in metrics.items()
        ]
        now = time.time()
        experiment = api_pb2.Experiment(time_created_secs=now, hparam_infos=entries, metric_infos=scores)
        start = SessionStartInfo(start_time_secs=now)
        fields = {bool: "bool_value", str: "string_value"}
        for name, value in values.items():
            value = _utf8(value) if isinstance(value, str) else value
            start.hparams[name].CopyFrom(Value(**{fields.get(type(value), "number_value"): value}))
        for tag, content in (
            (metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment)),
            (metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start)),
        ):
            self._add_tensor(tag, metadata.NULL_TENSOR, metadata.create_summary_metadata(content), 0)

    def flush(self) -> None:
        """Let everybody see what was written."""
        self._try(lambda: self._file.flush())

    def close(self) -> None:
        """Finish the file."""
        self._try(lambda: self._file.close())
        self._file = None

    def _write(self, event: Any) -> None:
        self._try(lambda: self._records.write(event.SerializeToString()))

    def _try(self, write: Callable[[], object]) -> None:
        """Let a training outlive its log: at the first error say what it means, and write nothing from then on."""
        if self._file is None:
            return
        try:
            write()
        except OSError as error:
            _log.warning("TensorBoard sees no more of this run: %s cannot be written (%s).", self.path, error.strerror)
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _add_tensor(self, tag: str, tensor: Any, metadata: Any, step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add([Summary.Value(tag=tag, metadata=metadata, tensor=tensor)], step)

    def _add(self, values: list, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))


def _utf8(text: str) -> str:
    """Write out what UTF-8 does not have, as in a path in another locale: protocol buffers take UTF-8 alone."""
    return text.encode(errors="backslashreplace").decode()


def _metadata(plugin: str) -> Any:
    from tensorboard.compat.proto.summary_pb2 import SummaryMetadata

    return SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin))


def _tensor(values: np.ndarray) -> Any:
    from tensorboard.util.tensor_util import make_tensor_proto

    return make_tensor_proto(np.asarray(values, np.float32))


def _graph_of(model: "keras.Model") -> Any:
    """Describe a functional model; TensorBoard folds what stands before a slash, so that levels open at a click."""
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.node_def_pb2 import NodeDef

    graph = GraphDef()
    for operation in model.operations:
        node = NodeDef(name=_scoped(operation.name), op=type(operation).__name__)
        # A recurrent unit calls a layer several times: its inputs are those of all calls.
        calls = operation._inbound_nodes
        sources = [tensor._keras_history.operation.name for call in calls for tensor in call.input_tensors]
        node.input.extend(dict.fromkeys(map(_scoped, sources)))
        node.attr["output"].s = str(tuple(calls[0].output_tensors[0].shape)).encode()
        if hasattr(operation, "count_params"):
            node.attr["parameters"].i = operation.count_params()
        graph.node.append(node)
    return graph


def _scoped(name: str) -> str:
    level, dash, rest = name.partition("_")
    return f"{level}/{rest}" if dash and level[-1].isdigit() else name
