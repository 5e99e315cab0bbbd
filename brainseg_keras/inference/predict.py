"""predict(): files and folders in, masks, overlays and a summary out."""

import dataclasses
import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from brainseg_keras.data.decode.images import mask_picture
from brainseg_keras.data.scans import Pixels, Scan, find_scans
from brainseg_keras.errors import InputError
from brainseg_keras.files import MAKER, check_output, check_replaceable, printable, write_whole
from brainseg_keras.inference.measures import measure
from brainseg_keras.inference.outlook import Outlook, predict_with_outlook
from brainseg_keras.inference.predictor import Predictor
from brainseg_keras.inference.summary import add_to_summary, read_summary
from brainseg_keras.visualization import PREDICTION, draw_heat, draw_outlines, place_beside, to_gray

#: Bytes that a file's name may have on the file systems in use.
_LONGEST_NAME = 255
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictions:
    """What `predict` did.

    Args:
        summary: One row a result of this call: file, tumour_size and its unit, tumour_ml, largest_diameter and its
            unit, confidence and mask.
        failures: File or folder, and why it was refused.
    """

    summary: pd.DataFrame
    failures: dict[str, str]


def predict(
    inputs: Iterable[str | Path | Scan],
    output: str | Path,
    *,
    predictor: Predictor,
    overlays: bool = True,
    probabilities: bool = False,
    attention: bool = False,
    progress: Callable[[list[Scan]], Iterable[Scan]] = iter,
) -> Predictions:
    """Segment files and folders and write the results.

    For each picture `<name>_mask.png` (0 and 255, or label numbers for several classes) and `<name>_overlay.png`, for
    each NIfTI volume `<name>_mask.nii.gz` with the affine and header of its file; below `output` as the inputs lie
    below the folder that was given; and summary.csv, which keeps the rows of other calls whose masks are still there.
    One scan is in memory at a time. A scan that cannot be read, on which the network fails, or whose results cannot be
    written under its name or would replace another's file, is left out with a row that says why; the others go on.

    Args:
        inputs: Files and folders; see `find_scans`.
        output: Folder to write to.
        predictor: The model.
        overlays: Also write the slice with the mask's outline.
        probabilities: Also write `<name>_probability.png` (16 bit, 65535 is 1), or `.nii.gz`.
        attention: Also write where the network looks: a map for each gate, `<name>_dec0_att.png` (16 bit) or `.nii.gz`
            and so on, or `<name>_grad_cam` of a network without gates; and `<name>_attention.png`, to look at.
        progress: Wraps the list of scans, to show how far it is.

    Returns:
        The summary, and what failed.

    Raises:
        InputError: Nothing to segment, two results of one name, an output that cannot be written, a summary.csv that
            is another's, or no scan that could be segmented; then there is no summary either.

    Example:
        >>> import tempfile
        >>> from brainseg_keras import res_unet
        >>> from brainseg_keras.data.phantom.lgg import write_phantom
        >>> root = write_phantom(tempfile.mkdtemp() + "/data", patients=3, slices=8, size=64)
        >>> predictor = Predictor(res_unet((32, 32, 3), filters=4, depth=2))
        >>> len(predict([root], tempfile.mkdtemp(), predictor=predictor).summary)
        24
    """
    scans, folder = find_scans(inputs), check_output(output, "folder")
    read_summary(folder)
    job = _Job(folder, predictor, overlays, probabilities, attention)
    rows: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    files: list[Path] = []
    try:
        for scan in progress(scans):
            faults: dict[str, str] = {}
            files += scan.files
            try:
                rows += job.segment(scan, faults)
            except InputError as error:
                if str(error) not in faults.values():
                    faults[scan.name] = str(error)
            for fault in faults.values():
                _log.warning("Left out: %s", printable(fault))
            failures |= faults
    finally:
        # Also of what was done before an interruption.
        if rows:
            add_to_summary(folder, rows, failures, files)
    if not rows:
        raise InputError(f"None of the {len(scans)} inputs could be segmented; the messages above say why.")
    return Predictions(pd.DataFrame(rows), failures)


