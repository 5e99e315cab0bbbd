"""brainseg train: each field of TrainingConfig is a flag of its name."""

import dataclasses
import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from brainseg_keras import ranges
from brainseg_keras.cli import options
from brainseg_keras.cli.reports import score_folds
from brainseg_keras.errors import InputError
from brainseg_keras.folds import FILE, fold_folder
from brainseg_keras.training.config import TrainingConfig
from brainseg_keras.training.devices import Devices

if TYPE_CHECKING:
    from brainseg_keras.training.folds import FoldsFolder


def _train(
    *,
    config: str | None,
    resume: str | None,
    output: str | None,
    cluster: str | None,
    devices: int | None,
    coordinator: str | None,
    processes: int | None,
    process_index: int | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train a network on MRI slices, and keep the epoch with the best Dice per validation patient.

    Flags win over --config. Without --data it trains on the phantom. With --folds it trains a run for each fold (on a
    --cluster at once), goes on where it was stopped, and scores each patient out of fold. --devices and --processes
    spread one training over GPUs and machines; batch size and learning rate stay those of all together.
    """
    spread = Devices(devices or 1, coordinator, processes or 1, process_index)
    # A flag that may be repeated is empty where it was not given.
    given = {name: value for name, value in settings.items() if value not in (None, [])}
    if resume and (config or output):
        raise InputError("--resume continues a run with its own settings and folder: leave out --config and -o.")
    if resume:
        _say(f"Resuming {resume}: loading Keras ...")
        from brainseg_keras.training import resume as resume_run
        from brainseg_keras.training import resume_folds

        if (Path(resume) / FILE).is_file():
            if given:
                raise InputError(
                    f"Folds keep their settings. Received: {', '.join(given)}. Leave them out, or change each run: "
                    f"--resume {fold_folder(Path(resume), 1)}."
                )
            _conclude_folds(resume_folds(resume, cluster=cluster, devices=spread), as_json=as_json)
            return
        _refuse_cluster(cluster)
        run = resume_run(resume, overrides=given, devices=spread)
    else:
        wanted = TrainingConfig.from_yaml(config, **given) if config else TrainingConfig.from_given(**given)
        _say(f"Training {wanted.architecture} on {wanted.data}: loading Keras ...")
        from brainseg_keras.training import train, train_folds

        if wanted.folds and not wanted.fold:
            _conclude_folds(train_folds(wanted, output=output, cluster=cluster, devices=spread), as_json=as_json)
            return
        _refuse_cluster(cluster)
        run = train(wanted, output=output, devices=spread)
    if as_json and spread.first:
        typer.echo(json.dumps({"run": str(run.path), **run.read_info()}))


def _conclude_folds(folder: "FoldsFolder", *, as_json: bool) -> None:
    """Score every patient out of fold, where all folds are finished."""
    from brainseg_keras.training.folds import unfinished

    if not unfinished(folder):
        score_folds([str(folder.path)], as_json=as_json)
    elif as_json:
        typer.echo(json.dumps({"folds": str(folder.path), "unfinished": unfinished(folder)}))


def _refuse_cluster(cluster: str | None) -> None:
    if cluster:
        raise InputError(
            f"--cluster trains the folds of --folds K at once, and no lone run. Received: --cluster {cluster}. Leave "
            "it out."
        )


def _say(words: str) -> None:
    # What is loaded takes seconds.
    typer.echo(words, err=True)


def _signature() -> inspect.Signature:
    """Build the command's flags from the fields, so that the two cannot drift apart."""

    def flag(name: str, annotation: Any, option: Any) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=option)

    parameters = []
    for entry in dataclasses.fields(TrainingConfig):
        kind = next(k for k in (*getattr(entry.type, "__args__", ()), entry.type) if k is not type(None))
        dashed = entry.name.replace("_", "-")
        names = [f"--{dashed}/--no-{dashed}"] if kind is bool else [f"--{dashed}"]
        default = False if entry.default is None else str(entry.default)
        declared = {"help": entry.metadata["help"], "show_default": default}
        if within := entry.metadata["within"]:
            option = options.number(None, *names, within=within, **declared)
        elif entry.metadata["is_path"]:
            option = options.path(None, *names, **declared)
        else:
            option = typer.Option(None, *names, **declared)
        parameters.append(flag(entry.name, (list[str] if kind is list else kind | None), option))
    own = {
        "config": ("input", ["--config"], "YAML file of the same settings."),
        "resume": ("input", ["--resume"], "Run folder, or folder of folds, to continue."),
        "output": ("folder", ["-o", "--output"], "Run folder; default tensorboard_logs/<architecture>-<time>."),
    }
    for name, (kind, names, text) in own.items():
        option = options.path(None, *names, kind=kind, help=text, show_default=False)
        parameters.append(flag(name, str | None, option))
    machines = {
        "devices": (ranges.DEVICES, "GPUs of this machine that train it; without a GPU, parts of its CPU."),
        "processes": (ranges.PROCESSES, "Processes that train it together, on any machines; JAX alone."),
        "process_index": (ranges.PROCESS_INDEX, "Which of them this is; 0 validates and writes the run."),
    }
    for name, (within, text) in machines.items():
        shown = "1" if name != "process_index" else False
        option = options.number(None, f"--{name.replace('_', '-')}", within=within, help=text, show_default=shown)
        parameters.append(flag(name, int | None, option))
    place = typer.Option(None, "--coordinator", help="Where the processes meet: HOST:PORT of process 0.")
    parameters.append(flag("coordinator", str | None, place))
    parameters.append(flag("cluster", str | None, options.cluster("trains the folds at once")))
    parameters.append(flag("as_json", bool, typer.Option(False, "--json", help="Print run.json to standard output.")))
    return inspect.Signature(parameters)


def train_command(**flags: Any) -> None:
    """Stand in for `_train` under the generated signature."""
    _train(**flags)


train_command.__signature__ = _signature()
train_command.__doc__ = _train.__doc__
train_command.__annotations__ = {p.name: p.annotation for p in train_command.__signature__.parameters.values()}
