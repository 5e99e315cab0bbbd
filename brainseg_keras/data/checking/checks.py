"""check_data(): a data set examined before an hour of training is spent on it."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from brainseg_keras.data.checking.findings import Finding, Picture, check_volume
from brainseg_keras.data.decode.images import pixel_checksum
from brainseg_keras.data.formats.registry import FOLDER_FORMATS
from brainseg_keras.data.labels import CLASSES
from brainseg_keras.data.manifest import COLUMNS, SPLITS, Progress, read_manifest
from brainseg_keras.data.modalities import flair_index, names_of
from brainseg_keras.data.sources import given_options, list_folder, open_source, refuse_options, source_of
from brainseg_keras.data.splits import assign_splits
from brainseg_keras.data.volumes import FileVolumes, VolumeSource
from brainseg_keras.errors import InputError

#: Side of the thumbnails that are compared.
_SIDE = 24
#: Likeness of the edges, and correlation of the thumbnails, from which two slices are nearly the same.
_EDGES = 0.8
_CORRELATION = 0.995
#: Directions along which thumbnails are first compared.
_DIRECTIONS = 12
#: Pairs of patients whose slices are shown.
_SHOWN = 20
_log = logging.getLogger(__name__)


def check_data(
    path: str | Path,
    *,
    root: str | Path | None = None,
    seed: int = 0,
    progress: Progress = iter,
    listing: Progress = iter,
    **layout: Any,
) -> list[Finding]:
    """Look for what spoils a training or its scores.

    Args:
        path: A folder, manifest or packed data, as for `open_source`.
        root: Folder of the images that a manifest lists.
        seed: Of the split by patient, where none is fixed.
        progress: Wraps the list of patients that are checked, to show how far it is.
        listing: Wraps that of the patients of a folder, which are listed first.
        **layout: How a folder is read; see `open_source`.

    Returns:
        Findings, errors first. Patients in two splits; one slice under two patients, also when it was turned into
        another file format; files that cannot be read and masks that are none; masks outside the head, or shifted;
        classes missing in a split; blank and saturated slices; labels of another scheme; one sequence copied into
        another; spacing or orientation that differ between patients.

    Raises:
        InputError: There is no data set at all.

    Example:
        >>> [finding.severity for finding in check_data("phantom") if finding.severity == "error"]
        []
    """
    findings: list[Finding] = []
    source = _open(path, root, seed, layout, findings, listing)
    if source is None:
        return findings
    prints: list[pd.DataFrame] = []
    geometries: list[dict[str, Any]] = []
    present: dict[str, np.ndarray] = {}
    first = source.table.drop_duplicates("patient").set_index("patient")
    for patient in progress(sorted(first.index)):
        try:
            volume = source.volume(patient)
        except InputError as error:
            findings.append(Finding("unreadable", "error", str(error), (patient,)))
            continue
        findings += check_volume(volume, source.channels, source.classes)
        prints.append(_fingerprints(volume, source.channels))
        present[patient] = np.bincount(volume.masks.ravel(), minlength=len(source.classes) + 1) > 0
        orientation = _orientation(source, first.loc[patient])
        geometries.append({"patient": patient, "spacing": volume.spacing, "orientation": orientation})
    if prints:
        findings += _same_slices(pd.concat(prints, ignore_index=True), source)
        findings += _differing(pd.DataFrame(geometries))
        findings += _missing_classes(source, present)
    order = {"error": 0, "warning": 1, "note": 2}
    return sorted(findings, key=lambda found: (order[found.severity], found.check, found.patients))


def _open(
    path: str | Path, root: str | Path | None, seed: int, layout: dict, findings: list[Finding], listing: Progress
) -> VolumeSource | None:
    """Open what can be opened; what cannot becomes a finding."""
    path = Path(path) if str(path) != "phantom" else path
    given = given_options(**layout | {"root": root, "modalities": names_of(layout.get("modalities"))})
    if isinstance(path, Path) and path.suffix.lower() == ".csv":
        refuse_options(given, ("modalities", "root"), f"{path} is a manifest")
        try:
            read_manifest(path)
        except InputError as error:
            if not path.is_file():
                raise
            table = _tolerant_manifest(path, findings, error)
            return None if table is None else source_of(table, Path(root or path.parent), given.get("modalities"))
    if not isinstance(path, Path) or path.suffix.lower() in (".csv", ".h5", ".hdf5"):
        return open_source(path, root=root, seed=seed, progress=listing, **layout)
    skipped: dict[str, str] = {}
    table, folder = list_folder(path, given, skipped=skipped, progress=listing)
    findings += [Finding("unreadable", "error", text, (name,)) for name, text in skipped.items()]
    if table.empty:
        return None
    try:
        table, _ = assign_splits(table, seed=seed)
    except InputError as error:
        findings.append(Finding("split", "warning", str(error)))
    return source_of(table, folder, given.get("modalities"))


def _tolerant_manifest(path: Path, findings: list[Finding], error: InputError) -> pd.DataFrame | None:
    """Read a manifest that was refused, so that all that is wrong is said at once."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False).astype({"slice": int, "tumour_pixels": int})
        table = table[list(COLUMNS)]
    except (ValueError, KeyError, UnicodeDecodeError):
        findings.append(Finding("manifest", "error", str(error)))
        return None
    splits = table.groupby("patient").split.nunique()
    for patient in splits[splits > 1].index:
        own = ", ".join(sorted(table.split[table.patient == patient].unique()))
        text = f"{patient} stands in {own}. Its slices resemble each other, so that scores are too high. Give it one."
        findings.append(Finding("patient-in-two-splits", "error", text, (patient,)))
    if not (splits > 1).any():
        findings.append(Finding("manifest", "error", str(error)))
    return table.drop_duplicates(["patient", "slice"]) if len(table) else None


