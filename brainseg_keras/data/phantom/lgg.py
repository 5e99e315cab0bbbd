"""A phantom: synthetic heads with FLAIR-bright lesions, written in the very layout of the LGG set.

It is for trying the software and for its tests, not for claims about tumours: what a network learns here holds for the
phantom alone.
"""

import io
from pathlib import Path

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
    head = Head(rng, slices, size)
    lesion = _Lesion(rng)
    contrast = rng.uniform(0.28, 0.55)
    sequences = [_Modality(rng, name, head, contrast) for name in _SEQUENCES]
    gain = _FULL_SCALE * rng.uniform(0.7, 1.3)
    images = np.empty((slices, size, size, len(sequences)), np.uint8)
    masks = np.empty(images.shape[:3], np.uint8)
    # Slice by slice: what one needs stays in the processor's cache, and the random numbers come in the same order.
    for number in range(slices):
        weight, core = lesion.weights(head.away[number])
        image = np.stack([sequence.image(number, weight, core) for sequence in sequences], axis=-1)
        image *= gain
        image += rng.normal(0, 2.5, image.shape)
        images[number] = np.clip(image.round(), 0, 255)
        masks[number] = weight > 0.5
    return images, masks


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


class _SmoothNoise:
    """A smooth field of about unit spread, with `cells` bumps along z and in the plane; drawn at once, given by slice.

    Args:
        rng: Where the random numbers come from.
        shape: Slices, rows and columns.
        cells: Bumps along z, and along rows and columns.
    """

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int, int], cells: tuple[int, int]):
        self._planes = rng.standard_normal((cells[0], cells[1], cells[1])).astype(np.float32)
        self._size = shape[:0:-1]
        self._whole: np.ndarray | None = None
        if cells[0] != shape[0]:
            flat = np.stack([self._wide(plane) for plane in self._planes]).reshape(cells[0], -1)
            whole = cv2.resize(flat, (flat.shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
            self._whole = whole.reshape(shape)

    def __getitem__(self, number: int) -> np.ndarray:
        return self._wide(self._planes[number]) if self._whole is None else self._whole[number]

    def _wide(self, plane: np.ndarray) -> np.ndarray:
        return cv2.resize(plane, self._size, interpolation=cv2.INTER_CUBIC)


class Head:
    """A head with the place of its tumour.

    Args:
        rng: Where the random numbers come from.
        slices: Axial slices.
        size: Side of a slice in pixels.

    Raises:
        InputError: A number out of its range, such as fewer than 6 slices or a side below 32.

    Example:
        >>> Head(np.random.default_rng(0), 8, 32).away.shape
        (8, 32, 32)
    """

    def __init__(self, rng: np.random.Generator, slices: int, size: int):
        ranges.SLICES.check("slices", slices)
        ranges.SIDE.check("size", size)
        self.shape = slices, size, size
        #: Numbers in `TISSUES`.
        self.tissue = np.empty(self.shape, np.uint8)
        #: Whether a voxel lies within the skin.
        self.inside = np.empty(self.shape, bool)
        #: What is bright around the ventricles without being a tumour.
        self.caps = np.empty(self.shape, np.float32)
        #: Distance from the tumour's middle: 1 at its edge.
        self.away = np.empty(self.shape)
        grid = _Grid(rng, slices, size)
        anatomy = _Anatomy(rng, self.shape)
        distance = _LesionDistance(rng, self.shape)
        for number in range(slices):
            self.tissue[number], radius, self.caps[number] = anatomy.place(grid, number)
            self.inside[number] = radius < 1
            self.away[number] = distance.measure(grid, number, radius)


class LesionFreeImage:
    """One sequence of a head without its tumour.

    Args:
        rng: Where the random numbers come from; all are drawn at once.
        head: The head.
        name: A key of `INTENSITIES`.
    """

    def __init__(self, rng: np.random.Generator, head: Head, name: str):
        self._head, self._name = head, name
        self._tissues = _TissueImage(rng, name, head)
        self._bias = _SmoothNoise(rng, head.shape, (3, 3))

    def image(self, number: int) -> np.ndarray:
        """Make a slice, float32; white matter in T1 is about 0.7."""
        image = self._tissues.image(number)
        if self._name in ("FLAIR", "T2"):
            image = image + self._head.caps[number]
        return image * np.exp(0.16 * self._bias[number])


class _Grid:
    """Coordinates of every voxel: x to the left ear, y to the nose, z to the crown, the head about one unit wide."""

    def __init__(self, rng: np.random.Generator, slices: int, size: int):
        self.z = np.linspace(-0.85, 0.92, slices, dtype=np.float32)
        axis = np.linspace(-1, 1, size, dtype=np.float32)
        y, x = axis[:, None] - rng.uniform(-0.05, 0.05), axis[None, :] - rng.uniform(-0.05, 0.05)
        angle = rng.uniform(-0.15, 0.15)
        turned_x, turned_y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
        self.y, self.x = turned_y / rng.uniform(0.82, 0.92), turned_x / rng.uniform(0.68, 0.78)
        #: From the axis through the middle.
        self.radius = np.sqrt(self.x**2 + self.y**2)
        #: From the nearer of two ventricles beside the midline, but for z.
        self.ventricle = np.minimum(
            ((self.x - 0.13) / 0.09) ** 2 + ((self.y + 0.02) / 0.30) ** 2,
            ((self.x + 0.13) / 0.09) ** 2 + ((self.y + 0.02) / 0.30) ** 2,
        )


class _Anatomy:
    """Where the tissues lie."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int, int]):
        self._skin = _SmoothNoise(rng, shape, (3, 6))
        self._folds = _SmoothNoise(rng, shape, (6, 22))
        self._skull = 0.90 + rng.uniform(-0.02, 0.02)
        self._ventricles = _SmoothNoise(rng, shape, (4, 10))
        self._brightness = rng.uniform(0.1, 0.4)
        self._spots = _SmoothNoise(rng, shape, (shape[0], 40))

    def place(self, grid: _Grid, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give a slice's tissues, the distance from the middle (1 at the skin), and bright caps and spots."""
        z, folds = grid.z[number], self._folds[number]
        radius = grid.radius / np.sqrt(1.02 - 0.75 * z**2)
        radius = radius * (1 + 0.015 * self._skin[number])
        tissue = np.zeros(radius.shape, np.uint8)
        for kind, edge in ((1, 1.0), (2, self._skull), (3, 0.83), (4, 0.79)):
            tissue[radius < edge] = kind
        brain = radius < 0.79
        tissue[brain & (radius + 0.10 * folds < 0.62)] = 5
        tissue[brain & (radius > 0.66) & (folds > 1.1)] = 3
        ventricle = grid.ventricle + (z / 0.45) ** 2 + 0.15 * self._ventricles[number]
        tissue[brain & (ventricle < 1)] = 3
        caps = np.where(brain & (ventricle >= 1) & (ventricle < 1.5), self._brightness, 0)
        caps = np.maximum(caps, np.where(brain & (self._spots[number] > 2.6), 0.4, 0))
        return tissue, radius, caps


class _LesionDistance:
    """Where a tumour lies."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int, int]):
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 0.55)
        self._center = (rng.uniform(-0.3, 0.4), distance * np.sin(angle), distance * np.cos(angle))
        self._extent = rng.uniform(0.18, 0.36)
        self._stretch = rng.uniform(0.8, 1.25, 2)
        self._noise = _SmoothNoise(rng, shape, (5, 9))

    def measure(self, grid: _Grid, number: int, radius: np.ndarray) -> np.ndarray:
        """Give the distance of a slice's voxels from the tumour's middle, 1 at its edge."""
        center, extent, stretch = self._center, self._extent, self._stretch
        away = np.sqrt(
            ((grid.z[number] - center[0]) / (1.2 * extent)) ** 2
            + ((grid.y - center[1]) / (extent * stretch[0])) ** 2
            + ((grid.x - center[2]) / (extent * stretch[1])) ** 2
        )
        away = away + 0.16 * self._noise[number]
        # The skull holds it.
        return np.maximum(away, 1 + (radius - 0.79) * 8)


class _Lesion:
    """The weight of a tumour and of its core."""

    def __init__(self, rng: np.random.Generator):
        self._core = rng.choice([0.0, rng.uniform(0.3, 0.55)])

    def weights(self, away: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the tumour's weight in a slice (above one half is tumour) and that of its core."""
        core = _sigmoid((self._core - away) * 14) if self._core else np.zeros_like(away)
        return _sigmoid((1 - away) * 14), core


class _TissueImage:
    """One sequence of the tissues alone."""

    def __init__(self, rng: np.random.Generator, name: str, head: Head):
        self._values = np.asarray(INTENSITIES[name], np.float32)
        self._tissue = head.tissue
        self._grain = _SmoothNoise(rng, head.shape, (head.shape[0], 48))

    def image(self, number: int) -> np.ndarray:
        """Make a slice."""
        image = self._values[self._tissue[number]]
        image = image * (1 + 0.05 * self._grain[number])
        return cv2.GaussianBlur(image, (0, 0), len(image) / 200)


class _Modality:
    """One sequence of a head with its tumour."""

    def __init__(self, rng: np.random.Generator, name: str, head: Head, contrast: float):
        self._head, self._name, self._contrast = head, name, contrast
        self._tissues = _TissueImage(rng, name, head)
        self._texture = _SmoothNoise(rng, head.shape, (6, 24))
        self._depth = rng.uniform(0.1, 0.45) if name == "FLAIR" else 0.0
        self._bias = _SmoothNoise(rng, head.shape, (3, 3))

    def image(self, number: int, lesion: np.ndarray, core: np.ndarray) -> np.ndarray:
        """Make a slice."""
        image, texture = self._tissues.image(number), 0.07 * self._texture[number]
        if self._name == "FLAIR":
            image = image + self._head.caps[number] * (1 - lesion)
            image = image * (1 - lesion) + lesion * (0.58 + self._contrast + texture) - core * self._depth
        else:
            image = image * (1 - lesion) + lesion * (0.45 + texture)
        if self._name == "T1ce":
            rim = core * (1 - core) * 4
            image = image + 0.5 * rim
        return image * np.exp(0.16 * self._bias[number])


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(values, -30, 30)))
