"""RunRecord: what stands in run.json, and the one place of training that knows its keys."""

import dataclasses
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from brainseg_keras.spec import NetworkSpec, check_kinds
from brainseg_keras.training.config import TrainingConfig
from brainseg_keras.training.machine import git_commit, processor

#: What each entry of run.json is made of that is not the network's.
_KINDS: dict[str, type] = {
    "config": dict,
    "frozen": list,
    "parameters": int,
    "patients": dict,
    "precision": str,
    "progress": dict,
    "teachers": dict,
    "validation": dict,
}


class Progress(NamedTuple):
    """How far a run had come when last.keras was kept.

    Args:
        step: Batches done.
        iterations: The optimizer's own count at that time.
        random_states: Of the random generators.
        seconds: Time spent.
        sums: What the epoch's loss and metrics had summed up, where it was stopped within an epoch.
        stopped: Why the run ended before its last epoch, if it did.
        previous: What last.keras was kept with before; a kill between the two files leaves last.keras as that one says.
    """

    step: int
    iterations: int
    random_states: list[list[int]]
    seconds: float
    sums: list[Any]
    stopped: str | None = None
    previous: "Progress | None" = None

    def to_info(self) -> dict[str, Any]:
        """Give what stands of it in run.json."""
        return self._asdict() | {"previous": self.previous and self.previous.to_info()}

    @classmethod
    def from_info(cls, content: Mapping[str, Any]) -> "Progress":
        """Read what `to_info` gave."""
        progress = cls(
            step=int(content["step"]),
            iterations=int(content["iterations"]),
            random_states=[[int(seed), int(draws)] for seed, draws in content["random_states"]],
            seconds=float(content["seconds"]),
            sums=list(content["sums"]),
            stopped=content["stopped"],
            previous=None if content["previous"] is None else cls.from_info(content["previous"]),
        )
        if progress.step < 1 or progress.iterations < 0 or not 0 <= progress.seconds < float("inf"):
            raise ValueError(f"progress {progress.step}, {progress.iterations}, {progress.seconds}")
        return progress


#: Of a run that was killed before its first epoch was kept.
NOTHING_DONE = Progress(0, 0, [], 0.0, [])


class BestEpoch(NamedTuple):
    """The epoch that became best.keras: the best one, or, where all patients train, the last one.

    Args:
        epoch: Its number, from 1; 0 of the weights that the run started from.
        step: Batches done then.
        dice: Of each validation patient; none where nobody chose.
    """

    epoch: int
    step: int
    dice: dict[str, float]

    def to_info(self) -> dict[str, Any]:
        """Give what stands of it in run.json."""
        role = "chose the checkpoint" if self.dice else "nobody: the last epoch, all patients train"
        mean = float(np.mean(list(self.dice.values()))) if self.dice else None
        chosen = {"role": role, "epoch": self.epoch, "step": self.step}
        return chosen | {"patients": len(self.dice), "mean_dice": mean, "dice": self.dice}

    @classmethod
    def from_info(cls, content: Mapping[str, Any]) -> "BestEpoch":
        """Read what `to_info` gave."""
        dice = {name: float(value) for name, value in content["dice"].items()}
        return cls(int(content["epoch"]), int(content["step"]), dice)


@dataclass(frozen=True)
class RunRecord:
    """A network, and what only the run has that trains it.

    Args:
        spec: What the network is.
        config: Settings of the run.
        parameters: Of the network.
        precision: Name of the dtype policy that it computes in.
        patients: How many there are in each split.
        frozen: Names of the layers that are not trained.
        teachers: The sha256 of each network that teaches it, by its path or name.
        started: When it began.
        machine: Processor and number of cores.
        git_commit: Of the code; None where it runs from no checkout.
        progress: How far it has come; None before anything was kept.
        validation: The best epoch so far; None before the first.

    Example:
        >>> record = RunRecord(NetworkSpec(("FLAIR",)), TrainingConfig(), 9, "float32", {"train": 2, "val": 1})
        >>> RunRecord.from_info(record.to_info()) == record
        True
    """

    spec: NetworkSpec
    config: TrainingConfig
    parameters: int
    precision: str
    patients: Mapping[str, int]
    frozen: tuple[str, ...] = ()
    teachers: Mapping[str, str] = field(default_factory=dict)
    started: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S%z"))
    machine: Mapping[str, Any] = field(default_factory=lambda: {"processor": processor(), "cores": os.cpu_count()})
    git_commit: str | None = field(default_factory=git_commit)
    progress: Progress | None = None
    validation: BestEpoch | None = None

    def to_info(self) -> dict[str, Any]:
        """Give the content of run.json."""
        own = {
            "started": self.started,
            "config": dataclasses.asdict(self.config),
            "seed": self.config.seed,
            "machine": dict(self.machine),
            "git_commit": self.git_commit,
            "parameters": self.parameters,
            "precision": self.precision,
            "patients": dict(self.patients),
            "frozen": list(self.frozen),
            "teachers": dict(self.teachers),
        }
        kept = {"progress": self.progress, "validation": self.validation}
        return self.spec.to_info() | own | {name: value.to_info() for name, value in kept.items() if value}

    @classmethod
    def from_info(cls, content: Mapping[str, Any]) -> "RunRecord":
        """Read the content of run.json; for use within `errors.reading`. Roles that it does not say are unknown."""
        check_kinds(content, _KINDS)
        patients = {split: int(count) for split, count in content["patients"].items()}
        if not {"train", "val"} <= patients.keys():
            raise ValueError(f"patients of {', '.join(patients) or 'no split'}, and not of train and val")
        return cls(
            spec=NetworkSpec.from_info(content),
            config=TrainingConfig(**content["config"]),
            parameters=content["parameters"],
            precision=content["precision"],
            patients=patients,
            frozen=tuple(content.get("frozen", ())),
            teachers=content.get("teachers", {}),
            started=content.get("started", ""),
            machine=content.get("machine", {}),
            git_commit=content.get("git_commit"),
            progress=Progress.from_info(content["progress"]) if "progress" in content else None,
            validation=BestEpoch.from_info(content["validation"]) if "validation" in content else None,
        )
