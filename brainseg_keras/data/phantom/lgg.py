"""A phantom: synthetic heads with FLAIR-bright lesions, written in the very layout of the LGG set.

It is for trying the software and for its tests, not for claims about tumours: what a network learns here holds for the
phantom alone.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from brainseg_keras import ranges
from brainseg_keras.data.decode.images import mask_picture
from brainseg_keras.files import write_folder

#: Intensity of each tissue by modality; gray matter in FLAIR is about 0.6.
TISSUES = ("air", "scalp", "skull", "csf", "gray", "white")
INTENSITIES = {
    "T1": (0.02, 1.05, 0.10, 0.20, 0.52, 0.72),
    "FLAIR": (0.03, 0.98, 0.09, 0.14, 0.62, 0.52),
    "T1ce": (0.02, 1.08, 0.10, 0.20, 0.54, 0.74),
    "T2": (0.02, 0.85, 0.10, 1.10, 0.66, 0.50),
}
_SEQUENCES = ("T1", "FLAIR", "T1ce")
_INSTITUTIONS = ("CS", "DU", "HT")
_FULL_SCALE = 140.0


@dataclass(frozen=True)
class _Grid:
    """Coordinates of every voxel: x to the left ear, y to the nose, z to the crown, the head about one unit wide."""

    z: np.ndarray
    y: np.ndarray
    x: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        return np.broadcast_shapes(self.z.shape, self.y.shape, self.x.shape)


def phantom_volume(seed: int, index: int, *, slices: int = 20, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Make one patient; the same seed and index give the same one however many others are made.

    Args:
        seed: Of the whole phantom.
        index: Number of the patient.
        slices: Axial slices, from the skull base to the crown.
        size: Side of a slice in pixels.

    Returns:
        Images `(slices, size, size, 3)`, uint8, channels T1, FLAIR and T1 with contrast agent, and masks
        `(slices, size, size)`, uint8, 1 where there is tumour.

    Raises:
        InputError: A number out of its range, such as fewer than 6 slices or a side below 32.

    Example:
        >>> images, masks = phantom_volume(0, 0, slices=8, size=64)
        >>> images.shape, masks.shape
        ((8, 64, 64, 3), (8, 64, 64))
    """
    ranges.SEED.check("seed", seed)
    rng = np.random.default_rng([seed, index])
    head, away = head_with_lesion(rng, slices, size)
    lesion, core = _lesion(rng, away)
    contrast = rng.uniform(0.28, 0.55)
    volume = np.stack(
        [_modality(rng, name, head, lesion=lesion, core=core, contrast=contrast) for name in _SEQUENCES],
        axis=-1,
    )
    volume *= _FULL_SCALE * rng.uniform(0.7, 1.3)
    volume += rng.normal(0, 2.5, volume.shape)
    return np.clip(volume.round(), 0, 255).astype(np.uint8), (lesion > 0.5).astype(np.uint8)


def check_numbers(*, patients: int, slices: int, size: int, seed: int) -> None:
    """Refuse numbers of a phantom that are out of their ranges."""
    ranges.PATIENTS.check("patients", patients)
    ranges.SLICES.check("slices", slices)
    ranges.SIDE.check("size", size)
    ranges.SEED.check("seed", seed)


def write_phantom(dest: str | Path, *, patients: int = 30, slices: int = 20, size: int = 128, seed: int = 0) -> Path:
    """Write a phantom data set in the layout of the LGG set, whole or not at all.

    Args:
        dest: Folder to write into; it gets `kaggle_3m/<patient>/<patient>_<n>.tif`, the masks, and `data.csv`.
        patients: How many.
        slices: Axial slices of each.
        size: Side of a slice in pixels.
        seed: Another seed makes other patients.

    Returns:
        The folder `dest/kaggle_3m`.

    Raises:
        InputError: There is a `kaggle_3m` already, or a number out of its range.

    Example:
        >>> import tempfile
        >>> folder = write_phantom(tempfile.mkdtemp() + "/data", patients=3, slices=8, size=64)
        >>> len(list(folder.glob("*/*_mask.tif")))
        24
    """
    check_numbers(patients=patients, slices=slices, size=size, seed=seed)
    root = Path(dest) / "kaggle_3m"

    def write(scratch: Path) -> None:
        names = [f"PHANTOM_{_INSTITUTIONS[i % 3]}_{i + 1:04d}_20000101" for i in range(patients)]
        for index, name in enumerate(names):
            _write_patient(scratch / name, *phantom_volume(seed, index, slices=slices, size=size))
        rows = "".join(f"{name.rsplit('_', 1)[0]},,\n" for name in names)
        (scratch / "data.csv").write_text("Patient,gender,age_at_initial_pathologic\n" + rows, encoding="utf-8")

    write_folder(root, write)
    return root


