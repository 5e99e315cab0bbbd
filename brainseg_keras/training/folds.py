"""train_folds(): a run for each fold in one folder, one after the other or at once, so that one tests each patient."""

import contextlib
import csv
import dataclasses
import gc
import io
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from brainseg_keras._version import __version__
from brainseg_keras.cluster import Place, connected, reason
from brainseg_keras.errors import InputError, TrainingError, reading
from brainseg_keras.files import check_output, check_replaceable, expand, write_json
from brainseg_keras.folds import FILE, fold_folder
from brainseg_keras.information import VERSION, read_json
from brainseg_keras.training.config import TrainingConfig
from brainseg_keras.training.devices import Devices
from brainseg_keras.training.loop import resume, train
from brainseg_keras.training.run import RunFolder

_MARK = '"folds"'
#: How often a fold goes on after its worker was lost.
_RETRIES = 10


class FoldsFolder:
    """Names and files of a cross-validation: folds.json, the runs fold1, fold2 and so on, and what was found.

    Args:
        path: The folder.

    Example:
        >>> FoldsFolder("tensorboard_logs/five").info.name
        'folds.json'
    """

    def __init__(self, path: str | Path):
        self.path = Path(expand(path, "folds"))
        self.info = self.path / FILE

    def read_config(self) -> TrainingConfig:
        """Read the settings that the folds share.

        Raises:
            InputError: There is no folds.json, or one that `train_folds` did not write.
        """
        if not self.info.is_file():
            raise InputError(
                f"{self.path} holds no folds (no {FILE} in it). Give the folder of brainseg train --folds."
            )
        cure = "Restore it, or give the run folders themselves: brainseg out-of-fold RUN RUN RUN"
        return read_json(self.info, cure, lambda content: TrainingConfig(**content["config"]))

    def runs(self) -> list[RunFolder]:
        """Name the run of each fold, whether it is there yet or not."""
        return [RunFolder(fold_folder(self.path, number)) for number in range(1, self.read_config().folds + 1)]

    def write(self, config: TrainingConfig) -> None:
        """Write folds.json."""
        content = {"version": VERSION, "brainseg_keras": __version__, "folds": config.folds, "seed": config.seed}
        write_json(self.info, content | {"config": dataclasses.asdict(config)}, mark=_MARK)

    def check(self, config: TrainingConfig) -> None:
        """Refuse to train folds of these settings here where there are others, or somebody else's files.

        Args:
            config: Settings that the folds share.

        Raises:
            InputError: There are; the message says what differs.
        """
        check_output(self.path, "folder")
        check_replaceable(self.info, _MARK)
        alone = RunFolder(self.path)
        if alone.info.exists():
            raise InputError(f"{self.path} holds a run and no folds. Give another -o.")
        for number in range(1, config.folds + 1):
            run = RunFolder(fold_folder(self.path, number))
            if run.info.exists():
                self._check_same(replace(config, fold=number), run.read_record().config, run.path)
        # Where no fold has begun, what was wanted binds nobody.
        if self.info.is_file() and any(run.info.exists() for run in self.runs()):
            self._check_same(config, self.read_config(), self.info)

    def _check_same(self, wanted: TrainingConfig, there: TrainingConfig, place: Path) -> None:
        said = describe_difference(dataclasses.asdict(there), dataclasses.asdict(wanted))
        if said:
            raise InputError(
                f"The folds of {self.path} are of one recipe. What {place} says and what is wanted differ in {said}. "
                f"Go on with the settings that they began with, --resume {self.path}, or give another -o."
            )


def describe_difference(first: dict[str, Any], second: dict[str, Any]) -> str:
    """Say in which settings two recipes differ.

    Args:
        first: Settings of the one.
        second: Of the other.

    Returns:
        Words; empty where they are equal.

    Example:
        >>> describe_difference({"epochs": 3, "seed": 0}, {"epochs": 5, "seed": 0})
        'epochs (3 and 5)'
    """
    return ", ".join(
        f"{name} ({value!r} and {second[name]!r})" for name, value in first.items() if value != second[name]
    )


