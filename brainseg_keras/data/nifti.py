"""Readers of NIfTI volumes with their labels: BraTS folders of any year, own naming, and the Decathlon's layout."""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from brainseg_keras.data.images import pixel_checksum
from brainseg_keras.data.labels import check_scheme, read_labels
from brainseg_keras.data.manifest import COLUMNS, rows_of_patients
from brainseg_keras.data.medical import BRATS_CHANNELS, NiftiVolume, read_nifti
from brainseg_keras.data.modalities import SPELLINGS, split_modality
from brainseg_keras.data.volumes import PatientPixels
from brainseg_keras.errors import InputError

_ENDING = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_LABEL = re.compile(r"^(?P<rest>.*?)(?P<sign>[_\-.])?(seg|label|labels|mask)$", re.IGNORECASE)
#: Order of the channels, where the user names none.
_ORDER = {name: place for place, name in enumerate(BRATS_CHANNELS)}


class NiftiPatient(NamedTuple):
    """Files of one patient below the root."""

    name: str
    images: dict[str, str]  # sequence: path, with #k for the k-th of a file of several
    label: str


def read_nifti_folders(
    path: str | Path,
    *,
    modalities: Sequence[str] | None = None,
    labels: str | None = None,
    image_pattern: str | None = None,
    label_pattern: str | None = None,
    checksums: bool = False,
    skipped: dict[str, str] | None = None,
) -> tuple[pd.DataFrame, Path]:
    """List the slices of NIfTI volumes, one file a sequence and one of labels for each patient.

    Known without patterns: `<patient>_flair.nii.gz` with `<patient>_seg.nii.gz` (BraTS to 2020), `<patient>-t2f.nii.gz`
    with `<patient>-seg.nii.gz` (from 2023), in folders a patient or all in one.

    Args:
        path: The folder.
        modalities: Sequences to read, in this order; None reads those that are there, and then every patient has all.
        labels: Scheme of the labels, a key of `data.labels.SCHEMES`; None takes brats2020 for `_seg`, brats2023 for
            `-seg`, and else asks.
        image_pattern: Regular expression of the images' paths below the folder, with the groups `patient` and
            `modality`.
        label_pattern: The same for the labels, with the group `patient`.
        checksums: Also read the images and fill the sha256 columns.
        skipped: Filled with the patients whose files are wrong, and why, who are then left out; None refuses them.

    Returns:
        Rows of a manifest with an empty `split`, and the folder.

    Raises:
        InputError: No such files, a patient without labels or without a sequence, labels that the scheme does not know.
    """
    root = Path(path)
    files = [
        file.relative_to(root).as_posix()
        for file in sorted(root.rglob("*.nii*"))
        if _ENDING.search(file.name) and not any(part.startswith(".") for part in file.relative_to(root).parts)
    ]
    if bool(image_pattern) != bool(label_pattern):
        raise InputError("--image-pattern and --label-pattern come together: images alone have no truth.")
    if image_pattern:
        images, truth = _by_pattern(files, image_pattern, label_pattern)
    else:
        images, truth, labels = _by_name(files, labels, root)
    if not images or not truth:
        raise InputError(
            f"{root} holds no NIfTI volumes with labels. Expected <patient>_flair.nii.gz with <patient>_seg.nii.gz, or "
            "say how they are named: --image-pattern and --label-pattern."
        )
    if labels is None:
        raise InputError(
            f"Say what the labels in {root} mean: --labels brats2020, brats2023, brats2015, msd or binary."
        )
    check_scheme(labels)
    wanted = list(
        modalities or sorted({m for own in images.values() for m in own}, key=lambda m: (_ORDER.get(m, 9), m))
    )
    names = {name: name for name in sorted(images.keys() | truth.keys())}

    def read(name: str) -> list[dict]:
        patient = _complete(name, images.get(name, {}), truth.get(name), wanted, root)
        return _rows(patient, root, f"nifti:{labels}", labels, checksums)

    return pd.DataFrame(rows_of_patients(names, read, skipped), columns=list(COLUMNS)), root


def _by_pattern(files: list[str], image_pattern: str, label_pattern: str) -> tuple[dict, dict[str, str]]:
    image, label = _compile(image_pattern, ("patient", "modality")), _compile(label_pattern, ("patient",))
    images: dict[str, dict[str, str]] = {}
    truth: dict[str, str] = {}
    for file in files:
        if match := label.fullmatch(file):
            _once(truth, match["patient"], file, "labels")
        elif match := image.fullmatch(file):
            name = SPELLINGS.get(match["modality"].lower(), match["modality"])
            _once(images.setdefault(match["patient"], {}), name, file, name)
    return images, truth