def _fingerprints(volume: Any, channels: tuple[str, ...]) -> pd.DataFrame:
    """Make a row a slice that is not blank: checksum, thumbnail, perceptual hash."""
    index = flair_index(channels)
    low, high = volume.intensity[index]
    rows = []
    for number, image in zip(volume.slices, volume.images, strict=True):
        scaled = np.clip((np.float32(image[..., index]) - low) / max(float(high - low), 1e-6), 0, 2)
        # Slices above and below the brain look alike in all patients.
        if (scaled > 0.1).mean() < 0.08:
            continue
        small = cv2.resize(scaled, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        row = {
            "patient": volume.patient,
            "slice": number,
            "sha256": pixel_checksum(image),
            "thumbnail": (small - small.mean()).ravel() / max(float(small.std()), 1e-6) / _SIDE,
            "hash": _edge_signs(small),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def _edge_signs(small: np.ndarray) -> np.ndarray:
    """Hash a thumbnail by the sign of its gradient: what neither contrast nor noise changes. Flat parts are 0."""
    steps = np.concatenate([np.diff(small, axis=1).ravel(), np.diff(small, axis=0).ravel()])
    signs = np.sign(np.where(np.abs(steps) > 0.03, steps, 0)).astype(np.float32)
    return signs / max(float(np.linalg.norm(signs)), 1.0)


def _picture(source: VolumeSource, patient: str, number: int) -> Picture:
    """Read a slice again to show it: those of all patients would not fit into memory."""
    volume = source.volume(patient)
    index = volume.slices.index(number)
    return Picture(f"{patient}, slice {number}", volume.images[index], volume.masks[index])


def _alike(codes: np.ndarray, thumbnails: np.ndarray, owner: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """Give the pairs of slices of two patients that are nearly the same, and how much they are.

    Thumbnails have length 1, so that those which correlate lie near each other, also seen along any few directions: a
    tree finds them, where to compare all with all would take the square of their number.
    """
    reach = np.sqrt(2 * (1 - _CORRELATION)) + 1e-4
    _, directions = np.linalg.eigh(thumbnails.T @ thumbnails)
    pairs = KDTree(thumbnails @ directions[:, -_DIRECTIONS:]).query_pairs(reach, output_type="ndarray")
    pairs = pairs[owner[pairs[:, 0]] != owner[pairs[:, 1]]]
    for first, second in pairs[np.lexsort(pairs.T[::-1])]:
        if codes[first] @ codes[second] >= _EDGES:
            likeness = float(thumbnails[first] @ thumbnails[second])
            if likeness >= _CORRELATION:
                yield int(first), int(second), likeness


def _same_slices(prints: pd.DataFrame, source: VolumeSource) -> list[Finding]:
    """Find slices of two patients that are one: by checksum, or by perceptual hash and then by correlation."""
    if prints.empty or prints.patient.nunique() < 2:
        return []
    owner = prints.patient.to_numpy()
    split = source.table.drop_duplicates("patient").set_index("patient").split
    pairs: dict[tuple[str, str], list[tuple[int, int, float]]] = {}
    for a, b, likeness in _alike(np.stack(prints["hash"]), np.stack(prints.thumbnail), owner):
        pairs.setdefault((owner[a], owner[b]), []).append((a, b, likeness))
    findings = []
    for (first, second), found in pairs.items():
        a, b, likeness = max(found, key=lambda pair: pair[2])
        exact = prints.sha256[a] == prints.sha256[b]
        crosses = split.get(first) != split.get(second)
        text = (
            f"{first}, slice {prints.slice[a]}, and {second}, slice {prints.slice[b]}, are "
            f"{'the same' if exact else f'nearly the same (correlation {likeness:.4f})'}, and {len(found) - 1} more"
            f"{f': {split.get(first)} and {split.get(second)}' if crosses else ''}. They are probably one patient: "
            "give both one name, or leave one out."
        )
        pictures = ()
        if len(findings) < _SHOWN:
            pictures = tuple(_picture(source, prints.patient[index], prints.slice[index]) for index in (a, b))
        findings.append(
            Finding("same-slice", "error" if crosses else "warning", text, tuple(sorted((first, second))), pictures)
        )
    return findings


def _orientation(source: VolumeSource, row: pd.Series) -> str:
    """Say which way the axes of a patient's NIfTI file run; slices are turned when they are read."""
    layout = FOLDER_FORMATS.get(str(row["dataset"]).partition(":")[0])
    return layout.orientation(source.root / row["mask"]) if layout and isinstance(source, FileVolumes) else ""


def _differing(geometries: pd.DataFrame) -> list[Finding]:
    """Name the patients whose spacing or orientation is not that of most."""
    geometries["spacing"] = [None if s is None else tuple(round(step, 2) for step in s) for s in geometries.spacing]
    what = {
        "spacing": ("warning", "mm between slices, rows and columns. Resample them, or score each with its own"),
        "orientation": (
            "note",
            "(right or left, anterior or posterior, superior or inferior); slices are turned alike",
        ),
    }
    findings = []
    for column, (severity, remark) in what.items():
        values = geometries[column].map(str)
        usual = values.mode().iloc[0]
        for value, group in geometries.groupby(values):
            if value != usual:
                names = ", ".join(group.patient[:5]) + (" and others" if len(group) > 5 else "")
                text = f"{names}: {column} {value}; most have {usual} {remark}."
                findings.append(Finding(column, severity, text, tuple(group.patient)))
    return findings


def _missing_classes(source: VolumeSource, present: dict[str, np.ndarray]) -> list[Finding]:
    names = source.classes if source.classes == CLASSES else ("tumour",)
    splits = source.table.drop_duplicates("patient").set_index("patient").split
    findings = []
    for split in SPLITS:
        members = [patient for patient in present if splits.get(patient) == split]
        if not members:
            continue
        seen = np.any([present[patient][1 : len(names) + 1] for patient in members], axis=0)
        missing = [name for name, there in zip(names, seen, strict=True) if not there]
        if missing:
            cannot = "learned" if split == "train" else "scored"
            text = (
                f"No {split} patient has any {', '.join(missing)}: it cannot be {cannot}. Split anew, or merge classes."
            )
            findings.append(Finding("missing-class", "error" if split == "train" else "warning", text))
    return findings
