"""compare(): two evaluations of the same patients, paired."""

from pathlib import Path

import pandas as pd

from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import Comparison, compare_paired
from brainseg_keras.evaluation.patient import DISTANCES

COMPARED = ("dice", "iou", "precision", "recall", "hd95", "average_surface_distance", "surface_dice")


def compare(first: str | Path, second: str | Path) -> dict[str, Comparison]:
    """Compare two evaluations patient by patient.

    Args:
        first: per_patient.csv of one model, the folder of its evaluation, or a run folder with one evaluation.
        second: The other's.

    Returns:
        A comparison for each score: positive differences favour the first, save for distances, where negative ones do.

    Raises:
        InputError: No such table, or tables of different patients.
    """
    tables = [_read(first), _read(second)]
    names = [set(table.index) for table in tables]
    if names[0] != names[1]:
        odd = sorted(names[0] ^ names[1])
        raise InputError(
            f"{first} and {second} score different patients: {len(odd)} are in one of them only, such as "
            f"{', '.join(odd[:3])}. Evaluate both on the same split of the same data."
        )
    unequal = [
        patient
        for patient in sorted(names[0])
        if tables[0].tp[patient] + tables[0].fn[patient] != tables[1].tp[patient] + tables[1].fn[patient]
    ]
    if unequal:
        raise InputError(
            f"{first} and {second} have other masks for {', '.join(unequal[:3])}: the size of the tumour differs. "
            "Evaluate both on the same data."
        )
    aligned = tables[1].loc[tables[0].index]
    return {
        name: compare_paired(tables[0][name].tolist(), aligned[name].tolist())
        for name in COMPARED
        if name in tables[0] and name in aligned
    }


def favours_first(name: str, comparison: Comparison) -> bool:
    """Say whether a difference speaks for the first model.

    Args:
        name: Of the score.
        comparison: Its comparison.

    Returns:
        True where the first is better.
    """
    return comparison.difference < 0 if name in DISTANCES else comparison.difference > 0


def _read(path: str | Path) -> pd.DataFrame:
    path = Path(path)
    candidates = [path, path / "per_patient.csv", *sorted(path.glob("evaluation/*/per_patient.csv"))]
    found = [candidate for candidate in candidates if candidate.is_file()]
    if len(found) != 1:
        what = "holds no per_patient.csv" if not found else f"holds {len(found)} evaluations"
        raise InputError(f"{path} {what}. Give the per_patient.csv that `brainseg evaluate` wrote, or its folder.")
    try:
        table = pd.read_csv(found[0], dtype={"patient": str}).set_index("patient")
    except (ValueError, KeyError, pd.errors.ParserError) as error:
        raise InputError(f"{found[0]} is not what `brainseg evaluate` writes ({error}).") from error
    missing = [name for name in ("tp", "fn", "dice") if name not in table]
    if missing or table.index.has_duplicates:
        raise InputError(
            f"{found[0]} is not what `brainseg evaluate` writes: no {', '.join(missing) or 'one row each'}."
        )
    for name in {"tp", "fn", *COMPARED} & set(table):
        numbers = pd.to_numeric(table[name], errors="coerce")
        if not numbers.notna().all():
            raise InputError(f"{found[0]}: {name} of {numbers.isna().idxmax()} is no number. Evaluate again.")
        table[name] = numbers
    return table
