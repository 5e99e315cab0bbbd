"""What a person hands over to be segmented: pictures, patients' folders, volumes; found first, read one at a time."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from brainseg_keras.data.decode.images import LONGEST_SIDE
from brainseg_keras.data.formats.base import Group, Pixels, ScanFormat
from brainseg_keras.data.formats.registry import SCAN_FORMATS
from brainseg_keras.errors import InputError
from brainseg_keras.files import expand, printable
from brainseg_keras.terminal import one_line

SHORTEST_SIDE = 16
_ENDINGS = ", ".join(dict.fromkeys(ending for format in SCAN_FORMATS for ending in format.endings))
_TRUTH = re.compile(r"(^|[_\-.])(mask|seg|label|labels)$", re.IGNORECASE)
#: What `predict` writes beside `<name>_mask`.
_RESULT = re.compile(r"(?P<name>.+)_(overlay|attention|grad_cam|dec\d+_att|probability(_\d+)?)")


@dataclass(frozen=True)
class Scan:
    """One thing to segment: a patient's slices, a volume, or a lone picture.

    Args:
        format: What reads it.
        files: Its files, slices in order, or one file a sequence.
        outputs: Where results go below the output folder, without ending: one a slice file, or one a volume.
        channels: Sequence of each file of a volume, where the names say.
        listed: Its id in the list that names it; None where there is none.
    """

    format: ScanFormat
    files: tuple[Path, ...]
    outputs: tuple[PurePath, ...]
    channels: tuple[str, ...] | None = None
    listed: str | None = None

    @property
    def id(self) -> str:
        """What a ledger calls it: where its results lie below the output folder, wherever its own files are."""
        if self.listed is not None:
            return self.listed
        first = self.outputs[0].as_posix()
        # To the last, since a lone slice has results of its own.
        last = f"..{self.outputs[-1].name}" if len(self.outputs) > 1 else ""
        return one_line(first + last)

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.files[0] if len(self.files) == 1 else self.files[0].parent)

    @property
    def mask_ending(self) -> str:
        """Ending of the masks and maps that are written for it."""
        return self.format.mask_ending(self.files[0])

    def read(self) -> Pixels:
        """Decode it.

        Returns:
            All its pixels.

        Raises:
            InputError: A file that cannot be read, sizes that differ, sides outside 16 to 8192, values that are not
                finite, a picture of one value.
        """
        pixels = self.format.decode(self.files)
        if self.channels:
            pixels = replace(pixels, channels=self.channels)
        check_pixels(pixels.images, self.name)
        return pixels

    def without(self, faults: dict[str, str]) -> "Scan":
        """Leave out slices that have faults.

        Args:
            faults: File, and what is wrong with it.

        Returns:
            The scan with the others.

        Raises:
            InputError: There are no others.
        """
        if not faults:
            return self
        kept = [pair for pair in zip(self.files, self.outputs, strict=False) if str(pair[0]) not in faults]
        if len(self.outputs) < len(self.files) or not kept:
            raise InputError(next(iter(faults.values())))
        files, outputs = zip(*kept, strict=True)
        return replace(self, files=files, outputs=outputs)

    def without_unreadable(self) -> tuple["Scan", dict[str, str]]:
        """Leave out the slices that cannot be read, so that one bad file does not cost a patient.

        Returns:
            The scan with the slices that can, and for each of the others its file and what is wrong.

        Raises:
            InputError: None can be read, or it is one volume.
        """
        faults = {}
        for file, _ in zip(self.files, self.outputs, strict=False):
            try:
                self.format.decode([file])
            except InputError as error:
                faults[str(file)] = str(error)
        return self.without(faults), faults


def check_pixels(images: np.ndarray, name: str) -> None:
    """Refuse images in which there is nothing to segment.

    Args:
        images: Array of shape `(slices, height, width, channels)`.
        name: Of the scan, for messages.

    Raises:
        InputError: Sides outside 16 to 8192 pixels, values that are not finite, or one value alone.

    Example:
        >>> check_pixels(np.random.default_rng(0).random((1, 32, 32, 1)), "a slice")
    """
    height, width = images.shape[1:3]
    if not SHORTEST_SIDE <= min(height, width) <= max(height, width) <= LONGEST_SIDE:
        raise InputError(
            f"{name} has {width} x {height} pixels. Expected {SHORTEST_SIDE} to {LONGEST_SIDE} a side: give a whole "
            "slice."
        )
    if images.dtype.kind not in "uif" or not np.isfinite(images).all():
        raise InputError(f"{name} holds NaN or infinite values. Replace them.")
    if images.min() == images.max():
        raise InputError(f"Every pixel of {name} is {images.flat[0]}: nothing to see. Give another scan.")


def find_scans(inputs: Iterable[str | Path | Scan]) -> list[Scan]:
    """List what there is to segment; nothing is decoded yet.

    In folders, files named `*_mask`, `*_seg` or `*_label`, earlier results beside them, tables and unknown endings are
    passed over, and so, with a warning, are NIfTI files that name no sequence beside some that do. Slices in a folder
    of the LGG layout belong to one patient; so do NIfTI files whose names differ in the sequence, BraTS slices of one
    volume and DICOM files of one series. A file that is named alone stands alone. Results bear the file's name without
    its ending, or with it where two would be the same.

    Args:
        inputs: Files and folders; what was found before stays as it is.

    Returns:
        Scans in the order of the inputs.

    Raises:
        InputError: No such path, no picture in it, an unknown kind of file, or two results of one name.

    Example:
        >>> import tempfile
        >>> from brainseg_keras.data.phantom.lgg import write_phantom
        >>> root = write_phantom(tempfile.mkdtemp() + "/data", patients=3, slices=8, size=64)
        >>> [len(scan.files) for scan in find_scans([root])]
        [8, 8, 8]
    """
    scans: list[Scan] = []
    for entry in inputs:
        if isinstance(entry, Scan):
            scans.append(entry)
            continue
        path = Path(expand(entry, "input"))
        if path.is_dir():
            found = _scans_in(path)
            if not found:
                raise InputError(
                    f"No image in {path}. Expected {_ENDINGS} files; those named *_mask, *_seg or *_label are passed "
                    "over."
                )
            scans += found
        elif path.is_file():
            scans.append(_lone_scan(path))
        else:
            raise InputError(f"No such file or folder: {path}. Check the path.")
    scans = _tell_apart(scans)
    _refuse_collisions(scans)
    return scans


def _lone_scan(file: Path) -> Scan:
    format = _format_of(file)
    if format is None:
        raise InputError(f"{file} is of a kind that is not read here. Expected {_ENDINGS}.")
    folder = file.absolute().parent
    (group,) = format.group([file], folder)
    return _scan(format, group, PurePath(folder.name) if format.own_folder else PurePath())


def _scan(format: ScanFormat, group: Group, below: PurePath) -> Scan:
    return Scan(format, group.files, tuple(below / name for name in group.outputs), group.channels)


def _scans_in(folder: Path) -> list[Scan]:
    # A patient's own folder gives the same results as the tree in which it stands.
    patients = [format for format in SCAN_FORMATS if format.own_folder]
    alone = any(format.claims(file) for file in _images_in(folder) for format in patients)
    root = folder.parent if alone else folder
    scans: list[Scan] = []
    for path in [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]:
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        files: dict[ScanFormat | None, list[Path]] = {format: [] for format in SCAN_FORMATS}
        for file in _images_in(path):
            files.setdefault(_format_of(file), []).append(file)
        for format in SCAN_FORMATS:
            groups = format.group(files[format], path) if files[format] else []
            scans += [_scan(format, group, path.relative_to(root)) for group in groups]
    return scans


def _images_in(folder: Path) -> list[Path]:
    """List a folder's files that are neither hidden nor a mask nor what was made beside one by `predict`."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")]
    stems = [_stem(file) for file in files]
    masked = {stem.removesuffix("_mask") for stem in stems if stem.endswith("_mask")}
    results = map(_RESULT.fullmatch, stems)
    return [
        file
        for file, stem, result in zip(files, stems, results, strict=True)
        if not _TRUTH.search(stem) and not (result and result["name"] in masked)
    ]


