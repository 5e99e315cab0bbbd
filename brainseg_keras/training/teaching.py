"""Networks that teach another one: which of them may, what they say of its training patients, and whom it so meets."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from brainseg_keras.data.checksums import RememberedVolumes
from brainseg_keras.data.inputs.slices import Teacher
from brainseg_keras.data.inputs.targets import Target
from brainseg_keras.data.roles import Roles, join_names, splits_of
from brainseg_keras.data.volumes import Volume
from brainseg_keras.errors import InputError
from brainseg_keras.folds import find_folds
from brainseg_keras.inference.predictor import Predictor
from brainseg_keras.models.hub import on_hub
from brainseg_keras.models.shipped import file_digest, list_pretrained, pretrained_info
from brainseg_keras.training.config import TrainingConfig
from brainseg_keras.training.origin import beside_weights
from brainseg_keras.training.patients import carry_on

#: What a teacher may not have met a patient as whom the run keeps apart, by the patient's split.
_BARRED = {"test": ("train", "val", "tuned"), "val": ("train",)}
_log = logging.getLogger(__name__)


class Teaching(NamedTuple):
    """The teachers of a run.

    Args:
        teacher: What load_slices asks.
        roles: Whom any of them has met.
        digests: The sha256 of each network that teaches, by its path or name.
    """

    teacher: Teacher
    roles: Roles
    digests: Mapping[str, str]


def open_teachers(
    config: TrainingConfig, source: RememberedVolumes, target: Target, console: Console
) -> Teaching | None:
    """Open the networks that teach a run.

    Of a folder of folds those teach that kept apart whom this run keeps apart: a fold is taught by the same fold of
    theirs, a run on all patients by all of them. Each `--teacher` counts alike.

    Args:
        config: Settings of the run.
        source: Its patients in their splits.
        target: What the run learns.
        console: Where to say which networks teach.

    Returns:
        The teachers; None where there are none.

    Raises:
        InputError: A teacher that cannot be read, sees sequences that the data lack, answers another question, or has
            met patients whom the run keeps apart.
    """
    if not config.teacher:
        return None
    predictors, digests = [], {}
    for given in config.teacher:
        folds = find_folds(Path(given))
        paths = [str(fold) for fold in folds] or [given]
        faults = {path: _faults(_roles(path), source) for path in paths}
        allowed = [path for path in paths if not faults[path]]
        if not allowed:
            raise InputError(
                f"--teacher {given} has met patients whom this run keeps apart, so that their scores would be too "
                f"good: {min(faults.values(), key=len)}. Give a teacher of the same split (folds of the same --folds "
                "and --seed teach fold by fold), or train on all patients: --validation none."
            )
        # All folds together have what was calibrated for the whole of them.
        predictor = Predictor(given if len(allowed) == len(paths) else allowed)
        _check(predictor, source, target, given)
        predictors.append(predictor)
        digests |= {path: _digest(path) for path in allowed}
        if folds:
            names = ", ".join(Path(path).name for path in allowed)
            console.out(f"Taught by {len(allowed)} of {len(folds)} networks of {given}: {names}", highlight=False)
    # Of a teacher by itself the file says whom it has met, also where no run.json does.
    roles = Roles.union([predictor.spec.roles for predictor in predictors])
    if not roles.complete:
        _log.warning("Not all is known of the patients who trained the teachers: scores of this run will say so.")
    settings = [[str(one.spec.calibration), one.spec.postprocessing.flip] for one in predictors]
    identity = {"networks": list(digests.values()), "settings": settings}
    channels = tuple(source.channels)
    teacher = Teacher(lambda volume: _ask(predictors, channels, volume), identity)
    return Teaching(teacher, roles, digests)


def roles_with_teachers(roles: Roles, teaching: Teaching | None) -> Roles:
    """Say whom a run meets that is taught: also the patients who trained or chose its teachers.

    Args:
        roles: Of the run, when its training and validation patients have been read.
        teaching: Its teachers, or None.

    Returns:
        The roles.

    Raises:
        InputError: A validation patient trained a teacher under another name.
    """
    if teaching is None:
        return roles
    names = []
    for own in (known for known in roles.patients if known.role == "val"):
        old = teaching.roles.find(own.name, own.slices)
        if old and old.role == "train":
            names.append(own.name if own.name == old.name else f"{own.name} (as {old.name})")
    if names:
        raise InputError(
            f"{len(names)} validation patients trained a --teacher, so that they cannot choose an epoch: "
            f"{join_names(names)}. Give a teacher of the same split, or --data a manifest in which they train."
        )
    return carry_on(roles, teaching.roles)


def check_same_teachers(run: Path, digests: Mapping[str, str], teaching: Teaching | None) -> None:
    """Refuse to go on with other teachers than a run began with.

    Args:
        run: Its folder.
        digests: What run.json says of them.
        teaching: Those that were opened now.

    Raises:
        InputError: They are others, or their weights have changed.
    """
    found = dict(teaching.digests) if teaching else {}
    if found != dict(digests):
        other = sorted(path for path in found.keys() | dict(digests).keys() if found.get(path) != digests.get(path))
        raise InputError(
            f"The teachers of {run} are not those that it began with: {join_names(other)}. Restore them, or start a "
            "new run."
        )


def _roles(path: str) -> Roles:
    spec = beside_weights(path)
    return spec.roles if spec else Predictor(path).spec.roles


def _faults(roles: Roles, source: RememberedVolumes) -> str:
    """Name the patients whom a run keeps apart and a teacher has met; by name, since those who test are not read."""
    parts = []
    for split, barred in _BARRED.items():
        own = splits_of(source)
        met = [name for name in own.index[own == split] if (old := roles.find(name)) and old.role in barred]
        if met:
            parts.append(f"{len(met)} {'test' if split == 'test' else 'validation'} patients ({join_names(met)})")
    return " and ".join(parts)


def _check(predictor: Predictor, source: RememberedVolumes, target: Target, given: str) -> None:
    spec = predictor.spec
    if lacking := [name for name in spec.channels if name not in source.channels]:
        raise InputError(
            f"--teacher {given} sees {', '.join(spec.channels)}. The data lack {', '.join(lacking)}; they have "
            f"{', '.join(source.channels)}. Give a teacher of these, or data that have them."
        )
    if spec.target != target:
        raise InputError(
            f"--teacher {given} answers {spec.target.name}, and this run learns {target.name}. Give a teacher of the "
            f"same target, or --target {spec.target.name}."
        )


def _digest(path: str) -> str:
    if path in list_pretrained():
        return pretrained_info(path)["sha256"]
    if on_hub(path):
        return Predictor(path).digest
    file = Path(path)
    return file_digest(file / "best.keras" if file.is_dir() else file)


def _ask(predictors: Sequence[Predictor], channels: Sequence[str], volume: Volume) -> np.ndarray:
    """Give the mean answer to a volume, in 255ths, as `Target.layers` gives the truth."""
    total: Any = 0.0
    for predictor in predictors:
        wanted = [channels.index(name) for name in predictor.spec.channels]
        same = wanted == list(range(len(channels)))
        # Which sequences are there has a say in where the head is: of others the range is measured anew.
        images, intensity = (volume.images, volume.intensity) if same else (volume.images[..., wanted], None)
        total = total + predictor.probabilities(images, intensity)
    layers = total[..., 1:] if predictors[0].spec.target.exclusive else total
    return np.uint8(np.rint(layers * np.float32(255 / len(predictors))))
