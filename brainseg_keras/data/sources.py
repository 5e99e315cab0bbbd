"""Whatever stands behind `--data`: a folder, a manifest, a packed store, or the word phantom."""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from brainseg_keras.cache import cache_folder
from brainseg_keras.data.formats.base import FolderFormat
from brainseg_keras.data.formats.registry import FOLDER_FORMATS
from brainseg_keras.data.manifest import Progress, read_manifest
from brainseg_keras.data.modalities import names_of
from brainseg_keras.data.phantom import brats as brats_phantom
from brainseg_keras.data.phantom import lgg as lgg_phantom
from brainseg_keras.data.splits import assign_splits, has_fixed_split
from brainseg_keras.data.store import StoredVolumes
from brainseg_keras.data.volumes import FileVolumes, SelectedChannels, VolumeSource
from brainseg_keras.errors import InputError
from brainseg_keras.files import expand

_log = logging.getLogger(__name__)


def open_source(
    path: str | Path,
    *,
    format: str | None = None,
    root: str | Path | None = None,
    seed: int | None = 0,
    modalities: Sequence[str] | str | None = None,
    labels: str | None = None,
    image_pattern: str | None = None,
    label_pattern: str | None = None,
    progress: Progress = iter,
) -> VolumeSource:
    """Open a data set.

    Args:
        path: A folder of a known layout, a manifest CSV, a packed `.h5`, or `phantom` (made once and kept; with
            `format="brats-h5"` or `"nifti"` that of four sequences and three classes).
        format: Layout of a folder, a key of `FOLDER_FORMATS`; None detects it.
        root: Folder of the images that a manifest lists, where it is not the manifest's own.
        seed: Of the split by patient, where neither the data nor this package fixes one; None leaves the patients of a
            folder in no split.
        modalities: Sequences to read, in this order, as names or as one text with commas; None reads all. Of pairs, the
            names of the pictures' channels.
        labels: What the labels of NIfTI volumes or pairs mean: brats2020, brats2023, brats2015, msd or binary.
        image_pattern: How images are named; see `read_nifti_folders` and `read_pairs`.
        label_pattern: How labels are named.
        progress: Wraps the list of patients of a folder, whose masks are read, to show how far it is.

    Returns:
        A source of volumes.

    Raises:
        InputError: Nothing there, an unknown layout, files that are wrong, or an option that means nothing for them.

    Example:
        >>> open_source("phantom").channels
        ('T1', 'FLAIR', 'T1ce')
    """
    modalities = names_of(modalities)
    given = given_options(
        format=format,
        root=root,
        modalities=modalities,
        labels=labels,
        image_pattern=image_pattern,
        label_pattern=label_pattern,
    )
    if str(path) == "phantom":
        path = cached_phantom(format or "lgg")
    path = Path(expand(path, "data"))
    if path.suffix.lower() in (".h5", ".hdf5") and not path.is_dir():
        refuse_options(given, ("modalities",), f"{path} is a packed data set")
        return _select(StoredVolumes(path), modalities)
    if path.suffix.lower() == ".csv":
        refuse_options(given, ("modalities", "root"), f"{path} is a manifest")
        return _from_manifest(path, root, modalities)
    table, folder = list_folder(path, given, progress=progress)
    if seed is None:
        return source_of(table, folder, modalities)
    table, unnamed = assign_splits(table, seed=seed)
    if unnamed:
        _log.warning(
            "%d patients are not in the fixed split and left out of train, val and test (--split all reads them): %s",
            len(unnamed),
            ", ".join(unnamed),
        )
    return source_of(table, folder, modalities, seeded=not has_fixed_split(table))


