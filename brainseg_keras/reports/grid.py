"""What tuning tries: every threshold, rule for components and flip averaging, each scored as it would be used."""

import dataclasses
import itertools
import time
from typing import Any

import numpy as np

from brainseg_keras.data.inputs.targets import Target
from brainseg_keras.data.labels import region_masks
from brainseg_keras.evaluation import Counts, dice
from brainseg_keras.evaluation.lesions import label_lesions
from brainseg_keras.postprocessing import Postprocessing, Tuning

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(2, 19))
SMALLEST = (0, 30, 100, 300, 1000)
#: All that is tried.
CHOICES = tuple(
    Postprocessing(threshold, smallest, largest, flip)
    for flip, largest, smallest, threshold in itertools.product((False, True), (False, True), SMALLEST, THRESHOLDS)
)
#: Where nothing is tuned, among them.
DEFAULT = CHOICES.index(Postprocessing())
#: Patients below which a choice is called a choice on few.
_FEW = 6


def score_choices(
    plain: np.ndarray, turned: np.ndarray, truth: np.ndarray, target: Target, classes: tuple[str, ...]
) -> np.ndarray:
    """Score every choice on one patient: connected parts are found once a threshold, then kept or dropped.

    Args:
        plain: Probabilities `(slices, height, width, channels)`, as `Predictor.both_ways` gives them first.
        turned: Those of the mirror images.
        truth: Labels `(slices, height, width)`.
        target: What the channels are.
        classes: Names of the labels whose regions are scored.

    Returns:
        For each of `CHOICES` the Dice, or its mean over regions.

    Example:
        >>> truth = np.zeros((1, 4, 4), "uint8")
        >>> truth[0, 0, 0] = 1
        >>> certain = truth[..., np.newaxis].astype(float)
        >>> score_choices(certain, certain, truth, Target("tumour"), ("tumour",))[DEFAULT].item()
        1.0
    """
    maps = {False: plain, True: (plain + turned) / 2}
    known: dict[tuple[bool, float], tuple[np.ndarray, list[np.ndarray], list[int]]] = {}
    scores = np.zeros(len(CHOICES))
    for index, choice in enumerate(CHOICES):
        key = (choice.flip, choice.threshold)
        if key not in known:
            known[key] = _count_parts(target.decode(maps[choice.flip], choice.threshold), truth, classes)
        sizes, overlaps, totals = known[key]
        kept = choice.keeps(sizes)
        found = [own[kept].sum(axis=0) for own in overlaps]
        counts = [Counts(tp, fp, total - tp, 0) for (tp, fp), total in zip(found, totals, strict=True)]
        scores[index] = np.mean([dice(own) for own in counts])
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


def choose(scores: np.ndarray) -> int:
    """Choose the best mean over patients; of two that differ by less than 0.001 the simpler one.

    Args:
        scores: Array of shape `(patients, choices)`, rows as `score_choices` gives them.

    Returns:
        Index into `CHOICES`.

    Example:
        >>> choose(np.ones((2, len(CHOICES)))) == DEFAULT
        True
    """
    means = scores.mean(axis=0)
    return min(np.flatnonzero(means >= means.max() - 1e-3).tolist(), key=lambda index: _effort(CHOICES[index]))


def _effort(choice: Postprocessing) -> tuple:
    return (choice.flip, choice.largest_component, choice.smallest_component, abs(choice.threshold - 0.5))


def describe_tuning(index: int, scores: np.ndarray, tuning: Tuning) -> dict[str, Any]:
    """Give the content of postprocess.json.

    Args:
        index: Which of `CHOICES` was chosen.
        scores: On which scores, as for `choose`.
        tuning: On whom.

    Returns:
        What `choice_from_info` reads, with the scores of what was chosen and of the default.
    """
    means = scores.mean(axis=0)
    return (
        dataclasses.asdict(CHOICES[index])
        | tuning.to_info()
        | {
            "mean_dice": float(means[index]),
            "mean_dice_default": float(means[DEFAULT]),
            "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
    )


def warn_of_few(patients: int, what: str) -> str | None:
    """Warn of a choice on few patients.

    Args:
        patients: How many.
        what: What kind of patients.

    Returns:
        A sentence, or None where there are enough.

    Example:
        >>> warn_of_few(1, "validation patient")[:48]
        'Chosen among 340 settings on 1 validation patien'
    """
    if patients >= _FEW:
        return None
    return (
        f"Chosen among {len(CHOICES)} settings on {patients} {what}{'s' * (patients > 1)}: what fits so few best need "
        "not fit others. Tune on more patients, or remove postprocess.json."
    )
