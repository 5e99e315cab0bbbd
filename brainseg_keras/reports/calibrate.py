"""calibrate(): temperature and bias of a network, fitted on patients that did not train it."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainseg_keras.calibration import FILE, Calibration
from brainseg_keras.data.volumes import VolumeSource
from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import LogitHistogram
from brainseg_keras.files import check_output, check_replaceable, write_json
from brainseg_keras.inference.predictor import ArrangedVolumes, Predictor
from brainseg_keras.reports.patients import choose_tuning, patients_of

#: Patients below which the fit is called a fit on few.
_FEW = 6


@dataclass(frozen=True)
class Calibrated:
    """What was fitted.

    Args:
        calibration: Temperature and bias.
        record: Content of calibration.json.
    """

    calibration: Calibration
    record: dict[str, Any]


def calibrate(
    predictor: Predictor,
    source: VolumeSource,
    *,
    split: str = "val",
    output: str | Path | None = None,
    progress: Callable[[list[str]], Iterable[str]] = iter,
) -> Calibrated:
    """Fit the temperature and the bias with the least log loss over all voxels, at the files' own resolution.

    What is calibrated is the probability of tumour that the network gives by itself, whatever calibration it had, with
    flip averaging where its postprocessing has it. Memory holds one patient at a time.

    Args:
        predictor: The network.
        source: Patients with their masks. Where the data were split by a seed, a run's own split comes first.
        split: Which patients: `val`, or `all` of data that the network has never met.
        output: Folder to write calibration.json to; default the model's run folder; nothing for a lone model.
        progress: Wraps the list of patients, to show how far it is.

    Returns:
        The fit.

    Raises:
        InputError: No patient, or one that trained the network or was kept apart to test it; no tumour or nothing else
            in them; an export that holds its calibration in its weights.

    Example:
        >>> from brainseg_keras.data import open_source
        >>> fitted = calibrate(Predictor("lgg"), open_source("phantom"))
        >>> fitted.calibration.after < fitted.calibration.before
        True

    Reference:
        Guo, Pleiss, Sun, Weinberger 2017, arXiv 1706.04599.
    """
    folder = predictor.folder if output is None else output
    file = None if folder is None else check_output(folder, "folder") / FILE
    if file is not None:
        check_replaceable(file, '"fitted_on"')
    if predictor.spec.calibration.in_network:
        raise InputError(f"{predictor.name} has its calibration in its weights. Calibrate the run that it came from.")
    chosen = choose_tuning(source, predictor, split=split, what="calibration", progress=progress)
    plain, arranged = predictor.adapted(calibration=Calibration()), ArrangedVolumes(source, predictor.spec.channels)
    histogram = LogitHistogram()
    for patient in progress(list(chosen)):
        volume = arranged.volume(patient)
        histogram.add(volume.masks > 0, plain.tumour(plain.probabilities(volume.images, volume.intensity)))
    temperature, bias = histogram.fit()
    calibration = Calibration(
        temperature,
        bias,
        {patient: tuple(scored.slices) for patient, scored in chosen.items()},
        patients_of(split),
        before=histogram.error(),
        after=histogram.error(temperature, bias),
    )
    record = calibration.to_info() | {
        "log_loss_before": histogram.log_loss(),
        "log_loss_after": histogram.log_loss(temperature, bias),
        "warning": _warning(len(chosen)),
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    if file is not None:
        write_json(file, record)
    return Calibrated(calibration, record)


def _warning(patients: int) -> str | None:
    if patients >= _FEW:
        return None
    return (
        f"Fitted on {patients} patient{'s' * (patients > 1)}: what fits so few need not fit others. Calibrate on more, "
        "or remove calibration.json."
    )
