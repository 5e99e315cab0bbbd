"""The engine of reports on whole patients: each answer is scored and counted; memory holds one patient at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from brainseg_keras import ranges
from brainseg_keras.data.labels import region_masks
from brainseg_keras.data.volumes import Volume
from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import Counts, mean_over_slices, score_patient, score_slices
from brainseg_keras.evaluation.curves import ProbabilityHistogram
from brainseg_keras.evaluation.patient import OVERLAP
from brainseg_keras.files import MAKER, check_output, check_replaceable, write_json, write_whole
from brainseg_keras.reports.evaluation import Evaluation
from brainseg_keras.reports.outlook import describe_outlook
from brainseg_keras.reports.page import write_page
from brainseg_keras.reports.patients import describe_groups, summarize_scores
from brainseg_keras.reports.rules import describe_rules, spacing_text

#: Scores over which means are taken, in the order of the tables.
SCORES = (
    *OVERLAP,
    "hd95",
    "average_surface_distance",
    "surface_dice",
    "lesion_recall",
    "lesion_precision",
    "volume_error",
)

#: Files of a report, and what tells each from a file of the same name that is somebody else's.
_MARKS = {
    "report.json": '"empty_rule"',
    "per_patient.csv": "patient,role,",
    "per_slice.csv": "patient,role,",
    "per_region.csv": "patient,role,",
    "report.html": MAKER,
}


@dataclass(frozen=True)
class Rules:
    """By which rules patients are scored.

    Args:
        spacing: Millimeters between slices, rows and columns; None takes each volume's own.
        tolerance: Of surface Dice, in mm, or in pixels without spacing.

    Raises:
        InputError: A spacing that is not three numbers, or a number out of its range.

    Example:
        >>> Rules((5, 1, 1)).tolerance
        2.0
    """

    spacing: Sequence[float] | None = None
    tolerance: float = 2.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        ranges.TOLERANCE.check("tolerance", self.tolerance)
        if self.spacing is None:
            return
        if len(self.spacing) != 3:
            raise InputError(f"spacing is three numbers: slices, rows and columns. Received: {self.spacing}.")
        for step in self.spacing:
            ranges.SPACING.check("spacing", step)

    def spacing_of(self, volume: Volume) -> Sequence[float] | None:
        """Give the spacing by which a patient is scored; None where it is unknown."""
        return volume.spacing if self.spacing is None else self.spacing


class PatientScores(NamedTuple):
    """What is known of one patient, once scored.

    Args:
        patient: Row of per_patient.csv.
        slices: Rows of per_slice.csv.
        regions: Rows of per_region.csv.
        counts: Of its `ProbabilityHistogram`; None where there is only a mask.
        picture: Image, truth and answer of the slice with most tumour; None where it is shown nowhere.
        has_spacing: Whether distances are in millimeters.
    """

    patient: dict[str, Any]
    slices: list[dict[str, Any]]
    regions: list[dict[str, Any]]
    counts: np.ndarray | None
    picture: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    has_spacing: bool


class ScoreTables:
    """Rows of the three tables, a patient after the other, and what the report draws.

    Args:
        rules: By which patients are scored.
        headline: Roles over whose patients means are taken.
        regions: Whether regions are scored beside the whole tumour.
    """

    def __init__(self, rules: Rules, headline: Sequence[str], *, regions: bool):
        self._rules, self._headline, self._regions = rules, list(headline), regions
        self._patients: list[dict[str, Any]] = []
        self._slices: list[dict[str, Any]] = []
        self._region_rows: list[dict[str, Any]] = []
        self._histogram = ProbabilityHistogram()
        #: Of the best and the worst patients so far.
        self.pictures: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self._units: set[bool] = set()

    def add(
        self, whose: dict[str, str], volume: Volume, labels: np.ndarray, tumour: np.ndarray | None
    ) -> PatientScores:
        """Score one patient.

        Args:
            whose: `patient` and `role`.
            volume: The patient.
            labels: The answer.
            tumour: Probability of tumour; None where there is only the mask.

        Returns:
            What was found; to the row `patient` further columns may be added.

        Raises:
            InputError: The patient has spacing and others have none, or the other way round.
        """
        steps = self._rules.spacing_of(volume)
        score = partial(score_patient, spacing=steps, tolerance=self._rules.tolerance)
        truth, answer, histogram = volume.masks > 0, labels > 0, ProbabilityHistogram()
        told = whose | {"slices": len(truth), "spacing": spacing_text(steps)}
        numbered = zip(volume.slices, score_slices(truth, answer), strict=True)
        answers = region_masks(labels) if self._regions else {}
        regions = region_masks(volume.masks).items() if self._regions else ()
        if tumour is not None:
            histogram.add(truth, tumour)
        scores = PatientScores(
            told | score(truth, answer),
            [whose | {"slice": number} | row for number, row in numbered],
            [whose | {"region": name} | score(mask, answers[name]) for name, mask in regions],
            None if tumour is None else histogram.counts,
            _picture(volume, truth, answer),
            steps is not None,
        )
        self.include(scores)
        return scores

    def include(self, scores: PatientScores) -> None:
        """Add one patient who is scored already.

        Args:
            scores: What was found.

        Raises:
            InputError: The patient has spacing and others have none, or the other way round.
        """
        row = scores.patient
        self._units.add(scores.has_spacing)
        if len(self._units) > 1:
            raise InputError(
                f"Patient {row['patient']} has {'a' if scores.has_spacing else 'no'} spacing, unlike others, so that "
                "distances would mix millimeters and pixels. Say it for all: --spacing 5,0.9,0.9."
            )
        self._patients.append(row)
        self._slices += scores.slices
        self._region_rows += scores.regions
        if row["role"] in self._headline and scores.counts is not None:
            self._histogram.add_counts(scores.counts)
        if scores.picture is not None:
            self.pictures[row["patient"]] = scores.picture
        self.pictures = _keep_extremes(self.pictures, self._patients)

    def finish(self, heading: dict[str, Any], *, chose: Sequence[str]) -> Evaluation:
        """Make the tables and the report of the patients that were added.

        Args:
            heading: First entries of the report: whose scores these are.
            chose: See `words_for`.

        Returns:
            What was found, the patients in alphabetical order.
        """
        rows = (self._patients, self._slices, self._region_rows)
        per_patient, per_slice, per_region = (
            pd.DataFrame(sorted(table, key=lambda row: row["patient"])) for table in rows
        )
        report = heading | _report(per_patient, per_slice, self._headline, chose=chose)
        any_pixels = len(self._histogram.calibration()[0]) > 0
        report |= {
            "average_precision": self._histogram.average_precision(),
            "expected_calibration_error": self._histogram.calibration_error() if any_pixels else None,
            "surface_dice_tolerance": self._rules.tolerance,
        }
        report |= describe_rules(per_patient, self._rules.spacing)
        report |= describe_outlook(per_patient[per_patient.role.isin(self._headline)])
        if self._regions:
            report["regions"] = {
                name: summarize_scores(rows, SCORES)
                for name, rows in per_region[per_region.role.isin(self._headline)].groupby("region", sort=False)
            }
        return Evaluation(report, per_patient, per_slice, self._histogram, self.pictures, per_region)


def _picture(volume: Volume, truth: np.ndarray, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    index = int((truth | answer).sum(axis=(1, 2)).argmax())
    return volume.images[index], truth[index], answer[index]


def _keep_extremes(pictures: dict, rows: list[dict], each: int = 3) -> dict:
    """Keep the best and the worst patients only, so that memory does not grow with the data."""
    order = sorted(rows, key=lambda row: row["dice"])
    wanted = {row["patient"] for row in (*order[:each], *order[-each:])}
    return {patient: picture for patient, picture in pictures.items() if patient in wanted}


def _report(
    per_patient: pd.DataFrame, per_slice: pd.DataFrame, headline: list[str], *, chose: Sequence[str]
) -> dict[str, Any]:
    groups = describe_groups(per_patient, SCORES, chose=chose)
    per_patient, per_slice = (table[table.role.isin(headline)] for table in (per_patient, per_slice))
    pooled = Counts(*(int(per_patient[name].sum()) for name in ("tp", "fp", "fn", "tn")))
    has_tumour = (per_slice.tp + per_slice.fn > 0).to_numpy()
    marked = (per_slice.tp + per_slice.fp > 0).to_numpy()
    return {
        "headline": headline,
        "groups": groups,
        "patients": summarize_scores(per_patient, SCORES),
        "all_background": _all_background(per_patient, per_slice),
        "pooled_pixels": {name: float(score(pooled)) for name, score in OVERLAP.items()}
        | {"patients": len(per_patient), "pixels": int(sum(pooled))},
        "slices": mean_over_slices(per_slice.dice, ~has_tumour & ~marked),
        "confusion": {
            "pixels": _confusion(*pooled),
            "slices": _confusion(
                int((has_tumour & marked).sum()),
                int((~has_tumour & marked).sum()),
                int((has_tumour & ~marked).sum()),
                int((~has_tumour & ~marked).sum()),
            ),
        },
        "classification_report": {
            "pixels": _classification_report(*pooled),
            "slices": _classification_report_of(has_tumour, marked),
        },
    }


def _all_background(per_patient: pd.DataFrame, per_slice: pd.DataFrame) -> dict[str, Any]:
    """Score the all-background baseline, against which every figure has to be read."""
    tumour = per_patient.tp + per_patient.fn
    total = tumour + per_patient.fp + per_patient.tn
    right = (tumour == 0).astype(float)
    patients = pd.DataFrame({"dice": right, "recall": right, "pixel_accuracy": (total - tumour) / total})
    empty = (per_slice.tp + per_slice.fn == 0).to_numpy()
    return {
        "patients": summarize_scores(patients, patients.columns),
        "slices": mean_over_slices(empty.astype(float), empty),
    }


def _confusion(tp: int, fp: int, fn: int, tn: int) -> dict[str, int]:
    return {"tp": int(tp), "fp": int(fp), "fn": int(fn), "tn": int(tn)}


def _classification_report(tp: int, fp: int, fn: int, tn: int) -> dict[str, Any]:
    """scikit-learn's report of counts: four weighted samples instead of millions of pixels."""
    from sklearn.metrics import classification_report

    return classification_report(
        [1, 0, 1, 0],
        [1, 1, 0, 0],
        sample_weight=[tp, fp, fn, tn],
        labels=[0, 1],
        target_names=["background", "tumour"],
        output_dict=True,
        zero_division=0,
    )


