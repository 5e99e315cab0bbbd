"""The run folder: what a model file forgets, written whole or not at all."""

from pathlib import Path
from typing import Any

import keras

from brainseg_keras.errors import InputError, reading
from brainseg_keras.files import check_output, check_replaceable, expand, write_json, write_whole
from brainseg_keras.information import read_json
from brainseg_keras.training.config import TrainingConfig
from brainseg_keras.training.record import RunRecord


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
        """Read run.json as it stands."""
        if not self.info.is_file():
            raise InputError(f"{self.path} holds no run (no run.json in it). Give the folder of `brainseg train`.")
        return read_json(self.info)

    def read_record(self) -> RunRecord:
        """Read run.json for what it means; a file that is not as a run writes it is refused."""
        content = self.read_info()
        with reading(self.info, f"Restore it, or start a new run from its weights: --init {self.best}"):
            return RunRecord.from_info(content)

    def write_record(self, record: RunRecord) -> None:
        """Write run.json."""
        write_json(self.info, record.to_info())

    def write_model(self, model: keras.Model, path: Path) -> None:
        """Save a model."""
        write_whole(path, model.save)


def random_states(model: keras.Model) -> list[list[int]]:
    """Read seed and draws of each of a model's random generators (dropout), which a .keras file does not keep."""
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
