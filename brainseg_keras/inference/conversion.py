"""Keras networks as ONNX: written and compared with Keras, and kept in the user's cache for the next start."""

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np

from brainseg_keras.cache import cache_folder
from brainseg_keras.errors import InputError, TrainingError, first_line, optional_import
from brainseg_keras.files import write_json, write_whole
from brainseg_keras.models.shipped import file_digest

#: Largest difference of a probability from Keras' that a float32 network in another form may have.
PARITY = 1e-4
#: Converted networks that stay in the cache; the one that was longest unused goes first.
_MOST = 16
#: The converter's optimizer goes through sets: in some processes it left an axis too many in a graph of a few
#: layers. Each attempt has other names, and so another order.
_ATTEMPTS = 4
_log = logging.getLogger(__name__)


def sample_for(model: Any) -> np.ndarray:
    """Make two slices within the normalized range, of the network's size."""
    height, width, channels = (size or 64 for size in model.input_shape[1:])
    return np.random.default_rng(0).uniform(0, 2, (2, height, width, channels)).astype(np.float32)


def write_onnx(model: Any, path: Path, information: dict[str, Any] | None = None) -> None:
    """Write a Keras model as ONNX, for any batch size.

    Args:
        model: Called once already; its BatchNormalization is folded.
        path: The file.
        information: What the file shall say of the network; none unless told.

    Raises:
        InputError: The libraries that convert are not installed.
    """
    optional_import("tf2onnx", "export")
    onnx = optional_import("onnx", "export")
    for _ in range(_ATTEMPTS):
        with quiet():
            model.export(path, format="onnx", verbose=False)
        content = onnx.load(path)
        if len(content.graph.output[0].type.tensor_type.shape.dim) == len(model.outputs[0].shape):
            break
    if information is not None:
        from brainseg_keras.inference.engines.onnx import INFORMATION

        onnx.helper.set_model_props(content, {INFORMATION: json.dumps(information)})
        onnx.save(content, path)


def converted(model: Callable[[], Any], digest: str) -> Path:
    """Find a Keras network as ONNX in the user's cache, or convert it.

    Args:
        model: Loads the network; called where it is not there yet, or damaged.
        digest: The sha256 of the network's file.

    Returns:
        The ONNX file.

    Raises:
        InputError: The libraries that convert are not installed, or cannot convert this network.
        TrainingError: What they made answers otherwise than Keras.
    """
    path = cache_folder() / "networks" / f"{digest}.onnx"
    record = path.with_suffix(".json")
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        if json.loads(record.read_text(encoding="utf-8"))["sha256"] == file_digest(path):
            path.touch()
            return path
    optional_import("tf2onnx", "export")
    _log.warning("Converting the network to ONNX, once; the next start needs no Keras.")
    _convert(model(), path)
    write_json(record, {"sha256": file_digest(path)})
    _forget_old(path.parent)
    return path


def can_convert(digest: str) -> bool:
    """Say whether `converted` may have an answer: it is there, or what makes it is installed."""
    there = (cache_folder() / "networks" / f"{digest}.onnx").is_file()
    return there or all(util.find_spec(name) for name in ("tf2onnx", "onnx"))


def _convert(model: Any, path: Path) -> None:
    from brainseg_keras.inference.engines import onnx
    from brainseg_keras.models.folding import fold_batch_norm

    folded = fold_batch_norm(model)
    sample = sample_for(folded)
    # Keras' ONNX export wants a model that has been called.
    folded(sample)
    expected = np.asarray(model(sample, training=False), np.float32)

    def write(scratch: Path) -> None:
        try:
            write_onnx(folded, scratch)
        except (InputError, OSError):
            raise
        except Exception as error:  # tf2onnx has many kinds for what it does not know
            raise InputError(f"{model.name} cannot be converted ({first_line(error)}). Use --engine keras.") from error
        difference = float(np.abs(onnx.read(scratch).network(sample) - expected).max())
        if not difference < PARITY:
            raise TrainingError(
                f"As ONNX {model.name} differs from Keras by {difference:.2g}, more than {PARITY:g}. Use "
                "--engine keras."
            )

    write_whole(path, write)


def _forget_old(folder: Path) -> None:
    networks = sorted(folder.glob("*.onnx"), key=lambda path: path.stat().st_mtime)
    for path in networks[:-_MOST]:
        path.with_suffix(".json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the converters' chatter off the terminal."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
