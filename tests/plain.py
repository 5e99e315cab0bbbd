"""Scores computed the slow and plain way: every pixel, every pair, every part, with nothing of the package."""

import itertools

import numpy as np


def edge(mask):
    """Places of the pixels that touch what is not mask, or what lies outside, through a face."""
    pixels = set(map(tuple, np.argwhere(mask).tolist()))
    steps = [step for step in itertools.product((-1, 0, 1), repeat=mask.ndim) if np.abs(step).sum() == 1]
    return [pixel for pixel in sorted(pixels) if any(tuple(np.add(pixel, step)) not in pixels for step in steps)]


def every_distance(truth, answer, spacing):
    """Distances from each edge pixel of one mask to the nearest of the other, both ways; neither may be empty."""
    ends = [np.array(edge(mask)) * np.array(spacing) for mask in (truth, answer)]
    gaps = np.linalg.norm(ends[0][:, None] - ends[1][None], axis=-1)
    return gaps.min(axis=1), gaps.min(axis=0)


def distances_by_slice(truth, answer):
    """Pool the distances of all slices, in pixels; a pixel with nothing opposite counts its slice's diagonal."""
    diagonal = np.hypot(*truth.shape[1:])
    both = ([], [])
    for pair in zip(truth, answer, strict=True):
        if all(mask.any() for mask in pair):
            found = every_distance(*pair, (1, 1))
        else:
            found = [[diagonal] * len(edge(mask)) for mask in pair]
        for side, own in zip(both, found, strict=True):
            side.extend(own)
    return both


def parts(mask):
    """The connected parts of a mask, corners included, each as a set of places."""
    left, found = set(map(tuple, np.argwhere(mask).tolist())), []
    steps = list(itertools.product((-1, 0, 1), repeat=mask.ndim))
    while left:
        part = set()
        waiting = [left.pop()]
        while waiting:
            pixel = waiting.pop()
            part.add(pixel)
            near = {tuple(int(p + s) for p, s in zip(pixel, step, strict=True)) for step in steps} & left
            left -= near
            waiting += near
        found.append(part)
    return found