def train_folds(
    config: TrainingConfig,
    *,
    output: str | Path | None = None,
    cluster: str | None = None,
    console: Console | None = None,
    devices: Devices = Devices(),
) -> FoldsFolder:
    """Train a run for each fold; those that are finished stay, one that was stopped goes on.

    All are trained in this process, one after the other, each by `train` as it would be alone: its progress, Ctrl-C,
    time limit and messages are those of any run. After Ctrl-C no further fold begins. On a cluster they are trained at
    once, each in a process of its own with its share of the processors or a GPU; one whose worker was lost goes on.

    Args:
        config: Settings with `folds` and without `fold`; its `max_minutes` are those of each fold.
        output: Folder of the folds; default `tensorboard_logs/<architecture>-<time>`.
        cluster: Address of a Ray cluster, `ray` for this machine alone, or None; see
            `brainseg_keras.cluster`. The folder is one that all its hosts share.
        console: Where to say how it goes; default standard error.
        devices: What trains each of them: one process.

    Returns:
        The folder; `unfinished` says which folds are still to be trained.

    Raises:
        InputError: As for `train`; fewer patients than folds; a folder that holds folds of another recipe; or no
            cluster at the address.
        TrainingError: The loss of a fold became NaN, or a worker was lost again and again.

    Example:
        >>> train_folds(TrainingConfig(data="kaggle_3m", folds=5, fold=2))
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: Folds are trained together by folds=K alone. Received: folds=5, fold=2. ...
    """
    if config.folds is None or config.fold is not None:
        raise InputError(
            f"Folds are trained together by folds=K alone. Received: folds={config.folds}, fold={config.fold}. Give "
            "--folds 5, or one fold to train()."
        )
    if devices.processes > 1:
        raise InputError(
            f"Folds are trained by one process. Received: {devices.processes} processes. Give each fold to all of them "
            "by itself: --fold 1, and so on."
        )
    if cluster and devices.total > 1:
        raise InputError("On a cluster each fold takes its share of the devices. Leave --devices out, or --cluster.")
    console = console or Console(stderr=True)
    folder = FoldsFolder(output or Path("tensorboard_logs") / f"{config.architecture}-{time.strftime('%Y%m%d-%H%M%S')}")
    folder.check(config)
    folder.write(config)
    runs = folder.runs()
    try:
        if cluster:
            _train_at_once(config, folder, cluster, console)
        else:
            _train_in_turn(config, folder, console, devices)
    finally:
        if not any(run.info.exists() for run in runs):
            folder.info.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                folder.path.rmdir()
    return folder


def resume_folds(
    path: str | Path,
    *,
    cluster: str | None = None,
    console: Console | None = None,
    devices: Devices = Devices(),
) -> FoldsFolder:
    """Go on with the folds of a folder, with the settings that they began with.

    Args:
        path: The folder.
        cluster: As for `train_folds`.
        console: Where to say how it goes; default standard error.
        devices: What trains each of them from now on: one process.

    Returns:
        The folder.

    Raises:
        InputError: No folds there, or as for `train_folds`.
        TrainingError: The loss of a fold became NaN.

    Example:
        >>> resume_folds("no/such/folds")
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: no/such/folds holds no folds (no folds.json in it). ...
    """
    config = FoldsFolder(path).read_config()
    return train_folds(config, output=path, cluster=cluster, console=console, devices=devices)


def _train_in_turn(config: TrainingConfig, folder: FoldsFolder, console: Console, devices: Devices) -> None:
    for number, run in enumerate(folder.runs(), 1):
        done = is_finished(run)
        console.out(f"Fold {number} of {config.folds}{': is finished' if done else ''}", highlight=False)
        if done:
            continue
        _go_on(run, replace(config, fold=number), console, devices)
        progress = run.read_record().progress
        # None where Ctrl-C came before the first step.
        if progress is None or progress.stopped == "interrupted":
            console.out(f"Go on with all folds: brainseg train --resume {folder.path}", highlight=False)
            break


