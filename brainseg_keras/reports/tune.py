"""tune(): threshold, components and flip averaging, chosen on the validation patients and on no others."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainseg_keras.data.inputs.targets import Target
from brainseg_keras.data.labels import BINARY, region_masks
from brainseg_keras.data.volumes import VolumeSource
from brainseg_keras.evaluation import Counts, dice
from brainseg_keras.evaluation.lesions import label_lesions
from brainseg_keras.files import check_output, check_replaceable, write_json
from brainseg_keras.inference.predictor import ArrangedVolumes, Predictor
from brainseg_keras.postprocessing import FILE, Postprocessing, Tuning
from brainseg_keras.reports.patients import choose_tuning

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(2, 19))
SMALLEST = (0, 30, 100, 300, 1000)
#: Patients below which the choice is called a choice on few.
_FEW = 6


@dataclass(frozen=True)
class Tuned:
    """What was chosen.

    Args:
        postprocessing: The best of all.
        table: Mean Dice per validation patient of everything tried, best first.
        record: Content of postprocess.json.
    """

    postprocessing: Postprocessing
    table: pd.DataFrame
    record: dict[str, Any]


def tune(
    predictor: Predictor,
    source: VolumeSource,
    *,
    output: str | Path | None = None,
    progress: Callable[[list[str]], Iterable[str]] = iter,
) -> Tuned:
    """Choose the postprocessing with the best mean Dice per validation patient, over regions where there are several.

    Every combination is tried; of two that differ by less than 0.001 the simpler one wins: a threshold nearer 0.5,
    no removal of components, no flip averaging, which takes twice the time.

    Args:
        predictor: The network.
        source: Patients with their masks; only those of the split `val` are read. Where the data were split by a seed,
            a run's own split comes first.
        output: Folder to write postprocess.json to; default the model's run folder; nothing for a lone model.
        progress: Wraps the list of patients, to show how far it is.

    Returns:
        The choice and everything tried.

    Raises:
        InputError: No validation patient, or one that trained the network or was kept apart to test it.

    Example:
        >>> from brainseg_keras import res_unet
        >>> from brainseg_keras.data import open_source
        >>> tuned = tune(Predictor(res_unet((32, 32, 3), filters=4, depth=2)), open_source("phantom"))
        >>> 0 < tuned.postprocessing.threshold < 1
        True
    """
    folder = predictor.folder if output is None else output
    file = None if folder is None else check_output(folder, "folder") / FILE
    if file is not None:
        check_replaceable(file, '"chosen_on"')
    chosen = choose_tuning(source, predictor, progress=progress)
    patients = list(chosen)
    choices = [
        Postprocessing(threshold, smallest, largest, flip)
        for flip, largest, smallest, threshold in itertools.product((False, True), (False, True), SMALLEST, THRESHOLDS)
    ]
    arranged, target = ArrangedVolumes(source, predictor.spec.channels), predictor.spec.target
    classes = target.classes if target.classes == source.classes else BINARY
    scores = np.zeros((len(choices), len(patients)))
    for column, patient in enumerate(progress(patients)):
        volume = arranged.volume(patient)
        plain, turned = predictor.both_ways(volume.images, volume.intensity)
        maps = {False: plain, True: (plain + turned) / 2}
        scores[:, column] = _scores(choices, maps, volume.masks, target, classes)
    means = scores.mean(axis=1)
    best = min(np.flatnonzero(means >= means.max() - 1e-3), key=lambda index: _effort(choices[index]))
    table = pd.DataFrame([dataclasses.asdict(choice) for choice in choices]).assign(mean_dice=means)
    met = {patient: tuple(chosen[patient].slices) for patient in patients}
    tuning = Tuning(met, len(choices), _warning(len(patients), len(choices)))
    record = (
        dataclasses.asdict(choices[best])
        | tuning.to_info()
        | {
            "mean_dice": float(means[best]),
            "mean_dice_default": float(means[choices.index(Postprocessing())]),
            "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
    )
    if file is not None:
        write_json(file, record)
    # Equals stay in the order in which they were tried; else their order would depend on the processor.
    table = table.sort_values("mean_dice", ascending=False, ignore_index=True, kind="stable")
    return Tuned(choices[best], table, record)


def _warning(patients: int, settings: int) -> str | None:
    if patients >= _FEW:
        return None
    return (
        f"Chosen among {settings} settings on {patients} validation patient{'s' * (patients > 1)}: what fits so few "
        "best need not fit others. Tune on more patients, or remove postprocess.json."
    )


def _scores(
    choices: list[Postprocessing],
    maps: dict[bool, np.ndarray],
    truth: np.ndarray,
    target: Target,
    classes: tuple[str, ...],
) -> list[float]:
    """Score every choice on one patient: its connected parts are found once a threshold, then kept or dropped."""
    known: dict[tuple[bool, float], tuple[np.ndarray, list[np.ndarray], list[int]]] = {}
    scores = []
    for choice in choices:
        key = (choice.flip, choice.threshold)
        if key not in known:
            known[key] = _count_parts(target.decode(maps[choice.flip], choice.threshold), truth, classes)
        sizes, overlaps, totals = known[key]
        kept = choice.keeps(sizes)
        found = [own[kept].sum(axis=0) for own in overlaps]
        counts = [Counts(tp, fp, total - tp, 0) for (tp, fp), total in zip(found, totals, strict=True)]
        scores.append(float(np.mean([dice(own) for own in counts])))
    return scores


def _count_parts(
    answer: np.ndarray, truth: np.ndarray, classes: tuple[str, ...]
) -> tuple[np.ndarray, list[np.ndarray], list[int]]:
    """Count each connected part of an answer: its pixels, and of each region the right and the wrong ones."""
    parts, count = label_lesions(answer > 0)
    answers, truths = region_masks(answer, classes), region_masks(truth, classes)
    overlaps = [
        np.stack(
            [np.bincount(parts[mask & right], minlength=count + 1)[1:] for right in (truths[name], ~truths[name])],
            axis=-1,
        )
        for name, mask in answers.items()
    ]
    return np.bincount(parts.ravel(), minlength=count + 1)[1:], overlaps, [int(t.sum()) for t in truths.values()]


def _effort(choice: Postprocessing) -> tuple:
    return (choice.flip, choice.largest_component, choice.smallest_component, abs(choice.threshold - 0.5))
