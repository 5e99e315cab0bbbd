"""Where each engine finds a network: shipped, in a Keras file, or exported."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from brainseg_keras.inference.checked import checked
from brainseg_keras.inference.conversion import can_convert, converted
from brainseg_keras.inference.engines import Opened
from brainseg_keras.models.registry import load_pretrained
from brainseg_keras.models.shipped import ONNX, announce, file_digest, pretrained_info, shipped_file

#: Engines that read ONNX.
_READ_ONNX = ("onnx", "openvino")


class Source(NamedTuple):
    """A network before an engine has it.

    Args:
        name: What messages call it.
        digest: Computes the sha256 of its file.
        ways: Opens it, by the name of the engine.
        automatic: Gives those engines among which `auto` chooses; the first always takes it.
    """

    name: str
    digest: Callable[[], str]
    ways: Mapping[str, Callable[[], Opened]]
    automatic: Callable[[], Sequence[str]]

    @property
    def keras_model(self) -> Callable[[], Any] | None:
        """What gives the Keras model, or None."""
        return (lambda: self.ways["keras"]().model) if "keras" in self.ways else None


def shipped(name: str) -> Source:
    """Give a network that ships; `auto` takes it without Keras."""
    announce(name)
    ways = {"keras": cache(lambda: _engine("keras").opened(load_pretrained(name), fold=True))}
    ways |= _onnx_ways(lambda: shipped_file(name, ONNX))
    return _source(name, lambda: pretrained_info(name)[ONNX[1]], ways, lambda: _READ_ONNX)


def keras_file(file: Path) -> Source:
    """Give the network of a .keras file; engines other than Keras read what was once converted."""
    digest = cache(lambda: file_digest(file))
    opened = cache(lambda: _engine("keras").read(file))
    ways = {"keras": opened} | _onnx_ways(lambda: converted(lambda: opened().model, digest()))
    return _source(str(file), digest, ways, lambda: ("keras", *_READ_ONNX) if can_convert(digest()) else ("keras",))


def on_the_hub(address: str) -> Source:
    """Give a network of the Hugging Face Hub, which Keras fetches and runs."""
    ways = {"keras": cache(lambda: _engine("keras").fetch(address))}
    return _source(address, lambda: hashlib.sha256(address.encode()).hexdigest(), ways, lambda: ("keras",))


def onnx_file(file: Path) -> Source:
    """Give the network of an .onnx file."""
    return _source(str(file), lambda: file_digest(file), _onnx_ways(lambda: file), lambda: _READ_ONNX)


def litert_file(file: Path) -> Source:
    """Give the network of a .tflite file."""
    ways = {"litert": lambda: _engine("litert").read(file)}
    return _source(str(file), lambda: file_digest(file), ways, lambda: ("litert",))


def _onnx_ways(file: Callable[[], Path]) -> dict[str, Callable[[], Opened]]:
    return {engine: partial(lambda engine: _engine(engine).read(file()), engine) for engine in _READ_ONNX}


def _engine(name: str) -> Any:
    # Each loads a library of its own.
    return import_module(f"brainseg_keras.inference.engines.{name}")


def _source(
    name: str,
    digest: Callable[[], str],
    ways: Mapping[str, Callable[[], Opened]],
    automatic: Callable[[], Sequence[str]],
) -> Source:
    def whole(open_it: Callable[[], Opened]) -> Callable[[], Opened]:
        return lambda: checked(open_it(), name)

    return Source(name, digest, {engine: whole(open_it) for engine, open_it in ways.items()}, automatic)
