"""What a person hands over to be segmented: pictures, patients' folders, volumes; found first, read one at a time."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
from brainseg_keras.files import expand

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SHORTEST_SIDE = 16
_LGG_SLICE = re.compile(r"(?P<patient>.+)_(?P<number>\d+)\.tiff?", re.IGNORECASE)
_BRATS_SLICE = re.compile(r"(?P<volume>.+)_slice_(?P<number>\d+)\.(h5|hdf5)", re.IGNORECASE)
_TRUTH = re.compile(r"(^|[_\-.])(mask|seg|label|labels)$", re.IGNORECASE)


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

    def without_unreadable(self) -> tuple["Scan | None", dict[str, str]]:
        """Leave out the slices that cannot be read, so that one bad file does not cost a patient.

        Returns:
            The scan with the slices that can, or None, and for each of the others its file and what is wrong.
        """
        faults, kept = {}, []
        for file, output in zip(self.files, self.outputs, strict=False):
            try:
                lone = Scan(self.kind, (file,), (output,))
                lone._decode()
                kept.append((file, output))
            except InputError as error:
                faults[str(file)] = str(error)
        if self.kind == "nifti" or not kept or not faults:
            return None, {}
        files, outputs = zip(*kept, strict=True)
        return Scan(self.kind, files, outputs, self.channels), faults

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


def find_scans(inputs: Iterable[str | Path]) -> list[Scan]:
    """List what there is to segment; nothing is decoded yet.

    In folders, files named `*_mask`, `*_seg` or `*_label`, tables and unknown endings are passed over, and so are NIfTI
    files that name no sequence beside some that do. Slices in a folder of the LGG layout belong to one patient; so do
    NIfTI files whose names differ in the sequence, BraTS slices of one volume and DICOM files of one series. A file
    that is named alone stands alone.

    Args:
        inputs: Files and folders.

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
    for entry in (Path(expand(entry, "input")) for entry in inputs):
        if entry.is_dir():
            found = _scans_in(entry)
            if not found:
                raise InputError(
                    f"No image in {entry}. Expected {', '.join(PICTURES)}, .nii, .nii.gz, .dcm or .h5 files."
                )
            scans += found
        elif entry.is_file():
            scans.append(_lone_scan(entry))
        else:
            raise InputError(f"No such file or folder: {entry}. Check the path.")
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
    files = [
        file
        for file in sorted(folder.iterdir())
        if file.is_file() and not file.name.startswith(".") and not _TRUTH.search(_stem(file)) and _kind(file)
    ]
    scans = []
    patient = _patient_slices(folder)
    if patient:
        scans.append(Scan("pictures", patient, tuple(below / _stem(file) for file in patient)))
    scans += [Scan("pictures", (f,), (below / _stem(f),)) for f in files if _kind(f) == "pictures" and f not in patient]
    groups: dict[str, list[tuple[str | None, Path]]] = {}
    for file in (file for file in files if _kind(file) == "nifti"):
        rest, modality = split_modality(_stem(file))
        groups.setdefault(rest if modality else _stem(file), []).append((modality, file))
    if any(len(members) > 1 for members in groups.values()):
        # Beside named sequences, a file that names none is a mask or a map, not another scan.
        groups = {rest: members for rest, members in groups.items() if members[0][0]}
    for rest, members in groups.items():
        names = tuple(modality for modality, _ in members if modality)
        if len(names) == len(members) and len(set(names)) == len(names):
            stem = _stem(members[0][1])
            if len(members) > 1:
                # What stands after the sequence is how a file was made, and not whose it is.
                named = rest and stem.startswith(rest)
                stem = rest if named else "_".join(part for part in (folder.name, rest) if part)
            scans.append(Scan("nifti", tuple(file for _, file in members), (below / stem,), names))
        else:
            scans += [Scan("nifti", (file,), (below / _stem(file),), (m,) if m else None) for m, file in members]
    scans += [
        Scan("dicom", series, tuple(below / _stem(file) for file in series))
        for series in dicom_series([file for file in files if _kind(file) == "dicom"])
    ]
    volumes: dict[str, list[tuple[int, Path]]] = {}
    for file in (file for file in files if _kind(file) == "h5"):
        match = _BRATS_SLICE.fullmatch(file.name)
        volumes.setdefault(match["volume"] if match else file.name, []).append(
            (int(match["number"]) if match else 0, file)
        )
    for members in volumes.values():
        ordered = tuple(file for _, file in sorted(members))
        scans.append(Scan("h5", ordered, tuple(below / _stem(file) for file in ordered)))
    return scans


def _patient_slices(folder: Path) -> tuple[Path, ...]:
    """Slices of a folder that is one patient's in the LGG layout: named as its files begin."""
    numbered = []
    for file in folder.iterdir():
        match = _LGG_SLICE.fullmatch(file.name)
        if match and match["patient"].lower() == folder.absolute().name.lower():
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
    if name.endswith(".dcm") or (not file.suffix and is_dicom(file)):
        return "dicom"
    return None


def _stem(file: Path) -> str:
    for ending in (".nii.gz", ".nii"):
        if file.name.lower().endswith(ending):
            return file.name[: -len(ending)]
    return file.stem if _known_ending(file) else file.name


def _known_ending(file: Path) -> bool:
    return file.suffix.lower() in (*PICTURES, ".h5", ".hdf5", ".dcm")


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
