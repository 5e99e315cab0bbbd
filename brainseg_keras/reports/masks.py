"""score_masks(): masks that another program wrote against the truth, by the rules of evaluate."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from brainseg_keras.data.decode.images import read_mask
from brainseg_keras.data.roles import Roles
from brainseg_keras.data.volumes import VolumeSource
from brainseg_keras.errors import InputError, first_line
from brainseg_keras.files import expand
from brainseg_keras.postprocessing import Postprocessing
from brainseg_keras.reports.evaluation import Evaluation
from brainseg_keras.reports.patients import choose_patients, headline_roles, words_for
from brainseg_keras.reports.scoring import Rules, ScoreTables, check_report_folder, write_report

_UNKNOWN = Roles(complete=False)


def score_masks(
    masks: str | Path,
    source: VolumeSource,
    *,
    split: str = "test",
    roles: Roles = _UNKNOWN,
    output: str | Path | None = None,
    spacing: Sequence[float] | None = None,
    tolerance: float = 2.0,
    progress: Callable[[list[str]], Iterable[str]] = iter,
) -> Evaluation:
    """Score masks of whole patients that another program wrote, as `evaluate` scores those of a network.

    So that programs compare: the same patients at the files' own resolution, the same rules, the same report. What is
    scored is the whole tumour.

    Args:
        masks: Folder with an array `<patient>.npy` for each patient, `(slices, height, width)`, False and True or 0 and
            1; or with a picture of 0 and 255 for each slice, which is called like the slice's own file below its data
            folder with `_mask.png` in place of the ending, as `brainseg predict DATA -o masks` writes them.
        source: Patients with their true masks, as `open_source` gives them.
        split: `train`, `val`, `test` or `all`.
        roles: What the patients had to do with the program; unknown unless told.
        output: Folder for report.json, per_patient.csv, per_slice.csv, report.html; None writes nothing.
        spacing: As for `evaluate`.
        tolerance: As for `evaluate`.
        progress: Wraps the list of patients, to show how far it is.

    Returns:
        What `evaluate` gives; `average_precision` and `expected_calibration_error` are None, since masks have no
        probabilities.

    Raises:
        InputError: No patient in the split, or one whose mask is missing, of another shape, or holds other values.

    Example:
        >>> import tempfile
        >>> from brainseg_keras.data import open_source
        >>> source, folder = open_source("phantom"), Path(tempfile.mkdtemp())
        >>> for patient in source.table.patient[source.table.split == "test"].unique():
        ...     np.save(folder / f"{patient}.npy", source.volume(patient).masks > 0)
        >>> score_masks(folder, source).report["patients"]["dice"]["mean"]
        1.0
    """
    rules, folder = Rules(spacing, tolerance), Path(expand(masks, "masks"))
    place = None if output is None else check_report_folder(output)
    if not folder.is_dir():
        raise InputError(f"No such folder of masks: {folder}. Give the folder that holds <patient>.npy.")
    chosen = choose_patients(source, split, roles, progress=progress)
    headline = headline_roles(chosen, split)
    tables = ScoreTables(rules, headline, regions=False)
    for patient in progress(list(chosen)):
        volume = source.volume(patient)
        answer = _read_answer(folder, source, patient)
        if answer.shape != volume.masks.shape:
            raise InputError(
                f"The mask of {patient} in {folder} has the shape {answer.shape}. Expected that of its slices, "
                f"{volume.masks.shape}: bring it to the resolution of the files."
            )
        tables.add({"patient": patient, "role": chosen[patient].role}, volume, answer, None)
    heading = {
        "model": str(folder),
        "split": split,
        "role": words_for(headline, chose=()),
        "postprocessing": dataclasses.asdict(Postprocessing()) | {"chosen_on": "nothing, masks as they were given"},
    }
    evaluation = tables.finish(heading, chose=())
    if place is not None:
        write_report(evaluation, place)
    return evaluation


def _read_answer(folder: Path, source: VolumeSource, patient: str) -> np.ndarray:
    file = folder / f"{patient}.npy"
    if file.is_file():
        return _read_array(file)
    rows = source.table[source.table.patient == patient].sort_values("slice")
    pictures = [(folder / image).with_name(f"{Path(image).stem}_mask.png") for image in rows.image]
    missing = next((picture for picture in pictures if not picture.is_file()), None)
    if missing is not None:
        raise InputError(f"{folder} has no mask of {patient}. Expected {file.name}, or {missing} and so on.")
    slices = [read_mask(picture) for picture in pictures]
    if len({mask.shape for mask in slices}) > 1:
        raise InputError(f"The masks of {patient} in {pictures[0].parent} differ in size. Expected that of its slices.")
    return np.stack(slices)


def _read_array(file: Path) -> np.ndarray:
    try:
        mask = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{file} cannot be read ({first_line(error)}). Expected an array that np.save wrote."
        ) from error
    if not isinstance(mask, np.ndarray) or mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
        raise InputError(f"{file} holds other values than 0 and 1. Threshold probabilities (> 0.5) first.")
    return mask > 0
