"""Pictures in one hand: outlines on slices, and the curves of a run."""

from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import pandas as pd

#: Colours, RGB: truth green, prediction red.
TRUTH = (60, 220, 90)
PREDICTION = (255, 70, 60)


def to_gray(image: np.ndarray, channel: int | None = None) -> np.ndarray:
    """Bring one channel of a slice to 8 bits for looking at.

    Args:
        image: Array of shape `(height, width, channels)`.
        channel: Which; default FLAIR: the second of three, the last of four; else the first.

    Returns:
        Array of shape `(height, width)`, uint8, from the 1st to the 99.8th percentile.

    Example:
        >>> to_gray(np.zeros((4, 4, 3))).dtype
        dtype('uint8')
    """
    if channel is None:
        channel = {3: 1, 4: 3}.get(image.shape[-1], 0)
    plane = image[..., channel].astype(np.float32)
    low, high = np.percentile(plane, (1, 99.8))
    return np.uint8(np.clip((plane - low) / max(high - low, 1e-6), 0, 1) * 255)


def draw_outlines(gray: np.ndarray, outlines: list[tuple[np.ndarray, tuple[int, int, int]]]) -> np.ndarray:
    """Draw the borders of masks on a slice.

    Args:
        gray: Array of shape `(height, width)`, uint8.
        outlines: Masks of the same shape, each with its RGB colour; later ones lie on top.

    Returns:
        Array of shape `(height * scale, width * scale, 3)`, uint8, enlarged to at least 256 pixels so that a thin
        line stays thin.

    Example:
        >>> draw_outlines(np.zeros((64, 64), "uint8"), [(np.eye(64), TRUTH)]).shape
        (256, 256, 3)
    """
    scale = max(1, round(256 / max(gray.shape)))
    picture = cv2.cvtColor(
        cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2RGB
    )
    for mask, colour in outlines:
        large = cv2.resize(np.uint8(mask > 0), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, colour, 1, cv2.LINE_8)
    return picture


def plot_history(history: pd.DataFrame, path: str | Path, title: str = "") -> None:
    """Draw the curves of a run: loss, Dice per validation patient, learning rate.

    Args:
        history: Content of history.csv.
        path: PNG to write.
        title: Above the curves.
    """
    # The object interface: pyplot would keep a global figure and look for a screen.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    loss, score, rate = figure.subplots(1, 3)
    epochs = history.epoch
    loss.plot(epochs, history.loss, label="training", color="tab:blue")
    loss.plot(epochs, history.val_loss, label="validation", color="tab:orange")
    loss.set(title="Loss", yscale="log" if (history[["loss", "val_loss"]] > 0).all(axis=None) else "linear")
    loss.legend(frameon=False)
    patients = int(history.val_patients.iloc[-1])
    score.plot(epochs, history.val_dice, label="mean", color="tab:green")
    score.plot(epochs, history.val_dice_median, label="median", color="tab:green", linestyle="--")
    score.fill_between(
        epochs, history.val_dice_min, history.val_dice, color="tab:green", alpha=0.15, label="to the worst"
    )
    score.set(title=f"Dice per validation patient (n = {patients})", ylim=(0, 1))
    score.legend(frameon=False, loc="lower right")
    rate.plot(epochs, history.learning_rate, color="tab:gray")
    rate.set(title="Learning rate at the epoch's end")
    for axes in (loss, score, rate):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    if title:
        figure.suptitle(title)
    figure.savefig(path, dpi=110)


def plot_precision_recall(precision: np.ndarray, recall: np.ndarray, file: str | Path | BinaryIO) -> None:
    """Draw precision against recall.

    Args:
        precision: At falling thresholds.
        recall: At the same.
        file: PNG to write.
    """
    figure, axes = _square("recall", "precision")
    axes.plot(recall, precision, color="tab:blue")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    figure.savefig(file, dpi=110, format="png")


def plot_calibration(chance: np.ndarray, share: np.ndarray, count: np.ndarray, file: str | Path | BinaryIO) -> None:
    """Draw the share of tumour against the probability that was given.

    Args:
        chance: Mean probability of each bin.
        share: Share of its pixels that are tumour.
        count: Its pixels, which the size of the points tells.
        file: PNG to write.
    """
    figure, axes = _square("probability", "share that is tumour")
    axes.plot([0, 1], [0, 1], color="tab:gray", linestyle=":")
    axes.plot(chance, share, color="tab:blue")
    axes.scatter(chance, share, s=8 + 12 * np.log10(np.maximum(count, 1)), color="tab:blue")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    figure.savefig(file, dpi=110, format="png")


def plot_dice_against_volume(
    volume: np.ndarray, dice: np.ndarray, file: str | Path | BinaryIO, *, unit: str = "pixels"
) -> None:
    """Draw each patient's Dice against the size of the tumour.

    Args:
        volume: Size of each patient's tumour.
        dice: Score of each.
        file: PNG to write.
        unit: Of the volume.
    """
    from matplotlib.ticker import NullFormatter

    figure, axes = _square(f"tumour volume ({unit})", "Dice")
    axes.scatter(volume, dice, color="tab:green", alpha=0.8)
    axes.set(ylim=(-0.02, 1.02))
    smallest, largest = np.min(volume), np.max(volume)
    if smallest > 0 and largest > 10 * smallest:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    figure.savefig(file, dpi=110, format="png")


def _square(xlabel: str, ylabel: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
