"""Whatever stands behind `--data`: a folder, a manifest, a packed store, or the word phantom."""

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from brainseg_keras.data import phantom, phantom_brats
from brainseg_keras.data.brats import find_brats_root, read_brats, read_brats_patient
from brainseg_keras.data.labels import CLASSES, scheme_classes
from brainseg_keras.data.lgg import CHANNELS, find_lgg_root, read_lgg
from brainseg_keras.data.manifest import read_manifest
from brainseg_keras.data.medical import BRATS_CHANNELS
from brainseg_keras.data.nifti import find_msd_root, read_msd, read_nifti_folders, read_nifti_patient, sequences
from brainseg_keras.data.pairs import is_pairs, pairs_channels, pairs_reader, read_pairs
from brainseg_keras.data.splits import assign_splits, has_fixed_split
from brainseg_keras.data.store import StoredVolumes
from brainseg_keras.data.volumes import FileVolumes, SelectedChannels, VolumeSource
from brainseg_keras.errors import InputError
from brainseg_keras.files import expand

FORMATS = ("lgg", "brats-h5", "nifti", "msd", "pairs")
LAYOUTS = """
  lgg       <patient>/<patient>_<n>.tif with <patient>_<n>_mask.tif (or in kaggle_3m/)
  brats-h5  volume_<v>_slice_<s>.h5 (or in content/data/)
  nifti     <patient>_flair.nii.gz with <patient>_seg.nii.gz, and the like
  msd       dataset.json, imagesTr/, labelsTr/
  pairs     images/ and masks/"""
_log = logging.getLogger(__name__)


