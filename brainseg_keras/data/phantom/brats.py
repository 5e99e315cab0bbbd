"""The phantom of BraTS: four sequences, a necrotic core in an enhancing rim in edema, as HDF5 slices or as NIfTI."""

import gzip
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainseg_keras import ranges
from brainseg_keras.data.decode.brats_slices import BRATS_CHANNELS
from brainseg_keras.data.inputs.preprocessing import intensity_range
from brainseg_keras.data.phantom.lgg import Head, LesionFreeImage, check_numbers
from brainseg_keras.data.volumes import Volume
from brainseg_keras.data.writing import write_patient_slices
from brainseg_keras.errors import optional_import
from brainseg_keras.files import write_folder

#: Brightness of necrotic core, edema and enhancing tumour in each sequence; white matter in T1 is about 0.7.
_BRIGHTNESS = {
    "T1": (0.30, 0.46, 0.52),
    "T1ce": (0.28, 0.46, 1.15),
    "T2": (0.95, 0.88, 0.72),
    "FLAIR": (0.55, 1.02, 0.92),
}
#: How steeply one tissue of a tumour goes over into the next, with the distance from its middle.
_STEEP = 14
_SPACING = (4.0, 1.0, 1.0)
#: Labels of BraTS 2020 for those that are used here.
_BRATS2020 = np.array([0, 1, 2, 4], np.uint8)


def brats_phantom_volume(seed: int, index: int, *, slices: int = 20, size: int = 128) -> Volume:
    """Make one patient; the same seed and index give the same one however many others are made.

    Each sequence is z-scored inside the head, as the shared HDF5 set is, and the background is the smallest value.

    Args:
        seed: Of the whole phantom.
        index: Number of the patient.
        slices: Axial slices, from the skull base to the crown.
        size: Side of a slice in pixels.

    Returns:
        Volume of T1, T1ce, T2 and FLAIR, float32, with labels 1 necrotic core, 2 edema, 3 enhancing tumour.

    Raises:
        InputError: A number out of its range, such as fewer than 6 slices or a side below 32.

    Example:
        >>> volume = brats_phantom_volume(0, 0, slices=8, size=64)
        >>> volume.images.shape, sorted(set(volume.masks.ravel().tolist()))
        ((8, 64, 64, 4), [0, 1, 2, 3])
    """
    pixels, labels = _draw(seed, index, slices, size)
    return Volume(_name(index), pixels, labels, tuple(range(slices)), intensity_range(pixels), _SPACING)


def _name(index: int) -> str:
    return f"volume_{index + 1}"