def list_slices(
    path: str | Path,
    *,
    format: str | None = None,
    modalities: Sequence[str] | str | None = None,
    labels: str | None = None,
    image_pattern: str | None = None,
    label_pattern: str | None = None,
    checksums: bool = False,
    skipped: dict[str, str] | None = None,
    progress: Progress = iter,
) -> tuple[pd.DataFrame, Path]:
    """List the slices of a folder of any known layout.

    Args:
        path: The folder.
        format: Its layout; None detects it.
        modalities: See `open_source`.
        labels: See `open_source`.
        image_pattern: See `open_source`.
        label_pattern: See `open_source`.
        checksums: Also read the images and fill the sha256 columns.
        skipped: Filled with the patients whose files are wrong, and why, who are then left out; None refuses them.
        progress: Wraps the list of patients, to show how far it is.

    Returns:
        Rows of a manifest with an empty `split`, and the folder to which their paths are relative.

    Raises:
        InputError: Nothing there, an unknown layout, files that are wrong, or an option that the list does not need.
    """
    given = given_options(
        format=format,
        modalities=names_of(modalities),
        labels=labels,
        image_pattern=image_pattern,
        label_pattern=label_pattern,
    )
    layout = _layout_of(Path(path), given)
    if "modalities" in given and "modalities" not in layout.list_options:
        raise InputError(
            f"The files of the format {layout.name} hold all sequences, so that a list of them takes no --modalities. "
            "Leave it out, and give it where the list is read."
        )
    return list_folder(path, given, checksums=checksums, skipped=skipped, progress=progress)


def given_options(**options: Any) -> dict[str, Any]:
    """Keep the options that somebody gave.

    Args:
        **options: Keywords of `open_source`, None where nothing was given.

    Returns:
        The others.

    Example:
        >>> given_options(format="lgg", labels=None)
        {'format': 'lgg'}
    """
    return {name: value for name, value in options.items() if value is not None}


def list_folder(
    path: str | Path,
    given: dict[str, Any],
    *,
    checksums: bool = False,
    skipped: dict[str, str] | None = None,
    progress: Progress = iter,
) -> tuple[pd.DataFrame, Path]:
    """List the slices of a folder that is to be read.

    Args:
        path: The folder.
        given: Options as from `given_options`.
        checksums: See `list_slices`.
        skipped: See `list_slices`.
        progress: See `list_slices`.

    Returns:
        Rows of a manifest with an empty `split`, and the folder to which their paths are relative.

    Raises:
        InputError: Nothing there, an unknown layout, files that are wrong, or an option that the format does not take.
    """
    layout = _layout_of(Path(path), given)
    refuse_options(given, ("format", *layout.options), f"{path} is read in the format {layout.name}")
    options = {name: given[name] for name in layout.list_options if name in given}
    return layout.list_slices(Path(path), checksums=checksums, skipped=skipped, progress=progress, **options)


def refuse_options(given: dict[str, Any], taken: Iterable[str], what: str) -> None:
    """Refuse options that mean nothing for what is read.

    Args:
        given: Options as from `given_options`.
        taken: Those that mean something.
        what: Begins the message: what is read.

    Raises:
        InputError: Any other was given.
    """
    for name in [name for name in given if name not in taken]:
        formats = [format.name for format in FOLDER_FORMATS.values() if name in format.options]
        takers = {"root": "a manifest (.csv)", "format": "a folder"}.get(name) or f"the format {' or '.join(formats)}"
        raise InputError(
            f"{what}, which takes no --{name.replace('_', '-')}. Received: {given[name]!r}. Leave it out; only "
            f"{takers} takes it."
        )


def _layout_of(path: Path, given: dict[str, Any]) -> FolderFormat:
    format = given.get("format")
    if format not in (None, *FOLDER_FORMATS):
        raise InputError(f"format is one of {', '.join(FOLDER_FORMATS)}. Received: {format!r}.")
    if not path.is_dir():
        raise InputError(
            f"No such folder: {path}. --data takes a folder of MRI slices, a manifest (.csv), a packed data set (.h5), "
            "or the word phantom."
        )
    if format:
        return FOLDER_FORMATS[format]
    layouts = list(FOLDER_FORMATS.values())
    named = [layout for layout in layouts if layout.named_by and given.keys() >= set(layout.named_by)]
    found = next(iter(named), None) or next((layout for layout in layouts if layout.detect(path)), None)
    if found is None:
        lines = "".join(f"\n  {layout.name:<9} {layout.layout}" for layout in layouts)
        raise InputError(f"{path} holds no layout that is known here. Expected one of:{lines}")
    return found


