"""MR sequences by name: the many spellings in file names, and how a scan's channels become a network's."""

import re
from collections.abc import Sequence

import numpy as np

from brainseg_keras.errors import InputError

#: Spellings in file names, and the name used here.
SPELLINGS = {
    "flair": "FLAIR",
    "t2f": "FLAIR",
    "t1": "T1",
    "t1n": "T1",
    "t1w": "T1",
    "pre": "T1",
    "t1ce": "T1ce",
    "t1c": "T1ce",
    "t1gd": "T1ce",
    "post": "T1ce",
    "t2": "T2",
    "t2w": "T2",
}
_TOKEN = re.compile(rf"(?:^|[_\-. ])({'|'.join(sorted(SPELLINGS, key=len, reverse=True))})(?=[_\-. ]|$)", re.IGNORECASE)


def standard_name(name: str) -> str:
    """Bring one spelling of a sequence to the name that is used here.

    Args:
        name: As somebody wrote it.

    Returns:
        The name, or what was given where it is none of the spellings.

    Example:
        >>> standard_name("t1Gd"), standard_name("ADC")
        ('T1ce', 'ADC')
    """
    return SPELLINGS.get(name.lower(), name)


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


def flair_index(channels: Sequence[str] | int) -> int:
    """Say which channel shows a tumour best: FLAIR, or what stands where FLAIR usually does.

    Args:
        channels: Their names, or their number where they have none.

    Returns:
        That of FLAIR; where none is called so the second of three, as in the LGG set, the last of four, as in BraTS',
        else the first.

    Example:
        >>> flair_index(("T1", "T2", "FLAIR")), flair_index(("red", "green", "blue")), flair_index(4)
        (2, 1, 3)
    """
    if isinstance(channels, int):
        return {3: 1, 4: 3}.get(channels, 0)
    return list(channels).index("FLAIR") if "FLAIR" in channels else flair_index(len(channels))


def split_modality(stem: str) -> tuple[str, str | None]:
    """Find the sequence that a file name speaks of.

    Args:
        stem: File name without its ending.

    Returns:
        The name without it, by which the sequences of one patient belong together, and the sequence, or None.

    Example:
        >>> split_modality("BraTS20_Training_001_t1ce")
        ('BraTS20_Training_001', 'T1ce')
        >>> split_modality("scan")
        ('scan', None)
    """
    found = list(_TOKEN.finditer(stem))
    if not found:
        return stem, None
    last = found[-1]
    rest = (stem[: last.start()] + stem[last.end() :]).strip("_-. ")
    return rest, standard_name(last.group(1))


def arrange_channels(
    images: np.ndarray, names: Sequence[str] | None, wanted: Sequence[str], source: str
) -> tuple[np.ndarray, str | None]:
    """Bring a scan's channels to those of a network.

    By name where both have names. A lone channel fills all, and FLAIR (or else the first) fills a sequence that is
    missing, as the makers of the LGG set did.

    Args:
        images: Array of shape `(slices, height, width, channels)`.
        names: Sequences of the scan, or None where its file does not say.
        wanted: Sequences of the network.
        source: Named in messages.

    Returns:
        Array with the network's channels, and a remark on what was filled in, or None.

    Raises:
        InputError: As many channels as no rule covers.

    Example:
        >>> images, remark = arrange_channels(np.zeros((1, 8, 8, 1)), None, ("T1", "FLAIR", "T1ce"), "a.png")
        >>> images.shape, remark
        ((1, 8, 8, 3), 'a.png: its one channel fills T1, FLAIR, T1ce')
    """
    count = images.shape[-1]
    if count == 1 and len(wanted) > 1:
        what = f"its one channel ({names[0]})" if names else "its one channel"
        return np.repeat(images, len(wanted), axis=-1), f"{source}: {what} fills {', '.join(wanted)}"
    if names and set(names) & set(wanted):
        spare = "FLAIR" if "FLAIR" in names else names[0]
        missing = [name for name in wanted if name not in names]
        order = [names.index(name if name in names else spare) for name in wanted]
        remark = f"{source}: {spare} stands in for {', '.join(missing)}, which is missing" if missing else None
        return images[..., order], remark
    if count == len(wanted):
        return images, None
    if len(wanted) == 1 and count == 3:
        if (images[..., :1] == images).all():
            return images[..., :1], None
        return images.mean(axis=-1, keepdims=True), f"{source}: the mean of its three channels is {wanted[0]}"
    listed = f" ({', '.join(names)})" if names else ""
    raise InputError(
        f"{source} has {count} channels{listed}. The network takes "
        f"{len(wanted)} ({', '.join(wanted)}), or one that fills all."
    )
