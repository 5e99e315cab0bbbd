"""evaluate(): a trained network against the truth, whole patients, one at a time."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from brainseg_keras import ranges
from brainseg_keras.data.labels import CLASSES, region_masks
from brainseg_keras.data.volumes import Volume, VolumeSource
from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import Counts, mean_over_slices, score_patient, score_slices
from brainseg_keras.evaluation.curves import ProbabilityHistogram
from brainseg_keras.evaluation.patient import OVERLAP
from brainseg_keras.files import MAKER, check_output, check_replaceable, write_json, write_whole
from brainseg_keras.inference.predictor import ArrangedVolumes, Predictor
from brainseg_keras.postprocessing import Postprocessing
from brainseg_keras.reports.evaluation import Evaluation
from brainseg_keras.reports.page import write_page
from brainseg_keras.reports.patients import (
    choose_scored,
    describe_groups,
    headline_roles,
    summarize_scores,
    words_for,
)
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


def evaluate(
    predictor: Predictor,
    source: VolumeSource,
    *,
    split: str = "test",
    output: str | Path | None = None,
    spacing: Sequence[float] | None = None,
    tolerance: float = 2.0,
    include_seen: bool = False,
    progress: Callable[[list[str]], Iterable[str]] = iter,
) -> Evaluation:
    """Score a network on whole patients; memory holds one patient at a time.

    What is scored is the whole tumour; of a network that tells classes apart, tumour core and enhancing tumour besides,
    with the figures that BraTS reports. Each patient stands with its role: what it had to do with the network. Means
    are never taken over patients that the network has seen and others together.

    Args:
        predictor: The network with what was chosen for it.
        source: Patients with their masks, as `open_source` gives them.
        split: `train`, `val`, `test` or `all`. Where the data were split by a seed, a run's own split comes first.
        output: Folder for report.json, per_patient.csv, per_slice.csv, report.html; None writes nothing.
        spacing: Millimeters between slices, rows and columns; None takes the volume's own, and where it has none
            distances are measured slice by slice, in pixels.
        tolerance: Of surface Dice, in mm, or in pixels without spacing.
        include_seen: Score patients of `val` and `test` that had a part in making the network, in a group of their own,
            instead of refusing them.
        progress: Wraps the list of patients, to show how far it is.

    Returns:
        The evaluation.

    Raises:
        InputError: No patient in the split, or one that trained or chose the network; channels that the network does
            not take, or spacing that some patients have and others lack.

    Example:
        >>> from brainseg_keras import res_unet
        >>> from brainseg_keras.data import open_source
        >>> found = evaluate(Predictor(res_unet((32, 32, 3), filters=4, depth=2)), open_source("phantom"))
        >>> found.report["patients"]["dice"]["n"]
        3
    """
    _check(spacing, tolerance)
    folder = None if output is None else check_output(output, "folder")
    for name, mark in _MARKS.items() if folder else ():
        check_replaceable(folder / name, mark)
    rows = _Rows([], [], [])
    units = set()
    chosen = choose_scored(source, split, predictor, include_seen=include_seen, progress=progress)
    headline = headline_roles(chosen, split)
    source = ArrangedVolumes(source, predictor.spec.channels)
    regions = predictor.spec.target.classes == source.classes == CLASSES
    histogram = ProbabilityHistogram()
    pictures: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for patient in progress(list(chosen)):
        whose = {"patient": patient, "role": chosen[patient].role}
        volume = source.volume(patient)
        steps = volume.spacing if spacing is None else spacing
        units.add(steps is not None)
        if len(units) > 1:
            raise InputError(
                f"Patient {patient} has {'a' if steps else 'no'} spacing, unlike others, so that distances would mix "
                "millimeters and pixels. Say it for all: --spacing 5,0.9,0.9."
            )
        probabilities = predictor.probabilities(volume.images, volume.intensity)
        labels = predictor.masks(probabilities)
        rows.add(whose, volume, labels, steps, tolerance, regions=regions)
        if whose["role"] in headline:
            histogram.add(volume.masks > 0, predictor.tumour(probabilities))
        pictures[patient] = _picture(volume, volume.masks > 0, labels > 0)
        pictures = _keep_extremes(pictures, rows.patients)
    per_patient, per_slice, per_region = map(pd.DataFrame, rows)
    report = _report(predictor, per_patient, per_slice, histogram, split, tolerance, headline)
    report |= describe_rules(per_patient, spacing)
    if rows.regions:
        report["regions"] = {
            name: summarize_scores(rows, SCORES)
            for name, rows in per_region[per_region.role.isin(headline)].groupby("region", sort=False)
        }
    evaluation = Evaluation(report, per_patient, per_slice, histogram, pictures, per_region)
    if folder is not None:
        _write(evaluation, folder)
    return evaluation


def _check(spacing: Sequence[float] | None, tolerance: float) -> None:
    ranges.TOLERANCE.check("tolerance", tolerance)
    if spacing is None:
        return
    if len(spacing) != 3:
        raise InputError(f"spacing is three numbers: slices, rows and columns. Received: {spacing}.")
    for step in spacing:
        ranges.SPACING.check("spacing", step)


class _Rows(NamedTuple):
    """Rows of the three tables, a patient after the other."""

    patients: list[dict[str, Any]]
    slices: list[dict[str, Any]]
    regions: list[dict[str, Any]]

    def add(
        self,
        whose: dict[str, str],
        volume: Volume,
        labels: np.ndarray,
        spacing: Sequence[float] | None,
        tolerance: float,
        *,
        regions: bool,
    ) -> None:
        """Score one patient."""
        score = partial(score_patient, spacing=spacing, tolerance=tolerance)
        truth, answer = volume.masks > 0, labels > 0
        told = whose | {"slices": len(truth), "spacing": spacing_text(spacing)}
        self.patients.append(told | score(truth, answer))
        for number, row in zip(volume.slices, score_slices(truth, answer), strict=True):
            self.slices.append(whose | {"slice": number} | row)
        answers = region_masks(labels) if regions else {}
        for name, mask in region_masks(volume.masks).items() if regions else ():
            self.regions.append(whose | {"region": name} | score(mask, answers[name]))


def _picture(volume: Volume, truth: np.ndarray, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    index = int((truth | answer).sum(axis=(1, 2)).argmax())
    return volume.images[index], truth[index], answer[index]


def _keep_extremes(pictures: dict, rows: list[dict], each: int = 3) -> dict:
    """Keep the best and the worst patients only, so that memory does not grow with the data."""
    order = sorted(rows, key=lambda row: row["dice"])
    wanted = {row["patient"] for row in (*order[:each], *order[-each:])}
    return {patient: picture for patient, picture in pictures.items() if patient in wanted}


def _report(
    predictor: Predictor,
    per_patient: pd.DataFrame,
    per_slice: pd.DataFrame,
    histogram: "ProbabilityHistogram",
    split: str,
    tolerance: float,
    headline: tuple[str, ...],
) -> dict[str, Any]:
    tuned = predictor.spec.tuning is not None
    groups = describe_groups(per_patient, SCORES, tuned=tuned)
    per_patient, per_slice = (table[table.role.isin(headline)] for table in (per_patient, per_slice))
    pooled = Counts(*(int(per_patient[name].sum()) for name in ("tp", "fp", "fn", "tn")))
    has_tumour = (per_slice.tp + per_slice.fn > 0).to_numpy()
    marked = (per_slice.tp + per_slice.fp > 0).to_numpy()
    chosen = predictor.spec.postprocessing
    given = "default, not tuned" if chosen == Postprocessing() else "given, not tuned"
    return {
        "model": predictor.name,
        "split": split,
        "role": words_for(headline, tuned=tuned),
        "headline": list(headline),
        "groups": groups,
        "postprocessing": dataclasses.asdict(chosen) | {"chosen_on": str(predictor.spec.tuning or given)},
        "surface_dice_tolerance": tolerance,
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
        "average_precision": histogram.average_precision(),
        "expected_calibration_error": histogram.calibration_error(),
    }


def _all_background(per_patient: pd.DataFrame, per_slice: pd.DataFrame) -> dict[str, Any]:
    """Score the answer that marks nothing: what any figure has to be read against."""
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


def _write(evaluation: Evaluation, folder: Path) -> None:
    write_json(folder / "report.json", evaluation.report)
    for name in ("per_patient", "per_slice", "per_region"):
        table = getattr(evaluation, name)
        if not table.empty:
            write_whole(folder / f"{name}.csv", lambda path, table=table: table.to_csv(path, index=False))
    write_whole(folder / "report.html", lambda path: write_page(evaluation, path))
