"""summary.csv: one row a result of `predict`, made of the ledger of all that write to one folder."""

from dataclasses import fields
from pathlib import Path

import pandas as pd

from brainseg_keras.errors import InputError
from brainseg_keras.files import write_whole
from brainseg_keras.inference.measures import Measures
from brainseg_keras.inference.outlook import OUTLOOK

SUMMARY = "summary.csv"
COLUMNS = ("file", *(field.name for field in fields(Measures)), "mask", "error")


def check_summary(folder: Path) -> None:
    """Refuse to replace a summary that is another's.

    Args:
        folder: Where results lie.

    Raises:
        InputError: A summary.csv that `predict` did not write.

    Example:
        >>> check_summary(Path("no/such/folder"))
    """
    file = folder / SUMMARY
    try:
        columns = tuple(pd.read_csv(file, dtype=str, nrows=0, encoding="utf-8").columns)
    except FileNotFoundError:
        return
    except Exception as error:  # pandas raises many kinds
        raise InputError(f"{file} cannot be read ({error}). Give another output folder, or remove it.") from error
    if columns not in (COLUMNS, COLUMNS + OUTLOOK):
        raise InputError(
            f"{file} was not written by predict: its columns are {', '.join(map(str, columns[:5]))}. Give another "
            "output folder, or remove it."
        )


def write_summary(folder: Path, rows: pd.DataFrame) -> None:
    """Write summary.csv, in place of the one that is there.

    Args:
        folder: Where results lie.
        rows: Of all results, as text, with a column for each of `COLUMNS` and `OUTLOOK`.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_summary(folder, pd.DataFrame(columns=COLUMNS + OUTLOOK, dtype=str))
        >>> len(pd.read_csv(folder / SUMMARY))
        0
    """
    expected = (rows[list(OUTLOOK)] != "").to_numpy().any()
    table = rows[list(COLUMNS + OUTLOOK if expected else COLUMNS)]
    write_whole(folder / SUMMARY, lambda path: table.to_csv(path, index=False, encoding="utf-8"))
