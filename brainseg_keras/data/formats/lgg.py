"""The LGG MRI segmentation set as it is shared: `kaggle_3m/<patient>/<patient>_<n>.tif`, `..._mask.tif`."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from brainseg_keras.data.decode.images import read_image, read_mask
from brainseg_keras.data.formats.base import Contents, FolderFormat, Group
from brainseg_keras.data.formats.pictures import Pictures
from brainseg_keras.data.manifest import Progress, slice_row, table_of_patients
from brainseg_keras.data.phantom import lgg as lgg_phantom
from brainseg_keras.errors import InputError

CHANNELS = ("T1", "FLAIR", "T1ce")
#: Names of the files.
SLICE = re.compile(r"(?P<patient>.+)_(?P<number>\d+)(?P<mask>_mask)?\.tiff?", re.IGNORECASE)


def find_lgg_root(path: str | Path) -> Path | None:
    """Find the folder that holds the patients' folders.

    Args:
        path: That folder, or its parent (the folder into which the archive was unpacked, say).

    Returns:
        The folder, or None when there is no LGG layout here.

    Example:
        >>> find_lgg_root("no/such/folder") is None
        True
    """
    path = Path(path)
    nested = [path / "kaggle_3m", path / "lgg-mri-segmentation" / "kaggle_3m"]
    return next((root for root in (path, *nested) if any(root.glob("*/*_mask.tif*"))), None)


def read_lgg(
    path: str | Path,
    *,
    checksums: bool = False,
    skipped: dict[str, str] | None = None,
    progress: Progress = iter,
) -> tuple[pd.DataFrame, Path]:
    """List the slices of an LGG folder.

    Args:
        path: `kaggle_3m` or its parent.
        checksums: Also decode the images and fill the sha256 columns; masks are decoded in any case.
        skipped: Filled with the patients whose files are wrong, and why, who are then left out; None refuses them.
        progress: Wraps the list of patients, to show how far it is.

    Returns:
        Rows of a manifest with an empty `split`, and the folder to which their paths are relative.

    Raises:
        InputError: No such layout; an image without its mask or the reverse; a file that cannot be decoded; a mask
            that is none.

    Example:
        >>> import tempfile
        >>> from brainseg_keras.data.phantom.lgg import write_phantom
        >>> root = write_phantom(tempfile.mkdtemp() + "/data", patients=3, slices=8, size=64)
        >>> table, _ = read_lgg(root)
        >>> len(table), table.patient.nunique()
        (24, 3)
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"No such folder: {path}. Give the folder kaggle_3m, or its parent.")
    root = find_lgg_root(path)
    if root is None:
        raise InputError(
            f"{path} holds no LGG data. Expected <patient>/<patient>_<n>.tif with <patient>_<n>_mask.tif in it or in "
            "its subfolder kaggle_3m."
        )
    folders = {folder.name: folder for folder in sorted(root.iterdir()) if folder.is_dir()}
    return table_of_patients(folders, lambda folder: _patient_rows(folder, checksums), skipped, progress), root


def _patient_rows(folder: Path, checksums: bool) -> list[dict]:
    images, masks = _pair_files(folder)
    rows = []
    for number in sorted(images):
        image, mask = (f"{folder.name}/{files[number].name}" for files in (images, masks))
        labels = read_mask(masks[number])
        pixels = read_image(images[number]) if checksums else None
        rows.append(slice_row("lgg", folder.name, number, image, mask, labels, pixels))
    return rows


def _pair_files(folder: Path) -> tuple[dict[int, Path], dict[int, Path]]:
    images: dict[int, Path] = {}
    masks: dict[int, Path] = {}
    owners: dict[int, set[str]] = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith(".") or file.suffix.lower() not in (".tif", ".tiff"):
            continue
        match = SLICE.fullmatch(file.name)
        if not match:
            raise InputError(
                f"{file} has no slice number. Expected {folder.name}_<n>.tif or {folder.name}_<n>_mask.tif."
            )
        kind, number = (masks if match["mask"] else images), int(match["number"])
        if number in kind:
            raise InputError(f"Slice {number} stands twice in {folder}: {kind[number].name} and {file.name}. Keep one.")
        kind[number] = file
        owners.setdefault(number, set()).add(match["patient"].lower())
    for number in sorted(images.keys() ^ masks.keys()):
        if number in images:
            raise InputError(
                f"{images[number]} has no mask. Expected {images[number].stem}_mask.tif beside it "
                "(all zeros where there is no tumour), or remove the image."
            )
        raise InputError(f"{masks[number]} has no image. Expected {masks[number].name.replace('_mask', '')} beside it.")
    for number in sorted(images):
        if len(owners[number]) > 1:
            raise InputError(
                f"{images[number]} and {masks[number].name} bear the names of two patients. Bring the mask of the same "
                "patient, or rename the file."
            )
    return images, masks


def read_clinical(path: str | Path) -> pd.DataFrame:
    """Read the set's table of clinical and genomic columns, in either dialect that is in circulation.

    Args:
        path: `data.csv`, separated by commas or (with CRLF) by semicolons.

    Returns:
        Table indexed by patient without the date (`TCGA_CS_4941`); unknown values are NaN.

    Raises:
        InputError: The file is missing, no table, or has no `Patient` column.

    Example:
        >>> import tempfile, pathlib
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "data.csv"
        >>> _ = file.write_bytes(b"Patient;gender\\r\\nTCGA_CS_4941;2\\r\\nTCGA_CS_4942;\\r\\n")
        >>> int(read_clinical(file).gender.isna().sum())
        1
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"No such file: {path}. It lies beside the patients' folders as data.csv.")
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
            header = lines.readline()
        separator = csv.Sniffer().sniff(header, delimiters=",;\t").delimiter if len(header.split()) else ","
        table = pd.read_csv(path, sep=separator, encoding="utf-8-sig")
    except Exception as error:  # pandas raises many kinds
        raise InputError(f"{path} cannot be read as CSV ({error}). Download it again.") from error
    if "Patient" not in table:
        raise InputError(f"{path} has no column Patient. Received: {', '.join(map(str, table.columns[:5]))}.")
    return table.set_index("Patient")


class Lgg(FolderFormat, Pictures):
    """Folders a patient, to train on; and such a folder's slices as one scan to segment."""

    name = "lgg"
    layout = "<patient>/<patient>_<n>.tif with <patient>_<n>_mask.tif (or in kaggle_3m/)"
    phantom = "kaggle_3m"
    endings = (".tif", ".tiff")
    own_folder = True
    list_slices = staticmethod(read_lgg)

    def detect(self, folder: Path) -> bool:
        """Look for masks in patients' folders."""
        return find_lgg_root(folder) is not None

    def contents(self, table: pd.DataFrame, root: Path, scheme: str, modalities: Sequence[str] | None) -> Contents:
        """Give the three sequences of every picture."""
        return Contents(CHANNELS)

    def write_phantom(self, dest: str | Path, **numbers: int) -> Path:
        """See `data.phantom.lgg.write_phantom`."""
        return lgg_phantom.write_phantom(dest, **numbers)

    def claims(self, file: Path) -> bool:
        """Know a slice by its folder, which bears the patient's name."""
        match = SLICE.fullmatch(file.name)
        return bool(match) and not match["mask"] and match["patient"].lower() == file.absolute().parent.name.lower()

    def group(self, files: Sequence[Path], folder: Path) -> list[Group]:
        """Put a patient's slices in order."""
        return [self.slices(sorted(files, key=lambda file: (int(SLICE.fullmatch(file.name)["number"]), file)))]