def _write_patient(folder: Path, images: np.ndarray, masks: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, (image, mask) in enumerate(zip(images, masks, strict=True), start=1):
        _write_tiff(image, folder / f"{folder.name}_{number}.tif")
        _write_tiff(mask_picture(mask, 1), folder / f"{folder.name}_{number}_mask.tif")


def _write_tiff(pixels: np.ndarray, path: Path) -> None:
    # Given a path, Pillow does not notice that a full disk took only a part.
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "TIFF")
    path.write_bytes(content.getvalue())


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], cells: tuple[int, int]) -> np.ndarray:
    """Make a smooth field of about unit spread, with `cells` bumps along z and in the plane."""
    coarse = rng.standard_normal((cells[0], cells[1], cells[1])).astype(np.float32)
    planes = np.stack([cv2.resize(plane, shape[:0:-1], interpolation=cv2.INTER_CUBIC) for plane in coarse])
    flat = planes.reshape(cells[0], -1)
    return cv2.resize(flat, (flat.shape[1], shape[0]), interpolation=cv2.INTER_LINEAR).reshape(shape)


class Head(NamedTuple):
    """A head without tumour; arrays of shape `(slices, size, size)`."""

    grid: "_Grid"
    tissue: np.ndarray  # places in TISSUES
    radius: np.ndarray  # 1 at the skin
    caps: np.ndarray  # what is bright around the ventricles without being a tumour


def head_with_lesion(rng: np.random.Generator, slices: int, size: int) -> tuple[Head, np.ndarray]:
    """Make a head, and say where its tumour lies.

    Args:
        rng: Where the random numbers come from.
        slices: Axial slices.
        size: Side of a slice in pixels.

    Returns:
        The head, and the distance from the tumour's middle `(slices, size, size)`: 1 at its edge.

    Raises:
        InputError: A number out of its range, such as fewer than 6 slices or a side below 32.
    """
    ranges.SLICES.check("slices", slices)
    ranges.SIDE.check("size", size)
    grid = _head_grid(rng, slices, size)
    tissue, radius, caps = _anatomy(rng, grid)
    return Head(grid, tissue, radius, caps), _lesion_distance(rng, grid, radius)


def lesion_free_image(rng: np.random.Generator, head: Head, name: str) -> np.ndarray:
    """Make one sequence of a head without its tumour.

    Args:
        rng: Where the random numbers come from.
        head: The head.
        name: A key of `INTENSITIES`.

    Returns:
        Array of shape `(slices, size, size)`, float32; white matter in T1 is about 0.7.
    """
    image = _tissue_image(rng, name, head.tissue)
    if name in ("FLAIR", "T2"):
        image = image + head.caps
    return image * np.exp(0.16 * _smooth_noise(rng, image.shape, (3, 3)))


def _head_grid(rng: np.random.Generator, slices: int, size: int) -> _Grid:
    z = np.linspace(-0.85, 0.92, slices, dtype=np.float32)[:, None, None]
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    y, x = axis[None, :, None] - rng.uniform(-0.05, 0.05), axis[None, None, :] - rng.uniform(-0.05, 0.05)
    angle = rng.uniform(-0.15, 0.15)
    turned_x, turned_y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    return _Grid(z, turned_y / rng.uniform(0.82, 0.92), turned_x / rng.uniform(0.68, 0.78))


