"""What is wrong with a data set: findings, and the checks of one volume that make them."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from scipy import fft

from brainseg_keras.data.labels import CLASSES
from brainseg_keras.data.modalities import flair_index
from brainseg_keras.data.volumes import Volume

SEVERITIES = ("error", "warning", "note")
#: Share of tumour pixels outside the head from which a mask is called shifted or too large; the LGG set has 0.0006.
_OUTSIDE = 0.01
#: Contrast of a mask where it lies, as a share of that where it fits best, below which it is called shifted.
_CONTRAST = 0.12
#: Step across the outline of a mask where it lies, brighter or darker, as a share of that where it is brightest, from
#: which it is left in peace: of 88 LGG patients no mask has less than 0.36 as it lies, shifted ones 0.05 in the mean.
_EDGE = 0.3
#: Pixels by which a mask is tried elsewhere, on slices of half the size.
_REACH = 32
_BRIGHTEST = 0.02


@dataclass(frozen=True)
class Picture:
    """A slice to show beside a finding.

    Args:
        caption: Whose slice it is.
        image: Array of shape `(height, width, channels)`, as stored.
        mask: Array of shape `(height, width)`.
    """

    caption: str
    image: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Args:
        check: Which check, such as `same-slice`.
        severity: `error` spoils training or scores, `warning` may, `note` is worth knowing.
        text: What was found, and what to do.
        patients: Whom it concerns.
        pictures: Slices to show.
    """

    check: str
    severity: str
    text: str
    patients: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = field(default=(), compare=False)


def check_volume(volume: Volume, channels: tuple[str, ...], classes: tuple[str, ...]) -> list[Finding]:
    """Check one patient by itself.

    Args:
        volume: The patient.
        channels: Names of its channels.
        classes: Names of its labels from 1 on.

    Returns:
        Findings: masks outside the head or shifted, blank slices, saturated values, channels that are copies, labels
        that contradict the contrast agent.
    """
    findings = [*_mask_place(volume, channels), *_values(volume, channels), *_copies(volume, channels)]
    if classes == CLASSES and "T1ce" in channels:
        findings += _labels_against_contrast(volume, channels.index("T1ce"))
    return findings


def _worst_slice(volume: Volume, weight: np.ndarray) -> Picture:
    index = int(weight.sum(axis=(1, 2)).argmax())
    caption = f"{volume.patient}, slice {volume.slices[index]}"
    return Picture(caption, volume.images[index], volume.masks[index])


def _mask_place(volume: Volume, channels: tuple[str, ...]) -> list[Finding]:
    tumour = volume.masks > 0
    if not tumour.any():
        return []
    low, high = volume.intensity[:, 0], volume.intensity[:, 1]
    head = (volume.images > low + 0.1 * (high - low)).any(axis=-1)
    # The head is filled: a dark ventricle or a cyst is inside it.
    filled = np.stack([_filled(plane) for plane in head])
    outside = tumour & ~filled
    share = outside.sum() / tumour.sum()
    if share > _OUTSIDE:
        text = (
            f"{volume.patient}: {share:.0%} of the mask lie outside the head, so that it is shifted, too large, or "
            "another patient's. Export it anew from the tool that drew it."
        )
        return [Finding("mask-outside-head", "error", text, (volume.patient,), (_worst_slice(volume, outside),))]
    bright = flair_index(channels)
    moved = _best_shift(volume.images[..., bright], tumour, volume.intensity[bright])
    if moved:
        text = (
            f"{volume.patient}: the mask would fit the picture better {_direction(moved)}. Look at it, and export it "
            "anew if it is shifted."
        )
        return [Finding("mask-shifted", "warning", text, (volume.patient,), (_worst_slice(volume, tumour),))]
    return []


