"""The run folder: what a model file forgets, written whole or not at all."""

import dataclasses
import hashlib
import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import pandas as pd

from brainseg_keras.data.manifest import COLUMNS
from brainseg_keras.errors import InputError
from brainseg_keras.files import check_output, check_replaceable, expand, write_json, write_whole
from brainseg_keras.inference.information import read_information
from brainseg_keras.training.config import TrainingConfig


class RunFolder:
    """Names and files of one run: config.yaml, run.json, history.csv, best.keras, last.keras, logs/, curves.png.

    Args:
        path: The folder.

    Example:
        >>> RunFolder("tensorboard_logs/res_unet-1").best.name
        'best.keras'
    """

    def __init__(self, path: str | Path):
        self.path = Path(expand(path, "run"))
        self.config = self.path / "config.yaml"
        self.info = self.path / "run.json"
        self.history = self.path / "history.csv"
        self.best = self.path / "best.keras"
        self.last = self.path / "last.keras"
        self.logs = self.path / "logs"
        self.curves = self.path / "curves.png"

    def check_new(self) -> None:
        """Refuse a folder that holds a run or somebody else's files of the same names, or that cannot be written.

        Raises:
            InputError: There is such a file in it already, or no folder can be there.
        """
        check_output(self.path, "folder")
        try:
            str(self.path).encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"The folder of a run has a name in UTF-8, for TensorFlow. Received: {self.path}. Give another -o, or "
                "set PYTHONUTF8=1."
            ) from error
        if self.info.exists() or self.last.exists():
            raise InputError(
                f"{self.path} holds a run already. Continue it with --resume {self.path}, or give another -o."
            )
        for file in (self.history, self.best, self.curves):
            if file.exists():
                raise InputError(f"{file} is there, and is no run's. Give another -o, or move it away.")
        check_replaceable(self.config, TrainingConfig.help()["data"])

    def read_info(self) -> dict[str, Any]:
        """Read run.json.

        Returns:
            Its content.

        Raises:
            InputError: There is no run here, or nothing to continue from.
        """
        if not self.info.is_file():
            raise InputError(f"{self.path} holds no run (no run.json in it). Give the folder of `brainseg train`.")
        return read_information(self.info)

    def write_info(self, info: dict[str, Any]) -> None:
        """Write run.json."""
        write_json(self.info, info)

    def write_model(self, model: keras.Model, path: Path) -> None:
        """Save a model."""
        write_whole(path, model.save)


def random_states(model: keras.Model) -> list[list[int]]:
    """Read the state of each of a model's random generators (dropout), which a .keras file does not keep.

    Args:
        model: Any model.

    Returns:
        Seed and number of draws of each, in the model's order.
    """
    return [keras.ops.convert_to_numpy(variable).tolist() for variable in _generators(model)]


def restore_random_states(model: keras.Model, states: list[list[int]], share: float = 1.0) -> None:
    """Bring a model's random generators to where they were.

    Args:
        model: The model that was read from last.keras.
        states: What `random_states` gave.
        share: Steps of the model for each step of the states: each step draws equally often.
    """
    for variable, (seed, draws) in zip(_generators(model), states, strict=True):
        variable.assign([seed, round(draws * share)])


def _generators(model: keras.Model) -> list:
    return [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]


def describe_run(config: TrainingConfig, table: pd.DataFrame, **more: Any) -> dict[str, Any]:
    """Say what a run is: enough to rebuild its network and to repeat it.

    Args:
        config: Its settings.
        table: Rows of the data's manifest.
        **more: What else to keep.

    Returns:
        Content of run.json.
    """
    names = ("brainseg_keras", "keras", keras.backend.backend(), "numpy", "opencv-python-headless")
    digest = hashlib.sha256(table[list(COLUMNS)].to_csv(index=False).encode(errors="backslashreplace")).hexdigest()
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "config": dataclasses.asdict(config),
        "seed": config.seed,
        "versions": {name: _version(name) for name in names} | {"python": platform.python_version()},
        "machine": {"processor": processor(), "cores": os.cpu_count()},
        "manifest_sha256": digest,
        "git_commit": _git_commit(),
        **more,
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """Name the processor.

    Returns:
        As the system calls it, such as `Intel(R) Xeon(R) Platinum 8481C`.
    """
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """Name the commit of the code itself, where it runs from a checkout."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
