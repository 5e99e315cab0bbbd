"""Which runs make up a cross-validation: finished, of one recipe, and for each patient just one that tests it."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from brainseg_keras.data.checksums import slice_checksums
from brainseg_keras.data.roles import Roles, join_names
from brainseg_keras.data.volumes import VolumeSource, select_patients
from brainseg_keras.errors import InputError
from brainseg_keras.postprocessing import read_choice
from brainseg_keras.spec import NetworkSpec
from brainseg_keras.training.config import TrainingConfig

#: Settings that runs of one recipe need not share: where the data lie, who is tested, and the draw.
FREE = ("data", "format", "root", "folds", "fold", "seed", "profile")


class FoldRun(NamedTuple):
    """The run of one fold.

    Args:
        path: Its folder.
        config: Its settings.
        spec: What its network is, with what was tuned for it.
    """

    path: Path
    config: TrainingConfig
    spec: NetworkSpec

    @property
    def roles(self) -> Roles:
        """Whom it has met."""
        return self.spec.roles


class CrossValidation(NamedTuple):
    """The runs that belong together.

    Args:
        runs: One a fold.
        name: What reports call it.
        folder: That of `brainseg train --folds`; None where the runs were given one by one.
    """

    runs: list[FoldRun]
    name: str
    folder: Path | None


class TestedPatient(NamedTuple):
    """A patient that one of the runs tests.

    Args:
        run: Index of that run.
        slices: Checksums of slices.
    """

    run: int
    slices: tuple[str, ...]


def open_folds(runs: str | Path | Sequence[str | Path]) -> CrossValidation:
    """Read the runs of all folds, and refuse those that do not belong together.

    Args:
        runs: The folder of `brainseg train --folds`, or the run folders of each fold.

    Returns:
        The runs.

    Raises:
        InputError: A fold is missing or not finished, or the runs are of different recipes; the message says which.

    Example:
        >>> open_folds("no/such/folds")
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: no/such/folds holds no folds (no folds.json in it). ...
    """
    # With Keras, which the networks need in any case.
    from brainseg_keras.training.folds import FoldsFolder, describe_difference, is_finished
    from brainseg_keras.training.run import RunFolder

    given = [runs] if isinstance(runs, str | Path) else list(runs)
    folder = FoldsFolder(given[0]) if len(given) == 1 else None
    found = folder.runs() if folder else [RunFolder(path) for path in given]
    missing = [str(run.path) for run in found if not is_finished(run)]
    if missing:
        cure = folder.path if folder else missing[0]
        raise InputError(
            f"Of {len(found)} folds {len(missing)} are missing or not finished: {join_names(missing)}. Train them: "
            f"brainseg train --resume {cure}"
        )
    opened = [_read(run.path, run.read_record()) for run in found]
    for other in opened[1:]:
        said = describe_difference(_recipe(opened[0]), _recipe(other))
        if said:
            raise InputError(
                f"{opened[0].path} and {other.path} are of two recipes: they differ in {said}. Runs may differ in "
                f"{', '.join(FREE)} alone. Give the runs of one recipe."
            )
    name = str(folder.path) if folder else "+".join(run.path.name for run in found)
    return CrossValidation(opened, name, folder.path if folder else None)


def _read(path: Path, record: Any) -> FoldRun:
    choice = read_choice(path)
    return FoldRun(path, record.config, record.spec.with_choice(*choice) if choice else record.spec)


def _recipe(run: FoldRun) -> dict[str, Any]:
    settings = dataclasses.asdict(run.config) | {"channels": run.spec.channels}
    return {name: value for name, value in settings.items() if name not in FREE}


def assign_patients(
    source: VolumeSource, runs: Sequence[FoldRun], *, progress: Callable[[list[str]], Iterable[str]] = iter
) -> dict[str, TestedPatient]:
    """Find for each patient the run that tests it: the one that kept it apart, and has not met its pixels either.

    Args:
        source: Where the volumes come from; its splits do not matter.
        runs: One a fold.
        progress: Wraps the list of patients, which are read for their checksums.

    Returns:
        By patient, in alphabetical order.

    Raises:
        InputError: A patient that no run tests, or several, or that the run which tests it has met, by name or by
            pixels; pixels other than those that the runs were trained with; patients that the data lack.
    """
    names = select_patients(source, "all")
    tested: dict[str, list[int]] = {
        name: [index for index, run in enumerate(runs) if _role(run, name) == "test"] for name in names
    }
    _check_names(tested, runs)
    assigned, faults = {}, {"met": [], "changed": []}
    for name in progress(names):
        slices, index = slice_checksums(source.volume(name).images), tested[name][0]
        role = runs[index].roles.role(name, slices)
        if role == "unknown":
            raise InputError(
                f"{runs[index].path} began with weights of which nothing says who trained them, so that nobody is out "
                "of fold. Train without --init, or from weights that lie in their run folder."
            )
        if role != "test":
            known = runs[index].roles.find(name, slices)
            faults["met"].append(name if known.name == name else f"{name} as {known.name}")
        others = [known for run in runs if (known := run.roles.named(name)) and known.slices]
        if slices and any(set(known.slices).isdisjoint(slices) for known in others):
            faults["changed"].append(name)
        assigned[name] = TestedPatient(index, slices)
    if faults["met"]:
        raise InputError(
            f"{len(faults['met'])} patients had a part in the very run that tests them ({join_names(faults['met'])}): "
            "they stand in the data twice, or in the weights that it began with. Remove them, and train again."
        )
    if faults["changed"]:
        raise InputError(
            f"The pixels of {len(faults['changed'])} patients are not those that the runs were trained with: "
            f"{join_names(faults['changed'])}. Give --data the data of the folds."
        )
    return assigned


def _role(run: FoldRun, name: str) -> str | None:
    known = run.roles.named(name)
    return known.role if known else None


def _check_names(tested: dict[str, list[int]], runs: Sequence[FoldRun]) -> None:
    """Refuse patients that not just one run tests, and those that are tested and not there."""
    none = [name for name, found in tested.items() if not found]
    if none:
        raise InputError(
            f"{len(none)} of {len(tested)} patients are tested by none of the {len(runs)} runs: {join_names(none)}. "
            "Give the runs of all folds, or --data with the patients of the folds alone."
        )
    several = {name: found for name, found in tested.items() if len(found) > 1}
    if several:
        name, found = next(iter(several.items()))
        raise InputError(
            f"{len(several)} patients are tested by more than one run, such as {name} by "
            f"{' and '.join(str(runs[index].path) for index in found)}. Give each fold of one split once."
        )
    absent = {known.name for run in runs for known in run.roles.patients if known.role == "test"} - tested.keys()
    if absent:
        raise InputError(
            f"The runs test {len(absent)} patients that the data lack: {join_names(sorted(absent))}. Give --data the "
            "data of the folds."
        )
