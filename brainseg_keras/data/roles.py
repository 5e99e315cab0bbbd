"""What each patient had to do with a network: trained it, chose it, or was kept apart. A score is read against it."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from brainseg_keras.data.volumes import VolumeSource, is_seeded
from brainseg_keras.errors import InputError

#: What a network may have met a patient as; where one was met as several, the first counts.
MET = ("train", "val", "tuned", "test")
#: What stands in reports for a patient's role.
WORDS = {
    "train": "training, the network has seen these patients",
    "val": "validation, chose the checkpoint",
    "tuned": "tuning, chose the postprocessing or the calibration",
    "test": "test, chose nothing",
    "unseen": "unseen, the network has never met these patients",
    "unknown": "roles unknown, nothing says which patients trained this network",
}


@dataclass(frozen=True)
class MetPatient:
    """A patient that a network has met.

    Args:
        name: In the data through which it was met.
        role: `train`, `val` (chose the checkpoint), `tuned` (chose what comes after it alone) or `test` (kept apart).
        slices: Checksums of some slices, as `slice_checksums` gives them; none where the pixels were not read.
        content: Checksum of all that was read, as `patient_checksums` gives it.
        tuned: Whether this patient also chose what comes after the network.

    Raises:
        InputError: An unknown role, or entries that are not text.

    Example:
        >>> MetPatient("A", "train").is_same("A", ["0123456789abcdef"])
        True
    """

    name: str
    role: str
    slices: tuple[str, ...] = ()
    content: str = ""
    tuned: bool = False

    def __post_init__(self) -> None:
        """Refuse what no run writes."""
        texts = (self.name, self.role, self.content, *self.slices)
        if not all(isinstance(text, str) for text in texts) or not isinstance(self.tuned, bool):
            raise InputError(f"A patient has a name, a role and checksums, all text. Received: {texts[:3]}.")
        if self.role not in MET:
            raise InputError(f"A patient's role is one of {', '.join(MET)}. Received: {self.role!r}.")

    def is_same(self, name: str, slices: Sequence[str] = ()) -> bool:
        """Say whether a patient is this one: by pixels, and by name only where either's pixels are unknown.

        Args:
            name: The other's name.
            slices: Checksums of the other's slices.

        Returns:
            Whether they are the same.
        """
        if self.slices and slices:
            return not set(self.slices).isdisjoint(slices)
        return self.name == name


@dataclass(frozen=True)
class Roles:
    """The patients that a network has met, and what each had to do with it.

    Args:
        patients: Those of its own run first, then those of the weights that it started from.
        complete: Whether these are all; if not, whoever is not named here may have trained it.
        own_split: Whether its run split the patients itself, as a fold does: that comes before any split of the data.

    Example:
        >>> roles = Roles((MetPatient("A", "train"), MetPatient("B", "test")))
        >>> roles.role("A"), roles.role("B"), roles.role("C"), Roles(complete=False).role("A")
        ('train', 'test', 'unseen', 'unknown')
    """

    patients: tuple[MetPatient, ...] = ()
    complete: bool = True
    own_split: bool = False

    @classmethod
    def union(cls, several: Sequence["Roles"]) -> "Roles":
        """Say whom any of several networks has met, each patient in the gravest of its roles.

        Args:
            several: The networks' roles.

        Returns:
            Complete only where all of them are.

        Example:
            >>> first, second = (Roles((MetPatient("A", role),)) for role in ("test", "train"))
            >>> Roles.union([first, second]).patients == second.patients
            True
        """
        met = [known for roles in several for known in roles.patients]
        patients: list[MetPatient] = []
        # Of equals one whose pixels are known, and one that also chose what comes after the network.
        for known in sorted(met, key=lambda one: (MET.index(one.role), not one.slices, not one.tuned)):
            if not any(kept.is_same(known.name, known.slices) for kept in patients):
                patients.append(known)
        complete, own_split = all(roles.complete for roles in several), any(roles.own_split for roles in several)
        return cls(tuple(patients), complete, own_split)

    def find(self, name: str, slices: Sequence[str] = ()) -> MetPatient | None:
        """Find a patient, also under another name.

        Args:
            name: The patient's name.
            slices: Checksums of the patient's slices, where they are known.

        Returns:
            What the network met the patient as; None where it never did.
        """
        same = [known for known in self.patients if known.is_same(name, slices)]
        return min(same, key=lambda known: MET.index(known.role), default=None)

    def named(self, name: str) -> MetPatient | None:
        """Find a patient by name alone; one of the network's own run comes first."""
        return next((known for known in self.patients if known.name == name), None)

    def role(self, name: str, slices: Sequence[str] = ()) -> str:
        """Say what a patient had to do with the network.

        Args:
            name: The patient's name.
            slices: Checksums of the patient's slices, where they are known.

        Returns:
            A key of `WORDS`.
        """
        known = self.find(name, slices)
        if not self.complete and (known is None or known.role == "test"):
            # Kept apart here, but perhaps not where the first weights came from.
            return "unknown"
        return known.role if known else "unseen"

    def with_tuned(self, tuned: Mapping[str, Sequence[str]]) -> "Roles":
        """Add the patients that chose the postprocessing or the calibration.

        Args:
            tuned: Checksums of slices, by name.

        Returns:
            All of them.
        """
        patients = list(self.patients)
        for name, slices in tuned.items():
            # Among those that are there by now: two names may be one patient.
            known = Roles(tuple(patients)).find(name, slices)
            if known is None or known.role == "test":
                patients.insert(0, MetPatient(name, "tuned", tuple(slices), tuned=True))
            elif (again := dataclasses.replace(known, tuned=True)) not in patients:
                # In it already where one patient tuned under two names.
                patients[patients.index(known)] = again
        return dataclasses.replace(self, patients=tuple(patients))

    def splits_for(self, source: VolumeSource) -> pd.Series:
        """Give the split of each patient: where the source's were drawn from a seed, that of this network comes first.

        So does that of a network whose run split the patients itself, whatever the source says.

        Args:
            source: Where the volumes come from.

        Returns:
            Series of split names, indexed by patient in alphabetical order.
        """
        own = splits_of(source)
        if not (self.own_split or is_seeded(source)):
            return own
        met = {known.name: "val" if known.role == "tuned" else known.role for known in reversed(self.patients)}
        return pd.Series([met.get(name, split) for name, split in own.items()], own.index, dtype=object)

    def to_info(self) -> dict[str, Any]:
        """Write them for run.json.

        Returns:
            What `from_info` reads.
        """
        rows = []
        for known in self.patients:
            row: dict[str, Any] = {"name": known.name, "role": known.role}
            row |= {"slices": " ".join(known.slices)} if known.slices else {}
            row |= {"content": known.content} if known.content else {}
            rows.append(row | ({"tuned": True} if known.tuned else {}))
        return {"complete": self.complete, "patients": rows} | ({"own_split": True} if self.own_split else {})

    @classmethod
    def from_info(cls, content: Mapping[str, Any]) -> "Roles":
        """Read them from run.json.

        Args:
            content: What `to_info` gave.

        Returns:
            The roles.

        Raises:
            InputError: It holds something else.

        Example:
            >>> roles = Roles((MetPatient("A", "val", ("0123456789abcdef",), tuned=True),))
            >>> Roles.from_info(roles.to_info()) == roles
            True
        """
        try:
            patients = [
                MetPatient(**{**row, "slices": tuple(row.get("slices", "").split())}) for row in content["patients"]
            ]
            complete, own_split = content["complete"], content.get("own_split", False)
        except InputError:
            raise
        except (AttributeError, LookupError, TypeError) as error:
            raise InputError(f"The roles of patients are not as a run writes them ({error}).") from error
        for name, value in (("complete", complete), ("own_split", own_split)):
            if not isinstance(value, bool):
                raise InputError(f"The roles say whether they are {name} by true or false. Received: {value!r}.")
        return cls(tuple(patients), complete, own_split)


def splits_of(source: VolumeSource) -> pd.Series:
    """Give the split of each patient.

    Args:
        source: Where the volumes come from.

    Returns:
        Series of split names, indexed by patient in alphabetical order.
    """
    return source.table.drop_duplicates("patient").set_index("patient").split.sort_index()


def splits_kept(source: VolumeSource, roles: Roles) -> pd.Series | None:
    """Give the splits that a source takes over from a network, so that nobody who trained it validates or is tested.

    Args:
        source: Where the volumes come from.
        roles: Of the network.

    Returns:
        Splits by patient; None where the source keeps its own: they are fixed, or none would train or none validate.
    """
    kept = roles.splits_for(source)
    return kept if is_seeded(source) and {"train", "val"} <= set(kept) else None


def join_names(names: Iterable[str], most: int = 8) -> str:
    """Name patients in a message, and count those beyond the first few.

    Args:
        names: What to call them.
        most: How many are named.

    Returns:
        One text.

    Example:
        >>> join_names(["A", "B", "C"], most=2)
        'A, B and 1 more'
    """
    names = list(names)
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