def open_source(
    path: str | Path,
    *,
    format: str | None = None,
    root: str | Path | None = None,
    seed: int = 0,
    modalities: Sequence[str] | str | None = None,
    labels: str | None = None,
    image_pattern: str | None = None,
    label_pattern: str | None = None,
) -> VolumeSource:
    """Open a data set.

    Args:
        path: A folder of a known layout, a manifest CSV, a packed `.h5`, or `phantom` (made once and kept; with
            `format="brats-h5"` or `"nifti"` that of four sequences and three classes).
        format: Layout of a folder: `lgg`, `brats-h5`, `nifti`, `msd` or `pairs`; None detects it.
        root: Folder of the images that a manifest lists, where it is not the manifest's own.
        seed: Of the split by patient, where neither the data nor this package fixes one.
        modalities: Sequences to read, in this order, as names or as one text with commas; None reads all. Of pairs, the
            names of the pictures' channels.
        labels: What the labels of NIfTI volumes or pairs mean: brats2020, brats2023, brats2015, msd or binary.
        image_pattern: How images are named; see `read_nifti_folders` and `read_pairs`.
        label_pattern: How labels are named.

    Returns:
        A source of volumes.

    Raises:
        InputError: Nothing there, an unknown layout, or files that are wrong.

    Example:
        >>> open_source("phantom").channels
        ('T1', 'FLAIR', 'T1ce')
    """
    modalities = names_of(modalities)
    if str(path) == "phantom":
        path = cached_phantom(format or "lgg")
    path = Path(expand(path, "data"))
    if path.suffix.lower() in (".h5", ".hdf5") and not path.is_dir():
        return _select(StoredVolumes(path), modalities)
    if path.suffix.lower() == ".csv":
        return _from_manifest(path, root, modalities)
    table, folder = list_slices(
        path,
        format=format,
        modalities=modalities,
        labels=labels,
        image_pattern=image_pattern,
        label_pattern=label_pattern,
    )
    table, unnamed = assign_splits(table, seed=seed)
    if unnamed:
        _log.warning(
            "%d patients are not in the fixed split and left out of train, val and test (--split all reads them): %s",
            len(unnamed),
            ", ".join(unnamed),
        )
    return _select(source_of(table, folder, modalities, seeded=not has_fixed_split(table)), modalities)


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

    Returns:
        Rows of a manifest with an empty `split`, and the folder to which their paths are relative.

    Raises:
        InputError: Nothing there, an unknown layout, or files that are wrong.
    """
    if format not in (None, *FORMATS):
        raise InputError(f"format is one of {', '.join(FORMATS)}. Received: {format!r}.")
    path, modalities = Path(path), names_of(modalities)
    if not path.is_dir():
        raise InputError(
            f"No such folder: {path}. --data takes a folder of MRI slices, a manifest (.csv), a packed data set (.h5), "
            "or the word phantom."
        )
    format = format or ("nifti" if image_pattern and label_pattern else detect_format(path))
    readers: dict[str, Callable] = {
        "lgg": read_lgg,
        "brats-h5": read_brats,
        "nifti": partial(
            read_nifti_folders,
            modalities=modalities,
            labels=labels,
            image_pattern=image_pattern,
            label_pattern=label_pattern,
        ),
        "msd": partial(read_msd, modalities=modalities, labels=labels),
        "pairs": partial(read_pairs, labels=labels, image_pattern=image_pattern),
    }
    return readers[format](path, checksums=checksums, skipped=skipped)


def names_of(modalities: Sequence[str] | str | None) -> list[str] | None:
    """Read names of sequences, as a list or as one text with commas.

    Args:
        modalities: Either, or None.

    Returns:
        A list, or None where there are none.

    Example:
        >>> names_of("T1ce, FLAIR")
        ['T1ce', 'FLAIR']
    """
    given = modalities.split(",") if isinstance(modalities, str) else modalities or []
    return [name.strip() for name in given if name.strip()] or None


def detect_format(path: Path) -> str:
    """Find the layout of a folder.

    Args:
        path: The folder.

    Returns:
        One of `FORMATS`.

    Raises:
        InputError: None of them.

    Example:
        >>> detect_format(cached_phantom())
        'lgg'
    """
    if find_lgg_root(path):
        return "lgg"
    if find_brats_root(path):
        return "brats-h5"
    if find_msd_root(path):
        return "msd"
    if is_pairs(path):
        return "pairs"
    if next(path.rglob("*.nii*"), None) is not None:
        return "nifti"
    raise InputError(f"{path} holds no layout that is known here. Expected one of:{LAYOUTS}")


def source_of(
    table: pd.DataFrame, root: Path, modalities: Sequence[str] | None = None, *, seeded: bool = False
) -> VolumeSource:
    """Give the volumes of a table, read as its column `dataset` says.

    Args:
        table: Rows of a manifest.
        root: Folder to which their paths are relative.
        modalities: Names for the channels of pairs.
        seeded: Whether the splits were drawn from a seed.

    Returns:
        A source of volumes.

    Raises:
        InputError: An unknown dataset, or several.
    """
    kind, _, scheme = table.dataset.iloc[0].partition(":")
    if table.dataset.nunique() > 1:
        raise InputError(f"A manifest is of one dataset. Received: {', '.join(sorted(table.dataset.unique()))}.")
    volumes = partial(FileVolumes, table, root, seeded=seeded)
    if kind == "lgg":
        return volumes(CHANNELS)
    if kind == "brats-h5":
        return volumes(BRATS_CHANNELS, classes=CLASSES, read=read_brats_patient)
    if kind in ("nifti", "msd"):
        read = partial(read_nifti_patient, scheme=scheme)
        return volumes(tuple(sequences(table.image.iloc[0])), classes=scheme_classes(scheme), read=read)
    if kind == "pairs":
        channels = pairs_channels(root / table.image.iloc[0], modalities)
        return volumes(channels, classes=scheme_classes(scheme), read=pairs_reader(scheme))
    raise InputError(
        f"A manifest's dataset is lgg, brats-h5, nifti:<labels>, msd:<labels> or pairs:<labels>. Received: {kind!r}."
    )


def _select(source: VolumeSource, modalities: Sequence[str] | None) -> VolumeSource:
    if not modalities or tuple(modalities) == tuple(source.channels):
        return source
    return SelectedChannels(source, modalities)


def _from_manifest(path: Path, root: str | Path | None, modalities: Sequence[str] | None) -> VolumeSource:
    table = read_manifest(path)
    folder = Path(expand(root, "root")) if root is not None else path.parent
    entry = next(iter(sequences(table.image[0]).values()), table.image[0]).partition("#")[0]
    first = folder / entry
    if not first.is_file():
        raise InputError(
            f"{path} lists {first}, which is not there. Say where the images are: --root DIR, the folder that holds "
            f"{entry}."
        )
    return _select(source_of(table, folder, modalities), modalities)


def cached_phantom(format: str = "lgg") -> Path:
    """Give the folder of the phantom, made on first use under the user's cache folder.

    The folder's name holds a checksum of the generator's code, so that a phantom of another version is never met.
    `BRAINSEG_CACHE` names another place.

    Args:
        format: `lgg`; `brats-h5` or `nifti` for that of four sequences and three classes.

    Returns:
        Folder in that layout.

    Raises:
        InputError: No phantom of that format.

    Example:
        >>> (cached_phantom() / "kaggle_3m" / "data.csv").is_file()
        True
    """
    makers = {
        "lgg": (phantom.write_phantom, "kaggle_3m"),
        "brats-h5": (phantom_brats.write_brats_phantom, "BraTS2020_training_data"),
        "nifti": (partial(phantom_brats.write_brats_phantom, format="nifti"), "nifti"),
    }
    if format not in makers:
        raise InputError(f"There is a phantom of the formats {', '.join(makers)}. Received: {format!r}.")
    write, name = makers[format]
    code = b"".join(Path(module.__file__).read_bytes() for module in (phantom, phantom_brats))
    cache = Path(os.environ.get("BRAINSEG_CACHE") or Path.home() / ".cache" / "brainseg_keras")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        writable = os.access(cache, os.W_OK)
    except OSError:
        writable = False
    digest = hashlib.sha256(code).hexdigest()[:12]
    folder = (cache if writable else Path(tempfile.gettempdir())) / f"phantom-{format}-{digest}"
    if not (folder / name).is_dir():
        try:
            write(folder)
        except InputError:
            # Another process was faster: its phantom is the same one.
            if not (folder / name).is_dir():
                raise
    return folder
