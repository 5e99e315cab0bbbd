"""out_of_fold(): each patient scored by the one network of a cross-validation that kept it apart."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from brainseg_keras.calibration import Calibration
from brainseg_keras.data.volumes import Volume, VolumeSource
from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import LogitHistogram, compare_paired, cross_fit, summarize, worst_tenth
from brainseg_keras.expectation import scan_features
from brainseg_keras.files import check_output, check_replaceable, write_json
from brainseg_keras.inference.measures import mean_confidence
from brainseg_keras.inference.outlook import disagreement
from brainseg_keras.inference.predictor import ArrangedVolumes, Predictor
from brainseg_keras.postprocessing import FILE, MARK, OUT_OF_FOLD, Tuning
from brainseg_keras.reports.evaluate import describe_choice, scores_regions
from brainseg_keras.reports.evaluation import Evaluation
from brainseg_keras.reports.expect import check_expectable, expect_across, expectation_files, keep_expected
from brainseg_keras.reports.folds import CrossValidation, FoldRun, TestedPatient, assign_patients, open_folds
from brainseg_keras.reports.grid import CHOICES, DEFAULT, choose, describe_tuning, score_choices, warn_of_few
from brainseg_keras.reports.outlook import describe_outlook
from brainseg_keras.reports.patients import chosen_for
from brainseg_keras.reports.scoring import Rules, ScoreTables, check_report_folder, write_report
from brainseg_keras.reports.tune import scored_classes

#: Name of the report's folder, and of its split.
SPLIT = "out_of_fold"
_ROLE = "out of fold, each patient by the one run that kept it apart"


def out_of_fold(
    runs: str | Path | Sequence[str | Path],
    source: VolumeSource | None = None,
    *,
    output: str | Path | None = None,
    spacing: Sequence[float] | None = None,
    tolerance: float = 2.0,
    tune: bool = False,
    expect: bool = False,
    batch_size: int = 16,
    engine: str | None = None,
    progress: Callable[[list[str]], Iterable[str]] = iter,
) -> Evaluation:
    """Score every patient by the network that never met it, with the postprocessing of that network's own run.

    Choices are made out of fold, too: what is fitted on all other folds is scored on each. So is the calibration of the
    probabilities, so is what may be expected of a mask, and with `tune` threshold, components and flip averaging.

    Args:
        runs: The folder of `train_folds`, or the run folders of each fold, such as those that were trained on the
            manifests of `brainseg data split`.
        source: Patients with their masks; default the data that the folds were trained on. Its splits do not matter.
        output: Folder for report.json, per_patient.csv, per_slice.csv, report.html, and postprocess.json of `tune`;
            default `evaluation/out_of_fold` in the folder of the folds, postprocess.json in that folder itself; of runs
            that were given one by one nothing is written.
        spacing: As for `evaluate`.
        tolerance: As for `evaluate`.
        tune: Choose the postprocessing on all patients, which is what ships, and score how such a choice does on
            patients that had no part in it.
        expect: Keep what may be expected of masks: expectation.json in each run, which then says it wherever it is
            used, and, of a network that is trained on all, in the folder of the folds or `output`. It is of masks as
            the runs make them, and not of the choice of `tune`.
        batch_size: Slices in one step of a network.
        engine: See `Predictor`.
        progress: Wraps the list of patients, to show how far it is.

    Returns:
        What `evaluate` gives. Each patient's row says also its `fold`; the `disagreement` of the answers to slices and
        to their mirror images, 1 - Dice of the two masks; the `confidence`, mean probability of what was marked; what
        the other folds let expect (`expected_dice`, `volume_low`, `volume_high`, `remarks`), where they have patients
        enough; and with `tune` its `dice_tuned`. The report has `folds`, `worst_tenth`, `calibration`, `expectation`
        and `tuned`.

    Raises:
        InputError: A fold is missing, unfinished or of another recipe, a patient that not just one run kept apart, too
            few patients for `expect`, or as for `evaluate`.

    Example:
        >>> out_of_fold("no/such/folds")
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: no/such/folds holds no folds (no folds.json in it). ...
    """
    rules, found = Rules(spacing, tolerance), open_folds(runs)
    places = _Places.of(found, output, tune=tune, expect=expect)
    source = _open(found) if source is None else source
    tested = assign_patients(source, found.runs, progress=progress)
    if expect:
        counts = Counter(patient.run for patient in tested.values())
        check_expectable([run.path for run in found.runs], [counts[index] for index in range(len(found.runs))])
    spec = found.runs[0].spec
    tables = ScoreTables(rules, ("test",), regions=scores_regions(spec, source))
    seen = _Seen([LogitHistogram() for _ in found.runs], {}, {})
    arranged = ArrangedVolumes(source, spec.channels)
    for patient, predictor in _by_fold(tested, found.runs, progress, batch_size=batch_size, engine=engine):
        volume, index = arranged.volume(patient), tested[patient].run
        answer = _Answer.of(predictor, volume)
        row = tables.add({"patient": patient, "role": "test"}, volume, answer.labels, answer.tumour).patient
        row |= {"fold": index + 1, "disagreement": answer.disagreement, "confidence": answer.confidence}
        seen.logits[index].add(volume.masks > 0, answer.tumour)
        seen.features[patient] = scan_features(volume.images, spec.channels, rules.spacing_of(volume))
        if tune:
            both = (answer.plain, answer.turned)
            seen.tried[patient] = score_choices(*both, volume.masks, spec.target, scored_classes(spec, source))
    evaluation = tables.finish(
        _heading(found), chose=sorted({one for run in found.runs for one in chosen_for(run.spec)})
    )
    _conclude(evaluation, found.runs, seen, places, {name: patient.slices for name, patient in tested.items()})
    return evaluation


class _Places(NamedTuple):
    """Where what is found goes."""

    report: Path | None  # a folder
    choice: Path | None
    expectations: list[Path]

    @classmethod
    def of(cls, found: CrossValidation, output: str | Path | None, *, tune: bool, expect: bool) -> "_Places":
        """Find out whether all of it can be written, before any work is done for it."""
        place = found.folder if output is None else output
        report = place if output is not None or place is None else place / "evaluation" / SPLIT
        choice = check_output(place, "folder") / FILE if tune and place is not None else None
        if choice is not None:
            check_replaceable(choice, MARK)
        kept = expectation_files(place, [run.path for run in found.runs]) if expect else []
        return cls(None if report is None else check_report_folder(report), choice, kept)


class _Seen(NamedTuple):
    """What was seen of the patients beside their scores."""

    logits: list[LogitHistogram]  # of each fold
    features: dict[str, dict[str, float]]  # of each patient
    tried: dict[str, np.ndarray]  # Dice of each patient with all choices


def _conclude(
    evaluation: Evaluation,
    runs: Sequence[FoldRun],
    seen: _Seen,
    places: _Places,
    checksums: Mapping[str, tuple[str, ...]],
) -> None:
    """Add to the report what is fitted across folds, and write all of it."""
    table, report = evaluation.per_patient, evaluation.report
    report |= {"worst_tenth": dataclasses.asdict(worst_tenth(table.dice.tolist()))}
    report |= {"folds": _describe_folds(table, runs), "calibration": _calibrate(seen.logits, len(table))}
    try:
        expected = expect_across(table, seen.features, [run.roles for run in runs])
    except InputError as error:
        # As with the calibration: nothing to fit is no reason to score nothing, unless it is to be kept.
        if places.expectations:
            raise
        report["expectation"] = {"n": 0, "why_not": str(error)}
    else:
        report |= describe_outlook(table)
        keep_expected(expected, places.expectations)
    if seen.tried:
        scores = np.stack([seen.tried[patient] for patient in table.patient])
        report["tuned"] = _choose_across(table, scores)
        if places.choice is not None:
            write_json(places.choice, _final_choice(scores, checksums, report["tuned"]))
    if places.report is not None:
        write_report(evaluation, places.report)


def _open(found: CrossValidation) -> VolumeSource:
    # Loads Keras, which the networks need in any case.
    from brainseg_keras.training.setup import open_configured

    return open_configured(found.runs[0].config)


def _by_fold(
    tested: Mapping[str, TestedPatient],
    runs: Sequence[FoldRun],
    progress: Callable[[list[str]], Iterable[str]],
    **options: Any,
) -> Iterator[tuple[str, Predictor]]:
    """Go through the patients, one network after the other, so that memory holds one."""
    loaded, predictor = None, None
    for patient in progress(sorted(tested, key=lambda name: (tested[name].run, name))):
        if tested[patient].run != loaded:
            loaded = tested[patient].run
            predictor = Predictor(runs[loaded].path, **options)
            # What is fitted across folds is for the networks' own probabilities.
            own = predictor.spec.with_calibration(Calibration())
            predictor = predictor.adapted(
                postprocessing=own.postprocessing, tuning=own.tuning, calibration=own.calibration
            )
        yield patient, predictor


class _Answer(NamedTuple):
    """What a network says of a patient."""

    plain: np.ndarray
    turned: np.ndarray  # of the mirror images
    labels: np.ndarray
    tumour: np.ndarray
    disagreement: float
    confidence: float

    @classmethod
    def of(cls, predictor: Predictor, volume: Volume) -> "_Answer":
        plain, turned = predictor.both_ways(volume.images, volume.intensity)
        probabilities = predictor.combined(plain, turned)
        labels, tumour = predictor.masks(probabilities), predictor.tumour(probabilities)
        apart = disagreement(predictor, plain, turned)
        return cls(plain, turned, labels, tumour, apart, mean_confidence(labels > 0, tumour))


def _heading(found: CrossValidation) -> dict[str, Any]:
    choices = [describe_choice(run.spec) for run in found.runs]
    same = all(choice == choices[0] for choice in choices)
    own = {"by_fold": choices, "chosen_on": "each fold's own"}
    return {"model": found.name, "split": SPLIT, "role": _ROLE, "postprocessing": choices[0] if same else own}


def _describe_folds(table: pd.DataFrame, runs: Sequence[FoldRun]) -> list[dict[str, Any]]:
    rows = []
    for number, run in enumerate(runs, 1):
        own = summarize(table.dice[table.fold == number].tolist(), bounds=(0, 1))
        rows.append({"fold": number, "run": str(run.path)} | dataclasses.asdict(own))
    return rows


def _calibrate(logits: Sequence[LogitHistogram], patients: int) -> dict[str, Any]:
    """Give the expected calibration error before and after a temperature and a bias that the other folds fitted."""
    told: dict[str, Any] = {"n": patients, "before": sum(logits, LogitHistogram()).error(), "after": None}
    try:
        return told | dataclasses.asdict(cross_fit(logits))
    except InputError as error:
        # Nothing to fit is no reason to score nothing.
        return told | {"why_not": str(error)}


def _choose_across(table: pd.DataFrame, scores: np.ndarray) -> dict[str, Any]:
    """Choose for each fold on all others, note what that scores on it, and what is chosen on all."""
    folds, honest = table.fold.to_numpy(), np.zeros(len(table))
    by_fold = {}
    for fold in sorted(set(folds.tolist())):
        index = choose(scores[folds != fold])
        honest[folds == fold] = scores[folds == fold, index]
        by_fold[str(fold)] = dataclasses.asdict(CHOICES[index])
    table["dice_tuned"] = honest
    against = compare_paired(honest.tolist(), scores[:, DEFAULT].tolist(), bounds=(0, 1))
    return {
        "dice": dataclasses.asdict(summarize(honest.tolist(), bounds=(0, 1))),
        "against_default": dataclasses.asdict(against),
        "worst_tenth": dataclasses.asdict(worst_tenth(honest.tolist())),
        "chosen_on": "for each fold all others",
        "by_fold": by_fold,
        "ships": dataclasses.asdict(CHOICES[choose(scores)]),
    }


def _final_choice(
    scores: np.ndarray, checksums: Mapping[str, tuple[str, ...]], tuned: Mapping[str, Any]
) -> dict[str, Any]:
    warning = warn_of_few(len(scores), "out-of-fold patient")
    record = describe_tuning(choose(scores), scores, Tuning(checksums, len(CHOICES), warning, chosen_on=OUT_OF_FOLD))
    return record | {"mean_dice_out_of_fold": tuned["dice"]["mean"]}
