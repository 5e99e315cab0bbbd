"""Plain pairs: `images/` and `masks/`, PNG or JPEG, one file a slice."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from brainseg_keras.data.decode.images import PICTURES, read_image, read_mask
from brainseg_keras.data.formats.base import Contents, FolderFormat
from brainseg_keras.data.labels import check_scheme, read_labels, scheme_classes
from brainseg_keras.data.manifest import Progress, slice_row, table_of_patients
from brainseg_keras.data.volumes import read_pictures
from brainseg_keras.errors import InputError

#: What stands before the last number is the patient.
DEFAULT_PATTERN = r"(?P<patient>.+?)[_\- ]+(?P<slice>\d+)"
_NAMES = {1: ("image",), 3: ("red", "green", "blue")}


def is_pairs(path: str | Path) -> bool:
    """Say whether a folder has this layout.

    Args:
        path: Any folder.

    Returns:
        Whether `images/` and `masks/` lie in it.

    Example:
        >>> is_pairs("no/such/folder")
        False
    """
    return (Path(path) / "images").is_dir() and (Path(path) / "masks").is_dir()


def read_pairs(
    path: str | Path,
    *,
    labels: str | None = None,
    image_pattern: str | None = None,
    checksums: bool = False,
    skipped: dict[str, str] | None = None,
    progress: Progress = iter,
) -> tuple[pd.DataFrame, Path]:
    """List the slices of `images/` and `masks/`: a mask is named as its image, or ends in `_mask`.

    Args:
        path: The folder of both.
        labels: What the masks hold, a key of `data.labels.SCHEMES`; None is binary.
        image_pattern: Regular expression of the images' names without ending, with the group `patient`, and `slice`
            where the order matters. Default: what stands before the last number is the patient.
        checksums: Also decode the images and fill the sha256 columns; masks are decoded in any case.
        skipped: Filled with the patients whose files are wrong, and why, who are then left out; None refuses them.
        progress: Wraps the list of patients, to show how far it is.

    Returns:
        Rows of a manifest with an empty `split`, and the folder.

    Raises:
        InputError: No such folders, an image without mask or the reverse, a name that the pattern does not fit.
    """
    root = Path(path)
    if not is_pairs(root):
        raise InputError(f"{root} has no images/ and masks/ in it.")
    scheme = labels or "binary"
    check_scheme(scheme)
    images, masks = _files(root / "images"), _files(root / "masks")
    masks = {stem.removesuffix("_mask") if stem not in images else stem: file for stem, file in masks.items()}
    for stem in sorted(images.keys() ^ masks.keys()):
        if stem in images:
            raise InputError(f"{images[stem]} has no mask. Expected masks/{stem}.png (all zeros without tumour).")
        raise InputError(f"{masks[stem]} has no image. Expected images/{stem}.png.")
    if not images:
        raise InputError(f"{root / 'images'} holds no pictures. Expected {', '.join(PICTURES)}.")
    patients: dict[str, list[tuple[str, int]]] = {}
    for stem, (patient, number) in _patients(list(images), image_pattern, root).items():
        patients.setdefault(patient, []).append((stem, number))

    def read(name: str) -> list[dict]:
        return [
            _row(name, number, images[stem], masks[stem], root, scheme, checksums) for stem, number in patients[name]
        ]

    table = table_of_patients({name: name for name in patients}, read, skipped, progress)
    return table.sort_values(["patient", "slice"], ignore_index=True), root


def _row(patient: str, number: int, image: Path, mask: Path, root: Path, scheme: str, checksums: bool) -> dict:
    labels = _read_mask(mask, scheme)
    pixels = read_image(image) if checksums else None
    names = (file.relative_to(root).as_posix() for file in (image, mask))
    return slice_row(f"pairs:{scheme}", patient, number, *names, labels, pixels)


def _files(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in PICTURES and not file.name.startswith("."):
            if file.stem in found:
                raise InputError(f"{found[file.stem]} and {file} bear one name. Keep one.")
            found[file.stem] = file
    return found


def _patients(stems: list[str], pattern: str | None, root: Path) -> dict[str, tuple[str, int]]:
    try:
        compiled = re.compile(pattern or DEFAULT_PATTERN)
    except re.error as error:
        raise InputError(f"--image-pattern {pattern!r} is not a regular expression ({error}).") from error
    if "patient" not in compiled.groupindex:
        raise InputError(f"--image-pattern {pattern!r} has no group (?P<patient>...), which says whose a slice is.")
    matches = {stem: compiled.fullmatch(stem) for stem in stems}
    strange = [stem for stem, match in matches.items() if match is None]
    if strange:
        raise InputError(
            f"{root / 'images'}: {strange[0]} does not fit {compiled.pattern!r}, so that nobody knows whose slice it "
            f"is ({len(strange)} such names). Say it: --image-pattern '(?P<patient>...)...'; '(?P<patient>.+)' makes "
            "each picture a patient of its own."
        )
    seen: dict[str, int] = {}
    numbered = {}
    for stem in sorted(stems):
        match = matches[stem]
        patient = match["patient"]
        seen[patient] = seen.get(patient, 0) + 1
        given = match.groupdict().get("slice")
        numbered[stem] = (patient, int(given) if given and given.isdecimal() else seen[patient])
    return numbered


def _read_mask(path: Path, scheme: str) -> np.ndarray:
    if scheme == "binary":
        return read_mask(path)
    values = read_image(path)
    if values.shape[-1] != 1:
        raise InputError(f"A mask has one channel. Received: {path} with {values.shape[-1]}. Save label numbers (L).")
    return read_labels(values[..., 0], scheme, str(path))


def pairs_channels(file: Path, modalities: Sequence[str] | None) -> tuple[str, ...]:
    """Name the channels of pictures: as the user says, else by their colors.

    Args:
        file: One of the images.
        modalities: Names for its channels, or None.

    Returns:
        As many names as it has channels.

    Raises:
        InputError: Another number of names.
    """
    count = read_image(file).shape[-1]
    if modalities and len(modalities) != count:
        raise InputError(f"{file} has {count} channels. Received {len(modalities)} names: {', '.join(modalities)}.")
    return tuple(modalities) if modalities else _NAMES.get(count, tuple(f"channel {n + 1}" for n in range(count)))


class Pairs(FolderFormat):
    """Pictures and their masks in two folders, to train on."""

    name = "pairs"
    layout = "images/ and masks/"
    list_options = ("labels", "image_pattern")
    list_slices = staticmethod(read_pairs)

    def detect(self, folder: Path) -> bool:
        """Look for both folders."""
        return is_pairs(folder)

    def contents(self, table: pd.DataFrame, root: Path, scheme: str, modalities: Sequence[str] | None) -> Contents:
        """Name the pictures' channels, and the classes of the masks."""
        channels = pairs_channels(root / table.image.iloc[0], modalities)
        read = partial(read_pictures, read_mask=partial(_read_mask, scheme=scheme))
        return Contents(channels, scheme_classes(scheme), read)
