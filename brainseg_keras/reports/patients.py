"""Who is scored: the patients of a split, each with its role; one that trained the network is refused."""

import dataclasses
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from brainseg_keras.data.checksums import slice_checksums
from brainseg_keras.data.roles import WORDS, Roles, join_names, splits_of
from brainseg_keras.data.volumes import VolumeSource, select_patients
from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import summarize
from brainseg_keras.evaluation.patient import BOUNDS
from brainseg_keras.inference.predictor import Predictor
from brainseg_keras.spec import NetworkSpec

#: Roles whose patients may stand in one mean, by what they had to do with the network.
KINDS = {"apart": ("test", "unseen"), "chose": ("val", "tuned"), "trained": ("train",), "unknown": ("unknown",)}
#: Of several kinds, the one over which the headline's means are taken, by the split that was asked for.
_FIRST = {
    "train": ("trained", "chose", "apart", "unknown"),
    "val": ("chose", "apart", "unknown", "trained"),
    "test": ("apart", "unknown", "chose", "trained"),
    "all": ("apart", "unknown", "chose", "trained"),
}
#: Roles that may not be scored as this split, since the score would be too good.
_SEEN = {"val": ("train",), "test": ("train", "val", "tuned")}
_DONE = {"train": "trained", "val": "chose the checkpoint of", "tuned": "chose the postprocessing or calibration of"}
_log = logging.getLogger(__name__)


class ScoredPatient(NamedTuple):
    """A patient that is scored.

    Args:
        role: A key of `brainseg_keras.data.roles.WORDS`.
        met_as: The name under which the network met this patient; empty where it never did.
        slices: Checksums of slices; none where the network knows those of nobody.
    """

    role: str
    met_as: str = ""
    slices: tuple[str, ...] = ()


def choose_patients(
    source: VolumeSource,
    split: str,
    roles: Roles,
    *,
    read_all: bool = False,
    progress: Callable[[list[str]], Iterable[str]] = iter,
) -> dict[str, ScoredPatient]:
    """List the patients of a split with their roles.

    A split that was drawn from a seed gives way to the network's own: its test patients are those that its run kept
    apart. A split that the data fix stays as it is. Each patient's pixels are read, to know it under any name.

    Args:
        source: Where the volumes come from.
        split: `train`, `val`, `test` or `all`.
        roles: Whom the network has met.
        read_all: Read the pixels also where the network knows those of nobody, for their checksums.
        progress: Wraps the list of patients that are read, to show how far it is.

    Returns:
        The patients by name, in alphabetical order.

    Raises:
        InputError: An unknown split, or one without patients.
    """
    own, followed = splits_of(source), roles.splits_for(source)
    if split == "all":
        candidates = select_patients(source, split)
    else:
        candidates = own.index[(own == split) | (followed == split)].tolist() or select_patients(source, split)
    look = read_all or any(known.slices for known in roles.patients)
    chosen, namesakes = {}, []
    for name in progress(candidates) if look else candidates:
        slices = slice_checksums(source.volume(name).images) if look else ()
        known = roles.find(name, slices)
        same_name = known is not None and known.name == name
        if split not in ("all", followed[name] if same_name else own[name]):
            continue
        if known is None and roles.named(name):
            namesakes.append(name)
        chosen[name] = ScoredPatient(roles.role(name, slices), known.name if known else "", slices)
    if namesakes:
        _log.warning(
            "%d patients bear the names of others that the network has met, with other pixels, and are taken for "
            "unseen: %s. If they are the same ones, resized or with other intensities, these scores are too good.",
            len(namesakes),
            join_names(namesakes),
        )
    if not chosen:
        counts = followed.value_counts().to_dict()
        raise InputError(f"No patient in the split {split!r}. Patients per split: {counts}.{_cure_of_all(roles)}")
    return chosen


def choose_scored(
    source: VolumeSource,
    split: str,
    predictor: Predictor,
    *,
    include_seen: bool = False,
    progress: Callable[[list[str]], Iterable[str]] = iter,
) -> dict[str, ScoredPatient]:
    """List the patients of a split that are to be scored.

    Args:
        source: Where the volumes come from.
        split: `train`, `val`, `test` or `all`.
        predictor: The network.
        include_seen: Also those of `val` and `test` that had a part in making it, which are refused otherwise.
        progress: See `choose_patients`.

    Returns:
        The patients by name.

    Raises:
        InputError: There are none, or some had a part in making the network; the message names them.
    """
    chosen = choose_patients(source, split, predictor.spec.roles, progress=progress)
    said = _said_of_seen(chosen, _SEEN.get(split, ()), predictor)
    if said and not include_seen:
        raise InputError(
            f"Of the {len(chosen)} patients of the split {split!r} {said}: a score on them would be too good. "
            f"{_own_data(predictor)}, or give patients that it has never met; --include-seen scores these by "
            "themselves."
        )
    return chosen


