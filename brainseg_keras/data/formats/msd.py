"""The layout of the Medical Segmentation Decathlon: `imagesTr/`, `labelsTr/` and dataset.json."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from brainseg_keras.data.formats.nifti_patients import ENDING, NiftiPatient, NiftiVolumes, rows_of_volumes
from brainseg_keras.data.manifest import Progress, table_of_patients
from brainseg_keras.data.modalities import standard_name
from brainseg_keras.errors import InputError


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
    folders = [path, *(sorted(path.iterdir()) if path.is_dir() else [])]
    return next((p for p in folders if (p / "dataset.json").is_file() and (p / "labelsTr").is_dir()), None)


def read_msd(
    path: str | Path,
    *,
    modalities: Sequence[str] | None = None,
    labels: str | None = None,
    checksums: bool = False,
    skipped: dict[str, str] | None = None,
    progress: Progress = iter,
) -> tuple[pd.DataFrame, Path]:
    """List the slices of a Medical Segmentation Decathlon task: `imagesTr/`, `labelsTr/` and dataset.json.

    Args:
        path: The folder of dataset.json.
        modalities: Sequences to read; None reads all of dataset.json.
        labels: Scheme of the labels; None is msd, that of Task01_BrainTumour.
        checksums: Also read the images and fill the sha256 columns.
        skipped: Filled with the patients whose files are wrong, and why, who are then left out; None refuses them.
        progress: Wraps the list of patients, to show how far it is.

    Returns:
        Rows of a manifest with an empty `split`, and the folder.

    Raises:
        InputError: No such layout, or a dataset.json that does not say its sequences.

    Reference:
        Antonelli et al. 2022, The Medical Segmentation Decathlon, doi 10.1038/s41467-022-30695-9.
    """
    root = find_msd_root(path)
    if root is None:
        raise InputError(f"{path} is not a Decathlon task. Expected dataset.json, imagesTr/ and labelsTr/ in it.")
    try:
        names = json.loads((root / "dataset.json").read_text(encoding="utf-8"))["modality"]
        channels = [standard_name(str(names[key])) for key in sorted(names, key=int)]
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
        patient = NiftiPatient(ENDING.sub("", label.name), files, f"labelsTr/{label.name}")
        return rows_of_volumes(patient, root, "msd", scheme, checksums)

    found = {f.name: f for f in sorted((root / "labelsTr").glob("*.nii*")) if not f.name.startswith(".")}
    return table_of_patients(found, read, skipped, progress), root


class Decathlon(NiftiVolumes):
    """A task of the Decathlon, to train on."""

    name = "msd"
    layout = "dataset.json, imagesTr/, labelsTr/"
    list_options = ("modalities", "labels")
    list_slices = staticmethod(read_msd)

    def detect(self, folder: Path) -> bool:
        """Look for dataset.json and the labels."""
        return find_msd_root(folder) is not None