class _Job:
    """What is the same for all scans of a call."""

    def __init__(self, folder: Path, predictor: Predictor, overlays: bool, probabilities: bool, attention: bool):
        self._folder, self._predictor = folder, predictor
        self._overlays, self._probabilities, self._attention = overlays, probabilities, attention
        self._remarks: set[str] = set()

    def segment(self, scan: Scan, faults: dict[str, str]) -> Iterator[dict[str, Any]]:
        """Give a row for each result; `faults` is filled with the slices that are left out."""
        faults |= self._check_names(scan)
        scan, pixels, unreadable = _read(scan.without(faults))
        faults |= unreadable
        images, remark = self._predictor.arrange(pixels, scan.name)
        if remark:
            _say_once(self._remarks, remark, scan.name)
        result = self._ask(images, pixels.spacing, scan.name)
        if result.outlook and result.outlook.remarks:
            _log.warning("%s: %s.", scan.name, result.outlook.remarks)
        write = _write_pictures if pixels.frame is None else _write_volume
        try:
            yield from write(scan, pixels, result, self._folder, self._overlays, self._probabilities)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise InputError(f"{scan.name}: the paths of its results are too long. Shorten its name.") from error

    def _check_names(self, scan: Scan) -> dict[str, str]:
        """Find the files under whose names nothing can be written, before the network runs."""
        maps, faults = scan.mask_ending, {}
        endings = ["_mask" + maps, *["_overlay.png"] * self._overlays]
        endings += [f"_probability{maps}", f"_probability_0{maps}"] * self._probabilities
        endings += ["_attention.png", f"_dec0_att{maps}", f"_grad_cam{maps}"] * self._attention
        longest = max(map(len, endings))
        for file, output in zip(scan.files, scan.outputs, strict=False):
            if len(os.fsencode(output.name)) + longest > _LONGEST_NAME:
                faults[str(file)] = f"{file}: the names of its results would have more than 255 bytes. Rename it."
                continue
            try:
                for ending in endings:
                    check_replaceable(self._folder / output.with_name(output.name + ending), MAKER)
            except InputError as error:
                faults[str(file)] = f"{file}: {error}"
        return faults

    def _ask(self, images: np.ndarray, spacing: tuple[float, float, float] | None, name: str) -> "_Result":
        predictor = self._predictor
        try:
            maps, expected = predict_with_outlook(predictor, images, spacing=spacing)
            seen = predictor.attention(images) if self._attention else {}
            return _Result(maps, predictor.tumour(maps), predictor.masks(maps), seen, expected)
        except InputError as error:
            # It speaks of the network.
            raise InputError(f"{name}: {error}") from error
        except MemoryError as error:
            raise InputError(f"{name}: the memory does not hold images of shape {images.shape} ({error}).") from error


def _read(scan: Scan) -> tuple[Scan, Pixels, dict[str, str]]:
    try:
        return scan, scan.read(), {}
    except InputError:
        readable, faults = scan.without_unreadable()
        return readable, readable.read(), faults


def _say_once(said: set[str], remark: str, name: str) -> None:
    """Say the same thing of a thousand files once."""
    what = remark.removeprefix(f"{name}: ")
    if what not in said:
        said.add(what)
        _log.warning("%s", remark)


class _Result(NamedTuple):
    """A scan's answer; arrays of shape `(slices, height, width)`."""

    maps: np.ndarray  # with an axis of classes
    tumour: np.ndarray  # probability of any tumour
    masks: np.ndarray  # labels
    attention: dict[str, np.ndarray]  # maps by name, from 0 to 1
    outlook: Outlook | None  # of the whole scan


