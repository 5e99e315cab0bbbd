"""fetch(): the public sets through kagglehub, with the user's own token, checked before they are called complete."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pandas as pd

from brainseg_keras.data.formats.brats_h5 import find_brats_root
from brainseg_keras.data.formats.lgg import find_lgg_root, read_lgg
from brainseg_keras.errors import IncompleteError, InputError, first_line, optional_import

HANDLES = {"lgg": "mateuszbuda/lgg-mri-segmentation", "brats2020": "awsaf49/brats2020-training-data"}
_TOKEN = (
    "Make an API token on kaggle.com (Settings, API) and put it into ~/.kaggle/kaggle.json or KAGGLE_USERNAME and "
    "KAGGLE_KEY; the set's page may ask for its terms first"
)
_BRATS_SLICES = 369 * 155


@dataclass(frozen=True)
class Fetched:
    """What was downloaded.

    Args:
        root: Folder to give to `--data`.
        patients: How many patients it holds.
        checked: How many of them were compared with known checksums.
    """

    root: Path
    patients: int
    checked: int


def fetch(name: str, *, download: Callable[[str], str] | None = None) -> Fetched:
    """Download a public data set and check it.

    Args:
        name: `lgg` or `brats2020`.
        download: From a handle such as `mateuszbuda/lgg-mri-segmentation` to the folder of its files; default
            kagglehub's, which keeps what it has.

    Returns:
        Where it lies, and what was checked.

    Raises:
        InputError: An unknown name, no kagglehub, no token or no network.
        IncompleteError: The files are not those of the set: some are missing, or differ.

    Example:
        >>> fetch("brats1999")
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: Known data sets are lgg, brats2020. Received: 'brats1999'.
    """
    if name not in HANDLES:
        raise InputError(f"Known data sets are {', '.join(HANDLES)}. Received: {name!r}.")
    handle = HANDLES[name]
    try:
        folder = Path((download or _kagglehub())(handle))
    except InputError:
        raise
    except Exception as error:  # kagglehub raises those of requests, of its own and of zipfile
        raise InputError(
            f"{handle} could not be downloaded ({first_line(error)}). Check the network. {_TOKEN}."
        ) from error
    return _check_lgg(folder) if name == "lgg" else _check_brats(folder)


def _kagglehub() -> Callable[[str], str]:
    return optional_import("kagglehub", "kaggle").dataset_download


def _check_lgg(folder: Path) -> Fetched:
    root = find_lgg_root(folder)
    if root is None:
        raise IncompleteError(f"{folder} holds no LGG data. Remove it and fetch again.")
    table, _ = read_lgg(root, checksums=True)
    known = lgg_checksums()
    found = {patient: patient_checksum(rows) for patient, rows in table.groupby("patient")}
    missing = sorted(set(known.index) - set(found))
    changed = sorted(patient for patient in known.index if patient in found and found[patient] != known[patient])
    if missing or changed:
        said = [
            f"{len(names)} {what} (first: {names[0]})"
            for names, what in ((missing, "missing"), (changed, "other"))
            if names
        ]
        raise IncompleteError(
            f"{root}: of {len(known)} known patients {', '.join(said)}. Remove {folder}, fetch again."
        )
    return Fetched(root, len(found), len(known))


def _check_brats(folder: Path) -> Fetched:
    root = find_brats_root(folder)
    count = 0 if root is None else sum(1 for _ in root.glob("*_slice_*.h5"))
    if count != _BRATS_SLICES:
        raise IncompleteError(
            f"{folder} holds {count} slices of BraTS 2020. Expected {_BRATS_SLICES} (369 volumes of 155). Remove it "
            "and fetch again."
        )
    return Fetched(root, _BRATS_SLICES // 155, 0)


def lgg_checksums() -> pd.Series:
    """Read the checksums of the patients of the LGG set that this package knows.

    Returns:
        Series of checksums, indexed by patient.

    Example:
        >>> len(lgg_checksums())
        88
    """
    with resources.files("brainseg_keras.data").joinpath("lgg_split.csv").open(encoding="utf-8") as lines:
        return pd.read_csv(lines).set_index("patient").sha256


def patient_checksum(rows: pd.DataFrame) -> str:
    """Bring the checksums of a patient's slices into one.

    Args:
        rows: Of a manifest, of one patient.

    Returns:
        64 hexadecimal digits.
    """
    ordered = rows.sort_values("slice")
    text = "".join(ordered.image_sha256 + ordered.mask_sha256)
    return hashlib.sha256(text.encode()).hexdigest()