def _format_of(file: Path) -> ScanFormat | None:
    """Ask all formats for the name of a file before any for its content, for which it is opened."""
    by_name = (format for format in SCAN_FORMATS if format.claims(file))
    return next(by_name, None) or next((format for format in SCAN_FORMATS if format.recognizes(file)), None)


def _stem(file: Path) -> str:
    """Give a file's name without any known ending."""
    return min((format.stem(file) for format in SCAN_FORMATS), key=len)


def _tell_apart(scans: list[Scan]) -> list[Scan]:
    """Give results that would bear one name the whole names of their files, and all of them names in UTF-8."""
    shared = Counter(str(output).lower() for scan in scans for output in scan.outputs)
    told = []
    for scan in scans:
        outputs = list(scan.outputs)
        if len(scan.files) == len(outputs):
            for index, (file, output) in enumerate(zip(scan.files, outputs, strict=True)):
                if shared[str(output).lower()] > 1:
                    outputs[index] = output.with_name(file.name)
        told.append(replace(scan, outputs=tuple(PurePath(os.fsdecode(printable(o).encode("utf-8"))) for o in outputs)))
    return told


def _refuse_collisions(scans: list[Scan]) -> None:
    owners: dict[Any, Path] = {}
    for scan in scans:
        files = scan.files if len(scan.files) == len(scan.outputs) else scan.files[:1]
        for output, file in zip(scan.outputs, files, strict=True):
            # Also where only upper and lower case differ: some file systems take them for one.
            key = str(output).lower()
            if key in owners:
                raise InputError(
                    f"{owners[key]} and {file} would both be written to {output}. Give them in two calls with two "
                    "output folders, or rename one."
                )
            owners[key] = file