def source_of(
    table: pd.DataFrame, root: Path, modalities: Sequence[str] | None = None, *, seeded: bool = False
) -> VolumeSource:
    """Give the volumes of a table, read as its column `dataset` says.

    Args:
        table: Rows of a manifest.
        root: Folder to which their paths are relative.
        modalities: Sequences to read, in this order; of pairs names for the channels. None reads all.
        seeded: Whether the splits were drawn from a seed.

    Returns:
        A source of volumes.

    Raises:
        InputError: An unknown dataset, or several.
    """
    layout, scheme = _dataset_of(table)
    contents = layout.contents(table, root, scheme, modalities)
    volumes = FileVolumes(
        table,
        root,
        contents.channels,
        classes=contents.classes,
        read=contents.read,
        seeded=seeded,
        files=layout.files,
    )
    return _select(volumes, modalities)


def _dataset_of(table: pd.DataFrame) -> tuple[FolderFormat, str]:
    """Look up the format of a manifest, and the scheme of its labels."""
    kind, _, scheme = table.dataset.iloc[0].partition(":")
    if table.dataset.nunique() > 1:
        raise InputError(f"A manifest is of one dataset. Received: {', '.join(sorted(table.dataset.unique()))}.")
    if kind not in FOLDER_FORMATS:
        known = [name + ":<labels>" * ("labels" in layout.options) for name, layout in FOLDER_FORMATS.items()]
        raise InputError(f"A manifest's dataset is {' or '.join(known)}. Received: {kind!r}.")
    return FOLDER_FORMATS[kind], scheme


def _select(source: VolumeSource, modalities: Sequence[str] | None) -> VolumeSource:
    if not modalities or tuple(modalities) == tuple(source.channels):
        return source
    return SelectedChannels(source, modalities)


def _from_manifest(path: Path, root: str | Path | None, modalities: Sequence[str] | None) -> VolumeSource:
    table = read_manifest(path)
    folder = Path(expand(root, "root")) if root is not None else path.parent
    entry = _dataset_of(table)[0].files(table.image[0])[0]
    first = folder / entry
    if not first.is_file():
        raise InputError(
            f"{path} lists {first}, which is not there. Say where the images are: --root DIR, the folder that holds "
            f"{entry}."
        )
    return source_of(table, folder, modalities)


def cached_phantom(format: str = "lgg") -> Path:
    """Give the folder of the phantom, made on first use under the user's cache folder.

    The folder's name holds a checksum of the generator's code, so that a phantom of another version is never met.
    `BRAINSEG_CACHE` names another place.

    Args:
        format: One that has a phantom: `lgg`; `brats-h5` or `nifti` for that of four sequences and three classes.

    Returns:
        Folder in that layout.

    Raises:
        InputError: No phantom of that format.

    Example:
        >>> (cached_phantom() / "kaggle_3m" / "data.csv").is_file()
        True
    """
    layouts = {name: layout for name, layout in FOLDER_FORMATS.items() if layout.phantom}
    if format not in layouts:
        raise InputError(f"There is a phantom of the formats {', '.join(layouts)}. Received: {format!r}.")
    layout = layouts[format]
    code = b"".join(Path(module.__file__).read_bytes() for module in (lgg_phantom, brats_phantom))
    digest = hashlib.sha256(code).hexdigest()[:12]
    folder = cache_folder() / f"phantom-{format}-{digest}"
    if not (folder / layout.phantom).is_dir():
        try:
            layout.write_phantom(folder)
        except InputError:
            # Another process was faster: its phantom is the same one.
            if not (folder / layout.phantom).is_dir():
                raise
    return folder