def _train_at_once(config: TrainingConfig, folder: FoldsFolder, cluster: str, console: Console) -> None:
    runs = dict(enumerate(folder.runs(), 1))
    wanted = {number: run for number, run in runs.items() if not is_finished(run)}
    for number in runs.keys() - wanted:
        console.out(f"Fold {number} of {config.folds}: is finished", highlight=False)
    if not wanted:
        return
    goes_on = f"brainseg train --resume {folder.path} --cluster {cluster}"
    faults: list[Exception] = []
    with connected(cluster) as ray:
        resources = _share(ray.nodes(), len(wanted))
        # A process for each fold: what a network leaves behind in TensorFlow goes with it.
        train_one = ray.remote(max_calls=1, max_retries=_RETRIES, **resources)(_train_there)
        place, threads = Place(), resources["num_cpus"]
        tasks = {
            train_one.remote(place, threads, str(run.path), replace(config, fold=number)): number
            for number, run in wanted.items()
        }
        console.out(f"Training {len(wanted)} folds on {cluster}: {resources['num_cpus']} CPUs each", highlight=False)
        try:
            while tasks:
                (task,), _ = ray.wait(list(tasks))
                number = tasks.pop(task)
                host, fault = ray.get(task)
                console.out(f"Fold {number} of {config.folds}: {fault or 'done'} ({host})", highlight=False)
                faults += [fault] if fault else []
        except ray.exceptions.RayError as error:
            raise TrainingError(f"The cluster failed ({reason(error)}). Go on: {goes_on}") from error
        except KeyboardInterrupt:
            console.out(f"Go on with all folds: {goes_on}", highlight=False)
            raise
    if faults:
        raise faults[0]


def _share(nodes: list[dict[str, Any]], folds: int) -> dict[str, int]:
    """Give what each of so many folds may take of a cluster, as Ray takes it: no more than one host has."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    processors = [int(found.get("CPU", 0)) for found in alive]
    cpus = max(1, min(sum(processors) // folds, max(processors)))
    return {"num_cpus": cpus, "num_gpus": int(any(found.get("GPU", 0) for found in alive))}


def _train_there(place: Place, threads: int, path: str, config: TrainingConfig) -> tuple[str, Exception | None]:
    """Train one fold in a worker; gives its host, and what is wrong with the data or the loss."""
    if refusal := place.enter(threads):
        return platform.node(), InputError(refusal)
    run = RunFolder(path)
    try:
        # It may have come to its end in a worker that was lost before it could say so.
        if not is_finished(run):
            _go_on(run, config, Console(file=io.StringIO()), Devices())
    except (InputError, TrainingError, OSError) as error:
        return platform.node(), error
    return platform.node(), None


def _go_on(run: RunFolder, config: TrainingConfig, console: Console, devices: Devices) -> None:
    if run.info.exists():
        resume(run.path, console=console, devices=devices)
    else:
        train(config, output=run.path, console=console, devices=devices)
    # The network of one fold goes before that of the next is made.
    gc.collect()


def unfinished(folds: FoldsFolder) -> list[int]:
    """Say which folds are still to be trained, or to be trained on.

    Args:
        folds: Their folder.

    Returns:
        Their numbers, from 1.

    Example:
        >>> unfinished(FoldsFolder("no/such/folds"))
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: ...
    """
    return [number for number, run in enumerate(folds.runs(), 1) if not is_finished(run)]


def is_finished(run: RunFolder) -> bool:
    """Say whether a run has come to its end: its last epoch, its time, or its patience.

    Args:
        run: Its folder; there may be nothing yet.

    Returns:
        Whether `resume` would have nothing to do.

    Example:
        >>> is_finished(RunFolder("no/such/run"))
        False
    """
    if not all(file.exists() for file in (run.info, run.best, run.history)):
        return False
    record = run.read_record()
    if record.progress is None or record.progress.stopped in ("time", "patience"):
        return record.progress is not None
    with reading(run.history, "Restore it."), run.history.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    # An epoch that was interrupted has no row yet.
    last = rows[-1] if rows else {"epoch": 0, "step": 0}
    return float(last["epoch"]) >= record.config.epochs and float(last["step"]) == record.progress.step
