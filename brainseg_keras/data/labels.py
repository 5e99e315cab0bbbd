"""Tumour classes: one numbering here, the many numberings of files, and the nested regions that BraTS scores."""

from collections.abc import Sequence

import numpy as np

from brainseg_keras.errors import InputError

#: Classes of the labels 1, 2 and 3, in the order of the BraTS 2020 HDF5 masks and of BraTS 2023.
CLASSES = ("necrotic core", "edema", "enhancing tumour")
#: The one class of data that tell tumour from background alone.
BINARY = ("tumour",)
#: Labels in files, and what they are here. Necrotic and non-enhancing core are one class, as in BraTS since 2017.
SCHEMES = {
    "brats2020": {1: 1, 2: 2, 4: 3},
    "brats2023": {1: 1, 2: 2, 3: 3},
    "brats2015": {1: 1, 2: 2, 3: 1, 4: 3},
    "msd": {1: 2, 2: 1, 3: 3},
    "binary": {1: 1, 255: 1},
}
#: Regions of BraTS and the labels of which each is made.
REGIONS = {"whole tumour": (1, 2, 3), "tumour core": (1, 3), "enhancing tumour": (3,)}


def read_labels(values: np.ndarray, scheme: str, origin: str) -> np.ndarray:
    """Bring a file's labels to the numbering that is used here.

    Args:
        values: Array of whole numbers, of any dtype, 0 for background.
        scheme: A key of `SCHEMES`.
        origin: Named in messages.

    Returns:
        Array of the same shape, uint8: 1 necrotic core, 2 edema, 3 enhancing tumour; with `binary` 1 for tumour.

    Raises:
        InputError: An unknown scheme, or a value that it does not know.

    Example:
        >>> read_labels(np.array([0, 1, 2, 4]), "brats2020", "seg.nii.gz").tolist()
        [0, 1, 2, 3]
    """
    numbers = check_scheme(scheme)
    present = np.unique(values)
    strange = [value for value in present.tolist() if value != 0 and value not in numbers]
    if strange:
        fitting = [name for name, known in SCHEMES.items() if all(v == 0 or v in known for v in present.tolist())]
        cure = f"They fit --labels {' or '.join(fitting)}." if fitting else "Export the labels again."
        raise InputError(
            f"{origin} holds the labels {present[:8].tolist()}. The scheme {scheme} knows 0, "
            f"{', '.join(map(str, numbers))}. {cure}"
        )
    labels = np.zeros(values.shape, np.uint8)
    for value, label in numbers.items():
        labels[values == value] = label
    return labels


def check_scheme(scheme: str) -> dict[int, int]:
    """Look a label scheme up.

    Args:
        scheme: A key of `SCHEMES`.

    Returns:
        Labels in files, and what they are here.

    Raises:
        InputError: No such scheme.

    Example:
        >>> check_scheme("msd")[3]
        3
    """
    if scheme not in SCHEMES:
        raise InputError(f"--labels is one of {', '.join(SCHEMES)}. Received: {scheme!r}.")
    return SCHEMES[scheme]


def scheme_classes(scheme: str) -> tuple[str, ...]:
    """Name the classes of data in a label scheme.

    Args:
        scheme: A key of `SCHEMES`.

    Returns:
        Names of the labels from 1 on.

    Example:
        >>> scheme_classes("binary")
        ('tumour',)
    """
    return BINARY if scheme == "binary" else CLASSES


def region_masks(labels: np.ndarray, classes: Sequence[str] = CLASSES) -> dict[str, np.ndarray]:
    """Give the masks of the regions that are scored.

    Args:
        labels: Array of label numbers.
        classes: Names of the labels from 1 on.

    Returns:
        Whole tumour, tumour core and enhancing tumour; of binary data the whole tumour alone. Bool arrays.

    Example:
        >>> [int(mask.sum()) for mask in region_masks(np.array([0, 1, 2, 3])).values()]
        [3, 2, 1]
    """
    if tuple(classes) != CLASSES:
        return {"whole tumour": labels > 0}
    return {name: np.isin(labels, members) for name, members in REGIONS.items()}
