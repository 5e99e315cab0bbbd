"""What a person hands over to be segmented: pictures, patients' folders, volumes; found first, read one at a time."""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from brainseg_keras.data.images import LONGEST_SIDE, read_image
from brainseg_keras.data.medical import (
    NiftiFrame,
    dicom_series,
    is_dicom,
    read_brats_slice,
    read_dicom,
    read_nifti,
)
from brainseg_keras.data.modalities import split_modality
from brainseg_keras.errors import InputError
from brainseg_keras.files import expand, printable

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SHORTEST_SIDE = 16
_LGG_SLICE = re.compile(r"(?P<patient>.+)_(?P<number>\d+)\.tiff?", re.IGNORECASE)
_BRATS_SLICE = re.compile(r"(?P<volume>.+)_slice_(?P<number>\d+)\.(h5|hdf5)", re.IGNORECASE)
_TRUTH = re.compile(r"(^|[_\-.])(mask|seg|label|labels)$", re.IGNORECASE)
#: What `predict` writes beside `<name>_mask`.
_RESULT = re.compile(r"(?P<name>.+)_(overlay|attention|grad_cam|dec\d+_att|probability(_\d+)?)")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pixels:
    """What stands in a scan's files.

    Args:
        images: Array of shape `(slices, height, width, channels)`.
        channels: Names of the sequences, or None where the files do not say.
        spacing: Millimetres between slices, rows and columns, or None.
        frame: Of a NIfTI volume: what brings a mask back into its file's own array.
    """

    images: np.ndarray
    channels: tuple[str, ...] | None = None
    spacing: tuple[float, float, float] | None = None
    frame: NiftiFrame | None = None


@dataclass(frozen=True)
class Scan:
    """One thing to segment: a patient's slices, a volume, or a lone picture.

    Args:
        kind: `pictures`, `nifti`, `dicom` or `h5`.
        files: Its files, slices in order, or one file a sequence.
        outputs: Where results go below the output folder, without ending: one a slice file, or one a NIfTI volume.
        channels: Sequence of each NIfTI file, where the names say.
    """

    kind: str
    files: tuple[Path, ...]
    outputs: tuple[PurePath, ...]
    channels: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.files[0] if len(self.files) == 1 else self.files[0].parent)

    def read(self) -> Pixels:
        """Decode it.

        Returns:
            All its pixels.

        Raises:
            InputError: A file that cannot be read, sizes that differ, sides outside 16 to 8192, values that are not
                finite, a picture of one value.
        """
        pixels = self._decode()
        self._check(pixels.images)
        return pixels

    def _decode(self) -> Pixels:
        if self.kind == "nifti":
            volumes = [read_nifti(file) for file in self.files]
            images = _stack([volume.images for volume in volumes], self.files, axis=-1)
            return Pixels(images, self.channels, volumes[0].spacing, volumes[0].frame)
        if self.kind == "dicom":
            return Pixels(*read_dicom(self.files))
        if self.kind == "h5":
            slices = [read_brats_slice(file) for file in self.files]
            return Pixels(_stack([image for image, _ in slices], self.files), slices[0][1])
        return Pixels(_stack([read_image(file) for file in self.files], self.files))

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
        if self.kind == "nifti" or not kept:
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
        for file, output in zip(self.files, self.outputs, strict=False):
            try:
                Scan(self.kind, (file,), (output,))._decode()
            except InputError as error:
                faults[str(file)] = str(error)
        return self.without(faults), faults

    def _check(self, images: np.ndarray) -> None:
        height, width = images.shape[1:3]
        if not SHORTEST_SIDE <= min(height, width) <= max(height, width) <= LONGEST_SIDE:
            raise InputError(
                f"{self.name} has {width} x {height} pixels. Expected {SHORTEST_SIDE} to {LONGEST_SIDE} a side: give a "
                "whole slice."
            )
        if images.dtype.kind not in "uif" or not np.isfinite(images).all():
            raise InputError(f"{self.name} holds NaN or infinite values. Replace them in the file.")
        if images.min() == images.max():
            raise InputError(f"Every pixel of {self.name} is {images.flat[0]}: nothing to see. Restore the file.")


def _stack(arrays: Sequence[np.ndarray], files: Sequence[Path], axis: int = 0) -> np.ndarray:
    for array, file in zip(arrays, files, strict=True):
        if array.shape != arrays[0].shape:
            raise InputError(
                f"{file} is of shape {array.shape}, but {files[0]} of {arrays[0].shape}. Bring them to one size and "
                "one number of channels, or take one out."
            )
    return np.concatenate(arrays, axis=-1) if axis == -1 else np.stack(arrays)


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
        >>> from brainseg_keras.data.phantom import write_phantom
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
                    f"No image in {path}. Expected {', '.join(PICTURES)}, .nii, .nii.gz, .dcm or .h5 files; those "
                    "named *_mask, *_seg or *_label are passed over."
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
    kind = _kind(file)
    if kind is None:
        raise InputError(
            f"{file} is of a kind that is not read here. Expected {', '.join(PICTURES)}, .nii, .nii.gz, .dcm or .h5."
        )
    match = _LGG_SLICE.fullmatch(file.name)
    in_patient_folder = match and match["patient"].lower() == file.absolute().parent.name.lower()
    below = PurePath(file.absolute().parent.name) if in_patient_folder else PurePath()
    channels = None
    if kind == "nifti":
        modality = split_modality(_stem(file))[1]
        channels = (modality,) if modality else None
    return Scan(kind, (file,), (below / _stem(file),), channels)