def _filled(plane: np.ndarray) -> np.ndarray:
    outlines, _ = cv2.findContours(plane.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(plane.astype(np.uint8), outlines, -1, 1, cv2.FILLED) > 0


def _direction(moved: tuple[int, int]) -> str:
    rows, columns = moved
    return f"{abs(rows)} pixels {'down' if rows > 0 else 'up'} and {abs(columns)} {'right' if columns > 0 else 'left'}"


def _best_shift(images: np.ndarray, tumour: np.ndarray, intensity: np.ndarray) -> tuple[int, int] | None:
    """Say by how many rows and columns a mask should move, where it has no contrast as it lies; else None.

    Contrast is the mean inside minus the mean in a ring around it, for every place of the mask at once (by Fourier
    transform), summed over the slices. A dark cyst has none, and yet its mask is right: its outline follows an edge.
    """
    low, high = intensity
    small = np.clip((images[:, ::2, ::2].astype(np.float32) - low) / max(high - low, 1e-6), 0, 2.5)
    masks = tumour[:, ::2, ::2].astype(np.uint8)
    total, weight = np.zeros(small.shape[1:], np.float32), 0
    for image, mask in zip(small, masks, strict=True):
        pixels = int(mask.sum())
        if pixels < 30:
            continue
        ring = cv2.dilate(mask, np.ones((9, 9), np.uint8)) - mask
        template = mask / np.float32(pixels) - ring / np.float32(max(int(ring.sum()), 1))
        spectrum = fft.rfft2(image) * np.conj(fft.rfft2(template))
        total += pixels * fft.irfft2(spectrum, s=image.shape).astype(np.float32)
        weight += pixels
    reach = min(_REACH, *(side // 2 - 1 for side in total.shape))
    if not weight or reach < 4:
        return None
    contrast = np.roll(total / weight, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    rows, columns = np.unravel_index(int(contrast.argmax()), contrast.shape)
    best, here = float(contrast.max()), float(contrast[reach, reach])
    rows, columns = int(rows) - reach, int(columns) - reach
    if best <= 0.2 or here >= _CONTRAST * best or 2 * max(abs(rows), abs(columns)) <= 8:
        return None
    if abs(_edge(small, masks)) >= _EDGE * abs(_edge(small, np.roll(masks, (rows, columns), (1, 2)))):
        return None
    return 2 * rows, 2 * columns


def _edge(images: np.ndarray, masks: np.ndarray) -> float:
    """Measure how much brighter it gets across the masks' outlines, inwards, a pixel; below 0 where it gets darker."""
    total = 0.0
    for image, mask in zip(images, masks, strict=True):
        if mask.any():
            slope = np.gradient(cv2.GaussianBlur(image, (0, 0), 1))
            inwards = np.gradient(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1))
            across = float((slope[0] * inwards[0] + slope[1] * inwards[1]).sum())
            total += int(mask.sum()) * across / float(np.hypot(*inwards).sum())
    return total


def _values(volume: Volume, channels: tuple[str, ...]) -> list[Finding]:
    findings = []
    blank = volume.images.reshape(len(volume.images), -1)
    blank = blank.min(axis=1) == blank.max(axis=1)
    if (blank & volume.masks.reshape(len(blank), -1).any(axis=1)).any():
        index = int(np.flatnonzero(blank & volume.masks.reshape(len(blank), -1).any(axis=1))[0])
        text = f"{volume.patient}: slice {volume.slices[index]} is blank and yet has a mask. Restore the image."
        picture = Picture(f"{volume.patient}, slice {volume.slices[index]}", volume.images[index], volume.masks[index])
        findings.append(Finding("blank-slice", "error", text, (volume.patient,), (picture,)))
    inner = np.flatnonzero(~blank)
    gaps = [int(index) for index in np.flatnonzero(blank) if len(inner) and inner[0] < index < inner[-1]]
    if gaps:
        text = f"{volume.patient}: {len(gaps)} blank slices between others (first: {volume.slices[gaps[0]]})."
        findings.append(Finding("blank-slice", "warning", text, (volume.patient,)))
    for index, name in enumerate(channels):
        pixels = volume.images[..., index]
        share = float((pixels == pixels.max()).mean())
        low = float(volume.intensity[index, 0])
        reach = float(pixels.max()) - low
        border = np.concatenate([pixels[:, :8, :8], pixels[:, -8:, -8:]], axis=1)
        if share > _BRIGHTEST and pixels.max() > pixels.min():
            text = f"{volume.patient}: {share:.1%} of {name} have its largest value, {pixels.max():g}: it is saturated."
            findings.append(
                Finding(
                    "saturated", "warning", text, (volume.patient,), (_worst_slice(volume, pixels == pixels.max()),)
                )
            )
        elif reach > 0 and float(np.median(border)) - float(pixels.min()) > 0.15 * (float(pixels.max() - pixels.min())):
            text = (
                f"{volume.patient}: the background of {name} is bright (median {np.median(border):g} in the corners)."
            )
            findings.append(Finding("bright-background", "note", text, (volume.patient,)))
    return findings


def _copies(volume: Volume, channels: tuple[str, ...]) -> list[Finding]:
    same = [
        (channels[first], channels[second])
        for first in range(len(channels))
        for second in range(first + 1, len(channels))
        if np.array_equal(volume.images[..., first], volume.images[..., second])
    ]
    if not same:
        return []
    pairs = ", ".join(f"{first} and {second}" for first, second in same)
    text = f"{volume.patient}: {pairs} are the same pictures: one sequence was missing and another stands in for it."
    return [Finding("copied-modality", "note", text, (volume.patient,))]


def _labels_against_contrast(volume: Volume, index: int) -> list[Finding]:
    """Enhancing tumour is brighter in T1ce than edema; where it is darker, the labels mean other things."""
    pixels = volume.images[..., index]
    edema, enhancing = (pixels[volume.masks == label] for label in (2, 3))
    if min(len(edema), len(enhancing)) < 20 or np.median(enhancing) > np.median(edema):
        return []
    text = (
        f"{volume.patient}: what is labeled enhancing tumour is darker in T1ce than what is labeled edema. The "
        "labels probably follow another scheme: see --labels."
    )
    picture = _worst_slice(volume, volume.masks == 3)
    return [Finding("label-scheme", "warning", text, (volume.patient,), (picture,))]