def choose_tuning(
    source: VolumeSource,
    predictor: Predictor,
    *,
    split: str = "val",
    what: str = "postprocessing",
    progress: Callable[[list[str]], Iterable[str]] = iter,
) -> dict[str, ScoredPatient]:
    """List the patients on which something is chosen for a network.

    Args:
        source: Where the volumes come from.
        predictor: The network.
        split: Whose patients.
        what: What they choose, for messages.
        progress: See `choose_patients`.

    Returns:
        The patients by name.

    Raises:
        InputError: There are none; or some trained the network, or were kept apart to test it: the message names them.
    """
    chosen = choose_patients(source, split, predictor.spec.roles, read_all=True, progress=progress)
    whose = f"{len(chosen)} {patients_of(split)}"
    said = _said_of_seen(chosen, ("train",), predictor)
    if said:
        raise InputError(
            f"Of the {whose} {said}, and cannot choose its {what}. "
            f"{_own_data(predictor)}, or give patients that it has never met."
        )
    tested = [name for name, patient in chosen.items() if patient.role == "test"]
    if tested:
        raise InputError(
            f"Of the {whose} {len(tested)} were kept apart to test {predictor.name} "
            f"({join_names(tested)}), and choose nothing. {_own_data(predictor)}, or give patients that it has never "
            "met."
        )
    return chosen


def patients_of(split: str) -> str:
    """Name the patients of a split.

    Args:
        split: `train`, `val`, `test` or `all`.

    Returns:
        Words for reports and messages.

    Example:
        >>> patients_of("val"), patients_of("all")
        ('validation patients', "patients of the split 'all'")
    """
    return "validation patients" if split == "val" else f"patients of the split {split!r}"


def _said_of_seen(chosen: Mapping[str, ScoredPatient], roles: Sequence[str], predictor: Predictor) -> str:
    """Name the patients of some roles: `2 trained runs/first (A, B as C)`; empty where there are none."""
    parts = []
    for role in roles:
        names = [
            name if patient.met_as == name else f"{name} as {patient.met_as}"
            for name, patient in chosen.items()
            if patient.role == role
        ]
        if names:
            parts.append(f"{len(names)} {_DONE[role]} {predictor.name} ({join_names(names)})")
    return ", ".join(parts)


def _cure_of_all(roles: Roles) -> str:
    """Say where the honest score of a network is that has met everybody; empty where somebody was kept apart."""
    if not roles.patients or any(known.role != "train" for known in roles.patients):
        return ""
    return (
        " The network trained on all patients that it knows: its honest score is that of networks of its recipe, "
        "brainseg out-of-fold FOLDS, or on patients that it has never met."
    )


def _own_data(predictor: Predictor) -> str:
    if _cure_of_all(predictor.spec.roles):
        return f"Score networks of its recipe out of fold, brainseg out-of-fold {_folds_of(predictor)}"
    data = predictor.spec.data
    return f"Use the data that it was trained on, --data {data}" if data else "Use the data that it was trained on"


def _folds_of(predictor: Predictor) -> str:
    return str(predictor.folder) if predictor.members and predictor.folder else "FOLDS"


def headline_roles(chosen: Mapping[str, ScoredPatient], split: str) -> tuple[str, ...]:
    """Say over whose roles the headline's means are taken: never over patients that it saw with others.

    Args:
        chosen: The patients that are scored.
        split: Which split was asked for.

    Returns:
        The roles.

    Example:
        >>> headline_roles({"A": ScoredPatient("train"), "B": ScoredPatient("unseen")}, "all")
        ('unseen',)
    """
    there = {patient.role for patient in chosen.values()}
    kinds = [tuple(role for role in KINDS[kind] if role in there) for kind in _FIRST[split]]
    return next(kind for kind in kinds if kind)


def words_for(roles: Iterable[str], *, chose: Sequence[str] = ()) -> str:
    """Say what patients had to do with a network: the first thing that a reviewer asks.

    Args:
        roles: Of the patients.
        chose: What validation patients chose besides the checkpoint.

    Returns:
        Words for a report.

    Example:
        >>> words_for(["val"], chose=["postprocessing"])
        'validation, chose the checkpoint and the postprocessing'
    """
    also = "".join(f" and the {what}" for what in chose)
    return "; ".join(WORDS[role] + (also if role == "val" else "") for role in roles)


def chosen_for(spec: NetworkSpec) -> list[str]:
    """Name what was chosen for a network after its checkpoint.

    Args:
        spec: Of the network.

    Returns:
        Names; none where nothing was.

    Example:
        >>> from brainseg_keras.calibration import Calibration
        >>> chosen_for(NetworkSpec(("FLAIR",), calibration=Calibration(0.5, patients={"A": ()})))
        ['calibration']
    """
    chosen = {"postprocessing": spec.tuning is not None, "calibration": bool(spec.calibration.patients)}
    return [name for name, done in chosen.items() if done]


def describe_groups(per_patient: pd.DataFrame, scores: Sequence[str], *, chose: Sequence[str]) -> dict[str, Any]:
    """Summarize the patients of each role by themselves.

    Args:
        per_patient: One row a patient, with its role.
        scores: Columns over which means are taken.
        chose: See `words_for`.

    Returns:
        By role: words, names and the summary of each score.
    """
    return {
        role: {
            "role": words_for([role], chose=chose),
            "names": rows.patient.tolist(),
            "patients": summarize_scores(rows, scores),
        }
        for role, rows in per_patient.groupby("role")
    }


def summarize_scores(per_patient: pd.DataFrame, scores: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Summarize each score over patients.

    Args:
        per_patient: One row a patient.
        scores: Columns over which means are taken.

    Returns:
        By score what `summarize` gives.
    """
    return {
        name: dataclasses.asdict(summarize(per_patient[name], bounds=BOUNDS.get(name, (-math.inf, math.inf))))
        for name in scores
    }
