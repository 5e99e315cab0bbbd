"""Augmentation of tumours: darkened in part, and carved from one slice into another."""

from functools import reduce

import cv2
import numpy as np

from brainseg_keras.data.inputs.head import fill_head

#: To which level a tumour is darkened, where tissue is 1, and which share of it.
_LEVELS = (0.1, 1.0)
_DARKENED = (0.2, 0.8)
#: How much of the way, and over which part of the field's range it fades.
_STRENGTH = (0.6, 1.0)
_FADE = 0.15
#: Control points of the field along each side of a tumour.
_POINTS = 4
#: What is brighter in most channels is head, where tissue is 1.
_HEAD_LEVEL = 0.1


def darken_lesions(
    images: np.ndarray,
    masks: np.ndarray,
    rng: np.random.Generator,
    probability: float,
    *,
    context: int = 0,
    sources: np.ndarray | None = None,
) -> None:
    """Darken a smooth part of some tumours, as cysts and necrosis are, in place; the masks stay whole.

    A network that has seen few such tumours outlines only what is bright in them. Each sequence fades toward a level of
    its own, between the background's and tissue's; what is darker already stays.

    Args:
        images: Normalized slices `(batch, height, width, channels)`, float32, background 0 and tissue 1.
        masks: Array of shape `(batch, height, width, layers)`, uint8, from 0 to 255.
        rng: Where the random numbers come from.
        probability: Of each slice that shows tumour.
        context: Neighbors on each side that stand behind each other as channels; they darken alike.
        sources: Which channel each channel of each slice shows `(batch, channels)`, where one stands in for others:
            they darken alike. None where each shows itself.

    Example:
        >>> images, masks = np.full((1, 8, 8, 1), 2, "float32"), np.full((1, 8, 8, 1), 255, "uint8")
        >>> darken_lesions(images, masks, np.random.default_rng(0), 1.0)
        >>> bool(0 < images.min() < images.max() == 2)
        True
    """
    neighbors = 2 * context + 1
    for index in np.flatnonzero(rng.random(len(images)) < probability):
        tumour = _largest(masks[index])
        left, top, width, height = cv2.boundingRect(tumour)
        if not width:
            continue
        box = slice(top, top + height), slice(left, left + width)
        levels = np.tile(rng.uniform(*_LEVELS, images.shape[-1] // neighbors), neighbors).astype(np.float32)
        if sources is not None:
            levels = levels[sources[index]]
        weights = _blob(tumour[box], rng)[..., np.newaxis]
        part = images[index][box]
        np.minimum(part, part + weights * (levels - part), out=part)


def _blob(tumour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the part of a tumour `(height, width)`, uint8, that darkens: weights from 0 to 1."""
    field = cv2.resize(rng.random((_POINTS, _POINTS), np.float32), tumour.shape[::-1], interpolation=cv2.INTER_CUBIC)
    edge = np.quantile(field[tumour > 0], 1 - rng.uniform(*_DARKENED)).astype(np.float32)
    weights = np.clip((field - edge) / np.float32(_FADE), 0, 1)
    weights *= np.float32(rng.uniform(*_STRENGTH) / 255) * tumour
    return weights


def paste_lesions(
    images: np.ndarray,
    masks: np.ndarray,
    rng: np.random.Generator,
    probability: float,
    *,
    sources: np.ndarray | None = None,
    layers: int | None = None,
) -> None:
    """Put the tumours of some slices of a batch into others, at their places, in place.

    The tumour is carved with a random margin; pixels of image and masks replace those of the other slice as they are.
    They do so within the other slice's head alone; where less than half of what was carved lies there, or no other
    slice shows tumour, the slice stays as it is.

    Args:
        images: Normalized slices `(batch, height, width, channels)`, float32, background 0 and tissue 1.
        masks: Array of shape `(batch, height, width, layers)`, uint8, from 0 to 255.
        rng: Where the random numbers come from.
        probability: Of each slice, to be given a tumour.
        sources: Which channel each channel of each slice shows `(batch, channels)`, where one stands in for others:
            only slices that are alike in it give to each other. None where all are.
        layers: How many of the masks' layers say where tumours are; the others are carved and put with them.

    Example:
        >>> images, masks = np.ones((2, 8, 8, 1), "float32"), np.zeros((2, 8, 8, 1), "uint8")
        >>> images[0] *= 2; masks[0, 3:6, 3:6] = 255
        >>> paste_lesions(images, masks, np.random.default_rng(1), 1.0)
        >>> bool((masks[1] > 0).any() and (images[1] == 2).sum() >= (masks[1] > 0).sum())
        True

    Reference:
        TumorCP, Yang et al. 2021, arXiv:2107.09843. Margin by signed distance: CarveMix, Zhang et al. 2021,
        arXiv:2108.06883.
    """
    tumours = [_largest(mask) > 127 for mask in masks[..., :layers]]
    shown = [index for index, tumour in enumerate(tumours) if tumour.any()]
    pasted = []
    for index in np.flatnonzero(rng.random(len(images)) < probability):
        givers = [g for g in shown if g != index and (sources is None or (sources[g] == sources[index]).all())]
        if not givers:
            continue
        giver = givers[rng.integers(len(givers))]
        carved = _carve(tumours[giver], rng)
        region = carved & _head(images[index])
        if 2 * region.sum() >= carved.sum():
            pasted.append((index, region, images[giver][region], masks[giver][region]))
    # Written when all are copied: what a slice gives is its own.
    for index, region, pixels, shares in pasted:
        images[index][region], masks[index][region] = pixels, shares


def _carve(tumour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a region around a tumour `(height, width)`, bool, or within: its depth wider, to half of it narrower."""
    inside = cv2.distanceTransform(np.uint8(tumour), cv2.DIST_L2, 5)
    deepest = inside.max()
    if rng.random() < 0.5:
        return inside > rng.uniform(0, deepest / 2)
    return cv2.distanceTransform(np.uint8(~tumour), cv2.DIST_L2, 5) <= rng.uniform(0, deepest)


def _head(image: np.ndarray) -> np.ndarray:
    channels = np.moveaxis(image, -1, 0)
    return fill_head(2 * sum(channel > _HEAD_LEVEL for channel in channels) > len(channels))


def _largest(mask: np.ndarray) -> np.ndarray:
    """Give the share of each pixel `(height, width)`, uint8, that is any tumour: regions lie in each other."""
    # Many times as fast as a maximum along an axis of three.
    return np.ascontiguousarray(reduce(np.maximum, np.moveaxis(mask, -1, 0)))
