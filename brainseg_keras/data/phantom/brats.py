"""The phantom of BraTS: four sequences, a necrotic core in an enhancing rim in edema, as HDF5 slices or as NIfTI."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from brainseg_keras import ranges
from brainseg_keras.data.decode.brats_slices import BRATS_CHANNELS
from brainseg_keras.data.inputs.preprocessing import intensity_range
from brainseg_keras.data.labels import CLASSES
from brainseg_keras.data.manifest import COLUMNS
from brainseg_keras.data.phantom.lgg import check_numbers, head_with_lesion, lesion_free_image
from brainseg_keras.data.volumes import Volume, VolumeSource
from brainseg_keras.data.writing import write_brats_slices
from brainseg_keras.errors import optional_import
from brainseg_keras.files import write_folder

#: Brightness of necrotic core, edema and enhancing tumour in each sequence; white matter in T1 is about 0.7.
_BRIGHTNESS = {
    "T1": (0.30, 0.46, 0.52),
    "T1ce": (0.28, 0.46, 1.15),
    "T2": (0.95, 0.88, 0.72),
    "FLAIR": (0.55, 1.02, 0.92),
}
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
    ranges.SEED.check("seed", seed)
    rng = np.random.default_rng([seed, index, 4])
    head, distance = head_with_lesion(rng, slices, size)
    rim, core = rng.uniform(0.60, 0.80), rng.uniform(0.32, 0.50)
    labels = np.select([distance < core, distance < rim, distance < 1], [1, 3, 2], 0).astype(np.uint8)
    weights = [np.clip((edge - distance) * 14 + 0.5, 0, 1) for edge in (1, rim, core)]
    images = []
    for name in BRATS_CHANNELS:
        image = lesion_free_image(rng, head, name)
        necrotic, edema, enhancing = np.array(_BRIGHTNESS[name]) * rng.uniform(0.92, 1.08, 3)
        for weight, brightness in zip(weights, (edema, enhancing, necrotic), strict=True):
            image = image * (1 - weight) + weight * brightness
        image = image + rng.normal(0, 0.02, image.shape)
        inside = head.radius < 1
        scored = (image - image[inside].mean()) / image[inside].std()
        images.append(np.where(inside, scored, scored.min()))
    pixels = np.stack(images, axis=-1).astype(np.float32)
    numbers = tuple(range(slices))
    return Volume(f"volume_{index + 1}", pixels, labels, numbers, intensity_range(pixels), _SPACING)


class _Phantoms:
    """The patients as a source of volumes."""

    channels = BRATS_CHANNELS
    classes = CLASSES

    def __init__(self, patients: int, slices: int, size: int, seed: int):
        self._make = lambda index: brats_phantom_volume(seed, index, slices=slices, size=size)
        rows = [(f"volume_{index + 1}", number) for index in range(patients) for number in range(slices)]
        self.table = pd.DataFrame(rows, columns=["patient", "slice"]).reindex(columns=list(COLUMNS))

    def volume(self, patient: str) -> Volume:
        """Make one patient."""
        return self._make(int(patient.rpartition("_")[2]) - 1)


def write_brats_phantom(
    dest: str | Path,
    *,
    patients: int = 12,
    slices: int = 20,
    size: int = 96,
    seed: int = 0,
    write: Callable[[VolumeSource, str | Path], Path] = write_brats_slices,
) -> Path:
    """Write a phantom of four sequences and three classes, whole or not at all.

    Args:
        dest: Folder to write into.
        patients: How many.
        slices: Axial slices of each, 4 mm apart.
        size: Side of a slice in pixels of 1 mm.
        seed: Another seed makes other patients.
        write: Writes the volumes: `write_brats_slices`, or `write_nifti`.

    Returns:
        The folder that was written.

    Raises:
        InputError: It exists already, or a number out of its range.

    Example:
        >>> import tempfile
        >>> folder = write_brats_phantom(tempfile.mkdtemp() + "/data", patients=1, slices=8, size=32)
        >>> len(list(folder.glob("volume_1_slice_*.h5")))
        8
    """
    check_numbers(patients=patients, slices=slices, size=size, seed=seed)
    return write(_Phantoms(patients, slices, size, seed), dest)


def write_nifti(source: VolumeSource, dest: str | Path) -> Path:
    """Write volumes as BraTS 2020 names them, whole or not at all.

    Args:
        source: Volumes of sequences that BraTS names, with its three classes.
        dest: Folder to write into; it gets `nifti/<patient>/<patient>_flair.nii.gz` and so on, with `_seg`, labels 1, 2
            and 4.

    Returns:
        The folder `dest/nifti`.

    Raises:
        InputError: It exists already, or no nibabel.
    """
    nibabel = optional_import("nibabel", "medical")

    def write(scratch: Path) -> None:
        for patient in source.table.patient.unique():
            volume = source.volume(patient)
            folder = scratch / patient
            folder.mkdir(parents=True)
            # Rows run to posterior and columns to the patient's left: negative steps in NIfTI's right, anterior, up.
            affine = np.diag([-volume.spacing[2], -volume.spacing[1], volume.spacing[0], 1])
            for index, name in enumerate(source.channels):
                image = nibabel.Nifti1Image(volume.images[..., index].transpose(2, 1, 0), affine)
                nibabel.save(image, folder / f"{patient}_{name.lower()}.nii.gz")
            labels = nibabel.Nifti1Image(_BRATS2020[volume.masks].transpose(2, 1, 0), affine)
            nibabel.save(labels, folder / f"{patient}_seg.nii.gz")

    root = Path(dest) / "nifti"
    write_folder(root, write)
    return root
