"""evaluate(): a trained network against the truth, whole patients, one at a time."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from brainseg_keras.data.labels import CLASSES
from brainseg_keras.data.volumes import VolumeSource
from brainseg_keras.errors import InputError
from brainseg_keras.inference.job import settings_digest
from brainseg_keras.inference.outlook import predict_with_outlook
from brainseg_keras.inference.predictor import ArrangedVolumes, Predictor
from brainseg_keras.parts import Part
from brainseg_keras.postprocessing import Postprocessing
from brainseg_keras.reports.evaluation import Evaluation
from brainseg_keras.reports.patients import ScoredPatient, choose_scored, chosen_for, headline_roles, words_for
from brainseg_keras.reports.score_parts import ScoreParts
from brainseg_keras.reports.scoring import PatientScores, Rules, ScoreTables, check_report_folder, write_report
from brainseg_keras.spec import NetworkSpec


def evaluate(
    predictor: Predictor,
    source: VolumeSource,
    *,
    split: str = "test",
    output: str | Path | None = None,
    spacing: Sequence[float] | None = None,
    tolerance: float = 2.0,
    include_seen: bool = False,
    part: Part | None = None,
    progress: Callable[[list[str]], Iterable[str]] = iter,
) -> Evaluation | None:
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
        part: Score only the patients of one part, and keep their scores below `output`; the part that ends last joins
            them all, and the report is that of an undivided call.
        progress: Wraps the list of patients, to show how far it is.

    Returns:
        The evaluation; None of a part, while others are to be done.

    Raises:
        InputError: No patient in the split, or one that trained or chose the network; channels that the network does
            not take, or spacing that some patients have and others lack; a part without an output folder, or one that
            another process works on.

    Example:
        >>> from brainseg_keras import res_unet
        >>> from brainseg_keras.data import open_source
        >>> found = evaluate(Predictor(res_unet((32, 32, 3), filters=4, depth=2)), open_source("phantom"))
        >>> found.report["patients"]["dice"]["n"]
        3
    """
    rules = Rules(spacing, tolerance)
    if part is not None and output is None:
        raise InputError("A part needs an output folder, in which its scores wait for those of the others.")
    folder = None if output is None else check_report_folder(output)
    chosen = choose_scored(source, split, predictor, include_seen=include_seen, progress=progress)
    headline, spec = headline_roles(chosen, split), predictor.spec
    empty = partial(ScoreTables, rules, headline, regions=scores_regions(spec, source))
    if part is None:
        tables = empty()
        for _ in _scored(predictor, source, chosen, rules, tables, progress):
            pass
    else:
        others = (split, include_seen, rules.spacing, rules.tolerance, [(name, chosen[name].role) for name in chosen])
        parts = ScoreParts(folder, part, f"{predictor.digest}-{settings_digest(spec, others)}")
        mine = {name: patient for name, patient in chosen.items() if part.holds(name)}
        with parts.hold():
            own = empty()
            parts.write(_scored(predictor, source, mine, rules, own, progress), own)
        tables = parts.join(empty())
        if tables is None:
            return None
    chose = chosen_for(spec)
    heading = {
        "model": predictor.name,
        "split": split,
        "role": words_for(headline, chose=chose),
        "postprocessing": describe_choice(spec),
    } | ({"members": list(predictor.members)} if predictor.members else {})
    evaluation = tables.finish(heading, chose=chose)
    if folder is not None:
        write_report(evaluation, folder)
    return evaluation


def _scored(
    predictor: Predictor,
    source: VolumeSource,
    chosen: Mapping[str, ScoredPatient],
    rules: Rules,
    tables: ScoreTables,
    progress: Callable[[list[str]], Iterable[str]],
) -> Iterator[PatientScores]:
    """Score one patient after the other into the tables."""
    arranged = ArrangedVolumes(source, predictor.spec.channels)
    for patient in progress(list(chosen)):
        volume = arranged.volume(patient)
        steps = rules.spacing_of(volume)
        probabilities, expected = predict_with_outlook(predictor, volume.images, volume.intensity, steps)
        whose = {"patient": patient, "role": chosen[patient].role}
        scores = tables.add(whose, volume, predictor.masks(probabilities), predictor.tumour(probabilities))
        scores.patient.update(expected.scores(scores.patient["volume_pred"]) if expected else {})
        yield scores


def scores_regions(spec: NetworkSpec, source: VolumeSource) -> bool:
    """Say whether a network tells apart the classes that the data have, so that regions are scored."""
    return spec.target.classes == source.classes == CLASSES


def describe_choice(spec: NetworkSpec) -> dict[str, Any]:
    """Say how a network's probabilities become masks, and on whom that was chosen.

    Args:
        spec: Of the network.

    Returns:
        An entry of report.json.

    Example:
        >>> describe_choice(NetworkSpec(("FLAIR",)))["chosen_on"]
        'default, not tuned'
    """
    given = "default, not tuned" if spec.postprocessing == Postprocessing() else "given, not tuned"
    told = {"chosen_on": str(spec.tuning or given), "calibration": str(spec.calibration)}
    return dataclasses.asdict(spec.postprocessing) | told
