"""Which engine runs a network here: measured once a machine and network, and remembered."""

import contextlib
import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Sequence
from importlib import util
from pathlib import Path

import numpy as np

from brainseg_keras._version import installed_version
from brainseg_keras.cache import cache_folder
from brainseg_keras.errors import InputError, TrainingError
from brainseg_keras.files import write_json
from brainseg_keras.inference.engines import Opened
from brainseg_keras.inference.sources import Source
from brainseg_keras.registry import ENGINES, closest

#: By how much Keras has to be faster than others, since to load it takes seconds at each start.
_HEAD_START = 1.25
_LIBRARIES = ("brainseg_keras", "keras", "tensorflow", "onnxruntime", "openvino")
_log = logging.getLogger(__name__)


def open_with(engine: str, source: Source) -> tuple[str, Opened]:
    """Open a network with an engine.

    `auto` measures what it does not know yet, on two batches, and keeps the answer in the user's cache.

    Args:
        engine: Its name, or `auto`.
        source: The network.

    Returns:
        Name of the engine, and the network.

    Raises:
        InputError: An engine that is unknown, not installed, or does not take this network.
    """
    if engine == "auto":
        installed = [name for name in source.automatic() if name != "openvino" or util.find_spec("openvino")]
        return _fastest(installed, source)
    if engine not in ENGINES:
        raise InputError(f"engine is one of {', '.join(ENGINES)}. Received: {engine!r}.{closest(ENGINES, engine)}")
    if engine not in source.ways:
        raise InputError(
            f"{source.name} cannot be run by {engine}, but by {', '.join(source.ways)}. Leave --engine {engine} out."
        )
    return engine, source.ways[engine]()


def _fastest(names: Sequence[str], source: Source) -> tuple[str, Opened]:
    first = names[0]
    if len(names) == 1:
        return first, source.ways[first]()
    path = cache_folder() / "engines" / f"{_key(source.digest(), names)}.json"
    known = _remembered(path)
    # Of a network that was converted, the file may be gone; the first engine's own words are for the user.
    if known == first:
        return first, source.ways[first]()
    with contextlib.suppress(InputError, TrainingError):
        if known in names:
            return known, source.ways[known]()
    ready = {first: source.ways[first]()}
    for name in names[1:]:
        try:
            ready[name] = source.ways[name]()
        except (InputError, TrainingError) as error:
            _log.info("%s is left out: %s", name, error)
    seconds = {name: _measure(opened) for name, opened in ready.items()}
    best = min(seconds, key=lambda name: seconds[name] * (_HEAD_START if name == "keras" else 1))
    # What cannot be remembered is measured again.
    with contextlib.suppress(OSError):
        write_json(path, {"engine": best, "seconds": seconds})
    return best, ready[best]


def _measure(opened: Opened) -> float:
    """Give the seconds that a batch takes, the quicker of two; the one before them is for what is set up."""
    sides = [side if isinstance(side, int) and side > 0 else 128 for side in opened.inputs[0][1:]]
    batch = np.random.default_rng(0).uniform(0, 2, (16, *sides)).astype(np.float32)
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        opened.network(batch)
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])


def _remembered(path: Path) -> str | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["engine"]
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _key(digest: str, names: Sequence[str]) -> str:
    """Tell apart what may change the answer: the network, the machine, the libraries."""
    machine = [platform.node(), platform.machine(), os.cpu_count(), platform.python_version()]
    content = json.dumps([digest, list(names), machine, [installed_version(name) for name in _LIBRARIES]])
    return hashlib.sha256(content.encode()).hexdigest()