def _anatomy(rng: np.random.Generator, grid: _Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Place the tissues: their numbers, the distance from the middle (1 at the skin), and bright caps and spots."""
    shape = grid.shape
    radius = np.sqrt(grid.x**2 + grid.y**2) / np.sqrt(1.02 - 0.75 * grid.z**2)
    radius = radius * (1 + 0.015 * _smooth_noise(rng, shape, (3, 6)))
    folds = _smooth_noise(rng, shape, (6, 22))
    tissue = np.zeros(shape, np.uint8)
    for number, edge in ((1, 1.0), (2, 0.90 + rng.uniform(-0.02, 0.02)), (3, 0.83), (4, 0.79)):
        tissue[radius < edge] = number
    brain = radius < 0.79
    tissue[brain & (radius + 0.10 * folds < 0.62)] = 5
    tissue[brain & (radius > 0.66) & (folds > 1.1)] = 3
    # Two ventricles beside the midline, and what is bright around them without being a tumour.
    side = np.minimum(
        ((grid.x - 0.13) / 0.09) ** 2 + ((grid.y + 0.02) / 0.30) ** 2,
        ((grid.x + 0.13) / 0.09) ** 2 + ((grid.y + 0.02) / 0.30) ** 2,
    )
    ventricle = side + (grid.z / 0.45) ** 2 + 0.15 * _smooth_noise(rng, shape, (4, 10))
    tissue[brain & (ventricle < 1)] = 3
    caps = np.where(brain & (ventricle >= 1) & (ventricle < 1.5), rng.uniform(0.1, 0.4), 0)
    spots = _smooth_noise(rng, shape, (shape[0], 40)) > 2.6
    caps = np.maximum(caps, np.where(brain & spots, 0.4, 0))
    return tissue, radius, caps.astype(np.float32)


def _lesion_distance(rng: np.random.Generator, grid: _Grid, radius: np.ndarray) -> np.ndarray:
    """Place a tumour: the distance from its middle, 1 at its edge."""
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 0.55)
    center = (rng.uniform(-0.3, 0.4), distance * np.sin(angle), distance * np.cos(angle))
    extent = rng.uniform(0.18, 0.36)
    stretch = rng.uniform(0.8, 1.25, 2)
    away = np.sqrt(
        ((grid.z - center[0]) / (1.2 * extent)) ** 2
        + ((grid.y - center[1]) / (extent * stretch[0])) ** 2
        + ((grid.x - center[2]) / (extent * stretch[1])) ** 2
    )
    away = away + 0.16 * _smooth_noise(rng, grid.shape, (5, 9))
    # The skull holds it.
    return np.maximum(away, 1 + (radius - 0.79) * 8)


def _lesion(rng: np.random.Generator, away: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the tumour's weight (above one half is tumour) and that of its core."""
    core_size = rng.choice([0.0, rng.uniform(0.3, 0.55)])
    return _sigmoid((1 - away) * 14), _sigmoid((core_size - away) * 14) if core_size else np.zeros_like(away)


def _tissue_image(rng: np.random.Generator, name: str, tissue: np.ndarray) -> np.ndarray:
    image = np.asarray(INTENSITIES[name], np.float32)[tissue]
    image = image * (1 + 0.05 * _smooth_noise(rng, tissue.shape, (len(tissue), 48)))
    return np.stack([cv2.GaussianBlur(plane, (0, 0), tissue.shape[1] / 200) for plane in image])


def _modality(
    rng: np.random.Generator, name: str, head: Head, *, lesion: np.ndarray, core: np.ndarray, contrast: float
) -> np.ndarray:
    shape = head.grid.shape
    image = _tissue_image(rng, name, head.tissue)
    texture = 0.07 * _smooth_noise(rng, shape, (6, 24))
    if name == "FLAIR":
        image = image + head.caps * (1 - lesion)
        image = image * (1 - lesion) + lesion * (0.58 + contrast + texture) - core * rng.uniform(0.1, 0.45)
    else:
        image = image * (1 - lesion) + lesion * (0.45 + texture)
    if name == "T1ce" and core.any():
        rim = core * (1 - core) * 4
        image = image + 0.5 * rim
    bias = np.exp(0.16 * _smooth_noise(rng, shape, (3, 3)))
    return image * bias


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(values, -30, 30)))