def _draw(seed: int, index: int, slices: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Make a patient's pixels and labels; slice by slice, so that what a slice needs stays in the processor's cache."""
    ranges.SEED.check("seed", seed)
    rng = np.random.default_rng([seed, index, 4])
    head = Head(rng, slices, size)
    rim, core = rng.uniform(0.60, 0.80), rng.uniform(0.32, 0.50)
    boxes = [_box(away < 1 + 1 / _STEEP) for away in head.away]
    labels = np.zeros(head.shape, np.uint8)
    for number, box in enumerate(boxes):
        away = head.away[number][box]
        labels[number][box] = np.select([away < core, away < rim, away < 1], [1, 3, 2], 0)
    pixels = np.empty((*head.shape, len(BRATS_CHANNELS)), np.float32)
    image = np.empty(head.shape)
    for channel, name in enumerate(BRATS_CHANNELS):
        plain = LesionFreeImage(rng, head, name)
        necrotic, edema, enhancing = np.array(_BRIGHTNESS[name]) * rng.uniform(0.92, 1.08, 3)
        for number, box in enumerate(boxes):
            drawn, away = plain.image(number).astype(np.float64), head.away[number][box]
            for edge, brightness in ((1, edema), (rim, enhancing), (core, necrotic)):
                weight = np.clip((edge - away) * _STEEP + 0.5, 0, 1)
                drawn[box] = drawn[box] * (1 - weight) + weight * brightness
            np.add(drawn, rng.normal(0, 0.02, drawn.shape), out=image[number])
        tissue = image[head.inside]
        mean, spread, least = tissue.mean(), tissue.std(), image.min()
        for number, inside in enumerate(head.inside):
            pixels[number, ..., channel] = (np.where(inside, image[number], least) - mean) / spread
    return pixels, labels


def _box(inside: np.ndarray) -> tuple[slice, slice]:
    """Give the rows and columns that hold something: the rest of a slice needs no work."""
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    return tuple(slice(found[0], found[-1] + 1) if len(found) else slice(0) for found in (rows, columns))


def _write_slices(volume: Volume, folder: Path) -> None:
    write_patient_slices(volume, folder, compressed=False)


def _write_nifti(volume: Volume, folder: Path) -> None:
    """Write a patient as BraTS 2020 names it: `<patient>/<patient>_flair.nii.gz` and so on, `_seg` of 1, 2 and 4."""
    nibabel = optional_import("nibabel", "medical")
    folder = folder / volume.patient
    folder.mkdir()
    # Rows run to posterior and columns to the patient's left: negative steps in NIfTI's right, anterior, up.
    affine = np.diag([-volume.spacing[2], -volume.spacing[1], volume.spacing[0], 1])
    arrays = {name.lower(): volume.images[..., index] for index, name in enumerate(BRATS_CHANNELS)}
    for name, array in (arrays | {"seg": _BRATS2020[volume.masks]}).items():
        image = nibabel.Nifti1Image(array.transpose(2, 1, 0), affine)
        level = 1 if name == "seg" else 0
        with gzip.GzipFile(folder / f"{volume.patient}_{name}.nii.gz", "wb", compresslevel=level, mtime=0) as file:
            image.to_stream(file)


class Layout(NamedTuple):
    """How patients of four sequences lie in a folder."""

    folder: str  # which is made
    patients: str  # the patients' folder in it
    write: Callable[[Volume, Path], None]  # writes one patient into that

    def root(self, dest: str | Path) -> Path:
        """Give the patients' folder below a destination."""
        return Path(dest) / self.folder / self.patients


HDF5_SLICES = Layout("BraTS2020_training_data", "content/data", _write_slices)
NIFTI_FOLDERS = Layout("nifti", "", _write_nifti)


def write_brats_phantom(
    dest: str | Path,
    *,
    patients: int = 12,
    slices: int = 20,
    size: int = 96,
    seed: int = 0,
    layouts: Sequence[Layout] = (HDF5_SLICES,),
) -> Path:
    """Write a phantom of four sequences and three classes, whole or not at all.

    Images are not compressed: of noise little goes away, and it would take longer than all the rest.

    Args:
        dest: Folder to write into.
        patients: How many.
        slices: Axial slices of each, 4 mm apart.
        size: Side of a slice in pixels of 1 mm.
        seed: Another seed makes other patients.
        layouts: `HDF5_SLICES`, `NIFTI_FOLDERS` or both: each patient is made once.

    Returns:
        The patients' folder in the first layout.

    Raises:
        InputError: It exists already, a number out of its range, or no nibabel for NIfTI.

    Example:
        >>> import tempfile
        >>> folder = write_brats_phantom(tempfile.mkdtemp() + "/data", patients=1, slices=8, size=32)
        >>> len(list(folder.glob("volume_1_slice_*.h5")))
        8
    """
    check_numbers(patients=patients, slices=slices, size=size, seed=seed)

    def write(folders: list[Path]) -> None:
        for folder in folders:
            folder.mkdir(parents=True)
        for index in range(patients):
            pixels, labels = _draw(seed, index, slices, size)
            # Its intensities, which would have to be measured, nobody asks for.
            volume = Volume(_name(index), pixels, labels, tuple(range(slices)), np.empty((0, 2)), _SPACING)
            for folder, layout in zip(folders, layouts, strict=True):
                layout.write(volume, folder)

    _write_together(Path(dest), layouts, write, [])
    return layouts[0].root(dest)


def _write_together(
    dest: Path, layouts: Sequence[Layout], write: Callable[[list[Path]], None], ready: list[Path]
) -> None:
    """Write the folders of all layouts, or none: a second try would refuse what is there."""
    if len(ready) == len(layouts):
        write(ready)
        return
    layout, made = layouts[len(ready)], []

    def inner(scratch: Path) -> None:
        _write_together(dest, layouts, write, [*ready, scratch / layout.patients])
        made.extend(dest / other.folder for other in layouts[len(ready) + 1 :])

    try:
        write_folder(dest / layout.folder, inner)
    except BaseException:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
        raise
