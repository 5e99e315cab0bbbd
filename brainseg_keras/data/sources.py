"""Whatever stands behind `--data`: a folder, a manifest, a packed store, or the word phantom."""

import hashlib
import logging
import os
import tempfile
from pathlib import Path

from brainseg_keras.data import phantom
from brainseg_keras.data.lgg import CHANNELS, find_lgg_root, read_lgg
from brainseg_keras.data.manifest import read_manifest
from brainseg_keras.data.splits import assign_splits
from brainseg_keras.data.store import StoredVolumes
from brainseg_keras.data.volumes import FileVolumes, VolumeSource
from brainseg_keras.errors import InputError

FORMATS = ("lgg",)
_log = logging.getLogger(__name__)


def open_source(
    path: str | Path, *, format: str | None = None, root: str | Path | None = None, seed: int = 0
) -> VolumeSource:
    """Open a data set.

    Args:
        path: A folder of a known layout, a manifest CSV, a packed `.h5`, or `phantom` (made once and kept).
        format: Layout of a folder, `lgg`; None detects it.
        root: Folder of the images that a manifest lists, where it is not the manifest's own.
        seed: Of the split by patient, where neither the data nor this package fixes one.

    Returns:
        A source of volumes.

    Raises:
        InputError: Nothing there, an unknown layout, or files that are wrong.

    Example:
        >>> open_source("phantom").channels
        ('T1', 'FLAIR', 'T1ce')
    """
    if format not in (None, *FORMATS):
        raise InputError(f"format is one of {', '.join(FORMATS)}. Received: {format!r}.")
    if str(path) == "phantom":
        path = cached_phantom()
    path = Path(path).expanduser()
    if path.suffix.lower() == ".csv":
        return _from_manifest(path, root)
    if path.suffix.lower() in (".h5", ".hdf5"):
        return StoredVolumes(path)
    if not path.is_dir():
        raise InputError(
            f"No such folder: {path}. --data takes a folder of MRI slices, a manifest (.csv), a packed data set (.h5), "
            "or the word phantom."
        )
    if format is None and find_lgg_root(path) is None:
        raise InputError(
            f"{path} holds no layout that is known here. Expected the LGG layout: <patient>/<patient>_<n>.tif with "
            "<patient>_<n>_mask.tif, in the folder or in its subfolder kaggle_3m."
        )
    table, folder = read_lgg(path)
    table, unnamed = assign_splits(table, seed=seed)
    if unnamed:
        _log.warning(
            "%d patients are not in the fixed split and left out of train, val and test (--split all reads them): %s",
            len(unnamed),
            ", ".join(unnamed),
        )
    return FileVolumes(table, folder, CHANNELS)


def _from_manifest(path: Path, root: str | Path | None) -> VolumeSource:
    table = read_manifest(path)
    folder = Path(root) if root else path.parent
    first = folder / table.image[0]
    if not first.is_file():
        raise InputError(
            f"{path} lists {first}, which is not there. Say where the images are: --root DIR, the folder that holds "
            f"{table.image[0]}."
        )
    return FileVolumes(table, folder, CHANNELS)


def cached_phantom() -> Path:
    """Give the folder of the phantom, made on first use under the user's cache folder.

    The folder's name holds a checksum of the generator's code, so that a phantom of another version is never met.
    `BRAINSEG_CACHE` names another place.

    Returns:
        Folder in LGG layout.

    Example:
        >>> (cached_phantom() / "kaggle_3m" / "data.csv").is_file()
        True
    """
    code = hashlib.sha256(Path(phantom.__file__).read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("BRAINSEG_CACHE") or Path.home() / ".cache" / "brainseg_keras")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        writable = os.access(cache, os.W_OK)
    except OSError:
        writable = False
    folder = (cache if writable else Path(tempfile.gettempdir())) / f"phantom-{code}"
    if not (folder / "kaggle_3m" / "data.csv").is_file():
        try:
            phantom.write_phantom(folder)
        except InputError:
            # Another process was faster: its phantom is the same one.
            if not (folder / "kaggle_3m" / "data.csv").is_file():
                raise
    return folder