def _scans_in(folder: Path) -> list[Scan]:
    # A patient's own folder gives the same results as the tree in which it stands.
    root = folder.parent if _patient_slices(folder) else folder
    scans: list[Scan] = []
    for place in [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]:
        if any(part.startswith(".") for part in place.relative_to(folder).parts):
            continue
        scans += _scans_directly_in(place, place.relative_to(root))
    return scans


def _scans_directly_in(folder: Path, below: PurePath) -> list[Scan]:
    patient = _patient_slices(folder)
    files: dict[str, list[Path]] = {"pictures": [], "nifti": [], "dicom": [], "h5": []}
    for file in _images_in(folder):
        if file not in patient and (kind := _kind(file)):
            files[kind].append(file)
    groups = [("pictures", patient)] if patient else []
    groups += [("pictures", (file,)) for file in files["pictures"]]
    groups += [("dicom", series) for series in dicom_series(files["dicom"])]
    groups += [("h5", volume) for volume in _brats_volumes(files["h5"])]
    scans = [Scan(kind, members, tuple(below / _stem(file) for file in members)) for kind, members in groups]
    return scans + _nifti_scans(files["nifti"], folder, below)


def _images_in(folder: Path) -> list[Path]:
    """List a folder's files that are neither hidden nor a mask nor what was made beside one by `predict`."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")]
    masked = {_stem(file).removesuffix("_mask") for file in files if _stem(file).endswith("_mask")}
    results = (_RESULT.fullmatch(_stem(file)) for file in files)
    return [
        file
        for file, result in zip(files, results, strict=True)
        if not _TRUTH.search(_stem(file)) and not (result and result["name"] in masked)
    ]


def _nifti_scans(files: list[Path], folder: Path, below: PurePath) -> list[Scan]:
    named: dict[str, list[tuple[str, Path]]] = {}
    nameless = []
    for file in files:
        rest, modality = split_modality(_stem(file))
        if modality:
            named.setdefault(rest, []).append((modality, file))
        else:
            nameless.append(file)
    scans = []
    for rest, members in named.items():
        names = tuple(modality for modality, _ in members)
        if len(members) > 1 and len(set(names)) == len(names):
            # What stands after the sequence is how a file was made, and not whose it is.
            begins = rest and _stem(members[0][1]).startswith(rest)
            stem = rest if begins else "_".join(part for part in (folder.name, rest) if part)
            scans.append(Scan("nifti", tuple(file for _, file in members), (below / stem,), names))
        else:
            scans += [Scan("nifti", (file,), (below / _stem(file),), (name,)) for name, file in members]
    if nameless and any(len(scan.files) > 1 for scan in scans):
        # Beside sequences that belong together, what names none is a mask or a map, not another scan.
        _log.warning(
            "%s: %d volumes that name no sequence are passed over beside those that do, the first is %s. To segment "
            "them, name the files.",
            printable(folder),
            len(nameless),
            printable(nameless[0].name),
        )
        nameless = []
    return scans + [Scan("nifti", (file,), (below / _stem(file),)) for file in nameless]


def _brats_volumes(files: list[Path]) -> list[tuple[Path, ...]]:
    volumes: dict[str, list[tuple[int, Path]]] = {}
    for file in files:
        match = _BRATS_SLICE.fullmatch(file.name)
        volumes.setdefault(match["volume"] if match else file.name, []).append(
            (int(match["number"]) if match else 0, file)
        )
    return [tuple(file for _, file in sorted(members)) for members in volumes.values()]


def _patient_slices(folder: Path) -> tuple[Path, ...]:
    """Slices of a folder that is one patient's in the LGG layout: named as its files begin."""
    numbered = []
    for file in folder.iterdir():
        match = _LGG_SLICE.fullmatch(file.name)
        if match and match["patient"].lower() == folder.absolute().name.lower() and file.is_file():
            numbered.append((int(match["number"]), file))
    return tuple(file for _, file in sorted(numbered))


def _kind(file: Path) -> str | None:
    name = file.name.lower()
    if name.endswith(PICTURES):
        return "pictures"
    if name.endswith((".nii", ".nii.gz")):
        return "nifti"
    if name.endswith((".h5", ".hdf5")):
        return "h5"
    # Series are often named by numbers with dots, whose last part is no ending.
    return "dicom" if name.endswith(".dcm") or is_dicom(file) else None


def _stem(file: Path) -> str:
    for ending in (".nii.gz", ".nii"):
        if file.name.lower().endswith(ending):
            return file.name[: -len(ending)]
    return file.stem if _known_ending(file) else file.name


def _known_ending(file: Path) -> bool:
    return file.suffix.lower() in (*PICTURES, ".h5", ".hdf5", ".dcm")


def _tell_apart(scans: list[Scan]) -> list[Scan]:
    """Give results that would bear one name the whole names of their files, and all of them names in UTF-8."""
    shared = Counter(str(output).lower() for scan in scans for output in scan.outputs)
    told = []
    for scan in scans:
        outputs = list(scan.outputs)
        if len(scan.files) == len(outputs):
            for place, (file, output) in enumerate(zip(scan.files, outputs, strict=True)):
                if shared[str(output).lower()] > 1:
                    outputs[place] = output.with_name(file.name)
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