def _by_name(files: list[str], labels: str | None, root: Path) -> tuple[dict, dict[str, str], str | None]:
    images: dict[str, dict[str, str]] = {}
    truth: dict[str, str] = {}
    signs = set()
    for file in files:
        folder, _, name = file.rpartition("/")
        stem = _ENDING.sub("", name)
        rest, modality = split_modality(stem)
        if match := _LABEL.match(stem):
            _once(truth, match["rest"] or folder, file, "labels")
            signs.add((match["sign"] or "") + stem[-3:].lower())
        elif modality:
            _once(images.setdefault(rest or folder, {}), modality, file, modality)
    if labels is None:
        labels = {frozenset({"_seg"}): "brats2020", frozenset({"-seg"}): "brats2023"}.get(frozenset(signs))
    return images, truth, labels


def _compile(pattern: str, groups: Sequence[str]) -> re.Pattern:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"{pattern!r} is no regular expression ({error}).") from error
    missing = [group for group in groups if group not in compiled.groupindex]
    if missing:
        example = "".join(f"(?P<{group}>...)" for group in groups)
        raise InputError(f"{pattern!r} lacks the group {', '.join(missing)}. Expected {example} in it.")
    return compiled


def _once(target: dict[str, str], key: str, file: str, what: str) -> None:
    if key in target:
        raise InputError(f"{target[key]} and {file} are both the {what} of one patient. Keep one, or give patterns.")
    target[key] = file


def _complete(name: str, own: dict[str, str], label: str | None, wanted: list[str], root: Path) -> NiftiPatient:
    """Bring a patient's sequences and labels together; refuse one that lacks any."""
    missing = [modality for modality in wanted if modality not in own]
    if missing:
        raise InputError(
            f"Patient {name} in {root} has no {', '.join(missing)}; it has {', '.join(own) or 'labels alone'}. "
            f"Bring the file, remove the patient, or leave the sequence out of all: --modalities "
            f"{','.join(modality for modality in wanted if modality in own) or 'FLAIR'}."
        )
    if label is None:
        raise InputError(f"Patient {name} in {root} has no labels. Bring the file, or remove the patient.")
    return NiftiPatient(name, {modality: own[modality] for modality in wanted}, label)


def find_msd_root(path: str | Path) -> Path | None:
    """Find the folder of a Decathlon task: that of dataset.json.

    Args:
        path: That folder, or the one above it.

    Returns:
        The folder, or None.

    Example:
        >>> find_msd_root("no/such/folder") is None
        True
    """
    path = Path(path)
    places = [path, *(sorted(path.iterdir()) if path.is_dir() else [])]
    return next((p for p in places if (p / "dataset.json").is_file() and (p / "labelsTr").is_dir()), None)


def read_msd(
    path: str | Path,
    *,
    modalities: Sequence[str] | None = None,
    labels: str | None = None,
    checksums: bool = False,
    skipped: dict[str, str] | None = None,
) -> tuple[pd.DataFrame, Path]:
    """List the slices of a Medical Segmentation Decathlon task: `imagesTr/`, `labelsTr/` and dataset.json.

    Args:
        path: The folder of dataset.json.
        modalities: Sequences to read; None reads all of dataset.json.
        labels: Scheme of the labels; None is msd, that of Task01_BrainTumour.
        checksums: Also read the images and fill the sha256 columns.
        skipped: Filled with the patients whose files are wrong, and why, who are then left out; None refuses them.

    Returns:
        Rows of a manifest with an empty `split`, and the folder.

    Raises:
        InputError: No such layout, or a dataset.json that does not say its sequences.

    Reference:
        Antonelli et al. 2022, The Medical Segmentation Decathlon, doi 10.1038/s41467-022-30695-9.
    """
    root = find_msd_root(path)
    if root is None:
        raise InputError(f"{path} is no Decathlon task. Expected dataset.json, imagesTr/ and labelsTr/ in it.")
    try:
        names = json.loads((root / "dataset.json").read_text(encoding="utf-8"))["modality"]
        channels = [_msd_name(names[key]) for key in sorted(names, key=int)]
        if not channels:
            raise ValueError("there is none")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{root / 'dataset.json'} does not say its sequences in `modality` ({error}).") from error
    wanted, scheme = list(modalities or channels), labels or "msd"
    absent = [name for name in wanted if name not in channels]
    if absent:
        raise InputError(f"{root / 'dataset.json'} has no {', '.join(absent)}. It has {', '.join(channels)}.")

    def read(label: Path) -> list[dict]:
        if not (root / "imagesTr" / label.name).is_file():
            raise InputError(f"{label} has no image. Expected {root / 'imagesTr' / label.name}.")
        files = {name: f"imagesTr/{label.name}#{channels.index(name)}" for name in wanted}
        patient = NiftiPatient(_ENDING.sub("", label.name), files, f"labelsTr/{label.name}")
        return _rows(patient, root, f"msd:{scheme}", scheme, checksums)

    found = {f.name: f for f in sorted((root / "labelsTr").glob("*.nii*")) if not f.name.startswith(".")}
    return pd.DataFrame(rows_of_patients(found, read, skipped), columns=list(COLUMNS)), root