def _classification_report_of(truth: np.ndarray, answer: np.ndarray) -> dict[str, Any]:
    from sklearn.metrics import classification_report

    return classification_report(
        truth, answer, labels=[False, True], target_names=["none", "tumour"], output_dict=True, zero_division=0
    )


def check_report_folder(output: str | Path) -> Path:
    """Find out whether a report can be written, before any work is done for it.

    Args:
        output: Its folder.

    Returns:
        The folder.

    Raises:
        InputError: It cannot be written to, or holds somebody else's files of the same names.

    Example:
        >>> check_report_folder("/dev/null/report")
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: output cannot be written: /dev/null is not a folder. ...
    """
    folder = check_output(output, "folder")
    for name, mark in _MARKS.items():
        check_replaceable(folder / name, mark)
    return folder


def write_report(evaluation: Evaluation, folder: Path) -> None:
    """Write report.json, the tables and report.html.

    Args:
        evaluation: What was found.
        folder: As `check_report_folder` gives it.
    """
    write_json(folder / "report.json", evaluation.report)
    for name in ("per_patient", "per_slice", "per_region"):
        table = getattr(evaluation, name)
        if not table.empty:
            write_whole(folder / f"{name}.csv", lambda path, table=table: table.to_csv(path, index=False))
    write_whole(folder / "report.html", lambda path: write_page(evaluation, path))
