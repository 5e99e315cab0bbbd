"""NIfTI volumes with their labels: BraTS folders of any year, and names of one's own; and volumes to segment."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from brainseg_keras.data.decode.brats_slices import BRATS_CHANNELS
from brainseg_keras.data.decode.nifti import read_nifti
from brainseg_keras.data.formats.base import Group, Pixels, ScanFormat, check_shapes
from brainseg_keras.data.formats.nifti_patients import ENDING, NiftiPatient, NiftiVolumes, rows_of_volumes
from brainseg_keras.data.labels import check_scheme
from brainseg_keras.data.manifest import Progress, table_of_patients
from brainseg_keras.data.modalities import split_modality, standard_name
from brainseg_keras.data.phantom.brats import NIFTI_FOLDERS, write_brats_phantom
from brainseg_keras.errors import InputError
from brainseg_keras.files import printable

_LABEL = re.compile(r"^(?P<rest>.*?)(?P<sign>[_\-.])?(seg|label|labels|mask)$", re.IGNORECASE)
#: Order of the channels, where the user names none.
_ORDER = {name: index for index, name in enumerate(BRATS_CHANNELS)}
_log = logging.getLogger(__name__)


def read_nifti_folders(
    path: str | Path,
    *,
    modalities: Sequence[str] | None = None,
    labels: str | None = None,
    image_pattern: str | None = None,
    label_pattern: str | None = None,
    checksums: bool = False,
    skipped: dict[str, str] | None = None,
    progress: Progress = iter,
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
        progress: Wraps the list of patients, to show how far it is.

    Returns:
        Rows of a manifest with an empty `split`, and the folder.

    Raises:
        InputError: No such files, a patient without labels or without a sequence, labels that the scheme does not know.
    """
    root = Path(path)
    files = [
        file.relative_to(root).as_posix()
        for file in sorted(root.rglob("*.nii*"))
        if ENDING.search(file.name) and not any(part.startswith(".") for part in file.relative_to(root).parts)
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
        modalities or sorted({m for own in images.values() for m in own}, key=lambda m: (_ORDER.get(m, len(_ORDER)), m))
    )
    names = {name: name for name in sorted(images.keys() | truth.keys())}

    def read(name: str) -> list[dict]:
        patient = _complete(name, images.get(name, {}), truth.get(name), wanted, root)
        return rows_of_volumes(patient, root, "nifti", labels, checksums)

    return table_of_patients(names, read, skipped, progress), root


def _by_pattern(files: list[str], image_pattern: str, label_pattern: str) -> tuple[dict, dict[str, str]]:
    image, label = _compile(image_pattern, ("patient", "modality")), _compile(label_pattern, ("patient",))
    images: dict[str, dict[str, str]] = {}
    truth: dict[str, str] = {}
    for file in files:
        if match := label.fullmatch(file):
            _once(truth, match["patient"], file, "labels")
        elif match := image.fullmatch(file):
            name = standard_name(match["modality"])
            _once(images.setdefault(match["patient"], {}), name, file, name)
    return images, truth


def _by_name(files: list[str], labels: str | None, root: Path) -> tuple[dict, dict[str, str], str | None]:
    images: dict[str, dict[str, str]] = {}
    truth: dict[str, str] = {}
    signs = set()
    for file in files:
        folder, _, name = file.rpartition("/")
        stem = ENDING.sub("", name)
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
        raise InputError(f"{pattern!r} is not a regular expression ({error}).") from error
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


class Nifti(NiftiVolumes, ScanFormat):
    """Volumes a sequence with one of labels, to train on; and volumes to segment."""

    name = "nifti"
    layout = "<patient>_flair.nii.gz with <patient>_seg.nii.gz, and the like"
    list_options = ("modalities", "labels", "image_pattern", "label_pattern")
    named_by = ("image_pattern", "label_pattern")
    phantom = NIFTI_FOLDERS.folder
    endings = (".nii", ".nii.gz")
    list_slices = staticmethod(read_nifti_folders)

    def detect(self, folder: Path) -> bool:
        """Look for volumes at any depth."""
        return next(folder.rglob("*.nii*"), None) is not None

    def write_phantom(self, dest: str | Path, **numbers: int) -> Path:
        """See `data.phantom.brats.write_brats_phantom`."""
        return write_brats_phantom(dest, **numbers, layouts=(NIFTI_FOLDERS,))

    def group(self, files: Sequence[Path], folder: Path) -> list[Group]:
        """Put the sequences of a patient together, whose files' names differ in the sequence alone."""
        named: dict[str, list[tuple[str, Path]]] = {}
        nameless = []
        for file in files:
            rest, modality = split_modality(self.stem(file))
            if modality:
                named.setdefault(rest, []).append((modality, file))
            else:
                nameless.append(file)
        groups = []
        for rest, members in named.items():
            names = tuple(modality for modality, _ in members)
            if len(members) > 1 and len(set(names)) == len(names):
                # What stands after the sequence is how a file was made, and not whose it is.
                begins = rest and self.stem(members[0][1]).startswith(rest)
                stem = rest if begins else "_".join(part for part in (folder.name, rest) if part)
                groups.append(Group(tuple(file for _, file in members), (stem,), names))
            else:
                groups += [Group((file,), (self.stem(file),), (name,)) for name, file in members]
        if nameless and any(len(group.files) > 1 for group in groups):
            # Beside sequences that belong together, what names none is a mask or a map, not another scan.
            _log.warning(
                "%s: %d volumes that name no sequence are passed over beside those that do, the first is %s. To "
                "segment them, name the files.",
                printable(folder),
                len(nameless),
                printable(nameless[0].name),
            )
            nameless = []
        return groups + [self.slices([file]) for file in nameless]

    def decode(self, files: Sequence[Path]) -> Pixels:
        """Read volumes as sequences of one."""
        volumes = [read_nifti(file) for file in files]
        check_shapes([volume.images for volume in volumes], files)
        images = np.concatenate([volume.images for volume in volumes], axis=-1)
        return Pixels(images, None, volumes[0].spacing, volumes[0].frame)

    def mask_ending(self, file: Path) -> str:
        """Give the file's own ending."""
        return ".nii" if file.name.lower().endswith(".nii") else ".nii.gz"
