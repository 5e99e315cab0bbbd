"""The patients of a run: who trains it, who chooses its checkpoint, who is kept apart, and that they stay the same."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from brainseg_keras.data.checksums import PatientChecksums, RememberedVolumes
from brainseg_keras.data.roles import MET, MetPatient, Roles, join_names, splits_kept, splits_of
from brainseg_keras.data.volumes import VolumeSource
from brainseg_keras.errors import InputError
from brainseg_keras.training.origin import beside_weights

_UNREAD = PatientChecksums((), "")
_log = logging.getLogger(__name__)


def roles_before(init: str | None) -> Roles:
    """Say whom the weights that a run starts from have met.

    Args:
        init: As in the configuration; None for random weights.

    Returns:
        Their roles; incomplete where nothing lies beside the file that says them.

    Raises:
        InputError: A damaged run.json.

    Example:
        >>> roles_before(None).complete, roles_before("lone.weights.h5").complete
        (True, False)
    """
    if init is None:
        return Roles()
    spec = beside_weights(init)
    roles = spec.roles if spec else Roles(complete=False)
    if roles == Roles(complete=False):
        _log.warning("Nothing says which patients trained %s: scores of this run will say so.", init)
    return roles


def remember_patients(source: VolumeSource, roles: Roles, splits: pd.Series | None = None) -> RememberedVolumes:
    """Give a source that remembers whom it gave, with the splits that a run or its first weights have settled.

    Args:
        source: Where the volumes come from.
        roles: Of the run that is resumed, or of the weights that a new one starts from.
        splits: By patient, those of a fold: they come before all others.

    Returns:
        The source.
    """
    return RememberedVolumes(source, splits_kept(source, roles) if splits is None else splits)


def roles_of_run(source: RememberedVolumes, before: Roles, init: str | None, *, own_split: bool = False) -> Roles:
    """Say whom a new run meets, when its training and validation patients have been read.

    Args:
        source: From which they were read.
        before: Whom the weights have met that it starts from.
        init: What to call these in a message.
        own_split: See `Roles`.

    Returns:
        The roles; patients of no split are in none.

    Raises:
        InputError: A validation patient is also a training patient, or trained the weights that the run starts from.
    """
    own = [_met(name, split, source) for name, split in splits_of(source).items() if split]
    trained = Roles(tuple(known for known in own if known.role == "train"))
    for known in (known for known in own if known.role == "val"):
        twin = trained.find(known.name, known.slices)
        if twin:
            raise InputError(
                f"The validation patient {known.name} is the training patient {twin.name} under another name: their "
                "slices are the same. Remove one of them, or give both the same split in a manifest."
            )
    seen = {known.name: before.find(known.name, known.slices) for known in own if known.role == "val"}
    names = [_naming(name, old) for name, old in seen.items() if old and old.role == "train"]
    if names:
        raise InputError(
            f"{len(names)} validation patients trained the weights of --init {init}, so that they cannot choose an "
            f"epoch: {join_names(names)}. Give --data a manifest in which they train, or leave --init out."
        )
    return carry_on(Roles(tuple(own), own_split=own_split), before)


def carry_on(own: Roles, before: Roles) -> Roles:
    """Add to the patients of a run those whom others met from whom it learns: first weights, or teachers.

    Whoever trained or chose these did so, whatever the split says here: `find` goes by the graver role.

    Args:
        own: The run's.
        before: The others'.

    Returns:
        All of them, the run's own first; complete only where both are.

    Example:
        >>> own, before = Roles((MetPatient("A", "train"),)), Roles((MetPatient("A", "train"), MetPatient("B", "val")))
        >>> [(known.name, known.role) for known in carry_on(own, before).patients]
        [('A', 'train'), ('B', 'val')]
    """
    earlier = [
        replace(old, tuned=False)
        for old in before.patients
        if old.role in ("train", "val") and not _covered(old, own.patients)
    ]
    return Roles((*own.patients, *earlier), own.complete and before.complete, own.own_split)


def _met(name: str, split: str, source: RememberedVolumes) -> MetPatient:
    # The test patients are not read.
    slices, content = source.checksums.get(name, _UNREAD)
    return MetPatient(name, split, slices, content)


def _covered(old: MetPatient, own: Iterable[MetPatient]) -> bool:
    """Say whether a patient of the first weights is one of the run's, with a role that is as grave."""
    return any(k.is_same(old.name, old.slices) and MET.index(k.role) <= MET.index(old.role) for k in own)


def _naming(name: str, known: MetPatient) -> str:
    return name if known.name == name else f"{name} (as {known.name})"


def check_same_pixels(source: RememberedVolumes, roles: Roles, run: Path, data: str) -> None:
    """Refuse to go on with other pixels than a run began with, when its patients have been read again.

    Args:
        source: From which they were read.
        roles: Of the run.
        run: Its folder.
        data: Where the patients are.

    Raises:
        InputError: Some files have changed.
    """
    begun = {known.name: known.content for known in reversed(roles.patients) if known.content}
    changed = [name for name, found in sorted(source.checksums.items()) if begun.get(name) != found.content]
    if changed:
        raise InputError(
            f"The data at {data} are not those of {run}: the pixels or masks of {len(changed)} patients have changed "
            f"since it began, {join_names(changed)}. Restore their files, or start a new run."
        )
