"""compare(): two evaluations of the same patients by the same rules, paired."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import Comparison, compare_paired
from brainseg_keras.evaluation.patient import BOUNDS, DISTANCES
from brainseg_keras.reports.rules import MUST_AGREE, read_spacing

COMPARED = ("dice", "iou", "precision", "recall", "hd95", "average_surface_distance", "surface_dice")


def compare(first: str | Path, second: str | Path) -> dict[str, Comparison]:
    """Compare two evaluations patient by patient.

    Args:
        first: per_patient.csv of one model with its report.json beside it, the folder of both, or a run folder with
            one evaluation.
        second: The other's.

    Returns:
        A comparison for each score: positive differences favor the first, save for distances, where negative ones do.

    Raises:
        InputError: No such files, or evaluations of different patients or masks, in other units, with another spacing
            or tolerance, of another split or by other rules.
    """
    evaluations = [_read(first), _read(second)]
    _check_rules(*evaluations)
    tables = [evaluation.table for evaluation in evaluations]
    names, others = (set(table.index) for table in tables)
    if names != others:
        odd = sorted(names ^ others)
        raise InputError(
            f"{first} and {second} score different patients: {len(odd)} are in one of them only, such as "
            f"{', '.join(odd[:3])}. Evaluate both on the same split of the same data."
        )
    unequal = [
        patient
        for patient in sorted(names)
        if tables[0].tp[patient] + tables[0].fn[patient] != tables[1].tp[patient] + tables[1].fn[patient]
    ]
    if unequal:
        raise InputError(
            f"{first} and {second} have other masks for {', '.join(unequal[:3])}: the size of the tumour differs. "
            "Evaluate both on the same data."
        )
    aligned = tables[1].loc[tables[0].index]
    _check_measured(*evaluations)
    return {
        name: compare_paired(
            tables[0][name].tolist(), aligned[name].tolist(), bounds=BOUNDS.get(name, (-math.inf, math.inf))
        )
        for name in COMPARED
        if name in tables[0] and name in aligned
    }


def favors(name: str, comparison: Comparison) -> Literal["first", "second", "none"]:
    """Say which model a difference speaks for: none where its interval holds 0, or where there is no interval.

    Args:
        name: Of the score.
        comparison: Its comparison.

    Returns:
        `first`, `second` or `none`.

    Example:
        >>> from brainseg_keras.evaluation import compare_paired
        >>> favors("dice", compare_paired([0.8, 0.9, 0.7], [0.6, 0.7, 0.5]))
        'first'
        >>> favors("dice", compare_paired([0.8, 0.9, 0.7], [0.6, 0.7, 0.9]))
        'none'
    """
    low, high = comparison.low, comparison.high
    if low is None or high is None or low <= 0 <= high:
        return "none"
    return "first" if (low > 0) != (name in DISTANCES) else "second"


@dataclass(frozen=True)
class _Scored:
    table: pd.DataFrame
    report: dict[str, Any]
    #: Where both lie, for messages.
    table_file: Path
    report_file: Path


def _read(path: str | Path) -> _Scored:
    path = Path(path)
    candidates = [path, path / "per_patient.csv", *sorted(path.glob("evaluation/*/per_patient.csv"))]
    found = [candidate for candidate in candidates if candidate.is_file()]
    if len(found) != 1:
        what = "holds no per_patient.csv" if not found else f"holds {len(found)} evaluations"
        raise InputError(f"{path} {what}. Give the per_patient.csv that `brainseg evaluate` wrote, or its folder.")
    report = found[0].with_name("report.json")
    return _Scored(_read_table(found[0]), _read_report(report), found[0], report)


def _read_table(file: Path) -> pd.DataFrame:
    text = {"patient": str, "spacing": str, "distances": str}
    try:
        table = pd.read_csv(file, dtype=text).set_index("patient")
    except (ValueError, KeyError, pd.errors.ParserError) as error:
        raise InputError(f"{file} is not what `brainseg evaluate` writes ({error}). Evaluate again.") from error
    missing = [name for name in ("role", "tp", "fn", "dice", "spacing", "distances") if name not in table]
    if missing or table.index.has_duplicates:
        raise InputError(
            f"{file} is not what `brainseg evaluate` writes: no {', '.join(missing) or 'one row each'}. Evaluate again."
        )
    for name in {"tp", "fn", *COMPARED} & set(table):
        numbers = pd.to_numeric(table[name], errors="coerce")
        if not numbers.notna().all():
            raise InputError(f"{file}: {name} of {numbers.isna().idxmax()} is not a number. Evaluate again.")
        table[name] = numbers
    table = table.fillna({"spacing": "", "distances": ""})
    try:
        list(map(read_spacing, table.spacing))
    except ValueError as error:
        raise InputError(f"{file}: {error}. Evaluate again.") from error
    return table


def _read_report(file: Path) -> dict[str, Any]:
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{file} is missing, which says the units and rules of the per_patient.csv beside it: without them nothing "
            "can be compared. Give the whole folder that `brainseg evaluate` wrote, or evaluate again."
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error}). Evaluate again.") from error
    missing = [name for name in MUST_AGREE if name not in report] if isinstance(report, dict) else list(MUST_AGREE)
    if missing:
        raise InputError(f"{file} does not say {', '.join(missing)}. Evaluate again.")
    return report


def _check_measured(first: _Scored, second: _Scored) -> None:
    """Refuse patients that were measured otherwise in the other evaluation, or that trained only one network."""
    for patient, row in first.table.iterrows():
        there = second.table.loc[patient]
        ours, theirs = read_spacing(row.spacing), read_spacing(there.spacing)
        # A header holds float32.
        alike = len(ours) == len(theirs) and np.allclose(ours, theirs, rtol=1e-5, atol=0)
        if not alike or row.distances != there.distances:
            raise InputError(
                f"{first.table_file} and {second.table_file} measured {patient} otherwise: {row.distances} with a "
                f"spacing of {row.spacing or 'nothing'}, and {there.distances} with {there.spacing or 'nothing'}. "
                "Evaluate both on the same data with the same --spacing."
            )
        if (row.role == "train") != (there.role == "train"):
            trained = first if row.role == "train" else second
            raise InputError(
                f"{patient} trained the network of {trained.table_file} and not the other one. Compare on patients "
                "that neither has seen."
            )


def _check_rules(first: _Scored, second: _Scored) -> None:
    other = [name for name in MUST_AGREE if first.report[name] != second.report[name]]
    if not other:
        return
    said = "; ".join(f"{name} is {first.report[name]!r} and {second.report[name]!r}" for name in other)
    raise InputError(
        f"{first.report_file} and {second.report_file} were not scored alike: {said}. Evaluate both with "
        f"{' and '.join(dict.fromkeys(MUST_AGREE[name] for name in other))}."
    )
