"""predict(): files and folders in, masks, overlays and a summary out."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from brainseg_keras.data.scans import Pixels, Scan, find_scans
from brainseg_keras.errors import InputError
from brainseg_keras.files import check_output, write_whole
from brainseg_keras.inference.measures import measure
from brainseg_keras.inference.predictor import Predictor
from brainseg_keras.visualization import PREDICTION, draw_heat, draw_outlines, place_beside, to_gray

SUMMARY = "summary.csv"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictions:
    """What `predict` did.

    Args:
        summary: One row a result: file, tumour_pixels, tumour_ml, largest_diameter, unit, confidence, mask.
        failures: File or folder, and why it was refused.
    """

    summary: pd.DataFrame
    failures: dict[str, str]


def predict(
    inputs: Iterable[str | Path],
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
    below the folder that was given; and summary.csv. One scan is in memory at a time. A scan that cannot be read is
    left out and the others go on.

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
        InputError: Nothing to segment, two results of one name, no scan that could be read, or an output that cannot
            be written.

    Example:
        >>> import tempfile
        >>> from brainseg_keras import res_unet
        >>> from brainseg_keras.data.phantom import write_phantom
        >>> root = write_phantom(tempfile.mkdtemp() + "/data", patients=3, slices=8, size=64)
        >>> predictor = Predictor(res_unet((32, 32, 3), filters=4, depth=2))
        >>> len(predict([root], tempfile.mkdtemp(), predictor=predictor).summary)
        24
    """
    scans, folder = find_scans(inputs), check_output(output, "folder")
    rows: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    remarks: set[str] = set()
    for scan in progress(scans):
        try:
            scan, pixels, faults = _read(scan)
            images, remark = predictor.arrange(pixels, scan.name)
        except InputError as error:
            scan, faults = None, {scan.name: str(error)}
        for fault in faults.values():
            _log.warning("Left out: %s", fault)
        failures |= faults
        if scan is None:
            continue
        if remark:
            _say_once(remarks, remark, scan.name)
        maps = predictor.probabilities(images)
        seen = predictor.attention(images) if attention else {}
        result = _Result(maps, predictor.tumour(maps), predictor.masks(maps), seen)
        rows += _write(scan, pixels, result, folder, overlays, probabilities)
    if not rows:
        raise InputError(f"None of the {len(scans)} inputs could be read; the messages above say why.")
    summary = pd.DataFrame(rows)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / SUMMARY, lambda path: summary.to_csv(path, index=False))
    return Predictions(summary, failures)


def _read(scan: Scan) -> tuple[Scan, Pixels, dict[str, str]]:
    try:
        return scan, scan.read(), {}
    except InputError:
        readable, faults = scan.without_unreadable()
        if readable is None:
            raise
        return readable, readable.read(), faults


def _say_once(said: set[str], remark: str, name: str) -> None:
    """Say the same thing of a thousand files once."""
    what = remark.removeprefix(f"{name}: ")
    if what not in said:
        said.add(what)
        _log.warning("%s", remark)


class _Result(NamedTuple):
    """A scan's answer; arrays of shape `(slices, height, width)`."""

    maps: np.ndarray  # with an axis of channels, where there are several
    tumour: np.ndarray  # probability of any tumour
    masks: np.ndarray  # labels
    attention: dict[str, np.ndarray]  # maps by name, from 0 to 1


def _write(
    scan: Scan, pixels: Pixels, result: _Result, folder: Path, overlays: bool, probabilities: bool
) -> Iterator[dict[str, Any]]:
    write = _write_pictures if pixels.frame is None else _write_volume
    return write(scan, pixels, result, folder, overlays, probabilities)


def _write_pictures(
    scan: Scan, pixels: Pixels, result: _Result, folder: Path, overlays: bool, probabilities: bool
) -> Iterator[dict[str, Any]]:
    for place, (file, stem) in enumerate(zip(scan.files, scan.outputs, strict=True)):
        mask, chance = result.masks[place], result.maps[place]
        target = folder / stem
        target.parent.mkdir(parents=True, exist_ok=True)
        shown = mask * np.uint8(255) if chance.ndim == 2 else mask
        written = target.with_name(target.name + "_mask.png")
        _write_picture(shown, written)
        if overlays:
            picture = draw_outlines(to_gray(pixels.images[place]), [(mask, PREDICTION)])
            _write_picture(picture, target.with_name(target.name + "_overlay.png"))
        if probabilities:
            for name, plane in _planes(chance):
                _write_16_bits(plane, target.with_name(f"{target.name}_probability{name}.png"))
        seen = {name: maps[place] for name, maps in result.attention.items()}
        for name, plane in seen.items():
            _write_16_bits(plane, target.with_name(f"{target.name}_{name}.png"))
        if seen:
            _write_picture(_montage(pixels.images[place], seen), target.with_name(target.name + "_attention.png"))
        yield _row(file, written, mask[np.newaxis], result.tumour[place][np.newaxis], pixels.spacing)


def _write_volume(
    scan: Scan, pixels: Pixels, result: _Result, folder: Path, overlays: bool, probabilities: bool
) -> Iterator[dict[str, Any]]:
    (stem,), masks = scan.outputs, result.masks
    target = folder / stem
    target.parent.mkdir(parents=True, exist_ok=True)
    ending = ".nii" if scan.files[0].name.lower().endswith(".nii") else ".nii.gz"
    written = target.with_name(f"{target.name}_mask{ending}")
    write_whole(written, lambda path: pixels.frame.write(masks, path))
    if probabilities:
        for name, volume in _planes(result.maps):
            file = target.with_name(f"{target.name}_probability{name}{ending}")
            write_whole(file, lambda path, volume=volume: pixels.frame.write(volume, path))
    for name, maps in result.attention.items():
        file = target.with_name(f"{target.name}_{name}{ending}")
        write_whole(file, lambda path, maps=maps: pixels.frame.write(maps, path))
    place = int((masks > 0).sum(axis=(1, 2)).argmax()) if masks.any() else len(masks) // 2
    if result.attention:
        seen = {name: maps[place] for name, maps in result.attention.items()}
        _write_picture(_montage(pixels.images[place], seen), target.with_name(target.name + "_attention.png"))
    if overlays:
        picture = draw_outlines(to_gray(pixels.images[place]), [(masks[place], PREDICTION)])
        _write_picture(picture, target.with_name(f"{target.name}_overlay.png"))
    yield _row(scan.files[0], written, masks, result.tumour, pixels.spacing)


def _planes(maps: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Name each class's map; a single one needs no name. The last axis is classes where there are several."""
    if maps.ndim == 4 or (maps.ndim == 3 and maps.shape[-1] < 16):
        return [(f"_{label}", maps[..., label]) for label in range(maps.shape[-1])]
    return [("", maps)]


def _write_picture(pixels: np.ndarray, path: Path) -> None:
    write_whole(path, lambda scratch: Image.fromarray(pixels).save(scratch, "PNG"))


def _write_16_bits(plane: np.ndarray, path: Path) -> None:
    _write_picture(np.uint16(np.round(plane * 65535)), path)


def _row(
    file: Path,
    written: Path,
    masks: np.ndarray,
    chance: np.ndarray,
    spacing: tuple[float, float, float] | None,
) -> dict[str, Any]:
    return {"file": str(file), **dataclasses.asdict(measure(masks, chance, spacing)), "mask": str(written)}


def _montage(image: np.ndarray, maps: dict[str, np.ndarray]) -> np.ndarray:
    gray = to_gray(image)
    return place_beside({name: draw_heat(gray, plane) for name, plane in maps.items()})