def _msd_name(name: str) -> str:
    return SPELLINGS.get(str(name).lower(), str(name))


def _rows(patient: NiftiPatient, root: Path, dataset: str, scheme: str, checksums: bool) -> list[dict]:
    image = "|".join(f"{name}={file}" for name, file in patient.images.items())
    volume = read_nifti(root / patient.label)
    masks = read_labels(volume.images[..., 0], scheme, str(root / patient.label))
    images = _read_images(image, root, volume)[0] if checksums else [None] * len(masks)
    return [
        {
            "dataset": dataset,
            "patient": patient.name,
            "slice": number,
            "image": image,
            "mask": patient.label,
            "split": "",
            "tumour_pixels": int((mask > 0).sum()),
            "image_sha256": pixel_checksum(pixels) if checksums else "",
            "mask_sha256": pixel_checksum(mask) if checksums else "",
        }
        for number, (pixels, mask) in enumerate(zip(images, masks, strict=True))
    ]


def sequences(entry: str) -> dict[str, str]:
    """Read the `image` column of a manifest of volumes.

    Args:
        entry: `FLAIR=a_flair.nii.gz|T1=a_t1.nii.gz`.

    Returns:
        Paths by sequence.

    Example:
        >>> sequences("FLAIR=a_flair.nii.gz|T1=a.nii.gz#1")
        {'FLAIR': 'a_flair.nii.gz', 'T1': 'a.nii.gz#1'}
    """
    return dict(part.split("=", 1) for part in entry.split("|") if "=" in part)


def read_nifti_patient(
    rows: pd.DataFrame, root: Path, channels: Sequence[str], scheme: str = "brats2020"
) -> PatientPixels:
    """Read one patient's volumes and labels, as axial slices in their shown orientation.

    Args:
        rows: Of the manifest, in the order of slices.
        root: Folder to which their paths are relative.
        channels: Sequences to read, in this order.
        scheme: Of the labels.

    Returns:
        The pixels, with the spacing of the header.

    Raises:
        InputError: A file that cannot be read, volumes that do not lie on one grid, a sequence that is missing.
    """
    row = rows.iloc[0]
    label = read_nifti(root / row["mask"])
    files = sequences(row["image"])
    absent = [name for name in channels if name not in files]
    if absent:
        raise InputError(f"Patient {row['patient']} has no {', '.join(absent)}. It has {', '.join(files)}.")
    images, spacing = _read_images("|".join(f"{name}={files[name]}" for name in channels), root, label)
    masks = read_labels(label.images[..., 0], scheme, str(root / row["mask"]))
    if images.min() == images.max():
        raise InputError(f"Every voxel of {root / row['image']} is {images.flat[0]}. Restore the file.")
    numbers = rows.slice.to_numpy()
    if numbers[-1] >= len(masks):
        raise InputError(f"{root / row['mask']} has {len(masks)} slices, but the manifest names slice {numbers[-1]}.")
    return PatientPixels(np.ascontiguousarray(images[numbers]), masks[numbers], spacing)


def orientation(path: Path) -> str:
    """Say which way a volume's axes run.

    Args:
        path: NIfTI file.

    Returns:
        Three letters, such as LPS.
    """
    import nibabel

    return "".join(nibabel.aff2axcodes(nibabel.load(path).affine))


def _read_images(entry: str, root: Path, label: NiftiVolume) -> tuple[np.ndarray, tuple[float, float, float]]:
    # A Decathlon file of four sequences is decoded once.
    read = lru_cache(maxsize=1)(read_nifti)
    volumes, spacing = [], None
    for file in sequences(entry).values():
        name, _, channel = file.partition("#")
        volume = read(root / name)
        _check_grid(volume, label, root / name)
        count = volume.images.shape[-1]
        if channel and not (channel.isdecimal() and int(channel) < count):
            raise InputError(f"{root / name} holds {count} sequences, from #0 on. Received: #{channel}.")
        volumes.append(volume.images[..., int(channel or 0)])
        spacing = volume.spacing
    return np.stack(volumes, axis=-1), spacing


def _check_grid(volume: NiftiVolume, label: NiftiVolume, file: Path) -> None:
    # To a hundredth of a millimetre: headers are written by many hands, in single precision.
    affines = volume.frame.image.affine, label.frame.image.affine
    if volume.images.shape[:3] != label.images.shape[:3] or not np.allclose(*affines, atol=1e-2):
        raise InputError(
            f"{file} and its labels do not lie on one grid: {volume.images.shape[:3]} slices, rows and columns against "
            f"{label.images.shape[:3]}, or another affine. Resample one onto the other."
        )