def _write_pictures(
    scan: Scan, pixels: Pixels, result: _Result, folder: Path, overlays: bool, probabilities: bool
) -> Iterator[dict[str, Any]]:
    for index, (file, stem) in enumerate(zip(scan.files, scan.outputs, strict=True)):
        mask, chance = result.masks[index], result.maps[index]
        target = folder / stem
        shown = mask_picture(mask, chance.shape[-1])
        written = target.with_name(target.name + "_mask.png")
        _write_picture(shown, written)
        if overlays:
            picture = draw_outlines(to_gray(pixels.images[index]), [(mask, PREDICTION)])
            _write_picture(picture, target.with_name(target.name + "_overlay.png"))
        if probabilities:
            for name, plane in _planes(chance):
                _write_16_bits(plane, target.with_name(f"{target.name}_probability{name}.png"))
        seen = {name: maps[index] for name, maps in result.attention.items()}
        for name, plane in seen.items():
            _write_16_bits(plane, target.with_name(f"{target.name}_{name}.png"))
        if seen:
            _write_picture(_montage(pixels.images[index], seen), target.with_name(target.name + "_attention.png"))
        row = _row(file, written, mask[np.newaxis], result.tumour[index][np.newaxis], pixels.spacing)
        yield row | (result.outlook.columns() if result.outlook else {})


def _write_volume(
    scan: Scan, pixels: Pixels, result: _Result, folder: Path, overlays: bool, probabilities: bool
) -> Iterator[dict[str, Any]]:
    (stem,), masks = scan.outputs, result.masks
    target, ending = folder / stem, scan.mask_ending
    written = target.with_name(f"{target.name}_mask{ending}")
    write_whole(written, lambda path: pixels.frame.write(masks, path), mark=MAKER)
    if probabilities:
        for name, volume in _planes(result.maps):
            file = target.with_name(f"{target.name}_probability{name}{ending}")
            write_whole(file, lambda path, volume=volume: pixels.frame.write(volume, path), mark=MAKER)
    for name, maps in result.attention.items():
        file = target.with_name(f"{target.name}_{name}{ending}")
        write_whole(file, lambda path, maps=maps: pixels.frame.write(maps, path), mark=MAKER)
    index = int((masks > 0).sum(axis=(1, 2)).argmax()) if masks.any() else len(masks) // 2
    if result.attention:
        seen = {name: maps[index] for name, maps in result.attention.items()}
        _write_picture(_montage(pixels.images[index], seen), target.with_name(target.name + "_attention.png"))
    if overlays:
        picture = draw_outlines(to_gray(pixels.images[index]), [(masks[index], PREDICTION)])
        _write_picture(picture, target.with_name(f"{target.name}_overlay.png"))
    row = _row(scan.files[0], written, masks, result.tumour, pixels.spacing)
    yield row | (result.outlook.columns(row["tumour_size"], row["tumour_ml"]) if result.outlook else {})


def _planes(maps: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Name each class's map; a single one needs no name."""
    count = maps.shape[-1]
    return [("" if count == 1 else f"_{label}", maps[..., label]) for label in range(count)]


def _write_picture(pixels: np.ndarray, path: Path) -> None:
    made = PngInfo()
    made.add_text("Software", MAKER)
    write_whole(path, lambda scratch: Image.fromarray(pixels).save(scratch, "PNG", pnginfo=made), mark=MAKER)


def _write_16_bits(plane: np.ndarray, path: Path) -> None:
    _write_picture(np.uint16(np.round(plane * 65535)), path)


def _row(
    file: Path,
    written: Path,
    masks: np.ndarray,
    chance: np.ndarray,
    spacing: tuple[float, float, float] | None,
) -> dict[str, Any]:
    measures = dataclasses.asdict(measure(masks, chance, spacing))
    return {"file": printable(file), **measures, "mask": printable(written)}


def _montage(image: np.ndarray, maps: dict[str, np.ndarray]) -> np.ndarray:
    gray = to_gray(image)
    return place_beside({name: draw_heat(gray, plane) for name, plane in maps.items()})
