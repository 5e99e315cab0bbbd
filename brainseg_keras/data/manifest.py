"""Manifests: CSV lists of slices with patient, split and checksums, and no images."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainseg_keras.data.decode.images import pixel_checksum
from brainseg_keras.errors import InputError
from brainseg_keras.files import printable, write_whole

COLUMNS = ("dataset", "patient", "slice", "image", "mask", "split", "tumour_pixels", "image_sha256", "mask_sha256")
SPLITS = ("train", "val", "test")
#: Wraps the patients that are gone through, to show how far it is.
Progress = Callable[[Sequence[str]], Iterable[str]]


def read_manifest(path: str | Path, *, allow_shared_patients: bool = False) -> pd.DataFrame:
    """Read a manifest and check it.

    Args:
        path: CSV file with the columns `dataset, patient, slice, image, mask, split, tumour_pixels, image_sha256,
            mask_sha256`, one row a slice.
        allow_shared_patients: Let one patient stand in several splits. Only for showing what leakage does.

    Returns:
        Table of those columns, sorted by patient and slice.

    Raises:
        InputError: The file is missing, is not a manifest, names a slice twice or a patient in two splits.

    Example:
        >>> import tempfile, pathlib
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "manifest.csv"
        >>> row = dict(dataset="lgg", patient="A", slice=1, image="A_1.tif", mask="A_1_mask.tif", split="train")
        >>> write_manifest(pd.DataFrame([row | dict(tumour_pixels=0, image_sha256="", mask_sha256="")]), file)
        >>> read_manifest(file).patient.tolist()
        ['A']
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"No manifest at {path}. Write one with: brainseg data manifest lgg FOLDER -o {path}")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except Exception as error:  # pandas raises many kinds
        raise InputError(
            f"{path} cannot be read as CSV ({error}). Expected the columns {', '.join(COLUMNS)}."
        ) from error
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise InputError(
            f"{path} is not a manifest: the columns {', '.join(missing)} are missing. "
            "Write one with: brainseg data manifest lgg FOLDER -o FILE"
        )
    for column in ("slice", "tumour_pixels"):
        try:
            table[column] = table[column].astype(int)
        except (ValueError, OverflowError) as error:
            raise InputError(f"{path}: the column {column} holds whole numbers ({error}).") from error
        if (table[column] < 0).any():
            raise InputError(f"{path}: the column {column} holds whole numbers from 0 on, not {table[column].min()}.")
    check_table(table, str(path), allow_shared_patients=allow_shared_patients)
    return table[list(COLUMNS)].sort_values(["patient", "slice"], ignore_index=True)


def slice_row(
    dataset: str,
    patient: str,
    number: int,
    image: str,
    mask: str,
    labels: np.ndarray,
    pixels: np.ndarray | None = None,
) -> dict[str, Any]:
    """Make the row of a slice, with an empty `split`.

    Args:
        dataset: Name of its format, with the scheme of its labels where it has one.
        patient: Whose it is.
        number: Of the slice.
        image: Path of the image below the root.
        mask: Path of the mask.
        labels: The decoded mask, 0 for background.
        pixels: The decoded image where the sha256 columns are to be filled.

    Returns:
        The columns of a manifest.

    Example:
        >>> slice_row("lgg", "A", 1, "A_1.tif", "A_1_mask.tif", np.eye(3))["tumour_pixels"]
        3
    """
    count = int((labels > 0).sum())
    checksums = ("", "") if pixels is None else (pixel_checksum(pixels), pixel_checksum(labels))
    return dict(zip(COLUMNS, (dataset, patient, number, image, mask, "", count, *checksums), strict=True))


def table_of_patients(
    patients: Mapping[str, Any],
    read: Callable[[Any], list[dict]],
    skipped: dict[str, str] | None,
    progress: Progress = iter,
) -> pd.DataFrame:
    """List the slices of each patient in turn.

    Args:
        patients: What `read` takes, by patient.
        read: Gives the rows of one patient.
        skipped: Filled with the patients whose files are wrong, and why, who are then left out; None refuses them.
        progress: Wraps the list of patients, to show how far it is.

    Returns:
        Table with the columns of a manifest.

    Raises:
        InputError: Files that are wrong, unless `skipped` takes them.

    Example:
        >>> table_of_patients({"A": 2}, lambda count: [{"slice": n} for n in range(count)], None).slice.tolist()
        [0, 1]
    """
    rows = []
    for name in progress(list(patients)):
        try:
            found = read(patients[name])
            _refuse_unprintable(found)
            rows += found
        except InputError as error:
            if skipped is None:
                raise
            skipped[name] = str(error)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _refuse_unprintable(rows: list[dict]) -> None:
    """A manifest is text in UTF-8, and so are the tables of scores by patient."""
    for row in rows:
        for column in ("patient", "image", "mask"):
            name = row.get(column, "")
            if name != printable(name):
                raise InputError(f"The name {printable(name)} is not text in this system's encoding. Rename the file.")


def check_table(table: pd.DataFrame, origin: str, *, allow_shared_patients: bool = False) -> None:
    """Refuse a table of slices that would spoil a score.

    Args:
        table: Rows of a manifest.
        origin: What to call the table in a message.
        allow_shared_patients: See `read_manifest`.

    Raises:
        InputError: No rows, an unknown split, a slice twice, a patient in two splits.

    Example:
        >>> check_table(pd.DataFrame(columns=COLUMNS), "an empty table")
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: an empty table lists no slices.
    """
    if table.empty:
        raise InputError(f"{origin} lists no slices.")
    unknown = sorted(set(table.split) - {*SPLITS, ""})
    if unknown:
        raise InputError(f"{origin}: unknown split {', '.join(map(repr, unknown))}. Expected train, val or test.")
    twice = table[table.duplicated(["patient", "slice"])]
    if len(twice):
        row = twice.iloc[0]
        raise InputError(f"{origin}: slice {row.slice} of patient {row.patient} stands in it twice. Keep one row.")
    splits = table.groupby("patient").split.nunique()
    shared = splits[splits > 1].index.tolist()
    if shared and not allow_shared_patients:
        raise InputError(
            f"{origin}: {len(shared)} patients stand in more than one split (first: {shared[0]}). Slices of one "
            "patient resemble each other, so scores would be too high. Give every slice of a patient the same split."
        )


def write_manifest(table: pd.DataFrame, path: str | Path) -> None:
    """Write a manifest, whole or not at all.

    Args:
        table: Rows with the columns of a manifest.
        path: Where to write the CSV; its folder is made.

    Example:
        >>> import tempfile, pathlib
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "manifest.csv"
        >>> write_manifest(pd.DataFrame(columns=COLUMNS), file)
        >>> file.read_text().strip()
        'dataset,patient,slice,image,mask,split,tumour_pixels,image_sha256,mask_sha256'
    """
    ordered = table[list(COLUMNS)].sort_values(["patient", "slice"], ignore_index=True)
    write_whole(path, lambda scratch: ordered.to_csv(scratch, index=False, lineterminator="\n"), mark=",".join(COLUMNS))
