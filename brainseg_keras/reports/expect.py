"""What may be expected of the networks of a cross-validation, each fitted on patients whom other networks tested."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from brainseg_keras.calibration import read_calibration
from brainseg_keras.data.roles import Roles
from brainseg_keras.errors import InputError
from brainseg_keras.expectation import FEWEST, FILE, MARK, Expectation, fit_expectation
from brainseg_keras.files import check_output, check_replaceable, write_json
from brainseg_keras.inference.outlook import Outlook
from brainseg_keras.postprocessing import OUT_OF_FOLD

#: By patient: what `scan_features` gives.
Features = Mapping[str, Mapping[str, float]]


class Expected(NamedTuple):
    """What may be expected.

    Args:
        by_fold: Of each fold's network; the patients whom it tests had no part in it.
        of_all: Of a network that is trained on all patients.
    """

    by_fold: list[Expectation]
    of_all: Expectation


def check_expectable(runs: Sequence[Path], patients: Sequence[int]) -> None:
    """Refuse folds of which no expectation can be fitted, before any network is asked.

    Args:
        runs: The run folder of each fold.
        patients: How many patients each tests.

    Raises:
        InputError: Too few patients in the other folds, or a run with a calibration of its own.

    Example:
        >>> check_expectable([Path("fold1"), Path("fold2"), Path("fold3")], [10, 10, 10])
    """
    if sum(patients) - max(patients) < FEWEST:
        raise InputError(
            f"What is expected of a fold's network is fitted on the patients of all other folds, {FEWEST} or more. "
            f"Received: {sum(patients)} patients, of whom one fold tests {max(patients)}. Leave --expect out, or take "
            "more patients."
        )
    calibrated = [run for run in runs if (own := read_calibration(run)) and own.changes]
    if calibrated:
        raise InputError(
            f"What is expected is fitted on the networks' own probabilities, and {calibrated[0]} has a calibration of "
            "its own. Remove its calibration.json, or leave --expect out."
        )


def expect_across(table: pd.DataFrame, features: Features, roles: Sequence[Roles]) -> Expected:
    """Fit what may be expected of each fold's network, and of one that is trained on all.

    Args:
        table: One row a patient, with `fold` and what `fit_expectation` takes; what was expected of each patient by the
            network that tested it is added, as `Outlook.scores` names it.
        features: Of all patients.
        roles: Whom each fold's network has met.

    Returns:
        The fits.

    Raises:
        InputError: Fewer than ten patients in the other folds of one.
    """
    by_fold = []
    for number, known in enumerate(roles, 1):
        trained = [own for name, own in features.items() if (met := known.named(name)) and met.role == "train"]
        by_fold.append(fit_expectation(table[table.fold != number], trained))
    rows = []
    for row in table.itertuples():
        known = by_fold[row.fold - 1]
        dice = known.dice(row.disagreement, row.confidence)
        remarks = "; ".join(known.remarks(dice, features[row.patient]))
        rows.append(Outlook(row.disagreement, dice, remarks, known).scores(row.volume_pred))
    for name in rows[0]:
        table[name] = [row[name] for row in rows]
    return Expected(by_fold, fit_expectation(table, features.values()))


def expectation_files(place: str | Path | None, runs: Sequence[Path]) -> list[Path]:
    """Say where expectations are kept, and find out whether they can be, before any work is done for it.

    Args:
        place: Folder for that of all; None keeps only those of the runs.
        runs: The run folder of each fold.

    Returns:
        The files, that of all last.

    Raises:
        InputError: One of them cannot be written, or is somebody else's.
    """
    folders = [*runs] + ([] if place is None else [place])
    files = [check_output(folder, "folder") / FILE for folder in folders]
    for file in files:
        check_replaceable(file, MARK)
    return files


def keep_expected(expected: Expected, files: Sequence[Path]) -> None:
    """Write what may be expected.

    Args:
        expected: The fits.
        files: As `expectation_files` gives them.
    """
    about = {"fitted_on": OUT_OF_FOLD, "at": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    for known, file in zip([*expected.by_fold, expected.of_all], files, strict=False):
        write_json(file, known.to_info() | about)
