"""tune(): threshold, components and flip averaging, chosen on the validation patients and on no others."""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainseg_keras.data.labels import BINARY
from brainseg_keras.data.volumes import VolumeSource
from brainseg_keras.files import check_output, check_replaceable, write_json
from brainseg_keras.inference.predictor import ArrangedVolumes, Predictor
from brainseg_keras.postprocessing import FILE, MARK, Postprocessing, Tuning
from brainseg_keras.reports.grid import CHOICES, choose, describe_tuning, score_choices, warn_of_few
from brainseg_keras.reports.patients import choose_tuning
from brainseg_keras.spec import NetworkSpec


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
        check_replaceable(file, MARK)
    chosen = choose_tuning(source, predictor, progress=progress)
    patients = list(chosen)
    arranged, spec = ArrangedVolumes(source, predictor.spec.channels), predictor.spec
    scores = np.zeros((len(patients), len(CHOICES)))
    for row, patient in enumerate(progress(patients)):
        volume = arranged.volume(patient)
        answers = predictor.both_ways(volume.images, volume.intensity)
        scores[row] = score_choices(*answers, volume.masks, spec.target, scored_classes(spec, source))
    best = choose(scores)
    table = pd.DataFrame([dataclasses.asdict(choice) for choice in CHOICES]).assign(mean_dice=scores.mean(axis=0))
    met = {patient: tuple(chosen[patient].slices) for patient in patients}
    tuning = Tuning(
        met,
        len(CHOICES),
        warn_of_few(len(patients), "validation patient"),
        spec.calibration.temperature,
        spec.calibration.bias,
    )
    record = describe_tuning(best, scores, tuning)
    if file is not None:
        write_json(file, record)
    # Stable: of equals the simpler one stands first, and not whichever the processor's sort leaves there.
    table = table.sort_values("mean_dice", ascending=False, kind="stable", ignore_index=True)
    return Tuned(CHOICES[best], table, record)


def scored_classes(spec: NetworkSpec, source: VolumeSource) -> tuple[str, ...]:
    """Say of which labels the regions are scored: those of network and data, or the whole tumour where they differ."""
    return spec.target.classes if spec.target.classes == source.classes else BINARY
