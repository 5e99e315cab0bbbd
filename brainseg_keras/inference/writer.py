"""What is written of one scan: masks, overlays, probabilities, attention maps, and a row a mask."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from brainseg_keras.data.decode.images import mask_picture
from brainseg_keras.data.modalities import flair_index
from brainseg_keras.data.scans import Pixels, Scan
from brainseg_keras.files import MAKER, write_whole
from brainseg_keras.inference.measures import measure
from brainseg_keras.inference.outlook import Outlook
from brainseg_keras.terminal import one_line
from brainseg_keras.visualization import PREDICTION, draw_heat, draw_outlines, place_beside, to_gray


class Answer(NamedTuple):
    """A network's answer to a scan; arrays of shape `(slices, height, width)`."""

    maps: np.ndarray  # with an axis of classes
    tumour: np.ndarray  # probability of any tumour
    masks: np.ndarray  # labels
    attention: dict[str, np.ndarray]  # maps by name, from 0 to 1
    outlook: Outlook | None  # of the whole scan


def write_results(
    scan: Scan, pixels: Pixels, result: Answer, folder: Path, *, overlays: bool, probabilities: bool
) -> Iterator[dict[str, Any]]:
    """Write a scan's results, each file whole or not at all.

    Args:
        scan: The scan.
        pixels: What stands in its files.
        result: What the network says of them.
        folder: Where to write.
        overlays: Also write the slice with the mask's outline.
        probabilities: Also write these.

    Yields:
        A row of summary.csv for each mask, once its files are there, in the order of the scan's outputs.

    Raises:
        InputError: A file is in the way that this package did not make.
        OSError: One cannot be written.
    """
    write = _write_pictures if pixels.frame is None else _write_volume
    yield from write(scan, pixels, result, folder, overlays, probabilities)


def _write_pictures(
    scan: Scan, pixels: Pixels, result: Answer, folder: Path, overlays: bool, probabilities: bool
) -> Iterator[dict[str, Any]]:
    for index, (file, stem) in enumerate(zip(scan.files, scan.outputs, strict=True)):
        mask, chance = result.masks[index], result.maps[index]
        target = folder / stem
        shown = mask_picture(mask, chance.shape[-1])
        written = target.with_name(target.name + "_mask.png")
        _write_picture(shown, written)
        if overlays:
            picture = draw_outlines(_gray(pixels, index), [(mask, PREDICTION)])
            _write_picture(picture, target.with_name(target.name + "_overlay.png"))
        if probabilities:
            for name, plane in _planes(chance):
                _write_16_bits(plane, target.with_name(f"{target.name}_probability{name}.png"))
        seen = {name: maps[index] for name, maps in result.attention.items()}
        for name, plane in seen.items():
            _write_16_bits(plane, target.with_name(f"{target.name}_{name}.png"))
        if seen:
            _write_picture(_montage(_gray(pixels, index), seen), target.with_name(target.name + "_attention.png"))
        row = _row(file, written, mask[np.newaxis], result.tumour[index][np.newaxis], pixels.spacing)
        yield row | (result.outlook.columns() if result.outlook else {})


def _write_volume(
    scan: Scan, pixels: Pixels, result: Answer, folder: Path, overlays: bool, probabilities: bool
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
        _write_picture(_montage(_gray(pixels, index), seen), target.with_name(target.name + "_attention.png"))
    if overlays:
        picture = draw_outlines(_gray(pixels, index), [(masks[index], PREDICTION)])
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
    return {"file": one_line(file), **measures, "mask": one_line(written)}


def _gray(pixels: Pixels, index: int) -> np.ndarray:
    return to_gray(pixels.images[index], flair_index(pixels.channels or pixels.images.shape[-1]))


def _montage(gray: np.ndarray, maps: dict[str, np.ndarray]) -> np.ndarray:
    return place_beside({name: draw_heat(gray, plane) for name, plane in maps.items()})
