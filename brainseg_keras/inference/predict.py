"""predict(): files and folders in, masks, overlays, a summary and a ledger out."""

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from brainseg_keras.data.scan_lists import Listed, Wanted, gather
from brainseg_keras.data.scans import Scan
from brainseg_keras.errors import InputError
from brainseg_keras.files import check_output, printable
from brainseg_keras.inference.job import ScanJob
from brainseg_keras.inference.ledger import DONE, MISSING, OTHER_MODEL, OTHER_SETTINGS, Entry, Key, Ledger
from brainseg_keras.inference.predictor import Predictor
from brainseg_keras.inference.summary import COLUMNS, check_summary
from brainseg_keras.parts import Part

WHOLE = Part(1, 1)
#: Segments scans elsewhere, of this key, and adds them to the ledger; gives the entries as they are finished.
Workers = Callable[[list[Scan | Listed], Key], Iterator[Entry]]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictions:
    """What `predict` did.

    Args:
        summary: One row a result of this call: file, tumour_size and its unit, tumour_ml, largest_diameter and its
            unit, confidence and mask.
        failures: File or folder, and why it was refused.
        skipped: Scans that were done already.
    """

    summary: pd.DataFrame
    failures: dict[str, str]
    skipped: int = 0


def predict(
    inputs: Iterable[str | Path | Scan] | Wanted,
    output: str | Path,
    *,
    predictor: Predictor,
    overlays: bool = True,
    probabilities: bool = False,
    attention: bool = False,
    skip_done: bool = False,
    part: Part | None = None,
    workers: Workers | None = None,
    progress: Callable[[list[Scan | Listed]], Iterable[Scan | Listed]] = iter,
) -> Predictions:
    """Segment files and folders and write the results.

    For each picture `<name>_mask.png` (0 and 255, or label numbers for several classes) and `<name>_overlay.png`, for
    each NIfTI volume `<name>_mask.nii.gz` with the affine and header of its file; below `output` as the inputs lie
    below the folder that was given; and summary.csv and ledger.csv, which keep the rows of other calls. One scan is in
    memory at a time. A scan that cannot be read, on which the network fails, or whose results cannot be
    written under its name or would replace another's file, is left out with a row that says why; the others go on.

    Args:
        inputs: Files, folders, and tables of paths; see `gather`.
        output: Folder to write to; several calls may write to one, also at once.
        predictor: The model.
        overlays: Also write the slice with the mask's outline.
        probabilities: Also write `<name>_probability.png` (16 bit, 65535 is 1), or `.nii.gz`.
        attention: Also write where the network looks: a map for each gate, `<name>_dec0_att.png` (16 bit) or `.nii.gz`
            and so on, or `<name>_grad_cam` of a network without gates; and `<name>_attention.png`, to look at.
        skip_done: Leave out the scans whose masks are there, made by this model with these settings.
        part: Segment only those of one part; summary.csv is written with the last one.
        workers: What does it, such as `segment_on_cluster`; default this process. The ledger is then kept as
            ledger.parquet too.
        progress: Wraps the list of scans, to show how far it is.

    Returns:
        The summary, and what failed.

    Raises:
        InputError: Nothing to segment, two results of one name, an output that cannot be written, a summary.csv that
            is another's, a part that another process works on, or no scan that could be segmented; then there is no
            summary either.

    Example:
        >>> import tempfile
        >>> from brainseg_keras import res_unet
        >>> from brainseg_keras.data.phantom.lgg import write_phantom
        >>> root = write_phantom(tempfile.mkdtemp() + "/data", patients=3, slices=8, size=64)
        >>> predictor, masks = Predictor(res_unet((32, 32, 3), filters=4, depth=2)), tempfile.mkdtemp()
        >>> len(predict([root], masks, predictor=predictor).summary)
        24
        >>> predict([root], masks, predictor=predictor, skip_done=True).skipped
        3
    """
    wanted, folder = gather(inputs), check_output(output, "folder")
    check_summary(folder)
    job = ScanJob(folder, predictor, overlays=overlays, probabilities=probabilities, attention=attention)
    ledger = Ledger(folder)
    with ledger.hold(part or WHOLE) if part or skip_done else contextlib.nullcontext():
        mine = wanted.of_part(part)
        left = _left_to_do(mine, ledger, job) if skip_done else mine
        rows, failures = _segment(left, job, ledger, workers, progress, whole=wanted if part else None)
    skipped = len(mine) - len(left)
    if len(left) and not rows and not skipped:
        raise InputError(f"None of the {len(left)} inputs could be segmented; the messages above say why.")
    return Predictions(pd.DataFrame(rows) if rows else pd.DataFrame(columns=COLUMNS[:-1]), failures, skipped)


def _left_to_do(wanted: Wanted, ledger: Ledger, job: ScanJob) -> Wanted:
    """Leave out what is done, and say how much that is and why the rest is not."""
    standing = ledger.standing(wanted.ids, job.key)
    counts = Counter(standing.tolist())
    done = counts.pop(DONE, 0)
    others = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    _log.warning("%d of %d scans are done and left out%s.", done, len(wanted), others and f"; the others are {others}")
    return wanted.where(standing != DONE)


def _segment(
    wanted: Wanted, job: ScanJob, ledger: Ledger, workers: Workers | None, progress: Callable, whole: Wanted | None
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Go through the scans, and join what all processes have done; of a part only when it was the last of the whole."""
    rows: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    scans = wanted.scans()
    entries = workers(scans, job.key) if workers and scans else _one_by_one(scans, job, ledger)
    try:
        with contextlib.closing(entries):
            # In whatever order they come, one of them is one step of the bar.
            for _, entry in zip(progress(scans), entries, strict=True):
                for fault in entry.faults.values():
                    _log.warning("Left out: %s", printable(fault))
                rows += entry.rows
                failures |= entry.faults
    finally:
        # Also of what was done before an interruption.
        ledger.close()
        if whole is None or not {MISSING, OTHER_MODEL, OTHER_SETTINGS} & {*ledger.standing(whole.ids, job.key)}:
            ledger.join(parquet=workers is not None)
    return rows, failures


def _one_by_one(scans: list[Scan | Listed], job: ScanJob, ledger: Ledger) -> Iterator[Entry]:
    for scan in scans:
        entry = job.run(scan)
        ledger.append(entry)
        yield entry
